//! Several bytes in one step: those of which each would do the same. What ends such a run is left to [`Scan::step`].

use super::{
    HTTP_10, P_CRUMB, P_EOL, P_LINE, P_METHOD, P_NAME, P_QUERY, P_SKIP, P_TARGET, P_VALUE, P_VERSION, Scan,
    VERSION,
};
use crate::request::{
    text::{leading, marks, small, token},
    watch,
};

impl Scan {
    /// How many of the next eight bytes were taken. No CR waits for its LF.
    #[inline(always)]
    pub(super) fn stride(&mut self, word: u64) -> u32 {
        let n = match self.phase {
            P_SKIP => return self.skip(word),
            P_VERSION => return self.whole_version(word),
            P_LINE | P_NAME | P_METHOD => return self.letters(word),
            P_VALUE => leading(small(word, 0x21)),
            P_CRUMB => leading(small(word, 0x21) | marks(word, b';')),
            P_TARGET => leading(small(word, 0x21) | marks(word, b'#') | marks(word, b'?')),
            P_QUERY => leading(small(word, 0x21) | marks(word, b'#') | marks(word, b'&')),
            _ => return 0,
        };
        if n != 0 {
            self.end = (self.at + n) as u16;
        }
        n
    }

    /// What nobody watches, and the end of its line.
    #[inline(always)]
    fn skip(&mut self, word: u64) -> u32 {
        let n = leading(small(word, 0x20));
        if n > 6 || (word >> (8 * n)) as u16 != u16::from_le_bytes(*b"\r\n") {
            return n;
        }
        self.phase = P_LINE;
        n + 2
    }

    /// `HTTP/1.x` of a request.
    #[inline(always)]
    fn whole_version(&mut self, word: u64) -> u32 {
        let minor = (word >> 56) as u8;
        if self.at != u32::from(self.start) || word << 8 >> 8 != VERSION || minor != b'0' && minor != b'1' {
            return 0;
        }
        self.flags |= if minor == b'0' { HTTP_10 } else { 0 };
        self.phase = P_EOL;
        8
    }

    /// Of a method, or a header's name.
    #[inline(always)]
    fn letters(&mut self, word: u64) -> u32 {
        let mut hash = if self.phase == P_LINE { watch::HEADER } else { self.hash };
        let mut n = 0;
        while n < 8 {
            let c = (word >> (8 * n)) as u8;
            if !token(c) {
                break;
            }
            hash = watch::fold(hash, if self.phase == P_METHOD { c } else { watch::lower(c) });
            n += 1;
        }
        if n == 0 {
            return 0;
        }
        if self.phase == P_LINE {
            self.phase = P_NAME;
            self.start = self.at as u16;
        }
        self.hash = hash;
        n
    }
}
