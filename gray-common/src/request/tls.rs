//! The server name and the first protocol of a TLS ClientHello (RFC 8446, 4.1.2; SNI RFC 6066, 3; ALPN RFC 7301, 3.1), over
//! any number of segments and records. With Encrypted ClientHello it is the outer name.
//!
//! Lengths must agree with each other, or the answer is `BAD`, as it is for a name that crosses from one record into the
//! next, that has other than visible ASCII characters, or that comes twice. A name is kept as it stands: compare in lower case.

use super::{
    Bytes,
    scan::{BAD, END, MORE, STEP, Span},
};

/// Longest hello, bytes: what will not be held is not read either.
pub const HELLO_MAX: u32 = 16_384;
const RECORD_MAX: u32 = 16_384;
const HANDSHAKE: u32 = 22;
const CLIENT_HELLO: u32 = 1;
const EXT_NAME: u32 = 0;
const EXT_ALPN: u32 = 16;

/// Numbers in the order in which they come; what is read when they are complete.
const P_RECORD: u8 = 0;
const P_TYPE: u8 = 1;
const P_VERSION: u8 = 2;
const P_SESSION: u8 = 3;
const P_SUITES: u8 = 4;
const P_COMPRESSION: u8 = 5;
const P_EXTENSIONS: u8 = 6;
const P_EXT: u8 = 7;
const P_EXT_LEN: u8 = 8;
const P_NAMES: u8 = 9;
const P_NAME_TYPE: u8 = 10;
const P_NAME_LEN: u8 = 11;
const P_NAME: u8 = 12;
const P_PROTOCOLS: u8 = 13;
const P_PROTOCOL_LEN: u8 = 14;
const P_PROTOCOL: u8 = 15;
const P_END: u8 = 16;
const P_BAD: u8 = 17;

/// Bytes of the number that each of them begins with.
const WIDTH: [u8; 16] = [5, 4, 2, 1, 2, 1, 2, 2, 2, 2, 1, 2, 0, 2, 1, 0];

/// The reading of one hello.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// Bytes taken; with `skip` it may be beyond what is there.
    pub at: u32,
    /// Number being read, and bytes of it so far.
    number: u32,
    /// Bytes that do not matter.
    skip: u32,
    /// Bytes left: of the record, the hello, the extensions, the extension.
    record: u32,
    hello: u32,
    extensions: u32,
    extension: u32,
    /// The name of the server that is dialled; not there: `len` 0.
    pub name: Span,
    /// The protocol that the client likes best.
    pub protocol: Span,
    kind: u16,
    digits: u8,
    phase: u8,
    /// Not 0: the record's header was read.
    in_record: u8,
    pub _pad: [u8; 3],
}

impl Hello {
    /// Takes what there is.
    #[inline(always)]
    pub fn run<B: Bytes + ?Sized>(&mut self, b: &B) -> u32 {
        let mut i = 0;
        while i <= HELLO_MAX {
            let r = self.step(b);
            if r != STEP {
                return r;
            }
            i += 1;
        }
        self.bad()
    }

    /// The name was read to its end; half of one is none.
    #[inline(always)]
    pub fn has_name(&self) -> bool {
        self.name.len != 0 && self.phase != P_NAME
    }

    #[inline(always)]
    pub fn has_protocol(&self) -> bool {
        self.protocol.len != 0 && self.phase != P_PROTOCOL
    }

    #[inline(always)]
    fn bad(&mut self) -> u32 {
        self.phase = P_BAD;
        BAD
    }

    /// One byte, or as many as do not matter.
    #[inline(always)]
    pub fn step<B: Bytes + ?Sized>(&mut self, b: &B) -> u32 {
        if self.phase == P_END {
            return END;
        }
        if self.phase == P_BAD || self.at >= HELLO_MAX {
            return self.bad();
        }
        if self.record == 0 {
            return self.header(b);
        }
        if self.skip != 0 {
            return self.pass();
        }
        let Some(c) = b.at(self.at) else { return MORE };
        if !self.take(1) {
            return self.bad();
        }
        if self.phase == P_NAME || self.phase == P_PROTOCOL {
            return self.text(c);
        }
        self.number = self.number << 8 | u32::from(c);
        self.digits += 1;
        if self.digits < width(self.phase) {
            return STEP;
        }
        let n = self.number;
        self.number = 0;
        self.digits = 0;
        if !self.complete(n) {
            return self.bad();
        }
        self.turn()
    }

    /// A record's five bytes.
    #[inline(always)]
    fn header<B: Bytes + ?Sized>(&mut self, b: &B) -> u32 {
        // A text may not cross.
        if self.in_record != 0 && self.phase >= P_NAME && self.number != 0 && self.span().len != 0 {
            return self.bad();
        }
        let at = self.at;
        let (Some(kind), Some(major)) = (b.at(at), b.at(at + 1)) else {
            return if b.at(at).is_some_and(|k| u32::from(k) != HANDSHAKE) { self.bad() } else { MORE };
        };
        if u32::from(kind) != HANDSHAKE || major != 3 {
            return self.bad();
        }
        let Some(len) = b.be16(at + 3) else { return MORE };
        // An empty record of a handshake is forbidden (RFC 8446, 5.1).
        if len == 0 || len > RECORD_MAX {
            return self.bad();
        }
        self.record = len;
        self.in_record = 1;
        self.at = at + 5;
        if self.phase == P_RECORD {
            self.phase = P_TYPE;
        }
        STEP
    }

    /// Goes over bytes that do not matter, up to the record's end.
    #[inline(always)]
    fn pass(&mut self) -> u32 {
        let n = self.skip.min(self.record);
        self.skip -= n;
        if self.take(n) { if self.skip == 0 { self.turn() } else { STEP } } else { self.bad() }
    }

    /// Takes `n` bytes out of everything they are part of; false: they are not.
    #[inline(always)]
    fn take(&mut self, n: u32) -> bool {
        self.at += n;
        self.record -= n;
        if self.phase > P_TYPE {
            if self.hello < n {
                return false;
            }
            self.hello -= n;
        }
        if self.phase > P_EXTENSIONS {
            if self.extensions < n {
                return false;
            }
            self.extensions -= n;
        }
        if self.phase > P_EXT_LEN {
            if self.extension < n {
                return false;
            }
            self.extension -= n;
        }
        true
    }

    /// A number is there; false: it cannot be.
    #[inline(always)]
    fn complete(&mut self, n: u32) -> bool {
        match self.phase {
            P_TYPE => {
                self.hello = n & 0x00ff_ffff;
                self.phase = P_VERSION;
                return n >> 24 == CLIENT_HELLO;
            }
            P_VERSION => (self.skip, self.phase) = (32, P_SESSION),
            P_SESSION => (self.skip, self.phase) = (n, P_SUITES),
            P_SUITES => (self.skip, self.phase) = (n, P_COMPRESSION),
            P_COMPRESSION => (self.skip, self.phase) = (n, P_EXTENSIONS),
            P_EXTENSIONS => {
                self.extensions = n;
                self.phase = P_EXT;
                return n == self.hello;
            }
            P_EXT => (self.kind, self.phase) = (n as u16, P_EXT_LEN),
            P_EXT_LEN => return self.begin_extension(n),
            P_NAMES | P_PROTOCOLS => {
                self.phase += 1;
                return n == self.extension && n != 0;
            }
            // Other types of names: none is in use.
            P_NAME_TYPE => {
                self.phase = P_NAME_LEN;
                return n == 0;
            }
            P_NAME_LEN => return n == self.extension && self.begin_text(n, P_NAME),
            P_PROTOCOL_LEN => return n <= self.extension && self.begin_text(n, P_PROTOCOL),
            _ => return false,
        }
        true
    }

    #[inline(always)]
    fn begin_extension(&mut self, n: u32) -> bool {
        self.extension = n;
        let kind = u32::from(self.kind);
        let again = kind == EXT_NAME && self.name.len != 0 || kind == EXT_ALPN && self.protocol.len != 0;
        match kind {
            EXT_NAME => self.phase = P_NAMES,
            EXT_ALPN => self.phase = P_PROTOCOLS,
            // Counted down as a text of no interest.
            _ => (self.skip, self.phase) = (n, P_NAMES),
        }
        n <= self.extensions && !again
    }

    #[inline(always)]
    fn begin_text(&mut self, n: u32, phase: u8) -> bool {
        self.phase = phase;
        self.skip = 0;
        self.number = n;
        n != 0 && n <= 255
    }

    fn span(&self) -> Span {
        if self.phase == P_NAME { self.name } else { self.protocol }
    }

    /// A byte of the name or of the protocol, which has been taken.
    #[inline(always)]
    fn text(&mut self, c: u8) -> u32 {
        let name = self.phase == P_NAME;
        if name && !c.is_ascii_graphic() {
            return self.bad();
        }
        let mut span = self.span();
        if span.len == 0 {
            span.at = self.at as u16 - 1;
        }
        span.len += 1;
        if name {
            self.name = span;
        } else {
            self.protocol = span;
        }
        self.number -= 1;
        if self.number != 0 {
            return STEP;
        }
        self.skip = self.extension;
        self.turn()
    }

    /// What comes next, once everything before it is read.
    #[inline(always)]
    fn turn(&mut self) -> u32 {
        if self.skip != 0 {
            return STEP;
        }
        if self.phase > P_EXT_LEN && self.extension == 0 {
            self.phase = P_EXT;
        }
        // A hello without extensions ends behind its compression methods.
        if self.phase >= P_EXTENSIONS && self.hello == 0 {
            self.phase = P_END;
            return END;
        }
        STEP
    }
}

/// Eight bytes of text in lower case: names of servers have none (RFC 4343).
#[inline(always)]
pub const fn lower(word: u64) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let seven = word & (0x7f * EACH);
    let from_a = seven + (0x80 - b'A' as u64) * EACH;
    let beyond_z = seven + (0x7f - b'Z' as u64) * EACH;
    word | ((from_a ^ beyond_z) & !word & (0x80 * EACH)) >> 2
}

#[inline(always)]
fn width(phase: u8) -> u8 {
    WIDTH.get(usize::from(phase)).copied().unwrap_or(0)
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
