//! The key of a translated connection, as its client sees it, into `SCRATCH`.

use gray_common::wire::{FLOW_FORWARD, Flow4, Flow6, FlowKey4, FlowKey6};

use crate::{
    hooks::packet::{NEXT, SPLICED, SPLICED_REPLY},
    maps,
};

/// Of the flow's packet.
#[inline(always)]
pub fn spliced4(key: &FlowKey4, f: &Flow4) -> i32 {
    let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else { return NEXT };
    // SAFETY: this CPU's own slot.
    let at = unsafe { &mut (*scratch).key4 };
    if f.state.flags & FLOW_FORWARD != 0 {
        *at = *key;
        return SPLICED;
    }
    *at = FlowKey4 { saddr: f.daddr, daddr: f.saddr, sport: f.dport, dport: f.sport, proto: key.proto };
    SPLICED_REPLY
}

#[inline(always)]
pub fn spliced6(key: &FlowKey6, f: &Flow6) -> i32 {
    let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else { return NEXT };
    // SAFETY: this CPU's own slot.
    let at = unsafe { &mut (*scratch).key6 };
    if f.state.flags & FLOW_FORWARD != 0 {
        *at = *key;
        return SPLICED;
    }
    *at = FlowKey6 { saddr: f.daddr, daddr: f.saddr, sport: f.dport, dport: f.sport, proto: key.proto };
    SPLICED_REPLY
}
