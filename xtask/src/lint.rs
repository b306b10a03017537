//! `lint`: everything that judges the source without running it. Each step runs; the failed ones are named at the end.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    abi, ebpf, run,
    setup::{self, Part},
    workspace::Workspace,
};

/// Longer files are hard to read in one go.
const LONG: usize = 400;
/// Files that may be longer, each with a reason.
const LONG_OK: [&str; 0] = [];
/// An advisory database that cannot be fetched is skipped, and said so.
const FETCH_LIMIT: Duration = Duration::from_secs(120);

const CRATES: [&str; 5] = ["gray-common", "gray-ebpf", "gray-userspace", "tests", "xtask"];

type Step = (&'static str, fn(&Workspace) -> Result<()>);

const STEPS: [Step; 6] = [
    ("fmt", fmt),
    ("clippy", clippy),
    ("clippy (eBPF)", ebpf::clippy),
    ("deny", deny),
    ("abi", abi::check),
    ("file sizes", sizes),
];

pub fn run(ws: &Workspace) -> Result<()> {
    let mut failed = Vec::new();
    for (name, step) in STEPS {
        let start = Instant::now();
        let result = step(ws);
        let seconds = start.elapsed().as_secs_f32();
        match result {
            Ok(()) => println!("lint: {name}: ok, {seconds:.1} s"),
            Err(e) => {
                println!("lint: {name}: FAILED, {seconds:.1} s: {e:#}");
                failed.push(name);
            }
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("lint: {} failed", failed.join(", ")) }
}

fn fmt(ws: &Workspace) -> Result<()> {
    let host = run::show(run::cargo(&ws.root).args(["fmt", "--all", "--check"]));
    let other = other_workspaces(ws).map(|dir| run::show(run::cargo(&dir).args(["fmt", "--check"])));
    other.into_iter().fold(host, Result::and)
}

/// Crates that are built with flags of their own: the eBPF ones, and the fuzz targets.
fn other_workspaces(ws: &Workspace) -> [PathBuf; 3] {
    let [gray, _, lab] = ws.ebpf_crates().map(|c| c.dir);
    [gray, lab, ws.root.join("tests/fuzz")]
}

fn clippy(ws: &Workspace) -> Result<()> {
    let args = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
    run::show(run::cargo(&ws.root).args(args))
}

/// Licences, bans and sources of all workspaces; advisories where their database can be fetched.
fn deny(ws: &Workspace) -> Result<()> {
    setup::need(ws, &[Part::CargoDeny])?;
    let bin = ws.tools().join("bin/cargo-deny");
    let deny = |dir: &Path| {
        let mut cmd = Command::new(&bin);
        let _ = cmd
            .current_dir(dir)
            .arg("--config")
            .arg(ws.root.join("deny.toml"))
            // git, which fetches the database, gives up a connection that moves nothing.
            .envs([
                ("GIT_HTTP_LOW_SPEED_LIMIT", "1000"),
                ("GIT_HTTP_LOW_SPEED_TIME", "20"),
                ("GIT_TERMINAL_PROMPT", "0"),
            ]);
        cmd
    };
    let fetched = run::capture_within(deny(&ws.root).args(["fetch", "db"]), FETCH_LIMIT);
    let mut what = vec!["bans", "licenses", "sources"];
    match fetched {
        Ok(()) => what.push("advisories"),
        Err(e) => println!("lint: deny: advisories skipped, their database cannot be fetched: {e:#}"),
    }
    for dir in [ws.root.clone()].into_iter().chain(other_workspaces(ws)) {
        run::show(deny(&dir).args(["check", "--hide-inclusion-graph"]).args(&what))
            .with_context(|| ws.show(&dir.join("Cargo.toml")))?;
    }
    Ok(())
}

/// Warns of long files; never fails.
fn sizes(ws: &Workspace) -> Result<()> {
    for krate in CRATES {
        for file in rust_files(&ws.root.join(krate))? {
            let lines = fs::read_to_string(&file).with_context(|| ws.show(&file))?.lines().count();
            let name = ws.show(&file);
            if lines > LONG && !LONG_OK.contains(&name.as_str()) {
                println!("lint: warning: {name} has {lines} lines, more than {LONG}: split it");
            }
        }
    }
    Ok(())
}

fn rust_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut out = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() && !path.ends_with("target") {
            out.append(&mut rust_files(&path)?);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
    out.sort();
    Ok(out)
}
