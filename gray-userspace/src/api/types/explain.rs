//! Asking why: for a made-up connection or a live one.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{ArmName, Flow};
use crate::model::{ClaimKind, Proto};

/// The two ends of one connection as the client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FlowTuple {
    #[schema(value_type = String, example = "tcp")]
    pub proto: Proto,
    /// The client's end.
    #[schema(value_type = String, example = "198.18.1.3:40000")]
    pub src: SocketAddr,
    /// The service address that it dialled.
    #[schema(value_type = String, example = "198.18.1.100:80")]
    pub dst: SocketAddr,
}

/// Either `live`, or a made-up connection to `service`; a claim left out is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    #[serde(default)]
    pub service: Option<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub src: Option<IpAddr>,
    /// Source port: matters only for choices by flow hash.
    #[serde(default)]
    pub sport: Option<u16>,
    #[serde(default)]
    pub mark: Option<u32>,
    /// 0..=63.
    #[serde(default)]
    pub dscp: Option<u8>,
    /// Is in the lane that it has on this node, if `lane` names none.
    #[serde(default)]
    pub workload: Option<String>,
    /// The lane that the connection is in.
    #[serde(default)]
    pub lane: Option<String>,
    /// What the request says, by claim: `{ "app": "app7" }`. Put where the service reads that claim.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, String>)]
    pub claims: BTreeMap<ClaimKind, String>,
    /// Headers of the request, each `Name: value`.
    #[serde(default)]
    pub headers: Vec<String>,
    /// Path and query of the request; default: `/`.
    #[serde(default)]
    pub path: Option<String>,
    /// The server's name in the TLS ClientHello.
    #[serde(default)]
    pub sni: Option<String>,
    /// The first protocol that the ClientHello offers.
    #[serde(default)]
    pub alpn: Option<String>,
    /// The identity that the SYN's tag says: 16 hex digits, as `claims` of an answer show them.
    #[serde(default)]
    pub tag: Option<String>,
    /// Which of the service's listeners; default: the first that fits.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub proto: Option<Proto>,
    #[serde(default)]
    pub port: Option<u16>,
    /// A connection of the flow table; excludes all other fields.
    #[serde(default)]
    pub live: Option<FlowTuple>,
}

/// A claim that was present.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClaimShown {
    pub kind: String,
    pub value: String,
    /// The fleet-keyed 64-bit hash, 16 hex digits.
    pub hash: String,
}

/// One rule that was looked at, in the order in which it was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TrailStep {
    /// The route's name.
    pub rule: String,
    /// `lane`, `explicit`, `condition`, `weight`, `default`.
    pub precedence: String,
    pub matched: bool,
    /// One line.
    pub why: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExplainReply {
    pub service: String,
    /// `198.18.1.100:80`, `[fd00::1]:53/udp`.
    pub listener: String,
    pub claims: Vec<ClaimShown>,
    /// `source 198.18.1.3`; none: no `identify` claim was present.
    pub identity: Option<String>,
    pub trail: Vec<TrailStep>,
    /// 0..10000, when a percentage or weight by identity took part.
    pub bucket: Option<u16>,
    /// The bucket had to lie below this, in basis points.
    pub threshold: Option<u16>,
    /// The rule that decided; none: the default.
    pub route: Option<String>,
    pub arm: ArmName,
    /// `version=2.0`.
    pub subset: String,
    /// `id (address)`; none: the connection is left alone or refused.
    pub instance: Option<String>,
    /// The reason's label.
    pub reason: String,
    /// The answer in one sentence.
    pub text: String,
    /// The epoch whose tables answered.
    pub epoch: u64,
    /// Of a live connection: what the flow table holds. All else is what a new connection would get now.
    pub held: Option<Flow>,
    /// Of a live connection: by which of the rules in force now it is held, those before it, and what must have been known of its
    /// client then. Empty: that rule is gone.
    #[serde(default)]
    pub held_trail: Vec<TrailStep>,
    /// Instances of the service that get no new connections because of their health: `shop-2a (down)`.
    pub out: Vec<String>,
}
