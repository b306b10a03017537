//! What links and tags cost who has nothing of them, or dials: a message of a socket of no workload's while some workload has a link, and `connect(2)` with a
//! tag that is written, or written and read, against none.

mod dialler;

use anyhow::{Result, ensure};

use super::compare::{at_most, point, show};
use super::outcome::{Plot, Row, Series, Table};
use super::ping::{PingSpec, Pinger};
use super::rounds::{Rounds, abba};
use super::{Options, Outcome, stats};
use crate::agent::{Agent, AgentSpec};
use crate::cgroup::Cgroup;
use crate::command::note;
use crate::policy::PolicyText;
use crate::world::{World, WorldSpec};
use dialler::{Caller, Dialler};

const HOW: &str = "Messages: one process on one core has both ends of a connection of loopback, and sends 64 bytes there and back, 10 000 times a slice; the \
connection is made anew for each slice, in a cgroup that no label is of. Some other workload has a link, or has it no more: between slices the agent \
is told. `connect(2)`: a caller whose cgroup is labelled with a lane dials a service over an edge, in a world where tags are written and believed and in one \
without; each is one process on one core that times the call alone and resets the connection. On the node the connect path steers it and its SYN says the tag; \
in a network namespace of its own the edge reads that tag, and the lane is decided by it. Without tags the same call is steered to stable, by as many steps.";

const MESSAGE: f64 = 1.05;
const TAGS: f64 = 1.03;

pub fn run(o: &Options) -> Result<Outcome> {
    let mut out = Outcome::new("links", "Links and tags: what others pay");
    out.how = HOW.into();
    note("  messages");
    let messages = messages(o)?;
    let mut dialled = Vec::new();
    for caller in Caller::ALL {
        note(&format!("  connect(2), {}", caller.name()));
        dialled.push(dial(o, caller)?);
    }
    let ways = Caller::ALL.iter().zip(&dialled);
    out.tables =
        vec![table("A message on a socket of nobody's", ["no link", "a workload has a link"], &messages)];
    out.tables.extend(
        ways.clone()
            .map(|(c, found)| table(&format!("`connect(2)`: {}", c.name()), ["no tags", c.tagged()], found)),
    );
    out.bars = vec![at_most("a message while a workload has a link: time", ratio(&messages), MESSAGE)];
    out.bars.extend(
        ways.map(|(c, found)| {
            at_most(&format!("connect(2), {}: time with tags", c.name()), ratio(found), TAGS)
        }),
    );
    out.plots = vec![drawn(&messages, &dialled)];
    out.notes = vec![messages.quiet("Messages")];
    out.notes
        .extend(Caller::ALL.iter().zip(&dialled).map(|(c, f)| f.quiet(&format!("connect(2), {}", c.name()))));
    Ok(out)
}

/// With it, to without.
fn ratio(found: &Rounds<f64>) -> stats::Median {
    found.ratio(1, 0, |ns| *ns)
}

fn messages(o: &Options) -> Result<Rounds<f64>> {
    let world = World::build(WorldSpec { clients: 0, ..WorldSpec::default() })?;
    let [linked, nobody] = ["linked", "nobody"].map(|name| world.callers.child(name));
    let (linked, nobody) = (linked?, std::sync::Arc::new(nobody?));
    let spec = AgentSpec { attach: Vec::new(), args: vec!["--tags".into()], ..AgentSpec::of(&world) };
    let agent = Agent::start_with(&world, spec)?;
    let _ = agent.apply(&PolicyText::own(&world).lane("gray", "web: { version: \"2.0\" }").to_string())?;
    let rounds = if o.quick { 2_000 } else { 10_000 };
    let place = world.edge_place().in_cgroup(&nobody);
    let mut pinger = Pinger::start(&place, PingSpec { rounds, bytes: 64 })?;
    let mut now = None;
    abba(if o.quick { 2 } else { 30 }, 2, |path| {
        if now.replace(path) != Some(path) {
            link(&agent, &linked, path == 1)?;
        }
        pinger.slice()
    })
}

/// As told: it is in force, or what it needs is taken off.
fn link(agent: &Agent, cgroup: &Cgroup, on: bool) -> Result<()> {
    let path = cgroup.path().to_string_lossy().into_owned();
    let args = ["workload", "set", "linked", "--cgroup", &path];
    let more: &[&str] = if on { &["--link", "thread"] } else { &[] };
    let _ = agent.gray_ok(&[&args[..], more].concat())?;
    let programs = agent.gray_json(&["status"])?["connect"]["programs"].to_string();
    ensure!(programs.contains("links") == on, "a link that is {on}: {programs}");
    Ok(())
}

fn dial(o: &Options, caller: Caller) -> Result<Rounds<f64>> {
    let mut both = Vec::new();
    for tags in [false, true] {
        both.push(Dialler::start(caller, tags, if o.quick { 100 } else { 1000 })?);
    }
    let found = abba(if o.quick { 2 } else { 60 }, both.len(), |path| both[path].slice())?;
    both.into_iter().try_for_each(Dialler::finish)?;
    Ok(found)
}

fn table(title: &str, labels: [&str; 2], found: &Rounds<f64>) -> Table {
    let row = |path: usize| {
        let ns = found.median(path, |ns| *ns);
        let more = stats::median(&stats::differences(&found.each(path, |s| *s), &found.each(0, |s| *s)));
        let ratio = found.ratio(path, 0, |ns| *ns);
        let values = [
            ("ns_median", ns.median),
            ("ns_more", more.median),
            ("ratio_median", ratio.median),
            ("ratio_low", ratio.low),
            ("ratio_high", ratio.high),
        ];
        Row {
            label: labels[path].into(),
            cells: vec![
                format!("{:.0}", ns.median),
                format!("{:.0} ({:.0} .. {:.0})", more.median, more.low, more.high),
                show(ratio),
            ],
            values: values.map(|(k, v)| (k.to_owned(), v)).into(),
        }
    };
    Table {
        title: title.into(),
        columns: ["", "ns", "ns more", "of without"].map(Into::into).into(),
        rows: (0..2).map(row).collect(),
    }
}

fn drawn(messages: &Rounds<f64>, dialled: &[Rounds<f64>]) -> Plot {
    let mut categories = vec!["a message, link in force".to_owned()];
    categories.extend(Caller::ALL.iter().map(|c| format!("connect(2), {}", c.name())));
    let all = std::iter::once(messages).chain(dialled);
    Plot {
        name: "links".into(),
        title: "Links and tags against none".into(),
        y: "times that of without (less is better)".into(),
        categories,
        series: vec![Series {
            name: "time".into(),
            points: all.enumerate().map(|(x, f)| point(x, ratio(f))).collect(),
        }],
        ..Plot::default()
    }
}
