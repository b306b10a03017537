//! Route lookups, the same in tc and XDP.

use core::{ffi::c_void, hint::cold_path};

use aya_ebpf::{bindings::bpf_fib_lookup as FibParams, helpers::generated::bpf_fib_lookup};
use gray_common::wire::Addr;

use crate::maps;

/// `BPF_FIB_LKUP_RET_NOT_FWDED`, `_FWD_DISABLED`, `_NO_NEIGH`.
const NOT_FWDED: i64 = 4;
const FWD_DISABLED: i64 = 5;
const NO_NEIGH: i64 = 7;

/// Where a packet goes next.
pub enum Hop {
    Direct {
        ifindex: u32,
        mtu: u16,
        dmac: [u8; 6],
        smac: [u8; 6],
    },
    /// The link address is unknown.
    Resolve {
        ifindex: u32,
    },
    /// Local, unreachable, filtered or forwarding is off: the stack knows better.
    Stack,
}

/// The next hop of an IPv4 packet with these addresses that came in by `ifindex`. `ctx`: the run's own context.
#[inline(always)]
pub(super) fn next_hop4(ctx: *mut c_void, ifindex: u32, saddr: u32, daddr: u32, tos: u8) -> Hop {
    let Some(p) = params() else { return Hop::Stack };
    p.family = 2;
    p.__bindgen_anon_2.tos = tos;
    p.__bindgen_anon_3.ipv4_src = saddr;
    p.__bindgen_anon_4.ipv4_dst = daddr;
    next_hop(ctx, ifindex, p)
}

/// The next hop of an IPv6 packet with these addresses that came in by `ifindex`. `ctx`: the run's own context.
#[inline(always)]
pub(super) fn next_hop6(ctx: *mut c_void, ifindex: u32, saddr: &Addr, daddr: &Addr) -> Hop {
    let Some(p) = params() else { return Hop::Stack };
    p.family = 10;
    p.__bindgen_anon_3.ipv6_src = words(saddr);
    p.__bindgen_anon_4.ipv6_dst = words(daddr);
    next_hop(ctx, ifindex, p)
}

/// Whether the stack keeps an IPv4 packet to this address or drops it. `here`: its frame is addressed to this interface. Where
/// nothing is forwarded the kernel does not look at routes, and that alone says it: no other packets of a bridge, say, are taken.
#[inline(always)]
pub(super) fn stays4(ctx: *mut c_void, ifindex: u32, saddr: u32, daddr: u32, here: bool) -> bool {
    let Some(p) = params() else { return false };
    p.family = 2;
    p.__bindgen_anon_3.ipv4_src = saddr;
    p.__bindgen_anon_4.ipv4_dst = daddr;
    let answer = lookup(ctx, ifindex, p);
    answer == NOT_FWDED || answer == FWD_DISABLED && here
}

/// The same of IPv6.
#[inline(always)]
pub(super) fn stays6(ctx: *mut c_void, ifindex: u32, saddr: &Addr, daddr: &Addr, here: bool) -> bool {
    let Some(p) = params() else { return false };
    p.family = 10;
    p.__bindgen_anon_3.ipv6_src = words(saddr);
    p.__bindgen_anon_4.ipv6_dst = words(daddr);
    let answer = lookup(ctx, ifindex, p);
    answer == NOT_FWDED || answer == FWD_DISABLED && here
}

#[inline(always)]
fn lookup(ctx: *mut c_void, ifindex: u32, p: &mut FibParams) -> i64 {
    p.ifindex = ifindex;
    // With a length the kernel answers the route's MTU (5.12), a locked one included, and not the device's alone; so
    // short a packet fits everywhere.
    p.__bindgen_anon_1.tot_len = 1;
    // SAFETY: the helper reads and writes `p`, whose size is given.
    unsafe { bpf_fib_lookup(ctx, core::ptr::from_mut(p), size_of::<FibParams>() as i32, 0) }
}

#[inline(always)]
fn next_hop(ctx: *mut c_void, ifindex: u32, p: &mut FibParams) -> Hop {
    match lookup(ctx, ifindex, p) {
        0 => {
            // SAFETY: a union of two numbers; on success it holds this one.
            let mtu = unsafe { p.__bindgen_anon_1.mtu_result };
            // The kernel says that a neighbour is there before it has written its address (`__neigh_update`). Interfaces without
            // Ethernet's addresses have none of their own either, or (ipip, sit, GRE) four bytes of IPv4.
            if p.dmac == [0; 6] && p.smac[4..] != [0; 2] {
                cold_path();
                return Hop::Resolve { ifindex: p.ifindex };
            }
            Hop::Direct { ifindex: p.ifindex, mtu, dmac: p.dmac, smac: p.smac }
        }
        NO_NEIGH => Hop::Resolve { ifindex: p.ifindex },
        _ => Hop::Stack,
    }
}

/// This CPU's lookup parameters, all zero. Not on the stack, where the verifier wants every access aligned.
#[inline(always)]
fn params() -> Option<&'static mut FibParams> {
    let p = maps::FIB.get_ptr_mut(0)?;
    // SAFETY: this CPU's own slot, packet programs of one CPU do not interrupt each other; the struct is eight words,
    // for which zero is a value.
    unsafe {
        *p.cast::<[u64; size_of::<FibParams>() / 8]>() = [0; size_of::<FibParams>() / 8];
        Some(&mut *p)
    }
}

#[inline(always)]
fn words(a: &Addr) -> [u32; 4] {
    let [lo, hi] = a.words();
    [lo as u32, (lo >> 32) as u32, hi as u32, (hi >> 32) as u32]
}
