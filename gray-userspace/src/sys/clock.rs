//! The kernel's clocks.

use std::{sync::OnceLock, time::SystemTime};

use rustix::time::{ClockId, clock_gettime};

/// `CLOCK_MONOTONIC`, as `bpf_ktime_get_ns` counts.
pub fn monotonic_ns() -> u64 {
    let t = clock_gettime(ClockId::Monotonic);
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// What the machine's clocks say at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Another one after each boot; `None`: the kernel does not say.
    pub boot: Option<&'static str>,
    /// `CLOCK_BOOTTIME`: goes on evenly until the next boot, also while the machine sleeps.
    pub boottime_ms: u64,
    /// Unix milliseconds, which may be set to anything at any time.
    pub wall_ms: u64,
}

pub fn read() -> Reading {
    let t = clock_gettime(ClockId::Boottime);
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Reading {
        boot: boot(),
        boottime_ms: t.tv_sec as u64 * 1000 + t.tv_nsec as u64 / 1_000_000,
        wall_ms: wall.as_millis() as u64,
    }
}

fn boot() -> Option<&'static str> {
    static BOOT: OnceLock<Option<String>> = OnceLock::new();
    let read = || {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(id.trim().to_owned()).filter(|id| !id.is_empty())
    };
    BOOT.get_or_init(read).as_deref()
}
