//! Bucket ownership of weighted routes: a growing arm takes only from shrinking ones, so nobody moves who need not.

use std::collections::BTreeMap;

use gray_common::limits::BUCKETS;
use serde::{Deserialize, Serialize};

/// Which arm owns which of the 10 000 buckets: runs of (arm name, length), in bucket order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ownership(Vec<(String, u16)>);

impl Ownership {
    /// The next ownership under new weights (basis points, summing to 10 000). Arms are known by name; their order
    /// does not matter. Moves exactly as many buckets as the shrinking arms lose.
    pub fn next(&self, weights: &[(String, u16)]) -> Self {
        let mut owner: Vec<Option<&str>> = self.owners().into_iter().map(Some).collect();
        owner.resize(BUCKETS as usize, None);
        let mut want: BTreeMap<&str, usize> =
            weights.iter().map(|(n, w)| (n.as_str(), usize::from(*w))).collect();
        // Keep as much as the new weights allow, lowest buckets first, so that shrinking gives up the highest.
        for o in &mut owner {
            match o.and_then(|name| want.get_mut(name)).filter(|left| **left > 0) {
                Some(left) => *left -= 1,
                None => *o = None,
            }
        }
        let mut missing = want.into_iter().flat_map(|(name, left)| std::iter::repeat_n(name, left));
        for o in &mut owner {
            if o.is_none() {
                *o = missing.next();
            }
        }
        Self::from_owners(owner.into_iter().flatten())
    }

    fn from_owners<'a>(owners: impl Iterator<Item = &'a str>) -> Self {
        let mut runs: Vec<(String, u16)> = Vec::new();
        for o in owners {
            match runs.last_mut() {
                Some((name, n)) if name == o => *n += 1,
                _ => runs.push((o.to_string(), 1)),
            }
        }
        Self(runs)
    }

    /// The arm of every bucket.
    pub fn owners(&self) -> Vec<&str> {
        self.0.iter().flat_map(|(n, len)| std::iter::repeat_n(n.as_str(), usize::from(*len))).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn w(list: &[(&str, u16)]) -> Vec<(String, u16)> {
        list.iter().map(|(n, w)| (n.to_string(), *w)).collect()
    }

    fn count(o: &Ownership, name: &str) -> usize {
        o.owners().iter().filter(|n| **n == name).count()
    }

    #[test]
    fn shares_are_exact_at_every_step() {
        for bp in [0u16, 1, 100, 500, 5000, 9999, 10_000] {
            let o = Ownership::default().next(&w(&[("gray", bp), ("stable", 10_000 - bp)]));
            assert_eq!((count(&o, "gray"), count(&o, "stable")), (usize::from(bp), usize::from(10_000 - bp)));
        }
    }

    /// Three weights that sum to 10 000.
    fn three() -> impl Strategy<Value = [u16; 3]> {
        (0u16..=10_000, 0u16..=10_000).prop_map(|(a, b)| {
            let (lo, hi) = (a.min(b), a.max(b));
            [lo, hi - lo, 10_000 - hi]
        })
    }

    proptest! {
        /// B2 for weights: with three arms in any order, an arm that does not shrink keeps all its buckets.
        #[test]
        fn growth_moves_nobody_out(steps in prop::collection::vec((three(), 0usize..3), 1..6)) {
            let names = ["1.0", "1.1", "2.0"];
            let mut o = Ownership::default();
            for (weights, turn) in steps {
                let mut list: Vec<(String, u16)> = (0..3).map(|i| (names[i].to_string(), weights[i])).collect();
                list.rotate_left(turn);
                let next = o.next(&list);
                let (before, after) = (o.owners(), next.owners());
                prop_assert_eq!(after.len(), 10_000);
                for (i, name) in names.iter().enumerate() {
                    prop_assert_eq!(count(&next, name), usize::from(weights[i]));
                    let had = count(&o, name);
                    let kept = before.iter().zip(&after).filter(|(b, a)| **b == *name && **a == *name).count();
                    prop_assert_eq!(kept, had.min(usize::from(weights[i])), "{} lost buckets it could keep", name);
                }
                o = next;
            }
        }
    }
}
