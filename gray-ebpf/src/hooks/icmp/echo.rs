//! Echo requests (RFC 792, RFC 4443) to a service address that no instance has: nobody else would answer them. The request
//! becomes the answer and goes back where it came from.

use aya_ebpf::bindings::__sk_buff;
use gray_common::{
    Reason, csum,
    packet::{ICMP, ICMPV6, V4_FRAGMENT},
    wire::{Addr, ListenerKey},
};

use super::super::packet::NEXT;
use crate::{ctx::skb::Skb, emit, tables::Kernel};

/// A fresh packet's TTL.
const TTL: u8 = 64;

mod v4 {
    pub const LEN: usize = 14 + 20 + 8;
    pub const TYPE: usize = 34;
    pub const CHECK: usize = 36;
    /// Request and answer, code 0, as the word stands in memory.
    pub const REQUEST: u16 = u16::from_ne_bytes([8, 0]);
    pub const ANSWER: u16 = u16::from_ne_bytes([0, 0]);
}

mod v6 {
    pub const LEN: usize = 14 + 40 + 8;
    pub const TYPE: usize = 54;
    pub const CHECK: usize = 56;
    pub const REQUEST: u16 = u16::from_ne_bytes([128, 0]);
    pub const ANSWER: u16 = u16::from_ne_bytes([129, 0]);
}

/// Answers an IPv4 echo request; any other packet goes on.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_v4_echo")]
#[inline(never)]
pub extern "C" fn v4(raw: *mut __sk_buff) -> i32 {
    let skb = &mut Skb::from_raw(raw);
    let Some(mut h) = skb.head::<{ v4::LEN }>() else { return NEXT };
    let plain = h.get::<u8, 14>() == 0x45 && h.get::<u16, 20>() & V4_FRAGMENT == 0;
    if !plain || h.get::<u16, { v4::TYPE }>() != v4::REQUEST {
        return NEXT;
    }
    let (client, service) = (h.get::<u32, 26>(), h.get::<u32, 30>());
    if !answered(Addr::v4(service), ICMP) {
        return NEXT;
    }
    let before = h.get::<u16, 22>();
    h.set::<u8, 22>(TTL);
    let ttl = csum::diff16(before, h.get::<u16, 22>());
    h.set::<u16, 24>(csum::update(h.get::<u16, 24>(), ttl));
    h.set::<u32, 26>(service);
    h.set::<u32, 30>(client);
    h.set::<u16, { v4::TYPE }>(v4::ANSWER);
    let kind = csum::diff16(v4::REQUEST, v4::ANSWER);
    h.set::<u16, { v4::CHECK }>(csum::update(h.get::<u16, { v4::CHECK }>(), kind));
    back(skb)
}

/// Answers an IPv6 echo request; any other packet goes on.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_v6_echo")]
#[inline(never)]
pub extern "C" fn v6(raw: *mut __sk_buff) -> i32 {
    let skb = &mut Skb::from_raw(raw);
    let Some(mut h) = skb.head::<{ v6::LEN }>() else { return NEXT };
    if h.get::<u8, 14>() >> 4 != 6 || h.get::<u16, { v6::TYPE }>() != v6::REQUEST {
        return NEXT;
    }
    let (client, service) = (h.get::<Addr, 22>(), h.get::<Addr, 38>());
    if !answered(service, ICMPV6) {
        return NEXT;
    }
    let before = h.get::<u16, 20>();
    h.set::<u8, 21>(TTL);
    let hops = csum::diff16(before, h.get::<u16, 20>());
    h.set::<Addr, 22>(service);
    h.set::<Addr, 38>(client);
    h.set::<u16, { v6::TYPE }>(v6::ANSWER);
    let kind = csum::diff16(v6::REQUEST, v6::ANSWER);
    h.set::<u16, { v6::CHECK }>(csum::update(h.get::<u16, { v6::CHECK }>(), kind));
    // Type and checksum cancel each other in the packet's whole sum; the hop limit has nothing to cancel it.
    skb.complete_csum(hops);
    back(skb)
}

/// Whether gray answers for this address.
#[inline(always)]
fn answered(addr: Addr, proto: u8) -> bool {
    let Some(k) = Kernel::now() else { return false };
    k.listener(&ListenerKey { addr, port: 0, proto, _pad: 0 }).service().is_some()
}

#[inline(always)]
fn back(skb: &mut Skb) -> i32 {
    let Some(mut h) = skb.head::<14>() else { return NEXT };
    let (to, from) = (h.get::<[u8; 6], 0>(), h.get::<[u8; 6], 6>());
    h.set::<[u8; 6], 0>(from);
    h.set::<[u8; 6], 6>(to);
    emit::count(Reason::Echo);
    let ifindex = skb.ifindex();
    skb.redirect(ifindex)
}
