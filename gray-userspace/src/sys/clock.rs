//! The kernel's clock.

use rustix::time::{ClockId, clock_gettime};

/// `CLOCK_MONOTONIC`, as `bpf_ktime_get_ns` counts.
pub fn monotonic_ns() -> u64 {
    let t = clock_gettime(ClockId::Monotonic);
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}
