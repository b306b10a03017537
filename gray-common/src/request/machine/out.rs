//! What the machine wants done, in order: a few segments of plain numbers.

use super::{
    super::{options::NO_SCALE, translate::window},
    HOLD_SEGMENTS, Segment, Splice,
};
use crate::packet::{TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN};

/// `Out::kind`: a segment of ours; the segment that arrived, translated.
pub const SEND: u8 = 1;
pub const FORWARD: u8 = 2;
/// A part of the segment that arrived, as one of ours.
pub const PART: u8 = 4;

/// `Out::to`
pub const CLIENT: u8 = 1;
pub const INSTANCE: u8 = 2;

/// One thing to do. Numbers of a segment of ours are those of its receiver's side.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Out {
    /// With `INSTANCE`: which one.
    pub instance: u32,
    pub seq: u32,
    pub ack: u32,
    /// Payload: held bytes from `held_at` on; of a forwarded segment so many of its first. That one's `seq` is not translated
    /// yet, and may be less than the one that arrived.
    pub held_at: u32,
    pub len: u32,
    pub time_value: u32,
    pub time_echo: u32,
    pub window: u16,
    /// Of a SYN: what is offered, as in [`super::super::options::Offer`].
    pub mss: u16,
    pub scale: u8,
    pub sack: u8,
    pub time: u8,
    pub flags: u8,
    pub kind: u8,
    pub to: u8,
    pub _pad: [u8; 2],
}

/// At most this much at once.
pub const OUTS: usize = 4;
const _: () = assert!(OUTS.is_power_of_two());

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outs {
    pub n: u32,
    /// `NOTE_`
    pub note: u32,
    /// Not 0: the segment is to be handed in once more, with this; there may be more requests in it.
    pub again: u32,
    /// Turns so far, and how much of the segment belongs to this instance.
    pub(super) turns: u32,
    pub(super) good: u32,
    pub out: [Out; OUTS],
}

impl Outs {
    /// Before a segment.
    #[inline(always)]
    pub fn clear(&mut self) {
        (self.n, self.note, self.again, self.turns, self.good) = (0, 0, 0, 0, 0);
    }

    #[inline(always)]
    pub(super) fn push(&mut self, o: Out) {
        // Verifiers before Linux 6.8 take a masked number for an index, and lose a compared one that lay on the stack.
        let at = core::hint::black_box(self.n as usize) & (OUTS - 1);
        if (self.n as usize) < OUTS {
            self.out[at] = o;
            self.n += 1;
        }
    }

    /// Requests of the segment that were taken up and stay with the instance.
    #[inline(always)]
    pub fn taken(&self) -> u32 {
        self.turns
    }

    /// The segment that arrived, `len` bytes of it; its FIN only with the last.
    #[inline(always)]
    pub(super) fn forward(&mut self, s: &Splice, to: u8, g: &Segment, len: u32) {
        let flags = if len < g.len { g.flags & !TCP_FIN } else { g.flags };
        self.push(Out { kind: FORWARD, to, instance: s.instance, seq: g.seq, len, flags, ..Out::default() });
    }

    /// Ends the client's side.
    #[inline(always)]
    pub fn reset_client(&mut self, seq: u32, ack: u32) {
        self.push(Out { kind: SEND, to: CLIENT, seq, ack, flags: TCP_RST | TCP_ACK, ..Out::default() });
    }

    /// Ends a side of an instance that expects `seq`.
    #[inline(always)]
    pub fn reset_instance(&mut self, instance: u32, seq: u32) {
        self.push(Out { kind: SEND, to: INSTANCE, instance, seq, flags: TCP_RST, ..Out::default() });
    }

    /// The client's SYN to its instance, with what the client offered.
    #[inline(always)]
    pub(super) fn syn(&mut self, s: &Splice) {
        let scale = s.offered.scale;
        let window = if scale < NO_SCALE { u32::from(s.window) << (scale & 15) } else { u32::from(s.window) };
        self.push(Out {
            kind: SEND,
            to: INSTANCE,
            instance: s.instance,
            seq: s.first.wrapping_sub(1),
            flags: TCP_SYN,
            window: window.min(0xffff) as u16,
            mss: s.mss,
            scale,
            sack: s.offered.sack,
            time: s.offered.time,
            time_value: s.time_value,
            ..Out::default()
        });
    }

    /// Held bytes from `at` on, as far as `end`, in segments of the client; with what it has acknowledged and echoed.
    #[inline(always)]
    pub(super) fn deliver(
        &mut self,
        s: &Splice,
        (mut at, end): (u32, u32),
        fin: bool,
        (ack, echo): (u32, u32),
    ) {
        let mut i = 0;
        while i < HOLD_SEGMENTS && (at < end || i == 0) {
            let len = (end - at).min(s.payload());
            let last = at + len == end;
            self.push(Out {
                kind: SEND,
                to: INSTANCE,
                instance: s.instance,
                seq: s.first.wrapping_add(at),
                ack: ack.wrapping_add(s.shift.seq),
                held_at: at,
                len,
                flags: TCP_ACK | if last && fin { TCP_FIN } else { 0 },
                window: window(s.window, s.shift.unscaled, 0),
                time: s.offered.time,
                time_value: s.time_value,
                time_echo: echo.wrapping_add(s.shift.time),
                ..Out::default()
            });
            at += len;
            i += 1;
        }
    }
}
