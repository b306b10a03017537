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

/// The option. `number`: the SYN's sequence number, host order.
#[inline(always)]
pub fn encode(key: HashKey, tag: &Tag, check: u32, number: u32) -> [u8; LEN] {
    let mut out = [0; LEN];
    let [e0, e1] = EXPERIMENT.to_be_bytes();
    let [l0, l1] = tag.lane.to_be_bytes();
    let id = tag.identity.to_le_bytes();
    let mac = mac(key, tag, check, number).to_le_bytes();
    [out[0], out[1], out[2], out[3], out[4], out[5], out[6]] = [KIND, LEN as u8, e0, e1, VERSION, l0, l1];
    let mut i = 0;
    while i < 8 {
        out[7 + i] = id[i];
        i += 1;
    }
    i = 0;
    while i < 5 {
        out[15 + i] = mac[i];
        i += 1;
    }
    out
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

/// The walk over a header's options to the first one of our experiment.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Find {
    at: u32,
    /// Where it begins, plus one; 0: there is none.
    found: u32,
}

impl Find {
    /// The whole walk. For the host: a verifier wants [`Find::step`] by `bpf_loop`.
    pub fn run<B: Bytes + ?Sized>(b: &B, len: u32) -> Option<u32> {
        let mut f = Self::default();
        let mut i = 0;
        while i < OPTIONS_MAX && f.step(b, len) {
            i += 1;
        }
        f.found()
    }

    #[inline(always)]
    pub fn found(&self) -> Option<u32> {
        self.found.checked_sub(1)
    }

    /// One option; false: no more. A length of 0 or 1, or beyond the header, ends the walk, as in Linux.
    #[inline(always)]
    pub fn step<B: Bytes + ?Sized>(&mut self, b: &B, len: u32) -> bool {
        let at = self.at;
        if at >= len || at >= OPTIONS_MAX {
            return false;
        }
        let Some(kind) = b.at(at).filter(|k| *k != 0) else { return false };
        if kind == 1 {
            self.at = at + 1;
            return true;
        }
        let Some(size) = b.at(at + 1).map(u32::from) else { return false };
        if size < 2 || at + size > len || at + size > OPTIONS_MAX {
            return false;
        }
        if kind == KIND && size >= 4 && b.be16(at + 2) == Some(u32::from(EXPERIMENT)) {
            self.found = at + 1;
            return false;
        }
        self.at = at + size;
        true
    }
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
        encode(KEY, &tag(), CHECK, 1000)
    }

    fn read(bytes: &[u8]) -> Said {
        decode(KEY, bytes, 0, 1000, |_| CHECK).0
    }

    proptest! {
        #[test]
        fn a6_what_was_said_is_read(k0: u64, k1: u64, identity: u64, lane: u16, check in 1u32.., number: u32) {
            let (key, tag) = (HashKey { k0, k1 }, Tag { identity, lane });
            let check = if lane == 0 { 0 } else { check };
            let bytes = encode(key, &tag, check, number);
            let asked = |n| { assert_eq!(n, lane); check };
            prop_assert_eq!(decode(key, &bytes[..], 0, number, asked), (Said::Good, tag));
        }

        /// Whoever does not have the key.
        #[test]
        fn a6_a_tag_that_is_made_up_is_refused(identity: u64, lane: u16, guess in 0u64..1 << 40, number: u32) {
            let mut bytes = encode(HashKey { k0: 1, k1: 2 }, &Tag { identity, lane }, CHECK, number);
            bytes[15..].copy_from_slice(&guess.to_le_bytes()[..5]);
            let (said, tag) = decode(KEY, &bytes[..], 0, number, |_| CHECK);
            prop_assert_eq!((said, tag), (Said::Mac, Tag::default()));
        }

        #[test]
        fn a6_any_bytes_are_taken(data in prop::collection::vec(any::<u8>(), 0..60), at in 0u32..60) {
            let _ = decode(KEY, &data[..], at, 0, |_| CHECK);
            let len = data.len().min(OPTIONS_MAX as usize) as u32;
            if let Some(at) = Find::run(&data[..], len) {
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
        let nameless = encode(KEY, &tag(), 0, 1000);
        assert_eq!(decode(KEY, &nameless[..], 0, 1000, |_| 0).0, Said::Mac);
    }

    #[test]
    fn a6_an_option_that_is_cut_is_none() {
        for n in 0..LEN {
            assert_ne!(read(&made()[..n]), Said::Good, "{n} bytes");
            assert_eq!(Find::run(&made()[..n], n as u32), None, "{n} bytes");
        }
    }

    #[test]
    fn a6_it_is_found_among_other_options() {
        let found = |bytes: &[u8]| Find::run(bytes, bytes.len() as u32);
        let mss = [2, 4, 5, 0xb4];
        let other = [254, 6, 0x12, 0x34, 0, 0];
        assert_eq!(found(&made()), Some(0));
        assert_eq!(found(&[&mss[..], &[1, 1], &other, &made()].concat()), Some(12));
        assert_eq!(found(&[&made()[..], &made()].concat()), Some(0), "the first of two");
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
