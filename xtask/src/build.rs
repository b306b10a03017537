//! `build`: the eBPF object first, then the host programs that embed it.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};

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
    run::show(&mut cmd)?;
    if release { no_fail_points(&ws.release_bin("gray")) } else { Ok(()) }
}

/// What is measured and shipped contains no fail point: none of its names, not the variable that arms them.
pub fn no_fail_points(binary: &Path) -> Result<()> {
    let bytes = fs::read(binary).with_context(|| binary.display().to_string())?;
    let has = |text: &str| bytes.windows(text.len()).any(|w| w == text.as_bytes());
    if let Some(found) = ["GRAY_FAIL", "change.flip", "fail point"].into_iter().find(|t| has(t)) {
        bail!("{} contains `{found}`: a fail point is in a build without debug assertions", binary.display());
    }
    Ok(())
}
