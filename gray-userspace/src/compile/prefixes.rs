//! IPv6 prefixes over two epochs. The trie answers the longest match only: an entry that is absent in one of the two
//! would hide the wider one that covers it there. So it carries that one's answer, and both policies stay whole.

use std::collections::{BTreeMap, BTreeSet};

use gray_common::wire::{PrefixKey, Versioned};

use super::lists::covers;

/// The entries to write so that `want` (classes, wider prefixes included) holds from `next` on and nothing changes
/// before; `have` is brought to the state after them.
pub fn differences(
    have: &mut BTreeMap<PrefixKey, Versioned>,
    want: &BTreeMap<PrefixKey, u32>,
    next: u64,
) -> Vec<(PrefixKey, Versioned)> {
    let keys: BTreeSet<PrefixKey> = have.keys().chain(want.keys()).copied().collect();
    let mut keys: Vec<PrefixKey> = keys.into_iter().collect();
    // Address first, then wide before narrow: a covering prefix stands before all that it covers.
    keys.sort_by_key(|k| (k.addr, k.bits));
    // What covers the present key, with its answers before and after.
    let mut around: Vec<(PrefixKey, u32, u32)> = Vec::new();
    let mut out = Vec::new();
    for key in keys {
        while around.last().is_some_and(|(wide, ..)| !covers(wide, &key)) {
            let _ = around.pop();
        }
        let (wide_old, wide_new) = around.last().map_or((0, 0), |(_, old, new)| (*old, *new));
        let now = have.get(&key).copied();
        let old = now.map_or(wide_old, |v| v.at(next.saturating_sub(1)));
        let new = want.get(&key).copied().unwrap_or(wide_new);
        around.push((key, old, new));
        // An entry may not turn by itself either: one that was never flipped to has its value for `next` already.
        let right = now.is_some_and(|v| v.at(next) == new);
        if !right {
            let entry = Versioned { since: next, old, new };
            let _ = have.insert(key, entry);
            out.push((key, entry));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use gray_common::{decide::Tables as _, decide::mem::MemTables, wire::Addr};
    use proptest::prelude::*;

    fn key(n: u8, bits: u32) -> PrefixKey {
        let mask = u8::MAX << (8 - bits);
        PrefixKey { bits, addr: Addr([n & mask, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]) }
    }

    /// What the trie answers for the 256 addresses at an epoch.
    fn answers(have: &BTreeMap<PrefixKey, Versioned>, epoch: u64) -> Vec<u32> {
        let t = MemTables { prefixes: have.clone(), ..MemTables::default() };
        let at = |n: u8| t.view_at(epoch).prefix(&Addr([n, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
        (0..=u8::MAX).map(|n| at(n).unwrap_or(0)).collect()
    }

    fn alone(want: &BTreeMap<PrefixKey, u32>) -> Vec<u32> {
        let all = want.iter().map(|(k, v)| (*k, Versioned { since: 1, old: 0, new: *v })).collect();
        answers(&all, 1)
    }

    proptest! {
        /// D1: with any part of the entries written, the old epoch answers as before; with all of them and after any part of
        /// the leftovers is gone, the new one answers as a table of its own would.
        #[test]
        fn d1_each_epoch_answers_as_if_alone(
            policies in prop::collection::vec(prop::collection::btree_map((any::<u8>(), 1u32..=8), 1u32..6, 0..8), 1..5),
            cut in any::<u64>(),
        ) {
            let mut have = BTreeMap::new();
            let mut before = vec![0; 256];
            for (epoch, policy) in (1u64..).zip(policies) {
                let want: BTreeMap<PrefixKey, u32> = policy.into_iter().map(|((n, b), c)| (key(n, b), c)).collect();
                let mut written = have.clone();
                for (i, (k, v)) in differences(&mut have, &want, epoch).into_iter().enumerate() {
                    if cut >> (i % 64) & 1 == 0 {
                        let _ = written.insert(k, v);
                    }
                }
                prop_assert_eq!(&answers(&written, epoch - 1), &before);
                prop_assert_eq!(&answers(&have, epoch - 1), &before);
                before = alone(&want);
                prop_assert_eq!(&answers(&have, epoch), &before);
                // Leftovers go, or not yet.
                let mut n = 0;
                have.retain(|k, _| {
                    n += 1;
                    want.contains_key(k) || cut >> (n % 64) & 1 == 0
                });
                prop_assert_eq!(&answers(&have, epoch), &before);
            }
        }
    }
}
