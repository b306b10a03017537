//! Every request and reply of the API. This is the stable JSON contract: fields are added, never renamed or removed.
//! Requests refuse unknown fields; replies may gain fields, so clients must ignore what they do not know.

mod audit;
mod choice;
mod cohort;
mod doctor;
mod error;
mod event;
mod explain;
mod flow;
mod instance;
mod key;
mod policy;
mod release;
mod status;
mod view;
mod workload;

pub use audit::*;
pub use choice::*;
pub use cohort::*;
pub use doctor::*;
pub use error::*;
pub use event::*;
pub use explain::*;
pub use flow::*;
pub use instance::*;
pub use key::*;
pub use policy::*;
pub use release::*;
pub use status::*;
pub use view::*;
pub use workload::*;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One side of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ArmName {
    Gray,
    Stable,
}

impl ArmName {
    pub fn name(self) -> &'static str {
        match self {
            Self::Gray => "gray",
            Self::Stable => "stable",
        }
    }
}

/// Which of the places that decide has decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DecisionPath {
    /// cgroup connect/sendmsg, on the caller's node.
    Connect,
    /// tcx, on a packet.
    Packet,
}

impl DecisionPath {
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Packet => "packet",
        }
    }
}

/// What an edit leads to: the numbers that a script waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Done {
    /// The revision that holds the change, when it is one that is kept.
    pub revision: Option<u64>,
    /// The epoch in force after the change.
    pub epoch: Option<u64>,
    /// One sentence for a person.
    pub text: String,
}
