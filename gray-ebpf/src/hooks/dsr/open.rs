//! The instance's node: takes the outer header off a packet to this node from a node that is trusted, and leaves what was in it
//! to the stack, if that keeps it. Nobody else's packets are opened: who may put packets into others may name any client.

use aya_ebpf::bindings::__sk_buff;
use gray_common::{
    Reason, csum,
    packet::{GUE_PORT, ICMP, ICMPV6, IPIP, IPV6, TCP, UDP, V4_FRAGMENT},
    wire::Addr,
};

use super::{
    super::{packet::NEXT, v6::is_passed_over},
    UDP_GUE,
};
use crate::{ctx::skb::Skb, emit, maps};

/// Congestion experienced (RFC 3168).
const CE: u8 = 3;

/// Opens an IPv4 packet with an IPv4 packet in it; any other goes on.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_v4_open")]
#[inline(never)]
pub extern "C" fn v4(raw: *mut __sk_buff) -> i32 {
    const OUTER: usize = 14 + 20;
    if !anybody() {
        return NEXT;
    }
    let skb = &mut Skb::from_raw(raw);
    let Some(h) = skb.head::<OUTER>() else { return NEXT };
    let (from, to) = (h.get::<u32, 26>(), h.get::<u32, 30>());
    let (proto, tos, frag) = (h.get::<u8, 23>(), h.get::<u8, 15>(), h.get::<u16, 20>());
    if h.get::<u8, 14>() != 0x45 {
        return NEXT;
    }
    let at = match proto {
        IPIP => OUTER,
        UDP if frag & V4_FRAGMENT == 0 && is_gue::<OUTER>(skb, IPIP) => OUTER + UDP_GUE,
        _ => return NEXT,
    };
    if !skb.stays4(from, to) {
        return NEXT;
    }
    if !trusted(&Addr::v4(from)) {
        emit::count(Reason::DsrUntrusted);
        return NEXT;
    }
    let Some(i) = skb.window::<20>(at as u32) else { return other() };
    let (first, inner_tos, proto) = (i.get::<u8, 0>(), i.get::<u8, 1>(), i.get::<u8, 9>());
    let (client, service) = (i.get::<u32, 12>(), i.get::<u32, 16>());
    let unicast = !matches!(i.get::<u8, 16>(), 0 | 127 | 224..);
    let known = proto == TCP || proto == UDP || proto == ICMP;
    if frag & V4_FRAGMENT != 0 || first >> 4 != 4 || !known || !unicast || !skb.stays4(client, service) {
        return other();
    }
    if !skb.unwrap((at - 14) as u32) {
        emit::count(Reason::DsrFailed);
        return NEXT;
    }
    if let Some(mut h) = skb.head::<OUTER>()
        && experienced(tos, inner_tos)
    {
        let before = h.get::<u16, 14>();
        h.set::<u8, 15>(inner_tos | CE);
        let diff = csum::diff16(before, h.get::<u16, 14>());
        h.set::<u16, 24>(csum::update(h.get::<u16, 24>(), diff));
    }
    emit::count(Reason::Decapsulated);
    NEXT
}

/// Opens an IPv6 packet with an IPv6 packet in it; any other goes on.
///
/// Exported: see [`v4`].
#[unsafe(export_name = "gray_v6_open")]
#[inline(never)]
pub extern "C" fn v6(raw: *mut __sk_buff) -> i32 {
    const OUTER: usize = 14 + 40;
    if !anybody() {
        return NEXT;
    }
    let skb = &mut Skb::from_raw(raw);
    let Some(h) = skb.head::<OUTER>() else { return NEXT };
    let (from, to) = (h.get::<Addr, 22>(), h.get::<Addr, 38>());
    let (proto, class) = (h.get::<u8, 20>(), h.get::<u8, 14>() << 4 | h.get::<u8, 15>() >> 4);
    let at = match proto {
        IPV6 => OUTER,
        UDP if is_gue::<OUTER>(skb, IPV6) => OUTER + UDP_GUE,
        _ => return NEXT,
    };
    if !skb.stays6(&from, &to) {
        return NEXT;
    }
    if !trusted(&from) {
        emit::count(Reason::DsrUntrusted);
        return NEXT;
    }
    let Some(i) = skb.window::<40>(at as u32) else { return other() };
    let (first, proto) = (i.get::<u8, 0>(), i.get::<u8, 6>());
    let inner_class = first << 4 | i.get::<u8, 1>() >> 4;
    let (client, service) = (i.get::<Addr, 8>(), i.get::<Addr, 24>());
    let known = proto == TCP || proto == UDP || proto == ICMPV6 || is_passed_over(proto);
    if first >> 4 != 6 || !known || i.get::<u8, 24>() == 0xff || !skb.stays6(&client, &service) {
        return other();
    }
    if !skb.unwrap((at - 14) as u32) {
        emit::count(Reason::DsrFailed);
        return NEXT;
    }
    if experienced(class, inner_class) {
        let Some(mut h) = skb.head::<OUTER>() else { return NEXT };
        let before = h.get::<u16, 14>();
        h.set::<u8, 15>(h.get::<u8, 15>() | CE << 4);
        let diff = csum::diff16(before, h.get::<u16, 14>());
        skb.complete_csum(diff);
    }
    emit::count(Reason::Decapsulated);
    NEXT
}

#[inline(always)]
fn other() -> i32 {
    emit::count(Reason::DsrInner);
    NEXT
}

/// GUE of version 0 without options, with a packet of this protocol in it.
#[inline(always)]
fn is_gue<const AT: usize>(skb: &mut Skb, proto: u8) -> bool {
    let Some(u) = skb.window::<UDP_GUE>(AT as u32) else { return false };
    u.get::<u16, 2>() == GUE_PORT && u.get::<[u8; 4], 8>() == [0, proto, 0, 0]
}

/// Whether the outer packet met congestion that the inner one's receiver understands (RFC 6040).
#[inline(always)]
fn experienced(outer: u8, inner: u8) -> bool {
    outer & CE == CE && inner & CE != 0
}

/// Whether anybody is trusted.
#[inline(always)]
fn anybody() -> bool {
    maps::CONTROL.get(0).is_some_and(|c| c.dsr_from[0].mask != Addr([0; 16]))
}

#[inline(always)]
fn trusted(from: &Addr) -> bool {
    let Some(control) = maps::CONTROL.get(0) else { return false };
    let mut i = 0;
    while i < control.dsr_from.len() {
        if control.dsr_from[i].has(from) {
            return true;
        }
        i += 1;
    }
    false
}
