//! A subset's table as the arena has it: a byte for each slot, four to a word, then the members' numbers in `INSTANCES`, a word each. So a
//! slot takes a quarter of what a number takes, and a hundred thousand instances of a thousand services fit into 32 MB.

use crate::{decide::Tables, wire::Table};

/// Where a slot's byte is: word and shift.
#[inline(always)]
fn place(slot: u32) -> (u32, u32) {
    (slot >> 2, (slot & 3) << 3)
}

/// Words before the members' numbers.
#[inline(always)]
const fn packed(len: u32) -> u32 {
    len.wrapping_add(3) >> 2
}

/// The number of the instance in a slot of a table, which it has. `None`: the arena has a hole.
#[inline(always)]
pub fn number<T: Tables>(t: &T, table: Table, slot: u32) -> Option<u32> {
    let (word, shift) = place(slot);
    let member = t.arena(table.offset.wrapping_add(word))? >> shift & 0xff;
    t.arena(table.offset.wrapping_add(packed(table.len)).wrapping_add(member))
}

/// A whole table.
#[cfg(any(test, feature = "user"))]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slots {
    len: u32,
    words: Vec<u32>,
}

#[cfg(any(test, feature = "user"))]
impl Slots {
    /// Members that one table can have.
    pub const MEMBERS: usize = 256;

    /// Of an instance's number for each slot. Of more than [`Self::MEMBERS`], which no service has, the rest are the first.
    pub fn of(numbers: impl IntoIterator<Item = u32>) -> Self {
        let (mut members, mut words, mut len) = (Vec::new(), Vec::new(), 0);
        let mut known = std::collections::HashMap::new();
        for number in numbers {
            let member = *known.entry(number).or_insert_with(|| {
                if members.len() == Self::MEMBERS {
                    return 0;
                }
                members.push(number);
                members.len() as u32 - 1
            });
            let (word, shift) = place(len);
            if shift == 0 {
                words.push(0);
            }
            words[word as usize] |= member << shift;
            len += 1;
        }
        words.extend(members);
        Self { len, words }
    }

    /// What lies at a table's place. `read`: so many words from one on.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn found<E>(t: Table, read: impl Fn(u32, u32) -> Result<Vec<u32>, E>) -> Result<Self, E> {
        let mut words = read(t.offset, packed(t.len))?;
        let byte = |slot| {
            let (word, shift) = place(slot);
            words.get(word as usize).map_or(0, |w| w >> shift & 0xff)
        };
        let members = (0..t.len).map(byte).max().map_or(0, |last| last + 1);
        words.extend(read(t.offset.saturating_add(packed(t.len)), members)?);
        Ok(Self { len: t.len, words })
    }

    /// Slots.
    pub fn len(&self) -> u32 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// As they lie in the arena.
    pub fn words(&self) -> &[u32] {
        &self.words
    }

    /// The table that they are at a place of the arena.
    pub fn at(&self, offset: u32) -> Table {
        Table { offset, len: self.len }
    }

    /// The number of the instance in each slot; 0 where the arena had a hole.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = u32> {
        let word = |i: u32| self.words.get(i as usize).copied().unwrap_or(0);
        (0..self.len).map(move |slot| {
            let (at, shift) = place(slot);
            word(packed(self.len) + (word(at) >> shift & 0xff))
        })
    }

    /// The instances that have a slot.
    pub fn members(&self) -> &[u32] {
        self.words.get(packed(self.len) as usize..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{decide::mem::MemTables, limits, maglev};

    proptest! {
        #[test]
        fn what_is_packed_comes_back_for_userland_and_for_programs(
            numbers in proptest::collection::vec(0u32..256, 0..600),
            offset in 0u32..100,
        ) {
            let slots = Slots::of(numbers.iter().copied());
            prop_assert_eq!(slots.iter().collect::<Vec<_>>(), numbers.clone());
            let mut t = MemTables::default();
            t.arena.extend((offset..).zip(slots.words().iter().copied()));
            let table = slots.at(offset);
            for (slot, wanted) in (0..).zip(&numbers) {
                prop_assert_eq!(number(&t.view(), table, slot), Some(*wanted));
            }
            let read = |at: u32, n: u32| Ok::<_, ()>((at..at + n).map(|i| t.arena[&i]).collect());
            prop_assert_eq!(Slots::found(table, read), Ok(slots));
        }
    }

    #[test]
    fn a_member_too_many_has_no_slots() {
        let slots = Slots::of(1000..1000 + 257);
        assert_eq!((slots.members().len(), slots.iter().last()), (256, Some(1000)));
    }

    /// A thousand services, three subsets of a hundred instances each, in 64 MB with the instances themselves.
    #[test]
    fn the_arena_has_room_for_a_thousand_services() {
        let names: Vec<String> = (0..100).map(|i| format!("198.18.2.{i}:80")).collect();
        let all: Vec<(&str, u32)> = names.iter().map(|n| (n.as_str(), 100)).collect();
        let one = Slots::of(maglev::build(&all, maglev::table_len(100)));
        assert!(one.len() >= 100 * 100 && one.members().len() == 100);
        assert!(3000 * one.words().len() < limits::ARENA as usize);
        let instances = limits::INSTANCES as usize * size_of::<crate::wire::Instance>();
        assert!(limits::ARENA as usize * 4 + instances <= 64 << 20);
        assert!(limits::INSTANCES as usize >= 1000 * Slots::MEMBERS);
    }
}
