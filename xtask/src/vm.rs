//! `vm`: the kernel tier inside Debian's kernels. Builds here, boots there; the guest sees this machine's files, so that what
//! was built runs in it. Knows nothing of what the tests test.

mod guest;
mod image;
mod initramfs;
mod outcome;
mod qemu;

use std::{
    path::{Path, PathBuf},
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result, bail};

pub use self::guest::Guest;
use self::outcome::{Expected, Outcomes};
use crate::{
    build::{self, Profile},
    run, setup,
    workspace::{Workspace, is_root},
};

#[derive(clap::Args)]
pub struct Args {
    /// `6.1`, `6.12` and the like, `newest`, or `smoke`: 6.1 with the smoke tests alone
    #[arg(default_values = ["6.1", "6.12", "newest"])]
    kernels: Vec<String>,
    /// Only tests whose path contains this, or one of these
    #[arg(long)]
    filter: Vec<String>,
    /// Fetch the kernels anew: what Debian has now
    #[arg(long)]
    update: bool,
}

/// Emulation is so much slower: patience of tests is multiplied by it.
const SLOW: u32 = 10;
const SMOKE: &str = "smoke";
/// A test keeps about one emulated CPU busy, so that guests of a kernel share its tests. More than this and their memory is
/// what lacks.
const MOST_GUESTS: usize = 4;

pub fn run(ws: &Workspace, args: &Args) -> Result<()> {
    if let Some(name) = args.kernels.iter().find(|k| *k != SMOKE && !image::is_name(k)) {
        bail!("no kernel is called `{name}`: 6.1, 6.12 and the like, newest, or smoke");
    }
    let mut failed = Vec::new();
    for name in &args.kernels {
        let result = if name == SMOKE {
            smoke(ws).map(drop)
        } else {
            tests(ws, name, &args.filter, None, args.update).map(drop)
        };
        if let Err(e) = result {
            run::complain(&format!("vm {name}: {e:#}"));
            failed.push(name.as_str());
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("vm: {} failed", failed.join(", ")) }
}

/// What `test` runs: gray loads, attaches and steers on the oldest kernel that it supports. The number of tests.
pub fn smoke(ws: &Workspace) -> Result<u32> {
    tests(ws, "6.1", &[], Some(SMOKE), false)
}

/// Runs tests on a kernel: of one test target or of all of them. The number of tests that passed.
fn tests(ws: &Workspace, kernel: &str, filter: &[String], target: Option<&str>, anew: bool) -> Result<u32> {
    if !is_root() {
        bail!("the guest's files are this machine's: run as root");
    }
    setup::need(ws, setup::LAB)?;
    // Few tests are sooner done with what `test` has built anyway.
    let profile = if target.is_some() { Profile::Debug } else { Profile::Guest };
    match target {
        Some(_) => build::all(ws, profile)?,
        None => build::for_tests(ws, profile)?,
    }
    let binaries = test_binaries(ws, profile, target)?;
    let guest = Guest::prepare(ws, kernel, anew)?;
    let mut script =
        format!("export GRAY_LAB_SLOW={SLOW} GRAY_BIN={}\n", quoted(&guest.keep(&ws.bin(profile, "gray"))?));
    let newer = target.is_none().then_some("gray-abi2");
    for name in ["gray-lab-server", "gray-demo"].into_iter().chain(newer) {
        let _ = guest.keep(&ws.bin(profile, name))?;
    }
    script += &quoted(&guest.keep(&ws.bin(profile, "gray-lab-guest"))?);
    script += " --claims /vm/claims";
    for filter in filter {
        script += &format!(" --filter {}", quoted(Path::new(filter)));
    }
    for (name, path) in &binaries {
        script += &format!(" {name}={}", quoted(&guest.keep(path)?));
    }
    let start = Instant::now();
    let mut got = Outcomes::new();
    let crew = match target {
        Some(_) => 1,
        None => thread::available_parallelism().map_or(1, |n| n.get().min(MOST_GUESTS)),
    };
    let ended = guest.run_in(crew, &script, |line| {
        println!("{line}");
        got.extend(outcome::parse(line));
    });
    let seconds = start.elapsed().as_secs();
    println!("vm {kernel} (Linux {}): {}, {seconds} s", guest.release(), outcome::summary(&got));
    let log = format!("kernel log: {}", ws.show(&guest.console()));
    ended.with_context(|| log.clone())?;
    let expected = Expected::read(&ws.root.join("tests/vm/expected.txt"), kernel)?;
    let faults = expected.faults(&got, filter.is_empty() && target.is_none());
    if !faults.is_empty() {
        bail!("{}\n{log}", faults.join("\n"));
    }
    let passed = got.values().filter(|o| **o == outcome::Outcome::Passed).count();
    if passed == 0 {
        bail!("no test passed");
    }
    guest.forget();
    Ok(passed as u32)
}

/// Names and paths of gray-tests' test programs.
fn test_binaries(ws: &Workspace, profile: Profile, target: Option<&str>) -> Result<Vec<(String, PathBuf)>> {
    let mut cmd = run::cargo(&ws.root);
    let _ = cmd.args([
        "test",
        "-p",
        "gray-tests",
        "--no-run",
        "--quiet",
        "--message-format=json-render-diagnostics",
        "--profile",
        profile.name(),
    ]);
    if let Some(target) = target {
        let _ = cmd.args(["--test", target]);
    }
    let mut out = Vec::new();
    for line in run::capture(&mut cmd)?.lines() {
        let message: serde_json::Value = serde_json::from_str(line).context("cargo's messages")?;
        let (test, path) = (&message["profile"]["test"], message["executable"].as_str());
        if let (Some(true), Some(path), Some(name)) =
            (test.as_bool(), path, message["target"]["name"].as_str())
        {
            out.push((name.to_string(), path.into()));
        }
    }
    out.sort();
    if out.is_empty() { bail!("cargo names no test program") } else { Ok(out) }
}

/// A word of a shell script.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}
