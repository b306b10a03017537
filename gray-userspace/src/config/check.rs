//! What only the whole policy can tell: names that nobody has, addresses that two want, selectors that match nothing,
//! limits. Must not read text.

mod counts;
mod odd;
mod service;

use std::collections::{BTreeSet, HashMap, HashSet, hash_map::Entry};

use super::{
    accept,
    blacklist::BlacklistDraft,
    cohort::{self, CohortDraft},
    condition,
    joined::{self, Through},
    lane::LaneDraft,
    report::{At, Draft, Report, Span, did_you_mean, quoted},
    route::RouteDraft,
    selector,
    service::ServiceDraft,
    workload::{self, WorkloadDraft},
};
use crate::model::{ClaimKind, CohortBody, Failover, Listener, Selector, beginnings};

use self::{counts::counts, service::family};
pub(super) use odd::odd;

/// All documents together, as far as they could be read.
#[derive(Default)]
pub(super) struct Drafts {
    /// Of all documents together.
    pub blacklist: BlacklistDraft,
    pub services: Vec<ServiceDraft>,
    pub cohorts: Vec<CohortDraft>,
    pub lanes: Vec<LaneDraft>,
    pub workloads: Vec<WorkloadDraft>,
    pub routes: Vec<RouteDraft>,
}

pub(super) fn all(drafts: &Drafts, report: &mut Report<'_>) {
    unique("service", drafts.services.iter().map(|s| &s.name), report);
    unique("cohort", drafts.cohorts.iter().map(|c| &c.name), report);
    unique("lane", drafts.lanes.iter().map(|l| &l.name), report);
    unique("workload", drafts.workloads.iter().map(|w| &w.name), report);
    names(drafts, report);
    every(drafts).for_each(|asked| workload::check(&asked.callers, drafts, report));
    joined::check(drafts, report);
    let before = report.errors();
    counts(drafts, report);
    // What follows looks at each route of each service: not at more than there may be.
    if report.errors() > before {
        return;
    }
    let through = joined::through(drafts);
    listeners(&drafts.services, report);
    for service in &drafts.services {
        service::families(service, report);
        service::stable(service, report);
        service::failover(service, report);
        service::zones(service, report);
        accept::check(service, drafts, report);
        service::blacklisted(service, &drafts.blacklist, report);
        service::probes(service, report);
        service::untouched(service, report);
        wildcards(service, drafts, &through, report);
    }
    for (service, subset) in drafts.lanes.iter().flat_map(|l| &l.subsets) {
        target(service, [subset].map(|s| (s.span, &s.value)), drafts, report);
    }
    for route in &drafts.routes {
        targets(route, drafts, report);
        unread(route, drafts, &through, report);
    }
}

/// What conditions ask about: of routes, then of `accept`.
fn asked(drafts: &Drafts) -> impl Iterator<Item = &condition::Asked> {
    let accepts = drafts.services.iter().flat_map(|s| &s.accept).map(|a| &a.asked);
    drafts.routes.iter().map(|r| &r.asked).chain(accepts)
}

/// Those, and what cohorts ask about that are made of others.
fn every(drafts: &Drafts) -> impl Iterator<Item = &condition::Asked> {
    asked(drafts).chain(drafts.cohorts.iter().map(|c| &c.asked))
}

/// What stands at this key already; else it is taken. (Spans cannot tell: an alias has the span of its anchor.)
pub(super) fn earlier<K, V: Copy>(entry: Entry<'_, K, V>, value: V) -> Option<V> {
    match entry {
        Entry::Occupied(first) => Some(*first.get()),
        Entry::Vacant(free) => {
            let _ = free.insert(value);
            None
        }
    }
}

/// Within one map the tree has refused double keys; here they come from several documents.
fn unique<'d>(what: &str, names: impl Iterator<Item = &'d At<String>>, report: &mut Report<'_>) {
    let mut seen: HashMap<&str, Span> = HashMap::new();
    for name in names {
        if let Some(first) = earlier(seen.entry(&name.value), name.span) {
            report.error(
                Draft::new(name.span, format!("the {what} {} is given twice", quoted(&name.value)))
                    .also(first, "first given here")
                    .help("rename or remove one of them"),
            );
        }
    }
}

fn listeners(services: &[ServiceDraft], report: &mut Report<'_>) {
    let mut seen: HashMap<Listener, (Span, &str)> = HashMap::new();
    for service in services {
        for l in &service.listen {
            let taken = earlier(seen.entry(l.value), (l.span, service.name.value.as_str()));
            let Some((first, whose)) = taken else { continue };
            let own = whose == service.name.value;
            let text = format!("`{}` is listened on twice", l.value);
            let help = if own { "remove one of them" } else { "an address belongs to one service" };
            let note = format!("first by service {}", quoted(whose));
            report.error(Draft::new(l.span, text).also(first, note).help(help));
        }
    }
}

fn targets(route: &RouteDraft, drafts: &Drafts, report: &mut Report<'_>) {
    if let Some(name) = &route.lane {
        lane(name, drafts, report);
        return;
    }
    let arms = || route.to.iter().map(|arm| (arm.span, &arm.value.subset));
    if let Some(name) = &route.service {
        target(name, arms(), drafts, report);
        return;
    }
    if drafts.services.iter().any(|s| !s.whole) || report.incomplete {
        return;
    }
    for (at, subset) in arms() {
        every_service(at, subset, &drafts.services, report);
    }
}

/// The lane that a route names is there.
fn lane(name: &At<String>, drafts: &Drafts, report: &mut Report<'_>) {
    if report.incomplete || drafts.lanes.iter().any(|l| l.name.value == name.value) {
        return;
    }
    let names: Vec<&str> = drafts.lanes.iter().map(|l| l.name.value.as_str()).collect();
    report.error(unknown(name, "lane", &names));
}

/// The service is there, and has instances for each of these.
fn target<'d>(
    name: &At<String>,
    subsets: impl IntoIterator<Item = (Span, &'d Selector)>,
    drafts: &Drafts,
    report: &mut Report<'_>,
) {
    match drafts.services.iter().find(|s| s.name.value == name.value) {
        None if report.incomplete => {}
        None => {
            let names: Vec<&str> = drafts.services.iter().map(|s| s.name.value.as_str()).collect();
            report.error(unknown(name, "service", &names));
        }
        Some(service) if service.whole => {
            subsets.into_iter().for_each(|(at, subset)| one_service(at, subset, service, report));
        }
        Some(_) => {}
    }
}

fn unknown(name: &At<String>, what: &str, names: &[&str]) -> Draft {
    let help = did_you_mean(&name.value, names.iter().copied()).unwrap_or_else(|| match names.len() {
        0 => format!("the document has no {what}s"),
        1..9 => format!("{what}s are {}", names.join(", ")),
        _ => format!("add it under `{what}s:`"),
    });
    Draft::new(name.span, format!("unknown {what} {}", quoted(&name.value))).help(help)
}

fn one_service(at: Span, subset: &Selector, service: &ServiceDraft, report: &mut Report<'_>) {
    let instances = || service.instances.iter().map(|i| &i.value);
    let whose = quoted(&service.name.value);
    if !instances().any(|i| subset.matches(i)) {
        report.error(selector::matches_nothing(at, subset, &whose, selector::seen(subset, instances())));
        return;
    }
    for v6 in [false, true] {
        let dialled = service.listen.iter().any(|l| l.value.addr.is_ipv6() == v6);
        if dialled && !instances().any(|i| i.address.is_ipv6() == v6 && subset.matches(i)) {
            report.warning(
                Draft::new(
                    at,
                    format!("no instance of {whose} that matches `{subset}` has an {} address", family(v6)),
                )
                .help(format!("clients that dial {} {}", family(v6), go(service))),
            );
        }
    }
}

/// What becomes of the clients of a subset without instances.
fn go(service: &ServiceDraft) -> String {
    let by = service.failover_by.iter().map(|(key, f)| format!("{}: {}", key.name(), f.value));
    let by: Vec<_> = by.collect();
    if !by.is_empty() {
        return format!("go where `failover-by` says ({}), then `failover`", by.join("; "));
    }
    match service.failover.as_ref().map(|f| &f.value) {
        None | Some(Failover::Stable) => "go to stable".to_owned(),
        Some(Failover::Deny) => "are refused, as `failover` says".to_owned(),
        Some(other) => format!("go where `failover` says: {other}"),
    }
}

fn every_service(at: Span, subset: &Selector, services: &[ServiceDraft], report: &mut Report<'_>) {
    let matches = |s: &&ServiceDraft| s.instances.iter().any(|i| subset.matches(&i.value));
    let (with, without): (Vec<_>, Vec<_>) = services.iter().partition(matches);
    if with.is_empty() {
        let help = selector::seen(subset, services.iter().flat_map(|s| &s.instances).map(|i| &i.value));
        report.error(selector::matches_nothing(at, subset, "any service", help));
    } else if !without.is_empty() {
        let mut names: Vec<_> = without.iter().take(5).map(|s| quoted(&s.name.value)).collect();
        if without.len() > 5 {
            names.push(format!("{} more", without.len() - 5));
        }
        report.warning(
            Draft::new(at, format!("no instance matches `{subset}` in {}", names.join(", "))).help(format!(
                "there its clients {}",
                without
                    .iter()
                    .map(|s| go(s))
                    .reduce(|a, b| if a == b { a } else { "go where each one's `failover` says".to_owned() })
                    .unwrap_or_default()
            )),
        );
    }
}

/// A claim that is never there: a rule that never applies, or always.
fn unread(route: &RouteDraft, drafts: &Drafts, through: &Through<'_>, report: &mut Report<'_>) {
    if report.incomplete {
        return;
    }
    let whose = |s: &&ServiceDraft| route.service.as_ref().is_none_or(|n| n.value == s.name.value);
    let services: Vec<&ServiceDraft> = drafts.services.iter().filter(whose).collect();
    if services.is_empty() || services.iter().any(|s| !s.whole) {
        return;
    }
    let nobody = |of: ClaimKind| of.is_read() && !services.iter().any(|s| s.claims.contains_key(&of));
    let who = || match &route.service {
        Some(name) => format!("service {} does not read", quoted(&name.value)),
        None => "no service reads".to_owned(),
    };
    let help = |of: ClaimKind| {
        format!("say where it is read: claims: {{ {}: {{ header: {} }} }}", of.name(), of.usual_header())
    };
    for At { value: (of, _), span } in route.asked.claims.iter().filter(|c| nobody(c.value.0)) {
        let text = format!("{} the claim `{}`", who(), of.name());
        report.error(Draft::new(*span, text).help(help(*of)));
    }
    for name in &route.asked.cohorts {
        let mut of: BTreeSet<ClaimKind> = of_cohort(&name.value, drafts).into_iter().collect();
        for more in through.get(name.value.as_str()).into_iter().flat_map(|a| joined::reached(a, through)) {
            of.extend(more.claims.iter().map(|c| c.value.0));
            of.extend(more.cohorts.iter().filter_map(|c| of_cohort(&c.value, drafts)));
        }
        for of in of.into_iter().filter(|of| nobody(*of)) {
            let text = format!("{} the claim `{}` of cohort {}", who(), of.name(), quoted(&name.value));
            report.warning(Draft::new(name.span, text).help(help(of)));
        }
    }
}

/// The one claim that a cohort of this name is about.
fn of_cohort(name: &str, drafts: &Drafts) -> Option<ClaimKind> {
    drafts.cohorts.iter().find(|c| c.name.value == name)?.of()
}

/// What the wildcards of one service ask for, over all its routes.
fn wildcards(service: &ServiceDraft, drafts: &Drafts, through: &Through<'_>, report: &mut Report<'_>) {
    let mut asked: BTreeSet<(ClaimKind, u8)> = BTreeSet::new();
    let whose = |r: &&RouteDraft| r.service.as_ref().is_none_or(|n| n.value == service.name.value);
    for route in drafts.routes.iter().filter(whose) {
        let mut more = |of: ClaimKind, lengths: &BTreeSet<u8>| {
            asked.extend(lengths.iter().filter(|_| service.claims.contains_key(&of)).map(|len| (of, *len)));
        };
        let all = joined::reached(&route.asked, through);
        all.iter().flat_map(|a| &a.claims).for_each(|c| more(c.value.0, &c.value.1));
        for name in all.iter().flat_map(|a| &a.cohorts) {
            let cohort = drafts.cohorts.iter().find(|c| c.name.value == name.value);
            if let Some(CohortBody::List { of, ids }) = cohort.and_then(|c| c.body.as_ref()) {
                more(*of, &beginnings(*of, ids));
            }
        }
        if asked.len() > gray_common::limits::BEGINNINGS {
            let whose = quoted(&service.name.value);
            let text = format!(
                "with this route, wildcards of {} different lengths for service {whose}",
                asked.len()
            );
            report.error(
                Draft::new(route.span, text)
                    .expected(format!("at most {}", gray_common::limits::BEGINNINGS))
                    .help("what counts is how many bytes stand before the `*`, of each claim by itself"),
            );
            return;
        }
    }
}

/// Cohorts and lanes that conditions name, those of cohorts, too.
fn names(drafts: &Drafts, report: &mut Report<'_>) {
    if report.incomplete {
        return;
    }
    let known: HashSet<&str> = drafts.cohorts.iter().map(|c| c.name.value.as_str()).collect();
    every(drafts).flat_map(|a| &a.lanes).for_each(|name| lane(name, drafts, report));
    for name in every(drafts).flat_map(|a| &a.cohorts) {
        if !known.contains(name.value.as_str()) {
            let names = drafts.cohorts.iter().map(|c| c.name.value.as_str());
            report.error(cohort::unknown(name, names));
        }
    }
}
