//! Whole frames through veth and the packet path: a generator, a path, a sink, all on one core.

pub(crate) mod shot;
mod stage;

use std::net::IpAddr;

use anyhow::{Context, Result};

use super::compare::{at_least, at_most};
use super::outcome::{Bar, Plot, Point, Row, Series, Table};
use super::rounds::{Rounds, abba};
use super::stats::Median;
use super::{Options, Outcome, core, stats};
use crate::packets::{
    land::LANDS,
    rig::{Routes, Spec, with_spec},
};
use stage::{FIRST, HOSTS, PATHS, Path, Stage};

const FLOWS: [u32; 3] = [64, 4096, 65_536];

pub fn run(options: &Options) -> Result<Outcome> {
    let (rounds, frames) = if options.quick { (4, 32_768) } else { (15, 65_536) };
    let mut o = Outcome::new("frames", "Whole frames through the packet path, one core");
    o.how = how(rounds, frames);
    for flows in FLOWS.into_iter().filter(|f| !options.quick || *f == 4096) {
        let found = measure(flows, rounds, frames)?;
        o.tables.push(table(flows, &found));
        o.notes.push(found.quiet(&format!("{flows} flows")));
        if flows == 4096 {
            o.plots.push(plot(&found));
            o.bars.extend(bars(&found));
        }
    }
    Ok(o)
}

fn measure(flows: u32, rounds: usize, frames: u32) -> Result<Rounds<f64>> {
    let mut hosts: Vec<IpAddr> =
        (0..HOSTS).map(|n| std::net::Ipv4Addr::from_bits(FIRST.to_bits() + n).into()).collect();
    hosts.push(LANDS[0].vip(0).ip());
    with_spec(
        &Spec { routes: Routes::Neighbours, flows: (flows * 4).max(131_072), hosts: &hosts, tags: false },
        |rig| {
            let _ = core::pin().context("pin to a core")?;
            let hz = rig.live.measure_ticks()?;
            rig.live.configure(|c| c.hz = hz);
            rig.apply_land(false);
            let mut stage = Stage::build(rig, flows)?;
            abba(rounds, PATHS.len(), |path| stage.measure(PATHS[path], frames))
        },
    )
}

fn how(rounds: usize, frames: u32) -> String {
    format!(
        "BPF_PROG_TEST_RUN with live frames: an XDP program lays the headers of every frame afresh, flow after flow, and \
         sends it into a veth pair; at its other end the frame meets the path under test, and goes on through a second \
         pair to an XDP program that checks where it is going, counts and drops. Generator, path and sink share one \
         core, so the time a frame takes is that of all three; the first path, dropped at once, is what the generator \
         and a veth take alone. {rounds} rounds, each path there and back with {frames} frames of 96 bytes. In every \
         run that counts all frames arrive at the right address and port, and the kept ones with right checksums and TTL. \
         Medians with their 95 % interval; differences and ratios are of the same round."
    )
}

fn at(path: Path) -> usize {
    PATHS.iter().position(|p| *p == path).unwrap_or_default()
}

fn cell(m: Median, digits: usize) -> String {
    format!("{:.digits$} ({:.digits$} .. {:.digits$})", m.median, m.low, m.high)
}

fn put(row: &mut Row, name: &str, m: Median, digits: usize) {
    row.cells.push(cell(m, digits));
    for (what, v) in [("median", m.median), ("low", m.low), ("high", m.high)] {
        let _ = row.values.insert(format!("{name}_{what}"), v);
    }
}

fn table(flows: u32, found: &Rounds<f64>) -> Table {
    let bare = found.each(at(Path::Redirect), |s| *s);
    let rows = PATHS.into_iter().enumerate().map(|(n, path)| {
        let mut row = Row { label: path.name().into(), ..Row::default() };
        let each = found.each(n, |s| *s);
        put(&mut row, "ns", stats::median(&each), 0);
        let rate: Vec<f64> = each.iter().map(|ns| 1000.0 / ns).collect();
        put(&mut row, "mpps", stats::median(&rate), 3);
        put(&mut row, "over_bare_ns", stats::median(&stats::differences(&each, &bare)), 0);
        put(&mut row, "rate_to_bare", stats::median(&stats::ratios(&bare, &each)), 3);
        row
    });
    let columns =
        ["path", "ns a frame", "million a second", "ns over the bare redirect", "rate to the bare redirect"];
    Table {
        title: format!("{flows} flows"),
        columns: columns.map(str::to_owned).into(),
        rows: rows.collect(),
    }
}

/// What may be lost of the rate of a redirect that asks nothing, and what a frame takes where kernels steer by themselves.
fn bars(found: &Rounds<f64>) -> [Bar; 3] {
    let ratio = |a: Path, b: Path| {
        let [a, b] = [a, b].map(|p| found.each(at(p), |s| *s));
        stats::median(&stats::ratios(&a, &b))
    };
    [
        at_least(
            "XDP, gray, 4096 flows: rate to XDP, redirected unseen",
            ratio(Path::BareXdp, Path::GrayXdp),
            0.85,
        ),
        at_least(
            "tc, gray, 4096 flows: rate to tc, redirected unseen",
            ratio(Path::Redirect, Path::Gray),
            0.90,
        ),
        at_most("tc, gray, 4096 flows: ns a frame, to nftables DNAT", ratio(Path::Gray, Path::Nft), 0.65),
    ]
}

fn plot(found: &Rounds<f64>) -> Plot {
    let points = (0..PATHS.len()).map(|n| {
        let m = found.median(n, |s| *s);
        Point { x: n as f64, y: m.median, low: m.low, high: m.high }
    });
    Plot {
        name: "frames".into(),
        title: "A frame from generator to sink, 4096 flows, one core".into(),
        x: String::new(),
        y: "ns".into(),
        series: vec![Series { name: "ns a frame".into(), points: points.collect() }],
        categories: PATHS.map(|p| p.name().to_owned()).into(),
        log_x: false,
    }
}
