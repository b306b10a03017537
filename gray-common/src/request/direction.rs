//! One direction of an HTTP/1 connection: head after head, each with its body skipped by its length or by its chunks
//! (RFC 9112, 7.1). A chunk's lines end with CR LF; what others may take for a line end, too, cannot be followed.

use super::{
    Bytes,
    scan::{self, Scan, Watches},
    seq::{Part, part},
};

/// What a direction is in.
pub(super) const P_HEAD: u8 = 0;
/// A body of `skip` bytes.
pub(super) const P_BODY: u8 = 1;
/// A chunk's size, its extension, and its data with the line end behind it.
pub(super) const P_SIZE: u8 = 2;
pub(super) const P_EXTENSION: u8 = 3;
pub(super) const P_CHUNK: u8 = 4;
pub(super) const P_TRAILER: u8 = 5;
/// Everything up to the end of the connection.
pub(super) const P_REST: u8 = 6;
/// The request asked for another protocol: nothing begins until the answer is there.
pub(super) const P_ASKED: u8 = 7;

/// One direction.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Direction {
    pub scan: Scan,
    /// Bytes of a body, of a chunk with its line end.
    pub(super) skip: u64,
    /// Sequence number of the next byte that counts.
    pub next: u32,
    pub(super) phase: u8,
    /// Digits of a size, bytes of a trailer's line; with CR 128 more.
    line: u8,
    /// Not 0: something of the message that is being read was there.
    begun: u8,
    _pad: u8,
}

/// The way through one segment.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walk {
    pub seq: u32,
    /// Offset of the next byte.
    pub at: u32,
    pub len: u32,
    /// Not 0: the request that begins is taken, too.
    pub whole: u32,
    /// Why it ended.
    pub stop: u32,
}

pub const WALK_ON: u32 = 0;
pub const WALK_REQUEST: u32 = 1;
pub const WALK_WAIT: u32 = 2;

impl Direction {
    pub(super) fn begin(scan: Scan, next: u32) -> Self {
        Self { scan, skip: 0, next, phase: P_HEAD, line: 0, begun: 0, _pad: 0 }
    }

    /// A head whose first bytes were read elsewhere.
    #[inline(always)]
    pub(super) fn take_head(&mut self, first: u32, scan: &Scan) {
        self.scan = *scan;
        self.begun = 1;
        self.next = first.wrapping_add(scan.at);
    }

    /// Between two messages.
    pub fn idle(&self) -> bool {
        self.phase == P_HEAD && self.begun == 0
    }

    /// Goes over what may be skipped, at most `n` bytes; how many it was.
    #[inline(always)]
    pub(super) fn skip(&mut self, n: u32) -> u32 {
        if self.phase == P_REST {
            return n;
        }
        if self.phase != P_BODY && self.phase != P_CHUNK {
            return 0;
        }
        let take = self.skip.min(u64::from(n)) as u32;
        // Of a chunk the line end behind it is read, not skipped.
        let take = if self.phase == P_CHUNK {
            take.min(self.skip.saturating_sub(2).min(u64::from(n)) as u32)
        } else {
            take
        };
        self.skip -= u64::from(take);
        if self.phase == P_BODY && self.skip == 0 {
            self.over();
        }
        take
    }

    /// What stands at the walk's place: of a head, or of a chunked body's framing. As the steps of a scan.
    #[inline(always)]
    pub(super) fn read<B: Bytes + ?Sized>(
        &mut self,
        k: &mut Walk,
        bytes: &B,
        w: &Watches,
        fresh: Scan,
    ) -> u32 {
        if self.phase != P_HEAD {
            return if self.read_chunk(k, bytes) { scan::STEP } else { scan::BAD };
        }
        if self.begun == 0 {
            self.scan = fresh;
            self.begun = 1;
        }
        let before = self.scan.at;
        let reader = Reader { bytes, base: k.at.wrapping_sub(before), len: k.len };
        let r = self.scan.step(&reader, w);
        k.at += self.scan.at - before;
        self.next = k.seq.wrapping_add(k.at);
        // The segment's bytes are said to be there.
        if r == scan::MORE { scan::BAD } else { r }
    }

    /// The byte of a chunked body's framing that stands at the walk's place; false: not to be followed.
    #[inline(always)]
    pub(super) fn read_chunk<B: Bytes + ?Sized>(&mut self, k: &mut Walk, bytes: &B) -> bool {
        let good = bytes.at(k.at).is_some_and(|c| self.chunk(c));
        k.at += 1;
        self.next = k.seq.wrapping_add(k.at);
        good
    }

    /// One byte of a chunked body's framing; false: not to be followed.
    #[inline(always)]
    fn chunk(&mut self, c: u8) -> bool {
        let cr = self.line & 128 != 0;
        let n = self.line & 127;
        // A CR waits for its LF, and an LF for its CR: what others take for a line end, too, is where they differ.
        if cr != (c == b'\n') {
            return false;
        }
        match (self.phase, c) {
            (P_CHUNK, b'\r') if self.skip == 2 => (self.skip, self.line) = (1, 128),
            (P_CHUNK, b'\n') => (self.skip, self.line, self.phase) = (0, 0, P_SIZE),
            (P_SIZE | P_EXTENSION | P_TRAILER, b'\r') if n != 0 || self.phase == P_TRAILER => {
                self.line |= 128
            }
            (P_SIZE | P_EXTENSION, b'\n') => {
                self.phase = if self.skip == 0 { P_TRAILER } else { P_CHUNK };
                // The line end behind the data.
                self.skip += if self.skip == 0 { 0 } else { 2 };
                self.line = 0;
            }
            (P_TRAILER, b'\n') => {
                let end = n == 0;
                self.line = 0;
                if end {
                    self.phase = P_HEAD;
                    self.begun = 0;
                }
            }
            (P_TRAILER, _) => self.line = 1,
            (P_EXTENSION, _) => {}
            (P_SIZE, b';' | b' ' | b'\t') if n != 0 => self.phase = P_EXTENSION,
            (P_SIZE, _) => {
                let Some(d) = hex(c).filter(|_| n < 15) else { return false };
                self.skip = self.skip << 4 | u64::from(d);
                self.line = n + 1;
            }
            _ => return false,
        }
        true
    }

    /// A message without a body, or whose body is over.
    #[inline(always)]
    pub(super) fn over(&mut self) {
        self.phase = P_HEAD;
        self.begun = 0;
    }

    /// The body that the head's fields announce; false: framed in two ways, or in one that cannot be followed.
    #[inline(always)]
    pub(super) fn body(&mut self) -> bool {
        let s = &self.scan;
        self.skip = 0;
        self.line = 0;
        if s.has(scan::CODED) || s.has(scan::CHUNKED) && s.has(scan::LENGTH | scan::HTTP_10) {
            return false;
        }
        if s.has(scan::CHUNKED) {
            self.phase = P_SIZE;
        } else if s.has(scan::LENGTH) && s.length != 0 {
            self.skip = s.length;
            self.phase = P_BODY;
        } else {
            self.over();
        }
        true
    }
}

#[inline(always)]
fn hex(c: u8) -> Option<u8> {
    match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        b'A'..=b'F' => Some(c - b'A' + 10),
        _ => None,
    }
}

/// A segment's bytes, and where the next one that counts stands in them.
struct Reader<'a, B: ?Sized> {
    bytes: &'a B,
    /// Offset of byte 0 of the head in the segment, modulo 2^32.
    base: u32,
    len: u32,
}

impl<B: Bytes + ?Sized> Bytes for Reader<'_, B> {
    #[inline(always)]
    fn at(&self, i: u32) -> Option<u8> {
        let at = self.base.wrapping_add(i);
        if at < self.len { self.bytes.at(at) } else { None }
    }

    #[inline(always)]
    fn word(&self, i: u32) -> Option<u64> {
        let at = self.base.wrapping_add(i);
        if at < self.len && self.len - at >= 8 { self.bytes.word(at) } else { None }
    }
}

/// Offset of the first byte that counts; the gap before the segment, if it may be skipped, is. `None`: it may not.
#[inline(always)]
pub(super) fn arrive(d: &mut Direction, seq: u32, len: u32) -> Option<u32> {
    match part(seq, len, d.next) {
        Part::Old => Some(len),
        Part::New(at) => Some(at),
        Part::Gap(_) if len == 0 => Some(0),
        Part::Gap(missing) => {
            // Of a chunk the line end is read.
            let read = if d.phase == P_CHUNK { 2 } else { 0 };
            let skips = d.phase == P_BODY || d.phase == P_CHUNK;
            if d.phase != P_REST && !(skips && u64::from(missing) + read <= d.skip) {
                return None;
            }
            let _ = d.skip(missing);
            d.next = seq;
            Some(0)
        }
    }
}
