//! Files made from the command line's own tree: completions, man pages; and the descriptions of API and document.

use std::{fs, path::PathBuf};

use clap::Args;
use clap_complete::Shell;

use super::{Failure, args::command, ctx::Ctx};
use crate::{api::openapi as description, config};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gray completions bash > /etc/bash_completion.d/gray
  gray completions zsh > ~/.zfunc/_gray
  gray completions fish > ~/.config/fish/completions/gray.fish")]
pub struct CompletionsArgs {
    /// The shell that reads them
    shell: Shell,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  gray man /usr/local/share/man/man1")]
pub struct ManArgs {
    /// Made when it does not exist
    dir: PathBuf,
}

pub fn completions(args: &CompletionsArgs, ctx: &mut Ctx<'_>) -> Result<(), Failure> {
    // Into memory first: the generator panics when a write fails, as it does on a closed pipe.
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut command(), "gray", &mut text);
    Ok(ctx.io.out.write_all(&text)?)
}

pub fn man(args: &ManArgs) -> Result<(), Failure> {
    let failed = |e| Failure::file("write man pages to", &args.dir, &e);
    fs::create_dir_all(&args.dir).map_err(failed)?;
    clap_mangen::generate_to(command(), &args.dir).map_err(failed)
}

pub fn openapi(ctx: &mut Ctx<'_>) -> Result<(), Failure> {
    Ok(ctx.io.out.write_all(description::json().as_bytes())?)
}

pub fn schema(ctx: &mut Ctx<'_>) -> Result<(), Failure> {
    Ok(ctx.io.out.write_all(config::schema_json().as_bytes())?)
}
