//! `fuzz`: builds the fuzz targets, lets each run for its share of the time, and keeps the few inputs that cover what
//! all of them cover. What the targets promise is written beside the parsers.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    run,
    setup::{self, Part},
    workspace::Workspace,
};

/// Of one input: longer ones find little and cost much.
const BYTES: usize = 4096;
/// Of one input that is kept.
const KEPT_BYTES: usize = 512;
/// Inputs that the fuzzer found and that are kept, per target.
const KEPT_FILES: usize = 48;
/// Kept whatever they cover: written by hand, or found a defect once.
const BY_HAND: [&str; 2] = ["seed-", "regression-"];

#[derive(clap::Args)]
pub struct Args {
    /// Minutes for all targets together
    #[arg(default_value_t = 16.0)]
    minutes: f64,
    /// One target only
    target: Option<String>,
}

struct Target {
    name: String,
    bin: PathBuf,
    /// In the checkout.
    kept: PathBuf,
    /// Everything that ever led somewhere new on this machine.
    work: PathBuf,
    /// Inputs that broke a promise.
    found: PathBuf,
    log: PathBuf,
}

pub fn run(ws: &Workspace, args: &Args) -> Result<()> {
    let targets = targets(ws, args.target.as_deref())?;
    setup::need(ws, &[Part::CargoFuzz])?;
    build(ws, args.target.as_deref())?;
    // At least a second each: libFuzzer takes 0 for "no end".
    let seconds = (args.minutes * 60.0 / targets.len() as f64).max(1.0) as u64;
    let mut failed = Vec::new();
    for t in &targets {
        match fuzz(ws, t, seconds).and_then(|said| keep(t).map(|kept| format!("{said}, {kept} kept"))) {
            Ok(said) => println!("fuzz: {}: ok, {said}, {seconds} s", t.name),
            Err(e) => {
                println!("fuzz: {}: FAILED, {e:#}", t.name);
                failed.push(t.name.as_str());
            }
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("fuzz: {} failed", failed.join(", ")) }
}

fn targets(ws: &Workspace, only: Option<&str>) -> Result<Vec<Target>> {
    let dir = ws.root.join("tests/fuzz");
    let out = ws.root.join("target/fuzz");
    let mut names: Vec<String> = fs::read_dir(dir.join("fuzz_targets"))
        .context("tests/fuzz/fuzz_targets")?
        .filter_map(|e| Some(e.ok()?.path().file_stem()?.to_string_lossy().into_owned()))
        .collect();
    names.sort();
    if let Some(only) = only.filter(|only| !names.iter().any(|n| n == only)) {
        bail!("there is no fuzz target `{only}`; there are {}", names.join(", "));
    }
    names.retain(|n| only.is_none_or(|only| n == only));
    let target = |name: String| Target {
        bin: out.join("x86_64-unknown-linux-gnu/release").join(&name),
        kept: dir.join("corpus").join(&name),
        work: out.join("corpus").join(&name),
        found: out.join("found").join(&name),
        log: out.join(format!("{name}.log")),
        name,
    };
    Ok(names.into_iter().map(target).collect())
}

/// Stable rustc: its coverage passes need no unstable flag. The sanitizers do, and are for unsafe code, which no parser
/// here has.
fn build(ws: &Workspace, target: Option<&str>) -> Result<()> {
    let mut cmd = Command::new(ws.tools().join("bin/cargo-fuzz"));
    let _ = run::without_build_settings(&mut cmd)
        .current_dir(&ws.root)
        .args(["build", "--fuzz-dir", "tests/fuzz", "--sanitizer", "none", "--codegen-units", "16"])
        .args(["--target", "x86_64-unknown-linux-gnu"])
        .arg("--target-dir")
        .arg(ws.root.join("target/fuzz"))
        .args(target);
    run::show(&mut cmd)
}

/// What it did; an error says where the input is and how to see it again.
fn fuzz(ws: &Workspace, t: &Target, seconds: u64) -> Result<String> {
    for dir in [&t.kept, &t.work, &t.found] {
        fs::create_dir_all(dir).with_context(|| ws.show(dir))?;
    }
    let before = files(&t.found)?;
    let status = Command::new(&t.bin)
        .args([
            format!("-max_total_time={seconds}"),
            format!("-max_len={BYTES}"),
            format!("-artifact_prefix={}/", t.found.display()),
            // Half a second for 4 KiB would be a blow-up already; a busy machine gets more.
            "-timeout=10".into(),
            "-rss_limit_mb=512".into(),
            "-print_final_stats=1".into(),
        ])
        .args([&t.work, &t.kept])
        .env("RUST_BACKTRACE", "0")
        .stdout(fs::File::create(&t.log)?)
        .stderr(fs::OpenOptions::new().append(true).open(&t.log)?)
        .status()
        .with_context(|| ws.show(&t.bin))?;
    let log = String::from_utf8_lossy(&fs::read(&t.log)?).into_owned();
    if status.success() {
        return Ok(format!("{} inputs", executed(&log)));
    }
    let new: Vec<PathBuf> = files(&t.found)?.difference(&before).cloned().collect();
    let Some(input) = new.first() else { bail!("{status}, see {}", ws.show(&t.log)) };
    bail!(
        "{}\n  input:     {}\n  again:     {} {}\n  once mended: mv {} {}",
        broken(&log),
        ws.show(input),
        ws.show(&t.bin),
        ws.show(input),
        ws.show(input),
        ws.show(&t.kept.join("regression-NAME")),
    )
}

/// libFuzzer's count of what it ran.
fn executed(log: &str) -> u64 {
    let count = log.lines().rev().find_map(|l| l.strip_prefix("stat::number_of_executed_units:"));
    count.and_then(|n| n.trim().parse().ok()).unwrap_or(0)
}

/// The line that says what broke: a panic's two, or libFuzzer's one.
fn broken(log: &str) -> String {
    let mut lines = log.lines().skip_while(|l| !l.contains(" panicked at "));
    let panic: Vec<&str> = lines.by_ref().take(2).collect();
    let other = || log.lines().find(|l| l.contains("ERROR: libFuzzer")).unwrap_or("it ended").to_string();
    if panic.is_empty() { other() } else { panic.join(" ") }
}

/// Chooses anew which of all inputs are kept; how many there are then.
fn keep(t: &Target) -> Result<usize> {
    let chosen = t.work.with_extension("chosen");
    let _ = fs::remove_dir_all(&chosen);
    fs::create_dir_all(&chosen)?;
    let mut merge = Command::new(&t.bin);
    let _ = merge
        .args(["-set_cover_merge=1".to_owned(), format!("-max_len={KEPT_BYTES}"), "-rss_limit_mb=512".into()])
        .args([&chosen, &t.kept, &t.work])
        .env("RUST_BACKTRACE", "0");
    let _ = run::capture(&mut merge).context("choosing the inputs to keep")?;
    let mut named = BTreeSet::new();
    for path in files(&t.kept)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if BY_HAND.iter().any(|p| name.starts_with(p)) {
            let _ = named.insert(fs::read(&path)?);
        } else {
            fs::remove_file(&path)?;
        }
    }
    let mut new: Vec<(u64, PathBuf)> = Vec::new();
    for path in files(&chosen)? {
        if !named.contains(&fs::read(&path)?) {
            new.push((fs::metadata(&path)?.len(), path));
        }
    }
    // Of every size: the shortest ones alone would cover the beginnings of the parsers.
    new.sort();
    for (_, path) in new.iter().step_by(new.len().div_ceil(KEPT_FILES).max(1)) {
        let _ = fs::copy(path, t.kept.join(path.file_name().unwrap_or_default()))?;
    }
    fs::remove_dir_all(&chosen)?;
    Ok(files(&t.kept)?.len())
}

fn files(dir: &Path) -> Result<BTreeSet<PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| dir.display().to_string())?;
    entries.map(|e| Ok(e?.path())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "#2 INITED cov: 3\n\nthread '<unnamed>' (7) panicked at a.rs:57:5:\nmore than a line\nstack\n\
                       SUMMARY: libFuzzer: deadly signal\nstat::number_of_executed_units: 1578\nstat::x: 1\n";

    #[test]
    fn a_log_tells_how_many_ran_and_what_broke() {
        assert_eq!(executed(LOG), 1578);
        assert!(broken(LOG).ends_with("a.rs:57:5: more than a line"));
        assert_eq!(
            broken("x\n==1== ERROR: libFuzzer: timeout after 10 s\n"),
            "==1== ERROR: libFuzzer: timeout after 10 s"
        );
        assert_eq!((executed(""), broken("").as_str()), (0, "it ended"));
    }
}
