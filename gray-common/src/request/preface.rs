//! What the client's first bytes are. A client that says nothing waits for the server to speak first: no bytes can tell
//! that, so a time-out does (machine).

use super::{Bytes, proxy2};

/// Not to be told yet.
pub const MORE: u32 = 0;
/// Something that may be an HTTP/1 head; the scan tells.
pub const HTTP1: u32 = 1;
/// HTTP/2 with prior knowledge (RFC 9113, 3.4).
pub const HTTP2: u32 = 2;
pub const TLS: u32 = 3;
/// The PROXY protocol, version 2; what follows its header is told by another look.
pub const PROXY2: u32 = 4;
pub const OTHER: u32 = 5;

const HTTP2_PREFACE: [u64; 3] = [
    u64::from_be_bytes(*b"PRI * HT"),
    u64::from_be_bytes(*b"TP/2.0\r\n"),
    u64::from_be_bytes(*b"\r\nSM\r\n\r\n"),
];
const PROXY2_PREFACE: [u64; 3] =
    [u64::from_be_bytes(*b"\r\n\r\n\0\r\nQ"), u64::from_be_bytes(*b"UIT\n\0\0\0\0"), 0];
const PROXY2_LEN: u32 = 12;
const _: () = assert!(proxy2::HEADER_MAX > PROXY2_LEN);

/// What the bytes from `at` on are.
#[inline(always)]
pub fn kind<B: Bytes + ?Sized>(b: &B, at: u32) -> u32 {
    let Some(first) = b.at(at) else { return MORE };
    match first {
        0x16 => TLS,
        b'P' => match begins(b, at, &HTTP2_PREFACE, 24) {
            MORE => MORE,
            yes => {
                if yes == 1 {
                    HTTP2
                } else {
                    HTTP1
                }
            }
        },
        // A head may have an empty line before it.
        b'\r' => match begins(b, at, &PROXY2_PREFACE, PROXY2_LEN) {
            MORE => MORE,
            yes => {
                if yes == 1 {
                    PROXY2
                } else {
                    HTTP1
                }
            }
        },
        b'\n' | b'A'..=b'Z' | b'a'..=b'z' => HTTP1,
        _ => OTHER,
    }
}

/// 1: they do; 2: they do not; `MORE`: they do as far as they are there.
#[inline(always)]
fn begins<B: Bytes + ?Sized>(b: &B, at: u32, text: &[u64; 3], len: u32) -> u32 {
    let mut i = 0;
    while i < len {
        let word = text.get(i as usize / 8).copied().unwrap_or(0);
        match b.at(at.wrapping_add(i)) {
            None => return MORE,
            Some(c) if c != (word >> (56 - 8 * (i & 7))) as u8 => return 2,
            Some(_) => {}
        }
        i += 1;
    }
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a1_first_bytes_as_a_table() {
        for (raw, want) in [
            (&b""[..], MORE),
            (b"GET / HTTP/1.1\r\n", HTTP1),
            (b"get", HTTP1),
            (b"P", MORE),
            (b"POST", HTTP1),
            (b"PRI * HTTP/1.1", HTTP1),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", MORE),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", HTTP2),
            (b"\x16\x03\x01", TLS),
            (b"\r\n\r\n\0\r\nQUIT", MORE),
            (b"\r\n\r\n\0\r\nQUIT\n", PROXY2),
            (b"\r\nGET", HTTP1),
            (b"\x80\x2e\x01", OTHER),
            (b"\0\0\0\x08\x04\xd2", OTHER),
        ] {
            assert_eq!(kind(raw, 0), want, "{raw:?}");
        }
        assert_eq!(kind(&b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0GET /"[..], 16), HTTP1);
    }
}
