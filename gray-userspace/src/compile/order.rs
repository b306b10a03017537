//! Which rules a service has, in the decision's order. Must not know tables.

use gray_common::decide::Precedence;

use super::conditions;
use crate::model::{Arm, Policy, Route, Selector, Service, Target};

/// The order of a service's rules: by step, then a rule for one service before one for all. Ties go to the first in the
/// document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Order {
    pub step: Precedence,
    pub for_all: bool,
}

impl Order {
    pub fn of(policy: &Policy, route: &Route) -> Self {
        let step = match &route.to {
            Target::Lane(_) => Precedence::Lane,
            Target::Arms(_) => conditions::precedence(policy, route.when.as_ref()),
        };
        Self { step, for_all: route.service.is_none() }
    }
}

/// What a route means for one service.
#[derive(Clone, Copy, Debug)]
pub struct Sends<'a> {
    pub route: &'a Route,
    pub order: Order,
    pub to: To<'a>,
}

#[derive(Clone, Copy, Debug)]
pub enum To<'a> {
    Subset(&'a Selector),
    Weighted(&'a [Arm]),
}

/// The routes about a service, first to last.
pub fn of<'a>(policy: &'a Policy, service: &Service) -> Vec<Sends<'a>> {
    let about = policy.routes.iter().filter(|r| policy.applies(r, &service.name));
    let mut out: Vec<_> = about
        .filter_map(|route| {
            let to = match &route.to {
                Target::Lane(lane) => To::Subset(policy.lane(lane)?.subsets.get(&service.name)?),
                Target::Arms(arms) => match arms.as_slice() {
                    [only] => To::Subset(&only.subset),
                    arms => To::Weighted(arms),
                },
            };
            Some(Sends { route, order: Order::of(policy, route), to })
        })
        .collect();
    // Stable: the document's order decides ties.
    out.sort_by_key(|s| s.order);
    out
}
