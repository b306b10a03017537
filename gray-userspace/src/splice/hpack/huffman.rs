//! The Huffman code of strings (RFC 7541, appendix B). It is canonical: codes of one length follow one another in the order of their
//! symbols, so the lengths say it all.

/// Bits of each byte's code; the last one is the end of a string, which may only be padding.
#[rustfmt::skip]
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

const SYMBOLS: usize = 257;
const LONGEST: usize = 30;
const END: u16 = 256;

/// By length: the first code, how many there are, and where the first one's symbol stands.
struct Code {
    lengths: [(u32, u32, u32); LONGEST + 1],
    symbols: [u16; SYMBOLS],
}

static CODE: Code = code();

const fn code() -> Code {
    let mut out = Code { lengths: [(0, 0, 0); LONGEST + 1], symbols: [0; SYMBOLS] };
    let (mut next, mut at, mut len) = (0, 0, 1);
    while len <= LONGEST {
        next <<= 1;
        let first = (next, at);
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if LENGTHS[symbol] as usize == len {
                out.symbols[at as usize] = symbol as u16;
                at += 1;
                next += 1;
            }
            symbol += 1;
        }
        out.lengths[len] = (first.0, at - first.1, first.1);
        len += 1;
    }
    out
}

/// `None`: it is no string's code.
pub fn decode(raw: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(raw.len() * 8 / 5);
    let (mut code, mut len) = (0u32, 0);
    for byte in raw {
        for bit in (0..8).rev() {
            code = code << 1 | u32::from(byte >> bit & 1);
            len += 1;
            let (first, count, at) = *CODE.lengths.get(len)?;
            let n = code.wrapping_sub(first);
            if n >= count {
                continue;
            }
            let symbol = *CODE.symbols.get((at + n) as usize)?;
            if symbol == END {
                return None;
            }
            out.push(symbol as u8);
            (code, len) = (0, 0);
        }
    }
    // The rest is the beginning of the end's code, which is ones, and less than a byte.
    (len < 8 && code == (1 << len) - 1).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7541, appendix C.4 and C.6.
    #[test]
    fn a1_strings_of_the_rfc() {
        for (raw, text) in [
            (
                &[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff][..],
                &b"www.example.com"[..],
            ),
            (&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], b"no-cache"),
            (&[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f], b"custom-key"),
            (&[0x64, 0x02], b"302"),
            (&[], b""),
        ] {
            assert_eq!(decode(raw).as_deref(), Some(text));
        }
    }

    #[test]
    fn a1_every_byte_has_a_code_and_padding_is_ones() {
        for (symbol, len) in LENGTHS[..256].iter().enumerate() {
            let len = usize::from(*len);
            let (first, _, at) = CODE.lengths[len];
            let n = CODE.symbols.iter().position(|s| usize::from(*s) == symbol).unwrap() as u32 - at;
            let bits = u64::from(first + n) << (64 - len) | u64::MAX >> len;
            let raw = bits.to_be_bytes();
            assert_eq!(decode(&raw[..len.div_ceil(8)]), Some(vec![symbol as u8]), "{symbol}");
        }
        assert_eq!(decode(&[0xff]), None, "a byte of padding");
        assert_eq!(decode(&[0x00, 0x00]), None, "padding of zeros");
        assert_eq!(decode(&[0xff; 4]), None, "the end inside");
    }
}
