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
