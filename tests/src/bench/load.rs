//! A list of a million: from a file to the decision about its last id.

mod round;

use std::collections::BTreeMap;

use anyhow::Result;

use super::outcome::{Bar, Plot, Point, Row, Series, Table};
use super::stats::{self, Median};
use super::{Options, Outcome};
use round::Round;

const HOW: &str = "`gray cohort load NAME --file F` with ids in random order, one per line, a new agent and other ids each time. Live is when the \
kernel first decides for the last id of the file: a caller in a cgroup that is labelled with it dials every millisecond, and a program of the \
lab behind gray's notes the first dial that became 2.0's. Durable is when the transaction is on disk, as the agent's answer says. Both count \
from the start of the command. Requests of a client that is on no list (HTTP, a connection each) go on all the time; the ratio is their p99 \
during the load to that in the three seconds before. One more: `cohort add` of one id over the API's socket with the list resident, from the \
request to the flip.";

pub fn run(o: &Options) -> Result<Outcome> {
    let mut out = Outcome::new("load", "A million identities");
    out.how = HOW.into();
    let sizes: &[(usize, usize)] =
        if o.quick { &[(10_000, 1)] } else { &[(10_000, 5), (100_000, 5), (1_000_000, 5)] };
    let mut all = Vec::new();
    for (size, rounds) in sizes {
        let found: Vec<Round> = (0..*rounds)
            .map(|n| {
                crate::command::note(&format!("  {size} ids, {} of {rounds}", n + 1));
                round::run(*size, n)
            })
            .collect::<Result<_>>()?;
        all.push((*size, found));
    }
    report(&mut out, &all);
    Ok(out)
}

type Of = fn(&Round) -> f64;

/// Head, name for programs, what it is of a round.
type Column = (&'static str, &'static str, Of);

const COLUMNS: [Column; 9] = [
    ("live s", "live_s", |r| r.live_s),
    ("durable s", "durable_s", |r| r.durable_s),
    ("command s", "command_s", |r| r.command_s),
    ("peak MB", "peak_mb", |r| r.peak_mb),
    ("after MB", "rss_mb", |r| r.rss_mb),
    ("store MB", "store_mb", |r| r.store_mb),
    ("p99, ratio", "p99_ratio", |r| r.p99_ratio),
    ("one more, p50 ms", "add_p50_ms", |r| r.add_p50_ms),
    ("p99 ms", "add_p99_ms", |r| r.add_p99_ms),
];

fn median(rounds: &[Round], of: Of) -> Median {
    stats::median(&rounds.iter().map(of).collect::<Vec<_>>())
}

fn report(out: &mut Outcome, all: &[(usize, Vec<Round>)]) {
    let mut table = Table { title: "Median (range) of the rounds".into(), ..Table::default() };
    table.columns.push("ids".into());
    table.columns.extend(COLUMNS.map(|(head, ..)| head.to_owned()));
    for (size, rounds) in all {
        let mut row = Row { label: size.to_string(), ..Row::default() };
        for (_, key, of) in COLUMNS {
            let m = median(rounds, of);
            row.cells.push(format!("{:.2} ({:.2} .. {:.2})", m.median, m.low, m.high));
            let parts = [("median", m.median), ("low", m.low), ("high", m.high)];
            row.values.extend(
                parts.map(|(p, v)| (format!("{key}_{p}"), v)).into_iter().collect::<BTreeMap<_, _>>(),
            );
        }
        table.rows.push(row);
    }
    out.tables.push(table);
    let Some((size, largest)) = all.last() else { return };
    let bars: [(&str, f64, &str, Of); 4] = [
        ("from the file to live in the kernel", 2.0, "s", |r| r.live_s),
        ("from the file to durable in the store", 6.0, "s", |r| r.durable_s),
        ("p99 of live traffic during the load, to before", 1.3, "x", |r| r.p99_ratio),
        ("one more id with the list resident, request to flip, p50", 5.0, "ms", |r| r.add_p50_ms),
    ];
    for (what, bar, unit, of) in bars {
        let m = median(largest, of);
        out.bars.push(Bar {
            what: format!("{size} ids: {what}"),
            bar: format!("<= {bar} {unit}"),
            measured: format!("{:.2} {unit} ({:.2} .. {:.2})", m.median, m.low, m.high),
            met: m.median <= bar,
        });
    }
    let series = |name: &str, of: Of| {
        let points = all.iter().map(|(size, rounds)| {
            let m = median(rounds, of);
            Point { x: *size as f64, y: m.median, low: m.low, high: m.high }
        });
        Series { name: name.into(), points: points.collect() }
    };
    out.plots.push(Plot {
        name: "load".into(),
        title: "From the file to effect".into(),
        x: "ids".into(),
        y: "s".into(),
        series: vec![series("live", |r| r.live_s), series("durable", |r| r.durable_s)],
        log_x: true,
        ..Plot::default()
    });
}
