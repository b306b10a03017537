//! Names for callers: which cgroup is which workload.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Gives a cgroup the workload's name. Exactly one of `cgroup`, `unit`, `pid` says which.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkloadSet {
    pub name: String,
    /// Path below the cgroup2 mount, or an absolute path in it.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub cgroup: Option<PathBuf>,
    /// A systemd unit.
    #[serde(default)]
    pub unit: Option<String>,
    /// The cgroup that this process is in now.
    #[serde(default)]
    pub pid: Option<u32>,
    /// The lane that its calls are in. The policy may know it or not.
    #[serde(default)]
    pub lane: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Workload {
    pub name: String,
    #[schema(value_type = String)]
    pub cgroup: PathBuf,
    pub cgroup_id: u64,
    /// `active`; `gone`: the cgroup exists no more.
    pub state: String,
    /// The lane that its calls are in.
    #[serde(default)]
    pub lane: Option<String>,
    /// False: the policy in force has no such lane, and the label's is without effect. None: it has no lane.
    #[serde(default)]
    pub lane_known: Option<bool>,
}
