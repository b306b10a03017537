//! Checks of the kernel itself: version, BTF, JIT, who may load programs.

use super::{DoctorInput, Finding, fail, host::Host, ok, warn};
use crate::sys::kernel::{KernelVersion, OLDEST, TCX};

pub(super) fn version(_: &DoctorInput, host: &Host) -> Vec<Finding> {
    let release = host.text("/proc/sys/kernel/osrelease").unwrap_or_default();
    let Some(v) = KernelVersion::parse(&release) else {
        return vec![warn(
            format!("the kernel's release `{}` has no version", release.trim()),
            "look at uname -r",
        )];
    };
    vec![if let Some(why) = v.needs(OLDEST, "gray") {
        fail(why, "boot a newer kernel")
    } else if v < TCX {
        warn(
            format!(
                "Linux {v}: no tcx, the packet path attaches by clsact, where order among programs is not kept"
            ),
            format!("boot {TCX} or newer if others attach tc programs here too"),
        )
    } else {
        ok(format!("Linux {v}, tcx"))
    }]
}

pub(super) fn btf(_: &DoctorInput, host: &Host) -> Vec<Finding> {
    vec![match host.path("/sys/kernel/btf/vmlinux".as_ref()).exists() {
        true => ok("/sys/kernel/btf/vmlinux"),
        false => fail(
            "no BTF of the kernel",
            "boot a kernel with CONFIG_DEBUG_INFO_BTF=y, and mount sysfs on /sys",
        ),
    }]
}

pub(super) fn jit(_: &DoctorInput, host: &Host) -> Vec<Finding> {
    vec![match host.sysctl::<u8>("net/core/bpf_jit_enable") {
        Some(0) => {
            warn("the BPF JIT is off: every packet is interpreted", "sysctl -w net.core.bpf_jit_enable=1")
        }
        Some(_) => ok("on"),
        None => ok("not visible from this network namespace"),
    }]
}

pub(super) fn unprivileged(_: &DoctorInput, host: &Host) -> Vec<Finding> {
    vec![match host.sysctl::<u8>("kernel/unprivileged_bpf_disabled") {
        Some(0) => warn(
            "every user may load BPF programs, which speculation attacks use",
            "sysctl -w kernel.unprivileged_bpf_disabled=2",
        ),
        Some(n) => ok(format!("only with CAP_BPF ({n})")),
        None => ok("not visible here"),
    }]
}
