//! `build`: the eBPF object first, then the host programs that embed it.

use std::{path::Path, process::Command};

use anyhow::Result;

use crate::{ebpf, run, workspace::Workspace};

#[derive(clap::Args)]
pub struct Args {
    /// Build the host programs without optimisation (the eBPF object always is optimised)
    #[arg(long)]
    debug: bool,
}

pub fn run(ws: &Workspace, args: &Args) -> Result<()> {
    let object = ebpf::build(ws)?;
    host(ws, &object, !args.debug)
}

/// Everything that demo and kernel tests run.
pub fn release(ws: &Workspace) -> Result<()> {
    let object = ebpf::build(ws)?;
    host(ws, &object, true)
}

fn host(ws: &Workspace, object: &Path, release: bool) -> Result<()> {
    let mut cmd = run::cargo(&ws.root);
    let _ = cmd.args(["build", "-p", "gray-userspace", "-p", "gray-tests"]);
    if release {
        let _ = cmd.arg("--release");
    }
    run::show(embedding(&mut cmd, object))
}

/// Names the object to gray-userspace's build script. Every release build of xtask says it the same way: the script runs
/// again, and its crate is compiled again, whenever the variable changes.
pub fn embedding<'a>(cmd: &'a mut Command, object: &Path) -> &'a mut Command {
    cmd.env("GRAY_BPF_OBJECT", object)
}
