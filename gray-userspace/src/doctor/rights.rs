//! Checks that the agent may do what it must: capabilities of its process.

use super::{DoctorInput, Finding, fail, host::Host, ok, warn};

const SYS_ADMIN: u64 = 1 << 21;
/// Bit, name, and whether CAP_SYS_ADMIN includes it (capabilities(7)).
const NEEDED: [(u64, &str, bool); 3] =
    [(1 << 39, "CAP_BPF", true), (1 << 12, "CAP_NET_ADMIN", false), (1 << 38, "CAP_PERFMON", true)];

/// Why this process cannot run an agent, and what to do; `None`: it may, or that cannot be read.
pub fn refusal() -> Option<(String, String)> {
    let missing = missing(effective(&std::fs::read_to_string("/proc/self/status").ok()?)?);
    (!missing.is_empty()).then(|| complaint("this process", &missing))
}

fn complaint(who: &str, missing: &[&str]) -> (String, String) {
    let (commas, spaces) = (missing.join(", "), missing.join(" "));
    let fix = format!("run the agent as root, or give it AmbientCapabilities={spaces} in its unit");
    (format!("{who} lacks {commas}"), fix)
}

pub(super) fn capabilities(input: &DoctorInput, host: &Host) -> Vec<Finding> {
    let who = input.agent.map_or_else(|| "self".into(), |pid| pid.to_string());
    let Some(have) = host.text(&format!("/proc/{who}/status")).as_deref().and_then(effective) else {
        return vec![warn(
            format!("cannot read the capabilities of process {who}"),
            "run gray doctor as root",
        )];
    };
    let missing = missing(have);
    if missing.is_empty() {
        return vec![ok("CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON")];
    }
    let (what, fix) = complaint(&format!("process {who}"), &missing);
    vec![fail(what, fix)]
}

pub(super) fn effective(status: &str) -> Option<u64> {
    let hex = status.lines().find_map(|l| l.strip_prefix("CapEff:"))?;
    u64::from_str_radix(hex.trim(), 16).ok()
}

pub(super) fn missing(have: u64) -> Vec<&'static str> {
    let covered = |bit: u64, by_admin: bool| have & bit != 0 || (by_admin && have & SYS_ADMIN != 0);
    NEEDED.iter().filter(|(bit, _, by_admin)| !covered(*bit, *by_admin)).map(|(_, name, _)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_status_and_knows_what_sys_admin_includes() {
        let all = effective("Name:\tx\nCapPrm:\t0\nCapEff:\t000001ffffffffff\n").unwrap();
        assert!(missing(all).is_empty());
        assert_eq!(missing(0), ["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"]);
        assert_eq!(missing(SYS_ADMIN), ["CAP_NET_ADMIN"]);
        assert_eq!(missing(1 << 39 | 1 << 12), ["CAP_PERFMON"]);
        assert_eq!(effective("CapEff: zz"), None);
        assert_eq!(effective(""), None);
    }
}
