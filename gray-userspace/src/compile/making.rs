//! The tables of a policy while they are made, service by service. Who goes on after a refusal says `compile` and `compile_all`.

use std::collections::{BTreeMap, BTreeSet};

use gray_common::{
    Reason,
    decide::kept_by,
    hash::{lane_check, salt},
    limits,
    wire::{
        Breaker, ListenerValue, Rule, SERVICE_AFFINITY, SERVICE_BREAKER, SERVICE_DENY, SERVICE_DSR,
        SERVICE_GUE, SERVICE_LEADS, SERVICE_LEASE, SERVICE_MEASURE, SERVICE_REQUEST, SERVICE_ROUND_ROBIN,
        SERVICE_SNAT, Service,
    },
};

use super::{
    Assigned, Circumstances, CompileError, Compiled, Wild,
    conditions::{Alternative, Facts},
    echo_key, further,
    guard::{self, Guard},
    headers, identify_codes, listener_key, lists_used, marked,
    order::{self, By},
    reading,
    rules::{Maker, What},
    subsets::{self, Subsets},
    wild, wildcards,
};
use crate::model::{self, List, Policy};

pub struct Making<'p> {
    policy: &'p Policy,
    before: &'p Assigned,
    around: &'p Circumstances,
    lists: Vec<List<'p>>,
    wild: Vec<Wild>,
    /// `service/instance` names that get no new connections.
    away: BTreeSet<String>,
    assigned: Assigned,
    out: Compiled,
}

impl<'p> Making<'p> {
    /// Every name has its number.
    pub fn begin(
        policy: &'p Policy,
        before: &'p Assigned,
        around: &'p Circumstances,
    ) -> Result<Self, CompileError> {
        let rule_names: Vec<String> = policy
            .services
            .iter()
            .flat_map(|s| order::of(policy, s).into_iter().map(|sends| sends.by.name(&s.name)))
            .chain(guard::guards(policy).into_iter().map(|g| g.name))
            .chain(
                policy.services.iter().filter(|s| s.headers.is_some()).flat_map(|s| headers::names(&s.name)),
            )
            .collect();
        let service_names = guard::names(policy);
        let lists = policy.lists();
        let assigned = Assigned {
            services: before.services.next(
                "services",
                service_names.iter().map(String::as_str),
                0,
                limits::SERVICES,
            )?,
            rules: before.rules.next("rules", rule_names.iter().map(String::as_str), 1, 65_536)?,
            lists: before.lists.next("lists", lists.iter().map(|l| &*l.name), 0, limits::LISTS)?,
            instances: before.instances.next(
                "instances",
                subsets::instance_names(policy).iter().map(String::as_str),
                0,
                limits::INSTANCES,
            )?,
            lanes: before.lanes.next(
                "lanes",
                policy.lanes.iter().map(|l| l.name.as_str()),
                limits::LANE_NUMBERS,
            )?,
            weights: BTreeMap::new(),
        };
        let wild = wild(&lists, &assigned);
        let mut away = policy.blacklisted();
        away.extend(around.drained.iter().cloned());
        Ok(Self { policy, before, around, lists, wild, away, assigned, out: Compiled::default() })
    }

    /// The next service of the policy. After a refusal the tables are of no use, but the services behind it can still be judged.
    pub fn service(&mut self, index: usize, service: &model::Service) -> Result<(), CompileError> {
        let before = sizes(&self.out);
        self.fill(index, service)?;
        self.is_room(before, &service.name)
    }

    /// Whether what was just made for a service, of that name, still has room: refused once, where it is too much.
    fn is_room(&self, before: [Size; 6], name: &str) -> Result<(), CompileError> {
        let full = sizes(&self.out).into_iter().zip(before);
        match full.into_iter().find(|((_, n, limit), (_, had, _))| n > limit && had <= limit) {
            Some(((what, _, limit), _)) => {
                Err(CompileError::Full { service: name.to_owned(), what, limit: limit as u32 })
            }
            None => Ok(()),
        }
    }

    fn fill(&mut self, index: usize, service: &model::Service) -> Result<(), CompileError> {
        let Self { policy, before, around, ref lists, ref wild, ref away, .. } = *self;
        let (assigned, out) = (&mut self.assigned, &mut self.out);
        let zone = around.zone.as_deref();
        let mut subsets = Subsets::new((index, service), &assigned.instances, (away, zone), out);
        let stable_subset = subsets.index(&service.stable)?;
        let first_rule = subsets.out().rules.len() as u32;
        let (mut facts, mut leads) = (Facts::default(), 0);
        for sends in order::of(policy, service) {
            let name = sends.by.name(&service.name);
            let lane = sends.lane.and_then(|l| assigned.lanes.get(l)).unwrap_or(0);
            let arms = sends.to.arms();
            let owner = (arms.len() > 1).then(|| {
                let weights: Vec<(String, u16)> =
                    arms.iter().map(|a| (a.subset.to_string(), a.basis_points)).collect();
                before.weights.get(&name).cloned().unwrap_or_default().next(&weights)
            });
            let rule = Rule {
                id: assigned.rules.get(&name).unwrap_or(0) as u16,
                precedence: sends.order.step as u8,
                salt: if owner.is_some() { salt(&name) } else { u64::from(lane) },
                ..Rule::default()
            };
            let text = sends.by.text();
            let always = match sends.by {
                By::Lane(_) => facts.in_lane(&text, lane)?,
                // Who is in a lane is not led into another one.
                By::Route(_) if lane != 0 => {
                    leads = SERVICE_LEADS;
                    facts.in_no_lane(&text)?
                }
                By::Route(_) => Alternative::default(),
            };
            let what = What { rule, always, text: &text, arms: &arms, owner: owner.as_ref() };
            let (subsets, facts) = (&mut subsets, &mut facts);
            Maker { policy, assigned, service, subsets, facts }.put(&what, sends.by.when())?;
            assigned.weights.extend(owner.map(|owner| (name, owner)));
        }
        {
            let (subsets, facts) = (&mut subsets, &mut facts);
            Maker { policy, assigned, service, subsets, facts }.put_headers()?;
        }
        let further = further::of(service, &mut subsets)?;
        let rules = subsets.out().rules.len() as u32 - first_rule;
        if rules > limits::RULES_PER_SERVICE {
            return Err(CompileError::TooManyRules { service: service.name.clone() });
        }
        let (list_kinds, mut flags) = lists_used(lists, &facts, assigned);
        flags |= leads;
        if service.affinity == model::Affinity::Client {
            flags |= SERVICE_AFFINITY;
        }
        if service.nat == model::Nat::Snat {
            flags |= SERVICE_SNAT;
        }
        if service.nat == model::Nat::Dsr {
            flags |= SERVICE_DSR;
            if service.encapsulation == model::Encapsulation::Gue {
                flags |= SERVICE_GUE;
            }
        }
        if service.balance == model::Balance::RoundRobin {
            flags |= SERVICE_ROUND_ROBIN;
        }
        if service.reads() {
            flags |= SERVICE_REQUEST;
        }
        if service.on_missing == model::OnMissing::Deny {
            flags |= SERVICE_DENY;
        }
        if service.shadow {
            flags |= kept_by(Reason::Shadow);
        }
        if service.measure_full {
            flags |= SERVICE_MEASURE;
        }
        if service.agent_lease.is_some() {
            flags |= SERVICE_LEASE;
        }
        if service.breaker.is_some() {
            flags |= SERVICE_BREAKER;
        }
        out.further.push(further);
        out.readings.push(wildcards(reading(service), service, (wild, &facts))?);
        flags |= marked(service, &facts, list_kinds);
        let first_fact = out.facts.len() as u32;
        out.services.push(Service {
            adopt_until_ns: around.adopt_until_ns.get(&service.name).copied().unwrap_or(0),
            first_rule,
            first_fact,
            stable_subset,
            id: assigned.services.get(&service.name).unwrap_or(0) as u16,
            rules: rules as u16,
            facts: facts.0.len() as u16,
            identify: identify_codes(service),
            list_kinds,
            flags,
            lease_ms: service.agent_lease.map_or(0, |l| l.0),
            breaker: breaker(service),
        });
        out.facts.extend(facts.0);
        for l in &service.listen {
            let drained = |i: &model::Instance| away.contains(&format!("{}/{}", service.name, i.id));
            let stable = |i: &&model::Instance| service.stable.matches(i) && !drained(i);
            let own = service.instances.iter().filter(stable).find(|i| i.address == l.addr);
            let far = own.is_some_and(|i| subsets::is_far(service, i, zone));
            let value = ListenerValue::new(index as u32, own.is_some()).with_far(far);
            let value = value.with_switches(further::switches(service, l));
            let _ = out.listeners.insert(listener_key(l), value);
            // Who has the address answers its echo requests: an instance, or else gray.
            if !policy.services.iter().flat_map(|s| &s.instances).any(|i| i.address.ip() == l.addr.ip()) {
                let _ = out.listeners.insert(echo_key(l), ListenerValue::new(index as u32, false));
            }
        }
        Ok(())
    }

    /// What stands behind the services.
    pub fn guard(&mut self, g: &Guard<'_>) -> Result<(), CompileError> {
        let before = sizes(&self.out);
        guard::put(self.policy, g, (&self.lists, &self.assigned, self.around), &mut self.out)?;
        self.is_room(before, &g.name)
    }

    pub fn end(mut self) -> Result<Compiled, CompileError> {
        let number = |l: &model::Lane| Some((self.assigned.lanes.get(&l.name)?, lane_check(&l.name)));
        self.out.lanes = self.policy.lanes.iter().filter_map(number).collect();
        let whole = [
            ("services, entries of `accept` included", self.out.services.len(), limits::SERVICES as usize),
            ("lanes", self.out.lanes.len(), limits::LANES as usize),
        ];
        for (what, n, limit) in whole.into_iter().chain(sizes(&self.out)) {
            if n > limit {
                return Err(CompileError::Limit { what, limit: limit as u32 });
            }
        }
        self.out.assigned = self.assigned;
        Ok(self.out)
    }
}

fn breaker(service: &model::Service) -> Breaker {
    service.breaker.map_or(Breaker::default(), |b| Breaker {
        window_ms: b.window.0,
        open_ms: b.open.0,
        failures: b.failures,
        retransmits: b.retransmits,
    })
}

/// Of what, how much there is, and room for how much.
type Size = (&'static str, usize, usize);

/// What all services share.
fn sizes(out: &Compiled) -> [Size; 6] {
    [
        ("listeners", out.listeners.len(), limits::LISTENERS as usize),
        ("facts", out.facts.len(), limits::FACTS as usize),
        ("rules", out.rules.len(), limits::RULES as usize),
        ("weighted routes", out.weighted.len(), limits::WEIGHTED as usize),
        ("subsets", out.subsets.len(), limits::SUBSETS as usize),
        (
            "instances that `route-headers` tell apart by weights, addresses and blacklists",
            out.metadata.len(),
            limits::METADATA as usize,
        ),
    ]
}
