//! Classes of the bytes of a head.

/// Control characters; HT, CR and LF are none here.
#[inline(always)]
pub(super) fn control(c: u8) -> bool {
    c < b' ' && c != b'\t' && c != b'\n' && c != b'\r' || c == 0x7f
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// Marks, by their highest bits, the first of eight bytes that is less than `least` or DEL, and perhaps some behind it. `least` is
/// at most 128.
#[inline(always)]
pub(super) fn small(w: u64, least: u64) -> u64 {
    ((w.wrapping_sub(ONES * least) & !w) | marks(w, 0x7f)) & HIGH
}

/// The same of bytes that are `c`.
#[inline(always)]
pub(super) fn marks(w: u64, c: u8) -> u64 {
    let x = w ^ (ONES * c as u64);
    x.wrapping_sub(ONES) & !x & HIGH
}

/// How many bytes are before the first one marked. Without a count of zeros, which the target has no instruction for.
#[inline(always)]
pub(super) fn leading(marks: u64) -> u32 {
    if marks == 0 {
        return 8;
    }
    let below = (marks & marks.wrapping_neg()).wrapping_sub(1) & ONES;
    (below.wrapping_mul(ONES) >> 56) as u32 - 1
}

/// Characters of a token (RFC 9110, 5.6.2), a bit each.
const TOKEN: [u64; 2] = tokens();

const fn tokens() -> [u64; 2] {
    let text = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut out = [0; 2];
    let mut i = 0;
    while i < text.len() {
        out[(text[i] >> 6) as usize] |= 1 << (text[i] & 63);
        i += 1;
    }
    out
}

#[inline(always)]
pub(super) fn token(c: u8) -> bool {
    let half = if c < 64 { TOKEN[0] } else { TOKEN[1] };
    c < 128 && half >> (c & 63) & 1 != 0
}
