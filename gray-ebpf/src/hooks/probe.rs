//! Segments that the agent sends in the name of a service or a client, to have an answer from who is silent. It has no right to raw
//! sockets, and needs none.

use aya_ebpf::programs::TcContext;
use gray_common::{
    packet::{ETH_IPV4, ETH_IPV6, ETH_LEN, ETH_TYPE},
    wire::Addr,
};

use crate::ctx::skb::{Hop, Skb};

/// Sends the frame to the next hop of its destination. 1: it is on its way; 0: there is no such hop, or its address is not known.
pub fn send(ctx: &TcContext) -> i32 {
    let mut skb = Skb::new(ctx);
    let Some(h) = skb.head::<ETH_LEN>() else { return 0 };
    let hop = match h.get::<u16, ETH_TYPE>() {
        ETH_IPV4 => hop4(&mut skb),
        ETH_IPV6 => hop6(&mut skb),
        _ => Hop::Stack,
    };
    let Hop::Direct { ifindex, dmac, smac, .. } = hop else { return 0 };
    let Some(mut h) = skb.head::<ETH_LEN>() else { return 0 };
    h.set::<[u8; 6], 0>(dmac);
    h.set::<[u8; 6], 6>(smac);
    // Not to be met on its way out.
    skb.mark_sent();
    i32::from(skb.clone_to(ifindex) == DONE)
}

/// What `clone_to` answers when it was done.
const DONE: i32 = 0;

#[inline(always)]
fn hop4(skb: &mut Skb) -> Hop {
    let Some(h) = skb.head::<34>() else { return Hop::Stack };
    let (from, to) = (h.get::<u32, 26>(), h.get::<u32, 30>());
    skb.next_hop4(from, to, 0)
}

#[inline(always)]
fn hop6(skb: &mut Skb) -> Hop {
    let Some(h) = skb.head::<54>() else { return Hop::Stack };
    let (from, to) = (h.get::<[u64; 2], 22>(), h.get::<[u64; 2], 38>());
    skb.next_hop6(&Addr::from_words(from), &Addr::from_words(to))
}
