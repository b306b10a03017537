//! What only the whole policy can tell: names that nobody has, addresses that two want, selectors that match nothing,
//! limits. Must not read text.

use std::collections::{BTreeSet, HashMap, HashSet, hash_map::Entry};

use super::{
    cohort::{self, CohortDraft},
    condition, limits,
    report::{At, Draft, Report, Span, did_you_mean, quoted},
    route::RouteDraft,
    selector,
    service::ServiceDraft,
};
use crate::model::{ClaimKind, CohortBody, Listener, Nat, Probe, Proto, Selector, beginnings};

/// All documents together, as far as they could be read.
#[derive(Default)]
pub(super) struct Drafts {
    pub services: Vec<ServiceDraft>,
    pub cohorts: Vec<CohortDraft>,
    pub routes: Vec<RouteDraft>,
}

pub(super) fn all(drafts: &Drafts, report: &mut Report<'_>) {
    unique("service", drafts.services.iter().map(|s| &s.name), report);
    unique("cohort", drafts.cohorts.iter().map(|c| &c.name), report);
    listeners(&drafts.services, report);
    for service in &drafts.services {
        families(service, report);
        stable(service, report);
        probes(service, report);
        untouched(service, report);
        wildcards(service, drafts, report);
    }
    for route in &drafts.routes {
        targets(route, drafts, report);
        unread(route, drafts, report);
    }
    names(drafts, report);
    counts(drafts, report);
}

/// What is right but odd. Only worth saying when nothing is wrong.
pub(super) fn odd(drafts: &Drafts, report: &mut Report<'_>) {
    if report.errors() == 0 {
        unused(drafts, report);
        shadowed(&drafts.routes, report);
    }
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

fn family(v6: bool) -> &'static str {
    if v6 { "IPv6" } else { "IPv4" }
}

/// Translation keeps the address family, so each side needs the other.
fn families(service: &ServiceDraft, report: &mut Report<'_>) {
    let ServiceDraft { listen, instances, stable, whole, .. } = service;
    let matches = |i: &crate::model::Instance| stable.as_ref().is_some_and(|s| s.value.matches(i));
    if !listen.is_empty() {
        for i in instances {
            let v6 = i.value.address.is_ipv6();
            if *whole && !listen.iter().any(|l| l.value.addr.is_ipv6() == v6) {
                let (mine, theirs) = (family(v6), family(!v6));
                report.error(
                    Draft::new(
                        i.span,
                        format!("an {mine} instance of a service that listens on {theirs} only"),
                    )
                    .expected(format!("an {theirs} address"))
                    .help(format!(
                        "add an {mine} address to `listen`, or give the instance's {theirs} address"
                    )),
                );
            }
        }
    }
    let mut told = [false; 2];
    for l in listen.iter().filter(|_| *whole) {
        let v6 = l.value.addr.is_ipv6();
        let served = instances.iter().any(|i| i.value.address.is_ipv6() == v6 && matches(&i.value));
        let any_stable = instances.iter().any(|i| matches(&i.value));
        if any_stable && !served && !std::mem::replace(&mut told[usize::from(v6)], true) {
            report
                .error(Draft::new(l.span, format!("no stable instance has an {} address", family(v6))).help(
                "stable must serve every family that is listened on: add an instance, or remove this address",
            ));
        }
        for i in instances.iter().filter(|i| i.value.address == l.value.addr && !matches(&i.value)) {
            report.error(
                Draft::new(i.span, format!("`{}` is listened on, and is an instance that is not stable", i.value.address))
                    .also(l.span, "listened on here")
                    .help("only stable's own address may be dialled by clients: give stable's address, or another one"),
            );
        }
    }
}

fn stable(service: &ServiceDraft, report: &mut Report<'_>) {
    let Some(stable) = service.stable.as_ref().filter(|_| service.whole) else { return };
    let instances = || service.instances.iter().map(|i| &i.value);
    if !instances().any(|i| stable.value.matches(i)) {
        let help = selector::seen(&stable.value, instances());
        let whose = quoted(&service.name.value);
        report.error(selector::matches_nothing(stable.span, &stable.value, &whose, help));
    }
}

/// A connection can only be made to what listens on TCP.
fn probes(service: &ServiceDraft, report: &mut Report<'_>) {
    let Some(health) = service.health.as_ref().filter(|_| service.whole) else { return };
    let tcp = service.listen.iter().any(|l| l.value.proto == Proto::Tcp);
    if !tcp && health.value.port.is_none() && !matches!(health.value.probe, Probe::Command(_)) {
        report.error(
            Draft::new(health.span, "a check by TCP of instances that listen on UDP only")
                .help("give the `port` where they listen on TCP, or check them by a command"),
        );
    }
}

/// With `nat: dsr` the instance gets the packet as the client sent it, its port included.
fn untouched(service: &ServiceDraft, report: &mut Report<'_>) {
    if service.nat != Nat::Dsr || !service.whole {
        return;
    }
    for i in &service.instances {
        let at = i.value.address;
        let other =
            |l: &&At<Listener>| l.value.addr.is_ipv4() == at.is_ipv4() && l.value.addr.port() != at.port();
        if let Some(l) = service.listen.iter().find(other) {
            let (has, wants) = (at.port(), l.value.addr.port());
            report.error(
                Draft::new(
                    i.span,
                    format!("with `nat: dsr`, an instance at port {has} of a service at port {wants}"),
                )
                .also(l.span, "listened on here")
                .help("the packet's port is not changed: give both the same one, or say `nat: dnat`"),
            );
        }
    }
}

fn targets(route: &RouteDraft, drafts: &Drafts, report: &mut Report<'_>) {
    if let Some(name) = &route.service {
        let found = drafts.services.iter().find(|s| s.name.value == name.value);
        match found {
            None if report.incomplete => {}
            None => {
                let names: Vec<&str> = drafts.services.iter().map(|s| s.name.value.as_str()).collect();
                let help =
                    did_you_mean(&name.value, names.iter().copied()).unwrap_or_else(|| match names.len() {
                        0 => "the document has no services".to_owned(),
                        1..9 => format!("services are {}", names.join(", ")),
                        _ => "add it under `services:`".to_owned(),
                    });
                report.error(
                    Draft::new(name.span, format!("unknown service {}", quoted(&name.value))).help(help),
                );
            }
            Some(service) if service.whole => {
                route.to.iter().for_each(|arm| one_service(arm.span, &arm.value.subset, service, report));
            }
            Some(_) => {}
        }
        return;
    }
    if drafts.services.iter().any(|s| !s.whole) || report.incomplete {
        return;
    }
    for arm in &route.to {
        every_service(arm.span, &arm.value.subset, &drafts.services, report);
    }
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
                .help(format!("clients that dial {} go to stable", family(v6))),
            );
        }
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
            Draft::new(at, format!("no instance matches `{subset}` in {}", names.join(", ")))
                .help("there its clients go to stable"),
        );
    }
}

/// A claim that is never there: a rule that never applies, or always.
fn unread(route: &RouteDraft, drafts: &Drafts, report: &mut Report<'_>) {
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
        let cohort = drafts.cohorts.iter().find(|c| c.name.value == name.value);
        if let Some(of) = cohort.and_then(CohortDraft::of).filter(|of| nobody(*of)) {
            let text =
                format!("{} the claim `{}` of cohort {}", who(), of.name(), quoted(&name.value));
            report.warning(Draft::new(name.span, text).help(help(of)));
        }
    }
}

/// What the wildcards of one service ask for, over all its routes.
fn wildcards(service: &ServiceDraft, drafts: &Drafts, report: &mut Report<'_>) {
    let mut asked: BTreeSet<(ClaimKind, u8)> = BTreeSet::new();
    let whose = |r: &&RouteDraft| r.service.as_ref().is_none_or(|n| n.value == service.name.value);
    for route in drafts.routes.iter().filter(whose) {
        let mut more = |of: ClaimKind, lengths: &BTreeSet<u8>| {
            asked.extend(lengths.iter().filter(|_| service.claims.contains_key(&of)).map(|len| (of, *len)));
        };
        route.asked.claims.iter().for_each(|c| more(c.value.0, &c.value.1));
        for name in &route.asked.cohorts {
            let cohort = drafts.cohorts.iter().find(|c| c.name.value == name.value);
            if let Some(CohortBody::List { of, ids }) = cohort.and_then(|c| c.body.as_ref()) {
                more(*of, &beginnings(*of, ids));
            }
        }
        if asked.len() > gray_common::limits::BEGINNINGS {
            let whose = quoted(&service.name.value);
            let text = format!("with this route, wildcards of {} different lengths for service {whose}", asked.len());
            report.error(
                Draft::new(route.span, text)
                    .expected(format!("at most {}", gray_common::limits::BEGINNINGS))
                    .help("what counts is how many bytes stand before the `*`, of each claim by itself"),
            );
            return;
        }
    }
}

fn names(drafts: &Drafts, report: &mut Report<'_>) {
    if report.incomplete {
        return;
    }
    let known: HashSet<&str> = drafts.cohorts.iter().map(|c| c.name.value.as_str()).collect();
    for name in drafts.routes.iter().flat_map(|r| &r.asked.cohorts) {
        if !known.contains(name.value.as_str()) {
            let names = drafts.cohorts.iter().map(|c| c.name.value.as_str());
            report.error(cohort::unknown(name, names));
        }
    }
}

fn counts(drafts: &Drafts, report: &mut Report<'_>) {
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
    let conditions = drafts.routes.iter().flat_map(|r| &r.asked.lists);
    lists.extend(conditions.filter(|l| seen.insert(&l.value)).map(|l| l.span));
    let at = lists.get(limits::LISTS).copied();
    beyond(at, "lists (of cohorts and of conditions on claims)", lists.len(), limits::LISTS);

    let mut rules: HashMap<&str, usize> = HashMap::new();
    let mut for_all = 0;
    let mut full = None;
    for route in &drafts.routes {
        match &route.service {
            None => for_all += 1,
            Some(s) => *rules.entry(&s.value).or_default() += 1,
        }
        let most = rules.values().max().copied().unwrap_or(0);
        if full.is_none() && for_all + most > limits::RULES_PER_SERVICE {
            full = Some(route.span);
        }
    }
    let most = for_all + rules.values().max().copied().unwrap_or(0);
    beyond(full, "routes of one service, those for every service included", most, limits::RULES_PER_SERVICE);
}

fn unused(drafts: &Drafts, report: &mut Report<'_>) {
    if drafts.services.is_empty() {
        let at = Span { line: 1, column: 1, ..Span::default() };
        report.warning(Draft::new(at, "no service is given").help("with this policy nothing is steered"));
    }
    let used: HashSet<&str> =
        drafts.routes.iter().flat_map(|r| &r.asked.cohorts).map(|n| n.value.as_str()).collect();
    for cohort in drafts.cohorts.iter().filter(|c| !used.contains(c.name.value.as_str())) {
        let text = format!("no route uses the cohort {}", quoted(&cohort.name.value));
        report.warning(Draft::new(cohort.name.span, text).help("name it in a route's `when`, or remove it"));
    }
}

/// Same service and same condition as an earlier route: the first one always wins.
fn shadowed(routes: &[RouteDraft], report: &mut Report<'_>) {
    let mut seen: HashMap<(Option<&str>, Option<String>), Span> = HashMap::new();
    for route in routes {
        let service = route.service.as_ref().map(|s| s.value.as_str());
        let when = route.when.as_ref().map(|w| condition::normal(&w.value));
        if let Some(first) = earlier(seen.entry((service, when)), route.span) {
            report.warning(
                Draft::new(route.span, "this route never applies")
                    .also(first, "this one has the same service and the same clients, and comes first")
                    .help("remove one of them, or join them as weighted subsets"),
            );
        }
    }
}
