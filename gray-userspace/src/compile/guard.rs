//! Instances that take connections from some clients only, dialled by their own addresses: each entry of a service's `accept`
//! is a service of its own in the tables, which listens there, and at which who is accepted stays and everybody else is refused.

use std::{collections::BTreeMap, sync::Arc};

use gray_common::{
    decide::Precedence,
    hash::salt,
    limits,
    wire::{ARM_GRAY, ARM_STABLE, Breaker, Further, ListenerValue, Rule, SUBSET_REFUSE, Service},
};

use super::{
    Assigned, Circumstances, CompileError, Compiled, Who,
    conditions::{self, Facts},
    identify_codes, listener_key, lists_used, marked, reading,
    subsets::SubsetPlan,
};
use crate::model::{self, Accept, List, Listener, Policy};

/// One of them.
#[derive(Clone, Debug)]
pub struct Guard<'a> {
    /// Its name in the counters, as a service and as a rule: `shop/accept-1`.
    pub name: String,
    /// Index in the policy.
    pub at: usize,
    pub service: &'a model::Service,
    accept: &'a Accept,
}

impl Guard<'_> {
    /// Each protocol that the service's listeners have, at each instance.
    pub fn listeners(&self) -> Vec<Listener> {
        let named = self.service.instances.iter().filter(|i| self.accept.instances.matches(i));
        let protocols = super::subsets::protocols(self.service);
        let at = |i: &model::Instance| {
            let addr = i.address;
            protocols.iter().map(move |proto| Listener { addr, proto: *proto }).collect::<Vec<_>>()
        };
        named.flat_map(at).collect()
    }
}

/// In the order of the document.
pub fn guards(policy: &Policy) -> Vec<Guard<'_>> {
    let mut out = Vec::new();
    for (at, service) in policy.services.iter().enumerate().filter(|(_, s)| !s.shadow) {
        for (n, accept) in service.accept.iter().enumerate() {
            out.push(Guard { name: format!("{}/accept-{}", service.name, n + 1), at, service, accept });
        }
    }
    out
}

/// The names of a policy's services, and those of its guards.
pub fn names(policy: &Policy) -> Vec<String> {
    let guards = guards(policy).into_iter().map(|g| g.name);
    policy.services.iter().map(|s| s.name.clone()).chain(guards).collect()
}

/// Puts a guard behind all that is there already.
pub fn put(
    policy: &Policy,
    guard: &Guard<'_>,
    (lists, assigned, around): (&[List<'_>], &Assigned, &Circumstances),
    out: &mut Compiled,
) -> Result<(), CompileError> {
    let (accepted, refused) = (subset(guard, "accepted", out), subset(guard, "refused", out));
    let first_rule = out.rules.len() as u32;
    let mut facts = Facts::default();
    let from = Some(&guard.accept.from);
    for a in conditions::alternatives(policy, assigned, &mut facts, &guard.name, from)? {
        out.rules.push(Rule {
            need: a.need,
            forbid: a.forbid,
            id: assigned.rules.get(&guard.name).unwrap_or(0) as u16,
            precedence: conditions::precedence(policy, from) as u8,
            target: accepted,
            ..Rule::default()
        });
    }
    // Everybody else; not a rule that counts.
    out.rules.push(Rule { precedence: Precedence::Weight as u8, target: refused, ..Rule::default() });
    let rules = out.rules.len() as u32 - first_rule;
    if rules > limits::RULES_PER_SERVICE {
        return Err(CompileError::TooManyRules { service: guard.name.clone() });
    }
    let (list_kinds, flags) = lists_used(lists, &facts, assigned);
    // Nothing is read of who comes by an instance's own address.
    let silent = model::Service {
        claims: BTreeMap::new(),
        tls: BTreeMap::new(),
        tlvs: BTreeMap::new(),
        proxies: Vec::new(),
        headers: None,
        ..guard.service.clone()
    };
    out.readings.push(reading(&silent));
    out.further.push(Further::default());
    out.services.push(Service {
        adopt_until_ns: around.adopt_until_ns.get(&guard.name).copied().unwrap_or(0),
        first_rule,
        first_fact: out.facts.len() as u32,
        stable_subset: accepted,
        id: assigned.services.get(&guard.name).unwrap_or(0) as u16,
        rules: rules as u16,
        facts: facts.0.len() as u16,
        identify: identify_codes(guard.service),
        list_kinds,
        flags: flags | marked(guard.service, &facts, list_kinds),
        lease_ms: 0,
        breaker: Breaker::default(),
    });
    out.facts.extend(facts.0);
    let index = out.services.len() as u32 - 1;
    for l in guard.listeners() {
        let _ = out.listeners.insert(listener_key(&l), ListenerValue::new(index, true));
    }
    Ok(())
}

/// A subset without tables: who is accepted stays at the address that it dials.
fn subset(guard: &Guard<'_>, what: &str, out: &mut Compiled) -> u32 {
    let name = format!("{}: {what}", guard.name);
    let refuse = what == "refused";
    out.subsets.push(SubsetPlan {
        target: (salt(&name) as u32).max(1),
        name,
        arm: if refuse { ARM_GRAY } else { ARM_STABLE },
        flags: if refuse { SUBSET_REFUSE } else { 0 },
        who: Arc::new(Who { service: guard.at, refuse, ..Who::default() }),
        ..SubsetPlan::default()
    });
    out.subsets.len() as u32 - 1
}
