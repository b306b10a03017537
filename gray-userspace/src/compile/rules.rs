//! A service's rules: each route's and lane's, with what is left of its instances when a client asks for some, and with whom they
//! refuse. Must not know tables of subsets.

use gray_common::{
    decide::Precedence,
    limits,
    wire::{ListenerValue, Rule, Weighted},
};

use super::{
    Assigned, CompileError,
    conditions::{self, Alternative, Facts},
    headers,
    subsets::Subsets,
    weights::Ownership,
};
use crate::model::{Arm, At, Condition, Policy, Service};

/// Puts rules behind those that are there.
pub struct Maker<'m, 'a> {
    pub policy: &'m Policy,
    pub assigned: &'m Assigned,
    pub service: &'a Service,
    pub subsets: &'m mut Subsets<'a>,
    pub facts: &'m mut Facts,
}

/// What a route or a lane makes rules of.
pub struct What<'w> {
    /// All but conditions and target.
    pub rule: Rule,
    pub always: Alternative,
    /// As errors call it.
    pub text: &'w str,
    pub arms: &'w [Arm],
    /// Of several arms: which buckets each has.
    pub owner: Option<&'w Ownership>,
}

impl Maker<'_, '_> {
    /// The rules of one route or lane: first of those who ask for less by headers, then of everybody else.
    pub fn put(&mut self, what: &What<'_>, when: Option<&Condition>) -> Result<(), CompileError> {
        let service = self.service;
        if let Some(h) = &service.headers {
            for asked in headers::asked(service, h) {
                let when = both(when, asked.condition());
                let arms = |over| asked.arms(service, over, what.arms);
                let (policy, client) = (arms(false), arms(true));
                match h.over_routes(service) {
                    At::Some if policy != client => {
                        let over = self.facts.at_listener(what.text, ListenerValue::OVER_ROUTES)?;
                        // Where the policy's value beats the client's, the route is for everybody else, too.
                        let other = Alternative { need: 0, forbid: over };
                        let over = Alternative { need: over, forbid: 0 };
                        for (arms, always) in [(client, over), (policy, other)] {
                            let what = What { always: what.always.and(always), ..*what };
                            if let Some(arms) = arms {
                                self.lead(&what, &arms, Some(&when))?;
                            }
                        }
                    }
                    At::All(true) => self.lead_if(what, client, &when)?,
                    At::Some | At::All(false) => self.lead_if(what, policy, &when)?,
                }
            }
        }
        self.lead(what, what.arms, when)
    }

    fn lead_if(
        &mut self,
        what: &What<'_>,
        arms: Option<Vec<Arm>>,
        when: &Condition,
    ) -> Result<(), CompileError> {
        arms.map_or(Ok(()), |arms| self.lead(what, &arms, Some(when)))
    }

    /// What headers do where no route applies. The counters of both, by the numbers that `headers::names` have.
    pub fn put_headers(&mut self) -> Result<(), CompileError> {
        let service = self.service;
        let Some(h) = &service.headers else { return Ok(()) };
        let [used, ignored] = headers::names(&service.name);
        let rule = |name: &str| Rule {
            id: self.assigned.rules.get(name).unwrap_or(0) as u16,
            precedence: Precedence::Condition as u8,
            ..Rule::default()
        };
        let (by_used, by_ignored) = (rule(&used), rule(&ignored));
        let one = |rule, text| What { rule, always: Alternative::default(), text, arms: &[], owner: None };
        let without = h.without_route(service);
        let always = match without {
            At::Some => {
                Alternative { need: self.facts.at_listener(&used, ListenerValue::WITHOUT_ROUTE)?, forbid: 0 }
            }
            At::All(_) => Alternative::default(),
        };
        for asked in headers::asked(service, h).iter().filter(|_| without != At::All(false)) {
            if let Some(subset) = asked.alone(service) {
                let arm = Arm { subset, basis_points: 10_000 };
                let what = What { always, ..one(by_used, &used) };
                self.lead(&what, &[arm], Some(&asked.condition()))?;
            }
        }
        // Those that are only weights, addresses and blacklists are none that rules see.
        if h.read.is_empty() {
            return Ok(());
        }
        let stable = Arm { subset: service.stable.clone(), basis_points: 10_000 };
        self.lead(&one(by_ignored, &ignored), &[stable], Some(&headers::any(h)))
    }

    /// To these arms; before that, those who are refused by some instance of them.
    fn lead(&mut self, what: &What<'_>, arms: &[Arm], when: Option<&Condition>) -> Result<(), CompileError> {
        let refused: Vec<Condition> =
            arms.iter().filter_map(|a| self.service.refused_by(&a.subset)).collect();
        if !refused.is_empty() {
            let others = both(when, Condition::Any(refused));
            self.rules(what, (arms, true), Some(&others))?;
        }
        self.rules(what, (arms, false), when)
    }

    fn rules(
        &mut self,
        what: &What<'_>,
        (arms, refused): (&[Arm], bool),
        when: Option<&Condition>,
    ) -> Result<(), CompileError> {
        let (target, weighted) = match (arms, what.owner) {
            ([only], _) => (self.subset(only, refused)?, 0),
            (arms, Some(owner)) => (self.weigh(what, (arms, refused), owner)?, 1),
            // None is left out by `config`: several arms have weights.
            _ => return Ok(()),
        };
        for a in conditions::alternatives(self.policy, self.assigned, self.facts, what.text, when)? {
            let Alternative { need, forbid } = a.and(what.always);
            // Whoever is accepted because of the lane that this is about is not refused.
            if need & forbid == 0 {
                self.subsets.out().rules.push(Rule { need, forbid, target, weighted, ..what.rule });
            }
        }
        Ok(())
    }

    fn subset(&mut self, arm: &Arm, refused: bool) -> Result<u32, CompileError> {
        if refused { self.subsets.refused(&arm.subset) } else { self.subsets.index(&arm.subset) }
    }

    fn weigh(
        &mut self,
        what: &What<'_>,
        (arms, refused): (&[Arm], bool),
        owner: &Ownership,
    ) -> Result<u32, CompileError> {
        let mut table = Weighted { arms: [0; limits::ARMS], owner: [0; limits::BUCKETS as usize] };
        for (slot, arm) in table.arms.iter_mut().zip(arms) {
            *slot = self.subset(arm, refused)?;
        }
        // Buckets belong to what the route says, whatever is left of it.
        let names: Vec<String> = what.arms.iter().map(|a| a.subset.to_string()).collect();
        for (cell, name) in table.owner.iter_mut().zip(owner.owners()) {
            *cell = names.iter().position(|n| n == name).unwrap_or(0) as u8;
        }
        let out = self.subsets.out();
        out.weighted.push(Box::new(table));
        Ok(out.weighted.len() as u32 - 1)
    }
}

fn both(when: Option<&Condition>, and: Condition) -> Condition {
    Condition::All(when.cloned().into_iter().chain([and]).collect())
}
