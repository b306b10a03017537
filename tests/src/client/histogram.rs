//! A histogram of latencies: log-linear buckets, as HdrHistogram has them. Every value is kept to 1/128 of itself, from
//! 1 ns to centuries, in a few KB; histograms add up. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Buckets in each power of two: 2^7.
const BITS: u32 = 7;

/// Counts by bucket; the JSON holds those that are not 0.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram {
    buckets: BTreeMap<u32, u64>,
    count: u64,
    sum: u64,
    max: u64,
}

impl Histogram {
    pub fn record(&mut self, value: u64) {
        *self.buckets.entry(bucket(value)).or_default() += 1;
        self.count += 1;
        self.sum = self.sum.saturating_add(value);
        self.max = self.max.max(value);
    }

    /// Adds another one's values.
    pub fn merge(&mut self, other: &Self) {
        for (bucket, n) in &other.buckets {
            *self.buckets.entry(*bucket).or_default() += n;
        }
        self.count += other.count;
        self.sum = self.sum.saturating_add(other.sum);
        self.max = self.max.max(other.max);
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    /// Exact.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// 0 for no values.
    pub fn mean(&self) -> u64 {
        self.sum.checked_div(self.count).unwrap_or(0)
    }

    /// Nearest rank, `percent` in 0..=100; the largest value of the bucket, as no value of it is above that. 0 for no values.
    pub fn percentile(&self, percent: f64) -> u64 {
        let rank = ((self.count as f64 * percent / 100.0).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        for (bucket, n) in &self.buckets {
            seen += n;
            if seen >= rank {
                return last(*bucket).min(self.max);
            }
        }
        0
    }
}

/// Values below 2^(BITS+1) have buckets of their own; above, each power of two is divided into 2^BITS.
fn bucket(value: u64) -> u32 {
    let shift = value.checked_ilog2().unwrap_or(0).saturating_sub(BITS);
    (shift << BITS) + (value >> shift) as u32
}

/// The largest value of a bucket.
fn last(bucket: u32) -> u64 {
    let shift = (bucket >> BITS).saturating_sub(1);
    let first = u64::from(bucket - (shift << BITS)) << shift;
    first + ((1_u64 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_touch_and_hold_their_values_to_one_part_in_128() {
        let mut from = 0_u64;
        for b in 0..=bucket(u64::MAX) {
            let to = last(b);
            assert_eq!((bucket(from), bucket(to)), (b, b));
            assert!(to - from <= from / 128, "{from}..={to}");
            from = to.wrapping_add(1);
        }
        assert_eq!(from, 0, "the last bucket ends with the last value");
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_values_whatever_the_order_of_the_merge() {
        let values: Vec<u64> = (1..=10_000_u64).map(|i| i * i % 7_919 * 1_000 + i).collect();
        let mut parts = [Histogram::default(), Histogram::default(), Histogram::default()];
        values.iter().enumerate().for_each(|(i, v)| parts[i % 3].record(*v));
        let [a, b, c] = &parts;
        let sum = |all: [&Histogram; 3]| {
            let mut sum = Histogram::default();
            all.iter().for_each(|h| sum.merge(h));
            sum
        };
        let h = sum([a, b, c]);
        assert_eq!(h, sum([c, a, b]));
        let mut sorted = values;
        sorted.sort_unstable();
        for (percent, rank) in [(0.0, 1), (50.0, 5_000), (99.0, 9_900), (99.99, 9_999), (100.0, 10_000)] {
            let (got, exact) = (h.percentile(percent), sorted[rank - 1]);
            assert!(got >= exact && got - exact <= exact / 128, "{percent}: {got}, exactly {exact}");
        }
        assert_eq!((h.count(), h.max()), (10_000, sorted[9_999]));
        let text = serde_json::to_string(&h).unwrap();
        assert_eq!(serde_json::from_str::<Histogram>(&text).unwrap(), h);
    }

    #[test]
    fn without_values_everything_is_0() {
        let h = Histogram::default();
        assert_eq!((h.count(), h.percentile(50.0), h.mean(), h.max()), (0, 0, 0, 0));
    }
}
