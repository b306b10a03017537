//! TCP options (RFC 9293, 3.2; SACK RFC 2018; window scale and timestamps RFC 7323): where they are, and the fixed
//! blocks of options that the request path writes. Of a kind that comes twice the last one counts, as in Linux; two
//! timestamps or two SACK options cannot be translated.

use super::Bytes;

/// Longest option area, bytes.
pub const OPTIONS_MAX: u32 = 40;
/// No window scale: the TCP_WS nibble that no option can have (at most 14).
pub const NO_SCALE: u8 = 15;
/// Largest shift (RFC 7323, 2.3); a larger one counts as this.
const SCALE_MAX: u8 = 14;
/// Without the option (RFC 9293, 3.7.1).
pub const MSS_DEFAULT: u16 = 536;

const END: u8 = 0;
const NOP: u8 = 1;
const MSS: u8 = 2;
const SCALE: u8 = 3;
const SACK_OK: u8 = 4;
const SACK: u8 = 5;
const TIME: u8 = 8;
const MD5: u8 = 19;
const AO: u8 = 29;

/// `Options::flags`
pub const HAS_MSS: u8 = 1;
pub const HAS_SACK_OK: u8 = 2;
pub const HAS_TIME: u8 = 4;
/// A length of 0 or 1, or one beyond the header: what came before it counts, as in Linux.
pub const BROKEN: u8 = 8;
/// Two timestamps or two SACK options.
pub const TWICE: u8 = 16;
/// MD5 or AO: the segment is signed together with its addresses and numbers.
pub const SIGNED: u8 = 32;

/// What a segment's options say, and the walk over them. Offsets are bytes from the first option.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    pub time_value: u32,
    pub time_echo: u32,
    /// Where the timestamp value stands, if it does.
    pub time_at: u8,
    /// Where the first SACK block stands, and how many there are (at most 4).
    pub sack_at: u8,
    pub sack_blocks: u8,
    pub scale: u8,
    pub mss: u16,
    pub flags: u8,
    at: u8,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            time_value: 0,
            time_echo: 0,
            time_at: 0,
            sack_at: 0,
            sack_blocks: 0,
            scale: NO_SCALE,
            mss: MSS_DEFAULT,
            flags: 0,
            at: 0,
        }
    }
}

impl Options {
    /// The options of a header, `len` bytes of them. For the host: a verifier wants [`Options::step`] by `bpf_loop`.
    #[inline(always)]
    pub fn read<B: Bytes + ?Sized>(b: &B, len: u32) -> Self {
        let mut o = Self::default();
        let mut i = 0;
        while i < OPTIONS_MAX && o.step(b, len) {
            i += 1;
        }
        o
    }

    pub fn has(&self, flags: u8) -> bool {
        self.flags & flags != 0
    }

    /// One option; false: no more.
    #[inline(always)]
    pub fn step<B: Bytes + ?Sized>(&mut self, b: &B, len: u32) -> bool {
        let at = u32::from(self.at);
        if at >= len || at >= OPTIONS_MAX {
            return false;
        }
        let Some(kind) = b.at(at) else { return false };
        if kind == END {
            return false;
        }
        if kind == NOP {
            self.at += 1;
            return true;
        }
        let size = if at + 1 < len { b.at(at + 1) } else { None };
        let Some(size) = size.filter(|s| *s >= 2 && at + u32::from(*s) <= len.min(OPTIONS_MAX)) else {
            self.flags |= BROKEN;
            return false;
        };
        self.option(b, (kind, size), at + 2);
        self.at += size;
        true
    }

    /// One whole option whose value begins at `v`. Of a size that its kind does not have, it is unknown.
    #[inline(always)]
    fn option<B: Bytes + ?Sized>(&mut self, b: &B, (kind, size): (u8, u8), v: u32) {
        match (kind, size) {
            (MSS, 4) => {
                let mss = b.be16(v).unwrap_or(0) as u16;
                if mss != 0 {
                    self.mss = mss;
                    self.flags |= HAS_MSS;
                }
            }
            (SCALE, 3) => self.scale = b.at(v).unwrap_or(0).min(SCALE_MAX),
            (SACK_OK, 2) => self.flags |= HAS_SACK_OK,
            (SACK, 10 | 18 | 26 | 34) => {
                self.flags |= if self.sack_blocks != 0 { TWICE } else { 0 };
                self.sack_at = v as u8;
                self.sack_blocks = (size - 2) / 8;
            }
            (TIME, 10) => {
                self.flags |= if self.has(HAS_TIME) { TWICE } else { HAS_TIME };
                self.time_at = v as u8;
                self.time_value = b.be32(v).unwrap_or(0);
                self.time_echo = b.be32(v + 4).unwrap_or(0);
            }
            (MD5 | AO, _) => self.flags |= SIGNED,
            _ => {}
        }
    }
}

/// What a SYN or SYN-ACK of ours offers.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    pub time_value: u32,
    pub time_echo: u32,
    pub mss: u16,
    /// [`NO_SCALE`]: not offered.
    pub scale: u8,
    /// Not 0: offered.
    pub sack: u8,
    pub time: u8,
    pub _pad: [u8; 3],
}

const NOPS: u32 = 0x0101_0101;

impl Offer {
    /// The option area of a SYN or SYN-ACK: five words whose first byte is the highest. Always the same size: what is not
    /// offered is NOPs.
    #[inline(always)]
    pub fn words(&self) -> [u32; 5] {
        let mss = u32::from(MSS) << 24 | 4 << 16 | u32::from(self.mss);
        let sack = if self.sack != 0 { u32::from(SACK_OK) << 24 | 2 << 16 } else { NOPS & 0xffff_0000 };
        let scale = if self.scale < NO_SCALE {
            u32::from(NOP) << 24 | u32::from(SCALE) << 16 | 3 << 8 | u32::from(self.scale)
        } else {
            NOPS
        };
        if self.time == 0 {
            return [mss, sack | NOPS & 0xffff, scale, NOPS, NOPS];
        }
        [mss, sack | u32::from(TIME) << 8 | 10, self.time_value, self.time_echo, scale]
    }
}

/// The first word of the option area of any other segment with a timestamp.
pub const TIME_FIRST: u32 = NOPS & 0xffff_0000 | (TIME as u32) << 8 | 10;

/// That area.
#[inline(always)]
pub fn time_words(value: u32, echo: u32) -> [u32; 3] {
    [TIME_FIRST, value, echo]
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
