//! A packet that does not fit the way to its instance (or, a reply, to its client) and must not be fragmented: its sender
//! is told how large it may be (RFC 1191, RFC 8201), with the packet as it was sent. The kernel's stack would quote the
//! rewritten packet, which its sender does not know.
//!
//! The packet itself becomes the answer: cut to its headers, pushed behind new ones, and sent back.

use aya_ebpf::bindings::__sk_buff;
use gray_common::{
    Reason, csum,
    packet::{ICMP, ICMPV6, TCP},
    wire::Addr,
};

use super::super::packet::NEXT;
use crate::{ctx::skb::Skb, emit};

/// Bytes of the transport header that are quoted. The kernel does not cut a packet before a checksum that it still has
/// to fill in.
const L4: usize = 20;

mod v4 {
    pub const QUOTE: usize = 14 + 20 + super::L4;
    pub const ROOM: usize = 20 + 8;
    pub const PROTO: usize = 23;
    pub const L4_AT: usize = 34;
}

mod v6 {
    pub const QUOTE: usize = 14 + 40 + super::L4;
    pub const ROOM: usize = 40 + 8;
    pub const PROTO: usize = 20;
    pub const L4_AT: usize = 54;
}

/// Answers an IPv4 packet that is larger than `mtu`. The packet must be TCP or UDP and at least as long as what is quoted.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_v4_too_big")]
#[inline(never)]
pub extern "C" fn v4(raw: *mut __sk_buff, mtu: u32) -> i32 {
    let skb = &mut Skb::from_raw(raw);
    let Some(h) = skb.head::<{ v4::QUOTE }>() else { return NEXT };
    let (smac, dmac) = (h.get::<[u8; 6], 6>(), h.get::<[u8; 6], 0>());
    let (saddr, daddr) = (h.get::<u32, 26>(), h.get::<u32, 30>());
    let ip = sum5(h.get::<[u32; 5], 14>());
    let tcp = h.get::<u8, { v4::PROTO }>() == TCP;
    let l4 = if tcp {
        skb.settled_sum::<{ v4::QUOTE }, { v4::L4_AT }, { v4::L4_AT + 16 }>()
    } else {
        skb.settled_sum::<{ v4::QUOTE }, { v4::L4_AT }, { v4::L4_AT + 6 }>()
    };
    let Some(l4) = l4 else { return NEXT };
    let quoted = csum::add(ip, l4);
    if !skb.cut(v4::QUOTE) || !skb.push(v4::ROOM) {
        return NEXT;
    }
    let Some(mut h) = skb.head::<{ 14 + v4::ROOM }>() else { return NEXT };
    h.set::<[u8; 6], 0>(smac);
    h.set::<[u8; 6], 6>(dmac);
    let mut header = IPV4;
    header[2..4].copy_from_slice(&((v4::ROOM + v4::QUOTE - 14) as u16).to_be_bytes());
    header[12..16].copy_from_slice(&daddr.to_ne_bytes());
    header[16..20].copy_from_slice(&saddr.to_ne_bytes());
    h.set::<[u8; 20], 14>(header);
    let check = !sum5(h.get::<[u32; 5], 14>());
    h.set::<u16, 24>(check);
    h.set::<[u8; 4], 34>([3, 4, 0, 0]);
    h.set::<u32, 38>((mtu & 0xffff).to_be());
    let icmp = csum::add(sum(h.get::<u32, 34>()), sum(h.get::<u32, 38>()));
    h.set::<u16, 36>(!csum::add(icmp, quoted));
    // What was added sums up to nothing, and with it so does what is quoted.
    skb.complete_csum(!quoted);
    emit::count(Reason::TooBig);
    let back = skb.ifindex();
    skb.redirect(back)
}

/// Version and length, control precedence, total length, identification, flags and offset, TTL, protocol, checksum,
/// addresses.
const IPV4: [u8; 20] = [0x45, 0xc0, 0, 0, 0, 0, 0x40, 0, 64, ICMP, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Answers an IPv6 packet that is larger than `mtu`. The packet must be TCP or UDP and at least as long as what is quoted.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_v6_too_big")]
#[inline(never)]
pub extern "C" fn v6(raw: *mut __sk_buff, mtu: u32) -> i32 {
    let skb = &mut Skb::from_raw(raw);
    let Some(h) = skb.head::<{ v6::QUOTE }>() else { return NEXT };
    let (smac, dmac) = (h.get::<[u8; 6], 6>(), h.get::<[u8; 6], 0>());
    let (saddr, daddr) = (h.get::<Addr, 22>(), h.get::<Addr, 38>());
    let ip = csum::add(sum5(h.get::<[u32; 5], 14>()), sum5(h.get::<[u32; 5], 34>()));
    let tcp = h.get::<u8, { v6::PROTO }>() == TCP;
    let l4 = if tcp {
        skb.settled_sum::<{ v6::QUOTE }, { v6::L4_AT }, { v6::L4_AT + 16 }>()
    } else {
        skb.settled_sum::<{ v6::QUOTE }, { v6::L4_AT }, { v6::L4_AT + 6 }>()
    };
    let Some(l4) = l4 else { return NEXT };
    let quoted = csum::add(ip, l4);
    if !skb.cut(v6::QUOTE) || !skb.push(v6::ROOM) {
        return NEXT;
    }
    let Some(mut h) = skb.head::<{ 14 + v6::ROOM }>() else { return NEXT };
    const PAYLOAD: u16 = (8 + v6::QUOTE - 14) as u16;
    h.set::<[u8; 6], 0>(smac);
    h.set::<[u8; 6], 6>(dmac);
    h.set::<u32, 14>(0x6000_0000u32.to_be());
    h.set::<u16, 18>(PAYLOAD.to_be());
    h.set::<[u8; 2], 20>([ICMPV6, 64]);
    h.set::<Addr, 22>(daddr);
    h.set::<Addr, 38>(saddr);
    h.set::<[u8; 4], 54>([2, 0, 0, 0]);
    h.set::<u32, 58>(mtu.to_be());
    let icmp = csum::add(sum(h.get::<u32, 54>()), sum(h.get::<u32, 58>()));
    let addrs = csum::add(csum::diff128([!0; 2], saddr.words()), csum::diff128([!0; 2], daddr.words()));
    let pseudo = csum::add(addrs, csum::add(PAYLOAD.to_be(), u16::from(ICMPV6).to_be()));
    h.set::<u16, 56>(!csum::add(csum::add(icmp, pseudo), quoted));
    // ICMPv6's checksum cancels the pseudo-header: of the new header it leaves the first word, and next header and hop
    // limit where they stand against where the pseudo-header has the former.
    let rest = csum::add(0x6000u16.to_be(), u16::from_ne_bytes([ICMPV6, 64]));
    let rest = csum::add(rest, !u16::from(ICMPV6).to_be());
    skb.complete_csum(csum::add(rest, !quoted));
    emit::count(Reason::TooBig);
    let back = skb.ifindex();
    skb.redirect(back)
}

#[inline(always)]
fn sum(word: u32) -> u16 {
    csum::fold(csum::halves(word))
}

/// The sum of five words.
#[inline(always)]
pub fn sum5(w: [u32; 5]) -> u16 {
    csum::add(csum::add(csum::add(sum(w[0]), sum(w[1])), csum::add(sum(w[2]), sum(w[3]))), sum(w[4]))
}
