//! What is remembered of sockets: which were accepted from a client in a lane, and which dialled. Nothing here steers.

use aya_ebpf::{bindings::__sk_buff, programs::SockOpsContext};
use gray_common::wire::{Addr, LINKED_CALLS, LINKED_SERVICE, Linked, SynKey};

use super::{are_there, lane_now};
use crate::{
    ctx::{
        ops::{ACCEPTED, CONNECT, Ops},
        skb::Skb,
    },
    hooks::tags::syn,
    maps,
};

/// A socket at one of its moments. All but ours is left as it is.
pub fn ops(ctx: &SockOpsContext) {
    let o = Ops::new(ctx);
    match o.op() {
        ACCEPTED => accepted(&o),
        CONNECT => dials(&o),
        _ => {}
    }
}

/// Whoever has no record is in no lane.
#[inline(always)]
fn accepted(o: &Ops) {
    if !are_there() {
        return;
    }
    let (addr, port) = o.remote();
    let key = SynKey { addr, number: o.awaited().wrapping_sub(1), port, _pad: 0 };
    // SAFETY: the value is copied out at once.
    let Some(lane) = (unsafe { maps::ARRIVALS.get(&key) }).copied() else { return };
    let _ = maps::ARRIVALS.remove(&key);
    if let Some(linked) = o.store_record(&maps::LINKED) {
        *linked = Linked { lane, ..Linked::default() };
    }
}

/// What is read of it is no request. Of any workload: whose it is is not to be asked here on older kernels.
#[inline(always)]
fn dials(o: &Ops) {
    if !are_there() {
        return;
    }
    let served = o.stored(&maps::PEERS).is_some_and(|c| c.peer.service_port != 0 && !c.peer.is_probe())
        || o.stored(&maps::SAYINGS).is_some_and(|s| !s.says_nothing());
    let state = if served { LINKED_CALLS | LINKED_SERVICE } else { LINKED_CALLS };
    let lane = lane_now(|_| true) as u32;
    if let Some(linked) = o.store_record(&maps::LINKED) {
        *linked = Linked { lane, state, ..Linked::default() };
    }
}

/// A SYN of this node's says this lane: whoever accepts it may be here, too.
#[inline(always)]
pub fn says(o: &Ops, lane: u16, number: u32) {
    if lane != 0 && are_there() {
        let (addr, port) = o.local();
        came(SynKey { addr, number, port, _pad: 0 }, lane);
    }
}

/// A SYN with a good tag came in, with TCP at `l4`.
///
/// Exported, and so checked once by itself.
#[unsafe(export_name = "gray_link_came")]
#[inline(never)]
pub extern "C" fn arrives(raw: *mut __sk_buff, l4: u32) -> u32 {
    let Some(scratch) = maps::SCRATCH.get_ptr(0) else { return 0 };
    // SAFETY: this CPU's own slot.
    let lane = unsafe { (*scratch).tag.lane };
    if lane == 0 {
        return 0;
    }
    let Some(key) = syn::key(&mut Skb::from_raw(raw), l4) else { return 0 };
    came(key, lane);
    1
}

/// The same when it was decided on, as the flow in `SCRATCH` has it: its client may have got another address or port.
#[unsafe(export_name = "gray_link_goes")]
#[inline(never)]
pub extern "C" fn goes(raw: *mut __sk_buff, l4: u32, is_v4: u32) -> u32 {
    let skb = &mut Skb::from_raw(raw);
    let Some(tcp) = skb.window::<8>(l4) else { return 0 };
    let number = u32::from_be(tcp.get::<u32, 4>());
    // SAFETY: this CPU's own slot.
    let lane = maps::SCRATCH.get_ptr(0).map_or(0, |s| unsafe { (*s).tag.lane });
    will_come(is_v4, number, lane.into())
}

/// A SYN with this number is made for the client of the flow in `SCRATCH`.
#[unsafe(export_name = "gray_link_made")]
#[inline(never)]
pub extern "C" fn will_come(is_v4: u32, number: u32, lane: u32) -> u32 {
    let Some(scratch) = maps::SCRATCH.get_ptr(0) else { return 0 };
    // SAFETY: this CPU's own slot.
    let scratch = unsafe { &*scratch };
    let (addr, port) = if is_v4 != 0 {
        (Addr::v4(scratch.flow4.saddr), scratch.flow4.sport)
    } else {
        (scratch.flow6.saddr, scratch.flow6.sport)
    };
    if lane != 0 {
        came(SynKey { addr, number, port, _pad: 0 }, lane as u16);
    }
    1
}

#[inline(always)]
fn came(key: SynKey, lane: u16) {
    let _ = maps::keep(&maps::ARRIVALS, &key, &u32::from(lane), 0);
}
