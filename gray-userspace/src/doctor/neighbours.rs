//! Checks for others that steer or track the same packets: conntrack, kube-proxy, Cilium.

use std::path::Path;

use super::{DoctorInput, Finding, host::Host, ok, warn};

/// Conntrack is in use when it has entries: built in, it is always there.
pub(super) fn conntrack(_: &DoctorInput, host: &Host) -> Vec<Finding> {
    let number = |name| host.sysctl::<u64>(&format!("net/netfilter/{name}"));
    let (count, max) = (number("nf_conntrack_count"), number("nf_conntrack_max"));
    let Some(count) = count.filter(|c| *c > 0) else { return vec![ok("not in use")] };
    let full = max.is_some_and(|max| max > 0 && count.saturating_mul(10) >= max.saturating_mul(9));
    vec![if full {
        warn(
            format!(
                "nf_conntrack is nearly full ({count} of {}): new connections that are not steered get dropped",
                max.unwrap_or(0)
            ),
            "sysctl -w net.netfilter.nf_conntrack_max=N with a larger N",
        )
    } else {
        warn(
            format!(
                "nf_conntrack tracks {count} connections, but no steered ones: `ct state` rules do not see them"
            ),
            "do not rely on `ct state` for steered services; see the firewall check",
        )
    }]
}

pub(super) fn kube_proxy(_: &DoctorInput, host: &Host) -> Vec<Finding> {
    let mut signs = Vec::new();
    if host.rules().any(|r| r.contains("KUBE-SERVICES")) {
        signs.push("KUBE-SERVICES chains");
    }
    if host.rules().any(|r| r.contains("table ip kube-proxy") || r.contains("table ip6 kube-proxy")) {
        signs.push("nftables table kube-proxy");
    }
    if host.link("kube-ipvs0").is_some() {
        signs.push("interface kube-ipvs0");
    }
    if signs.is_empty() {
        return vec![ok("not here")];
    }
    vec![warn(
        format!("kube-proxy is beside us ({}): it also rewrites service addresses", signs.join(", ")),
        "do not `listen` on its ClusterIPs and NodePorts, or use addresses that it does not know",
    )]
}

pub(super) fn cilium(_: &DoctorInput, host: &Host) -> Vec<Finding> {
    let mut signs = Vec::new();
    let links = host.links.as_deref().unwrap_or_default();
    if links
        .iter()
        .any(|l| ["cilium_host", "cilium_net", "cilium_vxlan", "cilium_geneve"].contains(&&*l.name))
    {
        signs.push("interface cilium_host");
    }
    let pins = |dir: &str, prefix: &str| {
        let entries = std::fs::read_dir(host.path(Path::new(dir))).into_iter().flatten().flatten();
        entries.take(10_000).any(|e| e.file_name().to_string_lossy().starts_with(prefix))
    };
    if pins("/sys/fs/bpf", "cilium") || pins("/sys/fs/bpf/tc/globals", "cilium_") {
        signs.push("pins in bpffs");
    }
    if signs.is_empty() {
        return vec![ok("not here")];
    }
    vec![warn(
        format!(
            "Cilium is beside us ({}): its tc and cgroup programs run on the same hooks",
            signs.join(", ")
        ),
        "do not `listen` on its service addresses; set bpf.tcx on so that both keep their place",
    )]
}
