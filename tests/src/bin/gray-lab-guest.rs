//! Runs test programs in a guest: each test in a process of its own, with a limit, and one line `@test` for each. One at a
//! time: with both emulated CPUs busy all the time, each test takes four times as long; guests of the same kernel share the
//! tests instead. Hidden; `cargo xtask vm` starts it and reads its lines.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use gray_tests::command::wait_for;

/// No test needs as long, not even emulated.
const LIMIT: Duration = Duration::from_secs(15 * 60);

#[derive(Parser)]
struct Args {
    /// Only tests whose path contains this, or one of these
    #[arg(long)]
    filter: Vec<String>,
    /// A directory that several guests see: who makes a test's directory there runs the test
    #[arg(long)]
    claims: Option<PathBuf>,
    /// `NAME=PATH` of the test programs
    programs: Vec<String>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    for program in &args.programs {
        let (name, path) = program.split_once('=').context("a program is NAME=PATH")?;
        for test in list(path)? {
            let full = format!("{name}::{test}");
            if (args.filter.is_empty() || args.filter.iter().any(|f| full.contains(f)))
                && claimed(args.claims.as_deref(), &full)?
            {
                run(path, &test, &full)?;
            }
        }
    }
    Ok(())
}

fn claimed(claims: Option<&Path>, test: &str) -> Result<bool> {
    let Some(claims) = claims else { return Ok(true) };
    match fs::create_dir(claims.join(test)) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(e).with_context(|| claims.display().to_string()),
    }
}

fn list(path: &str) -> Result<Vec<String>> {
    let out =
        Command::new(path).args(["--list", "--format", "terse"]).output().with_context(|| path.to_owned())?;
    ensure!(out.status.success(), "{path} --list: {}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout)?;
    Ok(text.lines().filter_map(|l| l.strip_suffix(": test")).map(str::to_owned).collect())
}

fn run(path: &str, test: &str, full: &str) -> Result<()> {
    let start = Instant::now();
    let said: PathBuf = std::env::temp_dir().join("gray-lab-guest.out");
    let file = File::create(&said).with_context(|| said.display().to_string())?;
    let mut child = Command::new(path)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()
        .with_context(|| path.to_owned())?;
    let ended = wait_for(&format!("{full} to end"), LIMIT, || Ok(child.try_wait()?.is_some()));
    if ended.is_err() {
        child.kill()?;
    }
    let passed = child.wait()?.success();
    let text = fs::read(&said)?;
    let text = String::from_utf8_lossy(&text);
    let seconds = start.elapsed().as_secs_f32();
    let mut out = std::io::stdout().lock();
    let after = |word| text.lines().filter_map(move |l| Some(l.split_once(word)?.1.split_once(": ")?.1));
    let skip = after("SKIP ").next();
    let fewer: Vec<&str> = after("FEWER ").collect();
    match (passed, skip) {
        (true, Some(reason)) => writeln!(out, "@test {full} skipped {seconds:.1} {reason}")?,
        (true, None) if fewer.is_empty() => writeln!(out, "@test {full} passed {seconds:.1}")?,
        (true, None) => writeln!(out, "@test {full} passed {seconds:.1} with {}", fewer.join(", "))?,
        (false, _) => {
            let late = ended.err().map(|e| format!("{e:#}\n")).unwrap_or_default();
            writeln!(out, "{}\n{late}@test {full} failed {seconds:.1}", shortened(&text))?;
        }
    }
    Ok(())
}

/// The end of a long text: a verifier's log holds thousands of lines.
fn shortened(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|l| l.chars().take(2000).collect()).collect();
    lines[lines.len().saturating_sub(200)..].join("\n")
}
