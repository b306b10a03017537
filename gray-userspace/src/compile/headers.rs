//! `n-d-*` headers: what a client asks for, as conditions on claims, and as subsets of what a route chose. The values that count are
//! those that instances of the service have.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Arm, ClaimKind, Condition, MetaKey, RouteHeaders, Selector, Service};

/// What one request asks for: of some keys, a value each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked(BTreeMap<MetaKey, String>);

impl Asked {
    /// The request has these headers.
    pub fn condition(&self) -> Condition {
        let one = |(key, value): (&MetaKey, &String)| {
            let values = BTreeSet::from([value.clone()]);
            Some(Condition::Claim { of: ClaimKind::of_header(*key)?, values })
        };
        Condition::All(self.0.iter().filter_map(one).collect())
    }

    /// Of the instances that a selector chose, those that are asked for; `None`: there are none.
    fn filter(&self, service: &Service, chosen: &Selector) -> Option<Selector> {
        let mut out = chosen.clone();
        for (key, value) in &self.0 {
            let has = out.0.entry(*key).or_insert_with(|| BTreeSet::from([value.clone()]));
            if !has.contains(value) {
                return None;
            }
            *has = BTreeSet::from([value.clone()]);
        }
        service.instances.iter().any(|i| out.matches(i)).then_some(out)
    }

    /// Of all instances.
    pub fn alone(&self, service: &Service) -> Option<Selector> {
        self.filter(service, &Selector(BTreeMap::new()))
    }

    /// The arms of a route for such a request: each is filtered if that leaves anybody. `None`: nothing changes.
    pub fn arms(&self, service: &Service, over_routes: bool, arms: &[Arm]) -> Option<Vec<Arm>> {
        let one = |a: &Arm| Arm {
            subset: self.filter(service, &a.subset).unwrap_or_else(|| a.subset.clone()),
            basis_points: a.basis_points,
        };
        let filtered: Vec<Arm> = arms.iter().map(one).collect();
        let met = arms.iter().any(|a| self.filter(service, &a.subset).is_some());
        // What the route does already goes before what another header would have instead.
        if filtered != arms || met && over_routes {
            // Two arms of one subset would be one in the table of buckets.
            let distinct: BTreeSet<&Selector> = filtered.iter().map(|a| &a.subset).collect();
            return (distinct.len() == filtered.len()).then_some(filtered);
        }
        if !over_routes {
            return None;
        }
        let subset = self.alone(service)?;
        Some(vec![Arm { subset, basis_points: 10_000 }])
    }
}

/// Everything that a request can ask of the service, what says most first.
pub fn asked(service: &Service, headers: &RouteHeaders) -> Vec<Asked> {
    let mut out = vec![BTreeMap::new()];
    for key in &headers.read {
        let values = RouteHeaders::values(*key, service);
        let more = out.iter().flat_map(|o| {
            values.iter().map(move |v| {
                let mut o: BTreeMap<MetaKey, String> = o.clone();
                let _ = o.insert(*key, (*v).to_owned());
                o
            })
        });
        let more: Vec<_> = more.collect();
        out.extend(more);
    }
    out.retain(|o| !o.is_empty());
    out.sort_by_key(|o| std::cmp::Reverse(o.len()));
    out.into_iter().map(Asked).collect()
}

/// One of the headers is there, whatever it says.
pub fn any(headers: &RouteHeaders) -> Condition {
    let one = |key: &MetaKey| {
        Some(Condition::Claim { of: ClaimKind::of_header(*key)?, values: BTreeSet::from(["*".to_owned()]) })
    };
    Condition::Any(headers.read.iter().filter_map(one).collect())
}

/// The names under which requests are counted that went where their headers said with no route, and those whose headers said
/// nothing that counts.
pub fn names(service: &str) -> [String; 2] {
    [format!("n-d/used@{service}"), format!("n-d/ignored@{service}")]
}
