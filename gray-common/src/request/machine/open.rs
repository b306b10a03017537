//! The beginning: the answer to a SYN, the entry of a client that has shown its cookie, the choice of an instance, time.

use super::{super::cookie, *};
use crate::{
    hash::HashKey,
    packet::{TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN},
    request::{
        cookie::Tuple,
        options::{BROKEN, NO_SCALE, Options, SIGNED},
        translate::Shift,
    },
};

/// Options that a SYN may not have if it is to be spliced: what is signed cannot be translated.
pub const SYN_OPTIONS: u8 = BROKEN | SIGNED;

/// The SYN-ACK: a cookie, and what the client may have of what it offered. The window lets it send what is held.
#[inline(always)]
pub fn answer_syn(
    g: &Segment,
    (o, offered): (&Options, &Offered),
    t: &Tuple,
    key: HashKey,
    now_ms: u64,
    terms: &Terms,
) -> Out {
    let mss = cookie::MSS.get(cookie::class(o.mss) as usize).copied().unwrap_or(0);
    Out {
        kind: SEND,
        to: CLIENT,
        seq: cookie::make(key, t, o.mss, now_ms),
        ack: g.seq.wrapping_add(1),
        flags: TCP_SYN | TCP_ACK,
        window: (HOLD_SEGMENTS * (u32::from(mss) - u32::from(offered.time) * 12)) as u16,
        mss: terms.mss,
        scale: if offered.scale < NO_SCALE { terms.scale } else { NO_SCALE },
        sack: offered.sack,
        time: offered.time,
        time_value: offered.time_value(now_ms as u32),
        time_echo: o.time_value,
        ..Out::default()
    }
}

/// The reset that answers a segment of a connection that is refused (RFC 9293, 3.10.7.1).
#[inline(always)]
pub fn refuse(g: &Segment) -> Out {
    let acked = g.flags & TCP_ACK != 0;
    let ends = u32::from(g.flags & TCP_SYN != 0) + u32::from(g.flags & TCP_FIN != 0);
    Out {
        kind: SEND,
        to: CLIENT,
        seq: if acked { g.ack } else { 0 },
        ack: g.seq.wrapping_add(g.len).wrapping_add(ends),
        flags: TCP_RST | TCP_ACK,
        ..Out::default()
    }
}

/// The connection of a segment whose acknowledgement is a good cookie; `mss` is what it carries, `offered` what its client was granted.
#[inline(always)]
pub fn open(g: &Segment, (mss, offered): (u16, Offered), now: u32, terms: &Terms) -> Splice {
    Splice {
        shift: Shift::default(),
        first: g.seq,
        held: 0,
        answered: g.ack,
        acked: g.seq,
        begun: g.seq,
        instance: 0,
        time_base: g.time_echo,
        time_value: g.time_value,
        since: now,
        window: g.window,
        mss,
        offered,
        state: IDLE,
        flags: terms.flags & (PER_REQUEST | STRICT),
        ends: 0,
        attempt: 0,
        challenges: 0,
        told: if offered.scale < NO_SCALE { terms.scale } else { 0 },
        handed: 0,
        _pad: 0,
    }
}

/// Looks at what is held, and goes where it says.
#[inline(always)]
pub(super) fn settle<H: Host>(s: &mut Splice, h: &mut H, (ended, now): (bool, u32), out: &mut Outs) {
    match h.read(s.held, ended) {
        READ_FOUND => {
            s.attempt = 0;
            connect(s, h, now, out);
        }
        READ_DENY => {
            out.note = NOTE_DENIED;
            close(s, (s.answered, s.first.wrapping_add(s.held)), out);
        }
        READ_MORE if !ended && s.held < HOLD => {}
        _ if hand_over(s, h, now, out) => {}
        _ => alone(s, h, now, out),
    }
}

/// What only the listener could have read is decided on by what was.
#[inline(always)]
pub(super) fn alone<H: Host>(s: &mut Splice, h: &mut H, now: u32, out: &mut Outs) {
    s.handed = UNREAD;
    s.attempt = 0;
    out.note = NOTE_ALONE;
    connect(s, h, now, out);
}

/// What only the listener can read goes there, once in a connection's life. False: it cannot.
#[inline(always)]
pub(super) fn hand_over<H: Host>(s: &mut Splice, h: &mut H, now: u32, out: &mut Outs) -> bool {
    if s.handed == HANDED {
        return false;
    }
    let listener = h.pick(LISTENER.into());
    if listener == 0 {
        return false;
    }
    s.handed = HANDED;
    s.attempt = LISTENER;
    out.note = NOTE_LISTENER;
    dial(s, listener, now, out);
    true
}

#[inline(always)]
fn dial(s: &mut Splice, instance: u32, now: u32, out: &mut Outs) {
    s.instance = instance;
    s.state = SYN_SENT;
    s.since = now;
    s.challenges = 0;
    s.shift = Shift::default();
    out.syn(s);
}

/// Resets the client, which expects `seq` and has said everything before `ack`.
#[inline(always)]
pub(super) fn close(s: &mut Splice, (seq, ack): (u32, u32), out: &mut Outs) {
    s.state = CLOSED;
    s.ends |= END_RESET;
    out.reset_client(seq, ack);
}

/// The instance that was picked takes no connection, and no other one will: the client is told.
#[inline(always)]
pub fn give_up(s: &mut Splice, out: &mut Outs) {
    out.note = NOTE_NO_INSTANCE;
    close(s, (s.answered, s.first.wrapping_add(s.held)), out);
}

/// A SYN to the instance of this attempt, or of a later one.
#[inline(always)]
pub(super) fn connect<H: Host>(s: &mut Splice, h: &mut H, now: u32, out: &mut Outs) {
    let mut i = 0;
    while i < ATTEMPTS && u32::from(s.attempt) < ATTEMPTS {
        let instance = h.pick(u32::from(s.attempt));
        if instance != 0 {
            return dial(s, instance, now, out);
        }
        s.attempt += 1;
        i += 1;
    }
    give_up(s, out);
}

/// The instance refused, or is silent.
#[inline(always)]
pub(super) fn another<H: Host>(s: &mut Splice, h: &mut H, now: u32, out: &mut Outs) {
    out.note = if s.attempt == LISTENER { NOTE_ALONE } else { NOTE_ANOTHER };
    // The one after the listener is the first.
    s.attempt = s.attempt.wrapping_add(1);
    connect(s, h, now, out);
}
