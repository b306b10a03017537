//! What an instance's segments do.

use super::{
    open::{another, close, hand_over},
    *,
};
use crate::{
    packet::{TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN},
    request::{
        frame::{Frames, Taken},
        options::NO_SCALE,
        seq::{after, before, later},
    },
};

/// An acknowledgement that is so much older is none of this connection.
pub(super) const AGED: u32 = 1 << 30;
/// A window, and more than most.
const REACH: u32 = 1 << 23;

/// A segment of instance `from`, into an empty `out`.
#[inline(always)]
pub fn instance<H: Host>(s: &mut Splice, h: &mut H, (from, g): (u32, &Segment), now: u32, out: &mut Outs) {
    if from != s.instance || s.state != SYN_SENT && s.state != EST {
        // It has lost the client, and did not hear it.
        if g.flags & TCP_RST == 0 && g.flags & TCP_ACK != 0 {
            out.reset_instance(from, g.ack);
        }
    } else if s.state == SYN_SENT {
        dialled(s, h, g, now, out);
    } else {
        established(s, h, g, now, out);
    }
}

#[inline(always)]
fn dialled<H: Host>(s: &mut Splice, h: &mut H, g: &Segment, now: u32, out: &mut Outs) {
    let ours = g.flags & TCP_ACK != 0 && g.ack == s.first;
    if g.flags & TCP_RST != 0 {
        if ours {
            another(s, h, now, out);
        }
        return;
    }
    if g.flags & TCP_ACK == 0 {
        return;
    }
    if g.flags & TCP_SYN != 0 && ours {
        return spliced(s, h, g, now, out);
    }
    if ours {
        return;
    }
    // TIME_WAIT, or an older connection of these ports: end that one, then again.
    out.note = NOTE_CHALLENGE;
    out.reset_instance(s.instance, g.ack);
    if g.flags & TCP_SYN == 0 {
        s.challenges += 1;
        if s.challenges > CHALLENGES {
            return another(s, h, now, out);
        }
        out.syn(s);
    }
}

/// The instance is there.
#[inline(always)]
fn spliced<H: Host>(s: &mut Splice, h: &mut H, g: &Segment, now: u32, out: &mut Outs) {
    if s.offered.time != 0 && g.time == 0 {
        // The client was promised timestamps (RFC 7323, 3.2).
        out.reset_instance(s.instance, s.first);
        if s.attempt == LISTENER {
            return another(s, h, now, out);
        }
        // The listener's side has them.
        if s.has(SERVED) || !hand_over(s, h, now, out) {
            out.note = NOTE_NOT_FOLLOWED;
            close(s, (s.answered, s.first), out);
        }
        return;
    }
    if s.attempt == LISTENER {
        // It decides once, and what follows stays there.
        s.flags &= !PER_REQUEST;
    }
    let scaled = s.offered.scale < NO_SCALE;
    s.shift = Shift {
        seq: g.seq.wrapping_add(1).wrapping_sub(s.answered),
        time: if s.offered.time != 0 { g.time_value.wrapping_sub(s.time_base) } else { 0 },
        scale: if scaled && g.scale < NO_SCALE { g.scale } else { 0 },
        told: if scaled { s.told } else { 0 },
        no_sack: (g.sack == 0).into(),
        fresh: 1,
        floor: s.time_base,
        unscaled: if scaled && g.scale >= NO_SCALE { s.offered.scale & 15 } else { 0 },
        _pad: [0; 3],
    };
    s.state = EST;
    s.acked = s.first;
    s.begun = s.first;
    s.mss = s.mss.min(g.mss);
    // What belongs to this instance: one request, where every one chooses.
    let mut end = s.held;
    if s.has(PER_REQUEST) {
        if !s.has(SERVED)
            && let Some(f) = h.frames()
        {
            *f = Frames::begin(s.first, s.answered);
        }
        if s.held != 0
            && let Taken::Request(at) | Taken::Wait(at) = h.held(s.first, s.held)
        {
            end = at;
        }
    }
    s.flags |= FRESH | SERVED;
    out.note = NOTE_SPLICED;
    let fin = s.has(HELD_FIN) && end == s.held;
    out.deliver(s, (0, end), fin, (s.answered, s.time_base));
}

#[inline(always)]
fn established<H: Host>(s: &mut Splice, h: &mut H, g: &Segment, now: u32, out: &mut Outs) {
    if g.flags & TCP_SYN != 0 {
        // Our acknowledgement was lost; of another number it is the answer to a SYN of the client, of a new connection: the
        // next one is answered by us.
        if g.seq.wrapping_add(1) == s.answered.wrapping_add(s.shift.seq) {
            out.deliver(s, (0, 0), false, (s.answered, s.time_base));
        } else if g.flags & TCP_ACK != 0 && s.has(DIALLED) {
            out.reset_instance(s.instance, g.ack);
            s.state = CLOSED;
            s.ends |= END_RESET;
        }
        return;
    }
    if g.flags & TCP_ACK != 0 && before(g.ack, s.begun) {
        return;
    }
    s.since = now;
    // Within half of the numbers' range for ever.
    if s.acked.wrapping_sub(s.begun) > AGED {
        s.begun = s.acked.wrapping_sub(AGED);
    }
    let seq = g.seq.wrapping_sub(s.shift.seq);
    if g.flags & TCP_RST != 0 {
        // The number of one for a connection that this instance had before is less: they grow with time (RFC 6528).
        if s.has(PER_REQUEST) && h.frames().is_some_and(|f| seq.wrapping_sub(f.answers.next) > REACH) {
            return;
        }
        s.ends |= END_RESET;
        return out.forward(s, CLIENT, g, g.len);
    }
    if g.flags & TCP_ACK != 0 {
        // Whoever is not established says nothing but SYN-ACK, and that a segment was out of its window.
        if after(g.ack, s.begun) || g.len != 0 || g.flags & TCP_FIN != 0 {
            s.flags &= !FRESH;
            s.shift.fresh = 0;
        }
        s.acked = later(s.acked, g.ack);
    }
    if s.has(PER_REQUEST) {
        let seen = g.time_value.wrapping_sub(s.shift.time);
        if g.time != 0 && before(seen, s.shift.floor) {
            // Of such a connection, too.
            return;
        }
        if g.time != 0 {
            s.time_base = later(s.time_base, seen);
        }
        if h.answer(seq, g.len) == Taken::Gap {
            // Sent again: an answer whose end is not seen cannot be told from the next one.
            out.note = NOTE_EARLY;
            return;
        }
    }
    s.ends |= if g.flags & TCP_FIN != 0 { END_INSTANCE } else { 0 };
    out.forward(s, CLIENT, g, g.len);
}
