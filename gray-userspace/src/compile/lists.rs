//! The explicit lists in effect, turned round: for every identity and prefix, the set of lists it is on.

use std::collections::BTreeMap;

use gray_common::{
    decide::claims::BEGINNING,
    hash::{HashKey, claim_hash_bytes},
    wire::{Addr, Class, PrefixKey},
};

use super::{assigned::Numbers, conditions::claim_code, identities::ByHash, nets::is_v4};
use crate::model::{ClaimKind, List, Member, Policy, parse_member};

/// What one entry is in the tables: an exact identity or a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Entry {
    Identity(u64),
    Prefix(PrefixKey),
}

/// The claim hash that the data path computes for a value of this kind.
pub fn member_hash(key: HashKey, of: ClaimKind, member: &Member<'_>) -> u64 {
    let code = claim_code(of);
    match member {
        Member::Net(n) => claim_hash_bytes(key, code, &Addr::from(n.addr()).0),
        // The kernel hashes numbers as one 64-bit word; its length byte says 4.
        Member::Number(n) => gray_common::hash::claim_hash(key, code, 4, &[u64::from(*n)]),
        Member::Text(t) => text_hash(key, code, t),
        Member::Beginning(t) => claim_hash_bytes(key, code | BEGINNING, t.as_bytes()),
    }
}

/// The hash of a text value; over 32 bytes, of its first 24 and a digest of the rest, so that long names stay apart.
pub fn text_hash(key: HashKey, code: u8, text: &str) -> u64 {
    let bytes = text.as_bytes();
    if bytes.len() <= gray_common::hash::CLAIM_MAX {
        return claim_hash_bytes(key, code, bytes);
    }
    let mut short = bytes[..24].to_vec();
    short.extend(gray_common::hash::salt(text).to_le_bytes());
    claim_hash_bytes(key, code, &short)
}

/// The lists that a policy itself gives: those of its cohorts, without live edits, and those of its conditions.
pub fn of_policy(policy: &Policy, numbers: &Numbers, key: HashKey) -> Lists {
    let mut lists = Lists::default();
    policy.lists().iter().for_each(|l| put(&mut lists, l, numbers, key));
    lists
}

/// Puts what the document says onto a list.
pub fn put(lists: &mut Lists, list: &List<'_>, numbers: &Numbers, key: HashKey) {
    let Some(bit) = numbers.get(&list.name) else { return };
    for m in list.ids.iter().filter_map(|id| parse_member(list.of, id).ok()) {
        let _ = lists.set(bit, entry(key, list.of, &m), true);
    }
}

pub fn entry(key: HashKey, of: ClaimKind, member: &Member<'_>) -> Entry {
    match member {
        Member::Net(n) if n.prefix_len() < n.max_prefix_len() => {
            let mapped = if n.addr().is_ipv4() { 96 } else { 0 };
            let addr = Addr::from(n.network());
            Entry::Prefix(PrefixKey { bits: u32::from(n.prefix_len()) + mapped, addr })
        }
        other => Entry::Identity(member_hash(key, of, other)),
    }
}

/// Every entry of every list, with the lists it is on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lists {
    pub identities: ByHash<Class>,
    pub prefixes: Prefixes,
}

/// Prefixes with their lists, as listed: without what a wider prefix adds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prefixes(BTreeMap<PrefixKey, Class>);

/// What a live edit does to one list: each entry is named once, and changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Edit {
    pub bit: u32,
    pub on: Vec<u64>,
    pub off: Vec<u64>,
    /// On the list or off it.
    pub prefixes: Vec<(PrefixKey, bool)>,
}

impl Edit {
    pub fn is_empty(&self) -> bool {
        self.on.is_empty() && self.off.is_empty() && self.prefixes.is_empty()
    }

    /// Entries that come to the list and that leave it.
    pub fn counts(&self) -> (u64, u64) {
        let come = self.prefixes.iter().filter(|(_, on)| *on).count();
        ((self.on.len() + come) as u64, (self.off.len() + self.prefixes.len() - come) as u64)
    }
}

pub(super) fn set(class: &mut Class, bit: u32, on: bool) {
    let word = &mut class.lists[(bit / 64) as usize & 3];
    if on { *word |= 1 << (bit % 64) } else { *word &= !(1 << (bit % 64)) }
}

pub(super) fn has(class: &Class, bit: u32) -> bool {
    class.lists[(bit / 64) as usize & 3] >> (bit % 64) & 1 != 0
}

impl Lists {
    /// Puts an entry on a list or takes it off. True when that changed anything.
    pub fn set(&mut self, bit: u32, entry: Entry, on: bool) -> bool {
        let hash = match entry {
            Entry::Identity(h) => h,
            Entry::Prefix(p) => return self.prefixes.set(bit, p, on),
        };
        let slot = self.identities.entry(hash).or_default();
        let before = *slot;
        set(slot, bit, on);
        let changed = before != *slot;
        if *slot == Class::default() {
            let _ = self.identities.remove(&hash);
        }
        changed
    }
}

impl Prefixes {
    /// As [`Lists::set`].
    pub fn set(&mut self, bit: u32, key: PrefixKey, on: bool) -> bool {
        let slot = self.0.entry(key).or_default();
        let before = *slot;
        set(slot, bit, on);
        let changed = before != *slot;
        if *slot == Class::default() {
            let _ = self.0.remove(&key);
        }
        changed
    }

    pub fn has(&self, key: &PrefixKey) -> bool {
        self.0.contains_key(key)
    }

    /// Whether a prefix itself (not a wider one) is on a list.
    pub fn is_on(&self, bit: u32, key: &PrefixKey) -> bool {
        self.0.get(key).is_some_and(|c| has(c, bit))
    }

    /// Every prefix of a list.
    pub fn on(&self, bit: u32) -> impl Iterator<Item = PrefixKey> {
        self.0.iter().filter(move |(_, c)| has(c, bit)).map(|(p, _)| *p)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&PrefixKey, &Class)> {
        self.0.iter()
    }

    /// Those of IPv6 as the trie needs them: it answers the longest match only, so each carries the lists of every wider prefix that
    /// covers it.
    pub fn inherited(&self) -> BTreeMap<PrefixKey, Class> {
        let mut sorted: Vec<(&PrefixKey, &Class)> = self.0.iter().filter(|(k, _)| !is_v4(k)).collect();
        // Address first, then wide before narrow: a covering prefix stands before all that it covers.
        sorted.sort_by_key(|(k, _)| (k.addr, k.bits));
        let mut stack: Vec<(PrefixKey, Class)> = Vec::new();
        let mut out = BTreeMap::new();
        for (key, own) in sorted {
            while stack.last().is_some_and(|(wide, _)| !covers(wide, key)) {
                let _ = stack.pop();
            }
            let mut class = *own;
            if let Some((_, wide)) = stack.last() {
                for (c, w) in class.lists.iter_mut().zip(wide.lists) {
                    *c |= w;
                }
            }
            stack.push((*key, class));
            let _ = out.insert(*key, class);
        }
        out
    }
}

pub(super) fn covers(wide: &PrefixKey, narrow: &PrefixKey) -> bool {
    let mask = if wide.bits == 0 { 0 } else { u128::MAX << (128 - wide.bits.min(128)) };
    wide.bits <= narrow.bits
        && u128::from_be_bytes(narrow.addr.0) & mask == u128::from_be_bytes(wide.addr.0) & mask
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> PrefixKey {
        match entry(HashKey::default(), ClaimKind::Source, &parse_member(ClaimKind::Source, text).unwrap()) {
            Entry::Prefix(p) => p,
            Entry::Identity(_) => panic!("{text} is an address"),
        }
    }

    #[test]
    fn a5_a_narrow_prefix_inherits_the_lists_of_the_wide_one() {
        let mut l = Lists::default();
        for (bit, p) in
            [(0, "fd00:18::/32"), (1, "fd00:18:7::/48"), (2, "fd00:19::/32"), (3, "198.18.0.0/16")]
        {
            assert!(l.set(bit, Entry::Prefix(prefix(p)), true));
        }
        let got = l.prefixes.inherited();
        let lists = |p| got[&prefix(p)].lists[0];
        assert_eq!([lists("fd00:18::/32"), lists("fd00:18:7::/48"), lists("fd00:19::/32")], [1, 3, 4]);
        assert_eq!(got.len(), 3, "IPv4 has a table of its own");
    }

    #[test]
    fn an_address_is_an_identity_in_either_spelling() {
        let key = HashKey { k0: 1, k1: 2 };
        let e = |t| entry(key, ClaimKind::Source, &parse_member(ClaimKind::Source, t).unwrap());
        assert_eq!(e("198.18.1.3"), e("198.18.1.3/32"));
        assert!(matches!(e("198.18.1.3"), Entry::Identity(_)));
    }

    #[test]
    fn the_host_hashes_what_the_kernel_hashes() {
        use gray_common::decide::Claims;
        let key = HashKey { k0: 5, k1: 6 };
        let mut c = Claims::none(0);
        c.set_source(key, &Addr::from("198.18.1.3".parse::<std::net::IpAddr>().unwrap()));
        c.set_mark(key, 0x1234_5678);
        c.set_dscp(key, 46);
        for (i, (of, text)) in
            [(ClaimKind::Source, "198.18.1.3"), (ClaimKind::Mark, "0x12345678"), (ClaimKind::Dscp, "46")]
                .into_iter()
                .enumerate()
        {
            assert_eq!(member_hash(key, of, &parse_member(of, text).unwrap()), c.hash[i + 1], "{text}");
        }
    }

    #[test]
    fn long_names_with_one_beginning_stay_apart() {
        let a = format!("{}a", "x".repeat(40));
        let b = format!("{}b", "x".repeat(40));
        assert_ne!(text_hash(HashKey::default(), 4, &a), text_hash(HashKey::default(), 4, &b));
    }

    #[test]
    fn taking_the_last_list_away_removes_the_entry() {
        let mut l = Lists::default();
        assert!(l.set(3, Entry::Identity(9), true));
        assert!(!l.set(3, Entry::Identity(9), true));
        assert!(l.set(3, Entry::Identity(9), false));
        assert!(l.identities.is_empty());
    }
}
