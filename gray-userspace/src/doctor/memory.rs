//! Checks that the maps fit: memory of the machine and of the agent's own cgroup (maps are charged to their maker).

use std::path::{Path, PathBuf};

use super::{DoctorInput, Finding, fail, host::Host, ok, warn};
use crate::sys::mounts;

/// What the kernel accounts for all maps but the flow tables when an agent begins (Linux 6.18: `memlock` of their fdinfo).
pub const OTHER_BYTES: u64 = 193 << 20;

/// ... and for both flow tables of so many entries.
pub fn flow_bytes(flows: u32) -> u64 {
    const ENTRY: u64 = 152;
    2 * ENTRY * u64::from(flows)
}

pub(super) fn headroom(input: &DoctorInput, host: &Host) -> Vec<Finding> {
    let need = input.map_bytes;
    let machine = host.text("/proc/meminfo").as_deref().and_then(available);
    let room = [
        machine.map(|b| (b, "available on this machine")),
        cgroup_room(input, host).map(|b| (b, "left below memory.max of the agent's cgroup")),
    ];
    let Some((room, what)) = room.into_iter().flatten().min() else {
        return vec![warn("cannot read /proc/meminfo", "mount proc on /proc")];
    };
    let text = format!("full maps take {}, {} {what}", mib(need), mib(room));
    let fix = "lower the table sizes, or give more memory";
    vec![if need > room {
        fail(text, fix)
    } else if need > room / 2 {
        warn(text, fix)
    } else {
        ok(text)
    }]
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

/// `MemAvailable` of /proc/meminfo, in bytes.
pub(super) fn available(meminfo: &str) -> Option<u64> {
    let kib = meminfo.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    kib.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The least that a limit from the agent's cgroup up to the root leaves; `None` without a limit.
fn cgroup_room(input: &DoctorInput, host: &Host) -> Option<u64> {
    let who = input.agent.map_or_else(|| "self".into(), |pid| pid.to_string());
    let membership = host.text(&format!("/proc/{who}/cgroup"))?;
    let inside = membership.lines().find_map(|l| l.strip_prefix("0::/"))?;
    let mounts = host.mounts();
    let mount = &mounts::cgroup2(&mounts)?.point;
    let number = |dir: &Path, file: &str| -> Option<u64> {
        std::fs::read_to_string(host.path(&dir.join(file))).ok()?.trim().parse().ok()
    };
    let dir: PathBuf = mount.join(inside);
    dir.ancestors()
        .take_while(|d| d.starts_with(mount))
        .filter_map(|d| Some(number(d, "memory.max")?.saturating_sub(number(d, "memory.current")?)))
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_meminfo() {
        assert_eq!(available("MemTotal: 9 kB\nMemAvailable:   24436720 kB\n"), Some(24_436_720 * 1024));
        assert_eq!(available("MemAvailable: x kB"), None);
        assert_eq!(available("MemAvailable: 18446744073709551615 kB"), None);
        assert_eq!(available(""), None);
    }
}
