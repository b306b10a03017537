//! A flow's life: from its packets, by the clock; its next hop, and what it is counted under.

use core::hint::cold_path;

use gray_common::{
    limits,
    packet::{TCP, TCP_FIN, TCP_RST, UDP, opens},
    wire::{ArmCount, FLOW_CLOSING, FLOW_ESTABLISHED, FLOW_FORWARD, FLOW_SPLICE, FLOW_UNRESOLVED, FlowState},
};

use crate::{
    ctx::{jiffies, skb::Hop},
    maps,
    tables::Kernel,
};

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
#[derive(PartialEq, Eq)]
pub enum Known {
    /// It belongs to the flow.
    Same,
    /// The entry is of an earlier connection: decide anew (forward) or leave alone (reply).
    Over,
}

/// Follows the flow's life: stamps it, notes its establishment and end. `transport`: protocol and TCP flags.
#[inline(always)]
pub fn follow(k: &Kernel, f: &mut FlowState, proto: u8, tcp_flags: u8) -> Known {
    let now = jiffies() as u32;
    // Signed: another CPU may have stamped the entry since `now` was read.
    let idle = now.wrapping_sub(f.seen) as i32;
    if proto == UDP {
        if f.flags & FLOW_FORWARD != 0 && idle > limits::UDP_IDLE_S.wrapping_mul(k.control.hz) as i32 {
            return Known::Over;
        }
    } else if proto == TCP {
        if f.flags & FLOW_CLOSING != 0 && idle > limits::TCP_CLOSING_S.wrapping_mul(k.control.hz) as i32 {
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
            } else if is_second(idle, k.control.hz) {
                fault(f, |a| a.unanswered += 1);
            }
        }
        if tcp_flags & (TCP_FIN | TCP_RST) != 0 && f.flags & FLOW_CLOSING == 0 {
            cold_path();
            f.flags |= FLOW_CLOSING;
            if tcp_flags & TCP_RST != 0 {
                fault(f, |a| match f.flags & (FLOW_FORWARD | FLOW_ESTABLISHED) {
                    0 => a.refused += 1,
                    FLOW_ESTABLISHED => a.resets += 1,
                    _ => a.client_resets += 1,
                });
            }
        }
        let opening = f.flags & FLOW_FORWARD != 0 && opens(tcp_flags);
        if !opening && f.flags & FLOW_ESTABLISHED == 0 {
            f.flags |= FLOW_ESTABLISHED;
        }
    }
    if f.seen != now {
        f.seen = now;
    }
    Known::Same
}

/// Whether a SYN so long after the last one is the second: after a second (RFC 6298), then two, then four.
#[inline(always)]
fn is_second(idle: i32, hz: u32) -> bool {
    let twice = (idle.max(0) as u32).wrapping_mul(2);
    twice > hz && twice < hz.wrapping_mul(3)
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

/// Writes a looked-up next hop into the flow.
#[inline(always)]
pub fn set_hop(f: &mut FlowState, hop: Hop) {
    f.hop_at = hop_clock();
    match hop {
        Hop::Direct { ifindex, mtu, dmac, smac } => {
            f.ifindex = ifindex;
            f.mtu = mtu;
            f.dmac = dmac;
            f.smac = smac;
            f.flags &= !FLOW_UNRESOLVED;
        }
        Hop::Resolve { ifindex } => {
            f.ifindex = ifindex;
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
