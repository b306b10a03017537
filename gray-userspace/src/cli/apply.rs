//! `gray apply` and `gray rollback`: what changed, one line each, and the numbers to remember.

use std::{io::Write, path::PathBuf};

use clap::Args;

use super::{
    Failure,
    ctx::Ctx,
    table::{Paint, Style},
    text::count,
};
use crate::api::types::{ApplyReply, ApplyRequest, ChangeOp, RollbackRequest, SourceText, WriteSummary};

#[derive(Debug, Args)]
#[command(after_help = "\
All documents together are the whole policy: what they do not name is removed. All of it takes effect at one instant,
established connections stay where they are.

Examples:
  gray apply -f policy.yaml
  gray apply -f services.yaml -f routes.yaml --message 'shop 2.0 for the office'
  gray apply -f policy.yaml --dry-run
  gray apply -f policy.yaml --if-revision 41
  generate-policy | gray apply -f -")]
pub struct ApplyArgs {
    /// A document, YAML or JSON; `-` is standard input; may be given several times
    #[arg(short, long = "file", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Only say what would change
    #[arg(long)]
    dry_run: bool,
    /// Why, for the history
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// Only if this revision is in force, the one that the documents were made from; 0: none yet
    #[arg(long, value_name = "N")]
    if_revision: Option<u64>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
The earlier policy becomes a new revision; live edits of cohorts go back with it.

Examples:
  gray history
  gray rollback 12 --message 'shop 2.0 loses carts'")]
pub struct RollbackArgs {
    /// A revision of `gray history`
    revision: u64,
    /// Why, for the history
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
}

pub fn run(args: ApplyArgs, ctx: &mut Ctx<'_>) -> Result<(), Failure> {
    let request = ApplyRequest {
        sources: sources(&args.files, ctx)?,
        dry_run: args.dry_run,
        message: args.message,
        if_revision: args.if_revision,
    };
    let reply = ctx.wait(ctx.client.post("/v1/apply", &request))?;
    show(&reply, args.dry_run, ctx)
}

pub fn rollback(args: RollbackArgs, ctx: &mut Ctx<'_>) -> Result<(), Failure> {
    let request = RollbackRequest { revision: args.revision, message: args.message };
    let reply = ctx.wait(ctx.client.post("/v1/rollback", &request))?;
    show(&reply, false, ctx)
}

/// Reads the documents; standard input only once.
pub fn sources(files: &[PathBuf], ctx: &mut Ctx<'_>) -> Result<Vec<SourceText>, Failure> {
    if files.iter().filter(|f| f.as_os_str() == "-").count() > 1 {
        return Err(Failure::usage("standard input is named twice", "give `-` once"));
    }
    files
        .iter()
        .map(|path| {
            let name = path.display().to_string();
            let text = String::from_utf8(ctx.read(path)?).map_err(|_| {
                Failure::failed(format!("{name} is not UTF-8 text"), "save the document as UTF-8")
            })?;
            Ok(SourceText { name, text })
        })
        .collect()
}

fn show(reply: &ApplyReply, dry_run: bool, ctx: &mut Ctx<'_>) -> Result<(), Failure> {
    ctx.show(reply, |r, paint| changes(r, paint) + &result(r, dry_run))?;
    for w in &reply.warnings {
        // After the output, on standard error: a warning is no part of what scripts read.
        write!(ctx.io.err, "{}", w.render("warning"))?;
    }
    Ok(())
}

fn changes(reply: &ApplyReply, paint: Paint) -> String {
    let mut out = String::new();
    for c in &reply.changes {
        let (sign, style) = match c.op {
            ChangeOp::Add => ("+", Style::Good),
            ChangeOp::Remove => ("-", Style::Bad),
            ChangeOp::Change => ("~", Style::Warn),
        };
        let detail = if c.detail.is_empty() { String::new() } else { format!(": {}", c.detail) };
        let line = format!("{sign} {} {}{detail}", c.kind, c.name);
        out.push_str(&paint.text(style, &line.replace(char::is_control, "?")));
        out.push('\n');
    }
    let writes = written(&reply.writes);
    if !writes.is_empty() {
        out.push_str(&format!("kernel writes: {writes}\n"));
    }
    out
}

fn written(w: &WriteSummary) -> String {
    let tables = [
        (w.services, "service"),
        (w.listeners, "listener"),
        (w.instances, "instance"),
        (w.rules, "rule"),
        (w.targets, "target"),
        (w.identities, "identity"),
        (w.prefixes, "prefix"),
        (w.classes, "class"),
        (w.tables, "lookup table"),
    ];
    tables.into_iter().filter(|(n, _)| *n > 0).map(|(n, one)| count(n, one)).collect::<Vec<_>>().join(", ")
}

fn result(reply: &ApplyReply, dry_run: bool) -> String {
    let epoch = reply.epoch.map(|e| format!("epoch {e}"));
    match (reply.revision, epoch) {
        _ if dry_run && reply.unchanged => "dry run: this is the policy in force already\n".into(),
        _ if dry_run => "dry run: nothing was changed\n".into(),
        (_, epoch) if reply.unchanged => {
            format!("unchanged{}\n", epoch.map(|e| format!(", {e}")).unwrap_or_default())
        }
        (Some(r), Some(e)) => format!("revision {r}, {e}\n"),
        (Some(r), None) => format!("revision {r}\n"),
        (None, e) => format!("{}\n", e.unwrap_or_else(|| "done".into())),
    }
}
