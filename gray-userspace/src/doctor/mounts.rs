//! Checks of the file systems that gray lives on: bpffs for its pins, cgroup2 for the connect path.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Component, Path},
};

use super::{DoctorInput, Finding, fail, host::Host, ok, warn};
use crate::sys::mounts;

pub(super) fn bpffs(input: &DoctorInput, host: &Host) -> Vec<Finding> {
    let (dir, mounts) = (&input.bpffs, host.mounts());
    let shown = dir.display();
    let Some(on) = mounts::holding(&mounts, dir).filter(|m| m.fstype == "bpf") else {
        return vec![fail(format!("{shown} is not on a bpf file system"), "mount -t bpf bpf /sys/fs/bpf")];
    };
    if on.read_only {
        return vec![fail(
            format!("{} is mounted read-only", on.point.display()),
            format!("mount -o remount,rw {}", on.point.display()),
        )];
    }
    let mode = std::fs::metadata(host.path(dir)).map(|m| m.permissions().mode() & 0o777);
    match mode {
        // The mount's own root is shared by nature: pins go into a directory of their own.
        Ok(mode) if mode & 0o077 != 0 && on.point != *dir => vec![warn(
            format!("{shown} is open to others (mode {mode:o}): pinned maps are guarded by file modes alone"),
            format!("chmod 700 {shown}"),
        )],
        _ => vec![ok(format!("{shown} on {}", on.point.display()))],
    }
}

pub(super) fn owner(input: &DoctorInput, host: &Host) -> Vec<Finding> {
    let shown = input.bpffs.display();
    vec![match (host.bpffs_owner, input.agent) {
        (None, _) => ok(format!("nobody uses {shown}")),
        (Some(pid), Some(agent)) if pid == agent => {
            ok(format!("{shown} belongs to the agent, process {pid}"))
        }
        (Some(pid), _) if pid == std::process::id() => ok(format!("{shown} belongs to this agent")),
        (Some(pid), _) => {
            fail(format!("process {pid} uses {shown}"), "stop that agent, or give this one its own --bpffs")
        }
    }]
}

pub(super) fn cgroup(input: &DoctorInput, host: &Host) -> Vec<Finding> {
    let mounts = host.mounts();
    let Some(mount) = mounts::cgroup2(&mounts) else {
        return vec![fail(
            "no cgroup2 file system is mounted",
            "mount -t cgroup2 none /sys/fs/cgroup/unified",
        )];
    };
    let point = &mount.point;
    let Some(chosen) = &input.cgroup else { return vec![ok(format!("cgroup2 on {}", point.display()))] };
    let shown = chosen.display();
    if !chosen.starts_with(point) || chosen.components().any(|c| c == Component::ParentDir) {
        return vec![fail(
            format!("{shown} is not inside the cgroup2 mount {}", point.display()),
            format!("give --cgroup a path below {}", point.display()),
        )];
    }
    if !host.path(&chosen.join("cgroup.procs")).exists() {
        return vec![fail(format!("{shown} is no cgroup"), format!("mkdir {shown}"))];
    }
    if mount.root != Path::new("/") {
        return vec![warn(
            format!("{} shows only the part {} of the hierarchy", point.display(), mount.root.display()),
            "run the agent in the host's cgroup namespace to steer all of the host",
        )];
    }
    vec![ok(format!("{shown} on cgroup2"))]
}
