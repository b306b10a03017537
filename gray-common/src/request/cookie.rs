//! SYN cookies: the sequence number of a SYN-ACK proves that the client got it, so that a flood of SYNs leaves nothing
//! behind. The number carries the MSS class; what else the client offered comes back in the echo of our timestamp, in
//! Linux' layout (net/ipv4/syncookies.c): bits 0 to 3 window scale, bit 4 SACK, bit 5 ECN.
//!
//! Number: 29 bits of SipHash-1-3 under the fleet's key over addresses, ports, the client's number, period and class; then
//! a bit of the period and two of the class. So any edge of the fleet takes another one's cookie, and a guess is right
//! once in 2^29. It is good for the period it was made in and the next one: 64 to 128 s.

use super::options::{HAS_SACK_OK, HAS_TIME, NO_SCALE, Options};
use crate::hash::{HashKey, claim_hash};

/// One period, milliseconds.
pub const PERIOD_MS: u64 = 64_000;
/// Payload that fits into every class's segments; a client's MSS is rounded down to one of them.
pub const MSS: [u16; 4] = [536, 1220, 1380, 1460];

/// Apart from all kinds of claims, which the same key hashes.
pub(super) const KIND: u8 = 0xff;
const SACK: u32 = 16;
const OPTION_BITS: u32 = 6;
const OPTION_MASK: u32 = (1 << OPTION_BITS) - 1;

/// A connection as its client sees it, and the client's first number. Addresses as in memory, ports in network order.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tuple {
    pub client: [u64; 2],
    pub service: [u64; 2],
    pub client_port: u16,
    pub service_port: u16,
    /// Of the SYN; one less than that of the first byte.
    pub number: u32,
}

#[inline(always)]
fn mac(key: HashKey, t: &Tuple, period: u64, class: u32) -> u32 {
    let ports = u64::from(t.client_port) | u64::from(t.service_port) << 16 | u64::from(t.number) << 32;
    let rest = period << 2 | u64::from(class);
    let words = [t.client[0], t.client[1], t.service[0], t.service[1], ports, rest];
    claim_hash(key, KIND, 48, &words) as u32 & !7
}

/// The largest class that the client's MSS allows.
#[inline(always)]
pub fn class(mss: u16) -> u32 {
    let mut c = 0;
    let mut i = 1;
    while i < 4 {
        c += u32::from(MSS.get(i).is_some_and(|m| *m <= mss));
        i += 1;
    }
    c
}

/// The number of the SYN-ACK. `now_ms`: any clock that the fleet shares, or a node's own.
#[inline(always)]
pub fn make(key: HashKey, t: &Tuple, mss: u16, now_ms: u64) -> u32 {
    let (period, class) = (now_ms / PERIOD_MS, class(mss));
    mac(key, t, period, class) | (period as u32 & 1) << 2 | class
}

/// The MSS that a cookie carries; `None`: it is none of ours, or too old.
#[inline(always)]
pub fn check(key: HashKey, t: &Tuple, cookie: u32, now_ms: u64) -> Option<u16> {
    let now = now_ms / PERIOD_MS;
    let class = cookie & 3;
    // This period or the one before, whichever has the cookie's bit.
    let period = now.wrapping_sub((now ^ u64::from(cookie >> 2)) & 1);
    let good = mac(key, t, period, class) == cookie & !7;
    let mss = MSS.get(class as usize).copied()?;
    good.then_some(mss)
}

/// What of a client's SYN outlives it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offered {
    /// [`NO_SCALE`]: none.
    pub scale: u8,
    pub sack: u8,
    pub time: u8,
    pub _pad: u8,
}

impl Offered {
    #[inline(always)]
    pub fn of(o: &Options) -> Self {
        let time = o.has(HAS_TIME);
        // Without a timestamp nothing carries them.
        let scale = if time { o.scale } else { NO_SCALE };
        Self { scale, sack: (time && o.has(HAS_SACK_OK)).into(), time: time.into(), _pad: 0 }
    }

    /// The timestamp of the SYN-ACK. Never ahead of the clock, so that later ones of that clock do not go back.
    #[inline(always)]
    pub fn time_value(&self, now_ms: u32) -> u32 {
        let bits = u32::from(self.scale & 15) | if self.sack != 0 { SACK } else { 0 };
        let value = now_ms & !OPTION_MASK | bits;
        if value & OPTION_MASK > now_ms & OPTION_MASK { value.wrapping_sub(1 << OPTION_BITS) } else { value }
    }

    /// Out of the echo in the client's segments, if they have one.
    #[inline(always)]
    pub fn from_echo(time: bool, echo: u32) -> Self {
        if !time {
            return Self { scale: NO_SCALE, sack: 0, time: 0, _pad: 0 };
        }
        Self { scale: echo as u8 & 15, sack: (echo & SACK != 0).into(), time: 1, _pad: 0 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::request::seq::after;

    const KEY: HashKey = HashKey { k0: 1, k1: 2 };

    fn tuple(number: u32) -> Tuple {
        Tuple { client: [1, 2], service: [3, 4], client_port: 5, service_port: 6, number }
    }

    #[test]
    fn a1_a_cookie_lives_one_to_two_periods() {
        for made in [0, 1, PERIOD_MS - 1, PERIOD_MS, 7 * PERIOD_MS + 5] {
            let c = make(KEY, &tuple(9), 1400, made);
            let begin = made / PERIOD_MS * PERIOD_MS;
            for (at, good) in [
                (begin, true),
                (begin + 2 * PERIOD_MS - 1, true),
                (begin + 2 * PERIOD_MS, false),
                (begin + 3 * PERIOD_MS, false),
            ] {
                assert_eq!(check(KEY, &tuple(9), c, at), good.then_some(1380), "{made} {at}");
            }
        }
    }

    #[test]
    fn a1_a_cookie_is_of_one_connection_and_one_key() {
        let c = make(KEY, &tuple(9), 1460, 0);
        assert_eq!(check(KEY, &tuple(9), c, 0), Some(1460));
        assert_eq!(check(HashKey { k0: 1, k1: 3 }, &tuple(9), c, 0), None);
        assert_eq!(check(KEY, &tuple(10), c, 0), None);
        let t = tuple(9);
        for other in [
            Tuple { client: [1, 9], ..t },
            Tuple { client: [9, 2], ..t },
            Tuple { service: [3, 9], ..t },
            Tuple { service: [9, 4], ..t },
            Tuple { client_port: 9, ..t },
            Tuple { service_port: 9, ..t },
        ] {
            assert_eq!(check(KEY, &other, c, 0), None, "{other:?}");
        }
        for bit in 0..32 {
            assert_eq!(check(KEY, &t, c ^ 1 << bit, 0), None, "bit {bit}");
        }
    }

    #[test]
    fn a1_classes_round_down() {
        for (mss, want) in
            [(0, 0), (536, 0), (1219, 0), (1220, 1), (1379, 1), (1380, 2), (1459, 2), (1460, 3), (8960, 3)]
        {
            assert_eq!(class(mss), want, "{mss}");
        }
    }

    proptest! {
        #[test]
        fn a1_what_was_offered_comes_back(scale in 0u8..=15, sack: bool, now: u32) {
            let o = Offered { scale, sack: sack.into(), time: 1, _pad: 0 };
            let value = o.time_value(now);
            prop_assert!(!after(value, now) && now.wrapping_sub(value) < 128);
            prop_assert_eq!(Offered::from_echo(true, value), o);
        }

        #[test]
        fn a1_a_guess_is_wrong(number: u32, guess: u32, now in 0u64..1 << 40) {
            let c = make(KEY, &tuple(number), 1460, now);
            let old = make(KEY, &tuple(number), 1460, now.saturating_sub(PERIOD_MS));
            let ours = [c, old].iter().any(|c| c & !3 == guess & !3);
            prop_assert!(ours || check(KEY, &tuple(number), guess, now).is_none());
        }
    }
}
