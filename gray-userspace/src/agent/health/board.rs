//! Which instances are up, and the kernel's tables made to follow, beside the changes of policy. Health is no policy: it
//! is in no revision and not stored. One short lock of its own: an instance that fails is out of the tables whatever
//! else the agent does. Lock order: the agent's state, then this.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use gray_common::{
    slots::Slots,
    wire::{Subset, Table},
};
use tokio::sync::{Notify, broadcast};

use super::{
    machine::{Machine, Verdict},
    tables::{Made, made},
    targets::{Probed, Target, event},
};
use crate::{
    agent::time,
    api::types::EventLine,
    compile::{
        CompileError, Compiled, SubsetPlan, Who,
        arena::Arena,
        have::Have,
        placed::{Content, Placed, place, places},
        plan::Write,
    },
    datapath::Turns,
    kernel::KernelError,
    model::{Instance, Policy, Service},
};

/// Instances whose tables are made anew under one lock.
const AT_ONCE: usize = 32;

/// The tables of one policy.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    pub(super) policy: Arc<Policy>,
    subsets: Vec<(Arc<Who>, u32)>,
    placed: Vec<Subset>,
    kept: BTreeSet<usize>,
    /// The subsets of an instance.
    of: HashMap<String, Vec<usize>>,
}

pub struct Board {
    path: Box<dyn Turns>,
    events: broadcast::Sender<EventLine>,
    arena: Arena,
    pub(super) active: Plan,
    bank: u32,
    /// Placed, and not in force yet.
    next: Option<Plan>,
    pub(super) targets: BTreeMap<String, Target>,
    /// Whose share changed since `next` was placed.
    moved: BTreeSet<String>,
    /// Whose tables do not say yet what is known.
    stale: BTreeSet<String>,
    starting: BTreeSet<String>,
    /// Rung when there are other targets.
    pub changed: Arc<Notify>,
    /// Subsets that were turned.
    pub turns: u64,
    /// How late the latest probe began, milliseconds.
    pub late_ms: u64,
    pub error: Option<String>,
}

/// `service/instance`.
pub fn id(service: &str, instance: &str) -> String {
    format!("{service}/{instance}")
}

impl Board {
    pub fn new(path: Box<dyn Turns>, have: &Have, events: broadcast::Sender<EventLine>) -> Self {
        Self {
            path,
            events,
            arena: Arena::holding(have.tables.iter().cloned()),
            active: Plan { placed: have.subsets.clone(), ..Plan::default() },
            bank: (have.epoch & 1) as u32,
            next: None,
            targets: BTreeMap::new(),
            moved: BTreeSet::new(),
            stale: BTreeSet::new(),
            starting: BTreeSet::new(),
            changed: Arc::default(),
            turns: 0,
            late_ms: 0,
            error: None,
        }
    }

    pub fn targets(&self) -> impl Iterator<Item = (&String, &Target)> {
        self.targets.iter()
    }

    pub fn target(&self, service: &str, instance: &str) -> Option<&Target> {
        self.targets.get(&id(service, instance))
    }

    /// Services with a subset that is kept though all of it is down.
    pub fn kept(&self) -> BTreeSet<&str> {
        let service = |i: &usize| self.active.policy.services.get(self.active.subsets.get(*i)?.0.service);
        self.active.kept.iter().filter_map(service).map(|s| s.name.as_str()).collect()
    }

    /// Places the tables of a policy as health has them. Nothing can see them before [`Board::turned`].
    pub fn place(
        &mut self,
        policy: &Arc<Policy>,
        compiled: &Compiled,
        now: u64,
    ) -> Result<Placed, CompileError> {
        self.abandon();
        self.moved.clear();
        let made = self.tables(policy, compiled, now);
        let content = || compiled.subsets.iter().zip(&made).map(|(s, m)| (s, m.content.clone()));
        let placed = match place(&mut self.arena, content()) {
            Err(CompileError::ArenaFull) if self.arena.untidy() => {
                self.forget_unplaced();
                // Without a grace period there is no more room than before: its failure reads as what it is, no room.
                let _ = self.grace();
                place(&mut self.arena, content())
            }
            other => other,
        };
        let placed = placed.inspect_err(|_| self.forget_unplaced())?;
        self.next = Some(Plan::of(policy, compiled, &placed, &made));
        Ok(placed)
    }

    /// The same on a copy: a dry run.
    pub fn rehearse(&self, policy: &Policy, compiled: &Compiled, now: u64) -> Result<Placed, CompileError> {
        let made = self.tables(policy, compiled, now);
        place(&mut self.arena.clone(), compiled.subsets.iter().zip(made).map(|(s, m)| (s, m.content)))
    }

    fn tables<'c>(&self, policy: &Policy, compiled: &'c Compiled, now: u64) -> Vec<Made<'c>> {
        let one = |s: &'c SubsetPlan| match policy.services.get(s.who.service) {
            Some(service) => made(&s.who, s.arm, service, |i| self.share(service, i, now), Some(s)),
            None => Made { content: Content::of(s), kept: false },
        };
        compiled.subsets.iter().map(one).collect()
    }

    /// Per cent of its weight that an instance gets.
    fn share(&self, service: &Service, i: &Instance, now: u64) -> u32 {
        let Some(h) = &service.health else { return 100 };
        match self.targets.get(&id(&service.name, &i.id)).filter(|t| t.address == i.address) {
            Some(t) => t.machine.share(h, now),
            None => Machine::new(self.unheard_of(service, i)).share(h, now),
        }
    }

    /// What was placed will not come into force.
    pub fn abandon(&mut self) {
        if self.next.take().is_some() {
            self.forget_unplaced();
        }
    }

    fn forget_unplaced(&mut self) {
        self.arena.keep(&places(&self.active.placed));
    }

    /// Right before the flip: verdicts that came since `place`.
    pub fn freshen(&mut self, now: u64) -> Result<(), KernelError> {
        let Some(mut next) = self.next.take() else { return Ok(()) };
        self.written(&next);
        let moved = std::mem::take(&mut self.moved);
        let done = self.turn_to(&mut next, self.bank ^ 1, &moved, now);
        self.next = Some(next);
        done
    }

    fn written(&mut self, plan: &Plan) {
        places(&plan.placed).into_iter().for_each(|at| self.arena.written(at));
    }

    /// The flip happened: what was placed is in force.
    pub fn turned(&mut self, now: u64) {
        let Some(next) = self.next.take() else { return };
        self.written(&next);
        let targets = self.retarget(&next.policy);
        self.targets = targets;
        self.active = next;
        self.bank ^= 1;
        self.arena.keep(&places(&self.active.placed));
        self.stale.retain(|id| self.targets.contains_key(id));
        self.starting = self
            .targets
            .iter()
            .filter(|(_, t)| t.machine.next_step(&t.check, now).is_some())
            .map(|(id, _)| id.clone())
            .collect();
        self.changed.notify_one();
    }

    /// A result of a probe. Afterwards [`Board::follow`] brings the tables along.
    pub fn result(&mut self, id: &str, probed: Probed, now: u64) -> Option<Verdict> {
        let t = self.targets.get_mut(id)?;
        let passed = probed.passed;
        t.last = Some(probed);
        let passed = passed?;
        *(if passed { &mut t.passed } else { &mut t.failed }) += 1;
        let verdict = t.machine.on(&t.check, passed, now);
        if let Some(v) = verdict {
            t.changes += 1;
            t.since = time::now_ms();
            let line = event(t, v);
            tracing::warn!(
                service = t.service,
                instance = t.instance,
                health = line.health,
                text = line.text,
                "health"
            );
            // No reader is no fault.
            let _ = self.events.send(EventLine::Health(line));
            if t.machine.next_step(&t.check, now).is_some() {
                let _ = self.starting.insert(id.to_string());
            }
            let _ = self.stale.insert(id.to_string());
            let _ = self.moved.insert(id.to_string());
        }
        verdict
    }

    /// The weights of those that start.
    pub fn step(&mut self, now: u64) {
        let starting = std::mem::take(&mut self.starting);
        for id in starting {
            let Some(t) = self.targets.get(&id) else { continue };
            if t.machine.next_step(&t.check, now).is_some() {
                let _ = self.starting.insert(id.clone());
            }
            let _ = self.moved.insert(id.clone());
            let _ = self.stale.insert(id);
        }
    }

    /// When [`Board::step`] is due.
    pub fn next_step(&self, now: u64) -> Option<u64> {
        let due =
            |id: &String| self.targets.get(id).map(|t| t.machine.next_step(&t.check, now).unwrap_or(now));
        self.starting.iter().filter_map(due).min()
    }

    /// Brings the tables in force to what is known, a part of them at a time; true: there is more. A failure is tried
    /// again with the next call.
    pub fn follow(&mut self, now: u64) -> Result<bool, KernelError> {
        let ids: BTreeSet<String> = self.stale.iter().take(AT_ONCE).cloned().collect();
        if ids.is_empty() {
            return Ok(false);
        }
        let mut active = std::mem::take(&mut self.active);
        let done = self.turn_to(&mut active, self.bank, &ids, now);
        self.active = active;
        self.error = done.as_ref().err().map(ToString::to_string);
        if done.is_ok() {
            self.stale.retain(|id| !ids.contains(id));
        }
        let mut used = places(&self.active.placed);
        used.extend(self.next.iter().flat_map(|n| places(&n.placed)));
        self.arena.keep(&used);
        done.map(|()| !self.stale.is_empty())
    }

    /// The subsets of these instances, made anew: new tables at a new place, then the subset points to them.
    fn turn_to(
        &mut self,
        plan: &mut Plan,
        bank: u32,
        ids: &BTreeSet<String>,
        now: u64,
    ) -> Result<(), KernelError> {
        let subsets: BTreeSet<usize> =
            ids.iter().filter_map(|id| plan.of.get(id)).flatten().copied().collect();
        for at in subsets {
            let Some((who, arm)) = plan.subsets.get(at).cloned() else { continue };
            let policy = plan.policy.clone();
            let Some(service) = policy.services.get(who.service) else { continue };
            let made = made(&who, arm, service, |i| self.share(service, i, now), None);
            let Some(before) = plan.placed.get(at).copied() else { continue };
            let v4 = self.table(&made.content.v4, before.v4)?;
            let v6 = self.table(&made.content.v6, before.v6)?;
            let subset = Subset { v4, v6, arm, flags: made.content.flags, ..before };
            if subset != before {
                self.path.turn(&Write::Turn { bank, index: at as u32, subset })?;
                plan.placed[at] = subset;
                self.turns += 1;
            }
            let _ = if made.kept { plan.kept.insert(at) } else { plan.kept.remove(&at) };
        }
        Ok(())
    }

    /// A table in the kernel. An empty one keeps its place: a run that reads offset and length while they change sees
    /// one whole table or none, because a subset's tables are all of one length.
    fn table(&mut self, slots: &Slots, before: Table) -> Result<Table, KernelError> {
        if slots.is_empty() {
            return Ok(Table { len: 0, ..before });
        }
        let mut at = self.arena.place_now(slots);
        if at.is_err() {
            self.grace()?;
            at = self.arena.place_now(slots);
        }
        let at = at.map_err(|e| KernelError::Write {
            what: "the tables of instances".into(),
            source: std::io::Error::other(e.to_string()),
        })?;
        if at.fresh {
            self.path.turn(&Write::Arena { offset: at.offset, words: slots.words().to_vec() })?;
            self.arena.written(at.offset);
        }
        Ok(slots.at(at.offset))
    }

    /// Waits for runs that may still use tables which nothing refers to, and frees those.
    pub fn grace(&mut self) -> Result<(), KernelError> {
        let round = self.round();
        self.path.grace()?;
        self.free(round);
        Ok(())
    }

    /// Begins a round: what nothing refers to now is free when a grace period from now on has passed.
    pub fn round(&mut self) -> u64 {
        self.arena.turn()
    }

    pub fn free(&mut self, round: u64) {
        self.arena.free(round);
    }

    pub fn untidy(&self) -> bool {
        self.arena.untidy()
    }
}

impl Plan {
    fn of(policy: &Arc<Policy>, compiled: &Compiled, placed: &Placed, made: &[Made<'_>]) -> Self {
        let mut of: HashMap<String, Vec<usize>> = HashMap::new();
        for (at, s) in compiled.subsets.iter().enumerate() {
            let Some(service) = policy.services.get(s.who.service).filter(|s| s.health.is_some()) else {
                continue;
            };
            let families = [&s.who.v4, &s.who.v6];
            let whom: BTreeSet<usize> = families
                .iter()
                .flat_map(|f| f.members.iter().chain(f.spare.iter().flatten()))
                .map(|m| m.instance)
                .collect();
            for i in whom.into_iter().filter_map(|m| service.instances.get(m)) {
                of.entry(id(&service.name, &i.id)).or_default().push(at);
            }
        }
        Self {
            policy: policy.clone(),
            subsets: compiled.subsets.iter().map(|s| (s.who.clone(), s.arm)).collect(),
            placed: placed.subsets.clone(),
            kept: made.iter().enumerate().filter(|(_, m)| m.kept).map(|(i, _)| i).collect(),
            of,
        }
    }
}
