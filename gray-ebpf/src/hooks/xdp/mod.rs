//! XDP, in front of tc on the same interface: the same decision with the same code, for plain packets that it can send on
//! whole. Everything else goes on untouched and uncounted, and `gray_tc_ingress` does all of it.

mod dsr;
mod v4;
mod v6;

use aya_ebpf::{bindings::xdp_action::XDP_PASS, programs::XdpContext};
use gray_common::{
    Reason,
    decide::Tables as _,
    limits::XDP_OUT_SLOTS,
    packet::{ETH_IPV4, ETH_IPV6, ETH_LEN, ETH_TYPE, TCP, opens},
    wire::{FLOW_PASS, FLOW_UNRESOLVED, FlowState},
};

use super::{
    admit::{Admit, admit_quietly, report},
    life::how,
    v4::record as record4,
    v6::record as record6,
};
use crate::{ctx::xdp::Frame, emit, maps, tables::Kernel};

/// No flow knows this packet; it is described in `SCRATCH.arrival`.
const NEW: u32 = 1000;

pub fn ingress(ctx: &XdpContext) -> u32 {
    let frame = Frame::new(ctx);
    let Some(head) = frame.head::<ETH_LEN>() else { return XDP_PASS };
    match head.get::<u16, ETH_TYPE>() {
        ETH_IPV4 => family(&frame, true),
        ETH_IPV6 => family(&frame, false),
        _ => XDP_PASS,
    }
}

/// The three steps of tc (`packet::family`), where each may end in leaving the packet to it.
#[inline(always)]
fn family(frame: &Frame, is_v4: bool) -> u32 {
    let raw = frame.raw();
    let found = if is_v4 { v4::find(raw) } else { v6::find(frame) };
    if found != NEW {
        return found;
    }
    let Some(k) = Kernel::now() else { return XDP_PASS };
    let epoch = k.epoch();
    // What the old table knows, tc fetches; what is apart, it sees to.
    if maps::moving(is_v4) || maps::flooded() {
        return XDP_PASS;
    }
    // What is not rewritten is tc's: it decides again, and counts.
    if admit_quietly(epoch) != Admit::Steer {
        return XDP_PASS;
    }
    // Quietly: what fails, tc tries again.
    if (if is_v4 { record4::record(how::QUIETLY) } else { record6::record(how::QUIETLY) }) == 0 {
        return XDP_PASS;
    }
    count_rebuilt();
    let _ = report(epoch);
    let found = if is_v4 { v4::again(raw) } else { v6::known(raw) };
    if found == NEW { XDP_PASS } else { found }
}

/// What `admit` counts beside the decision, when it counts.
#[inline(always)]
fn count_rebuilt() {
    let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else { return };
    // SAFETY: this CPU's own slot; packet programs of one CPU do not interrupt each other.
    let a = unsafe { &(*scratch).arrival };
    if a.proto == TCP && !opens(a.tcp_flags) {
        emit::count(Reason::Rebuilt);
    }
}

/// Where a frame of `len` bytes of this flow leaves; 0: not by XDP.
#[inline(always)]
fn exit(f: &FlowState, len: u64) -> u32 {
    if f.flags & (FLOW_PASS | FLOW_UNRESOLVED) != 0 || f.mtu != 0 && len > u64::from(f.mtu) + ETH_LEN as u64 {
        return 0;
    }
    // A redirect to what does not take XDP's frames would lose them, and nobody would know.
    let to = f.ifindex;
    match maps::XDP_OUT.get(to & (XDP_OUT_SLOTS - 1)) {
        Some(there) if *there == to => to,
        _ => 0,
    }
}
