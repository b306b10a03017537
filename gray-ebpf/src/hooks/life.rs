//! A flow's life: from its packets, by the clock; its next hop, and what it is counted under.

use core::hint::cold_path;

use gray_common::{
    limits,
    packet::{TCP, TCP_FIN, TCP_PSH, TCP_RST, UDP, opens},
    wire::{
        ArmCount, CONTROL_ASKS, FLOW_CLOSING, FLOW_DSR, FLOW_ESTABLISHED, FLOW_FORWARD, FLOW_SPLICE,
        FLOW_TIMED, FLOW_TRIES, FLOW_UNANSWERED, FLOW_UNRESOLVED, FLOW_WATCHED, FlowState,
    },
};

use super::{
    breaker,
    times::{self, Moment},
};
use crate::{
    ctx::{jiffies, skb::Hop},
    maps,
    tables::Kernel,
};

/// What `record` is told of a decided flow.
pub mod how {
    pub const STEERED: u32 = 0;
    /// It stays with stable, unchanged.
    pub const STAYS: u32 = 1;
    /// Steered, and no refusal is counted.
    pub const QUIETLY: u32 = 2;
    /// Steered, and made again for a connection that goes on: in no flood, and not counted.
    pub const AGAIN: u32 = 3;
}

/// How a flow is recorded.
#[derive(Clone, Copy)]
pub struct How {
    /// Refusals are not counted: another program will try again.
    pub quiet: bool,
    /// It is one of a flood.
    pub apart: bool,
    /// Others may be apart.
    pub late: bool,
}

/// What a known flow's state says of this packet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// It belongs to the flow.
    Same,
    /// The entry is of an earlier connection: decide anew (forward) or leave alone (reply).
    Over,
}

/// Follows the flow's life: stamps it, notes its establishment, its moments and its end. `says`: it carries bytes of a TCP stream;
/// `first` is called with the first that do, of each side.
#[inline(always)]
pub fn follow(
    k: &Kernel,
    f: &mut FlowState,
    proto: u8,
    (tcp_flags, says): (u8, bool),
    first: impl FnOnce(Moment),
) -> Known {
    let now = jiffies() as u32;
    // Signed: another CPU may have stamped the entry since `now` was read.
    let idle = now.wrapping_sub(f.seen) as i32;
    if proto == UDP {
        // A stamp of the future is one of long ago: the clock has come round.
        let future = idle < (k.control.hz as i32).wrapping_neg();
        if f.flags & FLOW_FORWARD != 0
            && (future || idle > limits::UDP_IDLE_S.wrapping_mul(k.control.hz) as i32)
        {
            return Known::Over;
        }
    } else if proto == TCP {
        // An instance that has closed its end resets what a client says to it much later: that the client must hear.
        let reset = f.flags & FLOW_FORWARD == 0 && tcp_flags & TCP_RST != 0;
        let closed = f.flags & FLOW_CLOSING != 0 && !reset;
        if closed && idle > limits::TCP_CLOSING_S.wrapping_mul(k.control.hz) as i32 {
            return Known::Over;
        }
        if f.flags & FLOW_FORWARD != 0 && opens(tcp_flags) {
            // A second SYN of a connection that has moved on is a new connection from the same port; before that it
            // is a retransmission, which must reach the same instance.
            cold_path();
            let late = idle > limits::TCP_OPENING_S.wrapping_mul(k.control.hz) as i32;
            if f.flags & FLOW_SPLICE != 0 {
                // One of ours, to an instance that remembered an older connection.
                f.flags &= !FLOW_CLOSING;
            } else if late || f.flags & (FLOW_ESTABLISHED | FLOW_CLOSING) != 0 {
                return Known::Over;
            } else if f.flags & (FLOW_UNANSWERED | FLOW_WATCHED) != FLOW_UNANSWERED
                && idle.wrapping_mul(2) > k.control.hz as i32
            {
                // Once, however often its SYN comes again: after a second (RFC 6298), then two, then four, or each second
                // (Linux 6.5). A breaker counts them.
                if f.flags & FLOW_UNANSWERED == 0 {
                    f.flags |= FLOW_UNANSWERED;
                    fault(f, |a| a.unanswered += 1);
                }
                if f.flags & FLOW_WATCHED != 0 {
                    f.flags = breaker::again(u32::from(f.counter), u32::from(f.flags)) as u16;
                }
            }
        }
        if tcp_flags & (TCP_FIN | TCP_RST) != 0 && f.flags & FLOW_CLOSING == 0 {
            cold_path();
            f.flags |= FLOW_CLOSING;
            // Once: an instance's own end follows its client's, or is no news to it.
            if f.flags & FLOW_FORWARD != 0 || tcp_flags & TCP_RST != 0 {
                times::ended(f);
            }
            if tcp_flags & TCP_RST != 0 {
                fault(f, |a| match f.flags & (FLOW_FORWARD | FLOW_ESTABLISHED) {
                    0 => a.refused += 1,
                    FLOW_ESTABLISHED => a.resets += 1,
                    _ => a.client_resets += 1,
                });
                // Refused, or reset before it said anything.
                if f.flags & (FLOW_FORWARD | FLOW_WATCHED) == FLOW_WATCHED {
                    breaker::failed(f);
                } else if f.flags & TRIES == TRIES {
                    breaker::left(f);
                }
            }
        }
        let opening = f.flags & FLOW_FORWARD != 0 && opens(tcp_flags);
        // One comparison for all three.
        if !opening && f.flags & (FLOW_ESTABLISHED | FLOW_WATCHED | FLOW_TIMED) != FLOW_ESTABLISHED {
            cold_path();
            // Before that is noted: the first of its side tells more.
            if f.flags & FLOW_TIMED != 0 {
                times::moment(f, tcp_flags, says, first);
            }
            f.flags |= FLOW_ESTABLISHED;
            if f.flags & FLOW_WATCHED != 0 && tcp_flags & (TCP_PSH | TCP_FIN) != 0 {
                hear(f);
            }
        }
    }
    if f.seen != now {
        f.seen = now;
    }
    Known::Same
}

/// A client's entry, of a connection that tries and of which nothing was heard.
const TRIES: u16 = FLOW_FORWARD | FLOW_WATCHED | FLOW_TRIES;

/// Somebody has said something on a connection that a breaker watches. Where answers pass elsewhere, that its client does says that
/// the instance has taken it.
#[inline(always)]
fn hear(f: &mut FlowState) {
    if f.flags & (FLOW_FORWARD | FLOW_DSR) == FLOW_FORWARD {
        f.flags &= !FLOW_WATCHED;
    } else {
        breaker::answered(f);
    }
}

/// Counts what befell a connection to its arm.
#[inline(always)]
fn fault(f: &FlowState, count: impl FnOnce(&mut ArmCount)) {
    if let Some(a) = maps::ARMS.get_ptr_mut(u32::from(f.counter)) {
        // SAFETY: as in `account`.
        count(unsafe { &mut *a });
    }
}

/// Whether an entry is of a connection that is no more: its end was seen, or it has been silent for so long that its next
/// packet would be decided anew.
#[inline(always)]
pub fn is_over(k: &Kernel, f: &FlowState, proto: u8) -> bool {
    let idle = (jiffies() as u32).wrapping_sub(f.seen) as i32;
    let longer_than = |seconds: u32| idle > seconds.wrapping_mul(k.control.hz) as i32;
    match proto {
        UDP => longer_than(limits::UDP_IDLE_S),
        _ => {
            f.flags & FLOW_CLOSING != 0
                || f.flags & FLOW_ESTABLISHED == 0 && longer_than(limits::TCP_OPENING_S)
        }
    }
}

/// Whether an entry has been silent for as long as a connection may be (RFC 5382, 5): its ends are gone, and nobody said so.
#[inline(always)]
fn is_silent(k: &Kernel, f: &FlowState) -> bool {
    let idle = (jiffies() as u32).wrapping_sub(f.seen) as i32;
    i64::from(idle) > i64::from(limits::TCP_IDLE_S) * i64::from(k.control.hz)
}

/// Whether a closing connection may still have packets on their way: its last acknowledgement comes behind the end it acknowledges.
#[inline(always)]
pub fn is_ending(k: &Kernel, f: &FlowState) -> bool {
    let idle = (jiffies() as u32).wrapping_sub(f.seen) as i32;
    idle <= limits::TCP_ENDING_S.wrapping_mul(k.control.hz) as i32
}

/// Whether the connection of an answers' entry lives, which has not seen its own end. `forward`: its client's entry, if there is one.
#[inline(always)]
pub fn lives(k: &Kernel, reply: &FlowState, forward: Option<&FlowState>, proto: u8) -> bool {
    let alive = |f: &FlowState| !is_over(k, f, proto) && !is_silent(k, f);
    let Some(f) = forward else { return alive(reply) };
    // A client that resets, or an instance that says nothing any more: its answers' entry never hears of the end.
    let idle = (jiffies() as u32).wrapping_sub(f.seen) as i32;
    let ended = f.flags & FLOW_CLOSING != 0 && idle > limits::TCP_CLOSING_S.wrapping_mul(k.control.hz) as i32;
    // Its instance has answered a client that says nothing more: a SYN that somebody made up takes the tuple for no two hours.
    let half = proto != UDP && f.flags & (FLOW_ESTABLISHED | FLOW_CLOSING) == 0;
    let answered = (jiffies() as u32).wrapping_sub(reply.seen) as i32;
    let waits = answered <= limits::TCP_OPENING_S.wrapping_mul(k.control.hz) as i32;
    !ended && (alive(reply) && (!half || waits) || alive(f))
}

/// Whether the next hop must be looked up (again).
#[inline(always)]
pub fn hop_is_old(k: &Kernel, f: &FlowState) -> bool {
    let age = hop_clock().wrapping_sub(f.hop_at);
    f.flags & FLOW_UNRESOLVED != 0 || u32::from(age) > limits::NEXT_HOP_S.wrapping_mul(k.control.hz) >> 8
}

#[inline(always)]
pub fn hop_clock() -> u16 {
    (jiffies() >> 8) as u16
}

/// Writes a looked-up next hop into the flow. One whose neighbour was not asked for long is left unresolved, so that this one
/// packet goes by the neighbour's own entry: the kernel answers lookups from an entry that it has not verified for hours (STALE), and only
/// what goes by it makes it ask whether the address is still there (RFC 4861, 7.3.3; the same for ARP).
#[inline(always)]
pub fn set_hop(k: &Kernel, f: &mut FlowState, hop: Hop) {
    let ask = k.control.flags & CONTROL_ASKS != 0 && is_due(k, &hop, true);
    set_hop_of(f, hop, ask);
}

/// The same in XDP, which leaves such a packet to tc.
#[inline(always)]
pub fn set_hop_quietly(k: &Kernel, f: &mut FlowState, hop: Hop) {
    let ask = k.control.flags & CONTROL_ASKS != 0 && is_due(k, &hop, false);
    set_hop_of(f, hop, ask);
}

/// Whether this CPU has not used the neighbour's own entry for long; `now`: it does. Addresses share places; of two that do, one that is
/// looked up all the time keeps the other from being asked, so there are many.
#[inline(always)]
fn is_due(k: &Kernel, hop: &Hop, now: bool) -> bool {
    let Hop::Direct { ifindex, dmac, .. } = hop else { return false };
    let end = u32::from(u16::from_be_bytes([dmac[4], dmac[5]]));
    let place = (*ifindex << 7 ^ end ^ u32::from(dmac[3]) << 5) & (maps::ASKED_PLACES - 1);
    let Some(last) = maps::ASKED.get_ptr_mut(place) else { return false };
    let clock = hop_clock() | 1;
    // SAFETY: this CPU's own slot.
    let last = unsafe { &mut *last };
    let first = *last == 0;
    let due =
        !first && u32::from(clock.wrapping_sub(*last)) > limits::NEXT_HOP_S.wrapping_mul(k.control.hz) >> 8;
    if first || due && now {
        *last = clock;
    }
    due
}

#[inline(always)]
fn set_hop_of(f: &mut FlowState, hop: Hop, ask: bool) {
    f.hop_at = hop_clock();
    match hop {
        Hop::Direct { ifindex, mtu, dmac, smac } => {
            f.ifindex = ifindex;
            f.mtu = mtu;
            f.dmac = dmac;
            f.smac = smac;
            f.flags &= !FLOW_UNRESOLVED;
            if ask {
                cold_path();
                f.flags |= FLOW_UNRESOLVED;
            }
        }
        Hop::Resolve { ifindex } => {
            f.ifindex = ifindex;
            f.mtu = 0;
            f.dmac = [0; 6];
            f.flags |= FLOW_UNRESOLVED;
        }
        Hop::Stack => {
            f.ifindex = 0;
            f.flags &= !FLOW_UNRESOLVED;
        }
    }
}

/// Counts a steered packet towards its arm.
#[inline(always)]
pub fn account(f: &FlowState, len: u32) {
    let Some(a) = maps::ARMS.get_ptr_mut(u32::from(f.counter)) else { return };
    // SAFETY: this CPU's own slot; tc programs of one CPU do not interrupt each other.
    let a = unsafe { &mut *a };
    if f.flags & FLOW_FORWARD != 0 {
        a.packets += 1;
        a.bytes += u64::from(len);
    } else {
        a.reply_packets += 1;
        a.reply_bytes += u64::from(len);
    }
}
