//! What the two arms did in one window, as counters: the verdict's input.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One arm's counters over a window. Both arms name the same kinds and metrics at every look, also those at 0: the level is
/// divided among them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Connections, or requests: whatever the failures are counted of.
    pub attempts: u64,
    /// Failed attempts by kind (`reset`, `timeout`, ..).
    #[serde(default)]
    pub failures: BTreeMap<String, u64>,
    /// Times by metric (`handshake`, `first_byte`, ..).
    #[serde(default)]
    pub histograms: BTreeMap<String, Histogram>,
}

/// Counts by power of two: bucket i holds values of 2^i up to below 2^(i+1), of any unit; bucket 0 those below 2. What is
/// behind bucket 63 belongs to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram(pub Vec<u64>);

pub const BUCKETS: usize = 64;

impl Sample {
    /// What was counted since `earlier`. Counters that are smaller began anew.
    pub fn since(&self, earlier: &Self) -> Self {
        let less = |now: &BTreeMap<String, u64>, then: &BTreeMap<String, u64>| {
            let of =
                |(name, n): (&String, &u64)| (name.clone(), grown(*n, then.get(name).copied().unwrap_or(0)));
            now.iter().map(of).collect()
        };
        let none = Histogram::default();
        let histogram = |(name, now): (&String, &Histogram)| {
            (name.clone(), now.since(earlier.histograms.get(name).unwrap_or(&none)))
        };
        Self {
            attempts: grown(self.attempts, earlier.attempts),
            failures: less(&self.failures, &earlier.failures),
            histograms: self.histograms.iter().map(histogram).collect(),
        }
    }

    /// Failures of all kinds; an attempt that failed in two ways counts twice, up to the number of attempts.
    pub fn failed(&self) -> u64 {
        self.failures.values().fold(0u64, |sum, n| sum.saturating_add(*n)).min(self.attempts)
    }
}

fn grown(now: u64, then: u64) -> u64 {
    now.checked_sub(then).unwrap_or(now)
}

impl Histogram {
    fn since(&self, earlier: &Self) -> Self {
        let then = |i: usize| earlier.0.get(i).copied().unwrap_or(0);
        Self(self.0.iter().enumerate().map(|(i, n)| grown(*n, then(i))).collect())
    }

    /// Exactly 64 buckets.
    pub(super) fn buckets(&self) -> [u64; BUCKETS] {
        let mut all = [0u64; BUCKETS];
        for (i, n) in self.0.iter().enumerate() {
            let at = &mut all[i.min(BUCKETS - 1)];
            *at = at.saturating_add(*n);
        }
        all
    }
}
