//! A hostile network: loses, duplicates and detours a stated share of the IP packets of one interface, per direction.
//!
//! Detoured packets go to a TAP device; user space (`tests/src/hostile`) delays or corrupts them and sends them on. Every
//! packet comes by once without a mark of ours; the n-th such packet of a direction always meets the same fate.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::{
    bindings::{BPF_F_INGRESS, TC_ACT_SHOT, TC_ACT_UNSPEC},
    helpers::generated::bpf_redirect,
    macros::{classifier, map},
    maps::Array,
    programs::TcContext,
};

use crate::wire::{CLONED, EGRESS, INGRESS, LOST, RETURNED, WHOLE, Way, draw};

#[map]
pub static WAYS: Array<Way> = Array::with_max_entries(2, 0);

const ETH_P_IP: u32 = 0x0800_u16.to_be() as u32;
const ETH_P_IPV6: u32 = 0x86dd_u16.to_be() as u32;

/// tcx or clsact ingress of the hostile interface.
#[classifier]
pub fn lab_hostile_in(ctx: TcContext) -> i32 {
    meet(&ctx, INGRESS)
}

/// tcx or clsact egress of the hostile interface.
#[classifier]
pub fn lab_hostile_out(ctx: TcContext) -> i32 {
    meet(&ctx, EGRESS)
}

/// Ingress of both TAP devices: what user space wrote arrives on the hostile interface; what was lost ends here.
#[classifier]
pub fn lab_hostile_back(ctx: TcContext) -> i32 {
    let Some(way) = WAYS.get_ptr_mut(INGRESS) else { return TC_ACT_SHOT };
    // SAFETY: a mark is a plain field of the context; the pointer is a live map value.
    let (mark, ifindex) = unsafe { ((*ctx.skb.skb).mark, (*way).ifindex) };
    if mark == LOST {
        return TC_ACT_SHOT;
    }
    ctx.set_mark(RETURNED);
    redirect(ifindex, u64::from(BPF_F_INGRESS))
}

#[inline(always)]
fn meet(ctx: &TcContext, direction: u32) -> i32 {
    // SAFETY: plain fields of the context.
    let (mark, protocol) = unsafe { ((*ctx.skb.skb).mark, (*ctx.skb.skb).protocol) };
    let Some(way) = WAYS.get_ptr_mut(direction) else { return TC_ACT_UNSPEC };
    if mark == CLONED || mark == RETURNED {
        if mark == RETURNED {
            // SAFETY: `way` is a live map value.
            let _ = count(unsafe { &raw mut (*way).returned });
        }
        ctx.set_mark(0);
        return TC_ACT_UNSPEC;
    }
    if protocol != ETH_P_IP && protocol != ETH_P_IPV6 {
        return TC_ACT_UNSPEC;
    }
    // SAFETY: as above; the first seven fields do not change while the program is attached.
    let w = unsafe { &*way };
    // SAFETY: as above.
    let n = count(unsafe { &raw mut (*way).seen });
    let mut fate = draw(w.seed, n) % WHOLE;
    if fate < u64::from(w.lose) {
        // SAFETY: as above.
        let _ = count(unsafe { &raw mut (*way).lost });
        return lose(ctx, direction, w.tap);
    }
    fate -= u64::from(w.lose);
    if fate < u64::from(w.duplicate) {
        // SAFETY: as above.
        let _ = count(unsafe { &raw mut (*way).duplicated });
        let flags = if direction == INGRESS { u64::from(BPF_F_INGRESS) } else { 0 };
        ctx.set_mark(CLONED);
        // What cannot be cloned (no memory) is not lost.
        let _ = ctx.clone_redirect(w.ifindex, flags);
        ctx.set_mark(mark);
        return TC_ACT_UNSPEC;
    }
    fate -= u64::from(w.duplicate);
    if fate < u64::from(w.detour) {
        // SAFETY: as above.
        let _ = count(unsafe { &raw mut (*way).detoured });
        return redirect(w.tap, 0);
    }
    TC_ACT_UNSPEC
}

/// A drop at egress would tell the sending socket at once (NET_XMIT_DROP); a wire tells nobody. So the packet goes in by
/// the TAP device, where it ends.
#[inline(always)]
fn lose(ctx: &TcContext, direction: u32, tap: u32) -> i32 {
    if direction == INGRESS {
        return TC_ACT_SHOT;
    }
    ctx.set_mark(LOST);
    redirect(tap, u64::from(BPF_F_INGRESS))
}

#[inline(always)]
fn redirect(ifindex: u32, flags: u64) -> i32 {
    // SAFETY: a helper that takes two numbers.
    unsafe { bpf_redirect(ifindex, flags) as i32 }
}

/// Adds one; the value before. core offers no such operation on a target without compare and exchange; the kernel has it
/// since Linux 5.12.
#[inline(always)]
fn count(counter: *mut u64) -> u64 {
    // Relaxed, LLVM 22 makes it the instruction that returns nothing, and the old value a constant.
    // SAFETY: an aligned field of a live map value, which other CPUs change only in this way.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(counter, 1) }
}
