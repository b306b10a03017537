//! Circuit breakers: what they say of new connections, and what they hear of those that gray has. Each function is exported, and so
//! checked once by itself: what comes after it is followed once, whatever it answers.

use gray_common::{
    Reason,
    decide::{HAS_BREAKER, MARK_TRIES, MARK_WATCHED, kept_by, mark_opening},
    packet::{TCP, opens},
    wire::{
        ARM_GRAY, Breaker, CALL_TRIES, CALL_WATCHED, Call, FLOW_CLOSING, FLOW_ESTABLISHED, FLOW_FORWARD,
        FLOW_OPENING, FLOW_TRIES, FLOW_UNANSWERED, FLOW_WATCHED, FlowState, RETRANSMITS_TOLD,
        SERVICE_BREAKER, SERVICE_LEASE, SERVICE_SHADOW, Trip, trip_is_open,
    },
};

use super::life::how;
use crate::{
    ctx::{exchange, jiffies, taken},
    maps,
};

/// `Tables::guard`, with the service's numbers. `of`: its own; bit 16: the connection's end will be seen; from bit 17 on, three bits: how
/// often a SYN comes again before that is a failure; from bit 24 on: how many failures are too many.
#[unsafe(export_name = "gray_guard")]
#[inline(never)]
pub extern "C" fn guard(of: u32, flags: u32, lease_ms: u32, window_ms: u32, open_ms: u32) -> u32 {
    let Some(c) = maps::CONTROL.get(0) else { return flags };
    let (now, hz) = (jiffies(), c.hz);
    if flags & SERVICE_SHADOW != 0 {
        return flags;
    }
    if flags & SERVICE_LEASE != 0 && c.is_lost(now, lease_ms) {
        return flags | kept_by(Reason::AgentLost);
    }
    if flags & SERVICE_BREAKER == 0 {
        return flags;
    }
    let Some(trip) = maps::TRIPS.get_ptr_mut(of & 0xffff) else { return flags };
    // SAFETY: the element stays; what CPUs race on is changed by atomic instructions, or is the same whoever writes it.
    let trip = unsafe { &mut *trip };
    let rule = Breaker { window_ms, open_ms, failures: of >> 24, retransmits: of >> 17 & 7 };
    if trip.rule != rule {
        trip.rule = rule;
    }
    if trip_is_open(opened(trip), now, hz, open_ms, of & 1 << 16 != 0) {
        return flags | kept_by(Reason::Broken);
    }
    flags
}

/// Marks the decision in `SCRATCH`, of a service with a breaker, whose flow is about to be recorded: `told`, as `record` is. Where the
/// breaker was open, the connection tries: for all that are decided from now on it has just opened; whoever was decided at the same
/// moment goes along. 0: nothing is to be recorded, for whoever decides again shall let it try.
#[unsafe(export_name = "gray_breaker_mark")]
#[inline(never)]
pub extern "C" fn mark(told: u32) -> u32 {
    let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: this CPU's own slot.
    let (a, d) = unsafe { (&(*scratch).arrival, &mut (*scratch).decision) };
    d.tunnel &= !HAS_BREAKER;
    // Of others nobody sees the end.
    let seen = a.proto == TCP && opens(a.tcp_flags);
    if told == how::STAYS || !seen || u32::from(d.arm) != ARM_GRAY {
        return 1;
    }
    let Some(trip) = maps::TRIPS.get_ptr_mut(d.service.into()) else { return 1 };
    // SAFETY: as in `guard`.
    let trip = unsafe { &mut *trip };
    let was = opened(trip);
    d.marks |= MARK_WATCHED | mark_opening(a.again.into());
    // Decided before another CPU opened it: it goes along, and does not try.
    if was != 0 && !trip_is_open(was, jiffies(), hz(), trip.rule.open_ms, true) {
        if told == how::QUIETLY {
            return 0;
        }
        // It may be closed at this moment.
        if exchange(&raw mut trip.opened, was, jiffies()) == was {
            d.marks =
                d.marks & !mark_opening(RETRANSMITS_TOLD.into()) | MARK_TRIES | mark_opening(trip.opens);
        }
    }
    1
}

#[inline(always)]
fn hz() -> u32 {
    maps::CONTROL.get(0).map_or(0, |c| c.hz)
}

#[inline(always)]
fn opened(trip: &Trip) -> u64 {
    // SAFETY: a plain aligned load.
    unsafe { core::ptr::read_volatile(&trip.opened) }
}

/// Its latest opening, as flows and calls remember it.
#[inline(always)]
fn latest(trip: &Trip) -> u32 {
    (trip.opens as u32) << 11 & u32::from(FLOW_OPENING)
}

/// What was heard: it failed; the one that tries did; the one that tries was answered; its client left before that. Of those that try,
/// with the opening's bits of their flow: what they say of an earlier one says nothing of this.
pub const FAILED: u32 = 0;
const TRY_FAILED: u32 = 1;
const TRY_ANSWERED: u32 = 2;
const TRY_LEFT: u32 = 3;

#[unsafe(export_name = "gray_breaker_hears")]
#[inline(never)]
pub extern "C" fn hears(counter: u32, what: u32) -> u32 {
    let (Some(trip), Some(c)) = (maps::TRIPS.get_ptr_mut(counter >> 1), maps::CONTROL.get(0)) else {
        return 0;
    };
    // SAFETY: as in `guard`.
    let trip = unsafe { &mut *trip };
    let (now, was) = (jiffies(), opened(trip));
    let opening = latest(trip);
    let (of, mut what) = (what & u32::from(FLOW_OPENING), what & 3);
    if what != FAILED && of != opening {
        if what != TRY_FAILED {
            return 0;
        }
        what = FAILED;
    }
    if what == TRY_ANSWERED && was == 0 {
        return 0;
    }
    if what == TRY_ANSWERED {
        trip.before = trip.count;
        // After that: an atomic instruction, which other CPUs see in this order. Who has opened it anew at this moment has seen more.
        let _ = exchange(&raw mut trip.opened, was, 0);
        return 0;
    }
    if what == TRY_LEFT {
        // The next one tries.
        let open = u64::from(trip.rule.open_ms).wrapping_mul(u64::from(c.hz)) / 1000;
        if was != 0 {
            let _ = exchange(&raw mut trip.opened, was, now.wrapping_sub(open + 1));
        }
        return 0;
    }
    let n = taken(&raw mut trip.count) + 1;
    let many = trip.fails(n, now, c.hz);
    if what == TRY_FAILED && was != 0 {
        let _ = exchange(&raw mut trip.opened, was, now);
    } else if many
        && !trip_is_open(was, now, c.hz, trip.rule.open_ms, false)
        && exchange(&raw mut trip.opened, was, now) == was
    {
        // Also anew: where nobody tries, all may after a while.
        let _ = taken(&raw mut trip.opens);
    }
    0
}

/// What a socket is to remember that dials gray instances of a service with a breaker. One that was let pass when nobody had tried for long
/// tries: also beside others, for it does not hold them up.
#[unsafe(export_name = "gray_breaker_watch")]
#[inline(never)]
pub extern "C" fn watch(service: u32) -> u32 {
    let Some(trip) = maps::TRIPS.get_ptr_mut(service) else { return 0 };
    // SAFETY: as in `guard`.
    let trip = unsafe { &*trip };
    let tries = if opened(trip) == 0 { 0 } else { u32::from(CALL_TRIES) | latest(trip) };
    u32::from(CALL_WATCHED) | tries
}

/// Whether it is a failure that the SYN of such a socket is sent once more, for the `times`-th time.
#[unsafe(export_name = "gray_breaker_silence")]
#[inline(never)]
pub extern "C" fn is_silence(counter: u32, times: u32) -> u32 {
    let Some(trip) = maps::TRIPS.get_ptr_mut(counter >> 1) else { return 0 };
    // SAFETY: as in `guard`.
    u32::from(unsafe { (*trip).rule }.is_silence(times))
}

/// What became of such a socket's connection: it failed, or its instance has said something.
#[inline(always)]
pub fn ended(c: &Call, failed: bool) {
    let tries = c.state & CALL_TRIES != 0;
    let what = match (failed, tries) {
        (true, true) => TRY_FAILED,
        (true, false) => FAILED,
        (false, true) => TRY_ANSWERED,
        (false, false) => return,
    };
    let _ = hears(u32::from(c.counter), what | u32::from(c.state & FLOW_OPENING));
}

/// What it knows of a flow.
pub const MARKS: u16 = FLOW_WATCHED | FLOW_TRIES | FLOW_OPENING;

fn opening(f: &FlowState) -> u32 {
    u32::from(f.flags & FLOW_OPENING)
}

/// A connection that a breaker watches has failed: once, whatever comes.
#[inline(always)]
pub fn failed(f: &mut FlowState) {
    let what = if f.flags & FLOW_TRIES != 0 { TRY_FAILED | opening(f) } else { FAILED };
    f.flags &= !MARKS;
    let _ = hears(u32::from(f.counter), what);
}

/// The SYN of a client's entry that is watched came again: the entry's flags from now on. It fails when that was too often.
#[inline(always)]
pub fn again(counter: u32, flags: u32) -> u32 {
    let found = again_or_failed(counter, flags);
    // Not by that one: where it is called nobody has stack for two.
    if found & TOO_OFTEN != 0 {
        let _ = hears(counter, found >> 17);
    }
    found & (TOO_OFTEN - 1)
}

/// Behind the flags: it has failed, and on from there what is heard.
const TOO_OFTEN: u32 = 1 << 16;

/// Of one that tries the bits that count are its opening's: where more than one is allowed its silence is not counted, and nobody else goes
/// meanwhile.
#[unsafe(export_name = "gray_breaker_again")]
#[inline(never)]
pub extern "C" fn again_or_failed(counter: u32, flags: u32) -> u32 {
    let Some(trip) = maps::TRIPS.get_ptr_mut(counter >> 1) else { return flags };
    // SAFETY: as in `guard`.
    let rule = unsafe { (*trip).rule };
    let (bits, tries) = (flags & u32::from(FLOW_OPENING), flags & u32::from(FLOW_TRIES) != 0);
    let times = if tries { 1 } else { (bits >> OPENING_SHIFT) + 1 };
    if times > RETRANSMITS_TOLD || tries && !rule.is_silence(1) {
        return flags;
    }
    if !rule.is_silence(times) {
        return flags & !u32::from(FLOW_OPENING) | times << OPENING_SHIFT;
    }
    let what = if tries { TRY_FAILED | bits } else { FAILED };
    flags & !u32::from(MARKS) | RETRANSMITS_TOLD << OPENING_SHIFT | TOO_OFTEN | what << 17
}

const OPENING_SHIFT: u32 = 11;

/// How often the SYN of a client's entry that is over came again: what is recorded in its place goes on counting. Longer apart than the last
/// retransmissions are (32 s) they are of two connections.
#[inline(always)]
pub fn silence(f: &FlowState, proto: u8, hz: u32) -> u8 {
    let ended = FLOW_ESTABLISHED | FLOW_CLOSING | FLOW_TRIES;
    let idle = (jiffies() as u32).wrapping_sub(f.seen);
    if proto != TCP
        || f.flags & ended != 0
        || f.flags & (FLOW_WATCHED | FLOW_UNANSWERED) == 0
        || idle > hz.wrapping_mul(64)
    {
        return 0;
    }
    let mut flags = u32::from(f.flags);
    if f.flags & FLOW_WATCHED != 0 {
        flags = again(u32::from(f.counter), flags);
    }
    (flags >> OPENING_SHIFT) as u8 & RETRANSMITS_TOLD as u8
}

/// The client of one that tries has reset it before it was answered: nothing was learned.
#[inline(always)]
pub fn left(f: &mut FlowState) {
    let what = TRY_LEFT | opening(f);
    f.flags &= !MARKS;
    let _ = hears(u32::from(f.counter), what);
}

/// Its instance has said something.
#[inline(always)]
pub fn answered(f: &mut FlowState) {
    if f.flags & FLOW_TRIES != 0 {
        let _ = hears(u32::from(f.counter), TRY_ANSWERED | opening(f));
    }
    f.flags &= !MARKS;
}

/// What was sent to the instance of an answers' entry has not reached it. Datagrams are not watched: each counts.
#[inline(always)]
pub fn unreached(f: &mut FlowState, proto: u8) {
    if f.flags & FLOW_FORWARD != 0 {
        return;
    }
    if f.flags & FLOW_WATCHED != 0 && proto == TCP {
        failed(f);
    } else if proto != TCP && u32::from(f.counter) & 1 == ARM_GRAY {
        let _ = hears(u32::from(f.counter), FAILED);
    }
}
