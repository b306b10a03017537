//! The filter in front of the packet path: a bit for each end (address and port) that the tables may know. No bit set, not
//! ours, whatever the tables hold. Bits are only ever added: flows of a removed instance still need theirs, and a stale bit
//! costs one lookup.

use crate::{
    limits::FILTER_BITS,
    wire::{Addr, FlowKey4, FlowKey6, wire},
};

const WORDS: usize = FILTER_BITS as usize / 64;
/// 2^64 over the golden ratio: the upper bits of a product depend on all bits of the other factor.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

const _: () = assert!(FILTER_BITS == 1 << 16, "the upper 16 bits of a product");

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter {
    words: [u64; WORDS],
}

wire!(Filter, size 8192, { words @ 0: [u64; 1024] });

impl Default for Filter {
    fn default() -> Self {
        Self { words: [0; WORDS] }
    }
}

impl Filter {
    /// Whether either end of a packet may be known.
    #[inline(always)]
    pub fn knows4(&self, k: &FlowKey4) -> bool {
        self.knows_end4(k.daddr, k.dport) || self.knows_end4(k.saddr, k.sport)
    }

    #[inline(always)]
    pub fn knows6(&self, k: &FlowKey6) -> bool {
        self.knows_end6(k.daddr.words(), k.dport) || self.knows_end6(k.saddr.words(), k.sport)
    }

    /// Address and port in network order.
    #[inline(always)]
    pub fn knows_end4(&self, addr: u32, port: u16) -> bool {
        self.has(bit4(addr, port))
    }

    #[inline(always)]
    pub fn knows_end6(&self, addr: [u64; 2], port: u16) -> bool {
        self.has(bit6(addr, port))
    }

    /// Whether an address may be known, whatever the port: all that a later fragment tells.
    #[inline(always)]
    pub fn knows_address(&self, addr: &Addr) -> bool {
        self.has(bit(addr, 0))
    }

    /// Adds an end, and its address alone. `port` in network order. False: nothing new.
    pub fn add(&mut self, addr: &Addr, port: u16) -> bool {
        let mut new = false;
        for bit in [bit(addr, port), bit(addr, 0)] {
            let word = &mut self.words[bit >> 6];
            new |= *word >> (bit & 63) & 1 == 0;
            *word |= 1 << (bit & 63);
        }
        new
    }

    /// Adds all that the other one has.
    pub fn merge(&mut self, other: &Self) {
        for (word, more) in self.words.iter_mut().zip(&other.words) {
            *word |= more;
        }
    }

    #[inline(always)]
    fn has(&self, bit: usize) -> bool {
        self.words[bit >> 6] >> (bit & 63) & 1 != 0
    }
}

#[inline(always)]
fn bit(addr: &Addr, port: u16) -> usize {
    if addr.is_v4() { bit4(addr.as_v4(), port) } else { bit6(addr.words(), port) }
}

#[inline(always)]
fn bit4(addr: u32, port: u16) -> usize {
    index(u64::from(addr) << 16 | u64::from(port))
}

#[inline(always)]
fn bit6(addr: [u64; 2], port: u16) -> usize {
    index(addr[0] ^ addr[1].rotate_left(17) ^ u64::from(port) << 48)
}

#[inline(always)]
fn index(x: u64) -> usize {
    (x.wrapping_mul(SPREAD) >> 48) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY4: FlowKey4 = FlowKey4 { saddr: 0x0101_12c6, daddr: 0x0901_12c6, sport: 7, dport: 80, proto: 6 };

    #[test]
    fn either_end_and_the_address_alone_are_known() {
        let end = |addr, port| {
            let mut f = Filter::default();
            assert!(f.add(&Addr::v4(addr), port) && !f.add(&Addr::v4(addr), port));
            f
        };
        for (f, knows) in [
            (end(KEY4.daddr, 80), true),
            (end(KEY4.saddr, 7), true),
            (end(KEY4.daddr, 81), false),
            (end(KEY4.saddr, 80), false),
            (Filter::default(), false),
        ] {
            assert_eq!(f.knows4(&KEY4), knows);
        }
        let f = end(KEY4.daddr, 81);
        assert!(f.knows_address(&Addr::v4(KEY4.daddr)) && !f.knows_address(&Addr::v4(KEY4.saddr)));
    }

    #[test]
    fn both_families() {
        let words = |i: u64| [0x1800_00fd_u64.to_be() ^ i, i << 32];
        let addr = |i| Addr(bytes(words(i)));
        let key = FlowKey6 { saddr: addr(1), daddr: addr(2), sport: 7, dport: 80, proto: 17 };
        let mut f = Filter::default();
        let _ = f.add(&addr(2), 81);
        assert!(!f.knows6(&key) && f.knows_address(&addr(2)));
        let _ = f.add(&addr(1), 7);
        assert!(f.knows6(&key));
    }

    fn bytes(words: [u64; 2]) -> [u8; 16] {
        let mut all = [0; 16];
        all[..8].copy_from_slice(&words[0].to_ne_bytes());
        all[8..].copy_from_slice(&words[1].to_ne_bytes());
        all
    }

    /// Neighbouring addresses and ports share few bits: what is not ours seldom looks like it.
    #[test]
    fn neighbours_are_told_apart() {
        for v6 in [false, true] {
            let addr = |i: u32| match v6 {
                false => Addr::v4((0xc612_0000 + i).to_be()),
                true => Addr(bytes([0xfd00_0018_u64.to_be(), u64::from(i).to_be()])),
            };
            let mut f = Filter::default();
            let new = (0..1000).filter(|i| f.add(&addr(*i), 8080_u16.to_be())).count();
            assert!(new > 990);
            let taken = f.words.iter().map(|w| w.count_ones()).sum::<u32>();
            assert!(taken > 1900, "of 2000 bits {taken} are different ones, v6: {v6}");
        }
    }
}
