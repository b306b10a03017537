//! "Fragmentation needed" and "packet too big" about an outer packet, from a router between this node and the instance. The client
//! cannot be told at once: what is quoted may be too short to quote again. The flow learns the MTU, and the client's next packet
//! that is larger is answered. The error goes on to the stack, which it is addressed to.

use aya_ebpf::bindings::__sk_buff;
use gray_common::{
    Reason,
    packet::{GUE_PORT, IPIP, IPV6, TCP, UDP},
    wire::{Addr, FLOW_DSR, FlowState},
};

use super::UDP_GUE;
use crate::{
    ctx::{
        skb::Skb,
        words::{key4, key6},
    },
    emit, maps,
};

/// The least MTU that is believed: what each family must carry (RFC 791, RFC 8200).
const LEAST4: u32 = 68;
const LEAST6: u32 = 1280;

/// An ICMP error that may quote an encapsulated packet. 1: it does.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_v4_told")]
#[inline(never)]
pub extern "C" fn v4(raw: *mut __sk_buff) -> u32 {
    /// The quoted outer header, and what is behind it.
    const QUOTE: usize = 14 + 20 + 8;
    const BEHIND: usize = QUOTE + 20;
    let skb = &mut Skb::from_raw(raw);
    let Some(h) = skb.head::<BEHIND>() else { return 0 };
    if h.get::<[u8; 2], 34>() != [3, 4] {
        return 0;
    }
    let mtu = u32::from(u16::from_be(h.get::<u16, 40>()));
    let (to, from, instance) =
        (h.get::<u32, 30>(), h.get::<u32, { QUOTE + 12 }>(), h.get::<u32, { QUOTE + 16 }>());
    let at = BEHIND + if h.get::<u8, { QUOTE + 9 }>() == IPIP { 0 } else { UDP_GUE };
    let Some(i) = skb.window::<24>(at as u32) else { return 0 };
    let proto = i.get::<u8, 9>();
    if i.get::<u8, 0>() != 0x45 || proto != TCP && proto != UDP {
        return 0;
    }
    let key = key4(i.get::<u64, 12>(), i.get::<u32, 20>(), proto);
    let Some(f) = maps::FLOWS4.get_ptr_mut(&key) else { return 0 };
    // SAFETY: the element stays readable for the run; concurrent packets of one flow may race on the next hop only.
    let f = unsafe { &mut *f };
    if (f.saddr, f.daddr) != (from, instance) || to != from {
        return 0;
    }
    learn(&mut f.state, mtu, LEAST4)
}

/// An ICMPv6 error that may quote an encapsulated packet. 1: it does.
///
/// Exported: see [`v4`].
#[unsafe(export_name = "gray_v6_told")]
#[inline(never)]
pub extern "C" fn v6(raw: *mut __sk_buff) -> u32 {
    const QUOTE: usize = 14 + 40 + 8;
    const BEHIND: usize = QUOTE + 40;
    let skb = &mut Skb::from_raw(raw);
    let Some(h) = skb.head::<BEHIND>() else { return 0 };
    if h.get::<[u8; 2], 54>() != [2, 0] {
        return 0;
    }
    let mtu = u32::from_be(h.get::<u32, 58>());
    let (to, from, instance) =
        (h.get::<Addr, 38>(), h.get::<Addr, { QUOTE + 8 }>(), h.get::<Addr, { QUOTE + 24 }>());
    let at = BEHIND + if h.get::<u8, { QUOTE + 6 }>() == IPV6 { 0 } else { UDP_GUE };
    let Some(i) = skb.window::<44>(at as u32) else { return 0 };
    let proto = i.get::<u8, 6>();
    if i.get::<u8, 0>() >> 4 != 6 || proto != TCP && proto != UDP {
        return 0;
    }
    let key = key6(i.get::<[u64; 4], 8>(), i.get::<u32, 40>(), proto);
    let Some(f) = maps::FLOWS6.get_ptr_mut(&key) else { return 0 };
    // SAFETY: as in `v4`.
    let f = unsafe { &mut *f };
    if f.saddr.words() != from.words() || f.daddr.words() != instance.words() || to.words() != from.words() {
        return 0;
    }
    learn(&mut f.state, mtu, LEAST6)
}

/// Until the next look at the route: then one packet more is lost and told of. 0: the flow is none that goes in other packets.
#[inline(always)]
fn learn(f: &mut FlowState, mtu: u32, least: u32) -> u32 {
    if f.flags & FLOW_DSR == 0 {
        return 0;
    }
    if mtu >= least && (f.mtu == 0 || mtu < u32::from(f.mtu)) {
        f.mtu = mtu as u16;
        emit::count(Reason::DsrPathMtu);
    }
    1
}

/// Whether a quoted packet may be one of ours with another one in it. `number`: of a packet in a packet.
#[inline(always)]
pub fn about(proto: u8, dport: u16, number: u8) -> bool {
    proto == number || proto == UDP && dport == GUE_PORT
}
