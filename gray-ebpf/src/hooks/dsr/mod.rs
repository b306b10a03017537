//! Direct server return (`nat: dsr`): a packet reaches the instance as the client sent it, in another packet from this node,
//! and the instance answers the client itself. What the outer header says: RFC 2003, RFC 2473, RFC 6040; GUE of Linux.
//!
//! `v4` and `v6` put the outer header in front, `open` takes it off on the instance's node. A packet of which anything is in
//! doubt goes on as it came.

pub mod open;
pub mod told;
pub mod v4;
pub mod v6;

use gray_common::{
    Reason, csum,
    packet::{ETH_LEN, GUE_LEN, GUE_PORT},
    wire::{
        ARM_STABLE, FLOW_DSR, FLOW_ESTABLISHED, FLOW_GUE, FLOW_PASS, FLOW_UNRESOLVED, FlowKey4, FlowKey6,
        FlowState, ListenerKey,
    },
};

use super::breaker;
use super::packet::{DROP, Exit, NEXT, TOO_BIG, WRAP, Way, is_known};
use crate::{
    ctx::skb::{Head, Skb},
    emit, maps,
    tables::Kernel,
};

/// A fresh packet's TTL.
const TTL: u8 = 64;
/// Bytes of UDP and GUE headers.
const UDP_GUE: usize = 8 + GUE_LEN;

/// No sum: what was to be written is not there. Should never be.
const BROKEN: u32 = u32::MAX;

/// What is known of a packet that is to go in another one.
///
/// No padding: it is copied whole, and verifiers before Linux 6.3 refuse to read what was never written.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Inner {
    /// Bytes of IP and transport header.
    pub headers: u32,
    /// Where the transport header begins; 0: there is none that the sender could be told of.
    pub l4: u32,
    /// TTL or hop limit.
    pub ttl: u16,
    /// Type of service or traffic class.
    pub tos: u16,
}

/// Leaves a packet of a known flow to [`v4::send`], which has a stack frame of its own.
#[inline(always)]
pub fn later4(key: &FlowKey4, inner: Inner) -> i32 {
    let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else { return NEXT };
    // SAFETY: this CPU's own slot; tc programs of one CPU do not interrupt each other.
    unsafe {
        (*scratch).key4 = *key;
        (*scratch).inner = inner;
    }
    WRAP
}

/// The same for [`v6::send`].
#[inline(always)]
pub fn later6(key: &FlowKey6, inner: Inner) -> i32 {
    let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else { return NEXT };
    // SAFETY: as in `later4`.
    unsafe {
        (*scratch).key6 = *key;
        (*scratch).inner = inner;
    }
    WRAP
}

/// The words of UDP and GUE headers as they stand in memory: source and destination port; length (of `len` bytes, 0 where it
/// has no room for it) and no checksum, which the inner packet has; version 0 without options, and what follows.
#[inline(always)]
fn gue(sport: u16, len: u32, proto: u8) -> [u32; 3] {
    let ports = u32::from(sport) | u32::from(GUE_PORT) << 16;
    [ports, u32::from(short(len)), u32::from_ne_bytes([0, proto, 0, 0])]
}

/// A length as it stands in a header; 0 of a super-packet that is longer than it can say (BIG TCP).
#[inline(always)]
fn short(len: u32) -> u16 {
    if len > 0xffff { 0 } else { (len as u16).to_be() }
}

/// Bytes of the inner packet. `total`: by its own account, behind which a short frame is padded; 0: of a super-packet.
#[inline(always)]
fn inner_len(there: u32, total: u32) -> u32 {
    if total == 0 || total > there { there } else { total }
}

/// Whether a flow's packet may have reached its instance: a hop was known to the last one, or once.
#[inline(always)]
fn was_sent(f: &FlowState) -> bool {
    f.ifindex != 0 || f.mtu != 0
}

/// A packet that has no way to its instance. On stable's own address it would reach stable, and that shall have a whole connection or
/// nothing of it: a new one lives there for good, one that the instance has is lost here like at a router without a route. On any
/// other address the packet goes on as it came, for the instance may be this node.
#[inline(always)]
fn without_route(k: &Kernel, f: &mut FlowState, to: &ListenerKey, sent: bool) -> i32 {
    emit::count(Reason::DsrNoRoute);
    if !k.listener(to).is_self() {
        return NEXT;
    }
    if sent || f.flags & FLOW_ESTABLISHED != 0 {
        return DROP;
    }
    f.flags = f.flags & !(FLOW_DSR | FLOW_GUE | breaker::MARKS) | FLOW_PASS;
    f.counter = f.counter & !1 | ARM_STABLE as u16;
    NEXT
}

/// How an encapsulated packet leaves. Not by the stack: to that, a packet from this node that comes in is a forgery.
#[inline(always)]
fn way(f: &FlowState) -> Exit {
    if f.flags & FLOW_UNRESOLVED == 0 {
        return Exit { way: Way::Redirect, to: f.ifindex };
    }
    if !is_known(f) {
        emit::count(Reason::NoNeighbour);
    }
    Exit { way: Way::Resolve, to: f.ifindex }
}

/// The sum of three words.
#[inline(always)]
fn sum3(w: [u32; 3]) -> u16 {
    csum::fold(csum::halves(w[0]) + csum::halves(w[1]) + csum::halves(w[2]))
}

/// Whether `room` more bytes fit into a packet of the next hop: 0, or the verdict. The sender is told of a packet that may be
/// fragmented, too: an outer packet in pieces would be lost. `plain`: where the transport headers of packets begin, from and to,
/// that can be quoted.
#[inline(always)]
fn room_for(skb: &Skb, f: &FlowState, inner: &Inner, room: u32, plain: (u32, u32)) -> i32 {
    if f.mtu == 0 {
        return 0;
    }
    let gso = skb.gso_size();
    let packet = if gso == 0 { skb.len() - ETH_LEN as u32 } else { gso + inner.headers };
    let most = u32::from(f.mtu).saturating_sub(room);
    if packet <= most {
        return 0;
    }
    if inner.l4 >= plain.0 && inner.l4 <= plain.1 {
        return TOO_BIG + most as i32;
    }
    emit::count(Reason::DsrOversize);
    NEXT
}

/// Writes them behind an outer header.
#[inline(always)]
fn put_gue<const N: usize, const AT: usize, const AT4: usize, const AT8: usize>(
    h: &mut Head<'_, N>,
    words: [u32; 3],
) {
    h.set::<u32, AT>(words[0]);
    h.set::<u32, AT4>(words[1]);
    h.set::<u32, AT8>(words[2]);
}
