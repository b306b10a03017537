//! The tag: a TCP option of a connection's SYN by which one node of gray tells the next one the connection's lane and identity
//! (docs/adr/0021-tags.md). What is true of it on which interface is the caller's business.
//!
//! | bytes | |
//! |---|---|
//! | 0, 1 | kind 254 (RFC 3692-style experiment, RFC 4727), length 20 |
//! | 2, 3 | experiment identifier (RFC 6994) |
//! | 4 | version |
//! | 5, 6 | lane's number, network order; 0: none |
//! | 7 to 14 | identity, as `Claims` have it, little-endian; 0: none |
//! | 15 to 19 | MAC, little-endian: 40 bits of SipHash-1-3 under the fleet's key |

use crate::{
    csum,
    hash::{HashKey, claim_hash},
    request::{Bytes, options::OPTIONS_MAX},
};

pub const KIND: u8 = 254;
/// Bytes of a whole option; a multiple of four, so that it needs no padding.
pub const LEN: usize = 20;
/// "gr". Not registered.
pub const EXPERIMENT: u16 = 0x6772;
pub const VERSION: u8 = 1;

/// Apart from all kinds of claims and from cookies, which the same key hashes.
const MAC_KIND: u8 = 0xfe;
const MAC_BITS: u32 = 40;

/// What a node says of a connection.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tag {
    /// 0: none.
    pub identity: u64,
    /// Its number; 0: none.
    pub lane: u16,
}

/// What stands in an option's place.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// A tag of this fleet for this connection.
    Good,
    /// No tag: another experiment's option, or none.
    Other,
    /// Of our experiment, and not as long as a tag.
    Length,
    /// Of a version that this gray does not know.
    Version,
    /// Of another key, another connection, or with another name for the lane's number.
    Mac,
}

/// Over all that the tag says, the name of its lane (`hash::lane_check`; 0 without one), and the SYN's own number: see the ADR.
#[inline(always)]
fn mac(key: HashKey, tag: &Tag, check: u32, number: u32) -> u64 {
    let head = u64::from(VERSION) | u64::from(tag.lane) << 8 | u64::from(check) << 32;
    claim_hash(key, MAC_KIND, 24, &[head, tag.identity, u64::from(number)]) & ((1 << MAC_BITS) - 1)
}

/// A whole option, in memory order. In words: bytes at odd places of the stack are nothing for a verifier.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoded {
    words: [u64; 3],
}

impl Encoded {
    #[inline(always)]
    pub fn as_ptr(&self) -> *const u8 {
        self.words.as_ptr().cast()
    }

    /// What it adds to a checksum.
    #[inline(always)]
    pub fn sum(&self) -> u16 {
        let [a, b, c] = self.words;
        let both = |w: u64| csum::halves(w as u32) + csum::halves((w >> 32) as u32);
        csum::fold(both(a) + both(b) + csum::halves(c as u32))
    }

    #[cfg(any(test, feature = "user"))]
    pub fn bytes(&self) -> [u8; LEN] {
        let all = self.words.map(u64::to_le_bytes);
        core::array::from_fn(|i| all[i / 8][i % 8])
    }
}

/// The option. `number`: the SYN's sequence number, host order.
#[inline(always)]
pub fn encode(key: HashKey, tag: &Tag, check: u32, number: u32) -> Encoded {
    let mac = mac(key, tag, check, number);
    let head = u64::from(KIND) | (LEN as u64) << 8;
    let (experiment, lane) = (u64::from(EXPERIMENT.swap_bytes()), u64::from(tag.lane.swap_bytes()));
    let words = [
        head | experiment << 16 | u64::from(VERSION) << 32 | lane << 40 | tag.identity << 56,
        tag.identity >> 8 | mac << 56,
        mac >> 8,
    ];
    Encoded { words: words.map(u64::to_le) }
}

/// What the option that begins at `at` says. `check_of`: the check of a lane by its number; 0: not known here, which makes the MAC
/// a wrong one. The tag is all zero where it is not good.
#[inline(always)]
pub fn decode<B: Bytes + ?Sized>(
    key: HashKey,
    b: &B,
    at: u32,
    number: u32,
    check_of: impl FnOnce(u16) -> u32,
) -> (Said, Tag) {
    let none = Tag::default();
    let byte = |i: u32| b.at(at + i);
    if byte(0) != Some(KIND) || b.be16(at + 2) != Some(u32::from(EXPERIMENT)) {
        return (Said::Other, none);
    }
    if byte(1) != Some(LEN as u8) {
        return (Said::Length, none);
    }
    let Some(last) = byte(LEN as u32 - 1) else { return (Said::Length, none) };
    if byte(4) != Some(VERSION) {
        return (Said::Version, none);
    }
    let lane = b.be16(at + 5).unwrap_or(0) as u16;
    let tag = Tag { identity: little(b, at + 7, 8), lane };
    let said = little(b, at + 15, 4) | u64::from(last) << 32;
    let check = if lane == 0 { 0 } else { check_of(lane) };
    let known = lane == 0 || check != 0;
    if known && mac(key, &tag, check, number) == said { (Said::Good, tag) } else { (Said::Mac, none) }
}

/// A little-endian number of `n` bytes, at most 8.
#[inline(always)]
fn little<B: Bytes + ?Sized>(b: &B, at: u32, n: u32) -> u64 {
    let mut out = 0;
    let mut i = 0;
    while i < n {
        out |= u64::from(b.at(at + i).unwrap_or(0)) << (8 * i);
        i += 1;
    }
    out
}

/// The walk over a header's options, byte by byte, that says which bytes are options of our experiment. A length of 0 or 1, or
/// beyond the header, ends it, as in Linux.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Walk {
    /// Where the next option begins.
    next: u32,
    /// Not 0: the option here is one of ours.
    ours: u32,
}

/// No option begins any more.
const OVER: u32 = u32::MAX;

impl Walk {
    /// Of byte `i`, 0, 1 .. in order, below `len`.
    #[inline(always)]
    pub fn is_ours<B: Bytes + ?Sized>(&mut self, b: &B, len: u32, i: u32) -> bool {
        if i == self.next {
            (self.ours, self.next) = Self::begin(b, len, i);
        }
        self.ours != 0
    }

    #[inline(always)]
    fn begin<B: Bytes + ?Sized>(b: &B, len: u32, i: u32) -> (u32, u32) {
        let kind = b.at(i).unwrap_or(0);
        if kind <= 1 {
            return (0, if kind == 1 { i + 1 } else { OVER });
        }
        let size = if i + 1 < len { b.at(i + 1).map_or(0, u32::from) } else { 0 };
        if size < 2 || i + size > len {
            return (0, OVER);
        }
        let ours = kind == KIND && size >= 4 && b.be16(i + 2) == Some(u32::from(EXPERIMENT));
        (ours.into(), i + size)
    }
}

/// Where the first option of our experiment begins. For the host: a verifier wants [`Walk`] by `bpf_loop`.
pub fn find<B: Bytes + ?Sized>(b: &B, len: u32) -> Option<u32> {
    let mut walk = Walk::default();
    (0..len.min(OPTIONS_MAX)).find(|i| walk.is_ours(b, len.min(OPTIONS_MAX), *i))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: HashKey = HashKey { k0: 5, k1: 6 };
    const CHECK: u32 = 0xc0ff_ee01;

    fn tag() -> Tag {
        Tag { identity: 0x1122_3344_5566_7788, lane: 0x0203 }
    }

    fn made() -> [u8; LEN] {
        encode(KEY, &tag(), CHECK, 1000).bytes()
    }

    fn read(bytes: &[u8]) -> Said {
        decode(KEY, bytes, 0, 1000, |_| CHECK).0
    }

    proptest! {
        #[test]
        fn a6_what_was_said_is_read(k0: u64, k1: u64, identity: u64, lane: u16, check in 1u32.., number: u32) {
            let (key, tag) = (HashKey { k0, k1 }, Tag { identity, lane });
            let check = if lane == 0 { 0 } else { check };
            let bytes = encode(key, &tag, check, number).bytes();
            let asked = |n| { assert_eq!(n, lane); check };
            prop_assert_eq!(decode(key, &bytes[..], 0, number, asked), (Said::Good, tag));
        }

        /// Whoever does not have the key.
        #[test]
        fn a6_a_tag_that_is_made_up_is_refused(identity: u64, lane: u16, guess in 0u64..1 << 40, number: u32) {
            let mut bytes = encode(HashKey { k0: 1, k1: 2 }, &Tag { identity, lane }, CHECK, number).bytes();
            bytes[15..].copy_from_slice(&guess.to_le_bytes()[..5]);
            let (said, tag) = decode(KEY, &bytes[..], 0, number, |_| CHECK);
            prop_assert_eq!((said, tag), (Said::Mac, Tag::default()));
        }

        #[test]
        fn a6_any_bytes_are_taken(data in prop::collection::vec(any::<u8>(), 0..60), at in 0u32..60) {
            let _ = decode(KEY, &data[..], at, 0, |_| CHECK);
            let len = data.len().min(OPTIONS_MAX as usize) as u32;
            if let Some(at) = find(&data[..], len) {
                prop_assert!(at + 4 <= len && data[at as usize] == KIND);
            }
        }
    }

    #[test]
    fn a6_the_bytes_are_the_contract() {
        assert_eq!(
            made()[..15],
            [254, 20, 0x67, 0x72, 1, 2, 3, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11]
        );
        // Of the very first version: nodes of two versions of gray understand each other.
        assert_eq!(made()[15..], [242, 119, 206, 67, 108]);
    }

    #[test]
    fn a6_its_sum_is_that_of_its_bytes() {
        for number in 0..100 {
            let option = encode(KEY, &tag(), CHECK, number);
            let words = option.bytes().chunks(2).map(|w| u32::from(u16::from_ne_bytes([w[0], w[1]]))).sum();
            assert_eq!(option.sum(), csum::fold(words));
        }
    }

    #[test]
    fn a6_every_bit_counts() {
        assert_eq!(read(&made()), Said::Good);
        for bit in 0..8 * LEN {
            let mut bytes = made();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let want = match bit / 8 {
                0 | 2 | 3 => Said::Other,
                1 => Said::Length,
                4 => Said::Version,
                _ => Said::Mac,
            };
            assert_eq!(read(&bytes), want, "bit {bit}");
        }
    }

    #[test]
    fn a6_a_tag_is_of_one_connection_one_key_and_one_name_of_its_lane() {
        let said = |key, number, check| decode(key, &made()[..], 0, number, |_| check).0;
        assert_eq!(said(KEY, 1000, CHECK), Said::Good);
        assert_eq!(said(KEY, 1001, CHECK), Said::Mac);
        assert_eq!(said(HashKey { k0: 5, k1: 7 }, 1000, CHECK), Said::Mac);
        assert_eq!(said(KEY, 1000, CHECK ^ 1), Said::Mac);
        assert_eq!(said(KEY, 1000, 0), Said::Mac, "a lane that is not known here");
        // Nobody can pass off a lane's tag that was made without the name.
        let nameless = encode(KEY, &tag(), 0, 1000).bytes();
        assert_eq!(decode(KEY, &nameless[..], 0, 1000, |_| 0).0, Said::Mac);
    }

    #[test]
    fn a6_an_option_that_is_cut_is_none() {
        for n in 0..LEN {
            assert_ne!(read(&made()[..n]), Said::Good, "{n} bytes");
            assert_eq!(find(&made()[..n], n as u32), None, "{n} bytes");
        }
    }

    #[test]
    fn a6_it_is_found_among_other_options() {
        let found = |bytes: &[u8]| find(bytes, bytes.len() as u32);
        let ours = |bytes: &[u8]| {
            let mut walk = Walk::default();
            (0..bytes.len() as u32)
                .filter(|i| walk.is_ours(bytes, bytes.len() as u32, *i))
                .collect::<Vec<_>>()
        };
        let mss = [2, 4, 5, 0xb4];
        let other = [254, 6, 0x12, 0x34, 0, 0];
        assert_eq!(found(&made()), Some(0));
        assert_eq!(found(&[&mss[..], &[1, 1], &other, &made()].concat()), Some(12));
        assert_eq!(found(&[&made()[..], &made()].concat()), Some(0), "the first of two");
        assert_eq!(ours(&[&made()[..], &made()].concat()), (0..40).collect::<Vec<_>>());
        assert_eq!(
            ours(&[&mss[..], &made(), &[1], &other, &[254, 4, 0x67, 0x72, 0]].concat()),
            [(4..24).collect::<Vec<_>>(), (31..35).collect()].concat()
        );
        // One of our experiment with a wrong length is found, too: it is told apart by what it says.
        assert_eq!(found(&[254, 4, 0x67, 0x72]), Some(0));
        for none in [
            &[][..],
            &mss,
            &other,
            &[254],
            &[254, 2],
            &[254, 3, 0x67],
            &[0, 254, 4, 0x67, 0x72],
            &[2, 0, 254, 4, 0x67, 0x72],
        ] {
            assert_eq!(found(none), None, "{none:?}");
        }
    }
}
