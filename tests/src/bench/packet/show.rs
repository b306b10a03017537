//! The findings as tables, bars, plots and words.

use std::collections::BTreeMap;

use super::{
    Figures, Findings, plan, ring,
    rounds::{self, Plan},
    rows::Pace,
};
use crate::bench::{
    Outcome,
    outcome::{Bar, Plot, Point, Row, Series, Table},
    stats,
};

const LIMIT: f64 = 150.0;
/// The row that the bar is about.
const BAR_ROW: &str = "IPv4 TCP address and port, 4096 flows";

/// Median, smallest and largest.
pub(super) fn range(values: &[f64]) -> (f64, f64, f64) {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    (stats::median(values).median, low, high)
}

pub(super) fn cell((median, low, high): (f64, f64, f64)) -> String {
    format!("{median:.0} ({low:.0} .. {high:.0})")
}

pub fn outcome(all: &Findings) -> Outcome {
    let mut o = Outcome::new("packet", "One packet in the packet path, nanoseconds");
    o.how = how(plan(Pace::BackToBack, all.quick), plan(Pace::OneACall, all.quick));
    let titles = [
        (Pace::BackToBack, "Established flows back to back, net of an empty program"),
        (Pace::OneACall, "One packet a system call, net of an empty program"),
    ];
    o.tables.extend(titles.map(|(pace, title)| times(all, pace, title)));
    o.tables.push(sizes(all));
    let bar_row = |r: &&Figures| r.label == BAR_ROW && r.pace == Pace::BackToBack;
    o.bars.extend(all.rows.iter().filter(bar_row).map(bar));
    o.plots.push(flows(all));
    o.plots.push(identities(all));
    let void: Vec<&str> = all.rows.iter().filter(|r| r.measured.void).map(|r| r.label.as_str()).collect();
    if !void.is_empty() {
        let rows = void.join("; ");
        o.notes.push(format!("Void, the empty program varied too much in each of three tries: {rows}."));
    }
    o
}

fn how(many: Plan, one: Plan) -> String {
    format!(
        "The real programs and maps with a policy in force and next hops known, behind BPF_PROG_TEST_RUN, one process \
         on one core; the programs and an empty one take turns. **Back to back**: {} runs a call. The flow table holds \
         a ring of established flows, each entry turns a packet into the next flow's (with a complete rewrite, \
         checksums and redirect; what comes out of a call is checked byte by byte), so that the program runs on flow \
         after flow, in an order that no prefetcher guesses, with nothing in between; {} calls a round. **One a call**: \
         `repeat` 1, a frame of the next flow for each call, {} calls a round; between two packets the system call and the \
         bench use the caches, too, which costs more with every cache line that the path touches. A round's figure is \
         the mean of the kernel's durations without the longest {:.0} %; shown is the median over {} rounds of the \
         difference to the empty program in the same round, with smallest and largest. A row is void, and said to be, \
         when the empty program's rounds spread over more than {:.0} % three times (and over more than {:.0} ns).",
        ring::REPEAT,
        many.calls,
        one.calls,
        rounds::TRIM * 100.0,
        many.rounds,
        rounds::SPREAD * 100.0,
        rounds::LEAST
    )
}

pub(super) fn times(all: &Findings, pace: Pace, title: &str) -> Table {
    let mut columns = vec!["packet".to_owned()];
    columns.extend(all.names.iter().skip(1).map(|n| format!("{n}, net ns")));
    columns.extend(all.names.iter().skip(2).map(|n| format!("gray less {n}, ns")));
    columns.push("empty, ns".into());
    let rows = all.rows.iter().filter(|r| r.pace == pace).map(|r| time(all, r)).collect();
    Table { title: title.into(), columns, rows }
}

fn time(all: &Findings, f: &Figures) -> Row {
    let mut row = Row { label: f.label.clone(), ..Row::default() };
    let mut put = |name: &str, values: &[f64]| {
        let (median, low, high) = range(values);
        for (what, v) in [("median", median), ("min", low), ("max", high)] {
            let _ = row.values.insert(format!("{name}_ns_{what}"), v);
        }
        row.cells.push(cell((median, low, high)));
    };
    for (who, name) in all.names.iter().enumerate().skip(1) {
        put(name, &f.measured.net(who));
    }
    for (who, name) in all.names.iter().enumerate().skip(2) {
        put(&format!("gray_less_{name}"), &stats::differences(&f.measured.ns[1], &f.measured.ns[who]));
    }
    put("empty", &f.measured.ns[0]);
    let void = f64::from(u8::from(f.measured.void));
    row.values.extend([("flows".to_owned(), f64::from(f.flows)), ("void".to_owned(), void)]);
    if f.measured.void {
        row.label += " (void)";
    } else if f.measured.tries > 1 {
        row.label += &format!(" (try {})", f.measured.tries);
    }
    row
}

fn sizes(all: &Findings) -> Table {
    let row = |(name, s): (&String, &super::Size)| Row {
        label: name.clone(),
        cells: vec![s.insns.to_string(), s.machine_bytes.to_string(), s.verified.to_string()],
        values: BTreeMap::from([
            ("insns".to_owned(), f64::from(s.insns)),
            ("machine_bytes".to_owned(), f64::from(s.machine_bytes)),
            ("verified_insns".to_owned(), f64::from(s.verified)),
        ]),
    };
    Table {
        title: "Size of the ingress program: what does not depend on the machine's speed".into(),
        columns: ["program", "instructions", "bytes of machine code", "instructions verified"]
            .map(str::to_owned)
            .into(),
        rows: all.names.iter().zip(&all.sizes).map(row).collect(),
    }
}

fn bar(f: &Figures) -> Bar {
    let (median, low, high) = range(&f.measured.net(1));
    Bar {
        what: format!("established packet, tc, {}, back to back, net of an empty program", f.label),
        bar: format!("<= {LIMIT:.0} ns"),
        measured: format!("{} ns", cell((median, low, high))),
        met: !f.measured.void && median <= LIMIT,
    }
}

fn point(x: u32, f: &Figures) -> Point {
    let (y, low, high) = range(&f.measured.net(1));
    Point { x: f64::from(x), y, low, high }
}

/// Of the rows whose labels begin so.
fn series(all: &Findings, name: &str, pace: Pace, label: &str) -> Series {
    let of = |f: &&Figures| f.pace == pace && f.label.starts_with(label);
    let mut points: Vec<Point> = all.rows.iter().filter(of).map(|f| point(f.flows, f)).collect();
    points.sort_by(|a, b| a.x.total_cmp(&b.x));
    Series { name: name.into(), points }
}

fn flows(all: &Findings) -> Plot {
    Plot {
        name: "packet-flows".into(),
        title: "Established packet, address and port rewritten".into(),
        x: "flows".into(),
        y: "ns net of an empty program".into(),
        series: vec![
            series(all, "IPv4, back to back", Pace::BackToBack, "IPv4 TCP address and port"),
            series(all, "IPv6, back to back", Pace::BackToBack, "IPv6 TCP address and port"),
            series(all, "IPv4, one a call", Pace::OneACall, "IPv4 TCP address and port"),
        ],
        log_x: true,
        ..Plot::default()
    }
}

fn identities(all: &Findings) -> Plot {
    let of = |rules: usize| Series {
        name: format!("{rules} rules"),
        points: super::fresh::sizes(all.quick)
            .into_iter()
            .filter(|s| s.rules == rules)
            .filter_map(|s| {
                let label = s.to_string();
                all.rows.iter().find(|f| f.label == label).map(|f| point(s.identities, f))
            })
            .collect(),
    };
    Plot {
        name: "packet-identities".into(),
        title: "First packet of a flow: decided, two entries made".into(),
        x: "identities".into(),
        y: "ns net of an empty program".into(),
        series: vec![of(10), of(64)],
        log_x: true,
        ..Plot::default()
    }
}
