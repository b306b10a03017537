//! Where there is no connection: a SYN is answered with a cookie, a good one begins a connection, and what was lost is reset.

use gray_common::{
    Reason,
    decide::{Claims, Decision},
    packet::{TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN},
    request::{
        cookie::{self, Tuple},
        machine::{self, SYN_OPTIONS},
    },
    wire::{Bound, Tagged},
};

use super::{
    ACT, DROPPED, FOREIGN, GO, GONE, INSTANCE, NEW_CLIENT, SETTLED, WAITS, decide::arrived, granted, lock,
    reading,
};
use crate::{
    emit,
    hooks::tags,
    maps::{
        self,
        request::{Call, SPLICES, STRANGERS, TAGGED, call},
    },
    tables::Kernel,
};

/// A segment of a stranger that comes again after this is no early one.
const STRANGE_MS: u32 = 3000;

/// A packet of no connection that is known: a SYN is answered, a good cookie begins one.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_request_unknown")]
#[inline(never)]
pub extern "C" fn unknown() -> u32 {
    let Some(c) = call() else { return DROPPED };
    if c.whose == INSTANCE {
        return GO;
    }
    let flags = c.seg.flags;
    let Some(reading) = reading(c) else { return if flags & TCP_SYN != 0 { GONE } else { lost(c) } };
    if flags & TCP_SYN != 0 {
        if flags & TCP_ACK != 0 {
            return DROPPED;
        }
        return if c.options.has(SYN_OPTIONS) { unanswerable(c) } else { answer() };
    }
    if flags & TCP_ACK == 0 || flags & TCP_RST != 0 {
        return FOREIGN;
    }
    let Some(k) = Kernel::at(c.epoch) else { return DROPPED };
    c.tuple = Tuple { number: c.seg.seq.wrapping_sub(1), ..c.key };
    let Some(mss) = cookie::check(k.key(), &c.tuple, c.seg.ack.wrapping_sub(1), c.now_ms) else {
        return lost(c);
    };
    granted::recall(c);
    c.bound = Bound {
        decision: Decision::default(),
        splice: machine::open(&c.seg, (mss, c.offered), c.now_ms as u32, &reading.terms),
        picked: 0,
        mark: c.mark,
        lock: 0,
        dscp: c.dscp,
        hops: c.hops,
        place: 0,
        ifindex: c.ifindex,
        since: 0,
    };
    if lock::begin(c) != 0 { GO } else { WAITS }
}

/// Its ends agree on something that nobody between them can take part in (signatures of segments): its client is not answered, nothing
/// of it is read, and it is decided on at once.
#[inline(always)]
fn unanswerable(c: &mut Call) -> u32 {
    let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else { return DROPPED };
    // SAFETY: this CPU's own slot.
    let scratch = unsafe { &mut *scratch };
    emit::count(Reason::RequestOptions);
    (c.bound.mark, c.bound.dscp) = (c.mark, c.dscp);
    arrived(c, &mut scratch.arrival);
    scratch.claims = Claims::none(0);
    SETTLED
}

/// In mid-stream. Where a flow says that it was translated, its numbers are lost, and its client is told so; else it may be
/// older than gray.
#[inline(always)]
fn lost(c: &mut Call) -> u32 {
    let flags = c.seg.flags;
    if c.whose == NEW_CLIENT || flags & TCP_ACK == 0 || flags & TCP_RST != 0 {
        return FOREIGN;
    }
    // Others have its place in the table: there are more than it has room for.
    emit::count(Reason::RequestForgotten);
    c.outs.reset_client(c.seg.ack, c.seg.seq.wrapping_add(c.seg.len));
    ACT
}

/// What [`FOREIGN`] is when it is not older than gray: of a connection that was lost, on this node or on another one. Its client is
/// told. At once, when it says nothing new: all that a new connection says so has a good cookie. Of anything else, a segment that came
/// before its connection's first, say, only when it comes again after seconds: by then the first one has come, too.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_request_stranger")]
#[inline(never)]
pub extern "C" fn stranger() -> u32 {
    let Some(c) = call() else { return DROPPED };
    let flags = c.seg.flags;
    if c.whose != NEW_CLIENT || flags & TCP_ACK == 0 || flags & TCP_RST != 0 {
        return DROPPED;
    }
    // Another CPU may have moved it from one table to the other since it was looked for.
    if SPLICES.get_ptr(&c.key).is_some() {
        return DROPPED;
    }
    if c.seg.len != 0 || flags & (TCP_SYN | TCP_FIN) != 0 {
        let now = c.now_ms as u32;
        let since = STRANGERS.get_ptr(&c.key).map_or(now, |at| {
            // SAFETY: an aligned word that stays readable for the run.
            unsafe { *at }
        });
        let age = now.wrapping_sub(since);
        if !(STRANGE_MS..STRANGE_MS * 20).contains(&age) {
            if age == 0 || age >= STRANGE_MS * 20 {
                let _ = maps::keep(&STRANGERS, &c.key, &now, 0);
            }
            return DROPPED;
        }
        let _ = STRANGERS.remove(&c.key);
    }
    emit::count(Reason::RequestLost);
    c.outs.reset_client(c.seg.ack, c.seg.seq.wrapping_add(c.seg.len));
    ACT
}

/// What the SYN's tag says is kept until its client has spoken: a cookie has no room for it. Of an earlier connection of the
/// same ends nothing is kept.
#[inline(always)]
fn keep_tag(c: &Call) {
    let Some(scratch) = maps::SCRATCH.get_ptr(0) else { return };
    // SAFETY: this CPU's own slot.
    let tag = unsafe { (*scratch).tag };
    if tag.identity | u64::from(tag.lane) == 0 {
        let _ = TAGGED.remove(&c.key);
        return;
    }
    let tagged = Tagged { identity: tag.identity, lane: tag.lane.into() };
    let _ = maps::keep(&TAGGED, &c.key, &tagged, 0);
}

/// The SYN's answer.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_request_answer")]
#[inline(never)]
pub extern "C" fn answer() -> u32 {
    let Some(c) = call() else { return DROPPED };
    let (Some(k), Some(reading)) = (Kernel::at(c.epoch), reading(c)) else { return DROPPED };
    c.tuple = Tuple { number: c.seg.seq, ..c.key };
    granted::grant(c);
    let what = (&c.options, &c.offered);
    c.outs.out[0] = machine::answer_syn(&c.seg, what, &c.tuple, k.key(), c.now_ms, &reading.terms);
    c.outs.n = 1;
    if tags::read() {
        keep_tag(c);
    }
    emit::count(Reason::RequestAnswered);
    ACT
}
