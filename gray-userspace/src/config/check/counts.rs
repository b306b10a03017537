//! How much of everything a document has. Must not know what it is.

use std::collections::{HashMap, HashSet};

use super::{
    super::{
        limits,
        report::{Draft, Report, Span},
    },
    Drafts, every,
};
use crate::model::CohortBody;

pub(super) fn counts(drafts: &Drafts, report: &mut Report<'_>) {
    let mut beyond = |at: Option<Span>, what: &str, given: usize, most: usize| {
        if let Some(at) = at {
            let text = format!("{given} {what}");
            report.error(Draft::new(at, text).expected(format!("at most {most}")));
        }
    };
    let at = drafts.services.get(limits::SERVICES).map(|s| s.name.span);
    beyond(at, "services", drafts.services.len(), limits::SERVICES);

    let cohorts = drafts.cohorts.iter().filter(|c| matches!(c.body, Some(CohortBody::List { .. })));
    let mut lists: Vec<Span> = cohorts.map(|c| c.name.span).collect();
    let mut seen = HashSet::new();
    let conditions = every(drafts).flat_map(|a| &a.lists);
    lists.extend(conditions.filter(|l| seen.insert(&l.value)).map(|l| l.span));
    let at = lists.get(limits::LISTS).copied();
    beyond(at, "lists (of cohorts and of conditions on claims)", lists.len(), limits::LISTS);

    let at = drafts.workloads.get(limits::WORKLOADS).map(|w| w.name.span);
    beyond(at, "workloads", drafts.workloads.len(), limits::WORKLOADS);

    let at = drafts.lanes.get(limits::LANES).map(|l| l.name.span);
    beyond(at, "lanes", drafts.lanes.len(), limits::LANES);

    let mut rules = Rules::default();
    for l in &drafts.lanes {
        l.subsets.iter().for_each(|(service, _)| rules.one(&service.value, service.span));
    }
    for route in &drafts.routes {
        match (&route.lane, &route.service) {
            (Some(lane), _) => {
                let named = drafts.lanes.iter().filter(|l| l.name.value == lane.value);
                named.flat_map(|l| &l.subsets).for_each(|(s, _)| rules.one(&s.value, route.span));
            }
            (None, Some(service)) => rules.one(&service.value, route.span),
            (None, None) => rules.all(route.span),
        }
    }
    let what = "routes and lanes of one service, routes for every service included";
    beyond(rules.full, what, rules.most + rules.for_all, limits::RULES_PER_SERVICE);
}

/// How many rules each service has.
#[derive(Default)]
struct Rules<'d> {
    of: HashMap<&'d str, usize>,
    /// The most that one has alone.
    most: usize,
    for_all: usize,
    /// Where the first one is too much.
    full: Option<Span>,
}

impl<'d> Rules<'d> {
    fn one(&mut self, service: &'d str, at: Span) {
        let n = self.of.entry(service).or_default();
        *n += 1;
        self.most = self.most.max(*n);
        self.check(at);
    }

    fn all(&mut self, at: Span) {
        self.for_all += 1;
        self.check(at);
    }

    fn check(&mut self, at: Span) {
        if self.full.is_none() && self.most + self.for_all > limits::RULES_PER_SERVICE {
            self.full = Some(at);
        }
    }
}
