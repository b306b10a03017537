//! The findings as tables, bars, plots and words.

use std::collections::BTreeMap;

use super::{Figures, Findings, rounds};
use crate::bench::{
    Outcome,
    outcome::{Bar, Row, Table},
    stats,
};

const LIMIT: f64 = 150.0;
/// The row that the bar is about, by the start of its label.
const BAR_ROW: &str = "IPv4 TCP, address and port, 4096 flows";

/// Median, smallest and largest.
fn range(values: &[f64]) -> (f64, f64, f64) {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    (stats::median(values).median, low, high)
}

fn cell((median, low, high): (f64, f64, f64)) -> String {
    format!("{median:.0} ({low:.0} .. {high:.0})")
}

pub fn outcome(all: &Findings, plan: rounds::Plan) -> Outcome {
    let mut o = Outcome::new("packet", "One packet in the packet path, nanoseconds");
    o.how = how(plan);
    o.tables.push(times(all));
    o.tables.push(sizes(all));
    o.bars.extend(all.rows.iter().filter(|r| r.label == BAR_ROW).map(bar));
    let void: Vec<&str> = all.rows.iter().filter(|r| r.measured.void).map(|r| r.label.as_str()).collect();
    if !void.is_empty() {
        o.notes.push(format!(
            "Void, the empty program varied too much in each of three tries: {}.",
            void.join("; ")
        ));
    }
    o
}

fn how(plan: rounds::Plan) -> String {
    format!(
        "The real programs and maps, a policy in force, next hops known; BPF_PROG_TEST_RUN with `repeat` 1, so that \
         each run gets its frame afresh and every run's verdict is checked. The programs and an empty one take turns of \
         256 runs in one process on one core; {} rounds of {} runs each. A round's figure is the mean of the kernel's \
         durations (which include reading the clock twice, hence the empty program) without the longest 1 %. Shown is \
         the median over the rounds of the difference to the empty program in the same round, with smallest and \
         largest. The flows of a row are visited in an order that no prefetcher guesses. A row is void, and said to \
         be, when the empty program's rounds spread over more than {:.0} % three times.",
        plan.rounds,
        plan.runs,
        rounds::SPREAD * 100.0
    )
}

fn times(all: &Findings) -> Table {
    let mut columns = vec!["packet".to_owned()];
    columns.extend(all.names.iter().skip(1).map(|n| format!("{n}, net ns")));
    columns.extend(all.names.iter().skip(2).map(|n| format!("gray less {n}, ns")));
    columns.push("empty, ns".into());
    Table {
        title: "Per packet, net of an empty program".into(),
        columns,
        rows: all.rows.iter().map(|r| time(all, r)).collect(),
    }
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
        what: "established packet, tc, IPv4 address and port, 4096 flows, net of an empty program".into(),
        bar: format!("<= {LIMIT:.0} ns"),
        measured: format!("{} ns", cell((median, low, high))),
        met: !f.measured.void && median <= LIMIT,
    }
}
