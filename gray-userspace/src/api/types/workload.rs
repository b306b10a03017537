//! Names for callers: which cgroup is which workload.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{api::ApiError, store::WorkloadKind};

/// Gives a cgroup the workload's name. Exactly one of `cgroup`, `unit`, `container`, `pod`, `pid` says which.
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
    /// A container's id, or 12 digits and more of its beginning (Docker, Podman, containerd, CRI-O).
    #[serde(default)]
    pub container: Option<String>,
    /// The uid of a Kubernetes pod: all its containers.
    #[serde(default)]
    pub pod: Option<String>,
    /// The cgroup that this process is in now.
    #[serde(default)]
    pub pid: Option<u32>,
    /// The lane that its calls are in. The policy may know it or not.
    #[serde(default)]
    pub lane: Option<String>,
    /// `thread`, `run-to-completion` or `strict`: its calls are in the lane of the requests that it serves, if it has none of its own.
    /// None: they are in no lane.
    #[serde(default)]
    pub link: Option<String>,
}

impl WorkloadSet {
    /// Which processes are meant: by exactly one of the ways.
    pub fn which(&self) -> Result<(WorkloadKind, String), ApiError> {
        let ways = [
            self.cgroup.as_ref().map(|c| (WorkloadKind::Cgroup, c.display().to_string())),
            self.unit.clone().map(|u| (WorkloadKind::Unit, u)),
            self.container.clone().map(|c| (WorkloadKind::Container, c)),
            self.pod.clone().map(|p| (WorkloadKind::Pod, p)),
            self.pid.map(|p| (WorkloadKind::Pid, p.to_string())),
        ];
        let mut given = ways.into_iter().flatten();
        match (given.next(), given.next()) {
            (Some(way), None) => Ok(way),
            _ => Err(ApiError::unusable(
                "a workload needs exactly one of cgroup, unit, container, pod and pid",
                "say which processes it is by one of them",
            )),
        }
    }
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
    /// As it was set: its calls are in the lane of the requests that it serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<LinkStatus>,
    /// What the policy in force says that it is: `version`, `zone` ..
    #[serde(default)]
    pub meta: BTreeMap<String, String>,
}

/// How well a workload's calls follow the requests that it serves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LinkStatus {
    pub workload: String,
    /// `thread`, `run-to-completion` or `strict`.
    pub mode: String,
    /// Calls to services.
    pub calls: u64,
    /// ... by connections that were made in another lane than that of the request at hand.
    pub other_lane: u64,
    /// What is wrong with it, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// Whose tag is asked for: a workload's, a process's, or, with neither, the caller's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TagQuery {
    /// By name.
    #[serde(default)]
    #[param(required = false)]
    pub workload: Option<String>,
    /// A process of this node.
    #[serde(default)]
    #[param(required = false)]
    pub pid: Option<u32>,
}

/// What a process marks its messages with, and which messages are its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tag {
    /// The lane that its calls are in, or `stable`.
    pub tag: String,
    /// The workload that it is of; none: of none.
    pub workload: Option<String>,
    /// The lane of the workload's label, whether the policy has it or not.
    pub lane: Option<String>,
    /// False: the policy in force has no such lane, and the tag is `stable`. None: it has no lane.
    pub lane_known: Option<bool>,
}
