//! Whom the board knows: the instances of a policy that are probed, and what is thought of those nobody has asked yet.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::SocketAddr,
    sync::Arc,
};

use gray_common::{slots::Slots, wire::Table};

use super::{
    board::{Board, id},
    machine::{Machine, State, Verdict},
};
use crate::{
    agent::time,
    api::types::HealthEvent,
    compile::{Compiled, have::Have},
    model::{Health, Instance, Policy, Service},
};

/// One instance that is probed.
#[derive(Clone, Debug)]
pub struct Target {
    pub service: String,
    pub instance: String,
    pub address: SocketAddr,
    pub check: Arc<Health>,
    pub machine: Machine,
    /// The latest result.
    pub last: Option<Probed>,
    /// Unix milliseconds of the last verdict.
    pub since: u64,
    pub passed: u64,
    pub failed: u64,
    pub changes: u64,
}

/// One result of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probed {
    /// `None`: the agent could not ask, which says nothing of the instance.
    pub passed: Option<bool>,
    /// Short: what was answered, or what went wrong.
    pub text: String,
    pub took_us: u64,
}

impl Board {
    /// An instance that served before anybody looked goes on; one that is new has to answer first.
    pub(super) fn unheard_of(&self, service: &Service, i: &Instance) -> State {
        let before = self.active.policy.service(&service.name);
        let served =
            before.is_some_and(|s| s.instances.iter().any(|o| o.id == i.id && o.address == i.address));
        if served { State::Up { since: None } } else { State::New }
    }

    pub(super) fn retarget(&mut self, policy: &Policy) -> BTreeMap<String, Target> {
        let mut out = BTreeMap::new();
        for s in &policy.services {
            let Some(health) = &s.health else { continue };
            let check = Arc::new(health.clone());
            for i in &s.instances {
                let id = id(&s.name, &i.id);
                let known = self.targets.remove(&id).filter(|t| t.address == i.address);
                let target = match known {
                    Some(t) if *t.check == *check => t,
                    Some(t) => Target { check: check.clone(), ..t },
                    None => target(s, i, &check, self.unheard_of(s, i)),
                };
                let _ = out.insert(id, target);
            }
        }
        out
    }

    /// The start of an agent: what the kernel's tables leave out was down, and stays out until probes say otherwise; they
    /// themselves stay as they are until the first results. `have` is of the same revision.
    pub fn adopt(&mut self, policy: &Arc<Policy>, compiled: &Compiled, have: &Have) {
        let tables: HashMap<u32, &Slots> = have.tables.iter().map(|(o, t)| (*o, t)).collect();
        let none = Slots::default();
        let slots = |t: Table| match t.len {
            0 => Some(&none),
            n => tables.get(&t.offset).copied().filter(|s| s.len() == n),
        };
        let (mut member, mut present) = (BTreeSet::new(), BTreeSet::new());
        for (plan, subset) in compiled.subsets.iter().zip(&have.subsets) {
            for (family, table) in [(&plan.who.v4, subset.v4), (&plan.who.v6, subset.v6)] {
                let Some(slots) = slots(table) else { continue };
                let there: BTreeSet<u32> = slots.members().iter().copied().collect();
                // Those of other zones are in no table as long as nobody needs them.
                let some =
                    |far: bool| family.members.iter().any(|m| m.far == far && there.contains(&m.number));
                let needed = !some(false) || some(true);
                for m in family.members.iter().filter(|m| !m.drained && (!m.far || needed)) {
                    let key = (plan.who.service, m.instance);
                    let _ = member.insert(key);
                    if there.contains(&m.number) {
                        let _ = present.insert(key);
                    }
                }
            }
        }
        for (at, s) in policy.services.iter().enumerate() {
            let Some(health) = &s.health else { continue };
            let check = Arc::new(health.clone());
            for (n, i) in s.instances.iter().enumerate() {
                let out = member.contains(&(at, n)) && !present.contains(&(at, n));
                let state = if out { State::Down { until: 0 } } else { State::Up { since: None } };
                let _ = self.targets.insert(id(&s.name, &i.id), target(s, i, &check, state));
            }
        }
        self.active.policy = policy.clone();
    }
}

fn target(s: &Service, i: &Instance, check: &Arc<Health>, state: State) -> Target {
    Target {
        service: s.name.clone(),
        instance: i.id.clone(),
        address: i.address,
        check: check.clone(),
        machine: Machine::new(state),
        last: None,
        since: time::now_ms(),
        passed: 0,
        failed: 0,
        changes: 0,
    }
}

pub(super) fn event(t: &Target, v: Verdict) -> HealthEvent {
    HealthEvent {
        at: time::rfc3339_micros(time::now_ms() * 1_000_000),
        service: t.service.clone(),
        instance: t.instance.clone(),
        health: match v {
            Verdict::Up => "up",
            Verdict::Down => "down",
        }
        .into(),
        text: t.last.as_ref().map(|p| p.text.clone()).unwrap_or_default(),
    }
}
