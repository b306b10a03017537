//! Subsets of one service: which instances match a selector, and the Maglev table over them per address family.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use gray_common::{
    hash::salt,
    maglev,
    slots::Slots,
    turns,
    wire::{
        ARM_GRAY, ARM_STABLE, Addr, Instance, SUBSET_DENY, SUBSET_NEAR4, SUBSET_NEAR6, SUBSET_REFUSE,
        SUBSET_SPARE4, SUBSET_SPARE6,
    },
};

use super::{CompileError, Compiled, assigned::Numbers, proto_number};
use crate::model::{self, Balance, Instead, MetaKey, Policy, Proto, Selector, ZoneAffinity};

/// A subset before its tables have places in the arena.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubsetPlan {
    /// `service: selector`.
    pub name: String,
    pub v4: Slots,
    pub v6: Slots,
    pub arm: u32,
    /// `SUBSET_*`, when all are up.
    pub flags: u32,
    /// By which programs know it in every revision, or another one with the same instances. Of service and selector; never 0.
    pub target: u32,
    pub who: Arc<Who>,
}

/// Whom a subset's tables are made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Who {
    /// Index in the policy.
    pub service: usize,
    pub v4: Family,
    pub v6: Family,
    /// It has no tables: whoever is sent there is refused.
    pub refuse: bool,
    /// When nobody serves, its clients are refused.
    pub deny: bool,
}

/// One address family of a subset. Drained ones and those of other zones are among the members: who is out for a while moves nobody else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Family {
    pub members: Vec<Member>,
    /// Who serves when none of the members does: the first of these of whom somebody does. None of them is empty; where there is none: stable.
    pub spare: Vec<Vec<Member>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Index in the service.
    pub instance: usize,
    /// In `INSTANCES`.
    pub number: u32,
    pub weight: u16,
    /// It never serves: it is drained, or of another zone where only those of the agent's may.
    pub drained: bool,
    /// Of another zone than the agent: it serves until one of the agent's takes its whole share.
    pub far: bool,
}

impl Family {
    /// None of the members serves, and somebody else is to.
    pub fn is_away(&self, share: impl Fn(&Member) -> u32) -> bool {
        self.instead(share).is_some()
    }

    /// Those others.
    pub fn instead(&self, share: impl Fn(&Member) -> u32) -> Option<&[Member]> {
        let serves = |all: &Vec<Member>| all.iter().any(|m| !m.drained && share(m) > 0);
        if serves(&self.members) {
            None
        } else {
            self.spare.iter().find(|all| serves(all)).map(Vec::as_slice)
        }
    }

    /// An instance of the agent's zone takes its whole share: others do not serve.
    pub fn is_near(&self, service: &model::Service, share: impl Fn(&Member) -> u32) -> bool {
        service.zone_affinity != ZoneAffinity::Off && is_near(&self.members, share)
    }

    /// The table when each member has so many per cent of its weight, drained ones none, and those of other zones none while one of
    /// the agent's has its whole share; empty when nobody has any. Its
    /// length depends on the number of members only.
    pub fn table(&self, service: &model::Service, share: impl Fn(&Member) -> u32) -> Slots {
        let members = self.instead(&share).unwrap_or(&self.members);
        let known = |m: &Member| Some((instance_name(service.instances.get(m.instance)?), *m));
        let all: Vec<(String, Member)> = members.iter().filter_map(known).collect();
        let backends: Vec<(&str, u32)> = all.iter().map(|(n, m)| (n.as_str(), u32::from(m.weight))).collect();
        let of = |m: &Member| if m.drained { 0 } else { share(m) };
        let near = is_near(members, &share);
        let shares: Vec<u32> = all.iter().map(|(_, m)| if near && m.far { 0 } else { of(m) }).collect();
        let len = maglev::table_len(all.len());
        let slots = match service.balance {
            Balance::Maglev => {
                let base = maglev::build(&backends, len);
                let whole = shares.iter().all(|s| *s == 100);
                if whole { base } else { maglev::with_shares(&base, &backends, &shares) }
            }
            Balance::RoundRobin => {
                let turns = |((_, weight), share): (&(&str, u32), &u32)| weight * share;
                turns::build(&backends.iter().zip(&shares).map(turns).collect::<Vec<_>>(), len)
            }
        };
        Slots::of(slots.into_iter().filter_map(|s| all.get(s as usize).map(|(_, m)| m.number)))
    }
}

/// One of the agent's zone takes its whole share.
fn is_near(members: &[Member], share: impl Fn(&Member) -> u32) -> bool {
    members.iter().any(|m| !m.far && !m.drained && share(m) >= 100)
}

/// The protocols of a service's listeners. An instance serves each of them on its one port.
pub fn protocols(s: &model::Service) -> BTreeSet<Proto> {
    s.listen.iter().map(|l| l.proto).collect()
}

/// The tables hold addresses, and the protocol is the flow's own: one number per address.
fn instance_name(i: &model::Instance) -> String {
    i.address.to_string()
}

/// Whether an instance is in another zone than the agent, or in none, where that matters.
pub fn is_far(service: &model::Service, i: &model::Instance, zone: Option<&str>) -> bool {
    let own = |zone: &str| i.meta.get(&MetaKey::Zone).is_some_and(|z| z == zone);
    service.zone_affinity != ZoneAffinity::Off && zone.is_some_and(|z| !own(z))
}

/// Every instance address of a policy.
pub fn instance_names(policy: &Policy) -> BTreeSet<String> {
    policy.services.iter().flat_map(|s| s.instances.iter().map(instance_name)).collect()
}

/// Collects the subsets that a service's routes name, each once.
pub struct Subsets<'a> {
    service: &'a model::Service,
    at: usize,
    numbers: &'a Numbers,
    drained: &'a BTreeSet<String>,
    zone: Option<&'a str>,
    known: BTreeMap<Selector, u32>,
    /// Where those are sent who are refused by a subset.
    refused: BTreeMap<Selector, u32>,
    out: &'a mut Compiled,
}

impl<'a> Subsets<'a> {
    pub fn new(
        (at, service): (usize, &'a model::Service),
        numbers: &'a Numbers,
        (drained, zone): (&'a BTreeSet<String>, Option<&'a str>),
        out: &'a mut Compiled,
    ) -> Self {
        let proto = protocols(service).into_iter().next().map_or(0, proto_number);
        for i in &service.instances {
            if let Some(n) = numbers.get(&instance_name(i)) {
                let wire = Instance {
                    addr: Addr::from(i.address.ip().to_canonical()),
                    port: i.address.port().to_be(),
                    proto,
                    live: 1,
                };
                let _ = out.instances.entry(n).or_insert(wire);
            }
        }
        Self { service, at, numbers, drained, zone, known: BTreeMap::new(), refused: BTreeMap::new(), out }
    }

    pub fn out(&mut self) -> &mut Compiled {
        self.out
    }

    /// The bank index of a selector's subset.
    pub fn index(&mut self, selector: &Selector) -> Result<u32, CompileError> {
        if let Some(i) = self.known.get(selector) {
            return Ok(*i);
        }
        let stable = self.is_stable(selector);
        let instead = if stable { Instead::default() } else { self.service.instead_of(selector) };
        // Who takes connections from some only is in nobody's place.
        let spare =
            |tier: &Selector, v4| self.members(|i| tier.matches(i) && !self.service.is_guarded(i), v4);
        let family = |v4| Family {
            members: self.members(|i| selector.matches(i), v4),
            spare: instead.tiers.iter().map(|t| spare(t, v4)).filter(|all| !all.is_empty()).collect(),
        };
        let deny = !stable && instead.deny;
        let who = Who { service: self.at, v4: family(true), v6: family(false), refuse: false, deny };
        let spare = |f: &Family, bit| if f.is_away(|_| 100) { bit } else { 0 };
        let near = |f: &Family, bit| if stable && f.is_near(self.service, |_| 100) { bit } else { 0 };
        let plan = SubsetPlan {
            name: format!("{}: {selector}", self.service.name),
            target: self.target(if stable { &self.service.stable } else { selector }),
            v4: who.v4.table(self.service, |_| 100),
            v6: who.v6.table(self.service, |_| 100),
            arm: if stable { ARM_STABLE } else { ARM_GRAY },
            flags: spare(&who.v4, SUBSET_SPARE4)
                | spare(&who.v6, SUBSET_SPARE6)
                | near(&who.v4, SUBSET_NEAR4)
                | near(&who.v6, SUBSET_NEAR6)
                | if deny { SUBSET_DENY } else { 0 },
            who: Arc::new(who),
        };
        self.out.subsets.push(plan);
        let index = self.out.subsets.len() as u32 - 1;
        let _ = self.known.insert(selector.clone(), index);
        Ok(index)
    }

    /// The bank index of the subset of those who are refused by some instance of this one; if nobody is, its own.
    pub fn refused(&mut self, selector: &Selector) -> Result<u32, CompileError> {
        if self.service.refused_by(selector).is_none() {
            return self.index(selector);
        }
        if let Some(i) = self.refused.get(selector) {
            return Ok(*i);
        }
        let name = format!("{}: {selector} (refused)", self.service.name);
        self.out.subsets.push(SubsetPlan {
            // Nobody is ever there; and what the selector's own subset is known by does not depend on it.
            target: (salt(&name) as u32).max(1),
            name,
            arm: ARM_GRAY,
            flags: SUBSET_REFUSE,
            who: Arc::new(Who { service: self.at, refuse: true, ..Who::default() }),
            ..SubsetPlan::default()
        });
        let index = self.out.subsets.len() as u32 - 1;
        let _ = self.refused.insert(selector.clone(), index);
        Ok(index)
    }

    /// No two selectors of a service have one.
    fn target(&self, selector: &Selector) -> u32 {
        let mine = format!("{}: {selector}", self.service.name);
        let mut target = (salt(&mine) as u32).max(1);
        let taken = |t: u32| {
            let mut of_service = self.known.values().filter_map(|i| self.out.subsets.get(*i as usize));
            of_service.any(|s| s.target == t && s.name != mine && s.arm == ARM_GRAY)
        };
        while taken(target) {
            target = target.wrapping_add(1).max(1);
        }
        target
    }

    /// Stable by another name is stable: what counts is which instances are chosen.
    fn is_stable(&self, selector: &Selector) -> bool {
        *selector == self.service.stable
            || self.service.instances.iter().all(|i| selector.matches(i) == self.service.stable.matches(i))
    }

    fn members(&self, wanted: impl Fn(&model::Instance) -> bool, v4: bool) -> Vec<Member> {
        let all = self.service.instances.iter().enumerate();
        let chosen = all.filter(|(_, i)| wanted(i) && i.address.is_ipv4() == v4);
        let members = chosen.filter_map(|(instance, i)| {
            let number = self.numbers.get(&instance_name(i))?;
            let drained = self.drained.contains(&format!("{}/{}", self.service.name, i.id));
            let far = is_far(self.service, i, self.zone);
            let drained = drained || far && self.service.zone_affinity == ZoneAffinity::Only;
            Some(Member { instance, number, weight: i.weight, drained, far })
        });
        members.collect()
    }
}
