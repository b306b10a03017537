//! The connect path against dialling the instance: a caller on the node, no edge between.

mod caller;

use std::time::Duration;

use anyhow::{Result, ensure};

use super::compare::{Compared, Load, at_most, point, show};
use super::dial::{DialSpec, Target};
use super::hook::Watch;
use super::outcome::{Bar, Plot, Row, Series, Table};
use super::rounds::{Rounds, abba};
use super::turn::Turn;
use super::{Options, Outcome, slice, stats};
use caller::{Caller, Kind};

const HOW: &str = "A caller on the node and an instance (nginx, one worker) behind a veth pair. HTTP: `wrk -t1 -c64` in a cgroup, each case \
in a world of its own, rounds as in the bench `http`. `connect(2)`: one process, kept on one core, dials each case in turn; it times the \
call alone and resets the connection. A socket belongs to the cgroup it was made in, so that process moves between a cgroup without gray's \
hooks and one with them. Times of hooks are the kernel's own (`bpf_stats`), which add some 40 ns to each run.";

/// BPF_CGROUP_INET4_CONNECT
const CONNECT4: u32 = 10;

pub fn run(o: &Options) -> Result<Outcome> {
    let mut out = Outcome::new("connect", "Callers on the node: the connect path");
    out.how = HOW.into();
    let callers = Kind::ALL.into_iter().map(Caller::build).collect::<Result<Vec<_>>>()?;
    let http =
        [compare(o, &callers, slice::KEEP_ALIVE, false)?, compare(o, &callers, slice::PER_REQUEST, true)?];
    let steered = &callers[1];
    let tcp = dial(o, steered, false)?;
    let udp = dial(o, steered, true)?;
    out.tables = http.iter().map(|c| c.table("direct")).collect();
    out.tables.push(calls(&tcp, &udp));
    let (table, runs) = hooks(o, steered)?;
    out.tables.push(table);
    out.bars = vec![http[0].bar(1, 0.99), http[1].bar(1, 0.96)];
    out.bars.push(at_most("connect(2) to a service, TCP: time of the call", tcp.ratio(1, 0, |s| *s), 1.10));
    out.bars.extend(runs);
    out.plots = vec![drawn(&http, &tcp)];
    out.notes = http.iter().map(|c| c.rounds.quiet(c.load.title)).collect();
    out.notes.push(tcp.quiet("connect(2)"));
    Ok(out)
}

fn compare(o: &Options, callers: &[Caller], load: Load, close: bool) -> Result<Compared> {
    crate::command::note(&format!("  {}", load.title));
    let rounds = if o.quick { 1 } else { 30 };
    let found = abba(rounds, callers.len(), |c| {
        let c = &callers[c];
        let url = format!("http://{}/", c.dialled());
        slice::requests(o, &c.world.caller(), c.world.temp(), &url, close)
    })?;
    Ok(Compared { load, paths: callers.iter().map(|c| c.kind.name()).collect(), rounds: found })
}

fn spec(o: &Options, c: &Caller, udp: bool) -> DialSpec {
    let target = |kind| {
        let (cgroup, address) = match kind {
            Kind::Direct => (c.outsiders.path(), c.instance()),
            Kind::Steered => (c.world.callers.path(), c.service()),
            Kind::NotOurs => (c.world.callers.path(), c.instance()),
        };
        Target { cgroup: cgroup.to_path_buf(), address }
    };
    let rounds = if o.quick { 2 } else { 60 };
    DialSpec { targets: Kind::ALL.map(target).into(), udp, rounds, calls: 1000, pause_ms: 20 }
}

/// Time of `connect(2)`, ns, without CPU time and without the rest of a request.
fn dial(o: &Options, c: &Caller, udp: bool) -> Result<Rounds<f64>> {
    let _turn = Turn::wait()?;
    spec(o, c, udp).run(&c.world.edge_place())
}

fn calls(tcp: &Rounds<f64>, udp: &Rounds<f64>) -> Table {
    let row = |(proto, found, path): (&str, &Rounds<f64>, usize)| {
        let ns = found.median(path, |s| *s);
        let more = stats::median(&stats::differences(&found.each(path, |s| *s), &found.each(0, |s| *s)));
        let ratio = found.ratio(path, 0, |s| *s);
        let values = [("ns_median", ns.median), ("ns_more", more.median), ("ratio_median", ratio.median)];
        let values = values.into_iter().chain([("ratio_low", ratio.low), ("ratio_high", ratio.high)]);
        Row {
            label: format!("{proto}: {}", Kind::ALL[path].name()),
            cells: vec![
                format!("{:.0}", ns.median),
                format!("{:.0} ({:.0} .. {:.0})", more.median, more.low, more.high),
                show(ratio),
            ],
            values: values.map(|(k, v)| (k.to_owned(), v)).collect(),
        }
    };
    let cases = [("TCP", tcp), ("UDP", udp)].into_iter().flat_map(|(n, f)| (0..3).map(move |p| (n, f, p)));
    Table {
        title: "`connect(2)` itself".into(),
        columns: ["call", "ns", "ns more than direct", "of direct"].map(Into::into).into(),
        rows: cases.map(row).collect(),
    }
}

/// What the kernel says of the hook; and that it runs once a call, and never for what is sent on a connection.
fn hooks(o: &Options, c: &Caller) -> Result<(Table, Vec<Bar>)> {
    let _turn = Turn::wait()?;
    let hooked = c.world.callers.path();
    let (mut rows, mut once) = (Vec::new(), true);
    for (label, udp, target) in
        [("a service, TCP", false, 1), ("a service, UDP", true, 1), ("not a service, TCP", false, 2)]
    {
        let mut s = spec(o, c, udp);
        // So few that none is measured again: the calls are counted.
        (s.targets, s.rounds) = (vec![s.targets.swap_remove(target)], 4);
        // There and back, and one slice to warm up.
        let calls = u64::from(s.calls) * (2 * s.rounds as u64 + 1);
        let watch = Watch::cgroup(hooked, CONNECT4)?;
        let _ = s.run(&c.world.edge_place())?;
        let seen = watch.since()?;
        once &= seen.runs == calls;
        let ns = seen.ns as f64 / seen.runs as f64;
        rows.push(Row {
            label: label.into(),
            cells: vec![format!("{calls}"), format!("{}", seen.runs), format!("{ns:.0}")],
            values: [("calls", calls as f64), ("runs", seen.runs as f64), ("ns", ns)]
                .map(|(k, v)| (k.to_owned(), v))
                .into(),
        });
    }
    let watch = Watch::cgroup(hooked, CONNECT4)?;
    let time = Duration::from_millis(if o.quick { 200 } else { 1000 });
    let url = format!("http://{}/", c.service());
    let sent =
        crate::client::wrk::run(&c.world.caller(), c.world.temp(), &url, slice::CONNECTIONS, time, false)?;
    let seen = watch.since()?;
    ensure!(seen.runs > 0, "the connect path is not attached");
    // wrk tries each address once before it begins.
    let extra = seen.runs.abs_diff(slice::CONNECTIONS as u64 + 1);
    let table = Table {
        title: "The hook on `connect`".into(),
        columns: ["dialled", "calls", "runs", "ns per run"].map(Into::into).into(),
        rows,
    };
    let bars = vec![
        Bar {
            what: "the hook's runs for each connect(2)".into(),
            bar: "1".into(),
            measured: if once { "1".into() } else { "not 1".into() },
            met: once,
        },
        Bar {
            what: format!(
                "the hook's runs for {} requests on {} connections",
                sent.requests,
                slice::CONNECTIONS
            ),
            bar: "as many as connections".into(),
            measured: format!("{}", seen.runs),
            met: extra == 0,
        },
    ];
    Ok((table, bars))
}

fn drawn(http: &[Compared], tcp: &Rounds<f64>) -> Plot {
    let series = |path: usize| {
        let mut points: Vec<_> = http.iter().enumerate().map(|(x, c)| point(x, c.cpu_ratio(path))).collect();
        points.push(point(http.len(), tcp.ratio(path, 0, |s| *s)));
        Series { name: Kind::ALL[path].name().into(), points }
    };
    let mut categories: Vec<String> = http.iter().map(|c| format!("{}: CPU time", c.load.title)).collect();
    categories.push("connect(2): time".into());
    Plot {
        name: "connect".into(),
        title: "The connect path against dialling the instance".into(),
        y: "times that of direct (less is better)".into(),
        categories,
        series: (0..Kind::ALL.len()).map(series).collect(),
        ..Plot::default()
    }
}
