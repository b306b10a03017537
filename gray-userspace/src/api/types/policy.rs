//! Applying a policy, its history and the way back.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Problem;

/// One document of a policy. Several are merged into one policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceText {
    /// Name for error messages; usually the file's path as the caller wrote it, `-` for standard input.
    pub name: String,
    /// YAML or JSON.
    pub text: String,
}

/// Makes the given documents the whole policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApplyRequest {
    pub sources: Vec<SourceText>,
    /// Validate, compile and compare, change nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Why, for the history.
    #[serde(default)]
    pub message: Option<String>,
    /// Refused where another revision is in force; 0 is none.
    #[serde(default)]
    pub if_revision: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChangeOp {
    Add,
    Remove,
    Change,
}

/// One difference between the policy in force and the new one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Change {
    pub op: ChangeOp,
    /// `service`, `instance`, `cohort`, `route`, ...
    pub kind: String,
    pub name: String,
    /// What differs, one line; empty when kind and name say it all.
    pub detail: String,
}

/// How much the change writes to kernel tables, by table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WriteSummary {
    pub services: u64,
    pub listeners: u64,
    pub instances: u64,
    pub rules: u64,
    pub targets: u64,
    pub identities: u64,
    /// Prefixes of IPv6, and networks of 16 bits in which prefixes of IPv4 changed.
    pub prefixes: u64,
    pub classes: u64,
    /// Maglev tables.
    pub tables: u64,
}

/// When the steps of a change were done, in ns of the node's monotonic clock (that of `gray events` and of the kernel).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Timings {
    /// The agent began with it.
    pub received_ns: u64,
    /// Everything is in the kernel's tables, and nobody sees it.
    pub prepared_ns: u64,
    /// The revision and its audit record are on disk.
    pub durable_ns: u64,
    /// Every new decision is the new policy's.
    pub flipped_ns: u64,
    /// The record says so, too.
    pub settled_ns: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApplyReply {
    /// The revision made; none for a dry run and when nothing changed.
    pub revision: Option<u64>,
    /// The epoch in force now; none for a dry run.
    pub epoch: Option<u64>,
    pub changes: Vec<Change>,
    pub writes: WriteSummary,
    /// The policy is good, but its author may want to know.
    pub warnings: Vec<Problem>,
    /// The policy in force says the same already: no revision was made.
    pub unchanged: bool,
    /// None for a dry run and when nothing changed.
    #[serde(default)]
    pub timings: Option<Timings>,
}

/// One kept revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HistoryEntry {
    pub revision: u64,
    /// RFC 3339, UTC.
    pub at: String,
    /// `uid:NAME`.
    pub who: String,
    /// The message given with the change.
    pub why: Option<String>,
    /// What made it: `apply`, `cohort`, `rollback`, `instance`, ...
    pub kind: String,
    /// `pending`, `active`, `superseded`, `failed`, `interrupted`, and `dropped`: in force once, too old to be kept; it cannot be restored.
    pub state: String,
    /// One line.
    pub summary: String,
    /// Kept by the agent that made the change, as long as it runs.
    #[serde(default)]
    pub timings: Option<Timings>,
}

/// Makes an earlier revision's policy the policy again, as a new revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    pub revision: u64,
    #[serde(default)]
    pub message: Option<String>,
}
