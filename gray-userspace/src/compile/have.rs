//! What the kernel's tables hold now, as far as the plan must know it. Read from the data path, then kept up to date
//! by the writes that were applied.

use std::collections::{BTreeMap, HashMap, HashSet};

use gray_common::{
    filter::Filter,
    hash::HashKey,
    limits,
    slots::Slots,
    wire::{Class, Instance, ListenerKey, PrefixKey, Subset, Versioned},
};

use super::{CompileError, identities::Identities, nets::Nets, plan::Write};

/// The tables of a data path.
#[derive(Clone, Debug, Default)]
pub struct Have {
    pub epoch: u64,
    pub revision: u64,
    pub key: HashKey,
    pub listeners: BTreeMap<ListenerKey, Versioned>,
    pub lanes: BTreeMap<u32, Versioned>,
    pub identities: Identities,
    /// Of IPv6.
    pub prefixes: BTreeMap<PrefixKey, Versioned>,
    pub nets: Nets,
    pub instances: BTreeMap<u32, Instance>,
    /// The active bank's, from the first.
    pub subsets: Vec<Subset>,
    /// Maglev tables of the active bank, by their offset in the arena.
    pub tables: Vec<(u32, Slots)>,
    pub filter: Box<Filter>,
    pub classes: Classes,
}

/// Interned sets of lists. Index 0 is the empty set and never written.
#[derive(Clone, Debug, Default)]
pub struct Classes {
    index: HashMap<Class, u32>,
    content: BTreeMap<u32, Class>,
    /// Given to the plan that is being made, which may not refer to them yet.
    fresh: HashSet<u32>,
}

impl Classes {
    pub fn get(&self, index: u32) -> Class {
        self.content.get(&index).copied().unwrap_or_default()
    }

    pub fn insert(&mut self, index: u32, class: Class) {
        if index != 0 && class != Class::default() {
            let _ = self.index.insert(class, index);
            let _ = self.content.insert(index, class);
        }
    }

    pub fn index(&self, class: &Class) -> Option<u32> {
        if *class == Class::default() { Some(0) } else { self.index.get(class).copied() }
    }

    fn smallest_free(&self) -> Option<u32> {
        // Dense from 1 unless something was dropped.
        let n = self.content.len() as u32 + 1;
        if n < limits::CLASSES && !self.content.contains_key(&n) {
            return Some(n);
        }
        (1..limits::CLASSES).find(|i| !self.content.contains_key(i))
    }

    /// The plan is made.
    pub(super) fn settle(&mut self) {
        self.fresh.clear();
    }

    fn keep(&mut self, used: &HashSet<u32>) {
        self.content.retain(|i, _| used.contains(i));
        self.index.retain(|_, i| used.contains(i));
    }
}

impl Have {
    /// The index of a class; a new one is interned and told to `write`. What nothing refers to any more makes room.
    pub fn class(&mut self, class: Class, write: &mut Vec<Write>) -> Result<u32, CompileError> {
        if let Some(i) = self.classes.index(&class) {
            let _ = self.classes.fresh.insert(i);
            return Ok(i);
        }
        let free = self.classes.smallest_free().or_else(|| {
            let used = |v: &Versioned| [v.old, v.new];
            let prefixes = self.prefixes.values().flat_map(used).chain(self.nets.classes());
            let fresh = self.classes.fresh.iter().copied();
            let all = self.identities.classes().chain(prefixes).chain(fresh).collect();
            self.classes.keep(&all);
            self.classes.smallest_free()
        });
        let index = free.ok_or(CompileError::Classes)?;
        self.classes.insert(index, class);
        let _ = self.classes.fresh.insert(index);
        write.push(Write::Class { index, class });
        Ok(index)
    }
}
