//! `bench`: builds everything optimised and runs the benches. What is measured is the lab's business.

use std::{path::PathBuf, process::Command};

use anyhow::{Result, bail};

use crate::{
    build, ebpf, run, setup,
    workspace::{Workspace, is_root},
};

#[derive(clap::Args)]
pub struct Args {
    /// The benches to run; all of them when none is named (`--list` names them)
    names: Vec<String>,
    /// Short runs that show that the benches work; their figures mean little
    #[arg(long)]
    quick: bool,
    /// Measure nothing: put the figures of earlier runs into docs/benchmarks.md
    #[arg(long, conflicts_with_all = ["names", "quick", "list"])]
    write: bool,
    /// Lock this file while measuring, minutes at a time; for a machine that is shared (may be repeated)
    #[arg(long, value_name = "FILE")]
    lock: Vec<PathBuf>,
    /// List the benches
    #[arg(long)]
    list: bool,
}

pub fn run(ws: &Workspace, args: &Args) -> Result<()> {
    let measure = !args.list && !args.write;
    if measure && !is_root() {
        bail!("the benches load programs and make network namespaces: run as root");
    }
    if measure {
        optimised(ws)?;
    } else {
        run::show(run::cargo(&ws.root).args(["build", "-p", "gray-tests", "--bin", "gray-bench"]))?;
    }
    let bench = if measure { ws.release_bin("gray-bench") } else { ws.debug_bin("gray-bench") };
    let mut cmd = Command::new(bench);
    let _ = cmd.current_dir(&ws.root).env("GRAY_BIN", ws.release_bin("gray")).args(&args.names);
    let _ = cmd.arg("--out").arg(ws.root.join("target/bench"));
    for file in &args.lock {
        let _ = cmd.arg("--lock").arg(file);
    }
    for (flag, on) in [("--quick", args.quick), ("--list", args.list), ("--write", args.write)] {
        if on {
            let _ = cmd.arg(flag);
        }
    }
    run::show(&mut cmd)
}

/// What is measured, and what measures it.
fn optimised(ws: &Workspace) -> Result<()> {
    setup::need(ws, setup::BENCH)?;
    ebpf::build(ws)?;
    let packages = ["build", "--release", "-p", "gray-userspace", "-p", "gray-tests", "--bins"];
    run::show(run::cargo(&ws.root).args(packages))?;
    build::no_fail_points(&ws.release_bin("gray"))
}
