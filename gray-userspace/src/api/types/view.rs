//! What `gray get` shows of the policy in force.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServiceView {
    pub name: String,
    /// `198.18.1.100:80`, `[fd00::1]:53/udp`.
    pub listen: Vec<String>,
    /// Claim names, in order.
    pub identify: Vec<String>,
    /// `stable` or `deny`.
    pub on_missing_identity: String,
    /// `5 failures in 10s, open for 30s`; none: it has none.
    #[serde(default)]
    pub breaker: Option<String>,
    /// `keep`, or `stable after 30s`.
    #[serde(default)]
    pub on_agent_lost: String,
    /// `dnat`, `snat` or `dsr`.
    pub nat: String,
    /// Of `dsr`: `ipip` or `gue`.
    pub encapsulation: Option<String>,
    /// `maglev` or `round-robin`.
    pub balance: String,
    /// `connection` or `client`.
    pub affinity: String,
    /// `off`, `prefer` or `only`.
    #[serde(default)]
    pub zone_affinity: String,
    /// `http /ready every 2s`; none: instances are taken as up.
    pub health: Option<String>,
    /// Its routes decide and are counted, and everybody goes to stable.
    pub shadow: bool,
    /// `version=1.0`.
    pub stable: String,
    pub instances: u64,
    /// Names of the routes that can take its traffic, in the order of precedence.
    pub routes: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstanceView {
    pub service: String,
    pub id: String,
    pub address: String,
    /// `version`, `zone`, ...
    pub meta: BTreeMap<String, String>,
    pub weight: u16,
    /// `active` or `draining`.
    pub state: String,
    /// RFC 3339: when what is still open is closed; none: it lives on.
    pub deadline: Option<String>,
    /// In the stable subset.
    pub stable: bool,
    /// Connections that go on, by the flow table; none when they were not counted.
    pub flows: Option<u64>,
    /// None: its service has no health check.
    pub health: Option<InstanceHealth>,
}

/// What is known of an instance that is probed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstanceHealth {
    /// `up`; `starting`: up, with a part of its weight; `down`; `held`: down for coming and going too often; `new`: it has
    /// not answered yet.
    pub state: String,
    /// Per cent of its weight.
    pub share: u32,
    /// RFC 3339: since when it is up or down.
    pub since: String,
    /// What the last probe said; none: there was none yet.
    pub last: Option<String>,
    /// Microseconds that it took.
    pub took_us: Option<u64>,
    pub passed: u64,
    pub failed: u64,
    /// Verdicts: times that it came up or went down.
    pub changes: u64,
    /// Seconds that it is held down for yet.
    pub held_s: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CohortView {
    pub name: String,
    /// `list`, `percent`, `tail` or `joined`.
    pub kind: String,
    /// The claim it is about; none: the identity, or what others are about.
    pub of: Option<String>,
    /// Entries of the list; 0 for what is none.
    pub size: u64,
    pub basis_points: Option<u16>,
    /// Of one that is made of others: `any(early,not(office))`.
    #[serde(default)]
    pub joined: Option<String>,
    /// Live edits since the document: entries added and removed.
    pub edited: bool,
}

/// One side of a route and its share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ArmView {
    /// `version=2.0`.
    pub subset: String,
    pub basis_points: u16,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RouteView {
    pub name: String,
    /// None: every service.
    pub service: Option<String>,
    /// The condition as text; none: everybody.
    pub when: Option<String>,
    /// `lane`, `explicit`, `condition`, `weight`.
    pub precedence: String,
    /// Of a route into a lane.
    #[serde(default)]
    pub lane: Option<String>,
    /// None of a route into a lane.
    pub to: Vec<ArmView>,
    /// Decisions by this rule since the counters began.
    pub decisions: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LaneView {
    pub name: String,
    /// What it is called in the kernel and between nodes; never another lane's.
    pub number: u32,
    /// By service: `version=2.0`.
    pub services: BTreeMap<String, String>,
    /// Names of the routes that lead into it.
    pub routes: Vec<String>,
    /// Workloads of this node whose calls are in it.
    pub workloads: Vec<String>,
    /// Decisions about connections in it since the counters began; those of routes are the routes'.
    pub decisions: u64,
}
