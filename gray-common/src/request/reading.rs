//! What is known of a client when its request was read, from bytes on the host: as the data path makes it of the same bytes.

use super::{
    machine::HOLD,
    scan::{END, Scan},
};
use crate::{
    decide::{Claims, tail},
    hash::{HashKey, claim_hash_bytes},
    wire::Reading,
};

/// What a request says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Read<'a> {
    /// Claim kinds and their values, whole, in the order of the reading's names.
    pub values: Vec<(u8, &'a [u8])>,
    /// The head ends, and nothing in it is bad.
    pub whole: bool,
}

/// Reads what is held of a client's first bytes.
pub fn read<'a>(reading: &Reading, bytes: &'a [u8]) -> Read<'a> {
    let held = &bytes[..bytes.len().min(HOLD as usize)];
    let mut scan = Scan::request();
    let whole = scan.run(held, &reading.names) == END;
    let value = |i: usize| {
        let (kind, span) = (reading.kinds[i], scan.values[i]);
        let (at, len) = (usize::from(span.at), usize::from(span.len));
        let there = scan.found & 1 << i != 0 && kind != 0;
        there.then(|| (kind, held.get(at..at + len).unwrap_or_default()))
    };
    Read { values: (0..reading.kinds.len()).filter_map(value).collect(), whole }
}

impl Read<'_> {
    pub fn claims(&self, key: HashKey, to: &mut Claims) {
        for (kind, value) in &self.values {
            let hash = claim_hash_bytes(key, *kind, value);
            to.set_read(*kind, hash, tail::of_value(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        decide::{
            Known as _,
            claims::{APP, CHANNEL, TENANT},
        },
        hash::CLAIM_MAX,
        request::{machine::Terms, watch::Watches},
    };

    const KEY: HashKey = HashKey { k0: 5, k1: 6 };

    fn reading() -> Reading {
        let terms = Terms { first_byte_ms: 0, silent_ms: 0, mss: 0, scale: 0, flags: 0 };
        let mut r = Reading { names: Watches::default(), kinds: [0; 8], terms, _pad: 0 };
        r.names.names[0] = Watches::header("X-App-Id");
        r.names.names[1] = Watches::cookie("tenant");
        r.names.names[7] = Watches::query("c");
        (r.kinds[0], r.kinds[1], r.kinds[7]) = (APP, TENANT, CHANNEL);
        r
    }

    #[test]
    fn a8_claims_are_the_values_that_are_found() {
        let long = format!("{}42", "x".repeat(40));
        let head = format!("GET /?c=beta HTTP/1.1\r\nCookie: a=b; tenant=t7\r\nX-App-Id: {long}\r\n\r\n");
        let read = read(&reading(), head.as_bytes());
        assert_eq!(read.values, [(APP, long.as_bytes()), (TENANT, b"t7"), (CHANNEL, b"beta")]);
        assert!(read.whole);
        let mut claims = Claims::none(0);
        read.claims(KEY, &mut claims);
        assert_eq!(claims.of(TENANT), claim_hash_bytes(KEY, TENANT, b"t7"));
        assert_eq!(claims.of(APP), claim_hash_bytes(KEY, APP, &long.as_bytes()[..CLAIM_MAX]));
        assert_eq!((claims.tail(APP), claims.tail(TENANT), claims.tail(CHANNEL)), (53, 8, 0));
        assert_eq!(claims.hash.iter().filter(|h| **h != 0).count(), 3);
    }

    #[test]
    fn what_is_not_held_is_not_read() {
        let head = format!("GET / HTTP/1.1\r\nCookie: tenant=t7\r\nX-Pad: {}\r\nX-App-Id: 7\r\n\r\n", "p".repeat(4400));
        let read = read(&reading(), head.as_bytes());
        assert_eq!((read.values, read.whole), (vec![(TENANT, &b"t7"[..])], false));
    }
}
