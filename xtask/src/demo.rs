//! `demo`: builds, then becomes gray-demo (crate gray-tests). Knows nothing of what it shows.

use std::{ffi::OsString, os::unix::process::CommandExt as _, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::{
    build, setup,
    workspace::{Workspace, is_root},
};

#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub struct Args {
    /// Arguments of the demo itself (`cargo xtask demo --help` lists them)
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

pub fn run(ws: &Workspace, args: &Args) -> Result<()> {
    let only_asks = args.args.iter().any(|a| a == "--help" || a == "-h");
    if !is_root() && !only_asks {
        bail!("the demo loads programs and makes network namespaces: run as root");
    }
    setup::need(ws, setup::LAB)?;
    build::debug(ws)?;
    let demo = ws.debug_bin("gray-demo");
    let mut cmd = Command::new(&demo);
    let _ = cmd.args(&args.args).current_dir(&ws.root).env("GRAY_BIN", ws.debug_bin("gray"));
    // Replaced, not started: signals and the exit code are the demo's own.
    let e = cmd.exec();
    Err(e).with_context(|| format!("cannot start {}", demo.display()))
}
