//! The pointer arithmetic and the raw helper calls: the only place, with `maps.rs`, where `unsafe` reaches memory
//! that the kernel owns.

mod fib;
mod head;
pub mod ops;
pub mod skb;
pub mod sock;
mod tag;
pub mod trace;
pub mod words;
pub mod xdp;

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_ns, bpf_loop};

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

/// A length from 1 to `most`, as verifiers understand it: of two comparisons the compiler makes one of another register.
#[inline(always)]
pub fn length(n: u32, most: u32) -> Option<u32> {
    let less = opaque(n.wrapping_sub(1));
    if less >= most { None } else { Some(less + 1) }
}

/// A 0 that the verifier takes for 0 or 1: values that start from it do not split its paths.
#[inline(always)]
pub fn unknown_zero() -> u64 {
    jiffies() >> 63
}

/// Adds one to a counter that all CPUs share; what it was before (Linux 5.12).
#[inline(always)]
pub fn taken(counter: *mut u64) -> u64 {
    fetch_add(counter, 1)
}

/// Adds to a counter that other programs of this CPU may interrupt (Linux 5.12).
#[inline(always)]
pub fn add(counter: &mut u64, n: u64) {
    let _ = fetch_add(counter, n);
}

#[inline(always)]
fn fetch_add(counter: *mut u64, mut n: u64) -> u64 {
    // SAFETY: a map's element, eight bytes and aligned; the instruction changes nothing else.
    unsafe {
        core::arch::asm!(
            "{n} = atomic_fetch_add((u64 *)({at} + 0), {n})",
            at = in(reg) counter,
            n = inout(reg) n,
            options(nostack),
        );
    }
    n
}

/// Changes `at` from `old` to `new`, if it is `old`; what it was before (Linux 5.12).
#[inline(always)]
pub fn exchange(at: *mut u64, old: u64, new: u64) -> u64 {
    let was: u64;
    // SAFETY: a map's element, eight bytes and aligned; the instruction changes nothing else.
    unsafe {
        core::arch::asm!(
            "r0 = cmpxchg_64({at} + 0, r0, {new})",
            at = in(reg) at,
            new = in(reg) new,
            inout("r0") old => was,
            options(nostack),
        );
    }
    was
}

/// Calls `f` with 0, 1 .. `n` - 1 until it answers false. The verifier looks at `f` as a function of its own and not `n`
/// times (Linux 5.17).
#[inline(always)]
pub fn repeat<F: FnMut(u32) -> bool>(n: u32, mut f: F) {
    // SAFETY: the helper calls `step::<F>` with the pointer to `f`, which lives until it returns.
    let _ = unsafe { bpf_loop(n, step::<F> as *mut c_void, core::ptr::from_mut(&mut f).cast(), 0) };
}

/// 0 goes on, 1 ends the loop.
unsafe extern "C" fn step<F: FnMut(u32) -> bool>(i: u32, f: *mut c_void) -> i64 {
    // SAFETY: `repeat` passes the pointer to a live `F`, used by nobody else meanwhile.
    let f = unsafe { &mut *f.cast::<F>() };
    i64::from(!f(i))
}
