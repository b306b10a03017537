//! What becomes of connections that callers on this node have made by the connect path: told by their sockets, at no packet's cost.

use aya_ebpf::programs::{BtfTracePointContext, SockOpsContext};
use gray_common::wire::{
    ArmCount, CALL_ANSWERED, CALL_ASKED, CALL_COUNTS, CALL_HANDED, CALL_RESET, CALL_WATCHED, Call, HANDSHAKE,
    LIFE, LIFE_SHIFT, RTT, TIME_SHIFT,
};

use crate::{
    ctx::{
        add, ktime_ns,
        ops::{CONNECT, ESTABLISHED, Ops, STATE, TIMEOUT, stored_with},
    },
    hooks::{breaker, times},
    maps,
};

/// `BPF_TCP_*`.
const TCP_ESTABLISHED: u32 = 1;
const TCP_SYN_SENT: u32 = 2;
const TCP_CLOSE: u32 = 7;

/// Units of a life that a caller waits at least for an answer, of those that give up: 0.1 s.
const PATIENCE: u32 = 100;

/// A socket at one of its moments. All but ours is left as it is.
pub fn ops(ctx: &SockOpsContext) {
    let mut o = Ops::new(ctx);
    let op = o.op();
    if op != CONNECT && op != ESTABLISHED && op != STATE && op != TIMEOUT {
        return;
    }
    let Some(call) = o.stored(&maps::PEERS) else { return };
    // It may have been steered once, and dial something else now.
    if call.peer.service_port == 0 || call.peer.is_probe() || call.state & CALL_HANDED != 0 {
        return;
    }
    match op {
        CONNECT => dials(&mut o, call),
        ESTABLISHED => {
            if call.state & CALL_COUNTS != 0 {
                let now = times::now();
                times::note(call.counter, HANDSHAKE, now.wrapping_sub(call.at));
                call.at = now;
                // As in the packet path: its SYN was sent once more.
                count(call, |a| add(&mut a.unanswered, u64::from(o.path().1 != 0)));
            }
        }
        TIMEOUT => waits(&o, call),
        _ => moves(&o, call),
    }
}

/// Counted from here on, if it can be told of.
#[inline(always)]
fn dials(o: &mut Ops, call: &mut Call) {
    call.state &= !(CALL_COUNTS | CALL_RESET | CALL_ASKED | CALL_ANSWERED);
    if o.ask_for_states(call.state & CALL_WATCHED != 0) {
        call.state |= CALL_COUNTS;
        // Its SYN goes now, which may be long after the call (TCP_FASTOPEN_CONNECT).
        let ns = ktime_ns();
        (call.opened, call.at) = ((ns >> LIFE_SHIFT) as u32, (ns >> TIME_SHIFT) as u32);
        count(call, |a| add(&mut a.calls, 1));
    }
}

/// Its SYN is about to be sent once more: too often, and the breaker hears of it now; the caller may wait for minutes.
#[inline(always)]
fn waits(o: &Ops, call: &mut Call) {
    let watched = CALL_COUNTS | CALL_WATCHED;
    if call.state & watched == watched
        && o.state() == TCP_SYN_SENT
        && breaker::is_silence(call.counter.into(), o.timeouts() + 1) != 0
    {
        call.state &= !CALL_WATCHED;
        breaker::ended(call, true);
    }
}

#[inline(always)]
fn moves(o: &Ops, call: &mut Call) {
    let (from, to) = o.states();
    if call.state & CALL_COUNTS == 0 || from != TCP_ESTABLISHED && (from != TCP_SYN_SENT || to != TCP_CLOSE) {
        return;
    }
    let (rtt_us, again) = o.path();
    let (sent, received) = o.bytes();
    let reset = call.state & CALL_RESET != 0;
    call.state &= !CALL_COUNTS;
    if call.state & CALL_WATCHED != 0 {
        let silent = || breaker::is_silence(call.counter.into(), again) != 0;
        let refused = from == TCP_SYN_SENT && (reset || silent());
        let failed = refused || received == 0 && to == TCP_CLOSE && reset;
        if failed || received != 0 {
            breaker::ended(call, failed);
        }
    }
    let life = ((ktime_ns() >> LIFE_SHIFT) as u32).wrapping_sub(call.opened);
    if from == TCP_SYN_SENT {
        count(call, |a| {
            add(&mut a.refused, u64::from(reset));
            // Whoever gives up at once has not waited: he may have dialled two addresses side by side.
            add(&mut a.unanswered, u64::from(!reset && (again != 0 || life >= PATIENCE)));
        });
        return;
    }
    times::note(call.counter, LIFE, life);
    if rtt_us != 0 {
        times::note(call.counter, RTT, ((u64::from(rtt_us) * 1000) >> TIME_SHIFT) as u32);
    }
    count(call, |a| {
        add(&mut a.retransmits, u64::from(again));
        add(&mut a.bytes, sent);
        add(&mut a.reply_bytes, received);
        add(&mut a.resets, u64::from(to == TCP_CLOSE && reset));
        // It was torn down here, with nothing lost on the way.
        add(&mut a.client_resets, u64::from(to == TCP_CLOSE && !reset && again == 0));
    });
}

/// A reset has come for a socket (`tcp_receive_reset`): of what its state becomes next it is the reason.
pub fn reset(ctx: &BtfTracePointContext) {
    if let Some(call) = stored_with(ctx, &maps::PEERS) {
        call.state |= CALL_RESET;
    }
}

#[inline(always)]
fn count(call: &Call, what: impl FnOnce(&mut ArmCount)) {
    if let Some(a) = maps::ARMS.get_ptr_mut(u32::from(call.counter)) {
        // SAFETY: this CPU's own slot of a per-CPU array, whose numbers are changed by one instruction each: programs of packets may
        // interrupt this one.
        what(unsafe { &mut *a });
    }
}
