//! Conditions to rules: `all` / `any` / `not` over cohorts and claims become alternatives (disjunctive normal form), each a pair of
//! masks over the service's facts.

use gray_common::{
    decide::{Precedence, claims, tail},
    hash::salt,
    limits,
    wire::{FACT_LANE, FACT_LIST, FACT_PERCENT, Fact, ListenerValue},
};

use super::{Assigned, CompileError, assigned::Numbers};
use crate::model::{ClaimKind, Cohort, CohortBody, Condition, Policy, claim_text};

/// The wire code of a claim kind.
pub fn claim_code(kind: ClaimKind) -> u8 {
    match kind {
        ClaimKind::Source => claims::SOURCE,
        ClaimKind::Mark => claims::MARK,
        ClaimKind::Dscp => claims::DSCP,
        ClaimKind::Workload => claims::WORKLOAD,
        ClaimKind::App => claims::APP,
        ClaimKind::User => claims::USER,
        ClaimKind::Tenant => claims::TENANT,
        ClaimKind::Device => claims::DEVICE,
        ClaimKind::Platform => claims::PLATFORM,
        ClaimKind::Channel => claims::CHANNEL,
        ClaimKind::NdVersion => claims::ND_VERSION,
        ClaimKind::NdRegion => claims::ND_REGION,
        ClaimKind::NdEnv => claims::ND_ENV,
        ClaimKind::Tag => claims::TAG,
    }
}

/// One way to meet a condition: facts that must be true and facts that must not, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alternative {
    pub need: u64,
    pub forbid: u64,
}

impl Alternative {
    pub fn and(self, other: Self) -> Self {
        Self { need: self.need | other.need, forbid: self.forbid | other.forbid }
    }

    fn can_hold(&self) -> bool {
        self.need & self.forbid == 0
    }
}

/// The facts of one service, each once, in the order in which rules first ask for them.
#[derive(Clone, Debug, Default)]
pub struct Facts(pub Vec<Fact>);

impl Facts {
    fn bit(&mut self, fact: Fact) -> Option<u64> {
        let at = self.0.iter().position(|f| *f == fact).unwrap_or_else(|| {
            self.0.push(fact);
            self.0.len() - 1
        });
        (at < limits::FACTS_PER_SERVICE as usize).then(|| 1 << at)
    }

    /// The connection is in this lane.
    pub fn in_lane(&mut self, name: &str, number: u32) -> Result<Alternative, CompileError> {
        let need = self.lane(name, number)?;
        Ok(Alternative { need, forbid: 0 })
    }

    /// The connection is in no lane: what a route asks for that leads into one.
    pub fn in_no_lane(&mut self, route: &str) -> Result<Alternative, CompileError> {
        let forbid = self.lane(route, 0)?;
        Ok(Alternative { need: 0, forbid })
    }

    /// The bit that is set where the listener has this switch.
    pub fn at_listener(&mut self, asks: &str, switch: u32) -> Result<u64, CompileError> {
        let fact = Fact { kind: FACT_LIST, value: ListenerValue::list_of(switch), ..Fact::default() };
        self.bit(fact).ok_or_else(|| CompileError::TooComplex { route: asks.to_string() })
    }

    fn lane(&mut self, asks: &str, number: u32) -> Result<u64, CompileError> {
        let fact = Fact { kind: FACT_LANE, value: number, ..Fact::default() };
        self.bit(fact).ok_or_else(|| CompileError::TooComplex { route: asks.to_string() })
    }
}

/// The step of the decision's order that a condition belongs to: plain lists are explicit identities.
pub fn precedence(policy: &Policy, when: Option<&Condition>) -> Precedence {
    match when {
        None => Precedence::Weight,
        Some(c) if policy.is_explicit(c) => Precedence::Explicit,
        Some(_) => Precedence::Condition,
    }
}

/// The alternatives under which a route applies; no condition: one that always holds.
pub fn alternatives(
    policy: &Policy,
    assigned: &Assigned,
    facts: &mut Facts,
    route: &str,
    when: Option<&Condition>,
) -> Result<Vec<Alternative>, CompileError> {
    match when {
        None => Ok(vec![Alternative::default()]),
        Some(c) => Spread { policy, assigned, facts, route }.spread(c, false),
    }
}

struct Spread<'a> {
    policy: &'a Policy,
    assigned: &'a Assigned,
    facts: &'a mut Facts,
    route: &'a str,
}

impl Spread<'_> {
    fn spread(&mut self, condition: &Condition, negated: bool) -> Result<Vec<Alternative>, CompileError> {
        match (condition, negated) {
            (Condition::Cohort(name), _) => {
                let policy = self.policy;
                let cohort = policy.cohort(name).ok_or_else(|| CompileError::NoCohort(name.clone()))?;
                match fact(cohort, &self.assigned.lists)? {
                    Asked::Fact(fact) => self.one(fact, negated),
                    Asked::All(of) => self.spread(of, negated),
                }
            }
            (Condition::Claim { of, values }, _) => {
                self.one(list_fact(&claim_text(*of, values), &self.assigned.lists)?, negated)
            }
            (Condition::Caller(caller), _) => {
                self.one(list_fact(&caller.to_string(), &self.assigned.lists)?, negated)
            }
            (Condition::Lane(name), _) => {
                let number = self.assigned.lanes.get(name).unwrap_or(u32::MAX);
                self.one(Fact { kind: FACT_LANE, value: number, ..Fact::default() }, negated)
            }
            (Condition::Not(inner), _) => self.spread(inner, !negated),
            (Condition::Any(parts), false) | (Condition::All(parts), true) => {
                let mut out = Vec::new();
                for p in parts {
                    out.extend(self.spread(p, negated)?);
                    self.bound(&out)?;
                }
                Ok(out)
            }
            (Condition::All(parts), false) | (Condition::Any(parts), true) => {
                let mut out = vec![Alternative::default()];
                for p in parts {
                    // Nobody is left that the rest could be asked of.
                    if out.is_empty() {
                        break;
                    }
                    let right = self.spread(p, negated)?;
                    out = out
                        .iter()
                        .flat_map(|l| right.iter().map(|r| l.and(*r)))
                        .filter(Alternative::can_hold)
                        .collect();
                    self.bound(&out)?;
                }
                Ok(out)
            }
        }
    }

    /// A fact that must be true, or must not.
    fn one(&mut self, fact: Fact, negated: bool) -> Result<Vec<Alternative>, CompileError> {
        let bit = self.facts.bit(fact).ok_or_else(|| self.too_complex())?;
        let (need, forbid) = if negated { (0, bit) } else { (bit, 0) };
        Ok(vec![Alternative { need, forbid }])
    }

    /// Bounded while it grows, not after.
    fn bound(&self, out: &[Alternative]) -> Result<(), CompileError> {
        if out.len() > limits::RULES_PER_SERVICE as usize { Err(self.too_complex()) } else { Ok(()) }
    }

    fn too_complex(&self) -> CompileError {
        CompileError::TooComplex { route: self.route.to_string() }
    }
}

fn list_fact(name: &str, lists: &Numbers) -> Result<Fact, CompileError> {
    let bit = lists.get(name).ok_or_else(|| CompileError::NoCohort(name.to_owned()))?;
    Ok(on_list(bit))
}

/// Being on the list of this bit.
pub fn on_list(bit: u32) -> Fact {
    Fact { kind: FACT_LIST, value: bit, ..Fact::default() }
}

/// What a cohort asks.
enum Asked<'a> {
    Fact(Fact),
    All(&'a Condition),
}

fn fact<'a>(cohort: &'a Cohort, lists: &Numbers) -> Result<Asked<'a>, CompileError> {
    let fact = match &cohort.body {
        CohortBody::List { .. } => list_fact(&cohort.name, lists)?,
        CohortBody::Percent { of, basis_points, salt: s } => Fact {
            kind: FACT_PERCENT,
            value: u32::from(*basis_points),
            salt: salt(s),
            claim: of.map_or(0, claim_code),
            ..Fact::default()
        },
        // What is no tail was not let in.
        CohortBody::Tail { of, digits } => {
            tail::fact(claim_code(*of), digits.iter().map(String::as_str)).unwrap_or_default()
        }
        CohortBody::Joined(of) => return Ok(Asked::All(of)),
    };
    Ok(Asked::Fact(fact))
}
