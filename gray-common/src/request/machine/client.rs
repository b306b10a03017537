//! What the client's segments do.

use super::{
    open::{alone, another, close, hand_over, settle},
    requests::per_request,
    *,
};
use crate::{
    packet::{TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN},
    request::seq::{Part, after, before, part},
};

/// A segment of the client, into an empty `out`; into the same one for as long as it says `again`.
#[inline(always)]
pub fn client<H: Host>(s: &mut Splice, h: &mut H, g: &Segment, (now, terms): (u32, &Terms), out: &mut Outs) {
    out.again = 0;
    match s.state {
        EST => established(s, h, g, now, out),
        IDLE | SYN_SENT => opening(s, h, g, now, terms, out),
        _ if g.flags & TCP_SYN != 0 => out.note = NOTE_RESTART,
        // The reset was lost.
        _ if g.flags & TCP_RST == 0 => out.reset_client(g.ack, g.seq.wrapping_add(g.len)),
        _ => {}
    }
}

/// How far beyond what its instance was last seen to acknowledge a client's reset is believed. Steady segments do not come by here, so
/// that place may be old; who guesses numbers hits one in 256.
const RESET_WITHIN: u32 = 1 << 24;

/// Before there is an instance.
#[inline(always)]
fn opening<H: Host>(s: &mut Splice, h: &mut H, g: &Segment, now: u32, terms: &Terms, out: &mut Outs) {
    let end = s.first.wrapping_add(s.held);
    if g.flags & TCP_SYN != 0 {
        // Its own, late? Once there was an instance, its number is not known any more, but that it is less.
        let late = if s.has(SERVED) { before(g.seq, s.first) } else { g.seq.wrapping_add(1) == s.first };
        if !late {
            leave(s, out);
            out.note = NOTE_RESTART;
        }
        return;
    }
    if g.flags & TCP_RST != 0 {
        // What is not held may have been sent all the same.
        if g.seq.wrapping_sub(s.first) <= s.held + HOLD {
            leave(s, out);
        }
        return;
    }
    // Nothing else can be acknowledged: what says otherwise is late.
    if g.flags & TCP_ACK == 0 || g.ack != s.answered {
        return;
    }
    s.window = g.window;
    if g.time != 0 && after(g.time_value, s.time_value) {
        s.time_value = g.time_value;
    }
    let fin = g.flags & TCP_FIN != 0;
    match part(g.seq, g.len, end) {
        Part::Gap(_) => {
            out.note = NOTE_EARLY;
            return;
        }
        Part::New(from) => {
            let take = (g.len - from).min(HOLD.saturating_sub(s.held));
            if !h.hold(s.held, from, take) {
                return;
            }
            s.held += take;
        }
        Part::Old => {
            if again(s, h, g, now, terms, out) {
                return;
            }
        }
    }
    let end = s.first.wrapping_add(s.held);
    if fin && g.seq.wrapping_add(g.len) == end {
        s.flags |= HELD_FIN;
        s.ends |= END_CLIENT;
    }
    if s.state == IDLE && s.held != 0 {
        s.since = now;
        settle(s, h, (s.has(HELD_FIN), now), out);
    } else if s.state == IDLE && s.has(HELD_FIN) {
        // It asked for nothing.
        say(s, TCP_FIN | TCP_ACK, end.wrapping_add(1), out);
    }
}

/// Nothing new; true: that is all. A bare acknowledgement of a client that has said nothing for long, and was asked ([`probe`]):
/// it waits for the server, which speaks first.
#[inline(always)]
fn again<H: Host>(s: &mut Splice, h: &mut H, g: &Segment, now: u32, terms: &Terms, out: &mut Outs) -> bool {
    let probe = before(g.seq, s.first) && s.held == 0;
    if s.state == IDLE && probe && g.len <= 1 {
        say(s, TCP_ACK, s.first, out);
        return true;
    }
    let bare = g.len == 0;
    if bare && (g.flags & TCP_FIN != 0 || s.held != 0 || s.ends != 0) {
        return g.flags & TCP_FIN == 0;
    }
    if s.state == IDLE {
        let silent = now.wrapping_sub(s.since);
        if bare && silent >= terms.first_byte_ms {
            settle(s, h, (true, now), out);
            if out.note == 0 {
                out.note = NOTE_SILENT;
            }
        }
        // A client that waits for an acknowledgement before it goes on. Without a listener the rest of the head may still be on its way: a
        // tail loss probe comes after two round trips.
        if !bare && s.held != 0 && !hand_over(s, h, now, out) && silent >= WHOLE_MS {
            alone(s, h, now, out);
        }
        return true;
    }
    if now.wrapping_sub(s.since) >= terms.silent_ms {
        out.reset_instance(s.instance, s.first);
        another(s, h, now, out);
    } else {
        out.syn(s);
    }
    true
}

/// A segment of ours to a client that has no instance.
#[inline(always)]
fn say(s: &Splice, flags: u8, ack: u32, out: &mut Outs) {
    out.push(said(s, (s.answered, ack), flags));
}

#[inline(always)]
fn said(s: &Splice, (seq, ack): (u32, u32), flags: u8) -> Out {
    Out {
        kind: SEND,
        to: CLIENT,
        seq,
        ack,
        flags,
        window: ((HOLD_SEGMENTS * s.payload()).min(HOLD) >> s.told.min(14)).max(1) as u16,
        time: s.offered.time,
        time_value: s.time_base,
        time_echo: s.time_value,
        ..Out::default()
    }
}

/// What a client is asked that has said nothing: its answer, a bare acknowledgement, takes its connection on ([`client`]). It is
/// a keep-alive probe (RFC 9293, 3.8.4). `None`: it is not due. `last`: when this was asked before. It is due when the client has
/// been silent for as long as it may be, for twice as long, for four times as long, and so on for ten minutes.
#[cfg(any(test, feature = "user"))]
pub fn probe(s: &Splice, now: u32, last: u32, terms: &Terms) -> Option<Out> {
    const FOR_MS: u32 = 600_000;
    let due = match s.state {
        IDLE => terms.first_byte_ms,
        SYN_SENT => terms.silent_ms,
        _ => return None,
    };
    if s.held != 0 || s.ends != 0 {
        return None;
    }
    let (age, before) = (now.wrapping_sub(s.since), last.wrapping_sub(s.since) as i32);
    // Who has gone without a word is asked no more; of days ago every comparison would be wrong.
    if age > 2 * FOR_MS {
        return None;
    }
    let mut at = due.max(1);
    while at <= age.min(FOR_MS) {
        if at as i32 > before {
            return Some(said(s, (s.answered.wrapping_sub(1), s.first), TCP_ACK));
        }
        at *= 2;
    }
    None
}

/// The client is gone.
#[inline(always)]
fn leave(s: &mut Splice, out: &mut Outs) {
    if s.state == SYN_SENT {
        out.reset_instance(s.instance, s.first);
    }
    s.state = CLOSED;
    s.ends |= END_RESET;
}

#[inline(always)]
fn established<H: Host>(s: &mut Splice, h: &mut H, g: &Segment, now: u32, out: &mut Outs) {
    // A new one's number is beyond the old one's, or it is the old one's SYN, late (RFC 9293, 3.10.7.4).
    let silent = now.wrapping_sub(s.since);
    let both = s.ends & (END_CLIENT | END_INSTANCE) == END_CLIENT | END_INSTANCE;
    let over = both && (!before(g.seq, s.acked) || silent > LATE_MS) || s.ends != 0 && silent > SILENT_MS;
    if g.flags & TCP_SYN != 0 && (s.ends & END_RESET != 0 || over) {
        s.state = CLOSED;
        out.note = NOTE_RESTART;
        return;
    }
    if g.flags & (TCP_SYN | TCP_RST) != 0 {
        // Who knows no number of it ends nothing. One that was right and is not taken for it costs the next connection of this port a
        // second.
        let near = g.seq.wrapping_sub(s.acked) <= RESET_WITHIN;
        if g.flags & TCP_RST != 0 && near {
            s.ends |= END_RESET;
            s.since = now;
        }
        s.flags |= if g.flags & TCP_SYN != 0 { DIALLED } else { 0 };
        out.forward(s, INSTANCE, g, g.len);
        return;
    }
    if stale(s, g) {
        return;
    }
    s.since = now;
    s.window = g.window;
    if g.time != 0 && after(g.time_value, s.time_value) {
        s.time_value = g.time_value;
    }
    if s.has(PER_REQUEST) {
        if h.frames().is_none() {
            // Its messages are not known any more, nor will they be.
            if s.has(STRICT) {
                out.note = NOTE_NOT_FOLLOWED;
                return reset_both(s, g, out);
            }
            s.flags &= !PER_REQUEST;
            out.note = NOTE_STAYED;
        } else if followed(h) {
            return per_request(s, h, g, now, out);
        }
    }
    s.ends |= if g.flags & TCP_FIN != 0 { END_CLIENT } else { 0 };
    out.forward(s, INSTANCE, g, g.len);
}

/// Older than this instance, which would take it for an answer to no SYN-ACK of its own, and reset.
#[inline(always)]
fn stale(s: &Splice, g: &Segment) -> bool {
    s.has(FRESH) && before(g.ack, s.answered)
}

#[inline(always)]
fn followed<H: Host>(h: &mut H) -> bool {
    h.frames().is_some_and(|f| !f.opaque())
}

/// Whether requests are looked for in a segment of the client.
#[inline(always)]
pub fn follows<H: Host>(s: &Splice, h: &mut H, g: &Segment) -> bool {
    s.state == EST
        && s.has(PER_REQUEST)
        && g.flags & (TCP_SYN | TCP_RST) == 0
        && g.len != 0
        && !stale(s, g)
        && followed(h)
}

/// A segment of the client where its service is not known any more. True: an instance has the connection, which goes on. Without
/// one it ends.
#[inline(always)]
pub fn goes_on(s: &mut Splice, g: &Segment, out: &mut Outs) -> bool {
    if s.state == EST {
        return true;
    }
    if g.flags & TCP_RST == 0 {
        close(s, (g.ack, g.seq.wrapping_add(g.len)), out);
    }
    false
}

/// Resets both sides of an established connection.
#[inline(always)]
pub(super) fn reset_both(s: &mut Splice, g: &Segment, out: &mut Outs) {
    out.reset_instance(s.instance, s.acked);
    close(s, (g.ack, g.seq.wrapping_add(g.len)), out);
}
