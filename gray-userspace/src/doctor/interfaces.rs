//! Checks of the attached interfaces: there and up, forwarding, reverse path filter, redirects, MTU, XDP on veth.

use super::{DoctorInput, Finding, Interface, fail, host::Host, ok, warn};
use crate::sys::netlink::Xdp;

/// One finding for each interface that has something to say, else `fine`.
fn each(
    input: &DoctorInput,
    concerns: impl Fn(&Interface) -> bool,
    fine: &str,
    look: impl Fn(&str) -> Vec<Finding>,
) -> Vec<Finding> {
    let concerned: Vec<_> = input.interfaces.iter().filter(|i| usable(&i.name) && concerns(i)).collect();
    if concerned.is_empty() {
        return vec![ok("no attached interface that it concerns")];
    }
    let found: Vec<_> = concerned.iter().flat_map(|i| look(&i.name)).collect();
    if found.is_empty() { vec![ok(fine)] } else { found }
}

/// A name that the kernel would take: it becomes part of a path below /proc.
fn usable(name: &str) -> bool {
    !name.is_empty() && name.len() < 16 && name != "." && name != ".." && !name.contains(['/', '\0'])
}

pub(super) fn present(input: &DoctorInput, host: &Host) -> Vec<Finding> {
    let links = match &host.links {
        Ok(links) => links,
        Err(e) => {
            return vec![fail(format!("cannot list the links: {e}"), "allow the agent netlink sockets")];
        }
    };
    let mut found = Vec::new();
    for Interface { name, error, .. } in &input.interfaces {
        match links.iter().find(|l| l.name == *name) {
            None => {
                let there: Vec<_> = links.iter().map(|l| l.name.as_str()).take(20).collect();
                found.push(fail(
                    format!("no interface `{name}` in this network namespace"),
                    format!("it has: {}", there.join(", ")),
                ));
            }
            Some(l) if !l.up => found.push(warn(format!("{name} is down"), format!("ip link set {name} up"))),
            Some(l) if !l.carrier => {
                found.push(warn(
                    format!("{name} has no carrier"),
                    "check the cable, or set the veth's other end up",
                ));
            }
            Some(_) => {}
        }
        if let Some(error) = error {
            found.push(fail(
                format!("no program of gray is on {name}: {error}"),
                "see the agent's log; an agent that starts anew makes its directories and pins again",
            ));
        }
    }
    if found.is_empty() { vec![ok(format!("{} attached, all up", input.interfaces.len()))] } else { found }
}

/// `bpf_fib_lookup` answers BPF_FIB_LKUP_RET_FWD_DISABLED where forwarding is off, and the stack drops what falls to it.
pub(super) fn forwarding(input: &DoctorInput, host: &Host) -> Vec<Finding> {
    each(
        input,
        |i| i.role.forwards(),
        "on",
        |name| {
            let off =
                |family: &str| host.sysctl::<u8>(&format!("net/{family}/conf/{name}/forwarding")) == Some(0);
            let fix = |family: &str| format!("sysctl -w net/{family}/conf/{name}/forwarding=1");
            let mut found = Vec::new();
            if off("ipv4") {
                found.push(fail(format!("{name} does not forward IPv4"), fix("ipv4")));
            }
            if off("ipv6") {
                found.push(warn(format!("{name} does not forward IPv6"), fix("ipv6")));
            }
            found
        },
    )
}

/// The kernel takes the larger value of `all` and of the interface (ip-sysctl); 1 is strict, 2 loose.
pub(super) fn rp_filter(input: &DoctorInput, host: &Host) -> Vec<Finding> {
    let of = |name: &str| host.sysctl::<u8>(&format!("net/ipv4/conf/{name}/rp_filter")).unwrap_or(0);
    each(
        input,
        |i| i.role.forwards(),
        "not strict",
        |name| {
            if of(name).max(of("all")) != 1 {
                return Vec::new();
            }
            vec![warn(
                format!(
                    "{name} drops packets that come in on another way than replies leave (strict rp_filter)"
                ),
                format!("sysctl -w net/ipv4/conf/{name}/rp_filter=2"),
            )]
        },
    )
}

/// On if `all` or the interface says so: then a client on the same segment as the instance is told to go there directly.
pub(super) fn send_redirects(input: &DoctorInput, host: &Host) -> Vec<Finding> {
    let of = |name: &str| host.sysctl::<u8>(&format!("net/ipv4/conf/{name}/send_redirects")) == Some(1);
    each(
        input,
        |i| i.role == super::Role::Edge,
        "off",
        |name| {
            if !of(name) && !of("all") {
                return Vec::new();
            }
            vec![warn(
                format!("{name} may tell clients to go around this node (ICMP redirects)"),
                format!("sysctl -w net/ipv4/conf/all/send_redirects=0 net/ipv4/conf/{name}/send_redirects=0"),
            )]
        },
    )
}

pub(super) fn mtu(input: &DoctorInput, host: &Host) -> Vec<Finding> {
    let forwarding = input.interfaces.iter().filter(|i| i.role.forwards());
    let mut mtus: Vec<(u32, &str)> =
        forwarding.filter_map(|i| Some((host.link(&i.name)?.mtu, &*i.name))).collect();
    mtus.sort_unstable();
    match (mtus.first(), mtus.last()) {
        (Some((least, _)), Some((most, _))) if least != most => {
            let list: Vec<_> = mtus.iter().map(|(mtu, name)| format!("{name} {mtu}")).collect();
            vec![warn(
                format!("MTUs differ ({}): larger packets leave the fast path", list.join(", ")),
                format!("give all of them {least}, or let path MTU discovery (ICMP) pass"),
            )]
        }
        (Some((mtu, _)), _) => vec![ok(format!("{mtu} everywhere"))],
        _ => vec![ok("no attached interface that it concerns")],
    }
}

pub(super) fn xdp_on_veth(input: &DoctorInput, host: &Host) -> Vec<Finding> {
    each(
        input,
        |_| true,
        "none",
        |name| {
            let slow = host.link(name).filter(|l| l.kind.as_deref() == Some("veth"));
            if !slow.is_some_and(|l| matches!(l.xdp, Xdp::Native | Xdp::Several)) {
                return Vec::new();
            }
            vec![warn(
                format!("{name} is a veth with native XDP: bulk TCP is 3 to 5 times slower through it"),
                format!("ip link set {name} xdp off, or attach gray without `:xdp` there"),
            )]
        },
    )
}
