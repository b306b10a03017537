//! `gray release`: start one, tell it something, see where it is.

mod watch;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{
    Failure,
    apply::sources,
    ctx::Ctx,
    recall::Way,
    table::{Cell, Paint, Style, Table},
    text::count,
};
use crate::{
    api::{
        client::{path_segment, query},
        types::{RecallMode, ReleaseCommand, ReleaseEvent, ReleaseEvidence, ReleaseStart, ReleaseView},
    },
    release::{Buckets, Verb},
};

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  gray release start -f release.yaml\n  gray release status shop-2.0 --watch\n  gray release recall shop-2.0 --mode drain --grace 30s"
)]
pub struct ReleaseArgs {
    #[command(subcommand)]
    verb: ReleaseVerb,
}

#[derive(Debug, Subcommand)]
enum ReleaseVerb {
    /// Start a release
    #[command(
        after_help = "Examples:\n  gray release start -f release.yaml\n  gray release start -f release.yaml --dry-run"
    )]
    Start(Start),
    /// Show where a release is, what was measured, and what it waits for
    #[command(
        after_help = "Examples:\n  gray release status\n  gray release status shop-2.0 --watch\n  gray release status shop-2.0 -o json | jq -r .state"
    )]
    Status(Status),
    /// Hold it where it is
    #[command(after_help = "Examples:\n  gray release pause shop-2.0 --message 'somebody looks'")]
    Pause(One),
    /// Go on; an abnormal one: with the first stage of its ramp
    #[command(after_help = "Examples:\n  gray release resume shop-2.0 --message 'cart is mended'")]
    Resume(One),
    /// Approve what waits for a person
    #[command(after_help = "Examples:\n  gray release approve shop-2.0")]
    Approve(One),
    /// Go to a stage of the ramp
    #[command(after_help = "Examples:\n  gray release jump shop-2.0 3")]
    Jump(Jump),
    /// Everybody to gray, and on to the alignment
    #[command(after_help = "Examples:\n  gray release promote shop-2.0")]
    Promote(One),
    /// Everybody back to stable; established connections stay
    #[command(after_help = "Examples:\n  gray release abort shop-2.0 --message 'loses carts'")]
    Abort(One),
    /// Everybody back to stable, established connections too
    #[command(
        after_help = "Examples:\n  gray release recall shop-2.0\n  gray release recall shop-2.0 --mode drain --grace 5m\n  gray release recall shop-2.0 --mode reset"
    )]
    Recall(Recall),
    /// Begin again with the deployment
    #[command(after_help = "Examples:\n  gray release retry shop-2.0")]
    Retry(One),
    /// End it: a stopped or abnormal one as failed, a done one when the policy has taken over
    #[command(after_help = "Examples:\n  gray release close shop-2.0")]
    Close(One),
    /// Show what happened, and on what evidence
    #[command(
        after_help = "Examples:\n  gray release history shop-2.0\n  gray release history shop-2.0 -o json | jq '.[].evidence'"
    )]
    History(History),
}

#[derive(Debug, Args)]
struct Start {
    /// The release's document, YAML or JSON; `-` is standard input
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Only check it
    #[arg(long)]
    dry_run: bool,
    /// Why, for the history
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
}

#[derive(Debug, Args)]
struct Status {
    /// One release; default: a table of all
    name: Option<String>,
    /// Show it again and again, until it is over
    #[arg(short, long)]
    watch: bool,
}

#[derive(Debug, Args)]
struct One {
    /// The release
    name: String,
    /// Why, for the history
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
}

#[derive(Debug, Args)]
struct Jump {
    /// The release
    name: String,
    /// The stage, from 1
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    stage: u32,
    /// Why, for the history
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
}

#[derive(Debug, Args)]
struct Recall {
    #[command(flatten)]
    one: One,
    #[command(flatten)]
    way: Way,
}

#[derive(Debug, Args)]
struct History {
    /// The release
    name: String,
    /// At most this many, the newest ones
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1000)]
    limit: u64,
}

pub fn run(args: ReleaseArgs, ctx: &mut Ctx<'_>) -> Result<(), Failure> {
    let (verb, one) = match args.verb {
        ReleaseVerb::Start(s) => return start(s, ctx),
        ReleaseVerb::Status(s) => return status(s, ctx),
        ReleaseVerb::History(h) => return history(&h, ctx),
        ReleaseVerb::Jump(j) => {
            let command = ReleaseCommand { stage: Some(j.stage), ..plain(Verb::Jump, j.message) };
            return tell(&j.name, &command, ctx);
        }
        ReleaseVerb::Recall(r) => {
            let command = r.way.command(r.one.message)?;
            return tell(&r.one.name, &command, ctx);
        }
        ReleaseVerb::Pause(one) => (Verb::Pause, one),
        ReleaseVerb::Resume(one) => (Verb::Resume, one),
        ReleaseVerb::Approve(one) => (Verb::Approve, one),
        ReleaseVerb::Promote(one) => (Verb::Promote, one),
        ReleaseVerb::Abort(one) => (Verb::Abort, one),
        ReleaseVerb::Retry(one) => (Verb::Retry, one),
        ReleaseVerb::Close(one) => (Verb::Close, one),
    };
    tell(&one.name, &plain(verb, one.message), ctx)
}

fn plain(verb: Verb, message: Option<String>) -> ReleaseCommand {
    ReleaseCommand { verb, stage: None, mode: RecallMode::default(), grace_ms: None, message }
}

fn tell(name: &str, command: &ReleaseCommand, ctx: &mut Ctx<'_>) -> Result<(), Failure> {
    let path = format!("/v1/releases/{}/command", path_segment(name));
    let view: ReleaseView = ctx.wait(ctx.client.post(&path, command))?;
    ctx.show(&view, screen)
}

fn start(args: Start, ctx: &mut Ctx<'_>) -> Result<(), Failure> {
    let Some(source) = sources(&[args.file], ctx)?.pop() else { return Ok(()) };
    let request = ReleaseStart { source, dry_run: args.dry_run, message: args.message };
    let view: ReleaseView = ctx.wait(ctx.client.post("/v1/releases", &request))?;
    let dry = args.dry_run;
    ctx.show(
        &view,
        |v, paint| {
            if dry { format!("dry run: {} can be started\n", v.name) } else { screen(v, paint) }
        },
    )
}

fn status(args: Status, ctx: &mut Ctx<'_>) -> Result<(), Failure> {
    let Some(name) = &args.name else {
        if args.watch {
            return Err(Failure::usage(
                "--watch needs a release",
                "name one: gray release status NAME --watch",
            ));
        }
        let all: Vec<ReleaseView> = ctx.wait(ctx.client.get("/v1/releases"))?;
        return ctx.show(&all, |all, paint| table(all, paint));
    };
    let path = format!("/v1/releases/{}", path_segment(name));
    if args.watch {
        return watch::run(&path, ctx);
    }
    let view: ReleaseView = ctx.wait(ctx.client.get(&path))?;
    ctx.show(&view, screen)
}

fn history(args: &History, ctx: &mut Ctx<'_>) -> Result<(), Failure> {
    let limit = query(&[("limit", Some(args.limit.to_string()))]);
    let path = format!("/v1/releases/{}/history{limit}", path_segment(&args.name));
    let all: Vec<ReleaseEvent> = ctx.wait(ctx.client.get(&path))?;
    ctx.show(&all, |all, paint| events(all, paint))
}

fn style(v: &ReleaseView) -> Style {
    match (v.held.as_deref(), v.phase.as_str()) {
        (Some(_), _) => Style::Warn,
        (_, "done" | "closed") => Style::Good,
        (_, "stopped" | "abnormal" | "recalling" | "failed") => Style::Bad,
        _ => Style::Bold,
    }
}

pub(super) fn table(all: &[ReleaseView], paint: Paint) -> String {
    let mut t = Table::new(&["RELEASE", "VERSION", "STATE", "TRAFFIC", "SINCE", "WAITS FOR"]);
    for v in all {
        t.row([
            v.name.as_str().into(),
            v.version.as_str().into(),
            Cell::styled(style(v), &*v.state),
            v.traffic.as_str().into(),
            v.since.as_str().into(),
            v.waits_for.first().map(String::as_str).into(),
        ]);
    }
    t.render(paint, "releases")
}

fn clean(text: &str) -> String {
    text.replace(char::is_control, "?")
}

/// Of the ramp, a part for each stage: `#` passed, `>` there, `.` still to come. And what of the traffic they are for.
fn bar(v: &ReleaseView) -> String {
    const CHARACTERS: usize = 40;
    let stages = v.ramp.len();
    if stages == 0 {
        return String::new();
    }
    let there = match (v.phase.as_str(), v.stage) {
        ("aligning" | "done" | "closed", _) => stages,
        (_, stage) => stage.map_or(0, |n| (n as usize).saturating_sub(1)),
    };
    let width = (CHARACTERS / stages).max(1);
    let part = |n: usize| match n.cmp(&there) {
        std::cmp::Ordering::Less => "#",
        std::cmp::Ordering::Equal if v.stage.is_some() => ">",
        _ => ".",
    };
    let bar: String = (0..stages).map(|n| part(n).repeat(width)).collect();
    let named = |(n, share): (usize, &String)| match v.stage {
        Some(_) if n == there => format!("[{share}]"),
        _ => share.clone(),
    };
    let shares: Vec<_> = v.ramp.iter().enumerate().map(named).collect();
    format!("{bar}  {}", shares.join(", "))
}

/// One screen.
fn screen(v: &ReleaseView, paint: Paint) -> String {
    let of = |n: u32| count(u64::from(n), "stage");
    let state = match v.stage {
        Some(n) => format!("{}, stage {n} of {}", v.state, v.stages),
        None => format!("{}, {} in its ramp", v.state, of(v.stages)),
    };
    let services: Vec<_> = v.services.iter().map(|s| format!("{} {}", s.service, s.gray)).collect();
    let mut out = String::new();
    for (name, text, look) in [
        ("release", format!("{} ({})", v.name, v.version), Style::Plain),
        ("services", services.join(", "), Style::Plain),
        ("state", state, style(v)),
        ("ramp", bar(v), Style::Plain),
        ("since", format!("{}, started {} by {}", v.since, v.started, v.who), Style::Plain),
        ("reason", v.reason.clone(), Style::Plain),
        ("traffic", v.traffic.clone(), Style::Plain),
    ] {
        if !text.is_empty() {
            let name = paint.text(Style::Bold, &format!("{name:<9}"));
            out += &format!("{name} {}\n", paint.text(look, &clean(&text)));
        }
    }
    for (i, wait) in v.waits_for.iter().enumerate() {
        let name = paint.text(Style::Bold, if i == 0 { "waits for" } else { "         " });
        out += &format!("{name} {}\n", clean(wait));
    }
    if !v.measured.is_empty() {
        out += &format!("\n{}", measured(v).render(paint, "measures"));
    }
    if let Some(j) = &v.judged {
        let why = if j.why.is_empty() { String::new() } else { format!(": {}", clean(&j.why)) };
        out += &format!("verdict   {}{why}\n", j.verdict);
    }
    out
}

fn measured(v: &ReleaseView) -> Table {
    let mut t = Table::new(&[
        "SERVICE",
        "ARM",
        "CONNECTIONS",
        "REFUSED",
        "RESET",
        "UNANSWERED",
        "5XX",
        "HANDSHAKE",
        "FIRST BYTE",
        "BYTES",
        "BYTES BACK",
    ]);
    for c in &v.measured {
        for (arm, n) in [("gray", c.gray), ("stable", c.stable)] {
            t.row([
                c.service.as_str().into(),
                arm.into(),
                n.connections.into(),
                n.refused.into(),
                n.resets.into(),
                n.unanswered.into(),
                n.server_errors.into(),
                times(&n.handshake).into(),
                times(&n.first_byte).into(),
                n.bytes.into(),
                n.reply_bytes.into(),
            ]);
        }
    }
    t
}

/// Half of them, and nine of ten, took no longer: `1.8 / 12 ms`.
fn times(all: &Buckets) -> String {
    let Some((half, most)) = all.quantile_ms(0.5).zip(all.quantile_ms(0.9)) else { return "-".into() };
    let short = |ms: f64| if ms < 10.0 { format!("{ms:.1}") } else { format!("{ms:.0}") };
    format!("{} / {} ms", short(half), short(most))
}

/// `fail after 3 s: api 24/874 (refused 10/0, p 5.1e-11)`: connections of gray and of stable, the kinds of failures that there were,
/// and how surely gray's are more.
fn evidence(e: &ReleaseEvidence) -> String {
    let arms = e.counts.iter().map(|c| {
        let kinds = [
            ("refused", c.gray.refused, c.stable.refused),
            ("reset", c.gray.resets, c.stable.resets),
            ("unanswered", c.gray.unanswered, c.stable.unanswered),
            ("5xx", c.gray.server_errors, c.stable.server_errors),
            ("kept by the breaker", c.gray.broken, c.stable.broken),
        ];
        let kinds = kinds.into_iter().filter(|(_, gray, stable)| gray + stable > 0);
        let mut more: Vec<_> = kinds.map(|(kind, gray, stable)| format!("{kind} {gray}/{stable}")).collect();
        let compared = e.compared.iter().find(|s| s.service == c.service);
        let least = compared.and_then(|s| s.comparisons.iter().map(|c| c.p).min_by(f64::total_cmp));
        more.extend(least.filter(|_| !more.is_empty()).map(|p| format!("p {p:.1e}")));
        let more = if more.is_empty() { String::new() } else { format!(" ({})", more.join(", ")) };
        format!("{} {}/{}{more}", c.service, c.gray.connections, c.stable.connections)
    });
    let arms: Vec<_> = arms.collect();
    format!("{} after {} s: {}", e.judged.verdict, e.time_ms / 1000, arms.join(", "))
}

fn events(all: &[ReleaseEvent], paint: Paint) -> String {
    let mut t = Table::new(&["AT", "WHAT", "STATE", "TEXT", "EVIDENCE"]);
    for e in all {
        let look = match e.what.as_str() {
            "error" | "unknown" => Style::Bad,
            "transition" => Style::Bold,
            _ => Style::Plain,
        };
        let evidence = e.evidence.as_ref().map(evidence);
        t.row([
            e.at.as_str().into(),
            Cell::styled(look, &*e.what),
            e.to.as_str().into(),
            e.text.as_str().into(),
            evidence.as_deref().into(),
        ]);
    }
    t.render(paint, "events")
}
