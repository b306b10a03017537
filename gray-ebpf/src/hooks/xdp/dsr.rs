//! Packets of services with `nat: dsr` in XDP: those of flows that tc has recorded. The first one of a flow, and what does not fit or has
//! no known way, is tc's.

use aya_ebpf::bindings::{
    xdp_action::{XDP_DROP, XDP_PASS},
    xdp_md,
};
use gray_common::{
    Reason,
    wire::{FLOW_GUE, FLOW_UNRESOLVED, FlowState},
};

use super::exit;
use crate::{
    ctx::xdp::Frame,
    emit,
    hooks::{
        dsr::{self, Inner},
        life::{Known, account, follow, hop_is_old, set_hop_quietly},
    },
    maps,
    tables::Kernel,
};

/// Sends the packet of `SCRATCH.key4`'s flow to its instance. `SCRATCH.inner.l4` has its TCP flags.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_xdp_v4_dsr")]
#[inline(never)]
pub extern "C" fn v4(raw: *mut xdp_md) -> u32 {
    use dsr::v4::{GUE_AT, GUE_END, IPIP_AT, IPIP_END, write_gue, write_ipip};
    let Some(k) = Kernel::now() else { return XDP_PASS };
    let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else { return XDP_PASS };
    // SAFETY: this CPU's own slot; packet programs of one CPU do not interrupt each other.
    let (key, inner) = unsafe { (&(*scratch).key4, (*scratch).inner) };
    let Some(f) = maps::FLOWS4.get_ptr_mut(key) else { return XDP_PASS };
    // SAFETY: the element stays readable for the run; concurrent packets of one flow may race on stamps only.
    let f = unsafe { &mut *f };
    let mut frame = Frame::from_raw(raw);
    if hop_is_old(&k, &f.state) {
        if f.state.flags & FLOW_UNRESOLVED == 0 {
            return XDP_PASS;
        }
        let hop = frame.next_hop4(f.saddr, f.daddr, inner.tos as u8);
        set_hop_quietly(&k, &mut f.state, hop);
    }
    let gue = f.state.flags & FLOW_GUE != 0;
    let room = (if gue { GUE_AT } else { IPIP_AT } - 14) as u32;
    let Some(h) = frame.head::<IPIP_AT>() else { return XDP_PASS };
    let total = u32::from(u16::from_be(h.get::<u16, 16>()));
    let to = go(&k, &mut frame, &mut f.state, &inner, (room, key.proto as u8));
    if to == 0 {
        return XDP_PASS;
    }
    let len = total + room;
    let written = if gue {
        frame.head::<GUE_END>().map(|mut h| write_gue(&mut h, f, &inner, len)).is_some()
    } else {
        frame.head::<IPIP_END>().map(|mut h| write_ipip(&mut h, f, &inner, len)).is_some()
    };
    sent(&frame, written, to)
}

/// Sends the packet of `SCRATCH.key6`'s flow to its instance. `SCRATCH.inner.l4` has its TCP flags.
///
/// Exported: see [`v4`].
#[unsafe(export_name = "gray_xdp_v6_dsr")]
#[inline(never)]
pub extern "C" fn v6(raw: *mut xdp_md) -> u32 {
    use dsr::v6::{GUE_AT, GUE_END, IPIP_AT, IPIP_END, write_gue, write_ipip};
    let Some(k) = Kernel::now() else { return XDP_PASS };
    let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else { return XDP_PASS };
    // SAFETY: as in `v4`.
    let (key, inner) = unsafe { (&(*scratch).key6, (*scratch).inner) };
    let Some(f) = maps::FLOWS6.get_ptr_mut(key) else { return XDP_PASS };
    // SAFETY: as in `v4`.
    let f = unsafe { &mut *f };
    let mut frame = Frame::from_raw(raw);
    if hop_is_old(&k, &f.state) {
        if f.state.flags & FLOW_UNRESOLVED == 0 {
            return XDP_PASS;
        }
        let hop = frame.next_hop6(&f.saddr, &f.daddr);
        set_hop_quietly(&k, &mut f.state, hop);
    }
    let gue = f.state.flags & FLOW_GUE != 0;
    let room = (if gue { GUE_AT } else { IPIP_AT } - 14) as u32;
    let Some(h) = frame.head::<IPIP_AT>() else { return XDP_PASS };
    let total = u32::from(u16::from_be(h.get::<u16, 18>())) + 40;
    let to = go(&k, &mut frame, &mut f.state, &inner, (room, key.proto as u8));
    if to == 0 {
        return XDP_PASS;
    }
    let len = total + room - 40;
    let written = if gue {
        frame.head::<GUE_END>().map(|mut h| write_gue(&mut h, f, &inner, len)).is_some()
    } else {
        frame.head::<IPIP_END>().map(|mut h| write_ipip(&mut h, f, &inner, len)).is_some()
    };
    sent(&frame, written, to)
}

/// Where the frame leaves, which then has the room and is counted; 0: it is tc's, and as it was.
#[inline(always)]
fn go(k: &Kernel, frame: &mut Frame, f: &mut FlowState, inner: &Inner, (room, proto): (u32, u8)) -> u32 {
    if inner.ttl <= 1 {
        return 0;
    }
    let len = frame.len();
    let to = exit(f, len + u64::from(room));
    // Made before the flow is touched: a packet that is left to tc leaves no trace here.
    if to == 0 || !frame.grow(room) {
        return 0;
    }
    if follow(k, f, proto, (inner.l4 as u8, false), |_| {}) == Known::Over {
        return if frame.shrink(room) { 0 } else { to };
    }
    account(f, len as u32);
    to
}

#[inline(always)]
fn sent(frame: &Frame, written: bool, to: u32) -> u32 {
    if !written {
        emit::count(Reason::RewriteFailed);
        return XDP_DROP;
    }
    frame.leave(to)
}
