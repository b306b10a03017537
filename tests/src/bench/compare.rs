//! Paths side by side under one load: the table, the bars and the points of a plot. It measures nothing.

use std::collections::BTreeMap;

use super::outcome::{Bar, Point, Row, Table};
use super::rounds::Rounds;
use super::stats::Median;

/// What one slice of a path found.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Units of work per second.
    pub rate: f64,
    /// CPU time of a unit, of the whole machine.
    pub cpu: f64,
    /// Latency; NaN where there is none.
    pub p50_us: f64,
    pub p99_us: f64,
}

/// A load, and what its units are called.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub title: &'static str,
    /// Heads of the columns of `rate` and `cpu`.
    pub rate: &'static str,
    pub cpu: &'static str,
    /// Name of the figures for programs: `requests_per_second`, `cpu_us_per_request`.
    pub rate_key: &'static str,
    pub cpu_key: &'static str,
    /// How figures are rounded.
    pub decimals: usize,
    pub latency: bool,
}

/// A load's samples of all paths; the first one is the baseline.
#[derive(Debug)]
pub struct Compared {
    pub load: Load,
    pub paths: Vec<&'static str>,
    pub rounds: Rounds<Sample>,
}

/// `0.981 (0.972 .. 0.990)`
pub fn show(m: Median) -> String {
    format!("{:.3} ({:.3} .. {:.3})", m.median, m.low, m.high)
}

impl Compared {
    pub fn table(&self, baseline: &str) -> Table {
        let of = format!("of {baseline}");
        let mut columns = vec!["path", self.load.cpu, &of, self.load.rate, &of];
        if self.load.latency {
            columns.extend(["p50 us", "p99 us"]);
        }
        let columns = columns.into_iter().map(Into::into).collect();
        Table {
            title: self.load.title.into(),
            columns,
            rows: (0..self.paths.len()).map(|p| self.row(p)).collect(),
        }
    }

    fn row(&self, path: usize) -> Row {
        let mut values = BTreeMap::new();
        let mut keep = |key: &str, m: Median| {
            for (part, value) in [("median", m.median), ("low", m.low), ("high", m.high)] {
                let _ = values.insert(format!("{key}_{part}"), value);
            }
            m
        };
        let cpu = keep(self.load.cpu_key, self.rounds.median(path, |s| s.cpu));
        let cpu_ratio = keep("cpu_ratio", self.cpu_ratio(path));
        let rate = keep(self.load.rate_key, self.rounds.median(path, |s| s.rate));
        let rate_ratio = keep("rate_ratio", self.rate_ratio(path));
        let decimals = self.load.decimals;
        let mut cells = vec![
            format!("{:.2}", cpu.median),
            show(cpu_ratio),
            format!("{:.decimals$}", rate.median),
            show(rate_ratio),
        ];
        if self.load.latency {
            let p50 = keep("p50_us", self.rounds.median(path, |s| s.p50_us));
            let p99 = keep("p99_us", self.rounds.median(path, |s| s.p99_us));
            cells.extend([p50, p99].map(|m| format!("{:.0}", m.median)));
        }
        Row { label: self.paths[path].into(), cells, values }
    }

    pub fn rate_ratio(&self, path: usize) -> Median {
        self.rounds.ratio(path, 0, |s| s.rate)
    }

    pub fn cpu_ratio(&self, path: usize) -> Median {
        self.rounds.ratio(path, 0, |s| s.cpu)
    }

    /// `path`'s rate is at least `bar` of the baseline's. It is met when the interval's lower end is not more
    /// than 0.05 below the bar.
    pub fn bar(&self, path: usize, bar: f64) -> Bar {
        at_least(
            &format!("{}, {}: {}", self.paths[path], lower(self.load.title), self.load.rate),
            self.rate_ratio(path),
            bar,
        )
    }
}

/// A ratio that shall be `bar` at least.
pub fn at_least(what: &str, m: Median, bar: f64) -> Bar {
    Bar { what: what.into(), bar: format!(">= {bar:.2}"), measured: show(m), met: m.low >= bar - 0.05 }
}

/// A ratio that shall be `bar` at most.
pub fn at_most(what: &str, m: Median, bar: f64) -> Bar {
    Bar { what: what.into(), bar: format!("<= {bar:.2}"), measured: show(m), met: m.high <= bar + 0.05 }
}

pub fn point(x: usize, m: Median) -> Point {
    Point { x: x as f64, y: m.median, low: m.low, high: m.high }
}

fn lower(title: &str) -> String {
    let mut letters = title.chars();
    letters.next().map_or_else(String::new, |c| c.to_lowercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_holds_by_its_interval_not_by_its_median() {
        let m = Median { median: 0.99, low: 0.93, high: 1.02 };
        assert!(at_least("x", m, 0.97).met && at_most("x", m, 0.97).met);
        let wide = Median { median: 0.99, low: 0.91, high: 1.03 };
        assert!(!at_least("x", wide, 0.97).met && !at_most("x", wide, 0.97).met);
        assert_eq!(at_least("x", m, 0.97).measured, "0.990 (0.930 .. 1.020)");
    }
}
