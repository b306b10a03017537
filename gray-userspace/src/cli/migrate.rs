//! `gray migrate`: which agent's pins, and to which ABI. Touches nothing itself.

use std::{io::Write, path::PathBuf};

use clap::Args;

use super::{Failure, agent, agent_file::AgentFile, ctx::Ctx};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrateOptions {
    pub to: u32,
    pub bpffs: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Before a downgrade across ABI numbers, with the newer gray and no agent running. Steering goes on
all the time. An upgrade needs no such step: the newer agent takes over by itself.

Examples:
  systemctl stop gray && gray migrate --to 1    # then install and start the older gray
  gray migrate --to 1 --config /etc/gray/agent.yaml")]
pub struct MigrateArgs {
    /// The ABI number of the gray that takes over; its `gray status` shows it, and this one's error
    #[arg(long, value_name = "ABI")]
    to: u32,
    /// The agent's --config: takes its directories
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The agent's --bpffs [default: /sys/fs/bpf/gray]
    #[arg(long, value_name = "DIR")]
    bpffs: Option<PathBuf>,
}

pub fn run(
    args: MigrateArgs,
    migrate: fn(MigrateOptions) -> anyhow::Result<Vec<String>>,
    ctx: &mut Ctx<'_>,
) -> Result<(), Failure> {
    let file = match &args.config {
        Some(path) => AgentFile::read(path)?,
        None => AgentFile::default(),
    };
    let bpffs = args.bpffs.or(file.bpffs).unwrap_or_else(|| agent::DEFAULT_BPFFS.into());
    let done = migrate(MigrateOptions { to: args.to, bpffs }).map_err(Failure::from_anyhow)?;
    ctx.show(&done, |lines, _| lines.iter().map(|l| format!("{l}\n")).collect())?;
    Ok(ctx.io.out.flush()?)
}
