//! IPv6 in IPv6.

use aya_ebpf::bindings::__sk_buff;
use gray_common::{
    Reason, csum,
    packet::{ETH_IPV6, ETH_TYPE, IPV6, UDP},
    wire::{FLOW_GUE, FLOW_PASS, FLOW_UNRESOLVED, Flow6, ListenerKey},
};

use super::{
    super::{
        life::{hop_is_old, set_hop},
        packet::{NEXT, leave},
        v6::HOP_STEP,
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
pub const IPIP_AT: usize = 14 + 40;
pub const GUE_AT: usize = IPIP_AT + UDP_GUE;
/// ... and where it ends.
pub const IPIP_END: usize = IPIP_AT + 40;
pub const GUE_END: usize = GUE_AT + 40;
/// Where the transport header begins of what has no extension headers.
const PLAIN: u32 = 14 + 40;
/// A fragment's extension header: of the first one, ports are among what is quoted.
const FRAGMENT: u32 = 8;

/// Sends the packet of `SCRATCH.key6`'s flow to its instance.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_v6_dsr")]
#[inline(never)]
pub extern "C" fn send(raw: *mut __sk_buff) -> i32 {
    let Some(k) = Kernel::now() else { return NEXT };
    let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else { return NEXT };
    // SAFETY: this CPU's own slot; tc programs of one CPU do not interrupt each other.
    let (key, inner) = unsafe { (&(*scratch).key6, (*scratch).inner) };
    let Some(f) = maps::FLOWS6.find(key, maps::flooded()) else { return NEXT };
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
        let hop = skb.next_hop6(&f.saddr, &f.daddr);
        set_hop(&k, &mut f.state, hop);
    }
    if f.state.ifindex == 0 {
        let to = ListenerKey { addr: key.daddr, port: key.dport, proto: key.proto as u8, _pad: 0 };
        let verdict = without_route(&k, &mut f.state, &to, sent);
        if f.state.flags & FLOW_PASS != 0 {
            (f.saddr, f.daddr) = (key.saddr, key.daddr);
        }
        return verdict;
    }
    let gue = f.state.flags & FLOW_GUE != 0;
    let room = (if gue { GUE_AT } else { IPIP_AT } - 14) as u32;
    let fits = room_for(skb, &f.state, &inner, room, (PLAIN, PLAIN + FRAGMENT));
    if fits != 0 {
        return fits;
    }
    let Some(h) = skb.head::<IPIP_AT>() else { return NEXT };
    let total = u32::from(u16::from_be(h.get::<u16, 18>()));
    // Of what follows the outer header.
    let len = inner_len(skb_len, if total == 0 { 0 } else { total + 40 }) + room - 40;
    if !skb.wrap(room, false, gue) {
        emit::count(Reason::DsrFailed);
        return NEXT;
    }
    let sum = if gue {
        skb.head::<GUE_END>().map_or(BROKEN, |mut h| u32::from(write_gue(&mut h, f, &inner, len)))
    } else {
        skb.head::<IPIP_END>().map_or(BROKEN, |mut h| u32::from(write_ipip(&mut h, f, &inner, len)))
    };
    skb.complete_csum(csum::add(sum as u16, HOP_STEP));
    leave(&k, skb, way(&f.state), sum != BROKEN)
}

/// Writes what is in front of the inner packet, `len` bytes behind the outer header, and the inner one's hop; answers the sum of what
/// was written in front.
#[inline(always)]
pub fn write_ipip(h: &mut Head<'_, IPIP_END>, f: &Flow6, inner: &Inner, len: u32) -> u16 {
    step::<_, { IPIP_AT + 7 }>(h);
    outer(h, f, inner, (IPV6, len))
}

/// The same with UDP and GUE between.
#[inline(always)]
pub fn write_gue(h: &mut Head<'_, GUE_END>, f: &Flow6, inner: &Inner, len: u32) -> u16 {
    let words = super::gue(f.state.l4_port, len, IPV6);
    put_gue::<_, 54, 58, 62>(h, words);
    step::<_, { GUE_AT + 7 }>(h);
    csum::add(outer(h, f, inner, (UDP, len)), sum3(words))
}

/// The inner packet's hop to this node.
#[inline(always)]
fn step<const N: usize, const HOPS: usize>(h: &mut Head<'_, N>) {
    h.set::<u8, HOPS>(h.get::<u8, HOPS>().wrapping_sub(1));
}

/// Writes link addresses and the outer header, and answers its sum. The flow label is the connection's: what spreads packets by
/// it keeps each one's in order (RFC 6438).
#[inline(always)]
fn outer<const N: usize>(h: &mut Head<'_, N>, f: &Flow6, inner: &Inner, (next, len): (u8, u32)) -> u16 {
    if f.state.flags & FLOW_UNRESOLVED == 0 {
        let (first, rest) = macs(&f.state);
        h.set::<u64, 0>(first);
        h.set::<u32, 8>(rest);
    }
    // In XDP the link header is a new one.
    h.set::<u16, ETH_TYPE>(ETH_IPV6);
    let word = 6 << 28 | u32::from(inner.tos) << 20 | u32::from(u16::from_be(f.state.l4_port));
    h.set::<u32, 14>(word.to_be());
    h.set::<u16, 18>(short(len));
    h.set::<[u8; 2], 20>([next, TTL]);
    h.set::<[u64; 2], 22>(f.saddr.words());
    h.set::<[u64; 2], 38>(f.daddr.words());
    csum::add(sum5(h.get::<[u32; 5], 14>()), sum5(h.get::<[u32; 5], 34>()))
}
