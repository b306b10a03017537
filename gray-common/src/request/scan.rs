//! The scan of an HTTP/1 head (RFC 9112): finds the values of watched headers, cookies and query parameters, what frames
//! the body, and the end. It takes a byte a step, or up to eight that are alike, stops anywhere and goes on
//! with the next segment.
//!
//! Defined:
//! - A value stands without white space around it. An empty one is no value. Of several the first counts.
//! - Nothing is decoded: percent signs and quotes are part of the value, and bytes above 127 may stand in it.
//! - Lines end with LF or CR LF; empty lines before a request line are passed over.
//! - `BAD`, which leaves the head to the listener or the connection where it is: a CR without LF, a control character, white
//!   space before a colon, a folded line, a version other than 1.0 and 1.1, a length that is no number or two different
//!   ones, a head over [`HEAD_MAX`].

mod phase;
mod stride;

use self::phase::*;
use super::{
    Bytes,
    text::{control, token},
    watch,
};
pub use watch::Watches;

/// Longest head, bytes.
pub const HEAD_MAX: u32 = 16_384;
/// A body of more is none that anybody sends.
const LENGTH_MAX: u64 = 1 << 60;

/// What a step answers. `STEP`: go on; `MORE`: the bytes are used up; the others are final.
pub const STEP: u32 = 0;
pub const MORE: u32 = 1;
pub const END: u32 = 2;
pub const BAD: u32 = 3;

/// `Scan::flags`
pub const LENGTH: u16 = 1;
pub const CHUNKED: u16 = 2;
/// A transfer coding that is not just `chunked`.
pub const CODED: u16 = 4;
pub const UPGRADE: u16 = 8;
pub const EXPECT: u16 = 16;
pub const HEAD: u16 = 32;
pub const CONNECT: u16 = 64;
pub const HTTP_10: u16 = 128;
/// A watched name had another value after the one that counts.
pub const TWICE: u16 = 256;

/// Where a value stands, bytes from the head's first.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub at: u16,
    pub len: u16,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// Of the name being read; the number, while a length is.
    hash: u64,
    /// Content-Length.
    pub length: u64,
    /// Bytes taken; at the end the head's length.
    pub at: u32,
    start: u16,
    end: u16,
    /// Of a response.
    pub status: u16,
    pub flags: u16,
    /// Watched names with a value, a bit each.
    pub found: u8,
    phase: u8,
    /// What the value being read is: see `W_`, or a watched name.
    what: u8,
    /// Not 0: a CR waits for its LF.
    cr: u8,
    pub values: [Span; watch::WATCHES],
}

const VERSION: u64 = u64::from_le_bytes(*b"HTTP/1.\0");
const VERSION_LEN: u32 = 7;
const STATUS_MIN: u16 = 100;

impl Scan {
    #[inline(always)]
    pub fn request() -> Self {
        Self { hash: watch::WORD, ..Self::default() }
    }

    #[inline(always)]
    pub fn response() -> Self {
        Self { phase: P_STATUS, ..Self::default() }
    }

    pub fn has(&self, flags: u16) -> bool {
        self.flags & flags != 0
    }

    /// Takes what there is.
    #[inline(always)]
    pub fn run<B: Bytes + ?Sized>(&mut self, b: &B, w: &Watches) -> u32 {
        let mut i = 0;
        while i <= HEAD_MAX {
            let r = self.step(b, w);
            if r != STEP {
                return r;
            }
            i += 1;
        }
        self.stop(P_BAD)
    }

    /// Byte `self.at`, or eight of them.
    #[inline(always)]
    pub fn step<B: Bytes + ?Sized>(&mut self, b: &B, w: &Watches) -> u32 {
        if self.phase == P_END || self.phase == P_BAD {
            return self.stop(self.phase);
        }
        if self.at >= HEAD_MAX {
            return self.stop(P_BAD);
        }
        if self.cr == 0
            && self.at + 8 <= HEAD_MAX
            && let Some(word) = b.word(self.at)
        {
            let n = self.stride(word);
            if n != 0 {
                self.at += n;
                return STEP;
            }
        }
        let Some(c) = b.at(self.at) else { return MORE };
        let lone = self.cr != 0 && c != b'\n';
        self.cr = (c == b'\r') as u8;
        if lone || control(c) {
            return self.stop(P_BAD);
        }
        if self.cr == 0 {
            let next = self.byte(c);
            // At one place each: they are long.
            if next != NO_VALUE {
                self.record(next);
            }
            if self.what == W_LOOKUP {
                self.what = w.find(self.hash);
                if self.what == W_NONE && self.phase == P_BEFORE {
                    self.phase = P_SKIP;
                }
            }
        }
        if self.phase == P_BAD {
            return BAD;
        }
        self.at += 1;
        if self.phase == P_END { END } else { STEP }
    }

    #[inline(always)]
    fn stop(&mut self, phase: u8) -> u32 {
        self.phase = phase;
        if phase == P_END { END } else { BAD }
    }

    /// One byte: LF, HT or no control character. What a value that ends here is followed by, or [`NO_VALUE`].
    #[inline(always)]
    fn byte(&mut self, c: u8) -> u8 {
        if self.phase == P_START && c != b'\n' {
            self.phase = P_METHOD;
        }
        if self.phase == P_BEFORE && c != b' ' && c != b'\t' {
            self.value_begins();
        }
        match self.phase {
            P_METHOD..=P_EOL | P_FRAGMENT | P_STATUS => return self.start_line(c),
            P_LINE | P_NAME => self.name(c),
            P_VALUE | P_LENGTH | P_CODING | P_COOKIE | P_CRUMB | P_TAIL => return self.value(c),
            P_SKIP if c == b'\n' => self.phase = P_LINE,
            _ => {}
        }
        NO_VALUE
    }

    #[inline(always)]
    fn start_line(&mut self, c: u8) -> u8 {
        let sp = c == b' ';
        match self.phase {
            P_METHOD if sp && self.hash != watch::WORD => {
                self.flags |= if self.hash == watch::M_HEAD { HEAD } else { 0 };
                self.flags |= if self.hash == watch::M_CONNECT { CONNECT } else { 0 };
                self.begin_span(P_TARGET);
            }
            P_METHOD if token(c) => self.hash = watch::fold(self.hash, c),
            P_TARGET if sp && self.at as u16 == self.start => self.phase = P_BAD,
            P_TARGET | P_KEY | P_QUERY | P_FRAGMENT if sp => return P_VERSION,
            P_TARGET | P_KEY | P_QUERY | P_FRAGMENT if c > b' ' => return self.target(c),
            P_VERSION | P_STATUS if c != b'\n' => self.version(c),
            P_EOL if c == b'\n' => self.phase = P_LINE,
            // Without a reason phrase.
            P_STATUS if self.status >= STATUS_MIN => self.phase = P_LINE,
            _ => self.phase = P_BAD,
        }
        NO_VALUE
    }

    /// A visible byte of the target.
    #[inline(always)]
    fn target(&mut self, c: u8) -> u8 {
        match (self.phase, c) {
            (P_KEY | P_QUERY, b'&') | (P_TARGET, b'?') => return P_KEY,
            (P_KEY, b'=') => {
                self.what = W_LOOKUP;
                self.begin_span(P_QUERY);
            }
            (_, b'#') => return P_FRAGMENT,
            (P_KEY, _) => self.hash = watch::fold(self.hash, c),
            _ => self.end = self.at as u16 + 1,
        }
        NO_VALUE
    }

    /// `HTTP/1.x`, and a response's status behind it.
    #[inline(always)]
    fn version(&mut self, c: u8) {
        let i = self.at - u32::from(self.start);
        if i < VERSION_LEN {
            let want = (VERSION >> (8 * i)) as u8;
            self.phase = if c == want { self.phase } else { P_BAD };
            return;
        }
        if i == VERSION_LEN && (c == b'0' || c == b'1') {
            self.flags |= if c == b'0' { HTTP_10 } else { 0 };
            self.phase = if self.phase == P_VERSION { P_EOL } else { P_STATUS };
            return;
        }
        let digit = c.is_ascii_digit();
        match i {
            8 if c == b' ' => {}
            9..=11 if digit => self.status = self.status * 10 + u16::from(c - b'0'),
            12 if c == b' ' && self.status >= STATUS_MIN => self.phase = P_SKIP,
            _ => self.phase = P_BAD,
        }
    }

    #[inline(always)]
    fn name(&mut self, c: u8) {
        if self.phase == P_LINE {
            if c == b'\n' {
                self.phase = P_END;
                return;
            }
            self.hash = watch::HEADER;
            self.phase = P_NAME;
            self.start = self.at as u16;
        }
        if c == b':' && self.at as u16 != self.start {
            self.named();
        } else if token(c) {
            self.hash = watch::fold(self.hash, watch::lower(c));
        } else {
            self.phase = P_BAD;
        }
    }

    #[inline(always)]
    fn named(&mut self) {
        let h = self.hash;
        self.flags |= if h == watch::UPGRADE { UPGRADE } else { 0 };
        self.flags |= if h == watch::EXPECT { EXPECT } else { 0 };
        self.what = match h {
            watch::CONTENT_LENGTH => W_LENGTH,
            watch::TRANSFER_ENCODING => W_CODING,
            watch::COOKIES => W_COOKIE,
            _ => W_LOOKUP,
        };
        self.phase = P_BEFORE;
    }

    /// The first byte of a value, which may be the LF behind an empty one.
    #[inline(always)]
    fn value_begins(&mut self) {
        let what = self.what;
        self.begin_span(match what {
            W_LENGTH => P_LENGTH,
            W_CODING => P_CODING,
            W_COOKIE => P_COOKIE,
            _ => P_VALUE,
        });
        self.hash = match what {
            W_LENGTH => 0,
            W_CODING => watch::WORD,
            _ => watch::COOKIE,
        };
    }

    #[inline(always)]
    fn value(&mut self, c: u8) -> u8 {
        if c == b'\n' {
            return self.line_ends();
        }
        let white = c == b' ' || c == b'\t';
        match self.phase {
            P_LENGTH if c.is_ascii_digit() && self.hash < LENGTH_MAX => {
                self.hash = self.hash * 10 + u64::from(c - b'0');
                self.end = self.at as u16 + 1;
            }
            P_LENGTH | P_CODING | P_TAIL if white => self.phase = P_TAIL,
            P_CODING => self.hash = watch::fold(self.hash, watch::lower(c)),
            P_TAIL if self.what == W_CODING => self.hash = 0,
            P_LENGTH | P_TAIL => self.phase = P_BAD,
            P_COOKIE | P_CRUMB if c == b';' => return P_COOKIE,
            P_COOKIE if c == b'=' => {
                self.what = W_LOOKUP;
                self.begin_span(P_CRUMB);
            }
            // White space before a cookie's name.
            P_COOKIE if white && self.hash == watch::COOKIE => {}
            P_COOKIE => self.hash = watch::fold(self.hash, c),
            _ if white => self.start += u16::from(self.end == self.start && self.at as u16 == self.start),
            _ => self.end = self.at as u16 + 1,
        }
        if self.phase != P_BAD && white && self.end < self.start {
            self.end = self.start;
        }
        NO_VALUE
    }

    #[inline(always)]
    fn line_ends(&mut self) -> u8 {
        let what = self.what;
        if what == W_LENGTH {
            let other = self.has(LENGTH) && self.length != self.hash;
            if self.end == self.start || other {
                self.phase = P_BAD;
                return NO_VALUE;
            }
            self.length = self.hash;
            self.flags |= LENGTH;
        } else if what == W_CODING {
            let only = self.hash == watch::CHUNKED && !self.has(CHUNKED | CODED);
            self.flags |= if only { CHUNKED } else { CODED };
        }
        P_LINE
    }

    #[inline(always)]
    fn begin_span(&mut self, phase: u8) {
        self.phase = phase;
        // Behind the delimiter, but a header's value begins with the byte itself.
        self.start = self.at as u16 + (phase == P_QUERY || phase == P_CRUMB || phase == P_TARGET) as u16;
        self.end = self.start;
    }

    /// Keeps the value that ends here, if it is watched, and goes on in another phase.
    #[inline(always)]
    fn record(&mut self, next: u8) {
        let value = self.phase == P_VALUE || self.phase == P_QUERY || self.phase == P_CRUMB;
        self.phase = next;
        let i = self.what.wrapping_sub(1);
        let (start, end) = (self.start, self.end);
        match next {
            P_KEY => self.hash = watch::QUERY,
            P_VERSION => self.start = self.at as u16 + 1,
            P_COOKIE => (self.what, self.hash) = (W_COOKIE, watch::COOKIE),
            _ => {}
        }
        if !value || usize::from(i) >= watch::WATCHES || end <= start {
            return;
        }
        if self.found & 1 << i != 0 {
            self.flags |= TWICE;
            return;
        }
        self.found |= 1 << i;
        // Place by place: of a number that was compared a copy may be the index, which verifiers know nothing of.
        let mut k = 0;
        while k < watch::WATCHES {
            if k == usize::from(i)
                && let Some(v) = self.values.get_mut(k)
            {
                *v = Span { at: start, len: end - start };
            }
            k += 1;
        }
    }
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
