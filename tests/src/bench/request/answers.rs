//! What became of all requests of a bench, those of discarded rounds included.

use std::collections::BTreeMap;

use crate::bench::outcome::{Row, Table};
use crate::client::crowd::CrowdReport;

/// Of one path.
#[derive(Debug)]
pub struct Answers {
    pub path: &'static str,
    pub answered: u64,
    pub misrouted: u64,
    pub corrupted: u64,
    pub lost: u64,
    first_fault: Option<String>,
}

impl Answers {
    pub fn new(path: &'static str) -> Self {
        Self { path, answered: 0, misrouted: 0, corrupted: 0, lost: 0, first_fault: None }
    }

    pub fn add(&mut self, r: &CrowdReport) {
        self.answered += r.answered;
        self.misrouted += r.misrouted;
        self.corrupted += r.corrupted;
        self.lost += r.lost;
        if self.first_fault.is_none() {
            self.first_fault = r.faults.first().cloned();
        }
    }

    pub fn wrong(&self) -> u64 {
        self.misrouted + self.corrupted + self.lost
    }

    pub fn note(&self) -> Option<String> {
        self.first_fault.as_ref().map(|f| format!("{}: the first fault: {f:?}", self.path))
    }
}

pub fn table(all: &[Answers]) -> Table {
    let row = |a: &Answers| {
        let counts = [a.answered, a.misrouted, a.corrupted, a.lost];
        let names = ["answered", "misrouted", "corrupted", "lost"].map(str::to_owned);
        Row {
            label: a.path.into(),
            cells: counts.map(|n| n.to_string()).into(),
            values: BTreeMap::from_iter(names.into_iter().zip(counts.map(|n| n as f64))),
        }
    };
    Table {
        title: "Every answer".into(),
        columns: ["path", "answered", "by another version", "corrupted", "lost"].map(str::to_owned).into(),
        rows: all.iter().map(row).collect(),
    }
}
