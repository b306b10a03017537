//! Where every request chooses: an established connection whose requests are followed. A request's head goes to no
//! instance before it is whole and says where to. One for another instance waits, unacknowledged, until everything
//! before it is answered and acknowledged on both sides; then the old instance is reset and the new one gets a SYN.

use super::{client::reset_both, open::connect, *};
use crate::{
    packet::TCP_FIN,
    request::{
        frame::Taken,
        seq::{after, before},
    },
};

/// Requests in one segment that are looked at; what follows them is sent again by the client.
const PIPELINED: u32 = 15;
/// How often a segment is handed in, at most.
pub const TURNS: u32 = PIPELINED + 1;

/// One turn: up to the next request, and that one.
#[inline(always)]
pub(super) fn per_request<H: Host>(s: &mut Splice, h: &mut H, g: &Segment, now: u32, out: &mut Outs) {
    if g.len == 0 {
        return cut(s, h, g, 0, out);
    }
    match h.request(g) {
        Taken::All => return forward(s, g, g.len, out),
        Taken::Gap => {
            // A part of a head that is held may have come before it.
            if !s.has(HOLDING) || !after(g.seq, s.first) {
                out.note = NOTE_EARLY;
                return cut(s, h, g, 0, out);
            }
            out.good = 0;
        }
        Taken::Wait(at) => {
            out.note = NOTE_WAITS;
            return cut(s, h, g, at, out);
        }
        // What is held goes to the instance, and nothing else may be held in its place before it has.
        Taken::Request(at) if out.n != 0 => return cut(s, h, g, at, out),
        Taken::Request(at) => out.good = at,
    }
    if !request(s, h, g, now, out.good, out) {
        return;
    }
    out.turns += 1;
    if out.turns < PIPELINED {
        out.again = 1;
    } else {
        cut(s, h, g, out.good, out);
    }
}

/// A request begins at offset `good`, or began before the segment; true: it stays with this instance.
#[inline(always)]
fn request<H: Host>(s: &mut Splice, h: &mut H, g: &Segment, now: u32, good: u32, out: &mut Outs) -> bool {
    let Some(begin) = h.frames().map(|f| f.requests.next) else { return false };
    if !s.has(HOLDING) || s.first != begin {
        s.first = begin;
        s.held = 0;
        s.flags |= HOLDING;
    }
    if after(g.seq, begin.wrapping_add(s.held)) {
        out.note = NOTE_EARLY;
        cut(s, h, g, 0, out);
        return false;
    }
    let Some((at, from, take)) = unheld(s, begin, g) else {
        // Nothing new: a client that waits for an acknowledgement before it goes on.
        return stay_or_reset(s, h, g, out);
    };
    if !h.hold(at, from, take) {
        return false;
    }
    s.held += take;
    match h.read(s.held, false) {
        READ_MORE if s.held < HOLD => {
            cut(s, h, g, good, out);
            false
        }
        READ_FOUND if h.keeps(s.instance) => {
            accept(s, h, g, out);
            true
        }
        READ_FOUND => {
            switch(s, h, g, now, good, out);
            false
        }
        READ_DENY => {
            out.note = NOTE_DENIED;
            reset_both(s, g, out);
            false
        }
        _ => stay_or_reset(s, h, g, out),
    }
}

/// What a segment has of the request that begins at number `begin` and is not held yet: its place in what is held, its offset
/// and its length in the segment. `None`: nothing, or bytes before it are missing.
#[inline(always)]
pub fn unheld(s: &Splice, begin: u32, g: &Segment) -> Option<(u32, u32, u32)> {
    let held = if s.has(HOLDING) && s.first == begin { s.held } else { 0 };
    let end = begin.wrapping_add(held);
    let from = end.wrapping_sub(g.seq);
    if after(g.seq, end) || from >= g.len {
        return None;
    }
    Some((held, from, (g.len - from).min(HOLD.saturating_sub(held))))
}

/// The head's bytes before this segment go on, and the segment does.
#[inline(always)]
fn accept<H: Host>(s: &mut Splice, h: &mut H, g: &Segment, out: &mut Outs) {
    s.flags &= !HOLDING;
    h.head(s.first);
    before_it(s, g, out);
}

#[inline(always)]
fn before_it(s: &Splice, g: &Segment, out: &mut Outs) {
    if before(s.first, g.seq) {
        let before_it = g.seq.wrapping_sub(s.first).min(s.held);
        out.deliver(s, (0, before_it), false, (g.ack, g.time_echo));
    }
}

/// The head cannot be read: it stays where the connection is, or the connection ends.
#[inline(always)]
fn stay_or_reset<H: Host>(s: &mut Splice, h: &mut H, g: &Segment, out: &mut Outs) -> bool {
    if s.has(STRICT) {
        out.note = NOTE_NOT_FOLLOWED;
        reset_both(s, g, out);
        return false;
    }
    s.flags &= !HOLDING;
    if let Some(f) = h.frames() {
        f.lose();
    }
    before_it(s, g, out);
    // Lost: the walk takes the whole segment.
    out.note = NOTE_STAYED;
    true
}

/// The request belongs to another instance.
#[inline(always)]
fn switch<H: Host>(s: &mut Splice, h: &mut H, g: &Segment, now: u32, good: u32, out: &mut Outs) {
    if s.ends != 0 {
        // Nothing can follow on this connection.
        out.note = NOTE_NOT_FOLLOWED;
        return reset_both(s, g, out);
    }
    let idle = h.frames().is_some_and(|f| f.idle() && g.ack == f.answers.next);
    let over = idle && s.acked == s.first;
    if !over {
        s.flags &= !HOLDING;
        out.note = NOTE_WAITS;
        return cut(s, h, g, good, out);
    }
    s.flags &= !HOLDING;
    if g.flags & TCP_FIN != 0 && g.seq.wrapping_add(g.len) == s.first.wrapping_add(s.held) {
        s.flags |= HELD_FIN;
        s.ends |= END_CLIENT;
    }
    out.reset_instance(s.instance, s.first);
    s.answered = g.ack;
    s.attempt = 0;
    out.note = NOTE_SWITCHED;
    connect(s, h, now, out);
}

/// The first `len` bytes of the segment go on, and its acknowledgement. One that stands behind bytes that did not go on
/// would be outside of the instance's window, which would not look at it: then it stands before them.
#[inline(always)]
fn cut<H: Host>(s: &mut Splice, h: &mut H, g: &Segment, len: u32, out: &mut Outs) {
    let next = h.frames().map_or(g.seq, |f| f.requests.next);
    if !after(g.seq, next) {
        return forward(s, g, len, out);
    }
    let bare = Segment { seq: next, flags: g.flags & !TCP_FIN, ..*g };
    out.forward(s, INSTANCE, &bare, 0);
}

#[inline(always)]
fn forward(s: &mut Splice, g: &Segment, len: u32, out: &mut Outs) {
    s.ends |= if len == g.len && g.flags & TCP_FIN != 0 { END_CLIENT } else { 0 };
    out.forward(s, INSTANCE, g, len);
}
