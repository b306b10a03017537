//! The exact identities that the kernel's table holds: each one's class in the epoch in force, and what is out of order.
//! Every operation costs what it changes, not what is there.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasherDefault, Hasher},
};

use gray_common::wire::{Class, Versioned};

use super::{have::Classes, lists::has};

/// Keys are hashes under a secret key already.
#[derive(Clone, Copy, Debug, Default)]
pub struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for b in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*b);
        }
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = n;
    }
}

/// By claim hash.
pub type ByHash<V> = HashMap<u64, V, BuildHasherDefault<AsIs>>;

#[derive(Clone, Debug, Default)]
pub struct Identities {
    /// Never class 0: absent is not there.
    class: ByHash<u32>,
    /// In the table, and on no list from the epoch in force on (perhaps again since).
    gone: Vec<u64>,
    /// Written for an epoch that never came: they would turn with the next one.
    ahead: Vec<u64>,
    /// Identities of each class. One that has lost its last stays until it is forgotten: the other bank may use it.
    count: BTreeMap<u32, u64>,
}

impl Identities {
    /// An entry as it was found in the table.
    pub fn found(&mut self, hash: u64, entry: Versioned, epoch: u64) {
        if entry.since > epoch {
            self.ahead.push(hash);
        }
        match entry.at(epoch) {
            0 => self.gone.push(hash),
            class => {
                let _ = self.class.insert(hash, class);
                *self.count.entry(class).or_default() += 1;
            }
        }
    }

    /// 0: on no list.
    pub fn class(&self, hash: u64) -> u32 {
        self.class.get(&hash).copied().unwrap_or(0)
    }

    pub fn len(&self) -> usize {
        self.class.len()
    }

    pub fn is_empty(&self) -> bool {
        self.class.is_empty()
    }

    /// Entries of the table, those to be forgotten included.
    pub fn entries(&self) -> usize {
        self.class.len() + self.gone.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = (u64, u32)> {
        self.class.iter().map(|(h, c)| (*h, *c))
    }

    pub fn reserve(&mut self, more: usize) {
        self.class.reserve(more);
    }

    /// Gives an identity its class from `next` on; the entry to write, if that changes anything.
    pub fn set(&mut self, hash: u64, class: u32, next: u64) -> Option<Versioned> {
        let old = if class == 0 {
            let old = self.class.remove(&hash).unwrap_or(0);
            if old != 0 {
                self.gone.push(hash);
            }
            old
        } else {
            self.class.insert(hash, class).unwrap_or(0)
        };
        if old == class {
            return None;
        }
        if let Some(n) = self.count.get_mut(&old) {
            *n -= 1;
        }
        if class != 0 {
            *self.count.entry(class).or_default() += 1;
        }
        Some(Versioned { since: next, old, new: class })
    }

    /// What would turn by itself with the next epoch, as it shall stay.
    pub fn put_back(&mut self, next: u64) -> Vec<(u64, Versioned)> {
        let ahead = std::mem::take(&mut self.ahead);
        let entry = |class| Versioned { since: next, old: class, new: class };
        ahead.into_iter().map(|h| (h, entry(self.class(h)))).collect()
    }

    /// What may be removed from the table, once nobody can see the epoch before.
    pub fn forget(&mut self) -> Vec<u64> {
        self.count.retain(|_, n| *n > 0);
        let mut gone = std::mem::take(&mut self.gone);
        gone.retain(|h| !self.class.contains_key(h));
        // What is on no list and ahead is among them.
        self.ahead.retain(|h| self.class.contains_key(h));
        gone
    }

    /// Classes that identities refer to, or did in the epoch before.
    pub fn classes(&self) -> impl Iterator<Item = u32> {
        self.count.keys().copied()
    }

    /// Identities on a list.
    pub fn count_on(&self, bit: u32, classes: &Classes) -> u64 {
        self.count.iter().filter(|(c, _)| has(&classes.get(**c), bit)).map(|(_, n)| n).sum()
    }

    pub fn is_on(&self, bit: u32, hash: u64, classes: &Classes) -> bool {
        has(&classes.get(self.class(hash)), bit)
    }

    /// Every identity on a list: a walk over all of them.
    pub fn on(&self, bit: u32, classes: &Classes) -> impl Iterator<Item = u64> {
        let with: Vec<u32> = self.count.keys().copied().filter(|c| has(&classes.get(*c), bit)).collect();
        self.class.iter().filter(move |(_, c)| with.contains(c)).map(|(h, _)| *h)
    }
}

/// The class of what is on other lists than one of `class`.
pub fn with(class: Class, bit: u32, on: bool) -> Class {
    let mut class = class;
    super::lists::set(&mut class, bit, on);
    class
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        compile::{
            Compiled,
            have::Have,
            lists::{Edit, Prefixes},
            plan::{Want, Wanted, Write, forget, plan},
        },
        datapath::{Datapath as _, Fake},
    };
    use gray_common::hash::HashKey;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Edit(u32, Vec<u64>, bool),
        /// All lists anew: these are on list 0, no other on any.
        All(Vec<u64>),
        /// An edit whose flip never comes; so many of its writes are made.
        Abandoned(u32, Vec<u64>, bool, usize),
        Tidy,
    }

    fn step() -> impl Strategy<Value = Step> {
        let hashes = || prop::collection::vec(0..9u64, 0..6);
        prop_oneof![
            4 => (0..3u32, hashes(), any::<bool>()).prop_map(|(b, h, on)| Step::Edit(b, h, on)),
            1 => hashes().prop_map(Step::All),
            2 => (0..3u32, hashes(), any::<bool>(), 0..4usize).prop_map(|(b, h, on, n)| Step::Abandoned(b, h, on, n)),
            1 => Just(Step::Tidy),
        ]
    }

    struct World {
        path: Fake,
        have: Have,
        compiled: Compiled,
    }

    impl World {
        fn steps(&mut self, identities: Wanted<'_>) -> Vec<Write> {
            let (revision, key) = (self.have.revision + 1, HashKey::default());
            let want = Want { revision, key, compiled: &self.compiled, identities, prefixes: None };
            plan(&mut self.have, &want).unwrap()
        }

        fn write(&mut self, steps: &[Write]) {
            steps.iter().for_each(|s| self.path.write(s).unwrap());
        }

        /// Bits by identity, as the data path answers.
        fn answers(&self) -> BTreeMap<u64, u64> {
            let t = &self.path.tables;
            let bits = |v: &Versioned| match v.at(t.control.epoch) {
                0 => 0,
                class => t.classes[&class].lists[0],
            };
            t.identities.iter().map(|(h, v)| (*h, bits(v))).filter(|(_, b)| *b != 0).collect()
        }
    }

    fn edit(bit: u32, hashes: &[u64], on: bool) -> Edit {
        let (hashes, none) = (hashes.to_vec(), Vec::new());
        let (on, off) = if on { (hashes, none) } else { (none, hashes) };
        Edit { bit, on, off, prefixes: Vec::new() }
    }

    proptest! {
        #[test]
        fn d1_edits_lead_where_they_say_and_abandoned_ones_nowhere(steps in prop::collection::vec(step(), 1..14)) {
            let mut w = World { path: Fake::default(), have: Have::default(), compiled: Compiled::default() };
            let mut model: BTreeMap<u64, u64> = BTreeMap::new();
            for step in &steps {
                match step {
                    Step::Edit(bit, hashes, on) => {
                        let steps = w.steps(Wanted::Edit(&edit(*bit, hashes, *on)));
                        let (flip, hidden) = steps.split_last().unwrap();
                        w.write(hidden);
                        prop_assert_eq!(&w.answers(), &model, "before the flip");
                        w.write(std::slice::from_ref(flip));
                        for h in hashes {
                            let bits = model.entry(*h).or_default();
                            if *on { *bits |= 1 << bit } else { *bits &= !(1 << bit) }
                        }
                        model.retain(|_, bits| *bits != 0);
                    }
                    Step::All(hashes) => {
                        let class = with(Class::default(), 0, true);
                        let all: ByHash<Class> = hashes.iter().map(|h| (*h, class)).collect();
                        let steps = w.steps(Wanted::All(&all));
                        w.write(&steps);
                        model = hashes.iter().map(|h| (*h, 1)).collect();
                    }
                    Step::Abandoned(bit, hashes, on, n) => {
                        let steps = w.steps(Wanted::Edit(&edit(*bit, hashes, *on)));
                        w.write(&steps[..(*n).min(steps.len() - 1)]);
                        w.have = w.path.read().unwrap();
                    }
                    Step::Tidy => {
                        if let Some(step) = forget(&mut w.have, &w.compiled, &Prefixes::default()) {
                            w.write(&[step]);
                        }
                    }
                }
                prop_assert_eq!(&w.answers(), &model, "{:?}", step);
                let ids = &w.have.identities;
                prop_assert!(ids.iter().map(|(h, _)| h).collect::<std::collections::BTreeSet<_>>().iter().eq(model.keys()));
                for bit in 0..3 {
                    let on = model.values().filter(|b| *b >> bit & 1 != 0).count();
                    prop_assert_eq!(ids.count_on(bit, &w.have.classes), on as u64);
                    prop_assert_eq!(ids.on(bit, &w.have.classes).count(), on);
                }
            }
            let steps = w.steps(Wanted::Same);
            w.write(&steps);
            prop_assert_eq!(&w.answers(), &model, "an epoch later");
            if let Some(step) = forget(&mut w.have, &w.compiled, &Prefixes::default()) {
                w.write(&[step]);
            }
            prop_assert!(w.path.tables.identities.keys().eq(model.keys()), "nothing is left over");
        }
    }
}
