//! `gray doctor`: what on this host breaks or weakens steering, and what to do about it. Reads only, changes nothing.

mod firewall;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod host;
mod interfaces;
mod kernel;
mod links;
mod memory;
mod mounts;
mod neighbours;
pub mod rights;
mod routing;

use std::{fmt, path::PathBuf};

use serde::{Deserialize, Serialize};

use host::Host;
pub use links::{Linked, Links};
pub use memory::{OTHER_BYTES, flow_bytes};

/// What the agent uses or would use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoctorInput {
    /// The agent's directory for pins; it need not exist yet.
    pub bpffs: PathBuf,
    /// Where the connect path attaches; `None`: the root cgroup.
    pub cgroup: Option<PathBuf>,
    pub interfaces: Vec<Interface>,
    /// Bytes that the maps take when they are full.
    pub map_bytes: u64,
    /// The running agent, whose rights are looked at; `None`: this process.
    pub agent: Option<u32>,
    pub links: Links,
}

/// An interface that the packet path attaches to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    pub role: Role,
    /// Why no program of ours is on it, as the agent found when it looked last.
    pub error: Option<String>,
}

/// Which side of the traffic an interface is on; the names of `--attach IFACE=ROLE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Edge,
    Backend,
    Host,
    Lo,
}

impl Role {
    /// Packets of others pass through it.
    fn forwards(self) -> bool {
        matches!(self, Self::Edge | Self::Backend)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Ok,
    /// Works, but not as well or not as safely as it could.
    Warn,
    /// Steering does not work, or not here.
    Fail,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        })
    }
}

/// One finding. A check gives one when all is well, else one for each thing that is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Stable, for scripts: one of [`names`].
    pub name: String,
    pub status: Status,
    pub detail: String,
    /// What to do, a command where there is one.
    pub fix: Option<String>,
}

/// What a check found, before it has the check's name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    status: Status,
    detail: String,
    fix: Option<String>,
}

fn ok(detail: impl Into<String>) -> Finding {
    Finding { status: Status::Ok, detail: detail.into(), fix: None }
}

fn warn(detail: impl Into<String>, fix: impl Into<String>) -> Finding {
    Finding { status: Status::Warn, detail: detail.into(), fix: Some(fix.into()) }
}

fn fail(detail: impl Into<String>, fix: impl Into<String>) -> Finding {
    Finding { status: Status::Fail, detail: detail.into(), fix: Some(fix.into()) }
}

type Run = fn(&DoctorInput, &Host) -> Vec<Finding>;

/// In the order shown: from what stops everything to what is good to know.
const CHECKS: &[(&str, Run)] = &[
    ("kernel", kernel::version),
    ("btf", kernel::btf),
    ("jit", kernel::jit),
    ("unprivileged-bpf", kernel::unprivileged),
    ("capabilities", rights::capabilities),
    ("bpffs", mounts::bpffs),
    ("bpffs-owner", mounts::owner),
    ("cgroup", mounts::cgroup),
    ("memory", memory::headroom),
    ("interfaces", interfaces::present),
    ("forwarding", interfaces::forwarding),
    ("rp-filter", interfaces::rp_filter),
    ("send-redirects", interfaces::send_redirects),
    ("mtu", interfaces::mtu),
    ("xdp-on-veth", interfaces::xdp_on_veth),
    ("links", links::follow),
    ("firewall", firewall::bypassed),
    ("routing-marks", routing::marks),
    ("ipsec", routing::ipsec),
    ("conntrack", neighbours::conntrack),
    ("kube-proxy", neighbours::kube_proxy),
    ("cilium", neighbours::cilium),
];

/// Looks at this host from the calling thread's network namespace. Takes milliseconds, more where `nft` lists much.
pub fn run(input: &DoctorInput) -> Vec<Check> {
    checks(input, &Host::here(input))
}

/// The names of all checks, in order.
pub fn names() -> impl Iterator<Item = &'static str> {
    CHECKS.iter().map(|(name, _)| *name)
}

fn checks(input: &DoctorInput, host: &Host) -> Vec<Check> {
    let named = |(name, run): &(&str, Run)| {
        let name = (*name).to_owned();
        run(input, host).into_iter().map(move |f| Check {
            name: name.clone(),
            status: f.status,
            detail: f.detail,
            fix: f.fix,
        })
    };
    CHECKS.iter().flat_map(named).collect()
}

#[cfg(test)]
mod tests;
