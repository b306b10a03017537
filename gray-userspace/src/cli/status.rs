//! `gray status`.

use std::fmt::Write;

use super::{
    Failure,
    ctx::Ctx,
    table::{Cell, Paint, Style, Table},
    text::{count, duration, percent},
};
use crate::api::types::{AttachmentStatus, ServiceCounts, Status};

pub fn run(ctx: &mut Ctx<'_>) -> Result<(), Failure> {
    let status: Status = ctx.wait(ctx.client.get("/v1/status"))?;
    ctx.show(&status, text)
}

fn text(s: &Status, paint: Paint) -> String {
    let mut out = String::new();
    for (name, value) in head(s) {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{} {value}", paint.text(Style::Bold, &format!("{name:<8}")));
    }
    if let Some(e) = &s.state_dir_error {
        let _ = writeln!(out, "{} {}", paint.text(Style::Bold, "state   "), paint.text(Style::Bad, e));
    }
    if let Some(splice) = &s.splice {
        let at = match &splice.at[..] {
            [] => "nobody listens: run `gray splice`".into(),
            at => at.join(", "),
        };
        let _ = writeln!(out, "{} {at}", paint.text(Style::Bold, "splice  "));
    }
    out + "\n"
        + &attachments(s).render(paint, "interfaces attached")
        + "\n"
        + &services(s).render(paint, "services")
        + &alarms(s, paint)
        + &breakers(s, paint)
        + &health(s, paint)
        + &layers(s, paint)
        + &policy_dir(s, paint)
        + &links(s, paint)
        + "\n"
        + &counters(s).render(paint, "decisions yet")
}

fn head(s: &Status) -> [(&'static str, String); 5] {
    let p = &s.policy;
    let parts = [
        (p.services, "service"),
        (p.cohorts, "cohort"),
        (p.routes, "route"),
        (p.identities, "identity"),
        (p.prefixes, "prefix"),
        (p.rules, "rule"),
    ];
    let parts: Vec<_> = parts.into_iter().map(|(n, one)| count(n, one)).collect();
    let revision = s.revision.map_or_else(|| "no revision".into(), |r| format!("revision {r}"));
    let connect = match &s.connect {
        None => "off".into(),
        Some(c) => {
            let error = c.error.as_ref().map(|e| format!(": {e}")).unwrap_or_default();
            let programs = match &c.programs[..] {
                [] => String::new(),
                all => format!(" ({})", all.join(" ")),
            };
            let tags =
                c.tags_error.as_ref().map(|e| format!("; no tags are written: {e}")).unwrap_or_default();
            let uncounted = c.uncounted.as_ref().map(|e| format!("; not counted: {e}")).unwrap_or_default();
            let links = c.links_error.as_ref().map(|e| format!("; no calls follow their requests: {e}"));
            let links = links.unwrap_or_default();
            format!("{} at {}{programs}{error}{tags}{links}{uncounted}", c.state, c.cgroup.display())
        }
    };
    [
        (
            "agent",
            format!(
                "gray {}, abi {}, pid {}, up {}, kernel {}{}",
                s.version,
                s.abi,
                s.pid,
                duration(s.uptime_s),
                s.kernel,
                s.zone.as_ref().map(|z| format!(", zone {z}")).unwrap_or_default()
            ),
        ),
        ("policy", format!("{revision}, epoch {}: {}", s.epoch, parts.join(", "))),
        ("connect", connect),
        ("flows", format!("{} v4, {} v6, room for {} each", s.flows.v4, s.flows.v6, s.flows.capacity)),
        ("events", format!("{} lost", s.events_lost)),
    ]
}

fn attachments(s: &Status) -> Table {
    let mut t = Table::new(&["IFACE", "INDEX", "ROLE", "HOOK", "STATE", "SINCE", "ERROR"]);
    for a in &s.attachments {
        let style = match a.state.as_str() {
            "attached" => Style::Good,
            "failed" => Style::Bad,
            _ => Style::Warn,
        };
        t.row([
            a.iface.as_str().into(),
            a.ifindex.into(),
            a.role.as_str().into(),
            hook(a).as_deref().into(),
            Cell::styled(style, &*a.state),
            a.since.as_str().into(),
            a.error.as_deref().into(),
        ]);
    }
    t
}

/// `tcx + xdp (native)`, `tcx (veth: ...)`; nothing while not attached.
fn hook(a: &AttachmentStatus) -> Option<String> {
    let hook = a.hook.as_deref()?;
    Some(match (&a.xdp, &a.xdp_note) {
        (Some(mode), None) => format!("{hook} + xdp ({mode})"),
        (Some(mode), Some(note)) => format!("{hook} + xdp ({mode}; {note})"),
        (None, Some(note)) => format!("{hook} ({note})"),
        (None, None) => hook.into(),
    })
}

fn services(s: &Status) -> Table {
    // Of those of stable, by why they are not gray: what no service has is not shown.
    type Kept = (&'static str, fn(&ServiceCounts) -> Option<u64>);
    let kept: [Kept; 2] = [("IN SHADOW", |c| c.shadow), ("AGENT LOST", |c| c.agent_lost)];
    let kept = kept.into_iter().filter(|(_, of)| s.services.iter().any(|c| of(c).is_some()));
    let kept: Vec<_> = kept.collect();
    let heads: Vec<_> =
        ["SERVICE", "GRAY", "STABLE"].into_iter().chain(kept.iter().map(|(h, _)| *h)).collect();
    let mut t = Table::new(&heads);
    for c in &s.services {
        let mut row: Vec<Cell> = vec![c.service.as_str().into(), c.gray.into(), c.stable.into()];
        row.extend(kept.iter().map(|(_, of)| Cell::from(of(c))));
        t.cells(row);
    }
    t
}

/// Nothing while none is up.
fn alarms(s: &Status, paint: Paint) -> String {
    if s.alarms.is_empty() {
        return String::new();
    }
    let mut t = Table::new(&["ALARM", "RULE", "SINCE", "REQUESTS", "NAME NOBODY", "NOT DELIVERED"]);
    for a in &s.alarms {
        t.row([
            Cell::styled(Style::Bad, &*a.service),
            a.rule.as_str().into(),
            a.since.as_str().into(),
            a.requests.into(),
            a.missing.into(),
            a.error.as_deref().into(),
        ]);
    }
    "\n".to_owned() + &t.render(paint, "alarms")
}

/// Nothing where there is none.
fn breakers(s: &Status, paint: Paint) -> String {
    if s.breakers.is_empty() {
        return String::new();
    }
    let mut t = Table::new(&["BREAKER", "RULE", "STATE", "FAILURES", "OPENED", "KEPT"]);
    for b in &s.breakers {
        let style = if b.state == "closed" { Style::Good } else { Style::Bad };
        t.row([
            b.service.as_str().into(),
            b.rule.as_str().into(),
            Cell::styled(style, &*b.state),
            b.failures.into(),
            b.opens.into(),
            b.kept.into(),
        ]);
    }
    "\n".to_owned() + &t.render(paint, "breakers")
}

/// Nothing where no strategy chose tenants with a layer.
fn layers(s: &Status, paint: Paint) -> String {
    if s.layers.is_empty() {
        return String::new();
    }
    let mut t = Table::new(&["GRAY LAYER", "SIZE", "TENANTS", "OF", "FOR", "ROOM"]);
    for l in &s.layers {
        let room = if l.identities > l.room { Style::Bad } else { Style::Good };
        t.row([
            l.cohort.as_str().into(),
            percent(l.basis_points).into(),
            l.tenants.into(),
            l.of.into(),
            l.identities.into(),
            Cell::styled(room, l.room.to_string()),
        ]);
    }
    "\n".to_owned() + &t.render(paint, "gray layers")
}

/// Those whose calls do not follow their requests.
fn links(s: &Status, paint: Paint) -> String {
    let texts = s.links.iter().filter_map(|l| l.text.as_ref());
    texts.map(|text| format!("\n{}\n", paint.text(Style::Bad, text))).collect()
}

/// Nothing where no directory is followed.
fn policy_dir(s: &Status, paint: Paint) -> String {
    let Some(p) = &s.policy_dir else { return String::new() };
    let style = if p.state == "applied" { Style::Good } else { Style::Bad };
    let revision = p.revision.map_or_else(String::new, |r| format!(", revision {r}"));
    let mut out = format!(
        "\npolicy of {}: {} since {}, {}{revision}\n",
        p.dir.display(),
        paint.text(style, &p.state),
        p.since,
        count(p.files, "document"),
    );
    for problem in &p.problems {
        let _ = writeln!(out, "  {}", problem.replace(char::is_control, "?"));
    }
    if p.state != "applied" {
        out.push_str("  the policy before it stays in force\n");
    }
    out
}

/// Nothing where nothing is checked.
fn health(s: &Status, paint: Paint) -> String {
    let mut out = String::new();
    if let Some(e) = &s.health_error {
        let _ = writeln!(out, "\n{} {e}", paint.text(Style::Bad, "health: the tables cannot follow:"));
    }
    if s.health.is_empty() {
        return out;
    }
    let mut t = Table::new(&["HEALTH", "CHECK", "UP", "STARTING", "DOWN", "NEW", "WHAT"]);
    for h in &s.health {
        let style = match h.down {
            _ if h.kept => Style::Bad,
            0 => Style::Good,
            _ => Style::Warn,
        };
        t.row([
            Cell::styled(style, &*h.service),
            h.check.as_str().into(),
            h.up.into(),
            h.starting.into(),
            h.down.into(),
            h.new.into(),
            h.text.as_deref().into(),
        ]);
    }
    out + "\n" + &t.render(paint, "health checks")
}

fn counters(s: &Status) -> Table {
    let mut t = Table::new(&["REASON", "COUNT", "MEANING"]);
    for c in &s.counters {
        t.row([c.reason.as_str().into(), c.count.into(), c.doc.as_str().into()]);
    }
    t
}
