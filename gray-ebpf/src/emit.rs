//! Counters and events. Nothing here changes what happens to a packet.

use gray_common::{
    Reason,
    decide::{Decision, Tables as _},
    packet::UDP,
    wire::{BUDGET_DECISIONS, BUDGET_MISSING, Event, Missing, PATH_PACKET, SAID},
};

use crate::{
    ctx::{jiffies, ktime_ns},
    maps::{self, request::REQUESTS},
    tables::Kernel,
};

#[inline(always)]
pub fn count(reason: Reason) {
    bump(reason as u32);
}

/// Counts why traffic was left alone. What must never happen is also said in the agent's log, once a second and CPU at
/// most.
#[inline(always)]
pub fn passed(k: &Kernel, reason: Reason) {
    count(reason);
    if reason != Reason::TableHole && reason != Reason::RewriteFailed && reason != Reason::StorageFull {
        return;
    }
    let Some(last) = maps::LAST_LOG.get_ptr_mut(0) else { return };
    let second = jiffies() / u64::from(k.control.hz.max(1));
    // SAFETY: as in `bump`.
    unsafe {
        if *last == second {
            return;
        }
        *last = second;
    }
    aya_log_ebpf::warn!((), "reason {} at epoch {}: see its counter", reason as u8, k.epoch());
}

#[inline(always)]
fn bump(index: u32) {
    if let Some(n) = maps::REASONS.get_ptr_mut(index) {
        // SAFETY: this CPU's own slot of a per-CPU array; a preempted run can lose one increment, never more.
        unsafe { *n += 1 };
    }
}

/// Counts a decision by reason, rule and arm, a refusal by its reason and the rule that led to it, and reports it when it is
/// sampled.
#[inline(always)]
pub fn decided(k: &Kernel, d: &Decision, (path, proto): (u8, u8), fill: impl FnOnce(&mut Event)) {
    // A failover keeps the rule's hit: the rule chose, the subset was empty.
    bump(u32::from(d.reason));
    if d.refused == 0 || d.rule != 0 {
        hit(d);
    }
    if d.refused == 0 {
        went(d, path, proto);
    }
    if sampled(k) {
        event(k, d, path, fill);
    }
}

/// Counts what is refused by the code of its reason, and nothing else.
#[inline(always)]
pub fn refused(reason: u8) {
    bump(u32::from(reason));
}

#[inline(always)]
fn hit(d: &Decision) {
    if let Some(n) = maps::RULE_HITS.get_ptr_mut(u32::from(d.rule)) {
        // SAFETY: as in `bump`.
        unsafe { *n += 1 };
    }
}

/// The reasons of connections that a route would have sent to gray, a bit each.
const KEPT: u64 = 1 << Reason::Shadow as u64 | 1 << Reason::AgentLost as u64 | 1 << Reason::Broken as u64;

#[inline(always)]
fn went(d: &Decision, path: u8, proto: u8) {
    if let Some(a) = maps::ARMS.get_ptr_mut(u32::from(counter(d))) {
        // SAFETY: as in `bump`.
        unsafe {
            if path == PATH_PACKET {
                (*a).packet_flows += 1;
                (*a).udp_flows += u64::from(proto == UDP);
            } else {
                (*a).connects += 1;
            }
            // All of them, so that whoever is none pays for one.
            if KEPT >> (d.reason & 63) & 1 != 0 {
                (*a).shadowed += u64::from(d.reason == Reason::Shadow as u8);
                (*a).lost += u64::from(d.reason == Reason::AgentLost as u8);
                (*a).broken += u64::from(d.reason == Reason::Broken as u8);
            }
        }
    }
}

/// The arm counters' index of a decision.
#[inline(always)]
pub fn counter(d: &Decision) -> u16 {
    // Of no arm: nobody's.
    if d.refused != 0 { 0 } else { d.service << 1 | u16::from(d.arm & 1) }
}

#[inline(always)]
fn sampled(k: &Kernel) -> bool {
    let every = k.control.event_every;
    if every == 0 {
        return false;
    }
    within(k, BUDGET_DECISIONS, every)
}

/// Whether the next of `every` events is still within this second's budget.
#[inline(always)]
fn within(k: &Kernel, budget: u32, every: u32) -> bool {
    let Some(b) = maps::EVENT_BUDGET.get_ptr_mut(budget) else { return false };
    // SAFETY: this CPU's own slot; a lost update only shifts the sampling.
    let b = unsafe { &mut *b };
    b.seen += 1;
    if !b.seen.is_multiple_of(u64::from(every)) {
        return false;
    }
    let hz = k.control.hz;
    let second = if hz == 0 { 0 } else { (jiffies() / u64::from(hz)) as u32 };
    if b.second != second {
        b.second = second;
        b.sent = 0;
    }
    if b.sent >= k.control.event_limit {
        count(Reason::EventLimited);
        return false;
    }
    b.sent += 1;
    true
}

#[inline(always)]
fn event(k: &Kernel, d: &Decision, path: u8, fill: impl FnOnce(&mut Event)) {
    let Some(mut slot) = maps::EVENTS.reserve::<Event>(0) else {
        count(Reason::EventLost);
        return;
    };
    // Filled in place: a copy on the stack would cost a fifth of it.
    // SAFETY: zeros are an event.
    let e = unsafe {
        slot.as_mut_ptr().write_bytes(0, 1);
        slot.assume_init_mut()
    };
    describe(k, d, e);
    e.path = path;
    fill(e);
    slot.submit(0);
}

/// Counts a request of a service that was decided on; `blank`: it names none of the claims.
#[inline(always)]
pub fn asked(service: u16, blank: bool) {
    if let Some(n) = REQUESTS.get_ptr_mut(u32::from(service)) {
        // SAFETY: as in `bump`.
        unsafe {
            (*n).read += 1;
            (*n).missing += u64::from(blank);
        }
    }
}

/// Tells of a request that names none of the claims, with the first bytes of what is held, of which there are `held`.
#[inline(always)]
pub fn missing(
    k: &Kernel,
    d: &Decision,
    text: *const u8,
    (held, read): (u32, u8),
    fill: impl FnOnce(&mut Event),
) {
    if !within(k, BUDGET_MISSING, 1) {
        return;
    }
    let Some(mut slot) = maps::EVENTS.reserve::<Missing>(0) else {
        count(Reason::EventLost);
        return;
    };
    // SAFETY: zeros are an event, and every other field is written below; what is held is longer than what is shown.
    let m = unsafe {
        let at = slot.as_mut_ptr();
        (&raw mut (*at).event).write_bytes(0, 1);
        let said = (&raw mut (*at).said).cast::<[u64; SAID / 8]>();
        core::ptr::copy_nonoverlapping(text.cast::<[u64; SAID / 8]>(), said, 1);
        (*at)._pad = 0;
        slot.assume_init_mut()
    };
    describe(k, d, &mut m.event);
    fill(&mut m.event);
    m.held = held;
    m.len = if held > SAID as u32 { SAID as u16 } else { held as u16 };
    m.read = read;
    slot.submit(0);
}

#[inline(always)]
fn describe(k: &Kernel, d: &Decision, e: &mut Event) {
    e.at_ns = ktime_ns();
    e.epoch = k.epoch();
    e.identity = d.identity;
    e.instance = d.instance.addr;
    e.instance_port = d.instance.port;
    e.service = d.service;
    e.rule = d.rule;
    e.bucket = d.bucket;
    e.reason = d.reason;
    e.arm = d.arm;
}
