//! The findings as tables, bars, plots and words.

use std::collections::BTreeMap;

use super::{
    Figures, Findings,
    fresh::{self, Size},
    plan, ring,
    rounds::{self, Plan},
    rows::Pace,
};
use crate::bench::{
    Outcome,
    outcome::{Bar, Plot, Point, Row, Series, Table},
    stats,
};

/// The row that bars are about.
const BAR_ROW: &str = "IPv4 TCP address and port, 4096 flows";
/// ... and others: the most that an established packet may cost, ns, by the row's label.
const LIMITS: [(&str, f64); 3] = [
    (BAR_ROW, 150.0),
    ("IPv4 TCP translated, to the instance, 4096 flows", 300.0),
    ("IPv4 TCP translated, to the client, 4096 flows", 300.0),
];

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
    for (label, limit) in LIMITS {
        let is_it = |r: &&Figures| r.label == label && r.pace == Pace::BackToBack;
        o.bars.extend(all.rows.iter().find(is_it).map(|f| bar(f, limit)));
    }
    o.plots.push(flows(all));
    o.plots.push(sizes_of_policy(all));
    o.bars.extend(flat(all));
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
         checksums and redirect; where connections of the request path are translated, with other sequence numbers and timestamps; what comes out of a call is checked byte by byte), so that the program runs on flow \
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

fn bar(f: &Figures, limit: f64) -> Bar {
    let (median, low, high) = range(&f.measured.net(1));
    Bar {
        what: format!("established packet, tc, {}, back to back, net of an empty program", f.label),
        bar: format!("<= {limit:.0} ns"),
        measured: format!("{} ns", cell((median, low, high))),
        met: !f.measured.void && median <= limit,
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

/// A new flow by what grows.
fn sizes_of_policy(all: &Findings) -> Plot {
    let of = |name: &str, size: fn(&Size) -> Option<f64>| {
        let sizes = fresh::sizes(all.quick);
        let at = sizes.iter().filter_map(|s| Some((size(s)?, figures(all, &s.to_string())?)));
        Series { name: name.into(), points: at.map(|(x, f)| Point { x, ..point(0, f) }).collect() }
    };
    let identities = |s: &Size| match s {
        Size::Identities { identities, rules: 10 } => Some(f64::from(*identities)),
        _ => None,
    };
    let rules = |s: &Size| match s {
        Size::Identities { identities: 1000, rules } => Some(*rules as f64),
        _ => None,
    };
    let prefixes = |s: &Size| if let Size::Prefixes(n) = s { Some(f64::from(*n)) } else { None };
    let services = |s: &Size| if let Size::Services(n) = s { Some(f64::from(*n)) } else { None };
    Plot {
        name: "packet-sizes".into(),
        title: "First packet of a flow: decided, two entries made".into(),
        x: "identities, prefixes, services or rules".into(),
        y: "ns net of an empty program".into(),
        series: vec![
            of("identities", identities),
            of("prefixes", prefixes),
            of("services", services),
            of("rules", rules),
        ],
        log_x: true,
        ..Plot::default()
    }
}

fn figures<'a>(all: &'a Findings, label: &str) -> Option<&'a Figures> {
    all.rows.iter().find(|f| f.label == label)
}

/// What must not grow: a new flow with the rules or the prefixes, an established one with anything.
fn flat(all: &Findings) -> Vec<Bar> {
    let established = BAR_ROW.to_owned();
    let beside = all.rows.iter().map(|f| f.label.clone()).find(|l| l.contains("beside")).unwrap_or_default();
    let rules = |rules| Size::Identities { identities: 1000, rules }.to_string();
    let pairs = [
        ("new flow, the most rules of a service to one", rules(1), rules(fresh::MOST_RULES), 2.0),
        (
            "new flow, a million prefixes to a thousand",
            Size::Prefixes(1000).to_string(),
            Size::Prefixes(1_000_000).to_string(),
            2.0,
        ),
        (
            "established flow, beside a million identities and 100000 prefixes to beside none",
            established,
            beside,
            1.1,
        ),
    ];
    let bar = |(what, small, large, limit): (&str, String, String, f64)| {
        let (small, large) = (figures(all, &small)?, figures(all, &large)?);
        let ratio = range(&large.measured.net(1)).0 / range(&small.measured.net(1)).0;
        Some(Bar {
            what: what.into(),
            bar: format!("<= {limit:.2} x"),
            measured: format!("{ratio:.2} x"),
            met: !small.measured.void && !large.measured.void && ratio <= limit,
        })
    };
    pairs.into_iter().filter_map(bar).collect()
}
