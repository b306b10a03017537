//! Conditions to conjunctions: `all` / `any` / `not` over cohorts become a list of rules with at most four terms each
//! (disjunctive normal form).

use gray_common::{
    decide::{Precedence, claims},
    hash::salt,
    limits,
    wire::{TERM_LIST, TERM_PERCENT, Term},
};

use super::{CompileError, assigned::Numbers};
use crate::model::{ClaimKind, Cohort, CohortBody, Condition, Policy};

/// The wire code of a claim kind.
pub fn claim_code(kind: ClaimKind) -> u8 {
    match kind {
        ClaimKind::Source => claims::SOURCE,
        ClaimKind::Mark => claims::MARK,
        ClaimKind::Dscp => claims::DSCP,
        ClaimKind::Workload => claims::WORKLOAD,
    }
}

/// A conjunction: every term holds.
pub type Conjunction = Vec<Term>;

/// The step of the decision's order that a condition belongs to: plain lists are explicit identities.
pub fn precedence(policy: &Policy, when: Option<&Condition>) -> Precedence {
    fn explicit(policy: &Policy, c: &Condition) -> bool {
        match c {
            Condition::Cohort(n) => {
                policy.cohort(n).is_some_and(|c| matches!(c.body, CohortBody::List { .. }))
            }
            Condition::Any(parts) => parts.iter().all(|p| explicit(policy, p)),
            Condition::All(_) | Condition::Not(_) => false,
        }
    }
    match when {
        None => Precedence::Weight,
        Some(c) if explicit(policy, c) => Precedence::Explicit,
        Some(_) => Precedence::Condition,
    }
}

/// The alternatives under which a route applies; no condition: one empty conjunction.
pub fn alternatives(
    policy: &Policy,
    lists: &Numbers,
    route: &str,
    when: Option<&Condition>,
) -> Result<Vec<Conjunction>, CompileError> {
    let out = match when {
        None => vec![Vec::new()],
        Some(c) => normal_form(policy, lists, route, c, false)?,
    };
    if out.iter().any(|c| c.len() > limits::TERMS) || out.len() > limits::RULES_PER_SERVICE as usize {
        return Err(CompileError::TooComplex { route: route.to_string() });
    }
    Ok(out)
}

fn normal_form(
    policy: &Policy,
    lists: &Numbers,
    route: &str,
    condition: &Condition,
    negated: bool,
) -> Result<Vec<Conjunction>, CompileError> {
    let each = |parts: &[Condition]| {
        parts.iter().map(|p| normal_form(policy, lists, route, p, negated)).collect::<Result<Vec<_>, _>>()
    };
    match (condition, negated) {
        (Condition::Cohort(name), _) => {
            let cohort = policy.cohort(name).ok_or_else(|| CompileError::NoCohort(name.clone()))?;
            Ok(vec![vec![term(cohort, lists, negated)?]])
        }
        (Condition::Not(inner), _) => normal_form(policy, lists, route, inner, !negated),
        (Condition::Any(parts), false) | (Condition::All(parts), true) => Ok(each(parts)?.concat()),
        (Condition::All(parts), false) | (Condition::Any(parts), true) => {
            let mut out = vec![Vec::new()];
            for alternatives in each(parts)? {
                out = out
                    .iter()
                    .flat_map(|left: &Conjunction| {
                        alternatives.iter().map(|right| left.iter().chain(right).copied().collect())
                    })
                    .collect();
                // Bounded while it grows, not after.
                if out.len() > limits::RULES_PER_SERVICE as usize {
                    return Err(CompileError::TooComplex { route: route.to_string() });
                }
            }
            Ok(out)
        }
    }
}

fn term(cohort: &Cohort, lists: &Numbers, negated: bool) -> Result<Term, CompileError> {
    let negate = u8::from(negated);
    Ok(match &cohort.body {
        CohortBody::List { .. } => {
            let bit = lists.get(&cohort.name).ok_or_else(|| CompileError::NoCohort(cohort.name.clone()))?;
            Term { kind: TERM_LIST, value: bit, negate, ..Term::default() }
        }
        CohortBody::Percent { of, basis_points, salt: s } => Term {
            kind: TERM_PERCENT,
            value: u32::from(*basis_points),
            salt: salt(s),
            claim: of.map_or(0, claim_code),
            negate,
            ..Term::default()
        },
    })
}
