//! What can go wrong in the store, as text for an operator. No recovery logic.

use std::{io, path::PathBuf};

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("state directory {path}: {source}")]
    Dir { path: PathBuf, source: io::Error },
    #[error(
        "state directory {path} is in use by {holder}; stop that agent or give this one its own --state-dir"
    )]
    Locked { path: PathBuf, holder: String },
    #[error(
        "{path}: schema version {found} is newer than {known}, the newest this gray knows; use the gray that wrote it"
    )]
    Newer { path: PathBuf, found: u32, known: u32 },
    #[error("{path}: not a gray store (application id {found:#x}); give another --state-dir")]
    Foreign { path: PathBuf, found: u32 },
    #[error(
        "{path} is damaged: {detail}; move it aside and restore a copy, or start without it and apply the policy again"
    )]
    Corrupt { path: PathBuf, detail: String },
    #[error("{path}: {source}")]
    Sqlite { path: PathBuf, source: rusqlite::Error },
    #[error("the disk of {dir} is full: make room there; what takes a release back is written all the same", dir = dir.display())]
    Full { dir: PathBuf },
    #[error(
        "no room is held back in {dir}, the disk is nearly full: make room there, or a release may not be taken back",
        dir = dir.display()
    )]
    NoBallast { dir: PathBuf },
    #[error(
        "the state directory {dir} was removed or replaced: nothing would be kept; restart the agent, and apply the policy again",
        dir = dir.display()
    )]
    Gone { dir: PathBuf },
    #[error("revision {rev} is not settled yet; activate, fail or interrupt it first")]
    Pending { rev: u64 },
    #[error("based on {}, but {} is active; read it again and retry", rev(*.base), rev(*.active))]
    Conflict { base: Option<u64>, active: Option<u64> },
    #[error("no revision {rev}")]
    NoRevision { rev: u64 },
    #[error("what revision {rev} held was dropped; `gray history` shows those that can be restored")]
    Dropped { rev: u64 },
    #[error("revision {rev} never took effect ({state}); nothing to restore")]
    NeverActive { rev: u64, state: &'static str },
    #[error("revision {rev} is {state}, not pending")]
    NotPending { rev: u64, state: &'static str },
    #[error("{what}")]
    Invalid { what: String },
    #[error("audit: {what}")]
    Tampered { what: String },
}

fn rev(rev: Option<u64>) -> String {
    rev.map_or_else(|| "no revision".into(), |r| format!("revision {r}"))
}

impl Error {
    pub(super) fn invalid(what: impl Into<String>) -> Self {
        Self::Invalid { what: what.into() }
    }
}
