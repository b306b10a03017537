//! `verifier`: what the programs cost the kernel's verifier, here and in the VMs, against `docs/verifier-budget.txt`. Ends
//! with the programs' names and numbers; the loading is gray-verifier's.

mod budget;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use self::budget::{Budget, Found};
use crate::{
    ebpf, run,
    vm::Guest,
    workspace::{Workspace, is_root},
};

#[derive(Default, clap::Args)]
pub struct Args {
    /// `local`: this machine's; or as `cargo xtask vm` names them
    #[arg(default_values = [LOCAL], conflicts_with = "all")]
    kernels: Vec<String>,
    /// This machine's kernel and those of `cargo xtask vm`
    #[arg(long)]
    all: bool,
    /// Write the budget from what is counted, with a tenth of head room
    #[arg(long)]
    bless: bool,
}

const LOCAL: &str = "local";
/// Where the logs of another ABI's programs go.
const OTHER: &str = "other-abi";
const ALL: [&str; 4] = [LOCAL, "6.1", "6.12", "newest"];

pub fn run(ws: &Workspace, args: &Args) -> Result<()> {
    build(ws)?;
    let kernels = if args.all { ALL.map(String::from).to_vec() } else { args.kernels.clone() };
    let mut faults = Vec::new();
    let mut budget = Budget::read(&file(ws))?;
    for kernel in &kernels {
        let (line, found) = if kernel == LOCAL {
            faults.extend(layouts(ws)?);
            here(ws, &object(ws), LOCAL)?
        } else {
            guest(ws, kernel)?
        };
        print!("{}", budget.table(&line, &found));
        if args.bless {
            budget.bless(&line, &found);
        } else {
            faults.extend(budget.faults(&line, &found));
        }
        faults.extend(budget::rejected(&line, &found, &ws.show(&logs(ws, kernel))));
    }
    if args.bless {
        let path = file(ws);
        fs::write(&path, budget.text()).with_context(|| ws.show(&path))?;
        println!("verifier: wrote {}", ws.show(&path));
    }
    if faults.is_empty() { Ok(()) } else { bail!("verifier:\n{}", faults.join("\n")) }
}

/// What `test` runs: the running kernel takes every program, within the budget where it has one. The number of programs.
pub fn check(ws: &Workspace) -> Result<u32> {
    build(ws)?;
    let mut faults = layouts(ws)?;
    let (line, found) = here(ws, &object(ws), LOCAL)?;
    let budget = Budget::read(&file(ws))?;
    print!("{}", budget.table(&line, &found));
    faults.extend(budget.faults(&line, &found));
    faults.extend(budget::rejected(&line, &found, &ws.show(&logs(ws, LOCAL))));
    if faults.is_empty() { Ok(found.len() as u32) } else { bail!("{}", faults.join("\n")) }
}

fn file(ws: &Workspace) -> PathBuf {
    ws.root.join("docs/verifier-budget.txt")
}

/// What is refused here of the data path with another layout, which is nearer to the limit of the stack: it also looks into the
/// tables of the one before it. It has no budget.
fn layouts(ws: &Workspace) -> Result<Vec<String>> {
    let object = ebpf::build_abi_test(ws)?;
    ebpf::build(ws)?;
    let (line, found) = here(ws, &object, OTHER)?;
    Ok(budget::rejected(&format!("{line}, another ABI"), &found, &ws.show(&logs(ws, OTHER))))
}

/// The data path's own object; those of tests have no budget.
fn object(ws: &Workspace) -> PathBuf {
    let [product, ..] = ws.ebpf_crates();
    product.object
}

fn logs(ws: &Workspace, kernel: &str) -> PathBuf {
    ws.root.join("target/verifier").join(kernel)
}

/// The programs and the loader.
fn build(ws: &Workspace) -> Result<()> {
    if !is_root() {
        bail!("loading programs needs root");
    }
    ebpf::build(ws)?;
    run::show(run::cargo(&ws.root).args(["build", "--quiet", "-p", "gray-tests", "--bin", "gray-verifier"]))
}

/// Where logs go; old ones are gone.
fn no_logs(ws: &Workspace, kernel: &str) -> Result<PathBuf> {
    let logs = logs(ws, kernel);
    if logs.exists() {
        fs::remove_dir_all(&logs).with_context(|| ws.show(&logs))?;
    }
    fs::create_dir_all(&logs).with_context(|| ws.show(&logs))?;
    Ok(logs)
}

/// `6.18` and what this machine's kernel says.
fn here(ws: &Workspace, object: &Path, logs: &str) -> Result<(String, Found)> {
    let logs = no_logs(ws, logs)?;
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut cmd = Command::new(ws.debug_bin("gray-verifier"));
    let text = run::capture(cmd.arg(object).arg(logs))?;
    Ok((budget::line_of(&release)?, budget::found(text.lines())?))
}

fn guest(ws: &Workspace, kernel: &str) -> Result<(String, Found)> {
    let logs = no_logs(ws, kernel)?;
    let guest = Guest::prepare(ws, kernel, false)?;
    let (program, object) = (guest.keep(&ws.debug_bin("gray-verifier"))?, guest.keep(&object(ws))?);
    let quoted = |p: &Path| format!("'{}'", p.display());
    let script =
        format!("{} {} /vm/logs || echo 'gray-verifier failed'\n", quoted(&program), quoted(&object));
    let mut lines = Vec::new();
    let ran = guest.run(&script, |l| lines.push(l.to_string()));
    ran.with_context(|| format!("{}\nkernel log: {}", lines.join("\n"), ws.show(&guest.console())))?;
    for log in fs::read_dir(guest.job().join("logs")).into_iter().flatten() {
        let log = log?;
        let _ = fs::copy(log.path(), logs.join(log.file_name()))?;
    }
    let line = budget::line_of(guest.release())?;
    let found = budget::found(lines.iter().map(String::as_str)).with_context(|| lines.join("\n"))?;
    guest.forget();
    Ok((line, found))
}
