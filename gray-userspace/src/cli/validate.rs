//! `gray validate`: the checks of `apply` that need no node, in this process, with no agent.

use std::{io::Write, path::PathBuf};

use clap::Args;

use super::{Failure, apply::sources, args::Format, ctx::Ctx, text::count};
use crate::{
    api::{refused, types::CheckReply},
    compile, config,
};

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
    let checked = check(&documents);
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

/// What can be read is compiled, too: only that tells whether it fits the kernel's tables.
fn check(documents: &[config::Source]) -> CheckReply {
    let loaded = config::load(documents);
    let refused = match &loaded {
        Ok(good) => compile::check(&good.policy).err().map(|e| refused(&e, &good.places)),
        Err(_) => None,
    };
    let checked = CheckReply::from(loaded);
    match refused {
        Some(problems) => CheckReply { valid: false, problems, ..checked },
        None => checked,
    }
}

fn invalid(checked: &CheckReply) -> Failure {
    let what = format!("the policy has {}", count(checked.problems.len() as u64, "problem"));
    Failure::failed(what, "correct the document and validate it again")
}
