//! What is known of a client when its request was read, from bytes on the host: as the data path makes it of the same bytes.

use super::{
    machine::HOLD,
    scan::{END, Scan},
};
use crate::{
    decide::{
        Claims,
        claims::{BEGINNING, ND_MORE},
        tail,
    },
    hash::{CLAIM_MAX, HashKey, claim_hash_bytes},
    wire::Reading,
};

/// What a request says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Read<'a> {
    /// Claim kinds and their values, whole, in the order of the reading's names.
    pub values: Vec<(u8, &'a [u8])>,
    /// What wildcards ask for: the number in the reading, the kind, and so many first bytes of its value.
    pub beginnings: Vec<(u8, u8, &'a [u8])>,
    /// The head ends, and nothing in it is bad.
    pub whole: bool,
}

/// Reads what is held of a client's first bytes.
pub fn read<'a>(reading: &Reading, bytes: &'a [u8]) -> Read<'a> {
    let held = &bytes[..bytes.len().min(HOLD as usize)];
    let mut scan = Scan::request();
    let whole = scan.run(held, &reading.names) == END;
    Read { whole, ..found(reading, &scan, held) }
}

/// What a scan has found in `head`, which it has read as far as it can be read.
pub fn found<'a>(reading: &Reading, scan: &Scan, head: &'a [u8]) -> Read<'a> {
    let value = |i: usize| {
        let (kind, span) = (*reading.kinds.get(i)?, scan.values.get(i)?);
        let (at, len) = (usize::from(span.at), usize::from(span.len));
        let there = scan.found & 1 << i != 0 && kind != 0 && kind != ND_MORE;
        there.then(|| (kind, head.get(at..at + len).unwrap_or_default()))
    };
    let beginning = |i: usize| {
        let (kind, value) = value(usize::from(reading.beginning_of[i]).checked_sub(1)?)?;
        let value = &value[..value.len().min(CLAIM_MAX)];
        Some((i as u8, kind, value.get(..usize::from(reading.beginning_len[i]))?))
    };
    Read {
        values: (0..reading.kinds.len()).filter_map(value).collect(),
        beginnings: (0..reading.beginning_of.len()).filter_map(beginning).collect(),
        whole: false,
    }
}

impl Read<'_> {
    pub fn claims(&self, key: HashKey, to: &mut Claims) {
        for (kind, value) in &self.values {
            let hash = claim_hash_bytes(key, *kind, value);
            to.set_read(*kind, hash, tail::of_value(value));
        }
        for (i, kind, bytes) in &self.beginnings {
            to.set_beginning(*i, claim_hash_bytes(key, kind | BEGINNING, bytes));
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
        request::{machine::Terms, watch::Watches},
    };

    const KEY: HashKey = HashKey { k0: 5, k1: 6 };

    fn reading() -> Reading {
        let terms = Terms { first_byte_ms: 0, silent_ms: 0, mss: 0, scale: 0, flags: 0 };
        let mut r = Reading {
            names: Watches::default(),
            kinds: [0; 8],
            beginning_of: [0; 8],
            beginning_len: [0; 8],
            terms,
            sni: 0,
            alpn: 0,
            named: u8::MAX,
            _pad: 0,
            name: 0,
        };
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
    fn b6_beginnings_are_of_what_is_there() {
        let mut r = reading();
        r.beginning_of[..5].copy_from_slice(&[2, 2, 1, 8, 2]);
        r.beginning_len[..5].copy_from_slice(&[1, 2, 0, 0, 3]);
        let head = "GET /?x=1 HTTP/1.1\r\nCookie: tenant=t7\r\nX-App-Id: a\r\n\r\n";
        let read = read(&r, head.as_bytes());
        assert_eq!(read.beginnings, [(0, TENANT, &b"t"[..]), (1, TENANT, b"t7"), (2, APP, b"")]);
        let mut claims = Claims::none(0);
        read.claims(KEY, &mut claims);
        assert_eq!(claims.beginning(1), claim_hash_bytes(KEY, TENANT | BEGINNING, b"t7"));
        assert_ne!(claims.beginning(1), claims.of(TENANT));
        assert_eq!((claims.beginning(3), claims.beginning(4)), (0, 0));
    }

    #[test]
    fn what_is_not_held_is_not_read() {
        let head = format!(
            "GET / HTTP/1.1\r\nCookie: tenant=t7\r\nX-Pad: {}\r\nX-App-Id: 7\r\n\r\n",
            "p".repeat(4400)
        );
        let read = read(&reading(), head.as_bytes());
        assert_eq!((read.values, read.whole), (vec![(TENANT, &b"t7"[..])], false));
    }
}
