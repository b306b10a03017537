//! VLAN tags. The kernel takes the outermost tag out of a frame before tcx ingress sees it, and puts it in only after egress:
//! such frames are like any other. What has a second one (IEEE 802.1ad) is opened: the outer tag comes off, the inner one
//! takes its place beside the frame. A frame that turns out to go on as it was gets it back.

use aya_ebpf::bindings::__sk_buff;
use gray_common::{
    Reason,
    packet::{ETH_IPV4, ETH_IPV6, ICMP, ICMPV6, TCP, UDP, V4_FRAGMENT},
};

use super::{
    packet::{DROP, NEXT, knows4, knows6},
    v6,
};
use crate::{
    ctx::{
        skb::Skb,
        words::{key4, key6},
    },
    emit,
};

/// Not 0: a frame whose outer tag travels beside it may be opened on its way in. Set by the loader, by the kernel's version
/// (`sys::kernel::SECOND_TAG`). Only there does the frame begin behind its Ethernet header, by whose length older kernels err when
/// the tag is put back; on the way out it begins with it, and all of them are right.
#[unsafe(no_mangle)]
static OPENS: u32 = 1;

#[inline(always)]
pub fn may_open() -> bool {
    // SAFETY: a read of our own static; volatile, because the loader writes another value into the object.
    unsafe { core::ptr::read_volatile(&raw const OPENS) != 0 }
}

/// Ethernet header and one tag.
const TAGGED: usize = 18;
const TYPE: usize = 16;

/// Takes the outermost tag off a frame that may be ours; answers what [`close`] puts back. 0: not ours, or not possible.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_vlan_open")]
#[inline(never)]
pub extern "C" fn open(raw: *mut __sk_buff) -> u32 {
    let skb = &mut Skb::from_raw(raw);
    let Some(h) = skb.head::<TAGGED>() else {
        emit::count(Reason::Malformed);
        return 0;
    };
    let (proto, tci) = (h.get::<u16, 12>(), u16::from_be(h.get::<u16, 14>()));
    let ours = match h.get::<u16, TYPE>() {
        ETH_IPV4 => ours4(skb),
        ETH_IPV6 => ours6(skb),
        _ => false,
    };
    if !ours {
        return 0;
    }
    let outer = skb.vlan_tag().unwrap_or(u32::from(proto) << 16 | u32::from(tci));
    if skb.vlan_pop() { outer } else { 0 }
}

/// Puts the outermost tag back.
///
/// Exported: see `open`.
#[unsafe(export_name = "gray_vlan_close")]
#[inline(never)]
pub extern "C" fn close(raw: *mut __sk_buff, outer: u32) -> i32 {
    let skb = &mut Skb::from_raw(raw);
    if skb.vlan_push((outer >> 16) as u16, outer as u16) {
        return NEXT;
    }
    // Without it the frame would go on in another network.
    emit::count(Reason::RewriteFailed);
    DROP
}

/// Plain TCP and UDP by addresses and ports; what may be ours in another shape (options, fragments, ICMP) is told apart when
/// it is open: all fragments of a packet must be treated alike.
#[inline(always)]
fn ours4(skb: &mut Skb) -> bool {
    let Some(h) = skb.head::<{ TAGGED + 24 }>() else { return false };
    let proto = h.get::<u8, { TAGGED + 9 }>();
    let whole = h.get::<u16, { TAGGED + 6 }>() & V4_FRAGMENT == 0;
    if proto != TCP && proto != UDP {
        return proto == ICMP;
    }
    h.get::<u8, TAGGED>() != 0x45
        || !whole
        || knows4(&key4(h.get::<u64, { TAGGED + 12 }>(), h.get::<u32, { TAGGED + 20 }>(), proto))
}

#[inline(always)]
fn ours6(skb: &mut Skb) -> bool {
    let Some(h) = skb.head::<{ TAGGED + 44 }>() else { return false };
    match h.get::<u8, { TAGGED + 6 }>() {
        proto @ (TCP | UDP) => {
            knows6(&key6(h.get::<[u64; 4], { TAGGED + 8 }>(), h.get::<u32, { TAGGED + 40 }>(), proto))
        }
        next => next == ICMPV6 || v6::is_passed_over(next),
    }
}
