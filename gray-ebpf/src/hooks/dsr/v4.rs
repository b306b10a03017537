//! IPv4 in IPv4.

use aya_ebpf::bindings::__sk_buff;
use gray_common::{
    Reason, csum,
    packet::{ETH_IPV4, ETH_TYPE, IPIP, UDP},
    wire::{Addr, FLOW_GUE, FLOW_PASS, FLOW_UNRESOLVED, Flow4, ListenerKey},
};

use super::{
    super::{
        life::{hop_is_old, set_hop},
        packet::{NEXT, leave},
    },
    BROKEN, Inner, TTL, UDP_GUE, inner_len, put_gue, room_for, short, sum3, was_sent, way, without_route,
};
use crate::{
    ctx::{
        skb::{Head, Skb},
        words::macs,
    },
    emit,
    hooks::icmp::too_big::sum5,
    maps,
    tables::Kernel,
};

/// Where the inner header begins: behind the link header and what is put in front.
pub const IPIP_AT: usize = 14 + 20;
pub const GUE_AT: usize = IPIP_AT + UDP_GUE;
/// ... and where it ends without options.
pub const IPIP_END: usize = IPIP_AT + 20;
pub const GUE_END: usize = GUE_AT + 20;
/// Where the transport header begins of what has no options.
const PLAIN: u32 = 14 + 20;
/// Difference of the word that holds TTL and protocol when the TTL falls by one.
const TTL_STEP: u16 = 0xfffe;

/// Sends the packet of `SCRATCH.key4`'s flow to its instance.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_v4_dsr")]
#[inline(never)]
pub extern "C" fn send(raw: *mut __sk_buff) -> i32 {
    let Some(k) = Kernel::now() else { return NEXT };
    let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else { return NEXT };
    // SAFETY: this CPU's own slot; tc programs of one CPU do not interrupt each other.
    let (key, inner) = unsafe { (&(*scratch).key4, (*scratch).inner) };
    let Some(f) = maps::FLOWS4.find(key, maps::flooded()) else { return NEXT };
    // SAFETY: the element stays readable for the run; concurrent packets of one flow may race on the next hop only.
    let f = unsafe { &mut *f };
    let skb = &mut Skb::from_raw(raw);
    let skb_len = skb.len() - 14;
    if inner.ttl <= 1 {
        emit::count(Reason::TtlExpired);
        return NEXT;
    }
    let sent = was_sent(&f.state);
    if hop_is_old(&k, &f.state) {
        let hop = skb.next_hop4(f.saddr, f.daddr, inner.tos as u8);
        set_hop(&k, &mut f.state, hop);
    }
    if f.state.ifindex == 0 {
        let to = ListenerKey { addr: Addr::v4(key.daddr), port: key.dport, proto: key.proto as u8, _pad: 0 };
        let verdict = without_route(&k, &mut f.state, &to, sent);
        if f.state.flags & FLOW_PASS != 0 {
            (f.saddr, f.daddr) = (key.saddr, key.daddr);
        }
        return verdict;
    }
    let gue = f.state.flags & FLOW_GUE != 0;
    let room = (if gue { GUE_AT } else { IPIP_AT } - 14) as u32;
    let fits = room_for(skb, &f.state, &inner, room, (PLAIN, PLAIN));
    if fits != 0 {
        return fits;
    }
    let Some(h) = skb.head::<IPIP_AT>() else { return NEXT };
    let len = inner_len(skb_len, u32::from(u16::from_be(h.get::<u16, 16>()))) + room;
    if !skb.wrap(room, true, gue) {
        emit::count(Reason::DsrFailed);
        return NEXT;
    }
    let sum = if gue {
        skb.head::<GUE_END>().map_or(BROKEN, |mut h| u32::from(write_gue(&mut h, f, &inner, len)))
    } else {
        skb.head::<IPIP_END>().map_or(BROKEN, |mut h| u32::from(write_ipip(&mut h, f, &inner, len)))
    };
    skb.complete_csum(sum as u16);
    leave(&k, skb, way(&f.state), sum != BROKEN)
}

/// Writes what is in front of the inner packet of an outer one of `len` bytes, and the inner one's hop; answers the sum of what was
/// written, beside the IPv4 header, which sums up to nothing.
#[inline(always)]
pub fn write_ipip(h: &mut Head<'_, IPIP_END>, f: &Flow4, inner: &Inner, len: u32) -> u16 {
    step::<_, { IPIP_AT + 8 }, { IPIP_AT + 10 }>(h);
    outer(h, f, inner, (IPIP, len));
    0
}

/// The same with UDP and GUE between.
#[inline(always)]
pub fn write_gue(h: &mut Head<'_, GUE_END>, f: &Flow4, inner: &Inner, len: u32) -> u16 {
    let words = super::gue(f.state.l4_port, len - 20, IPIP);
    put_gue::<_, 34, 38, 42>(h, words);
    step::<_, { GUE_AT + 8 }, { GUE_AT + 10 }>(h);
    outer(h, f, inner, (UDP, len));
    sum3(words)
}

/// The inner packet's hop to this node.
#[inline(always)]
fn step<const N: usize, const TTL_AT: usize, const CHECK: usize>(h: &mut Head<'_, N>) {
    h.set::<u8, TTL_AT>(h.get::<u8, TTL_AT>().wrapping_sub(1));
    h.set::<u16, CHECK>(csum::update(h.get::<u16, CHECK>(), TTL_STEP));
}

/// Writes link addresses and the outer header: don't fragment (an instance's node puts nothing together), and so no identification.
#[inline(always)]
fn outer<const N: usize>(h: &mut Head<'_, N>, f: &Flow4, inner: &Inner, (proto, len): (u8, u32)) {
    if f.state.flags & FLOW_UNRESOLVED == 0 {
        let (first, rest) = macs(&f.state);
        h.set::<u64, 0>(first);
        h.set::<u32, 8>(rest);
    }
    // In XDP the link header is a new one.
    h.set::<u16, ETH_TYPE>(ETH_IPV4);
    h.set::<[u8; 2], 14>([0x45, inner.tos as u8]);
    h.set::<u16, 16>(short(len));
    h.set::<[u8; 8], 18>([0, 0, 0x40, 0, TTL, proto, 0, 0]);
    h.set::<u32, 26>(f.saddr);
    h.set::<u32, 30>(f.daddr);
    let check = !sum5(h.get::<[u32; 5], 14>());
    h.set::<u16, 24>(check);
}
