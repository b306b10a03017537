//! `gray audit`.

use clap::Args;
use serde_json::Value;

use super::{
    Failure,
    ctx::Ctx,
    table::{Cell, Paint, Style, Table},
    text::count,
};
use crate::api::types::{AuditEntry, AuditVerified};

#[derive(Debug, Args)]
#[command(after_help = "\
Each record's hash covers the one before it. The newest one, the head, says what the whole log was: kept on another
machine, it tells of a log that was cut off or made anew. Exit code 1 when --verify finds a record or a revision changed.

Examples:
  gray audit
  gray audit -n 500 -o json
  gray audit --before 1200
  gray audit --verify")]
pub struct AuditArgs {
    /// At most this many, the newest first
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1000))]
    limit: u64,
    /// Only records before this one
    #[arg(long, value_name = "SEQ")]
    before: Option<u64>,
    /// Compute the whole chain again, and compare it with the revisions
    #[arg(long, conflicts_with_all = ["limit", "before"])]
    verify: bool,
}

pub fn run(args: &AuditArgs, ctx: &mut Ctx<'_>) -> Result<(), Failure> {
    if args.verify {
        let v: AuditVerified = ctx.wait(ctx.client.get("/v1/audit/verify"))?;
        return ctx.show(&v, |v, _| verified(v));
    }
    let before = args.before.map_or_else(String::new, |n| format!("&before={n}"));
    let path = format!("/v1/audit?limit={}{before}", args.limit);
    let entries: Vec<AuditEntry> = ctx.wait(ctx.client.get(&path))?;
    // Of an older part the first hash is not the log's.
    let head = if args.before.is_none() { entries.first().map(|e| e.hash.clone()) } else { None };
    ctx.show(&entries, |e, paint| {
        let head = head.map_or_else(String::new, |h| format!("head {h}\n"));
        table(e, paint) + &head
    })
}

fn verified(v: &AuditVerified) -> String {
    let (records, revisions) = (count(v.records, "record"), count(v.revisions, "revision"));
    format!("{records} and {revisions} are as they were written\nhead {}\n", v.head)
}

fn table(entries: &[AuditEntry], paint: Paint) -> String {
    let mut t = Table::new(&["SEQ", "AT", "WHO", "ACTION", "REVISION", "WHAT", "HASH"]);
    for e in entries {
        let style = match e.action.as_str() {
            "fail" | "interrupt" => Style::Bad,
            _ => Style::Plain,
        };
        t.row([
            e.seq.into(),
            e.at.as_str().into(),
            e.who.as_str().into(),
            Cell::styled(style, &*e.action),
            e.revision.into(),
            what(&e.detail).into(),
            Cell::styled(Style::Dim, e.hash.chars().take(12).collect::<String>()),
        ]);
    }
    t.render(paint, "records")
}

/// What a person wants of a detail: summary and why of a revision, or the reason it failed.
fn what(detail: &str) -> String {
    let Ok(Value::Object(fields)) = serde_json::from_str(detail) else { return detail.to_owned() };
    let text = |key: &str| fields.get(key).and_then(Value::as_str).filter(|t| !t.is_empty());
    match (text("reason").or_else(|| text("summary")), text("why")) {
        (Some(what), Some(why)) => format!("{what} ({why})"),
        (Some(what), None) => what.to_owned(),
        // A workload's, and what later versions write.
        (None, _) => detail.to_owned(),
    }
}
