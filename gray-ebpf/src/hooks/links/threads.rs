//! What threads read, and what becomes of it: told by tracepoints, of workloads with a link alone.

use aya_ebpf::programs::BtfTracePointContext;
use gray_common::wire::{
    FLYING_OTHER, LINK_STRICT, LINK_THREAD, LINKED_ANSWERED, LINKED_ASKED, LINKED_CALLS, LINKED_OTHER,
    LINKED_SERVICE, Linked, Thread,
};

use super::{Mode, lane_now, mode};
use crate::{
    ctx::{
        add, exchange, ktime_ns,
        trace::{Trace, task},
    },
    maps,
};

/// A thread got bytes of a socket (`sock_recv_length`).
pub fn reads(ctx: &BtfTracePointContext) {
    let bytes: i32 = ctx.arg(1);
    if bytes <= 0 {
        return;
    }
    let (Some(m), Some(sock)) = (mode(), Trace::new(ctx)) else { return };
    if !sock.is_tcp() {
        return;
    }
    let strict = m.link == LINK_STRICT;
    let linked = if strict { sock.store(&maps::LINKED) } else { sock.stored(&maps::LINKED) };
    match linked {
        // The answer to what it called.
        Some(l) if l.state & LINKED_CALLS != 0 => l.state = l.state & !LINKED_ASKED | LINKED_ANSWERED,
        Some(l) if strict => begins(m, l),
        None if strict => doubts(m),
        Some(l) => serves(m, l.lane),
        None => serves(m, 0),
    }
}

/// From here on what it calls is in this lane.
#[inline(always)]
fn serves(m: &Mode, lane: u32) {
    let found = if lane == 0 { known() } else { thread(m) };
    if let Some(t) = found {
        t.lane = lane;
    }
}

/// A request is in flight from the first time that a thread reads of its socket; on another thread if that goes on with it.
#[inline(always)]
fn begins(m: &Mode, linked: &mut Linked) {
    let Some(t) = thread(m) else { return };
    let me = task();
    if linked.thread == me && linked.born == t.born {
        return;
    }
    ends(linked);
    if t.flying == 0 {
        t.lane = linked.lane;
    }
    let same = linked.lane == t.lane;
    linked.state = if same { 0 } else { LINKED_OTHER };
    linked.born = t.born;
    add(&mut t.flying, if same { 1 } else { FLYING_OTHER });
    linked.thread = me;
}

/// A request that cannot be told from others, for want of memory: its thread is not sure of anything any more.
#[inline(always)]
fn doubts(m: &Mode) {
    if let Some(t) = thread(m) {
        add(&mut t.flying, FLYING_OTHER);
    }
}

/// Nothing is in flight there any more. Several may end it at once: one does.
#[inline(always)]
fn ends(linked: &mut Linked) {
    let at = linked.thread;
    if at == 0 || exchange(&mut linked.thread, at, 0) != at {
        return;
    }
    let one = if linked.state & LINKED_OTHER == 0 { 1 } else { FLYING_OTHER };
    if let Some(t) = maps::THREADS.get_ptr_mut(&at) {
        // SAFETY: elements stay readable for the run, and are changed by single instructions.
        let t = unsafe { &mut *t };
        if t.born == linked.born {
            add(&mut t.flying, one.wrapping_neg());
        }
    }
}

/// A thread gave bytes to a socket (`sock_send_length`): an answer, or a call.
pub fn sends(ctx: &BtfTracePointContext) {
    let bytes: i32 = ctx.arg(1);
    if bytes <= 0 {
        return;
    }
    let Some(linked) = Trace::new(ctx).and_then(|sock| sock.stored(&maps::LINKED)) else { return };
    if linked.state & LINKED_CALLS == 0 {
        return ends(linked);
    }
    if linked.state & (LINKED_SERVICE | LINKED_ASKED) != LINKED_SERVICE {
        return;
    }
    let Some(m) = mode() else { return };
    linked.state |= LINKED_ASKED;
    let Some(n) = maps::LINK_CALLS.get_ptr_mut(&m.label) else { return };
    // SAFETY: elements stay readable for the run, and are changed by single instructions.
    let n = unsafe { &mut *n };
    add(&mut n.calls, 1);
    // The first one may be sent when the thread is at another request already: the connection was made for its own.
    if linked.state & LINKED_ANSWERED != 0 && lane_now(|t| t.link == m.link) as u32 != linked.lane {
        add(&mut n.others, 1);
    }
}

/// A socket is gone (`tcp_destroy_sock`).
pub fn closes(ctx: &BtfTracePointContext) {
    if let Some(linked) = Trace::new(ctx).and_then(|sock| sock.stored(&maps::LINKED)) {
        ends(linked);
    }
}

/// A thread or a process begins (`sched_process_fork`). Its place may have been another one's.
pub fn forks(ctx: &BtfTracePointContext) {
    let child: u64 = ctx.arg(1);
    let follows = known().filter(|t| t.link == LINK_THREAD && t.lane != 0);
    let _ = match follows {
        Some(t) => maps::THREADS.insert(&child, &Thread { born: ktime_ns(), flying: 0, ..*t }, 0),
        None => maps::THREADS.remove(&child),
    };
}

/// It ends (`sched_process_exit`).
pub fn exits() {
    let _ = maps::THREADS.remove(&task());
}

#[inline(always)]
fn known() -> Option<&'static mut Thread> {
    // SAFETY: elements stay readable for the run; its own thread alone makes it anything else than less.
    maps::THREADS.get_ptr_mut(&task()).map(|t| unsafe { &mut *t })
}

/// The calling thread's record under this link. `None`: there is no room, and so it is in no lane.
#[inline(always)]
fn thread(m: &Mode) -> Option<&'static mut Thread> {
    if let Some(t) = known()
        && t.link == m.link
    {
        return Some(t);
    }
    let new = Thread { born: ktime_ns(), flying: 0, label: m.label, lane: 0, link: m.link };
    let _ = maps::THREADS.insert(&task(), &new, 0);
    known()
}
