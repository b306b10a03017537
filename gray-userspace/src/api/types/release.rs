//! Releases: starting one, telling it something, and what it is at.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::SourceText;
use crate::release::{Compared, Counts, Judged, Verb};

/// Starts a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseStart {
    pub source: SourceText,
    /// Only check it.
    #[serde(default)]
    pub dry_run: bool,
    /// Why, for the history.
    #[serde(default)]
    pub message: Option<String>,
}

/// What becomes of established connections of gray.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RecallMode {
    /// They are closed when the grace is over.
    #[default]
    Drain,
    /// They are closed now.
    Reset,
}

/// Tells a release something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseCommand {
    pub verb: Verb,
    /// Of `jump`: the stage, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<u32>,
    /// Of `recall`.
    #[serde(default)]
    pub mode: RecallMode,
    /// Of `recall` by `drain`, milliseconds. Default: 30 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_ms: Option<u64>,
    /// Why, for the history.
    #[serde(default)]
    pub message: Option<String>,
}

/// A release at a glance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReleaseView {
    pub name: String,
    /// The gray version number.
    pub version: String,
    pub formal: String,
    /// As people are told: `ramp 2`, `paused (ramp 2)`.
    pub state: String,
    /// `requested`, `deploying`, `data`, `deploy-verify`, `gray-verify`, `gray-period`, `ramp`, `aligning`, `done`, `stopped`, `abnormal`,
    /// `recalling`, `failed`, `closed`; `unreadable`: another gray has made it.
    pub phase: String,
    /// `paused`, `frozen`, or none.
    pub held: Option<String>,
    /// Of the ramp, from 1; none outside of it.
    pub stage: Option<u32>,
    pub stages: u32,
    /// What each stage of it sends to gray: `25 % and beta`.
    #[serde(default)]
    pub ramp: Vec<String>,
    /// Why it is there.
    pub reason: String,
    /// RFC 3339: when this phase or stage began.
    pub since: String,
    /// What of the traffic is in force: `25 % and beta to gray`. `waits_for` says when another share is asked for.
    pub traffic: String,
    pub services: Vec<ReleasedView>,
    /// Of both arms since the stage began; since the phase began outside of the ramp.
    pub measured: Vec<Counts>,
    /// What measures say of the stage; none outside of the ramp.
    pub judged: Option<Judged>,
    /// The comparisons behind it, by service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub compared: Vec<Compared>,
    /// What it waits for, in words. Empty: for nothing.
    pub waits_for: Vec<String>,
    /// RFC 3339.
    pub started: String,
    pub who: String,
    /// Nothing will happen to it any more.
    pub over: bool,
}

/// One service of a release.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReleasedView {
    pub service: String,
    pub gray: String,
}

/// One line of a release's history.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReleaseEvent {
    /// RFC 3339.
    pub at: String,
    /// RFC 3339: when the run of the release was started that it belongs to.
    pub run: String,
    /// `start`, `script`, `transition`, `command`, `step`, `traffic`, `counters`, `unknown`, `error`.
    pub what: String,
    pub from: String,
    pub to: String,
    pub text: String,
    /// What a decision was made on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<ReleaseEvidence>,
}

/// What a decision was made on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReleaseEvidence {
    /// So long the stage has lasted, milliseconds.
    pub time_ms: u64,
    pub judged: Judged,
    /// Since the stage began.
    pub counts: Vec<Counts>,
    /// The comparisons behind it, by service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub compared: Vec<Compared>,
}

/// How much of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ReleaseHistoryQuery {
    /// At most this many, the newest first.
    #[serde(default = "default_limit")]
    #[param(required = false, default = 1000)]
    pub limit: u64,
}

fn default_limit() -> u64 {
    1000
}
