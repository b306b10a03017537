//! Which rules a service has, in the decision's order. Must not know tables.

use std::borrow::Cow;

use gray_common::decide::Precedence;

use super::conditions;
use crate::model::{Arm, Condition, Lane, Policy, Route, Selector, Service, Target};

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

/// What makes a rule of a service.
#[derive(Clone, Copy, Debug)]
pub enum By<'a> {
    /// Connections that are in the lane already.
    Lane(&'a Lane),
    Route(&'a Route),
}

impl<'a> By<'a> {
    /// The name under which it is counted: the route, with the service when the route is for all.
    pub fn name(&self, service: &str) -> String {
        match self {
            Self::Lane(lane) => lane_rule(&lane.name, service),
            Self::Route(route) => rule_name(route, service),
        }
    }

    /// As errors call it.
    pub fn text(&self) -> Cow<'a, str> {
        match self {
            Self::Lane(lane) => format!("lane/{}", lane.name).into(),
            Self::Route(route) => Cow::Borrowed(&route.name),
        }
    }

    pub fn when(&self) -> Option<&'a Condition> {
        match self {
            Self::Lane(_) => None,
            Self::Route(route) => route.when.as_ref(),
        }
    }
}

/// One rule of a service, or as many as its condition has alternatives.
#[derive(Clone, Copy, Debug)]
pub struct Sends<'a> {
    pub by: By<'a>,
    pub order: Order,
    pub to: To<'a>,
    /// The lane that it is about, or leads into.
    pub lane: Option<&'a str>,
}

#[derive(Clone, Copy, Debug)]
pub enum To<'a> {
    Subset(&'a Selector),
    Weighted(&'a [Arm]),
}

impl To<'_> {
    pub fn arms(&self) -> Vec<Arm> {
        match self {
            Self::Subset(subset) => vec![Arm { subset: (*subset).clone(), basis_points: 10_000 }],
            Self::Weighted(arms) => arms.to_vec(),
        }
    }
}

/// The rules of a service, first to last.
pub fn of<'a>(policy: &'a Policy, service: &Service) -> Vec<Sends<'a>> {
    let own = policy.lanes.iter().filter_map(|l| {
        let to = To::Subset(l.subsets.get(&service.name)?);
        let order = Order { step: Precedence::Lane, for_all: false };
        Some(Sends { by: By::Lane(l), order, to, lane: Some(&l.name) })
    });
    let about = policy.routes.iter().filter(|r| policy.applies(r, &service.name));
    let routes = about.filter_map(|route| {
        let to = match &route.to {
            Target::Lane(lane) => To::Subset(policy.lane(lane)?.subsets.get(&service.name)?),
            Target::Arms(arms) => match arms.as_slice() {
                [only] => To::Subset(&only.subset),
                arms => To::Weighted(arms),
            },
        };
        Some(Sends { by: By::Route(route), order: Order::of(policy, route), to, lane: route.to.lane() })
    });
    let mut out: Vec<_> = own.chain(routes).collect();
    // Stable: the document's order decides ties.
    out.sort_by_key(|s| s.order);
    out
}

/// The name under which a route's decisions at one service are counted.
pub fn rule_name(route: &Route, service: &str) -> String {
    match route.service {
        Some(_) => route.name.clone(),
        None => format!("{}@{service}", route.name),
    }
}

/// The name under which connections in a lane are counted at one of its services. No route is called so: given names have no
/// slash, and made-up ones have two.
pub fn lane_rule(lane: &str, service: &str) -> String {
    format!("lane/{lane}@{service}")
}
