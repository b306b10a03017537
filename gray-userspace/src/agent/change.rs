//! Every change of what is in force goes this way: compile, record, write, flip, settle the record. A failure before the
//! flip leaves the old policy in force; the record says what happened.

use std::collections::BTreeSet;

use crate::{
    api::{ApiError, ErrorKind, Who, types::WriteSummary},
    compile::{
        self, Circumstances, CompileError, Compiled,
        lists::{Entry, Lists},
        plan::{self, Want, Write},
    },
    datapath::Datapath as _,
    fail::{self, Point},
    kernel::KernelError,
    model::{CohortBody, Policy, parse_member},
    store::{Draft, Kind, Mark, Store as _, key::HashKey as StoredKey},
};

use super::{
    core::{Inner, wire_key},
    time,
};

/// A service that is new to the kernel takes TCP connections found in mid-stream as stable's own for so long.
pub const ADOPT_NS: u64 = 120_000_000_000;

/// What becomes of the explicit lists.
pub enum ListsChange {
    /// As they are.
    Same,
    /// These entries go on (true) or off a list, by its bit.
    Edit(Vec<(u32, Entry, bool)>),
    /// From the documents and the live edits of the new revision.
    Rebuild,
}

/// A change, ready to be made.
pub struct Change {
    pub draft: Draft,
    pub policy: Policy,
    pub drained: BTreeSet<String>,
    pub lists: ListsChange,
    /// A new hash key.
    pub key: Option<StoredKey>,
}

/// What a change led to.
#[derive(Clone, Copy, Debug)]
pub struct Changed {
    pub revision: u64,
    pub epoch: u64,
    pub writes: WriteSummary,
}

impl Inner {
    /// A draft on the active revision.
    pub fn draft(&self, kind: Kind, who: &Who, why: Option<String>, summary: String) -> Draft {
        let base = (self.revision != 0).then_some(self.revision);
        let mut draft = Draft::new(kind, base, time::now_ms(), who.to_string(), summary);
        draft.why = why.unwrap_or_default();
        draft
    }

    /// A change that keeps everything but what the caller then replaces.
    pub fn keep(&self, draft: Draft) -> Change {
        Change {
            draft,
            policy: self.policy.clone(),
            drained: self.drained.clone(),
            lists: ListsChange::Same,
            key: None,
        }
    }

    /// Compiles without changing anything.
    pub fn compile(&self, policy: &Policy, drained: &BTreeSet<String>) -> Result<Compiled, ApiError> {
        let mut around =
            Circumstances { drained: drained.clone(), adopt_until_ns: self.adopt_until_ns.clone() };
        let until = time::monotonic_ns() + ADOPT_NS;
        for s in &policy.services {
            let known = s.listen.iter().all(|l| {
                let key = compile::listener_key(l);
                self.have.listeners.get(&key).is_some_and(|v| v.at(self.have.epoch) != 0)
            });
            if !known {
                let _ = around.adopt_until_ns.insert(s.name.clone(), until);
            }
        }
        compile::compile(policy, &self.compiled.assigned, &around).map_err(too_large)
    }

    /// Makes a change: all of it, or none.
    pub fn change(&mut self, mut change: Change) -> Result<Changed, ApiError> {
        self.settle_record()?;
        let compiled = self.compile(&change.policy, &change.drained)?;
        let assigned = serde_json::to_string(&compiled.assigned).map_err(|e| ApiError::internal(&e))?;
        change.draft.assignments = Some(assigned);
        change.draft.drained = Some(change.drained.clone());
        fail::point(Point::ChangeCompiled).map_err(|e| ApiError::internal(&e))?;
        let revision = self.store.begin(&change.draft).map_err(|e| ApiError::internal(&e))?;
        let done = self.carry_out(revision, &change, &compiled);
        match done {
            Ok(writes) => {
                self.revision = revision;
                self.adopt_until_ns = change
                    .policy
                    .services
                    .iter()
                    .zip(&compiled.services)
                    .map(|(s, c)| (s.name.clone(), c.adopt_until_ns))
                    .collect();
                self.policy = change.policy;
                self.compiled = compiled;
                self.drained = change.drained;
                if let Some(key) = change.key {
                    self.key = key;
                    self.rekeyed = true;
                }
                self.suspect = false;
                self.untidy = true;
                fail::point(Point::ChangeFlipped).map_err(|e| ApiError::internal(&e))?;
                if self.rekeyed {
                    StoredKey::take_staged(&self.state_dir).map_err(|e| ApiError::internal(&e))?;
                    fail::point(Point::KeyTaken).map_err(|e| ApiError::internal(&e))?;
                }
                let settled = self.store.activate(revision, time::now_ms());
                settled.map_err(|e| ApiError::internal(&e))?;
                fail::point(Point::ChangeActivated).map_err(|e| ApiError::internal(&e))?;
                Ok(Changed { revision, epoch: self.have.epoch, writes })
            }
            Err(e) => {
                self.suspect = true;
                tracing::error!(revision, error = %e.error, "the change failed; the policy before it stays in force");
                // Before the record is settled: a pending revision tells the next agent what a staged key is.
                if change.key.is_some()
                    && let Err(e) = StoredKey::drop_staged(&self.state_dir)
                {
                    tracing::error!(error = %e, "cannot remove the hash key that did not take effect");
                }
                if let Err(e) = self.store.fail(revision, time::now_ms(), &e.error) {
                    tracing::error!(revision, error = %e, "cannot record the failure");
                }
                match self.live.read() {
                    Ok(have) => self.have = have,
                    Err(e) => tracing::error!(error = %e, "cannot read the kernel's tables"),
                }
                Err(e)
            }
        }
    }

    fn carry_out(
        &mut self,
        revision: u64,
        change: &Change,
        compiled: &Compiled,
    ) -> Result<WriteSummary, ApiError> {
        fail::point(Point::ChangeBegun).map_err(|e| ApiError::internal(&e))?;
        self.tidy()?;
        let key = wire_key(change.key.as_ref().unwrap_or(&self.key));
        let mut touched = Some(Vec::new());
        let mut undo: Vec<(u32, Entry, bool)> = Vec::new();
        let mut before = None;
        match &change.lists {
            ListsChange::Same => {}
            ListsChange::Edit(edits) => {
                for (bit, entry, on) in edits {
                    if self.lists.set(*bit, *entry, *on) {
                        undo.push((*bit, *entry, !on));
                    }
                }
                touched = Some(edits.iter().map(|(_, e, _)| *e).collect());
            }
            ListsChange::Rebuild => {
                let fresh = build_lists(&self.store, revision, &change.policy, compiled, key)?;
                before = Some(std::mem::replace(&mut self.lists, fresh));
                touched = None;
            }
        }
        if self.suspect {
            touched = None;
        }
        let done = self.write(revision, change, compiled, key, touched.as_deref());
        if done.is_err() {
            if let Some(lists) = before {
                self.lists = lists;
            }
            for (bit, entry, on) in undo.into_iter().rev() {
                let _ = self.lists.set(bit, entry, on);
            }
        }
        done
    }

    fn write(
        &mut self,
        revision: u64,
        change: &Change,
        compiled: &Compiled,
        key: gray_common::hash::HashKey,
        touched: Option<&[Entry]>,
    ) -> Result<WriteSummary, ApiError> {
        let want = Want { revision, key, compiled, lists: &self.lists, touched };
        let steps = plan::plan(&mut self.have, &want).map_err(too_large)?;
        fail::point(Point::ChangePlanned).map_err(|e| ApiError::internal(&e))?;
        if let Some(k) = &change.key {
            k.stage(&self.state_dir).map_err(|e| ApiError::internal(&e))?;
            fail::point(Point::ChangeKey).map_err(|e| ApiError::internal(&e))?;
            self.rehash_workloads(key)?;
        }
        for step in &steps {
            fail_before(step).map_err(|e| ApiError::internal(&e))?;
            self.live.write(step).map_err(|e| ApiError::internal(&e))?;
        }
        Ok(summary(&steps))
    }

    /// Removes what the last flip left behind, once no run can still see it. Also makes the idle bank free to fill.
    pub fn tidy(&mut self) -> Result<(), ApiError> {
        if !self.untidy {
            return Ok(());
        }
        fail::point(Point::TidyBegin).map_err(|e| ApiError::internal(&e))?;
        self.live.settle().map_err(|e| ApiError::internal(&e))?;
        fail::point(Point::TidySettled).map_err(|e| ApiError::internal(&e))?;
        if self.rekeyed {
            self.relabel()?;
            self.rekeyed = false;
        }
        if let Some(step) = plan::forget(&mut self.have, &self.compiled, &self.lists) {
            self.live.write(&step).map_err(|e| ApiError::internal(&e))?;
        }
        self.untidy = false;
        fail::point(Point::TidyDone).map_err(|e| ApiError::internal(&e))
    }

    /// A revision that took effect but whose record could not be settled then.
    fn settle_record(&mut self) -> Result<(), ApiError> {
        let internal = |e: crate::store::Error| ApiError::internal(&e);
        if let Some(p) = self.store.pending().map_err(internal)? {
            if p.id == self.revision {
                self.store.activate(p.id, time::now_ms()).map_err(internal)?;
            } else {
                self.store.interrupt(p.id, time::now_ms(), "it never took effect").map_err(internal)?;
            }
        }
        Ok(())
    }
}

/// An error here reads as one of the kernel's would.
fn fail_before(step: &Write) -> Result<(), KernelError> {
    let at =
        |point| fail::point(point).map_err(|source| KernelError::Write { what: step.to_string(), source });
    at(Point::ChangeWrite)?;
    if matches!(step, Write::Flip { .. }) { at(Point::ChangeFlip) } else { Ok(()) }
}

/// The lists of a revision, from its document and its live edits.
pub fn build_lists(
    store: &dyn crate::store::Store,
    revision: u64,
    policy: &Policy,
    compiled: &Compiled,
    key: gray_common::hash::HashKey,
) -> Result<Lists, ApiError> {
    let mut lists = Lists::default();
    for c in &policy.cohorts {
        let CohortBody::List { of, ids } = &c.body else { continue };
        let Some(bit) = compiled.assigned.lists.get(&c.name) else { continue };
        let mut set = |id: &str, on: bool| match parse_member(*of, id) {
            Ok(m) => drop(lists.set(bit, compile::lists::entry(key, *of, &m), on)),
            // The cohort changed its kind since the live edit.
            Err(e) => tracing::warn!(cohort = c.name, "a live entry is skipped: {e}"),
        };
        let internal = |e: crate::store::Error| ApiError::internal(&e);
        if !store.overlay_info(revision, &c.name).map_err(internal)?.replaces_document {
            ids.iter().for_each(|id| set(id, true));
        }
        store
            .overlay(revision, &c.name, &mut |mark, id| {
                set(id, mark == Mark::Added);
                std::ops::ControlFlow::Continue(())
            })
            .map_err(internal)?;
    }
    Ok(lists)
}

pub fn too_large(e: CompileError) -> ApiError {
    ApiError::new(
        ErrorKind::Invalid,
        e.to_string(),
        "nothing was changed; make the policy smaller and apply it again",
    )
}

fn summary(steps: &[Write]) -> WriteSummary {
    let mut s = WriteSummary::default();
    for step in steps {
        match step {
            Write::Class { .. } => s.classes += 1,
            Write::Instance { .. } => s.instances += 1,
            Write::Arena { .. } => s.tables += 1,
            Write::Listeners(v) => s.listeners += v.len() as u64,
            Write::Identities(v) => s.identities += v.len() as u64,
            Write::Prefixes(v) => s.prefixes += v.len() as u64,
            Write::Services { items, .. } => s.services += items.len() as u64,
            Write::Rules { items, .. } => s.rules += items.len() as u64,
            Write::Subsets { items, .. } => s.targets += items.len() as u64,
            Write::Weighted { items, .. } => s.targets += items.len() as u64,
            Write::Facts { .. }
            | Write::Filter(_)
            | Write::Control { .. }
            | Write::Flip { .. }
            | Write::Forget { .. } => {}
        }
    }
    s
}

/// The steps that a change would take, for a dry run: planned on a copy.
pub fn rehearse(inner: &Inner, policy: &Policy, compiled: &Compiled) -> Result<WriteSummary, ApiError> {
    let key = inner.hash_key();
    let lists = match inner.revision {
        // Before the first revision there are no live edits.
        0 => document_lists(policy, compiled, key),
        revision => build_lists(&inner.store, revision, policy, compiled, key)?,
    };
    let mut have = inner.have.clone();
    let want = Want { revision: inner.revision + 1, key, compiled, lists: &lists, touched: None };
    plan::plan(&mut have, &want).map(|steps| summary(&steps)).map_err(too_large)
}

fn document_lists(policy: &Policy, compiled: &Compiled, key: gray_common::hash::HashKey) -> Lists {
    let mut lists = Lists::default();
    for c in &policy.cohorts {
        if let (CohortBody::List { of, ids }, Some(bit)) = (&c.body, compiled.assigned.lists.get(&c.name)) {
            for m in ids.iter().filter_map(|id| parse_member(*of, id).ok()) {
                let _ = lists.set(bit, compile::lists::entry(key, *of, &m), true);
            }
        }
    }
    lists
}
