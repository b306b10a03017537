//! What is promised of the request path, held against what was found.

use super::answers::Answers;
use super::path::Kind;
use crate::bench::compare::{Compared, Sample, at_most, show};
use crate::bench::outcome::Bar;
use crate::bench::stats::Median;

/// Of keep-alive, keep-alive with the edge apart, a connection per request, the same one at a time, bulk.
pub fn bars([alive, apart, each, alone, bulk]: &[Compared; 5], answers: &[Answers]) -> Vec<Bar> {
    let [gray, gray_each, haproxy] = [Kind::Gray, Kind::GrayEach, Kind::Haproxy].map(at);
    let fast = proxies().into_iter().max_by(|a, b| by(alive, *a, *b, |s| s.rate)).unwrap_or(haproxy);
    let cheap = proxies().into_iter().min_by(|a, b| by(apart, *a, *b, |s| s.cpu)).unwrap_or(haproxy);
    let prompt = proxies().into_iter().min_by(|a, b| by(alive, *a, *b, |s| s.p99_us)).unwrap_or(haproxy);
    let to = |c: &Compared, rival: usize, what: &str| {
        let title = c.load.title.to_lowercase();
        format!("{}, {title}: {what}, to that of {}", c.paths[gray], c.paths[rival])
    };
    vec![
        alive.bar(gray, 1.0),
        above(&to(alive, fast, "requests/s"), alive.rounds.ratio(gray, fast, |s| s.rate), 1.6),
        at_most(&to(apart, cheap, apart.load.cpu), apart.rounds.ratio(gray, cheap, |s| s.cpu), 0.55),
        below(&to(alive, prompt, "p99"), alive.rounds.ratio(gray, prompt, |s| s.p99_us), 1.0),
        each.bar(gray, 0.95),
        // In a closed loop it is the inverse of the rate.
        at_most(&to(alone, haproxy, "p50"), alone.rounds.ratio(gray, haproxy, |s| s.p50_us), 0.5),
        alive.bar(gray_each, 0.93),
        bulk.bar(gray, 0.98),
        none_wrong(answers),
    ]
}

fn at(kind: Kind) -> usize {
    Kind::ALL.iter().position(|k| *k == kind).unwrap_or_default()
}

fn proxies() -> [usize; 2] {
    [Kind::Haproxy, Kind::Lua].map(at)
}

fn by(c: &Compared, a: usize, b: usize, figure: fn(&Sample) -> f64) -> std::cmp::Ordering {
    c.rounds.median(a, figure).median.total_cmp(&c.rounds.median(b, figure).median)
}

/// The whole interval, and nothing forgiven.
fn above(what: &str, m: Median, bar: f64) -> Bar {
    Bar { what: what.into(), bar: format!(">= {bar:.2}, lower end"), measured: show(m), met: m.low >= bar }
}

fn below(what: &str, m: Median, bar: f64) -> Bar {
    Bar { what: what.into(), bar: format!("< {bar:.2}, upper end"), measured: show(m), met: m.high < bar }
}

/// Of gray's paths.
fn none_wrong(answers: &[Answers]) -> Bar {
    let ours = [Kind::Gray, Kind::GrayEach].map(|k| &answers[at(k)]);
    let (wrong, all) =
        (ours.iter().map(|a| a.wrong()).sum::<u64>(), ours.iter().map(|a| a.answered).sum::<u64>());
    Bar {
        what: "gray: requests misrouted, corrupted or lost".into(),
        bar: "0".into(),
        measured: format!("{wrong} of {all}"),
        met: wrong == 0 && all > 0,
    }
}
