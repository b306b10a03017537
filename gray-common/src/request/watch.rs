//! Which names a scan looks for: headers, cookies and query parameters, each as a hash of its name. A scan compares
//! hashes only (FNV-1a, 64 bits): whoever makes another name collide could as well send the name itself.

/// Names that one service can watch.
pub const WATCHES: usize = 8;

/// Beginnings of the hash, so that a header, a cookie and a parameter of one name are three.
pub(super) const HEADER: u64 = 0xcbf2_9ce4_8422_2325;
pub(super) const COOKIE: u64 = HEADER ^ 0x636f_6f6b_6965_0000;
pub(super) const QUERY: u64 = HEADER ^ 0x7175_6572_7900_0000;
/// Methods and transfer codings.
pub(super) const WORD: u64 = HEADER ^ 0x776f_7264_0000_0000;

pub(super) const CONTENT_LENGTH: u64 = Watches::header("content-length");
pub(super) const TRANSFER_ENCODING: u64 = Watches::header("transfer-encoding");
pub(super) const COOKIES: u64 = Watches::header("cookie");
pub(super) const UPGRADE: u64 = Watches::header("upgrade");
pub(super) const EXPECT: u64 = Watches::header("expect");
pub(super) const M_HEAD: u64 = name(WORD, "HEAD", 0);
pub(super) const M_CONNECT: u64 = name(WORD, "CONNECT", 0);
pub(super) const CHUNKED: u64 = name(WORD, "chunked", 0);

/// Headers that a scan reads itself, and that cannot be watched as a whole.
pub const RESERVED: [u64; 5] = [CONTENT_LENGTH, TRANSFER_ENCODING, COOKIES, UPGRADE, EXPECT];

/// `n-d-*` headers that programs only see, and leave to the splice listener, in the order of `wire::MORE_ADDRESS` ..
pub const MORE_HEADERS: [&str; 5] =
    ["n-d-address", "n-d-version-weight", "n-d-region-weight", "n-d-id-blacklist", "n-d-address-blacklist"];
/// In the last place, and nowhere else: any of them.
pub const MORE: u64 = HEADER ^ 0x6d6f_7265_0000_0000;
/// The place.
pub const MORE_AT: usize = WATCHES - 1;
const MORE_NAMES: [u64; 5] = [
    Watches::header(MORE_HEADERS[0]),
    Watches::header(MORE_HEADERS[1]),
    Watches::header(MORE_HEADERS[2]),
    Watches::header(MORE_HEADERS[3]),
    Watches::header(MORE_HEADERS[4]),
];

/// 0: one of [`MORE_NAMES`]. No branch, which the verifier would follow both ways, name by name.
#[inline(always)]
fn is_other(hash: u64) -> u64 {
    let some = |x: u64| (x | x.wrapping_neg()) >> 63;
    let mut other = 1;
    let mut i = 0;
    while i < MORE_NAMES.len() {
        other &= some(hash ^ MORE_NAMES[i]);
        i += 1;
    }
    other
}

/// The names, by number; 0: none.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watches {
    pub names: [u64; WATCHES],
}

impl Watches {
    /// A header's name, in any case.
    pub const fn header(text: &str) -> u64 {
        name(HEADER, text, 0x20)
    }

    /// A cookie's name, in this case.
    pub const fn cookie(text: &str) -> u64 {
        name(COOKIE, text, 0)
    }

    /// A query parameter's name as it stands in the request, in this case: nothing is decoded.
    pub const fn query(text: &str) -> u64 {
        name(QUERY, text, 0)
    }

    /// Number of a watched name plus 1; 0: not watched.
    #[inline(always)]
    pub(super) fn find(&self, hash: u64) -> u8 {
        let mut found = 0;
        let mut i = 0;
        while i < WATCHES {
            if let Some(n) = self.names.get(i)
                && *n == hash
                && found == 0
            {
                found = i as u8 + 1;
            }
            i += 1;
        }
        if found == 0 && self.names[MORE_AT] == MORE && is_other(hash) == 0 {
            found = WATCHES as u8;
        }
        found
    }
}

/// One byte more of a name.
#[inline(always)]
pub(super) const fn fold(hash: u64, c: u8) -> u64 {
    (hash ^ c as u64).wrapping_mul(0x0100_0000_01b3)
}

/// An upper-case letter's lower case, and any other byte.
#[inline(always)]
pub(super) const fn lower(c: u8) -> u8 {
    if c.is_ascii_uppercase() { c | 0x20 } else { c }
}

const fn name(seed: u64, text: &str, case: u8) -> u64 {
    let b = text.as_bytes();
    let mut h = seed;
    let mut i = 0;
    while i < b.len() {
        h = fold(h, if case == 0 { b[i] } else { lower(b[i]) });
        i += 1;
    }
    h
}
