//! The splice machine: one client's connection from its first byte to its instance, as events and what to send. It owns no
//! clock, no map and no bytes: time is handed in, bytes are read and held by a [`Host`].
//!
//! ```text
//!           silent, or a whole head          SYN-ACK
//!    IDLE ---------------------> SYN_SENT -------------> EST --- another identity ---> SYN_SENT
//!     |                           |   ^ |                 |
//!     |                           |   +-+ refused,        | reset by us
//!     |                           |       silent: another |
//!     v                           v                       v
//!   (FIN: FIN)                  CLOSED <------------------+
//! ```
//!
//! What only the splice listener can read goes there first: an instance of its own ([`LISTENER`]), before the first attempt.
//!
//! One rule makes loss and reordering harmless: no byte of the client is acknowledged before the instance has
//! acknowledged it. What is held are copies; whatever is dropped, the client sends again.

mod client;
mod instance;
mod open;
mod out;
mod requests;

#[cfg(any(test, feature = "user"))]
pub use client::probe;
pub use client::{client, follows, goes_on};
pub use instance::instance;
pub use open::{SYN_OPTIONS, answer_syn, give_up, open, refuse};
pub use out::{CLIENT, FORWARD, INSTANCE, OUTS, Out, Outs, PART, SEND};
pub use requests::{TURNS, unheld};

use super::{
    cookie::Offered,
    frame::{Frames, Taken},
    translate::Shift,
};
use crate::wire::wire;

/// Bytes of the client that are held: three segments of Ethernet's MSS.
pub const HOLD: u32 = 4380;
/// Segments that are held, and sent when an instance answers.
pub const HOLD_SEGMENTS: u32 = 3;
/// Attempts at an instance; the last one is stable's.
pub const ATTEMPTS: u32 = 3;
/// The attempt before the first: at the splice listener, which reads what programs cannot.
pub const LISTENER: u8 = u8::MAX;
/// SYNs again because of a challenge, per attempt.
const CHALLENGES: u8 = 3;
/// A head that is not whole after this, and whose client sends again, counts as far as it is there, where no listener reads it.
const WHOLE_MS: u32 = 200;
/// A SYN with an older number is a late one of a connection whose two ends are over, for so long; and of one that has only one
/// end left, for so long (two maximum segment life times). Numbers of clients grow with a clock that comes round in minutes, and
/// behind NAT with none.
const LATE_MS: u32 = 2000;
const SILENT_MS: u32 = 60_000;

pub const IDLE: u8 = 1;
pub const SYN_SENT: u8 = 2;
pub const EST: u8 = 3;
pub const CLOSED: u8 = 5;

/// `Splice::flags`. Every request chooses its instance.
pub const PER_REQUEST: u8 = 1;
/// What cannot be followed is reset, and does not stay where it is.
pub const STRICT: u8 = 2;
/// No byte that this instance was sent is acknowledged yet.
const FRESH: u8 = 4;
/// An instance has had the connection before.
const SERVED: u8 = 8;
/// The client's FIN stands behind what is held.
const HELD_FIN: u8 = 16;
/// Of an established connection: a request's head is held that is not whole.
const HOLDING: u8 = 32;
/// Of an established connection: a SYN of its client went to the instance.
const DIALLED: u8 = 128;

/// `Splice::handed`: only the listener could have read it, and there was none; it was dialled.
pub const UNREAD: u8 = 1;
pub const HANDED: u8 = 2;

/// `Splice::ends`
const END_CLIENT: u8 = 1;
const END_INSTANCE: u8 = 2;
const END_RESET: u8 = 4;

/// `Host::read`
pub const READ_MORE: u32 = 0;
pub const READ_FOUND: u32 = 1;
/// Only the listener can settle it.
pub const READ_LISTENER: u32 = 2;
pub const READ_DENY: u32 = 3;

/// What happened, for counters. 0: nothing to count.
pub const NOTE_EARLY: u32 = 1;
/// To the listener.
pub const NOTE_LISTENER: u32 = 2;
pub const NOTE_DENIED: u32 = 3;
pub const NOTE_SPLICED: u32 = 4;
pub const NOTE_SWITCHED: u32 = 5;
/// A request that could not be followed stays where the connection is.
pub const NOTE_STAYED: u32 = 6;
/// ... or the connection is reset.
pub const NOTE_NOT_FOLLOWED: u32 = 7;
/// A request for another instance waits for the answers before it.
pub const NOTE_WAITS: u32 = 8;
pub const NOTE_ANOTHER: u32 = 9;
pub const NOTE_NO_INSTANCE: u32 = 10;
pub const NOTE_CHALLENGE: u32 = 11;
/// The entry is over and the segment a SYN of a new connection.
pub const NOTE_RESTART: u32 = 12;
/// A client that said nothing: it waits for the server.
pub const NOTE_SILENT: u32 = 13;
/// What only a listener could have read is decided on without: there is none, or it did not take the connection.
pub const NOTE_ALONE: u32 = 14;

/// One TCP segment; numbers in host order.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    pub seq: u32,
    pub ack: u32,
    /// Bytes of payload.
    pub len: u32,
    pub time_value: u32,
    pub time_echo: u32,
    pub window: u16,
    /// Of a SYN: MSS, window scale ([`super::options::NO_SCALE`]: none), SACK permitted.
    pub mss: u16,
    pub scale: u8,
    pub sack: u8,
    /// Not 0: there is a timestamp.
    pub time: u8,
    pub flags: u8,
}

/// What holds for every connection of a service.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// A client that is silent for longer waits for the server: where clients go of whom nothing is known.
    pub first_byte_ms: u32,
    /// An instance that is silent for longer is given up.
    pub silent_ms: u32,
    /// What clients are told.
    pub mss: u16,
    pub scale: u8,
    /// [`PER_REQUEST`], [`STRICT`].
    pub flags: u8,
}

/// One connection.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Splice {
    pub shift: Shift,
    /// Number of the first byte that is held; of the first one that the instance was sent.
    pub first: u32,
    pub held: u32,
    /// Number of the instance's first byte, as the client sees it.
    pub answered: u32,
    /// The latest acknowledgement of the instance.
    pub acked: u32,
    /// One before this is of an older connection of these ports: `first` when the instance got the connection.
    begun: u32,
    pub instance: u32,
    /// The latest timestamps: of ours or the instance's as the client sees them, and the client's.
    pub time_base: u32,
    pub time_value: u32,
    /// Of the last attempt; of the last byte in IDLE; of the last segment in EST. Milliseconds, wrapping.
    pub since: u32,
    /// The client's.
    pub window: u16,
    pub mss: u16,
    pub offered: Offered,
    pub state: u8,
    pub flags: u8,
    pub ends: u8,
    /// At which instance: 0 and up, [`LISTENER`].
    pub attempt: u8,
    challenges: u8,
    told: u8,
    /// 0, [`UNREAD`], [`HANDED`].
    pub handed: u8,
    pub _pad: u8,
}

wire!(Splice, size 72, {
    shift @ 0: Shift, first @ 20: u32, held @ 24: u32, answered @ 28: u32, acked @ 32: u32, begun @ 36: u32,
    instance @ 40: u32, time_base @ 44: u32, time_value @ 48: u32, since @ 52: u32, window @ 56: u16, mss @ 58: u16,
    offered @ 60: Offered, state @ 64: u8, flags @ 65: u8, ends @ 66: u8, attempt @ 67: u8, challenges @ 68: u8,
    told @ 69: u8, handed @ 70: u8, _pad @ 71: u8,
});

/// What the machine needs of its surroundings.
pub trait Host {
    /// Holds `len` bytes of the segment from offset `from` at place `at`; false: it cannot.
    fn hold(&mut self, at: u32, from: u32, len: u32) -> bool;
    /// What the first `held` bytes say; `ended`: no more will come, so `READ_MORE` is no answer.
    fn read(&mut self, held: u32, ended: bool) -> u32;
    /// The instance of the last `read` at this attempt, stable's at the last one, the listener at [`LISTENER`]; 0: there is none.
    fn pick(&mut self, attempt: u32) -> u32;
    /// The last `read` may stay with this instance.
    fn keeps(&mut self, instance: u32) -> bool;
    /// Of a connection where every request chooses; `None`: it is not followed any more.
    fn frames(&mut self) -> Option<&mut Frames>;
    /// Follows the client's segment up to where a request begins.
    fn request(&mut self, g: &Segment) -> Taken;
    /// Follows the head of the last `read`, which begins at number `first`.
    fn head(&mut self, first: u32);
    /// Follows what is held, the request that begins at number `first` with it, up to the next one.
    fn held(&mut self, first: u32, held: u32) -> Taken;
    /// Follows an instance's `len` bytes, whose first one has number `seq` for the client.
    fn answer(&mut self, seq: u32, len: u32) -> Taken;
}

impl Splice {
    #[inline(always)]
    pub fn has(&self, flags: u8) -> bool {
        self.flags & flags != 0
    }

    /// Whether it has been over for longer than so many milliseconds. A reset that its other end did not believe (RFC 5961) ended
    /// nothing: a minute without a segment that the machine hears of.
    #[cfg(any(test, feature = "user"))]
    pub fn is_over(&self, now: u32, ms: u32) -> bool {
        const BOTH: u8 = END_CLIENT | END_INSTANCE;
        // Signed: a packet may have come since the clock was read.
        let silent = now.wrapping_sub(self.since) as i32;
        let reset = self.ends & END_RESET != 0 && silent > SILENT_MS as i32;
        reset || self.ends & BOTH == BOTH && silent > ms as i32
    }

    /// Whether bytes of the client are held that no instance has.
    #[inline(always)]
    pub fn holds(&self) -> bool {
        self.held != 0 && (self.state == IDLE || self.state == SYN_SENT || self.has(HOLDING))
    }

    /// Whether plain segments only need their numbers translated, until the next one that is not plain: the machine would note
    /// nothing of them that anything depends on.
    #[inline(always)]
    pub fn steady(&self) -> bool {
        self.state == EST
            && self.ends == 0
            && self.shift.fresh == 0
            && !self.has(PER_REQUEST | FRESH | HELD_FIN | HOLDING | DIALLED)
    }

    /// Whether an acknowledgement of the instance is of this connection, and not so far on that the machine should hear of it.
    #[inline(always)]
    pub fn heard(&self, ack: u32) -> bool {
        ack.wrapping_sub(self.begun) <= instance::AGED + instance::AGED / 2
    }

    /// What is held is lost. None of it was acknowledged: the client sends it again.
    #[inline(always)]
    pub fn forget(&mut self) {
        self.held = 0;
        if self.has(HELD_FIN) {
            self.ends &= !END_CLIENT;
        }
        self.flags &= !(HELD_FIN | HOLDING);
    }

    /// Bytes of payload that a segment to the instance holds.
    #[inline(always)]
    pub fn payload(&self) -> u32 {
        u32::from(self.mss).saturating_sub(if self.offered.time != 0 { 12 } else { 0 }).max(1)
    }
}

#[cfg(test)]
mod cases;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
