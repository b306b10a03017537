//! Times of one kind, as the kernel's buckets have them.

use gray_common::wire::{TIME_BUCKETS, TIME_UNIT_NS};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::verdict::Histogram;

/// Counts by powers of two of 1024 ns: bucket i holds times from 2^i to below 2^(i+1) units. Written without the zeros at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Buckets(pub [u64; TIME_BUCKETS]);

/// What is shorter is not compared by how much: 2^12 units, 4 ms.
const SHORT: usize = 12;

impl Buckets {
    pub fn count(&self) -> u64 {
        self.0.iter().fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// What came after `base`, of which nothing is larger.
    pub(super) fn since(&self, base: &Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i].saturating_sub(base.0[i])))
    }

    /// Whether anything of it is smaller than it was.
    pub(super) fn is_less(&self, then: &Self) -> bool {
        self.0.iter().zip(then.0).any(|(now, then)| *now < then)
    }

    /// What the verdict compares. Half a millisecond is no worse than a quarter of one, and on a busy machine both are chance.
    pub(super) fn compared(&self) -> Histogram {
        let mut all = self.0;
        let short: u64 = all[..SHORT].iter().sum();
        all[..SHORT].fill(0);
        all[SHORT] += short;
        Histogram(all.to_vec())
    }

    /// The quantile `q`, milliseconds, as if times were spread evenly inside a bucket; `None`: there are none.
    pub fn quantile_ms(&self, q: f64) -> Option<f64> {
        let all = self.count();
        let mut below = 0.0;
        let want = q * all as f64;
        for (i, n) in self.0.iter().enumerate().filter(|(_, n)| **n != 0) {
            let n = *n as f64;
            if below + n >= want {
                let (start, end) = (if i == 0 { 0.0 } else { 2f64.powi(i as i32) }, 2f64.powi(i as i32 + 1));
                let units = start + (end - start) * ((want - below) / n);
                return Some(units * TIME_UNIT_NS as f64 / 1e6);
            }
            below += n;
        }
        None
    }
}

impl Serialize for Buckets {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let end = self.0.iter().rposition(|n| *n != 0).map_or(0, |i| i + 1);
        s.collect_seq(&self.0[..end])
    }
}

impl<'de> Deserialize<'de> for Buckets {
    /// What is behind the last bucket belongs to it.
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let all = Vec::<u64>::deserialize(d)?;
        let mut out = Self::default();
        for (i, n) in all.into_iter().enumerate() {
            let at = &mut out.0[i.min(TIME_BUCKETS - 1)];
            *at = at.saturating_add(n);
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(usize, u64)]) -> Buckets {
        let mut b = Buckets::default();
        pairs.iter().for_each(|(i, n)| b.0[*i] += n);
        b
    }

    #[test]
    fn f9_buckets_are_written_without_the_zeros_behind_them() {
        for b in [of(&[]), of(&[(0, 1)]), of(&[(3, 7), (27, 2)])] {
            let text = serde_json::to_string(&b).unwrap();
            assert_eq!(serde_json::from_str::<Buckets>(&text).unwrap(), b, "{text}");
        }
        assert_eq!(serde_json::to_string(&of(&[(2, 5)])).unwrap(), "[0,0,5]");
        assert_eq!(serde_json::from_str::<Buckets>(&format!("{:?}", vec![1; 40])).unwrap().0[27], 13);
    }

    #[test]
    fn f9_quantiles_lie_in_their_bucket() {
        let b = of(&[(10, 90), (17, 10)]);
        let (half, tail) = (b.quantile_ms(0.5).unwrap(), b.quantile_ms(0.99).unwrap());
        assert!((1.0..2.2).contains(&half) && (134.0..269.0).contains(&tail), "{half} {tail}");
        assert_eq!(of(&[]).quantile_ms(0.5), None);
    }

    /// What is below four milliseconds is one bucket.
    #[test]
    fn f9_what_is_short_is_all_alike() {
        assert_eq!(of(&[(3, 5), (11, 2), (14, 1)]).compared().0[12..15], [7, 0, 1]);
        assert!(of(&[(1, 2)]).is_less(&of(&[(1, 3)])) && !of(&[(1, 3)]).is_less(&of(&[(1, 3)])));
        assert_eq!(of(&[(1, 5)]).since(&of(&[(1, 3)])), of(&[(1, 2)]));
    }
}
