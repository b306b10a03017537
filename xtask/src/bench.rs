//! `bench`: builds everything optimised and runs the benches. What is measured is the lab's business.

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
    /// List the benches
    #[arg(long)]
    list: bool,
}

pub fn run(ws: &Workspace, args: &Args) -> Result<()> {
    if !is_root() {
        bail!("the benches load programs and make network namespaces: run as root");
    }
    setup::need(ws, setup::LAB)?;
    ebpf::build(ws)?;
    run::show(run::cargo(&ws.root).args([
        "build",
        "--release",
        "-p",
        "gray-userspace",
        "-p",
        "gray-tests",
        "--bins",
    ]))?;
    build::no_fail_points(&ws.release_bin("gray"))?;
    let mut cmd = std::process::Command::new(ws.release_bin("gray-bench"));
    let _ = cmd.current_dir(&ws.root).env("GRAY_BIN", ws.release_bin("gray")).args(&args.names);
    let _ = cmd.arg("--out").arg(ws.root.join("target/bench"));
    for (flag, on) in [("--quick", args.quick), ("--list", args.list)] {
        if on {
            let _ = cmd.arg(flag);
        }
    }
    run::show(&mut cmd)
}
