//! The lab's test programs, two at a time: much of a test is waiting, and labs do not see each other. Each program's tests run
//! one after the other.

use std::{
    fs,
    path::Path,
    sync::{Mutex, PoisonError},
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result, bail};

use super::Count;

const AT_ONCE: usize = 2;
/// They take longer than all the others together.
const LONGEST: [&str; 2] = ["faults", "kill"];

/// A test program of the lab's package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The unit tests.
    Units,
    /// One of `tests/tests`.
    Test(String),
}

impl Target {
    /// What makes cargo run this one alone.
    pub fn selects(&self) -> Vec<&str> {
        match self {
            Self::Units => vec!["--lib", "--bins"],
            Self::Test(name) => vec!["--test", name],
        }
    }

    pub fn name(&self) -> &str {
        match self {
            Self::Units => "units",
            Self::Test(name) => name,
        }
    }
}

/// All test programs, the longest first. `dir`: where cargo finds them, as `NAME.rs` or `NAME/main.rs`.
pub fn targets(dir: &Path) -> Result<Vec<Target>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        let is_one = path.join("main.rs").is_file() || path.extension().is_some_and(|e| e == "rs");
        if let (true, Some(name)) = (is_one, path.file_stem().and_then(|n| n.to_str())) {
            names.push(name.to_owned());
        }
    }
    if names.is_empty() {
        bail!("{}: no tests", dir.display());
    }
    names.sort_by_key(|n| (LONGEST.iter().position(|l| l == n).unwrap_or(LONGEST.len()), n.clone()));
    Ok(names.into_iter().map(Target::Test).chain([Target::Units]).collect())
}

/// Runs `one` for each target and adds up. Fails when one does, after all have run; the error has every failed target's name.
pub fn run(targets: &[Target], one: impl Fn(&Target) -> Result<Count> + Sync) -> Result<Count> {
    let left = Mutex::new(targets.iter());
    let done = Mutex::new((Count::default(), Vec::new()));
    let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        while let Some(target) = next() {
            let start = Instant::now();
            let result = one(target);
            // Which ones to make shorter.
            println!("{:<12} took {:.0} s", target.name(), start.elapsed().as_secs_f32());
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            match result {
                Ok(count) => done.0.add(&count),
                Err(e) => done.1.push(format!("{}: {e:#}", target.name())),
            }
        }
    };
    thread::scope(|s| (0..AT_ONCE).for_each(|_| drop(s.spawn(work))));
    let (count, failed) = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    if !failed.is_empty() {
        bail!("{} passed elsewhere\n  {}", count.passed, failed.join("\n  "));
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_test_program_of_a_directory_is_a_target() {
        let dir = tempfile::tempdir().unwrap();
        for file in ["steer.rs", "kill.rs", "faults/main.rs", "faults/clash.rs", "notes.md"] {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let names: Vec<_> = targets(dir.path()).unwrap().iter().map(|t| t.name().to_owned()).collect();
        assert_eq!(names, ["faults", "kill", "steer", "units"]);
    }

    #[test]
    fn all_run_though_one_fails_and_the_error_names_it() {
        let targets: Vec<_> = ["a", "b", "c", "d"].map(|n| Target::Test(n.into())).into();
        let ran = Mutex::new(Vec::new());
        let one = |fails: Option<&'static str>| {
            let ran = &ran;
            move |t: &Target| {
                ran.lock().unwrap().push(t.name().to_owned());
                if Some(t.name()) == fails {
                    bail!("broken")
                } else {
                    Ok(Count { passed: 2, ..Count::default() })
                }
            }
        };
        assert_eq!(run(&targets, one(None)).unwrap().passed, 8);
        assert_eq!(run(&targets, one(Some("b"))).unwrap_err().to_string(), "6 passed elsewhere\n  b: broken");
        assert_eq!(ran.lock().unwrap().len(), 8);
    }
}
