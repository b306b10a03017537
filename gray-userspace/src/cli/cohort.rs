//! `gray cohort`: live edits of lists, one id or a file of a million.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{
    Failure,
    ctx::Ctx,
    table::Paint,
    text::{count, percent},
};
use crate::api::{
    client::{path_segment, query},
    types::{CohortEdit, CohortEdited, CohortOp, CohortShow},
};

#[derive(Debug, Args)]
#[command(after_help = "\
Edits take effect at one instant and become a revision of the history.

Examples:
  gray cohort add early-apps 198.18.1.3 198.18.7.0/24
  gray cohort remove early-apps 198.18.1.3
  gray cohort load early-apps --file ids.txt
  gray cohort show early-apps")]
pub struct CohortArgs {
    #[command(subcommand)]
    verb: CohortVerb,
}

#[derive(Debug, Subcommand)]
enum CohortVerb {
    /// Add ids to a list
    #[command(
        after_help = "Examples:\n  gray cohort add early-apps 198.18.1.3\n  gray cohort add early-apps --file more.txt"
    )]
    Add(EditArgs),
    /// Take ids off a list
    #[command(
        after_help = "Examples:\n  gray cohort remove early-apps 198.18.1.3\n  gray cohort remove early-apps --file gone.txt"
    )]
    Remove(EditArgs),
    /// Make a file the whole list
    #[command(after_help = "\
One id per line; empty lines and lines that begin with # are skipped. At most 64 MiB.

Examples:
  gray cohort load early-apps --file ids.txt
  psql -Atc 'select address from early' | gray cohort load early-apps --file -")]
    Load(LoadArgs),
    /// Forget all live edits: the document's own list counts again
    #[command(after_help = "Examples:\n  gray cohort reset early-apps")]
    Reset(ResetArgs),
    /// Choose tenants by a strategy; with --load they become a cohort's list
    #[command(after_help = "\
The table is CSV whose first line names the columns, or a JSON list of objects; `id` is required. Needs no agent without --load.

Examples:
  gray cohort plan -f strategy.yaml --tenants tenants.csv
  gray cohort plan early-tenants -f strategy.yaml --tenants tenants.csv --load
  gray cohort show early-tenants --why")]
    Plan(super::plan::PlanArgs),
    /// Show a cohort and the begin of its list
    #[command(
        after_help = "Examples:\n  gray cohort show early-apps\n  gray cohort show early-tenants --why\n  gray cohort show early-apps --all -o json | jq -r '.ids[]'"
    )]
    Show(ShowArgs),
}

#[derive(Debug, Args)]
struct EditArgs {
    /// The cohort
    name: String,
    /// Ids as the document would write them
    #[arg(value_name = "ID", required_unless_present = "file")]
    ids: Vec<String>,
    /// More ids, one per line; `-` is standard input
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Why, for the history
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
}

#[derive(Debug, Args)]
struct LoadArgs {
    /// The cohort
    name: String,
    /// Ids, one per line; `-` is standard input
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Why, for the history
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
}

#[derive(Debug, Args)]
struct ResetArgs {
    /// The cohort
    name: String,
    /// Why, for the history
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// The cohort
    name: String,
    /// How many ids to show
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100)]
    limit: u64,
    /// Ids to skip
    #[arg(long, value_name = "N", default_value_t = 0)]
    offset: u64,
    /// Show all ids
    #[arg(long, conflicts_with_all = ["limit", "offset"])]
    all: bool,
    /// Show the tenants that a strategy chose, why, and what was edited since
    #[arg(long, conflicts_with_all = ["limit", "offset", "all"])]
    why: bool,
}

pub fn run(args: CohortArgs, ctx: &mut Ctx<'_>) -> Result<(), Failure> {
    let reply = match args.verb {
        CohortVerb::Add(a) => edit(a, CohortOp::Add, ctx)?,
        CohortVerb::Remove(a) => edit(a, CohortOp::Remove, ctx)?,
        CohortVerb::Load(a) => lines(&a.name, CohortOp::Replace, &a.file, &[], a.message, ctx)?,
        CohortVerb::Reset(a) => ids(&a.name, CohortOp::Reset, Vec::new(), a.message, ctx)?,
        CohortVerb::Plan(a) => return super::plan::run(a, ctx),
        CohortVerb::Show(a) if a.why => return super::plan::why(&a.name, ctx),
        CohortVerb::Show(a) => return show(&a, ctx),
    };
    ctx.show(&reply, |r, _| text(r))
}

fn edit(args: EditArgs, op: CohortOp, ctx: &mut Ctx<'_>) -> Result<CohortEdited, Failure> {
    match &args.file {
        Some(file) => lines(&args.name, op, file, &args.ids, args.message, ctx),
        None => ids(&args.name, op, args.ids, args.message, ctx),
    }
}

fn ids(
    name: &str,
    op: CohortOp,
    ids: Vec<String>,
    message: Option<String>,
    ctx: &Ctx<'_>,
) -> Result<CohortEdited, Failure> {
    let path = format!("/v1/cohorts/{}/edit", path_segment(name));
    ctx.wait(ctx.client.post(&path, &CohortEdit { op, ids: ids.into_iter().collect(), message }))
}

/// The file goes as it is; the agent cuts it into lines.
fn lines(
    name: &str,
    op: CohortOp,
    file: &std::path::Path,
    more: &[String],
    message: Option<String>,
    ctx: &mut Ctx<'_>,
) -> Result<CohortEdited, Failure> {
    let mut text = ctx.read(file)?;
    let said = |l: &[u8]| !matches!(l.trim_ascii().first(), None | Some(b'#'));
    if op == CohortOp::Replace && !text.split(|b| *b == b'\n').any(said) {
        return Err(Failure::failed(
            format!("there is no id in {}", file.display()),
            "did the program in front fail? To take ids off a list: gray cohort remove",
        ));
    }
    for id in more {
        text.push(b'\n');
        text.extend_from_slice(id.as_bytes());
    }
    let op = match op {
        CohortOp::Add => "add",
        CohortOp::Remove => "remove",
        CohortOp::Replace => "replace",
        CohortOp::Reset => "reset",
    };
    let query = query(&[("op", Some(op.into())), ("message", message)]);
    let path = format!("/v1/cohorts/{}/lines{query}", path_segment(name));
    ctx.wait(ctx.client.post_text(&path, text.into()))
}

pub(super) fn text(r: &CohortEdited) -> String {
    let mut out = format!(
        "{} added, {} removed, {} unchanged; {}\n",
        r.added,
        r.removed,
        r.unchanged,
        count(r.size, "entry")
    );
    match (r.revision, r.epoch) {
        (Some(revision), Some(epoch)) => out.push_str(&format!("revision {revision}, epoch {epoch}\n")),
        (Some(revision), None) => out.push_str(&format!("revision {revision}\n")),
        _ => out.push_str("unchanged\n"),
    }
    out
}

fn show(args: &ShowArgs, ctx: &mut Ctx<'_>) -> Result<(), Failure> {
    let limit = if args.all { u64::from(u32::MAX) } else { args.limit };
    let page = query(&[("offset", Some(args.offset.to_string())), ("limit", Some(limit.to_string()))]);
    let path = format!("/v1/cohorts/{}{page}", path_segment(&args.name));
    let reply: CohortShow = ctx.wait(ctx.client.get(&path))?;
    ctx.show(&reply, described)
}

fn described(c: &CohortShow, _: Paint) -> String {
    let of = c.of.as_deref().unwrap_or("identity");
    let routes = if c.routes.is_empty() { "no route".into() } else { c.routes.join(", ") };
    if let Some(joined) = &c.joined {
        return format!("{}: {joined}, used by {routes}\n", c.name);
    }
    let mut out = match (&c.digits, c.basis_points) {
        (Some(digits), _) => {
            format!("{}: {of} that ends with {}, used by {routes}\n", c.name, digits.join(" or "))
        }
        (None, Some(bp)) => {
            let salt = c.salt.as_deref().unwrap_or_default();
            format!("{}: {} of {of}, salt {salt}, used by {routes}\n", c.name, percent(bp))
        }
        (None, None) => format!("{}: {} of {of}, used by {routes}\n", c.name, count(c.size, "entry")),
    };
    for id in &c.ids {
        out.push_str(&id.replace(char::is_control, "?"));
        out.push('\n');
    }
    let rest = c.size.saturating_sub(c.offset + c.ids.len() as u64);
    if rest > 0 && c.basis_points.is_none() {
        out.push_str(&format!("... and {rest} more: --all, or --offset {}\n", c.offset + c.ids.len() as u64));
    }
    out
}
