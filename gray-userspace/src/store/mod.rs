//! The store's contract: revisions, live list edits, the audit log. No policy semantics, no clock, no kernel.
//!
//! A revision is written as `pending`, together with its audit record, before anything takes effect. The caller then
//! acts and settles it: `activate`, `fail` or `interrupt`. At most one revision is pending and at most one is active,
//! and a draft must name the active one as its base, so the revisions that ever took effect form one chain.
//!
//! Who opens a store that holds a pending revision (the agent died in between) must settle it first: `activate` when the
//! kernel shows that it took effect, else `interrupt`.

mod error;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
pub mod key;
mod sqlite;
mod state_dir;
mod types;

#[cfg(test)]
mod contract;

use std::ops::ControlFlow;

pub use error::{Error, Result};
pub use sqlite::{Auditor, BALLAST, Retention, Sqlite};
pub use state_dir::StateDir;
pub use types::{
    AuditRecord, Draft, EditSummary, Kind, Link, ListEdit, LogEntry, Mark, Note, Op, OverlayInfo, Release,
    Revision, Source, SourceRef, State, Verified, Workload, WorkloadKind,
};

/// Times (`at`) are unix milliseconds and come from the caller. Revision ids count 1, 2, 3 .. with no gap.
pub trait Store: Send {
    /// Writes a pending revision and its audit record, in one step with [`Self::commit`]; returns its id. Readers of this
    /// store see it already, a crash takes it back.
    ///
    /// # Errors
    /// [`Error::Pending`] while another one is unsettled, [`Error::Conflict`] when `draft.base` is not the active
    /// revision, [`Error::NoRevision`] / [`Error::NeverActive`] for `restore_lists_of`, [`Error::Invalid`].
    fn prepare(&mut self, draft: &Draft) -> Result<u64>;

    /// What was prepared is durable when this returns, or taken back when it fails. `false`: nothing was prepared.
    fn commit(&mut self) -> Result<bool>;

    /// [`Self::prepare`] and [`Self::commit`].
    fn begin(&mut self, draft: &Draft) -> Result<u64> {
        let id = self.prepare(draft)?;
        let _ = self.commit()?;
        Ok(id)
    }

    /// The pending revision took effect. The former active one becomes `superseded`.
    fn activate(&mut self, rev: u64, at: u64) -> Result<()>;

    /// The pending revision did not take effect: its list edits are undone, its record stays.
    fn fail(&mut self, rev: u64, at: u64, reason: &str) -> Result<()>;

    /// As `fail`, for a revision whose agent died before it took effect.
    fn interrupt(&mut self, rev: u64, at: u64, reason: &str) -> Result<()>;

    fn active(&self) -> Result<Option<Revision>>;

    fn pending(&self) -> Result<Option<Revision>>;

    /// # Errors
    /// [`Error::NoRevision`].
    fn revision(&self, rev: u64) -> Result<Revision>;

    /// Newest first, below `before` when given.
    fn history(&self, limit: usize, before: Option<u64>) -> Result<Vec<Revision>>;

    /// The document of a revision, in the order given; inherited from its base when the draft named none.
    fn sources(&self, rev: u64) -> Result<Vec<Source>>;

    /// The opaque assignments of a revision (JSON text); inherited like the sources. `None`: never given.
    fn assignments(&self, rev: u64) -> Result<Option<String>>;

    /// Every cohort that has live edits at `rev`, by name.
    fn overlays(&self, rev: u64) -> Result<Vec<(String, OverlayInfo)>>;

    /// What is laid over the document's own ids of `cohort` at `rev`; zeros when nothing is.
    fn overlay_info(&self, rev: u64, cohort: &str) -> Result<OverlayInfo>;

    /// Streams the overlay of `cohort` at `rev` in byte order of the ids, until `visit` breaks.
    /// For a pending revision its own edits are included; for a failed or interrupted one they are not.
    fn overlay(
        &self,
        rev: u64,
        cohort: &str,
        visit: &mut dyn FnMut(Mark, &str) -> ControlFlow<()>,
    ) -> Result<()>;

    /// Appends an audit record for a mutation that is not a revision (key import, uninstall ..), before its effect.
    fn record(&mut self, note: &Note<'_>) -> Result<u64>;

    /// Newest first, below `before` when given.
    fn audit(&self, limit: usize, before: Option<u64>) -> Result<Vec<AuditRecord>>;

    /// Recomputes the audit chain and compares it with the revisions and their stored texts.
    ///
    /// # Errors
    /// [`Error::Tampered`] names the first record or revision that does not fit.
    fn verify(&self) -> Result<Verified>;
}
