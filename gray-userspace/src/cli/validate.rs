//! `gray validate`: the same checks as `apply`, in this process, with no agent.

use std::{io::Write, path::PathBuf};

use clap::Args;

use super::{Failure, apply::sources, args::Format, ctx::Ctx, text::count};
use crate::{api::types::CheckReply, config};

#[derive(Debug, Args)]
#[command(after_help = "\
Prints every problem at once. Exit code 1 when there is one; warnings alone are fine.

Examples:
  gray validate policy.yaml
  gray validate services.yaml routes.yaml
  generate-policy | gray validate -
  gray validate policy.yaml -o json | jq '.problems[].line'")]
pub struct ValidateArgs {
    /// Documents that together are one policy; `-` is standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

pub fn run(args: &ValidateArgs, ctx: &mut Ctx<'_>) -> Result<(), Failure> {
    let documents: Vec<_> = sources(&args.files, ctx)?.into_iter().map(config::Source::from).collect();
    let checked = CheckReply::from(config::load(&documents));
    if ctx.format != Format::Table {
        ctx.show(&checked, |_, _| String::new())?;
        return if checked.valid { Ok(()) } else { Err(invalid(&checked)) };
    }
    for w in &checked.warnings {
        writeln!(ctx.io.err, "{}", w.render("warning"))?;
    }
    if !checked.valid {
        return Err(Failure { problems: checked.problems.clone(), ..invalid(&checked) });
    }
    let warned = match checked.warnings.len() {
        0 => String::new(),
        n => format!(", {}", count(n as u64, "warning")),
    };
    Ok(writeln!(ctx.io.out, "valid{warned}")?)
}

fn invalid(checked: &CheckReply) -> Failure {
    let what = format!("the policy has {}", count(checked.problems.len() as u64, "problem"));
    Failure::failed(what, "correct the document and validate it again")
}
