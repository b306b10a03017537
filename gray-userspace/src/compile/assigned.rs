//! Numbers that must survive a policy change: who has which slot in counters, bits and instance tables, and which arm
//! owns which bucket. Kept with every revision.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{CompileError, weights::Ownership};

/// Everything that a revision hands down to the next one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Assigned {
    pub services: Numbers,
    pub rules: Numbers,
    pub lists: Numbers,
    pub instances: Numbers,
    pub lanes: Lasting,
    /// By rule name.
    pub weights: BTreeMap<String, Ownership>,
}

/// Names with small numbers. A number that falls free rests for one revision, because the other bank may still use it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Numbers {
    used: BTreeMap<String, u32>,
    resting: BTreeMap<String, u32>,
}

impl Numbers {
    /// The numbers for the next revision: those of `names` keep theirs (also out of rest), new ones get the smallest
    /// free number in `first..limit`. A number that is out of that range or somebody else's, which only a damaged
    /// revision has, counts as none.
    pub fn next<'a>(
        &self,
        what: &'static str,
        names: impl IntoIterator<Item = &'a str>,
        first: u32,
        limit: u32,
    ) -> Result<Self, CompileError> {
        let mut next = Self::default();
        let mut fresh = BTreeSet::new();
        let mut given = BTreeMap::new();
        for name in names {
            let had = self.used.get(name).or_else(|| self.resting.get(name));
            let good = |n: &&u32| (first..limit).contains(*n) && *given.entry(**n).or_insert(name) == name;
            match had.filter(good) {
                Some(n) => drop(next.used.insert(name.to_string(), *n)),
                None => drop(fresh.insert(name)),
            }
        }
        for (name, n) in &self.used {
            if !next.used.contains_key(name) {
                let _ = next.resting.insert(name.clone(), *n);
            }
        }
        let taken: BTreeSet<u32> = next.used.values().chain(next.resting.values()).copied().collect();
        let mut free = (first..limit).filter(|n| !taken.contains(n));
        for name in fresh {
            let n = free.next().ok_or(CompileError::Limit { what, limit: limit - first })?;
            let _ = next.used.insert(name.to_string(), n);
        }
        Ok(next)
    }

    /// Names that have their numbers already.
    pub fn taken(named: impl IntoIterator<Item = (String, u32)>) -> Self {
        Self { used: named.into_iter().collect(), resting: BTreeMap::new() }
    }

    pub fn get(&self, name: &str) -> Option<u32> {
        self.used.get(name).copied()
    }

    /// The name of a number, also of a resting one: counters may still show it.
    pub fn name(&self, number: u32) -> Option<&str> {
        self.used.iter().chain(&self.resting).find(|(_, n)| **n == number).map(|(name, _)| name.as_str())
    }

    /// Those that `was`, the revision before, gave to nobody or to another name: what was counted under them is not theirs.
    pub fn fresh(&self, was: &Self) -> Vec<u32> {
        let had = |name: &String| was.used.get(name).or_else(|| was.resting.get(name));
        self.used.iter().filter(|(name, n)| had(name) != Some(n)).map(|(_, n)| *n).collect()
    }

    /// The resting ones, too.
    pub fn with_resting(&self) -> impl Iterator<Item = (&str, u32)> {
        self.used.iter().chain(&self.resting).map(|(k, v)| (k.as_str(), *v))
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, u32)> {
        self.used.iter().map(|(k, v)| (k.as_str(), *v))
    }
}

/// Names with numbers from 1 on that are never given to another name: other nodes may still say them. A name that comes
/// back gets its own again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lasting(BTreeMap<String, u32>);

impl Lasting {
    /// The numbers for the next revision, those of names that are gone included. A number that is not below `limit` or
    /// somebody else's, which only a damaged revision has, counts as none.
    pub fn next<'a>(
        &self,
        what: &'static str,
        names: impl IntoIterator<Item = &'a str>,
        limit: u32,
    ) -> Result<Self, CompileError> {
        let mut taken = BTreeSet::new();
        let good = |(_, n): &(&String, &u32)| (1..limit).contains(*n) && taken.insert(**n);
        let mut next: BTreeMap<String, u32> =
            self.0.iter().filter(good).map(|(name, n)| (name.clone(), *n)).collect();
        let mut free = (1..limit).filter(|n| !taken.contains(n));
        // In the order of names: nodes that see the same policies give the same numbers.
        for name in names.into_iter().collect::<BTreeSet<_>>() {
            if !next.contains_key(name) {
                let n = free.next().ok_or(CompileError::Spent { what, limit: limit - 1 })?;
                let _ = next.insert(name.to_string(), n);
            }
        }
        Ok(Self(next))
    }

    pub fn get(&self, name: &str) -> Option<u32> {
        self.0.get(name).copied()
    }

    pub fn name(&self, number: u32) -> Option<&str> {
        self.0.iter().find(|(_, n)| **n == number).map(|(name, _)| name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freed_number_rests_for_one_revision() {
        let a = Numbers::default().next("x", ["a", "b"], 1, 10).unwrap();
        assert_eq!((a.get("a"), a.get("b")), (Some(1), Some(2)));
        let b = a.next("x", ["b", "c"], 1, 10).unwrap();
        assert_eq!((b.get("b"), b.get("c"), b.name(1)), (Some(2), Some(3), Some("a")));
        assert_eq!(b.with_resting().collect::<Vec<_>>(), [("b", 2), ("c", 3), ("a", 1)]);
        let back = b.next("x", ["a", "c"], 1, 10).unwrap();
        assert_eq!(back.get("a"), Some(1));
        let d = b.next("x", ["c", "d"], 1, 10).unwrap();
        assert_eq!(d.get("d"), Some(1));
        assert_eq!((b.fresh(&a), back.fresh(&b), d.fresh(&b)), (vec![3], vec![], vec![1]));
    }

    #[test]
    fn a_number_that_cannot_be_is_given_anew() {
        let before =
            Numbers::taken([("a", 7), ("b", 7), ("c", 9), ("d", 0), ("e", 2)].map(|(n, i)| (n.into(), i)));
        let next = before.next("x", ["a", "b", "c", "d", "e", "a"], 1, 9).unwrap();
        assert_eq!(
            ["a", "b", "c", "d", "e"].map(|n| next.get(n)),
            [Some(7), Some(1), Some(3), Some(4), Some(2)]
        );
    }

    #[test]
    fn e1_a_lane_keeps_its_number_for_ever() {
        let next = |l: &Lasting, names: &[&str]| l.next("lanes", names.iter().copied(), 5).unwrap();
        let a = next(&Lasting::default(), &["blue", "azure"]);
        assert_eq!((a.get("azure"), a.get("blue")), (Some(1), Some(2)), "in the order of names");
        let gone = (0..3).fold(a, |l, _| next(&l, &[]));
        let b = next(&gone, &["green"]);
        assert_eq!(b.get("green"), Some(3), "not the number of one that is gone");
        let back = next(&b, &["blue"]);
        assert_eq!((back.get("blue"), back.name(1)), (Some(2), Some("azure")));
        let full = next(&back, &["red"]);
        let e = full.next("lanes", ["one-more"], 5).unwrap_err();
        assert_eq!(
            e.to_string(),
            "all 4 numbers of lanes were given to names already; take back one of the older names"
        );
        assert_eq!(next(&full, &["azure", "red"]), full, "those that have one go on");
    }

    #[test]
    fn a_lane_whose_number_cannot_be_gets_another() {
        let damaged = [("a", 7), ("b", 7), ("c", 0), ("d", 9), ("e", 65_536)];
        let damaged = Lasting(damaged.map(|(n, i)| (n.into(), i)).into());
        let next = damaged.next("lanes", ["a", "b", "c", "d", "e"], 65_536).unwrap();
        assert_eq!(
            ["a", "b", "c", "d", "e"].map(|n| next.get(n)),
            [Some(7), Some(1), Some(2), Some(9), Some(3)]
        );
    }

    #[test]
    fn a_full_range_is_refused_with_its_limit() {
        let e = Numbers::default().next("lists", ["a", "b", "c"], 0, 2).unwrap_err();
        assert_eq!(e.to_string(), "the policy needs more than 2 lists");
    }
}
