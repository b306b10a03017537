//! The agent at a glance.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The splice listener of this node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SpliceStatus {
    /// Address and port that it says, one of each family; none: nobody listens.
    pub at: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    pub version: String,
    /// Number of the layout of the pinned objects.
    pub abi: u32,
    /// Kernel release, as uname(2) gives it.
    pub kernel: String,
    pub pid: u32,
    pub uptime_s: u64,
    /// Number of the policy in force; 0: none yet.
    pub epoch: u64,
    pub revision: Option<u64>,
    pub attachments: Vec<AttachmentStatus>,
    /// None: the connect path is switched off.
    pub connect: Option<ConnectStatus>,
    /// Of this node: what services with `zone-affinity` prefer. None: the agent was given none.
    #[serde(default)]
    pub zone: Option<String>,
    /// What programs cannot read is handed over to a splice listener (`gray agent --splice`); none: it is decided without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub splice: Option<SpliceStatus>,
    pub policy: PolicySize,
    pub flows: FlowTable,
    /// Only those that are not zero, largest first.
    pub counters: Vec<Counter>,
    /// Decision events that found the ring buffer full.
    pub events_lost: u64,
    pub services: Vec<ServiceCounts>,
    /// Those that are up.
    pub alarms: Vec<AlarmStatus>,
    /// Services with a breaker.
    #[serde(default)]
    pub breakers: Vec<BreakerStatus>,
    /// Services with a health check.
    pub health: Vec<ServiceHealth>,
    /// Why the kernel's tables are not what health says; tried again and again.
    pub health_error: Option<String>,
    /// None: the agent follows no directory.
    #[serde(default)]
    pub policy_dir: Option<PolicyDirStatus>,
    /// Of cohorts whose tenants a strategy with a `layer` chose.
    #[serde(default)]
    pub layers: Vec<LayerStatus>,
    /// Of workloads with a link: how well their calls follow their requests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<super::LinkStatus>,
    /// What keeps changes from being written down: its disk is full, nothing is held back for a way back, or it is gone. None: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_dir_error: Option<String>,
}

/// The gray metadata layer of a cohort's tenants, by the latest choice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LayerStatus {
    pub cohort: String,
    /// On the list now.
    pub tenants: u64,
    /// Tenants of the table that they were chosen from.
    pub of: u64,
    /// Its size, in basis points of the formal layer's.
    pub basis_points: u16,
    /// Tenants that a layer of this size is for: so many entries of the identity table are the cohort's to take.
    pub identities: u64,
    /// Entries that the table has for it.
    pub room: u64,
}

/// The directory whose files are the policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyDirStatus {
    #[schema(value_type = String)]
    pub dir: PathBuf,
    /// `applied`, `refused` (the policy before stays in force), `empty` (so does it), `unreadable` (so does it).
    pub state: String,
    /// RFC 3339: since when it is in this state.
    pub since: String,
    /// Documents in it.
    pub files: u64,
    /// What these files were applied as; none: by an agent before this one, or not.
    pub revision: Option<u64>,
    /// What is wrong, a line each.
    pub problems: Vec<String>,
}

/// An alarm that is up: too many requests name none of the claims of their service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AlarmStatus {
    pub service: String,
    /// `over 10 % in 30s`.
    pub rule: String,
    /// RFC 3339: since when it is up.
    pub since: String,
    /// Of the latest window, and how many of these name none of the claims.
    pub requests: u64,
    pub missing: u64,
    /// Why the last notice did not arrive; none: it did, or is on its way.
    pub error: Option<String>,
}

/// The circuit breaker of a service's gray arm. All counts are since the counters began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BreakerStatus {
    pub service: String,
    /// `5 failures in 10s, open for 30s`.
    pub rule: String,
    /// `open` or `closed`.
    pub state: String,
    /// Failures of gray.
    pub failures: u64,
    /// How often it opened.
    pub opens: u64,
    /// Connections that it kept with stable.
    pub kept: u64,
}

/// The instances of a service, by health.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServiceHealth {
    pub service: String,
    /// `http /ready every 2s`.
    pub check: String,
    /// With their whole weight.
    pub up: u64,
    /// Up, with a part of it.
    pub starting: u64,
    pub down: u64,
    /// Have not answered yet.
    pub new: u64,
    /// Some subset is all down, and is sent to as if all of it were up.
    pub kept: bool,
    /// What is wrong, in one line; none: nothing.
    pub text: Option<String>,
}

/// One interface of the packet path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AttachmentStatus {
    pub iface: String,
    /// None: there is no such interface at present.
    pub ifindex: Option<u32>,
    /// `edge`, `backend` or `host`.
    pub role: String,
    /// `tcx` or `clsact`; none while not attached.
    pub hook: Option<String>,
    /// In front of the hook: `native` XDP; none: nothing.
    pub xdp: Option<String>,
    /// Why there is no XDP, or what it leaves to the hook.
    pub xdp_note: Option<String>,
    /// Tags of SYNs that come in there are believed.
    #[serde(default)]
    pub trusts_tags: bool,
    /// `attached`, `waiting`, `failed`.
    pub state: String,
    /// RFC 3339: since when it is in this state.
    pub since: String,
    pub error: Option<String>,
}

/// The cgroup programs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConnectStatus {
    #[schema(value_type = String)]
    pub cgroup: PathBuf,
    /// `attached`, `waiting` (there is no such cgroup yet, or not any more), `failed`.
    pub state: String,
    /// `connect4`, `sendmsg6`, ...
    pub programs: Vec<String>,
    pub error: Option<String>,
    /// Why sockets do not say their lane, though they should: what writes tags is not attached. They are steered all the same.
    #[serde(default)]
    pub tags_error: Option<String>,
    /// Why calls of workloads with a link are in no lane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub links_error: Option<String>,
    /// Why what becomes of callers' connections, or their first words, are not counted; steering goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uncounted: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicySize {
    pub services: u64,
    pub cohorts: u64,
    pub routes: u64,
    pub identities: u64,
    pub prefixes: u64,
    pub rules: u64,
}

/// Entries of the flow tables. `capacity` is per address family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FlowTable {
    pub v4: u64,
    pub v6: u64,
    pub capacity: u64,
}

/// One reason of the list of reasons, summed over all CPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Counter {
    /// The metric label.
    pub reason: String,
    pub count: u64,
    /// One sentence.
    pub doc: String,
}

/// Decisions of one service since the counters began. Failovers count where they went; how many there were is in
/// `Status::counters`, for all services together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServiceCounts {
    pub service: String,
    pub gray: u64,
    pub stable: u64,
    /// Of those of stable: whom a route would have sent to gray while the service was in shadow. None: it never was.
    pub shadow: Option<u64>,
    /// ... and while no agent had renewed its lease (`on-agent-lost: stable`). None: there never was such a lease.
    #[serde(default)]
    pub agent_lost: Option<u64>,
}
