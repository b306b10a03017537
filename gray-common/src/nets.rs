//! Classes of IPv4 prefixes, by address: each /16 is of one class, or has a block that says where in it the class changes.
//! What a lookup costs does not grow with the prefixes: one element of `NETS` (of the epoch's bank), then a binary search in one block of `BOUNDS`.
//! A trie's cost does: each prefix length that occurs is a step through memory.
//!
//! A block is a count, then so many words, sorted: the low half of the address from which on a class holds (upper 16 bits),
//! and the class. The first word's address is 0.

use crate::limits;

/// In an element: the whole /16 is of the class in the lower bits.
const WHOLE: u32 = 1 << 31;
/// A block has at most 65 536 words: so many halvings leave one.
const HALVINGS: u32 = 17;

const _: () = assert!(limits::CLASSES <= 1 << 16);

/// The element of a /16 that is of one class; 0: of none.
#[inline(always)]
pub fn whole(class: u32) -> u32 {
    if class == 0 { 0 } else { WHOLE | class }
}

/// The element of a /16 whose block begins at a word of `BOUNDS`.
#[inline(always)]
pub fn block(offset: u32) -> u32 {
    offset + 1
}

/// Where an element's block begins; `None`: it has none.
#[inline(always)]
pub fn offset(element: u32) -> Option<u32> {
    if element == 0 || element & WHOLE != 0 { None } else { Some(element - 1) }
}

/// A word of a block.
#[inline(always)]
pub fn word(low: u16, class: u32) -> u32 {
    (low as u32) << 16 | class & 0xffff
}

/// The class of an address whose /16 has this element; 0: of no list. `low`: the lower half of the address, in host order. `at`
/// reads a word of `BOUNDS`; `None`: one was not there.
#[inline(always)]
pub fn class(element: u32, low: u16, at: impl Fn(u32) -> Option<u32>) -> Option<u32> {
    let Some(offset) = offset(element) else { return Some(element & 0xffff) };
    let wanted = word(low, 0xffff);
    let (mut first, mut len) = (offset + 1, at(offset)?);
    let mut i = 0;
    while i < HALVINGS && len > 1 {
        let half = len >> 1;
        let later = at(first + half)? <= wanted;
        // No branch: it would be guessed wrong every other time.
        first += half & u32::from(later).wrapping_neg();
        len -= half;
        i += 1;
    }
    Some(at(first)? & 0xffff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(element: u32, words: &[u32], low: u16) -> Option<u32> {
        class(element, low, |i| words.get(i as usize).copied())
    }

    #[test]
    fn a5_a_whole_net_needs_no_block() {
        assert_eq!((of(whole(0), &[], 9), of(whole(65_535), &[], 9)), (Some(0), Some(65_535)));
        assert_eq!(of(block(3), &[0; 3], 9), None, "a block that is not there");
    }

    proptest! {
        #[test]
        fn a5_each_address_is_of_the_last_change_before_it(
            changes in prop::collection::btree_map(any::<u16>(), 0u32..65_536, 0..40),
            first in 0u32..65_536,
            at in 0usize..9,
            asked in prop::collection::vec(any::<u16>(), 20),
        ) {
            let mut changes = changes;
            let _ = changes.entry(0).or_insert(first);
            let mut words = vec![0xffff_ffff; at];
            words.push(changes.len() as u32);
            words.extend(changes.iter().map(|(low, class)| word(*low, *class)));
            for low in asked.into_iter().chain(changes.keys().copied()).chain([0, u16::MAX]) {
                let want = changes.range(..=low).next_back().map(|(_, class)| *class);
                prop_assert_eq!(of(block(at as u32), &words, low), want);
            }
        }

        /// 65 536 changes are searched to the end.
        #[test]
        fn a5_a_net_of_single_addresses(asked in any::<u16>()) {
            let words: Vec<u32> = [65_536].into_iter().chain((0..=u16::MAX).map(|low| word(low, u32::from(low ^ 0x5555)))).collect();
            prop_assert_eq!(of(block(0), &words, asked), Some(u32::from(asked ^ 0x5555)));
        }
    }
}
