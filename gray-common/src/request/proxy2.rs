//! The PROXY protocol's binary header, version 2 (HAProxy, proxy-protocol.txt, 2.2): the real source of a connection that
//! came through a load balancer, and its TLVs. The header stays in front of the stream: the instance reads it, too.

use super::{
    Bytes,
    scan::{BAD, END, MORE, STEP, Span},
};

/// Longest header, bytes; the protocol allows 65 551, load balancers send a few hundred.
pub const HEADER_MAX: u32 = 4096;
/// TLVs that one service can watch.
pub const TLVS: usize = 4;

const SIGNATURE: [u32; 3] = [0x0d0a_0d0a, 0x000d_0a51, 0x5549_540a];
const FIXED: u32 = 16;
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;

/// One header. Where nothing is known about the source (`LOCAL`, other families), `family` is 0.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Source and destination as they stand, IPv4 in the first word; network order as numbers.
    pub source: [u32; 4],
    pub destination: [u32; 4],
    pub source_port: u16,
    pub destination_port: u16,
    /// Bytes of the whole header; 0: not known yet.
    pub len: u32,
    at: u32,
    /// 4, 6, or 0.
    pub family: u8,
    /// TLVs found, a bit each.
    pub found: u8,
    pub _pad: [u8; 2],
    pub tlvs: [Span; TLVS],
}

impl Header {
    /// Reads the header and looks for TLVs of these types (0: none); of several of a type the first counts.
    #[inline(always)]
    pub fn run<B: Bytes + ?Sized>(&mut self, b: &B, wanted: &[u8; TLVS]) -> u32 {
        let mut i = 0;
        while i <= HEADER_MAX / 3 {
            let r = self.step(b, wanted);
            if r != STEP {
                return r;
            }
            i += 1;
        }
        BAD
    }

    /// The fixed part, or one TLV.
    #[inline(always)]
    pub fn step<B: Bytes + ?Sized>(&mut self, b: &B, wanted: &[u8; TLVS]) -> u32 {
        if self.len == 0 {
            return self.fixed(b);
        }
        let left = self.len - self.at;
        if left == 0 {
            // The stream begins behind it: everything must be there.
            return if b.at(self.len - 1).is_some() { END } else { MORE };
        }
        if left < 3 {
            return BAD;
        }
        let (Some(kind), Some(size)) = (b.at(self.at), b.be16(self.at + 1)) else { return MORE };
        if size > left - 3 {
            return BAD;
        }
        let value = Span { at: self.at as u16 + 3, len: size as u16 };
        self.at += 3 + size;
        let mut i = 0;
        while i < TLVS {
            let want = wanted.get(i).copied().unwrap_or(0);
            if want != 0
                && want == kind
                && self.found & 1 << i == 0
                && let Some(t) = self.tlvs.get_mut(i)
            {
                *t = value;
                self.found |= 1 << i;
            }
            i += 1;
        }
        STEP
    }

    #[inline(always)]
    fn fixed<B: Bytes + ?Sized>(&mut self, b: &B) -> u32 {
        let mut i = 0;
        while i < 12 {
            let word = SIGNATURE.get(i as usize / 4).copied().unwrap_or(0);
            match b.at(i) {
                Some(c) if c == (word >> (24 - 8 * (i & 3))) as u8 => {}
                Some(_) => return BAD,
                None => return MORE,
            }
            i += 1;
        }
        let (Some(command), Some(family), Some(size)) = (b.at(12), b.at(13), b.be16(14)) else { return MORE };
        if FIXED + size > HEADER_MAX || command != LOCAL && command != PROXY {
            return BAD;
        }
        // Of a local connection (a health check) addresses are to be passed over, as are those of other families.
        let (family, bytes) = match (command, family) {
            (PROXY, 0x11 | 0x12) => (4, 12),
            (PROXY, 0x21 | 0x22) => (6, 36),
            (PROXY, 0x31 | 0x32) => (0, 216),
            _ => (0, size),
        };
        if size < bytes {
            return BAD;
        }
        if family != 0 && !self.addresses(b, family) {
            return MORE;
        }
        self.family = family;
        self.at = FIXED + bytes;
        self.len = FIXED + size;
        STEP
    }

    #[inline(always)]
    fn addresses<B: Bytes + ?Sized>(&mut self, b: &B, family: u8) -> bool {
        let words = if family == 4 { 1 } else { 4 };
        let mut i = 0;
        while i < words {
            let (Some(s), Some(d)) = (b.be32(FIXED + 4 * i), b.be32(FIXED + 4 * (words + i))) else {
                return false;
            };
            if let (Some(to_s), Some(to_d)) =
                (self.source.get_mut(i as usize), self.destination.get_mut(i as usize))
            {
                *to_s = s;
                *to_d = d;
            }
            i += 1;
        }
        let ports = FIXED + 8 * words;
        let (Some(s), Some(d)) = (b.be16(ports), b.be16(ports + 2)) else { return false };
        self.source_port = s as u16;
        self.destination_port = d as u16;
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut h = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
        h.extend([command, family]);
        h.extend((body.len() as u16).to_be_bytes());
        h.extend(body);
        h
    }

    const V4: [u8; 12] = [198, 18, 1, 3, 198, 18, 1, 100, 0x9c, 0x40, 0, 80];

    fn read(b: &[u8]) -> (u32, Header) {
        let mut h = Header::default();
        (h.run(b, &[0xe0, 0x05, 0, 0]), h)
    }

    #[test]
    fn a10_headers_as_a_table() {
        let with = |tail: &[u8]| [&V4[..], tail].concat();
        for (name, raw, want, family, found) in [
            ("IPv4", header(0x21, 0x11, &V4), END, 4, 0),
            ("UDP over IPv4", header(0x21, 0x12, &V4), END, 4, 0),
            ("IPv6", header(0x21, 0x21, &[1; 36]), END, 6, 0),
            ("unix", header(0x21, 0x31, &[1; 216]), END, 0, 0),
            ("local", header(0x20, 0x00, &[]), END, 0, 0),
            ("local with what it should not have", header(0x20, 0x11, &V4), END, 0, 0),
            ("unspecified", header(0x21, 0x00, &[1, 2]), END, 0, 0),
            ("a TLV", header(0x21, 0x11, &with(&[4, 0, 1, 9, 0xe0, 0, 2, 65, 66])), END, 4, 1),
            ("an empty TLV", header(0x21, 0x11, &with(&[5, 0, 0])), END, 4, 2),
            ("a TLV longer than the header", header(0x21, 0x11, &with(&[0xe0, 0, 2, 65])), BAD, 4, 0),
            ("half a TLV", header(0x21, 0x11, &with(&[0xe0, 0])), BAD, 4, 0),
            ("addresses cut short", header(0x21, 0x11, &V4[..11]), BAD, 0, 0),
            ("version 1", header(0x11, 0x11, &V4), BAD, 0, 0),
            ("another command", header(0x22, 0x11, &V4), BAD, 0, 0),
            ("another signature", b"\r\n\r\n\0\r\nQUIx\n!!!!".to_vec(), BAD, 0, 0),
            ("too long", header(0x21, 0x00, &[0; 4081]), BAD, 0, 0),
        ] {
            let (r, h) = read(&raw);
            assert_eq!((r, h.family, h.found), (want, family, found), "{name}");
            if r == END {
                assert_eq!(h.len as usize, raw.len(), "{name}");
            }
        }
        let (_, h) = read(&header(0x21, 0x11, &[&V4[..], &[0xe0, 0, 2, 65, 66, 0xe0, 0, 1, 67]].concat()));
        assert_eq!((h.source[0], h.destination[0]), (0xc612_0103, 0xc612_0164));
        assert_eq!((h.source_port, h.destination_port), (40_000, 80));
        assert_eq!(h.tlvs[0], Span { at: 31, len: 2 }, "the first of a type");
        let (_, h) = read(&header(0x21, 0x21, &(0..36).collect::<Vec<u8>>()));
        assert_eq!((h.source[3], h.destination[0], h.source_port), (0x0c0d_0e0f, 0x1011_1213, 0x2021));
    }

    proptest! {
        #[test]
        fn a10_a_header_in_pieces(kinds in prop::collection::vec((any::<u8>(), 0usize..20), 0..6), cut in any::<prop::sample::Index>()) {
            let tlvs: Vec<u8> = kinds.iter().flat_map(|(k, n)| [&[*k, 0, *n as u8][..], &vec![7; *n]].concat()).collect();
            let raw = header(0x21, 0x11, &[&V4[..], &tlvs].concat());
            let whole = read(&raw);
            prop_assert_eq!((whole.0, whole.1.len as usize), (END, raw.len()));
            prop_assert_eq!(whole.1.found & 1 != 0, kinds.iter().any(|k| k.0 == 0xe0));
            let mut h = Header::default();
            prop_assert_eq!(h.run(&raw[..cut.index(raw.len())], &[0xe0, 5, 0, 0]), MORE);
            prop_assert_eq!((h.run(&raw[..], &[0xe0, 5, 0, 0]), h), whole);
        }

        #[test]
        fn a10_any_bytes_are_taken_well(tail in prop::collection::vec(any::<u8>(), 0..100), real: bool) {
            let raw = if real { [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0", &tail[..]].concat() } else { tail };
            let (r, h) = read(&raw);
            prop_assert!(matches!(r, MORE | END | BAD));
            prop_assert!(r != END || h.tlvs.iter().all(|t| u32::from(t.at + t.len) <= h.len) && h.len as usize <= raw.len());
        }
    }
}
