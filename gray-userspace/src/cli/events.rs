//! `gray events`: decisions as lines, the latest or as they happen.

use std::io::Write;

use clap::Args;

use super::{
    Failure,
    args::Format,
    ctx::Ctx,
    table::{Paint, Style},
};
use crate::api::{
    client::query,
    types::{AlarmEvent, ArmName, BreakerEvent, Event, EventLine, HealthEvent, MissingEvent, PolicyEvent},
};

#[derive(Debug, Args)]
#[command(after_help = "\
Decisions, requests that name none of the claims of their service, alarms, instances that come up or go down. Events are sampled and limited in rate; `gray status` has exact counts. With -o json: one object per line.

Examples:
  gray events
  gray events --follow --service shop
  gray events --follow --count 10 -o json")]
pub struct EventsArgs {
    /// Go on with events as they happen
    #[arg(short, long)]
    follow: bool,
    /// Stop after so many
    #[arg(short = 'n', long, value_name = "N")]
    count: Option<u64>,
    /// Begin with so many of the latest [default: 20, with --follow 0]
    #[arg(long, value_name = "N")]
    recent: Option<u64>,
    /// Only of this service
    #[arg(long, short)]
    service: Option<String>,
}

pub fn run(args: &EventsArgs, ctx: &mut Ctx<'_>) -> Result<(), Failure> {
    let recent = args.recent.unwrap_or_else(|| if args.follow { 0 } else { args.count.unwrap_or(20) });
    let path = query(&[
        ("follow", Some(args.follow.to_string())),
        ("recent", Some(recent.to_string())),
        ("service", args.service.clone()),
    ]);
    let mut lines = ctx.wait(ctx.client.lines(&format!("/v1/events{path}")))?;
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 {
        let Some(line) = ctx.wait(lines.next())? else {
            return if args.follow { Err(ended()) } else { Ok(()) };
        };
        left -= u64::from(print(&line, ctx)?);
        // A person or a pipe waits for each line.
        ctx.io.out.flush()?;
    }
    Ok(())
}

fn ended() -> Failure {
    Failure::new(
        super::failure::UNREACHABLE,
        "the agent ended the stream",
        "is it restarting? `gray status` tells",
    )
}

/// True: it was an event.
fn print(line: &str, ctx: &mut Ctx<'_>) -> Result<bool, Failure> {
    let parsed: EventLine =
        serde_json::from_str(line).map_err(|e| Failure::from(crate::api::ClientError::Decode(e)))?;
    let paint = ctx.paint();
    match (ctx.format, &parsed) {
        (Format::Json, _) => writeln!(ctx.io.out, "{line}")?,
        (Format::Yaml, _) => {
            writeln!(ctx.io.out, "---")?;
            ctx.show(&parsed, |_, _| String::new())?;
        }
        (Format::Table, EventLine::Event(e)) => writeln!(ctx.io.out, "{}", text(e, paint))?,
        (Format::Table, EventLine::Health(e)) => writeln!(ctx.io.out, "{}", health(e, paint))?,
        (Format::Table, EventLine::Missing(e)) => writeln!(ctx.io.out, "{}", missing(e, paint))?,
        (Format::Table, EventLine::Alarm(e)) => writeln!(ctx.io.out, "{}", alarm(e, paint))?,
        (Format::Table, EventLine::Breaker(e)) => writeln!(ctx.io.out, "{}", breaker(e, paint))?,
        (Format::Table, EventLine::Policy(e)) => writeln!(ctx.io.out, "{}", policy(e, paint))?,
        (Format::Table, EventLine::Lost { lost }) => writeln!(ctx.io.out, "... {lost} events skipped")?,
    }
    Ok(!matches!(parsed, EventLine::Lost { .. }))
}

/// `missing  shop  198.18.1.3:40000  http  GET /cart (host accept)`
fn missing(e: &MissingEvent, paint: Paint) -> String {
    let clean = |text: String| text.replace(char::is_control, "?");
    let mut said = e.request.clone().or_else(|| e.server_name.clone()).unwrap_or_default();
    if !e.headers.is_empty() {
        said += &format!(" ({})", e.headers.join(" "));
    }
    let what = paint.text(Style::Warn, &clean(format!("{:<14}", e.missing)));
    let line = clean(format!("{}  missing  {:<17}  {:<21}", e.at, e.service, e.client));
    format!("{line}  {what}  {}", clean(said)).trim_end().to_owned()
}

fn policy(e: &PolicyEvent, paint: Paint) -> String {
    let style = if e.policy == "applied" { Style::Good } else { Style::Bad };
    let clean = |t: String| t.replace(char::is_control, "?");
    let line = clean(format!("{}  policy   {:<42}", e.at, e.dir.display()));
    let revision = e.revision.map_or_else(String::new, |r| format!("revision {r}"));
    format!("{line}  {}  {}", paint.text(style, &clean(e.policy.clone())), clean(revision + &e.text))
}

fn breaker(e: &BreakerEvent, paint: Paint) -> String {
    let clean = |text: String| text.replace(char::is_control, "?");
    let style = if e.breaker == "open" { Style::Bad } else { Style::Good };
    let line = clean(format!("{}  breaker  {:<42}", e.at, e.service));
    let rest = clean(format!("{} failures of gray yet ({})", e.failures, e.rule));
    format!("{line}  {}  {rest}", paint.text(style, &clean(e.breaker.clone())))
}

fn alarm(e: &AlarmEvent, paint: Paint) -> String {
    let clean = |text: String| text.replace(char::is_control, "?");
    let style = if e.alarm == "raised" { Style::Bad } else { Style::Good };
    let line = clean(format!("{}  alarm    {:<42}", e.at, e.service));
    let rest = clean(format!("{} of {} requests name nobody ({})", e.missing, e.requests, e.rule));
    format!("{line}  {}  {rest}", paint.text(style, &clean(e.alarm.clone())))
}

fn health(e: &HealthEvent, paint: Paint) -> String {
    let style = if e.health == "up" { Style::Good } else { Style::Bad };
    let clean = |text: String| text.replace(char::is_control, "?");
    let name = clean(format!("{}/{}", e.service, e.instance));
    let state = paint.text(style, &format!("{:<6}", e.health));
    format!("{}  health   {name:<42}  {state}  {}", clean(e.at.clone()), clean(e.text.clone()))
}

fn text(e: &Event, paint: Paint) -> String {
    let style = if e.arm == ArmName::Gray { Style::Warn } else { Style::Good };
    let arm = paint.text(style, &format!("{:<6}", e.arm.name()));
    let line =
        format!("{}  {:<7}  {:<3}  {:<12}  {:<21}  ", e.at, e.path.name(), e.proto, e.service, e.client,);
    let rest = format!(
        "  {:<20}  {} ({})",
        e.instance.as_deref().unwrap_or("-"),
        e.rule.as_deref().unwrap_or("default"),
        e.reason
    );
    let clean = |text: String| text.replace(char::is_control, "?");
    format!("{}{arm}{}", clean(line), clean(rest))
}
