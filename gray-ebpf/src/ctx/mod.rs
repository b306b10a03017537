//! The pointer arithmetic and the raw helper calls: the only place, with `maps.rs`, where `unsafe` reaches memory
//! that the kernel owns.

pub mod skb;
pub mod sock;

use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_ns};

/// Timer ticks since boot. Costs a fraction of a nanosecond where the JIT inlines it.
#[inline(always)]
pub fn jiffies() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_jiffies64() }
}

/// `CLOCK_MONOTONIC` in ns. About 40 ns: never per packet.
#[inline(always)]
pub fn ktime_ns() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_ktime_get_ns() }
}

/// The same value, with whatever the compiler knew of it forgotten, so that a bounds check is not optimised away
/// before the verifier has seen it.
#[inline(always)]
pub fn opaque(x: u32) -> u32 {
    // SAFETY: a read of a live local.
    unsafe { core::ptr::read_volatile(&x) }
}

/// A 0 that the verifier takes for 0 or 1: values that start from it do not split its paths.
#[inline(always)]
pub fn unknown_zero() -> u64 {
    jiffies() >> 63
}
