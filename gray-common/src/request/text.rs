//! Classes of the bytes of a head.

/// Control characters; HT, CR and LF are none here.
#[inline(always)]
pub(super) fn control(c: u8) -> bool {
    c < b' ' && c != b'\t' && c != b'\n' && c != b'\r' || c == 0x7f
}

/// Eight bytes without any control character, HT, CR and LF among them.
#[inline(always)]
pub(super) fn plain(w: u64) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let del = w ^ (ONES * 0x7f);
    let low = w.wrapping_sub(ONES * 0x20) & !w;
    let is_del = del.wrapping_sub(ONES) & !del;
    (low | is_del) & HIGH == 0
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
