//! `build`: the eBPF object first, then the host programs that embed it.

use anyhow::Result;

use crate::{ebpf, run, workspace::Workspace};

#[derive(clap::Args)]
pub struct Args {
    /// Build the host programs optimised, for measuring (the eBPF object always is optimised)
    #[arg(long)]
    release: bool,
}

pub fn run(ws: &Workspace, args: &Args) -> Result<()> {
    ebpf::build(ws)?;
    host(ws, args.release)
}

/// Everything that demo and tests run: unoptimised, because making it is what takes the time on a fresh machine. The host
/// tests share what was compiled.
pub fn debug(ws: &Workspace) -> Result<()> {
    ebpf::build(ws)?;
    host(ws, false)
}

/// gray-userspace's build script finds the object in its place.
fn host(ws: &Workspace, release: bool) -> Result<()> {
    let mut cmd = run::cargo(&ws.root);
    let _ = cmd.args(["build", "-p", "gray-userspace", "-p", "gray-tests"]);
    if release {
        let _ = cmd.arg("--release");
    }
    run::show(&mut cmd)
}
