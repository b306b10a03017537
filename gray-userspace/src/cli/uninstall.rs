//! `gray uninstall`: which agent's things to remove. Removes nothing itself.

use std::{io::Write, path::PathBuf};

use clap::Args;

use super::{Failure, agent, agent_file::AgentFile, ctx::Ctx};
use crate::api::DEFAULT_SOCKET;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UninstallOptions {
    pub bpffs: PathBuf,
    pub state_dir: PathBuf,
    pub socket: PathBuf,
    /// Only say what would be removed.
    pub dry_run: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Detaches programs, removes pins, state and socket. Policy, history and the hash key go, too: export the key before.
Stop the agent first.

Examples:
  gray uninstall --dry-run
  gray uninstall
  gray uninstall --config /etc/gray/agent.yaml")]
pub struct UninstallArgs {
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
    /// The agent's --config: takes its directories
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The agent's --state-dir [default: /var/lib/gray]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// The agent's --bpffs [default: /sys/fs/bpf/gray]
    #[arg(long, value_name = "DIR")]
    bpffs: Option<PathBuf>,
}

pub fn run(
    args: UninstallArgs,
    socket: Option<PathBuf>,
    uninstall: fn(UninstallOptions) -> anyhow::Result<Vec<String>>,
    ctx: &mut Ctx<'_>,
) -> Result<(), Failure> {
    let file = match &args.config {
        Some(path) => AgentFile::read(path)?,
        None => AgentFile::default(),
    };
    let options = UninstallOptions {
        bpffs: args.bpffs.or(file.bpffs).unwrap_or_else(|| agent::DEFAULT_BPFFS.into()),
        state_dir: args.state_dir.or(file.state_dir).unwrap_or_else(|| agent::DEFAULT_STATE_DIR.into()),
        socket: socket.or(file.socket).unwrap_or_else(|| DEFAULT_SOCKET.into()),
        dry_run: args.dry_run,
    };
    let dry_run = options.dry_run;
    let removed = uninstall(options).map_err(Failure::from_anyhow)?;
    ctx.show(&removed, |lines, _| {
        let verb = if dry_run { "would remove" } else { "removed" };
        match lines.is_empty() {
            true => "nothing of gray is here\n".into(),
            false => lines.iter().map(|l| format!("{verb} {l}\n")).collect(),
        }
    })?;
    Ok(ctx.io.out.flush()?)
}
