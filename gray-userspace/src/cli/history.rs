//! `gray history`.

use clap::Args;

use super::{
    Failure,
    ctx::Ctx,
    table::{Cell, Paint, Style, Table},
};
use crate::api::types::HistoryEntry;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  gray history\n  gray history --limit 5 -o json\n  gray rollback REVISION"
)]
pub struct HistoryArgs {
    /// At most this many, the newest first
    #[arg(short = 'n', long, value_name = "N")]
    limit: Option<usize>,
}

pub fn run(args: &HistoryArgs, ctx: &mut Ctx<'_>) -> Result<(), Failure> {
    let mut entries: Vec<HistoryEntry> = ctx.wait(ctx.client.get("/v1/history"))?;
    entries.truncate(args.limit.unwrap_or(usize::MAX));
    ctx.show(&entries, |e, paint| table(e, paint))
}

pub fn table(entries: &[HistoryEntry], paint: Paint) -> String {
    let mut t = Table::new(&["REVISION", "AT", "WHO", "KIND", "STATE", "WHAT", "WHY"]);
    for e in entries {
        let style = match e.state.as_str() {
            "active" => Style::Good,
            "failed" | "interrupted" => Style::Bad,
            _ => Style::Dim,
        };
        t.row([
            e.revision.into(),
            e.at.as_str().into(),
            e.who.as_str().into(),
            e.kind.as_str().into(),
            Cell::styled(style, &*e.state),
            e.summary.as_str().into(),
            e.why.as_deref().into(),
        ]);
    }
    t.render(paint, "revisions")
}
