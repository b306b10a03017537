//! What a policy means, read from its own words: no tables, no bits; of hashes only those that percentages are made of.

use std::net::IpAddr;

use gray_common::{
    decide::bucket::in_percent,
    hash::{CLAIM_MAX, claim_hash_bytes, salt},
    wire::Addr,
};
use gray_userspace::{
    compile::conditions::claim_code,
    model::{ClaimKind, CohortBody, Condition, Policy, Route, Service},
};
use ipnet::IpNet;

use super::{super::rig::KEY, Asking};

/// The route that applies; `None`: stable, by default.
pub fn route<'p>(policy: &'p Policy, service: &Service, a: &Asking) -> Option<&'p Route> {
    let client = Client { policy, service, asking: a };
    let step = |r: &Route| match &r.when {
        Some(w) if explicit(policy, w) => 0,
        Some(_) => 1,
        None => 2,
    };
    // The first in the document of the first step that has one.
    let applies = |r: &&Route| r.when.as_ref().is_none_or(|w| client.meets(w));
    policy.routes.iter().filter(applies).min_by_key(|r| step(r))
}

fn explicit(policy: &Policy, when: &Condition) -> bool {
    match when {
        Condition::Cohort(name) => match policy.cohort(name).map(|c| &c.body) {
            Some(CohortBody::Joined(of)) => explicit(policy, of),
            body => matches!(body, Some(CohortBody::List { .. })),
        },
        Condition::Any(parts) => parts.iter().all(|p| explicit(policy, p)),
        _ => false,
    }
}

struct Client<'a> {
    policy: &'a Policy,
    service: &'a Service,
    asking: &'a Asking,
}

impl Client<'_> {
    fn meets(&self, when: &Condition) -> bool {
        match when {
            Condition::Cohort(name) => self.policy.cohort(name).is_some_and(|c| self.is_in(&c.body)),
            Condition::Claim { of, values } => values.iter().any(|v| self.has(*of, v)),
            // Nobody who comes by packets is in a lane.
            Condition::Lane(_) => false,
            Condition::Caller(caller) => {
                self.policy.callers(caller).iter().any(|name| self.has(ClaimKind::Workload, name))
            }
            Condition::All(parts) => parts.iter().all(|p| self.meets(p)),
            Condition::Any(parts) => parts.iter().any(|p| self.meets(p)),
            Condition::Not(inner) => !self.meets(inner),
        }
    }

    fn is_in(&self, cohort: &CohortBody) -> bool {
        match cohort {
            CohortBody::List { of, ids } => ids.iter().any(|id| self.has(*of, id)),
            CohortBody::Joined(of) => self.meets(of),
            CohortBody::Tail { of, digits } => {
                let value = self.asking.said.get(of);
                value.is_some_and(|v| digits.iter().any(|d| v.ends_with(d.as_bytes())))
            }
            CohortBody::Percent { of, basis_points, salt: s } => {
                let who = match of {
                    Some(of) => self.hash(*of),
                    None => self.service.identify.iter().find_map(|of| self.hash(*of)),
                };
                who.is_some_and(|h| in_percent(h, salt(s), u32::from(*basis_points)))
            }
        }
    }

    /// Whether a list's entry is about this client.
    fn has(&self, of: ClaimKind, entry: &str) -> bool {
        if of != ClaimKind::Source {
            let is = |v: &[u8]| match entry.strip_suffix('*') {
                Some(beginning) => v.starts_with(beginning.as_bytes()),
                None => v == entry.as_bytes(),
            };
            return self.value(of).is_some_and(is);
        }
        let address = || entry.parse::<IpAddr>().map(IpNet::from).ok();
        entry.parse().ok().or_else(address).is_some_and(|net| net.contains(&self.asking.source))
    }

    /// As far as it counts.
    fn value(&self, of: ClaimKind) -> Option<&[u8]> {
        self.asking.said.get(&of).map(|v| &v[..v.len().min(CLAIM_MAX)])
    }

    fn hash(&self, of: ClaimKind) -> Option<u64> {
        if of == ClaimKind::Source {
            return Some(claim_hash_bytes(KEY, claim_code(of), &Addr::from(self.asking.source).0));
        }
        self.value(of).map(|v| claim_hash_bytes(KEY, claim_code(of), v))
    }
}
