//! bpffs and cgroup2: finds them in the mount table, mounts bpffs where it is missing. Never mounts or changes a cgroup hierarchy.

use std::{fs, process::Command};

use anyhow::{Result, bail};

use super::{State, announce};
use crate::workspace::is_root;

const BPFFS: &str = "/sys/fs/bpf";

pub fn check() -> State {
    let table = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let bpffs = points(&table, "bpf").any(|p| p == BPFFS);
    match (bpffs, points(&table, "cgroup2").next()) {
        (true, Some(cgroup)) => State::Ready(format!("bpffs at {BPFFS}, cgroup2 at {cgroup}")),
        (false, _) => State::Missing(format!("bpffs at {BPFFS}")),
        (true, None) => State::Missing("a cgroup2 mount".into()),
    }
}

/// Mount points of a file system type, in the order of the table.
fn points<'a>(table: &'a str, fs_type: &'a str) -> impl Iterator<Item = &'a str> {
    table.lines().filter_map(move |line| {
        let mut words = line.split(' ').skip(1);
        let point = words.next()?;
        (words.next()? == fs_type).then_some(point)
    })
}

pub fn make() -> Result<()> {
    let table = fs::read_to_string("/proc/self/mounts")?;
    if !points(&table, "bpf").any(|p| p == BPFFS) {
        let by_hand = format!("mount -t bpf bpf {BPFFS}");
        if !is_root() {
            bail!("needs root; {by_hand}");
        }
        announce(&by_hand, Command::new("mount").args(["-t", "bpf", "bpf", BPFFS]))?;
    }
    if points(&table, "cgroup2").next().is_none() {
        // Where it belongs depends on the machine's init; a second hierarchy behind its back does harm.
        bail!(
            "no cgroup2 is mounted; a kernel with cgroup2 and its mount (usually /sys/fs/cgroup) are needed"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_found_by_type() {
        let table = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\nbpf /sys/fs/bpf bpf rw 0 0\n";
        assert_eq!(points(table, "cgroup2").collect::<Vec<_>>(), ["/sys/fs/cgroup/unified"]);
        assert_eq!(points(table, "bpf").collect::<Vec<_>>(), [BPFFS]);
        assert_eq!(points(table, "nfs").count(), 0);
    }
}
