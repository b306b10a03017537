//! Decisions as they happen, as newline-delimited JSON.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{ArmName, DecisionPath};

/// One sampled decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// RFC 3339, UTC, with microseconds.
    pub at: String,
    /// `tcp` or `udp`.
    pub proto: String,
    pub service: String,
    /// `address:port`; the port is 0 on the connect path, where it does not exist yet.
    pub client: String,
    pub arm: ArmName,
    /// The route that decided; none: the default.
    pub rule: Option<String>,
    /// The reason's label.
    pub reason: String,
    /// None: left alone or refused.
    pub instance: Option<String>,
    pub path: DecisionPath,
}

/// An instance came up or went down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HealthEvent {
    /// RFC 3339, UTC, with microseconds.
    pub at: String,
    pub service: String,
    pub instance: String,
    /// `up` or `down`.
    pub health: String,
    /// What the last probe said.
    pub text: String,
}

/// A request that names none of the claims that its service looks for. The query of its target and all values of headers are
/// left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MissingEvent {
    /// RFC 3339, UTC, with microseconds.
    pub at: String,
    pub service: String,
    /// `address:port`
    pub client: String,
    /// What there was instead: `http`, `bad-head`, `part-of-a-head`, `tls`, `http2`, `proxy`, `other`.
    pub missing: String,
    /// `GET /path`
    pub request: Option<String>,
    /// Names of its headers, as far as they stand in its first 512 bytes.
    pub headers: Vec<String>,
    /// Of `tls`.
    pub server_name: Option<String>,
}

/// An alarm on requests that name none of the claims of their service was raised, or is over. The same is POSTed to its webhook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AlarmEvent {
    /// RFC 3339, UTC.
    pub at: String,
    pub service: String,
    /// `raised` or `cleared`.
    pub alarm: String,
    /// `over 10 % in 30s`.
    pub rule: String,
    /// Of the latest window, and how many of these name none of the claims.
    pub requests: u64,
    pub missing: u64,
}

/// The breaker of a service opened, or is closed again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BreakerEvent {
    /// RFC 3339, UTC: when the agent saw it.
    pub at: String,
    pub service: String,
    /// `open` or `closed`.
    pub breaker: String,
    /// `5 failures in 10s, open for 30s`.
    pub rule: String,
    /// Failures of gray that it ever counted.
    pub failures: u64,
}

/// The files of the policy directory were applied, or could not be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyEvent {
    /// RFC 3339, UTC.
    pub at: String,
    /// As `PolicyDirStatus::state`.
    pub policy: String,
    #[schema(value_type = String)]
    pub dir: PathBuf,
    pub revision: Option<u64>,
    /// What is wrong, in one line.
    pub text: String,
}

/// One line of the event stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum EventLine {
    Event(Event),
    Health(HealthEvent),
    Missing(MissingEvent),
    Alarm(AlarmEvent),
    Breaker(BreakerEvent),
    Policy(PolicyEvent),
    /// This reader was too slow: so many events were skipped here.
    Lost {
        lost: u64,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventsQuery {
    /// Go on with events as they happen; else end after the recent ones.
    #[serde(default)]
    #[param(required = false)]
    pub follow: bool,
    /// How many of the latest events to begin with, at most 1024; default 20.
    pub recent: Option<usize>,
    /// Only this service.
    pub service: Option<String>,
}
