//! The flow table, as a person or a script sees it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::ArmName;

/// One steered connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Flow {
    /// `tcp` or `udp`.
    pub proto: String,
    pub service: String,
    /// `address:port`.
    pub client: String,
    /// What the instance takes for the client, where that is another address or port.
    pub seen_as: Option<String>,
    /// The service address that the client dialled.
    pub service_addr: String,
    /// `id`; the address when the instance is in the policy no more.
    pub instance: String,
    pub instance_addr: String,
    /// `ipip` or `gue`: what packets to the instance are put into, with `nat: dsr`; none: nothing.
    pub encapsulation: Option<String>,
    pub arm: ArmName,
    /// The route that decided; none: the default.
    pub rule: Option<String>,
    /// `new`, `established`, `closing`; of UDP `active`.
    pub state: String,
    /// Since the last packet.
    pub idle_s: u64,
    /// `eth1 02:00:00:00:00:01`, `eth1 (unresolved)`; none: goes through the routing stack.
    pub next_hop: Option<String>,
}

/// Filters are joined by "and".
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct FlowQuery {
    pub service: Option<String>,
    /// The client's address.
    #[param(value_type = Option<String>)]
    #[schema(value_type = Option<String>)]
    pub src: Option<IpAddr>,
    pub arm: Option<ArmName>,
    /// At most this many, default 1000.
    pub limit: Option<usize>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Flows {
    pub flows: Vec<Flow>,
    /// How many match, shown or not.
    pub matched: u64,
}
