//! `gray tag`: what a process marks its messages with, for a script, as environment, or given to a program that it becomes.

use std::{ffi::OsString, io::Write, os::unix::process::CommandExt as _, process::Command};

use clap::Args;

use super::{Failure, ctx::Ctx, failure::UNREACHABLE};
use crate::api::{client, types::Tag};

#[derive(Debug, Args)]
#[command(after_help = "\
The tag is the lane that the workload's calls are in (`gray workload set NAME --lane LANE`), or
`stable`. Without --workload and --pid it is that of whoever calls: the cgroup says of which
workload. docs/messages.md has a worked example.

Examples:
  gray tag
  gray tag --workload worker-gray -o json
  eval \"$(gray tag --env)\"; echo $GRAY_TAG
  gray tag -- /srv/shop/worker --queue orders")]
pub struct TagArgs {
    /// Of this workload
    #[arg(long, value_name = "NAME")]
    workload: Option<String>,
    /// Of this process
    #[arg(long, conflicts_with = "workload")]
    pid: Option<u32>,
    /// As lines of NAME=VALUE: GRAY_TAG, GRAY_WORKLOAD, GRAY_LANE
    #[arg(long)]
    env: bool,
    /// What to say when the agent cannot be reached; without it, that is an error
    #[arg(long, value_name = "TAG")]
    or: Option<String>,
    /// Become this program, with these in its environment
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub fn run(args: &TagArgs, ctx: &mut Ctx<'_>) -> Result<(), Failure> {
    let query = [("workload", args.workload.clone()), ("pid", args.pid.map(|p| p.to_string()))];
    let asked = ctx.wait(ctx.client.get(&format!("/v1/tag{}", client::query(&query))));
    let tag: Tag = match (asked, &args.or) {
        (Err(e), Some(or)) if e.code == UNREACHABLE => Tag { tag: or.clone(), ..Tag::default() },
        (asked, _) => asked?,
    };
    match args.command.split_first() {
        Some((program, rest)) => {
            // What it becomes writes to the same descriptors.
            ctx.io.out.flush()?;
            let e = Command::new(program).args(rest).envs(environment(&tag)).exec();
            let what = format!("cannot start {}: {e}", program.to_string_lossy());
            Err(Failure::failed(what, "check the program's path and its permissions"))
        }
        None if args.env => {
            let lines: String =
                environment(&tag).iter().map(|(k, v)| format!("{k}={}\n", quoted(v))).collect();
            Ok(ctx.io.out.write_all(lines.as_bytes())?)
        }
        None => ctx.show(&tag, |t, _| format!("{}\n", t.tag)),
    }
}

/// As a shell and systemd's EnvironmentFile= read it.
fn quoted(value: &str) -> String {
    let plain = value.bytes().all(|c| c.is_ascii_alphanumeric() || b"._-:@/".contains(&c));
    if plain { value.to_owned() } else { format!("'{}'", value.replace('\'', r"'\''")) }
}

fn environment(tag: &Tag) -> [(&'static str, String); 3] {
    [
        ("GRAY_TAG", tag.tag.clone()),
        ("GRAY_WORKLOAD", tag.workload.clone().unwrap_or_default()),
        ("GRAY_LANE", tag.lane.clone().unwrap_or_default()),
    ]
}
