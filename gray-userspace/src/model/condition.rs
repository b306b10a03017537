//! When a route applies, and the lists that are asked about then.

use std::{borrow::Cow, collections::BTreeSet};

use super::{Caller, ClaimKind, Cohort, CohortBody, Policy};

/// When a route applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    Cohort(String),
    /// A claim has one of these values, in their canonical texts.
    Claim {
        of: ClaimKind,
        values: BTreeSet<String>,
    },
    /// The connection is in this lane.
    Lane(String),
    /// It is a call by a workload of which the policy says this.
    Caller(Caller),
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Not(Box<Condition>),
}

/// An explicit list: a cohort's, or the values of a condition on a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List<'a> {
    /// The cohort's name, or the condition's text, which is no name.
    pub name: Cow<'a, str>,
    pub of: ClaimKind,
    /// As the document gives them.
    pub ids: Cow<'a, BTreeSet<String>>,
    /// It can be edited live.
    pub is_cohort: bool,
}

/// `platform=android|ios`: equal for conditions that are one, and for no others.
pub fn claim_text(of: ClaimKind, values: &BTreeSet<String>) -> String {
    let plain = |v: &str| v.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-:/@+*".contains(&b));
    let shown = |v: &String| if plain(v) { v.clone() } else { serde_json::Value::from(&**v).to_string() };
    format!("{}={}", of.name(), values.iter().map(shown).collect::<Vec<_>>().join("|"))
}

/// How many first bytes the wildcards among a claim's values ask for. In canonical texts nothing else ends so.
pub fn beginnings(of: ClaimKind, values: &BTreeSet<String>) -> BTreeSet<u8> {
    let wild = values.iter().filter(|_| of.is_read()).filter_map(|v| v.strip_suffix('*'));
    wild.filter_map(|text| u8::try_from(text.len()).ok()).collect()
}

impl Condition {
    fn lists<'a>(&'a self, policy: &Policy, out: &mut Vec<List<'a>>) {
        match self {
            Self::Cohort(_) | Self::Lane(_) => {}
            Self::Caller(caller) => {
                let name = Cow::from(caller.to_string());
                if out.iter().all(|l| l.name != name) {
                    let ids = Cow::Owned(policy.callers(caller));
                    out.push(List { name, of: ClaimKind::Workload, ids, is_cohort: false });
                }
            }
            Self::Claim { of, values } => {
                let name = Cow::from(claim_text(*of, values));
                if out.iter().all(|l| l.name != name) {
                    out.push(List { name, of: *of, ids: Cow::Borrowed(values), is_cohort: false });
                }
            }
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|p| p.lists(policy, out)),
            Self::Not(inner) => inner.lists(policy, out),
        }
    }
}

impl Cohort {
    /// What it is made of, if that is no list and no part.
    pub fn joined(&self) -> Option<&Condition> {
        match &self.body {
            CohortBody::Joined(of) => Some(of),
            _ => None,
        }
    }
}

impl Policy {
    /// Whether a condition asks about a cohort, also by way of others.
    pub fn asks(&self, when: &Condition, cohort: &str) -> bool {
        match when {
            Condition::Cohort(n) => {
                n == cohort || self.cohort(n).and_then(Cohort::joined).is_some_and(|w| self.asks(w, cohort))
            }
            Condition::Claim { .. } | Condition::Lane(_) | Condition::Caller(_) => false,
            Condition::All(parts) | Condition::Any(parts) => parts.iter().any(|p| self.asks(p, cohort)),
            Condition::Not(inner) => self.asks(inner, cohort),
        }
    }

    /// Whether a condition is about who a client is and nothing else: a list, or any of several.
    pub fn is_explicit(&self, when: &Condition) -> bool {
        match when {
            Condition::Cohort(n) => match self.cohort(n).map(|c| &c.body) {
                Some(CohortBody::List { .. }) => true,
                Some(CohortBody::Joined(of)) => self.is_explicit(of),
                _ => false,
            },
            Condition::Any(parts) => parts.iter().all(|p| self.is_explicit(p)),
            Condition::Claim { .. }
            | Condition::Lane(_)
            | Condition::Caller(_)
            | Condition::All(_)
            | Condition::Not(_) => false,
        }
    }

    /// Every list, each once: those of cohorts, then those of conditions.
    pub fn lists(&self) -> Vec<List<'_>> {
        let mut conditions = Vec::new();
        self.routes.iter().filter_map(|r| r.when.as_ref()).for_each(|w| w.lists(self, &mut conditions));
        self.services.iter().flat_map(|s| &s.accept).for_each(|a| a.from.lists(self, &mut conditions));
        self.cohorts.iter().filter_map(Cohort::joined).for_each(|w| w.lists(self, &mut conditions));
        let headers: BTreeSet<_> = self.services.iter().flat_map(|s| s.header_values()).collect();
        for (of, value) in headers {
            let values = BTreeSet::from([value]);
            let name = Cow::from(claim_text(of, &values));
            conditions.push(List { name, of, ids: Cow::Owned(values), is_cohort: false });
        }
        let cohorts = self.cohorts.iter().filter_map(|c| match &c.body {
            CohortBody::List { of, ids } => {
                Some(List { name: Cow::from(&*c.name), of: *of, ids: Cow::Borrowed(ids), is_cohort: true })
            }
            CohortBody::Percent { .. } | CohortBody::Tail { .. } | CohortBody::Joined(_) => None,
        });
        cohorts.chain(conditions).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b4_the_text_of_a_condition_is_its_own() {
        let text = |values: &[&str]| {
            claim_text(ClaimKind::Platform, &values.iter().map(|v| (*v).to_owned()).collect())
        };
        assert_eq!(text(&["ios", "android"]), "platform=android|ios");
        assert_eq!(text(&["a|b"]), "platform=\"a|b\"");
        assert_eq!(text(&["a", "b"]), "platform=a|b");
        assert_eq!(text(&["a\"|\"b", "c d"]), "platform=\"a\\\"|\\\"b\"|\"c d\"");
    }
}
