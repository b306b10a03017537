//! Every change of what is in force goes this way: compile, write what nobody can see yet, record, flip, settle the
//! record. A failure before the flip leaves the old policy in force; the record says what happened.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use gray_common::hash::HashKey;

use crate::{
    api::{
        ApiError, Who,
        types::{Timings, WriteSummary},
    },
    compile::{
        self, Circumstances, Compiled,
        assigned::Numbers,
        lists::{Edit, Lists},
        plan::{self, Want, Wanted, Write},
    },
    config::Places,
    datapath::Datapath as _,
    fail::{self, Point},
    kernel::KernelError,
    model::{List, Policy, parse_member},
    store::{Draft, Kind, Mark, Store as _, key::HashKey as StoredKey},
};

use super::{
    core::{Inner, wire_key},
    health, orphans,
    refused::{all_of, too_large},
    time,
};

/// A service that is new to the kernel takes TCP connections found in mid-stream as stable's own for so long.
pub const ADOPT_NS: u64 = 120_000_000_000;
/// The timings of so many changes are kept in memory.
const TIMINGS: usize = 1000;

/// What becomes of the explicit lists.
pub enum ListsChange {
    /// As they are.
    Same,
    Edit(Edit),
    /// From the documents and the live edits of the new revision.
    Rebuild,
}

/// A change, ready to be made.
pub struct Change {
    pub draft: Draft,
    pub policy: Arc<Policy>,
    pub drained: BTreeSet<String>,
    pub lists: ListsChange,
    /// A new hash key.
    pub key: Option<StoredKey>,
    /// Of documents that are new, where what is refused stands.
    pub places: Places,
    /// The release's event that asked for it, `Releases::riding`, is in the same record.
    pub rides: bool,
}

/// What a change led to.
#[derive(Clone, Copy, Debug)]
pub struct Changed {
    pub revision: u64,
    pub epoch: u64,
    pub writes: WriteSummary,
    pub timings: Timings,
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
            places: Places::default(),
            rides: false,
        }
    }

    /// Compiles without changing anything. All that is refused is said, at its place.
    pub fn compile(
        &self,
        policy: &Policy,
        drained: &BTreeSet<String>,
        places: &Places,
    ) -> Result<Compiled, ApiError> {
        let mut around = Circumstances {
            drained: drained.clone(),
            adopt_until_ns: self.adopt_until_ns.clone(),
            zone: self.zone.clone(),
        };
        let until = time::monotonic_ns() + ADOPT_NS;
        let services = policy.services.iter().map(|s| (s.name.clone(), s.listen.clone()));
        let guards = compile::guard::guards(policy).into_iter().map(|g| (g.name.clone(), g.listeners()));
        for (name, listen) in services.chain(guards) {
            let known = listen.iter().all(|l| {
                let key = compile::listener_key(l);
                self.have.listeners.get(&key).is_some_and(|v| v.at(self.have.epoch) != 0)
            });
            if !known {
                let _ = around.adopt_until_ns.insert(name, until);
            }
        }
        compile::compile_all(policy, &self.compiled.assigned, &around).map_err(|e| all_of(&e, places))
    }

    /// Makes a change: all of it, or none. What takes long comes before the record is durable, so that between the record
    /// and its effect there are two stores to memory.
    pub fn change(&mut self, mut change: Change) -> Result<Changed, ApiError> {
        let received_ns = time::monotonic_ns();
        self.settle_record()?;
        self.know().map_err(|e| ApiError::internal(&e))?;
        let compiled = self.compile(&change.policy, &change.drained, &change.places)?;
        let assigned = serde_json::to_string(&compiled.assigned).map_err(|e| ApiError::internal(&e))?;
        change.draft.assignments = Some(assigned);
        change.draft.drained = Some(change.drained.clone());
        self.need_parts(&compiled)?;
        self.need_tags(&change.policy)?;
        self.need_measures(&change.policy, false)?;
        fail::point(Point::ChangeCompiled).map_err(|e| ApiError::internal(&e))?;
        self.tidy()?;
        let revision = self.store.prepare(&change.draft).map_err(|e| ApiError::internal(&e))?;
        let mut timings = Timings { received_ns, ..Timings::default() };
        let writes = match self.carry_out(revision, &change, &compiled, &mut timings) {
            Ok(writes) => writes,
            Err(e) => {
                self.give_up(revision, &change, timings.durable_ns != 0, &e);
                return Err(e);
            }
        };
        self.revision = revision;
        let services = compile::guard::names(&change.policy).into_iter().zip(&compiled.services);
        self.adopt_until_ns = services.map(|(name, c)| (name, c.adopt_until_ns)).collect();
        self.orphans |= orphans::made_by(&self.policy, &change.policy);
        self.policy = change.policy;
        self.compiled = compiled;
        self.drained = change.drained;
        if let Some(key) = change.key {
            self.key = key;
            self.rekeyed = true;
        }
        self.suspect = false;
        self.untidy = true;
        self.leftovers.notify_one();
        let policy = self.policy.clone();
        self.need_measures(&policy, true)?;
        if change.rides {
            self.has_ridden()?;
        }
        fail::point(Point::ChangeFlipped).map_err(|e| ApiError::internal(&e))?;
        if self.rekeyed {
            StoredKey::take_staged(&self.state_dir).map_err(|e| ApiError::internal(&e))?;
            fail::point(Point::KeyTaken).map_err(|e| ApiError::internal(&e))?;
        }
        self.store.activate(revision, time::now_ms()).map_err(|e| ApiError::internal(&e))?;
        self.grown.notify_one();
        fail::point(Point::ChangeActivated).map_err(|e| ApiError::internal(&e))?;
        timings.settled_ns = time::monotonic_ns();
        self.remember(revision, timings);
        Ok(Changed { revision, epoch: self.have.epoch, writes, timings })
    }

    /// The change failed before the flip: its record says so, and what the tables hold is read again.
    fn give_up(&mut self, revision: u64, change: &Change, durable: bool, e: &ApiError) {
        // First: whatever else fails here, `have` is not taken for what is there.
        (self.suspect, self.unread) = (true, true);
        health::lock(&self.board).abandon();
        tracing::error!(revision, error = %e.error, "the change failed; the policy before it stays in force");
        // Before the record is settled: a pending revision tells the next agent what a staged key is.
        if change.key.is_some()
            && let Err(e) = StoredKey::drop_staged(&self.state_dir)
        {
            tracing::error!(error = %e, "cannot remove the hash key that did not take effect");
        }
        let committed = self.store.commit();
        // It stands in the failed revision's record: what it asked for is still due.
        if change.rides
            && (durable || matches!(committed, Ok(true)))
            && let Err(e) = self.has_ridden()
        {
            tracing::error!(error = e.error, "the release goes on all the same");
        }
        let recorded = committed.and_then(|_| self.store.fail(revision, time::now_ms(), &e.error));
        if let Err(e) = recorded {
            tracing::error!(revision, error = %e, "cannot record the failure");
        }
        if let Err(e) = self.know() {
            tracing::error!(error = %e, "cannot read the kernel's tables; the next change tries again");
        }
        // Numbers of lanes that the change would have brought may be another lane's next time.
        if let Err(e) = self.relabel() {
            tracing::error!(error = %e.error, "cannot put back the lanes of workloads; the next change tries again");
        }
    }

    fn carry_out(
        &mut self,
        revision: u64,
        change: &Change,
        compiled: &Compiled,
        timings: &mut Timings,
    ) -> Result<WriteSummary, ApiError> {
        if change.rides {
            self.take_along()?;
        }
        let key = wire_key(change.key.as_ref().unwrap_or(&self.key));
        let mut lists = None;
        let mut prefixes = None;
        match &change.lists {
            ListsChange::Same => {}
            ListsChange::Edit(edit) if edit.prefixes.is_empty() => {}
            ListsChange::Edit(edit) => {
                let all = prefixes.insert(self.prefixes.clone());
                for (key, on) in &edit.prefixes {
                    let _ = all.set(edit.bit, *key, *on);
                }
            }
            ListsChange::Rebuild => {
                lists = Some(build_lists(&self.store, revision, &change.policy, compiled, key)?);
            }
        }
        let identities = match (&change.lists, &lists) {
            (_, Some(lists)) => Wanted::All(&lists.identities),
            (ListsChange::Edit(edit), _) => Wanted::Edit(edit),
            _ => Wanted::Same,
        };
        let all = lists.as_ref().map(|l| &l.prefixes).or(prefixes.as_ref());
        let all = all.or(self.suspect.then_some(&self.prefixes));
        let want = Want { revision, key, compiled, identities, prefixes: all };
        let placed =
            health::lock(&self.board).place(&change.policy, compiled, health::now()).map_err(too_large)?;
        // Until all is done, `have` says what is planned: also to who comes after a panic.
        self.unread = true;
        let steps = plan::plan_placed(&mut self.have, &want, placed).map_err(too_large)?;
        let done = self.write(key, (change, compiled), &steps, timings)?;
        self.unread = false;
        if let Some(fresh) = lists.map(|l| l.prefixes).or(prefixes) {
            self.prefixes = fresh;
        }
        Ok(done)
    }

    /// The writes that the active epoch cannot see, the record, the flip.
    fn write(
        &mut self,
        key: HashKey,
        (change, compiled): (&Change, &Compiled),
        steps: &[Write],
        timings: &mut Timings,
    ) -> Result<WriteSummary, ApiError> {
        fail::point(Point::ChangePlanned).map_err(|e| ApiError::internal(&e))?;
        if let Some(k) = &change.key {
            k.stage(&self.state_dir).map_err(|e| ApiError::internal(&e))?;
            fail::point(Point::ChangeKey).map_err(|e| ApiError::internal(&e))?;
            self.rehash_workloads(key)?;
        }
        self.renumber_workloads(compiled, key)?;
        let (now, was) = (&compiled.assigned, &self.compiled.assigned);
        // Without a record of what is in force nobody knows whose they are; on a first start they are 0.
        let anew =
            |now: &Numbers, was: &Numbers| if self.revision == 0 { Vec::new() } else { now.fresh(was) };
        let (services, rules) = (anew(&now.services, &was.services), anew(&now.rules, &was.rules));
        let begun = self.live.begin_counts(&services, &rules);
        begun.map_err(|e| ApiError::internal(&e))?;
        let (hidden, turn) = steps.split_at(plan::turn(steps));
        self.steps(hidden)?;
        timings.prepared_ns = time::monotonic_ns();
        let _ = self.store.commit().map_err(|e| ApiError::internal(&e))?;
        timings.durable_ns = time::monotonic_ns();
        fail::point(Point::ChangeBegun).map_err(|e| ApiError::internal(&e))?;
        let board = self.board.clone();
        let mut board = health::lock(&board);
        board.freshen(health::now()).map_err(|e| ApiError::internal(&e))?;
        self.steps(turn)?;
        timings.flipped_ns = time::monotonic_ns();
        board.turned(health::now());
        Ok(summary(steps))
    }

    fn steps(&mut self, steps: &[Write]) -> Result<(), ApiError> {
        for step in steps {
            fail_before(step).map_err(|e| ApiError::internal(&e))?;
            self.live.write(step).map_err(|e| ApiError::internal(&e))?;
        }
        Ok(())
    }

    fn remember(&mut self, revision: u64, timings: Timings) {
        let _ = self.timings.insert(revision, timings);
        while self.timings.len() > TIMINGS {
            let _ = self.timings.pop_first();
        }
    }

    /// Removes what the last flip left behind, once no run can still see it. Also makes the idle bank free to fill.
    pub fn tidy(&mut self) -> Result<(), ApiError> {
        if !self.untidy {
            return Ok(());
        }
        fail::point(Point::TidyBegin).map_err(|e| ApiError::internal(&e))?;
        self.know().map_err(|e| ApiError::internal(&e))?;
        let round = health::lock(&self.board).round();
        self.live.settle().map_err(|e| ApiError::internal(&e))?;
        health::lock(&self.board).free(round);
        fail::point(Point::TidySettled).map_err(|e| ApiError::internal(&e))?;
        if self.rekeyed {
            self.relabel()?;
            self.rekeyed = false;
        }
        if let Some(step) = plan::forget(&mut self.have, &self.compiled, &self.prefixes) {
            let done = self.live.write(&step);
            // What was not removed must not pass for gone: it is read again, and removed the next time.
            self.unread |= done.is_err();
            done.map_err(|e| ApiError::internal(&e))?;
        }
        if self.orphans {
            let n = self.forget_orphans().map_err(|e| ApiError::internal(&e))?;
            tracing::debug!(flows = n, "UDP flows to instances that are gone are forgotten");
            self.orphans = false;
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
    key: HashKey,
) -> Result<Lists, ApiError> {
    let mut lists = Lists::default();
    let numbers = &compiled.assigned.lists;
    for l in &policy.lists() {
        let internal = |e: crate::store::Error| ApiError::internal(&e);
        if !l.is_cohort || !store.overlay_info(revision, &l.name).map_err(internal)?.replaces_document {
            compile::lists::put(&mut lists, l, numbers, key);
        }
        let Some(bit) = numbers.get(&l.name).filter(|_| l.is_cohort) else { continue };
        let mut set = |id: &str, on: bool| match parse_member(l.of, id) {
            Ok(m) => drop(lists.set(bit, compile::lists::entry(key, l.of, &m), on)),
            // The cohort changed its kind since the live edit.
            Err(e) => tracing::warn!(cohort = &*l.name, "a live entry is skipped: {e}"),
        };
        store
            .overlay(revision, &l.name, &mut |mark, id| {
                set(id, mark == Mark::Added);
                std::ops::ControlFlow::Continue(())
            })
            .map_err(internal)?;
    }
    Ok(lists)
}

pub(super) fn summary(steps: &[Write]) -> WriteSummary {
    let mut s = WriteSummary::default();
    for step in steps {
        match step {
            Write::Class { .. } => s.classes += 1,
            Write::Instance { .. } => s.instances += 1,
            Write::Arena { .. } => s.tables += 1,
            Write::Listeners(v) => s.listeners += v.len() as u64,
            Write::Identities(v) => s.identities += v.len() as u64,
            Write::Prefixes(v) => s.prefixes += v.len() as u64,
            Write::Nets(v) => s.prefixes += v.len() as u64,
            Write::Services { items, .. } => s.services += items.len() as u64,
            Write::Rules { items, .. } => s.rules += items.len() as u64,
            Write::Subsets { items, .. } => s.targets += items.len() as u64,
            Write::Weighted { items, .. } => s.targets += items.len() as u64,
            Write::Facts { .. }
            | Write::Lanes(_)
            | Write::Readings { .. }
            | Write::Further { .. }
            | Write::Metadata { .. }
            | Write::Bounds(_)
            | Write::Filter(_)
            | Write::Turn { .. }
            | Write::Control { .. }
            | Write::Flip { .. }
            | Write::Forget { .. } => {}
        }
    }
    s
}

/// Whether two policies have the same lists in their documents; live edits stay with the names.
pub fn same_lists(a: &Policy, b: &Policy) -> bool {
    let (a, b) = (a.lists(), b.lists());
    let by_name: HashMap<&str, &List<'_>> = b.iter().map(|l| (&*l.name, l)).collect();
    a.len() == b.len() && a.iter().all(|l| by_name.get(&*l.name) == Some(&l))
}
