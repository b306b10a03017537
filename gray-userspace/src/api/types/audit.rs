//! The audit log: who did what, when, and the chain of hashes that says that nobody changed it.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// One record of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// 1, 2, 3 ..
    pub seq: u64,
    /// RFC 3339, UTC.
    pub at: String,
    /// `uid:NAME`, or `agent`.
    pub who: String,
    /// `begin`, `activate`, `fail`, `interrupt` of a revision; `workload-set`, `workload-remove`, `key export` and the like.
    pub action: String,
    pub revision: Option<u64>,
    /// JSON for `begin`, `fail` and `interrupt`, else text.
    pub detail: String,
    /// SHA-256 over this record and the hash before it, hex.
    pub hash: String,
}

/// A log that nobody changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditVerified {
    pub records: u64,
    /// Revisions whose documents, lists and state are what the log says.
    pub revisions: u64,
    /// The hash of the last record; kept elsewhere, it tells of a log that was cut off or made anew.
    pub head: String,
}

/// Which part of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// At most this many, the newest first; 1000 is the most.
    #[serde(default = "default_limit")]
    #[param(required = false, default = 100)]
    pub limit: u64,
    /// Only records before this one.
    #[serde(default)]
    #[param(required = false)]
    pub before: Option<u64>,
}

fn default_limit() -> u64 {
    100
}
