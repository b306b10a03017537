//! The budget file: how many instructions the verifier may look at, by kernel line and program; and what was found.

use std::{collections::BTreeMap, fmt::Write as _, fs, io, path::Path};

use anyhow::{Context as _, Result, bail};

/// By program: the number of verified instructions, or why it was rejected.
pub type Found = BTreeMap<String, Result<u64, String>>;

const HEAD: &str = "\
# The most instructions that the kernel's verifier may look at: kernel line, program, budget. The kernel's own limit is
# 1 000 000. Written by `cargo xtask verifier --bless` with a tenth of head room, held by `cargo xtask verifier`.
";

/// Budgets by kernel line (`6.1`) and program.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Budget(BTreeMap<(Line, String), u64>);

/// Orders as versions do.
type Line = (u32, u32);

/// `6.1` of `6.1.0-56-amd64`.
pub fn line_of(release: &str) -> Result<String> {
    let numbers: Vec<&str> = release.split(|c: char| !c.is_ascii_digit()).take(2).collect();
    let text = numbers.join(".");
    parse(&text).map(|_| text).with_context(|| format!("kernel release `{}` has no version", release.trim()))
}

fn parse(line: &str) -> Option<Line> {
    let (major, minor) = line.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Reads gray-verifier's lines.
pub fn found<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Found> {
    let mut out = Found::new();
    for line in lines {
        let mut words = line.splitn(3, ' ');
        let (Some(name), Some(what), Some(rest)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        let result = match what {
            "verified" => Ok(rest.parse().with_context(|| line.to_string())?),
            "rejected" => Err(rest.to_string()),
            _ => continue,
        };
        let _ = out.insert(name.to_string(), result);
    }
    if out.is_empty() { bail!("no program was loaded") } else { Ok(out) }
}

/// Lines about programs that the verifier does not take. `logs`: where their logs are.
pub fn rejected(line: &str, found: &Found, logs: &str) -> Vec<String> {
    let rejected = found.iter().filter_map(|(name, r)| Some((name, r.as_ref().err()?)));
    rejected.map(|(name, why)| format!("Linux {line}: {name}: {why}; whole log: {logs}/{name}.log")).collect()
}

impl Budget {
    /// A file that does not exist holds no budgets.
    pub fn read(path: &Path) -> Result<Self> {
        match fs::read_to_string(path) {
            Ok(text) => Self::of(&text).with_context(|| path.display().to_string()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(e).with_context(|| path.display().to_string()),
        }
    }

    fn of(text: &str) -> Result<Self> {
        let mut out = BTreeMap::new();
        for line in text.lines().filter(|l| !l.starts_with('#') && !l.trim().is_empty()) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [kernel, program, budget] = words[..] else {
                bail!("`{line}` is not `KERNEL PROGRAM BUDGET`")
            };
            let kernel = parse(kernel).with_context(|| line.to_string())?;
            let _ = out.insert((kernel, program.into()), budget.parse().with_context(|| line.to_string())?);
        }
        Ok(Self(out))
    }

    pub fn text(&self) -> String {
        let mut out = HEAD.to_string();
        for (((major, minor), program), budget) in &self.0 {
            let _ = writeln!(out, "{:<5} {program:<18} {budget:>7}", format!("{major}.{minor}"));
        }
        out
    }

    fn get(&self, line: &str, program: &str) -> Option<u64> {
        self.0.get(&(parse(line)?, program.to_string())).copied()
    }

    pub fn table(&self, line: &str, found: &Found) -> String {
        let mut out = format!("Linux {line:<12}     verified   budget\n");
        for (name, result) in found {
            let count = result.as_ref().map_or("rejected".into(), u64::to_string);
            let budget = self.get(line, name).map_or("none".into(), |b| b.to_string());
            let _ = writeln!(out, "  {name:<18} {count:>10} {budget:>8}");
        }
        out
    }

    /// Replaces the budgets of this kernel line by the counts and a tenth.
    pub fn bless(&mut self, line: &str, found: &Found) {
        let Some(line) = parse(line) else { return };
        self.0.retain(|(l, _), _| *l != line);
        let counted = found.iter().filter_map(|(name, r)| Some((name, r.as_ref().ok()?)));
        self.0.extend(counted.map(|(name, n)| ((line, name.clone()), n + n.div_ceil(10))));
    }

    /// Programs above their budget, and programs and budgets that do not know each other. A kernel line without any budget
    /// is judged by its verifier alone.
    pub fn faults(&self, line: &str, found: &Found) -> Vec<String> {
        let known: Vec<&str> =
            self.0.keys().filter(|(l, _)| Some(*l) == parse(line)).map(|(_, p)| p.as_str()).collect();
        let mut faults = Vec::new();
        if known.is_empty() {
            return faults;
        }
        for (name, result) in found {
            match (result, self.get(line, name)) {
                (Ok(n), Some(budget)) if *n > budget => faults.push(format!(
                    "Linux {line}: {name}: {n} verified instructions, the budget is {budget}; make it cheaper, or bless"
                )),
                (Ok(_), None) => faults.push(format!("Linux {line}: {name} has no budget; bless")),
                _ => {}
            }
        }
        let gone = known.iter().filter(|p| !found.contains_key(**p));
        faults
            .extend(gone.map(|p| format!("Linux {line}: the budget names {p}, which is no program; bless")));
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Found {
        found(["a verified 100", "noise", "b rejected R1 unbounded (why)"].into_iter()).unwrap()
    }

    #[test]
    fn the_budget_holds_from_the_blessing_on() {
        let mut budget = Budget::default();
        assert!(budget.faults("6.1", &some()).is_empty(), "a line without budgets");
        budget.bless("6.1", &some());
        let mut budget = Budget::of(&budget.text()).unwrap();
        assert!(budget.text().contains("6.1   a                      110\n"), "{}", budget.text());
        let more = |n: u64| Found::from([("a".to_string(), Ok(n))]);
        assert!(budget.faults("6.1", &more(110)).is_empty());
        assert!(budget.faults("6.1", &more(111))[0].contains("the budget is 110"));
        assert!(budget.faults("6.12", &more(111)).is_empty(), "another line");
        assert!(
            budget.faults("6.1", &Found::from([("c".to_string(), Ok(1))])).len() == 2,
            "a new name and a gone one"
        );
        budget.bless("6.1", &more(10));
        assert_eq!(budget.get("6.1", "a"), Some(11));
    }

    #[test]
    fn rejections_are_faults_with_their_log() {
        let lines = rejected("6.1", &some(), "logs");
        assert_eq!(lines, ["Linux 6.1: b: R1 unbounded (why); whole log: logs/b.log"]);
        assert!(found(["nothing"].into_iter()).is_err());
    }

    #[test]
    fn kernel_lines_order_as_versions() {
        assert_eq!(line_of("6.12.101+deb13-amd64\n").unwrap(), "6.12");
        assert!(line_of("none").is_err());
        let b = Budget::of("6.12 a 1\n6.1 a 1\n").unwrap();
        assert!(b.text().find("6.1 ").unwrap() < b.text().find("6.12").unwrap());
    }
}
