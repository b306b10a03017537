//! Frames for measurements: a generator that lays every header afresh, a sink that counts and drops, a bounce and a
//! redirect that ask nothing. The generator runs in BPF_PROG_TEST_RUN with live frames: a recycled page holds what the
//! last run left.

use aya_ebpf::{
    bindings::{TC_ACT_UNSPEC, xdp_action::*},
    helpers::generated::bpf_redirect,
    macros::{classifier, map, xdp},
    maps::Array,
    programs::{TcContext, XdpContext},
};

use crate::frame_plan::{Arrived, FramePlan, HEADERS, KEPT};

#[map]
pub static FRAME_PLAN: Array<FramePlan> = Array::with_max_entries(1, 0);
#[map]
pub static ARRIVED: Array<Arrived> = Array::with_max_entries(1, 0);

const ETH_TYPE: usize = 12;
const PROTO: usize = 23;
const IP_CHECK: usize = 24;
const SADDR: usize = 26;
const DADDR: usize = 30;
const SPORT: usize = 34;
const DPORT: usize = 36;
const TCP_CHECK: usize = 50;
const IPV4: u16 = 0x0800_u16.to_be();
const TCP: u8 = 6;

/// The first `N` bytes of the frame.
#[inline(always)]
fn head<const N: usize>(ctx: &XdpContext) -> Option<*mut u8> {
    let (data, end) = (ctx.data(), ctx.data_end());
    if data + N > end { None } else { Some(data as *mut u8) }
}

/// # Safety
/// `at` and what follows lie within the bytes that were checked against the frame's end.
#[inline(always)]
unsafe fn put<T>(frame: *mut u8, at: usize, value: T) {
    // SAFETY: as the caller promises.
    unsafe { frame.add(at).cast::<T>().write_unaligned(value) }
}

/// # Safety
/// As [`put`].
#[inline(always)]
unsafe fn get<T>(frame: *mut u8, at: usize) -> T {
    // SAFETY: as the caller promises.
    unsafe { frame.add(at).cast::<T>().read_unaligned() }
}

#[inline(always)]
fn fold(sum: u32) -> u16 {
    let s = (sum & 0xffff) + (sum >> 16);
    ((s & 0xffff) + (s >> 16)) as u16
}

/// Lays the next flow's headers and sends the frame out of the interface it pretends to come from.
#[xdp]
pub fn lab_frames_generator(ctx: XdpContext) -> u32 {
    let (Some(frame), Some(plan)) = (head::<HEADERS>(&ctx), FRAME_PLAN.get_ptr_mut(0)) else {
        return XDP_ABORTED;
    };
    // SAFETY: a live map value, written by one run at a time; HEADERS bytes of the frame were checked.
    unsafe {
        let p = &mut *plan;
        let n = p.next.wrapping_mul(p.stride) & p.flows_mask;
        p.next = p.next.wrapping_add(1);
        let saddr = p.first.wrapping_add(n & p.hosts_mask).to_be();
        let sport = (1024_u32.wrapping_add(n >> (p.hosts_shift & 31)) as u16).to_be();
        let words = p.headers.as_ptr().cast::<u64>();
        let mut i = 0;
        while i < 6 {
            put(frame, i * 8, words.add(i).read_unaligned());
            i += 1;
        }
        put(frame, 48, p.headers.as_ptr().add(48).cast::<u32>().read_unaligned());
        put(frame, 52, p.headers.as_ptr().add(52).cast::<u16>().read_unaligned());
        let client = (saddr & 0xffff) + (saddr >> 16);
        put(frame, SADDR, saddr);
        put(frame, SPORT, sport);
        put(frame, IP_CHECK, !fold(p.ip_sum + client));
        put(frame, TCP_CHECK, !fold(p.tcp_sum + client + u32::from(sport)));
    }
    XDP_TX
}

/// Counts and drops the generator's frames, and everything else.
#[xdp]
pub fn lab_frames_sink(ctx: XdpContext) -> u32 {
    let (Some(frame), Some(plan), Some(arrived)) =
        (head::<KEPT>(&ctx), FRAME_PLAN.get_ptr_mut(0), ARRIVED.get_ptr_mut(0))
    else {
        return XDP_DROP;
    };
    // SAFETY: live map values, written on one core at a time; KEPT bytes of the frame were checked.
    unsafe {
        if get::<u16>(frame, ETH_TYPE) != IPV4 || get::<u8>(frame, PROTO) != TCP {
            return XDP_DROP;
        }
        let dport = u32::from(get::<u16>(frame, DPORT));
        if get::<u32>(frame, DADDR) != (*plan).daddr || dport != (*plan).dport {
            (*arrived).wrong += 1;
            return XDP_DROP;
        }
        (*arrived).right += 1;
        if (*arrived).right & 1023 == 0 {
            let kept = (&raw mut (*arrived).kept).cast::<u64>();
            let mut i = 0;
            while i < KEPT / 8 {
                kept.add(i).write_unaligned(get(frame, i * 8));
                i += 1;
            }
        }
    }
    XDP_DROP
}

/// Sends a frame back to where it came from.
#[xdp]
pub fn lab_frames_bounce(ctx: XdpContext) -> u32 {
    let Some(frame) = head::<14>(&ctx) else { return XDP_PASS };
    // SAFETY: 14 bytes of the frame were checked.
    unsafe {
        let (to, from): ([u16; 3], [u16; 3]) = (get(frame, 0), get(frame, 6));
        put(frame, 0, from);
        put(frame, 6, to);
    }
    XDP_TX
}

/// XDP: sends every frame out of one interface, unchanged.
#[xdp]
pub fn lab_frames_send(_ctx: XdpContext) -> u32 {
    let Some(plan) = FRAME_PLAN.get_ptr_mut(0) else { return XDP_PASS };
    // SAFETY: a live map value; the helper has no pointers.
    unsafe { bpf_redirect((*plan).redirect, 0) as u32 }
}

/// tcx ingress: sends every packet out of one interface, unchanged.
#[classifier]
pub fn lab_frames_redirect(_ctx: TcContext) -> i32 {
    let Some(plan) = FRAME_PLAN.get_ptr_mut(0) else { return TC_ACT_UNSPEC };
    // SAFETY: a live map value; the helper has no pointers.
    unsafe { bpf_redirect((*plan).redirect, 0) as i32 }
}
