//! Which Maglev table lies where in the arena. The same content has one place, over subsets and both banks. A place
//! that nothing refers to any more is free only after a grace period: a preempted run may still look there.

use std::collections::{BTreeMap, HashSet};

use gray_common::{hash::mix, limits, slots::Slots};

use super::CompileError;

#[derive(Clone, Debug)]
struct Entry {
    slots: Slots,
    hash: u64,
    /// The kernel has this content. A table that a change has yet to write must not be shared before.
    written: bool,
    /// The round in which the last reference went.
    retired: Option<u64>,
}

#[derive(Clone, Debug, Default)]
pub struct Arena {
    entries: BTreeMap<u32, Entry>,
    by_hash: BTreeMap<(u64, u32), ()>,
    round: u64,
}

/// A place, and whether the content has yet to be written there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub offset: u32,
    pub fresh: bool,
}

impl Arena {
    /// Tables that the kernel has.
    pub fn holding(tables: impl IntoIterator<Item = (u32, Slots)>) -> Self {
        let mut a = Self::default();
        for (offset, slots) in tables {
            a.insert(offset, slots, true);
        }
        a
    }

    fn insert(&mut self, offset: u32, slots: Slots, written: bool) {
        let hash = hash(&slots);
        let _ = self.by_hash.insert((hash, offset), ());
        let _ = self.entries.insert(offset, Entry { slots, hash, written, retired: None });
    }

    pub fn tables(&self) -> impl Iterator<Item = (u32, &Slots)> {
        self.entries.iter().map(|(o, e)| (*o, &e.slots))
    }

    /// A place for a table that is not empty: where the content is already, or a gap. The fresh one is to be written
    /// and then told by [`Arena::written`].
    pub fn place(&mut self, slots: &Slots) -> Result<Place, CompileError> {
        self.find(slots, |_| true).map_or_else(|| self.put(slots), Ok)
    }

    /// The same for a table that is used at once: content that is not in the kernel yet does not count.
    pub fn place_now(&mut self, slots: &Slots) -> Result<Place, CompileError> {
        self.find(slots, |e| e.written).map_or_else(|| self.put(slots), Ok)
    }

    fn find(&mut self, slots: &Slots, fits: impl Fn(&Entry) -> bool) -> Option<Place> {
        let hash = hash(slots);
        let same = |o: &u32| self.entries.get(o).is_some_and(|e| e.slots == *slots && fits(e));
        let offset = self.by_hash.range((hash, 0)..=(hash, u32::MAX)).map(|((_, o), ())| *o).find(same)?;
        let entry = self.entries.get_mut(&offset)?;
        entry.retired = None;
        Some(Place { offset, fresh: !entry.written })
    }

    fn put(&mut self, slots: &Slots) -> Result<Place, CompileError> {
        let offset = self.gap(slots.words().len() as u32).ok_or(CompileError::ArenaFull)?;
        self.insert(offset, slots.clone(), false);
        Ok(Place { offset, fresh: true })
    }

    pub fn written(&mut self, offset: u32) {
        if let Some(e) = self.entries.get_mut(&offset) {
            e.written = true;
        }
    }

    /// The first gap of so many words. Tables that were found in a kernel may overlap: elements of the bank behind those of its policy are
    /// still what an earlier, larger policy has left there.
    fn gap(&self, len: u32) -> Option<u32> {
        let mut at = 0;
        for (offset, e) in &self.entries {
            if offset.saturating_sub(at) >= len {
                return Some(at);
            }
            at = at.max(offset.saturating_add(e.slots.words().len() as u32));
        }
        if at > limits::ARENA {
            return None;
        }
        (limits::ARENA - at >= len).then_some(at)
    }

    /// Everything else is referred to by nothing from now on. What no run can have seen is free at once.
    pub fn keep(&mut self, used: &HashSet<u32>) {
        let round = self.round;
        for (_, e) in self.entries.iter_mut().filter(|(o, _)| !used.contains(o)) {
            e.retired = e.retired.or(Some(round));
        }
        self.drop_where(|e| e.retired.is_some() && !e.written);
    }

    /// Begins a round. What was retired before it is free after the next grace period: see [`Arena::free`].
    pub fn turn(&mut self) -> u64 {
        self.round += 1;
        self.round
    }

    /// After a grace period that began after `round` did.
    pub fn free(&mut self, round: u64) {
        self.drop_where(|e| e.retired.is_some_and(|r| r < round));
    }

    fn drop_where(&mut self, gone: impl Fn(&Entry) -> bool) {
        let by_hash = &mut self.by_hash;
        self.entries.retain(|o, e| {
            let stays = !gone(e);
            if !stays {
                let _ = by_hash.remove(&(e.hash, *o));
            }
            stays
        });
    }

    /// Whether something waits for a grace period.
    pub fn untidy(&self) -> bool {
        self.entries.values().any(|e| e.retired.is_some())
    }
}

fn hash(slots: &Slots) -> u64 {
    slots.words().iter().fold(u64::from(slots.len()), |h, s| mix(h ^ u64::from(*s)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of so many words: all slots are of one member.
    fn table(fill: u32, words: usize) -> Slots {
        let slots = Slots::of(std::iter::repeat_n(fill, 4 * (words - 1)));
        assert_eq!(slots.words().len(), words);
        slots
    }

    #[test]
    fn the_same_content_has_one_place_once_it_is_there() {
        let mut a = Arena::holding([(0, table(1, 10)), (15, table(2, 10))]);
        assert_eq!(a.place(&table(2, 10)), Ok(Place { offset: 15, fresh: false }));
        assert_eq!(a.place(&table(3, 5)), Ok(Place { offset: 10, fresh: true }), "a gap that fits");
        assert_eq!(a.place(&table(4, 6)), Ok(Place { offset: 25, fresh: true }));
        assert_eq!(a.place(&table(3, 5)), Ok(Place { offset: 10, fresh: true }), "not written yet");
        assert_eq!(
            a.place_now(&table(3, 5)),
            Ok(Place { offset: 31, fresh: true }),
            "not shared before it is"
        );
        a.written(10);
        assert_eq!(a.place_now(&table(3, 5)), Ok(Place { offset: 10, fresh: false }));
    }

    /// As an agent finds them that starts after a large policy and smaller ones.
    #[test]
    fn h2_nothing_is_placed_over_tables_that_overlap() {
        let mut a =
            Arena::holding([(0, table(1, 30)), (5, table(2, 10)), (40, table(3, 10)), (45, table(4, 2))]);
        assert_eq!(a.place(&table(5, 11)).unwrap().offset, 50);
        assert_eq!(a.place(&table(6, 10)).unwrap().offset, 30, "a gap that fits");
        let mut a = Arena::holding([(limits::ARENA - 1, table(1, 2))]);
        assert_eq!(a.place(&table(2, limits::ARENA as usize)), Err(CompileError::ArenaFull));
    }

    #[test]
    fn a_place_is_free_after_a_grace_period_only() {
        let mut a = Arena::holding([(0, table(1, 10))]);
        a.keep(&HashSet::new());
        assert_eq!(a.place(&table(2, 10)).unwrap().offset, 10, "a run may still look at 0");
        let round = a.turn();
        a.written(10);
        a.keep(&HashSet::new());
        a.free(round);
        assert!(a.untidy());
        assert_eq!(a.place(&table(3, 10)).unwrap().offset, 0, "what went before the round is free");
        assert_eq!(a.place(&table(4, 2)).unwrap().offset, 20, "what went in it is not");
        assert_eq!(a.place(&table(2, 10)), Ok(Place { offset: 10, fresh: false }), "it is still there");
    }

    #[test]
    fn what_was_never_written_is_free_at_once_and_full_is_full() {
        let mut a = Arena::default();
        let whole = table(7, limits::ARENA as usize);
        assert_eq!(a.place(&whole).unwrap().offset, 0);
        assert_eq!(a.place(&table(1, 2)), Err(CompileError::ArenaFull));
        a.keep(&HashSet::new());
        assert_eq!(a.place(&table(1, 2)).unwrap().offset, 0);
    }
}
