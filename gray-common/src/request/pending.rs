//! What clients without timestamps offered in their SYNs: nothing of theirs brings it back, so it is kept for as long as their cookie is
//! good. In places of one word each, and a place that is taken stays so: who was told that it may scale its windows must not be
//! forgotten. Where there is no place, which a flood brings about, nothing is granted, and the cookie is all.

use super::{
    cookie::{self, Offered, PERIOD_MS, Tuple},
    options::{HAS_SACK_OK, HAS_TIME, NO_SCALE, Options},
};
use crate::hash::{HashKey, claim_hash};

/// Places; a power of two.
pub const PLACES: u32 = 65_536;
/// After so many seconds no cookie is good any more.
const GOOD_S: u16 = (2 * PERIOD_MS / 1000) as u16;

/// Of a word: window scale and SACK as in a cookie's timestamp; taken; seconds; the connection, as much of its hash as there is room.
const SACK: u64 = 16;
const TAKEN: u64 = 32;
const SECONDS: u32 = 6;
const NAME: u32 = 22;

/// A connection's, its client's first number included, under the fleet's key.
#[inline(always)]
pub fn hash(key: HashKey, t: &Tuple) -> u64 {
    let ports = u64::from(t.client_port) | u64::from(t.service_port) << 16 | u64::from(t.number) << 32;
    claim_hash(key, cookie::KIND, 40, &[t.client[0], t.client[1], t.service[0], t.service[1], ports])
}

#[inline(always)]
pub fn place(hash: u64) -> u32 {
    hash as u32 & (PLACES - 1)
}

const _: () = assert!(PLACES.is_power_of_two() && PLACES.trailing_zeros() <= NAME);

/// Whether there is something to keep of a SYN.
#[inline(always)]
pub fn is_wanted(o: &Options) -> bool {
    !o.has(HAS_TIME) && (o.scale < NO_SCALE || o.has(HAS_SACK_OK))
}

#[inline(always)]
fn seconds(now_ms: u64) -> u16 {
    (now_ms / 1000) as u16
}

/// What is kept of it.
#[inline(always)]
pub fn word(hash: u64, o: &Options, now_ms: u64) -> u64 {
    let options = u64::from(o.scale & 15) | if o.has(HAS_SACK_OK) { SACK } else { 0 };
    hash >> NAME << NAME | u64::from(seconds(now_ms)) << SECONDS | TAKEN | options
}

/// Whether its place may be taken: nobody has it whose cookie is good, or this connection has it, whose SYN comes again.
#[inline(always)]
pub fn is_free(word: u64, hash: u64, now_ms: u64) -> bool {
    let age = seconds(now_ms).wrapping_sub((word >> SECONDS) as u16);
    word & TAKEN == 0 || age > GOOD_S || word >> NAME == hash >> NAME
}

/// What was granted, by the word in its place; `None`: nothing.
#[inline(always)]
pub fn granted(word: u64, hash: u64) -> Option<Offered> {
    let ours = word & TAKEN != 0 && word >> NAME == hash >> NAME;
    ours.then_some(Offered { scale: word as u8 & 15, sack: (word & SACK != 0).into(), time: 0, _pad: 0 })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: HashKey = HashKey { k0: 1, k1: 2 };

    fn options(scale: u8, sack: bool) -> Options {
        let mut o = Options::default();
        (o.scale, o.flags) = (scale, if sack { HAS_SACK_OK } else { 0 });
        o
    }

    fn tuple(number: u32) -> Tuple {
        Tuple { client: [1, 2], service: [3, 4], client_port: 5, service_port: 6, number }
    }

    proptest! {
        #[test]
        fn a1_what_was_offered_comes_back(scale in 0u8..=15, sack: bool, now in 0u64..1 << 40, number: u32) {
            let h = hash(KEY, &tuple(number));
            let w = word(h, &options(scale, sack), now);
            prop_assert_eq!(granted(w, h), Some(Offered { scale, sack: sack.into(), time: 0, _pad: 0 }));
            prop_assert_eq!(granted(w, hash(KEY, &tuple(number ^ 1))), None, "another connection's");
        }

        /// As long as the cookie may be good, and not much longer.
        #[test]
        fn a1_a_place_is_kept_while_the_cookie_is_good(now in 0u64..1 << 40, later in 0u64..200_000) {
            let [ours, other] = [1, 2].map(|n| hash(KEY, &tuple(n)));
            let w = word(ours, &options(7, true), now);
            prop_assert!(is_free(w, ours, now + later), "its SYN comes again");
            let cookie = cookie::make(KEY, &tuple(1), 1460, now);
            if cookie::check(KEY, &tuple(1), cookie, now + later).is_some() {
                prop_assert!(!is_free(w, other, now + later));
            }
            prop_assert!(later < 130_000 || is_free(w, other, now + later));
        }
    }

    #[test]
    fn a1_an_empty_place_is_nobodys() {
        assert!(is_free(0, 9, 0));
        assert_eq!(granted(0, 0), None);
        assert!(is_wanted(&options(7, false)) && is_wanted(&options(15, true)));
        assert!(!is_wanted(&options(15, false)));
        let mut time = options(7, true);
        time.flags |= HAS_TIME;
        assert!(!is_wanted(&time), "the timestamp brings it back");
    }
}
