//! What is right but odd: names that nobody uses, rules that never apply. Must not call anything an error.

use std::collections::{HashMap, HashSet};

use super::{
    super::{
        blacklist::BlacklistDraft,
        condition,
        report::{Draft, Report, Span, quoted},
        route::RouteDraft,
        service::ServiceDraft,
    },
    Drafts, earlier, every,
};
use crate::model::{ClaimKind, Instance, OnMissing, address};

/// What is right but odd. Only worth saying when nothing is wrong.
pub(in crate::config) fn odd(drafts: &Drafts, report: &mut Report<'_>) {
    if report.errors() == 0 {
        unused(drafts, report);
        shadowed(&drafts.routes, report);
        drafts.services.iter().for_each(|s| denials(s, report));
        strangers(drafts, report);
    }
}

/// Entries of blacklists that name nobody.
fn strangers(drafts: &Drafts, report: &mut Report<'_>) {
    let all: Vec<&Instance> = drafts.services.iter().flat_map(|s| &s.instances).map(|i| &i.value).collect();
    let mut look = |list: &BlacklistDraft, among: &[&Instance]| {
        let ids = list.ids.iter().map(|e| (e, among.iter().any(|i| i.id == e.value)));
        let addresses =
            list.addresses.iter().map(|e| (e, among.iter().any(|i| address::matches(&e.value, i.address))));
        for (entry, _) in ids.chain(addresses).filter(|(_, known)| !known) {
            let text = format!("the blacklist's {} names no instance", quoted(&entry.value));
            report.warning(
                Draft::new(entry.span, text).help("it takes effect when an instance comes that it names"),
            );
        }
    };
    look(&drafts.blacklist, &all);
    for s in &drafts.services {
        look(&s.blacklist, &s.instances.iter().map(|i| &i.value).collect::<Vec<_>>());
    }
}

fn unused(drafts: &Drafts, report: &mut Report<'_>) {
    if drafts.services.is_empty() {
        let at = Span { line: 1, column: 1, ..Span::default() };
        report.warning(Draft::new(at, "no service is given").help("with this policy nothing is steered"));
    }
    let used: HashSet<&str> = every(drafts).flat_map(|a| &a.cohorts).map(|n| n.value.as_str()).collect();
    for cohort in drafts.cohorts.iter().filter(|c| !used.contains(c.name.value.as_str())) {
        let text = format!("no route uses the cohort {}", quoted(&cohort.name.value));
        report.warning(Draft::new(cohort.name.span, text).help("name it in a route's `when`, or remove it"));
    }
}

/// `on-missing-identity: deny` that denies nobody whose packets are steered, or everybody.
fn denials(service: &ServiceDraft, report: &mut Report<'_>) {
    let Some(missing) = service.on_missing.as_ref().filter(|m| m.value == OnMissing::Deny) else { return };
    let identify = || service.identify.iter();
    if identify().any(|c| *c == ClaimKind::Source) {
        report.warning(
            Draft::new(missing.span, "`deny` with `source` in `identify` denies no client whose packets are steered")
                .help("every packet has a source: say `identify` without it; local callers are denied that are known by nothing"),
        );
        return;
    }
    // What a connection's first request is read for comes without mark and DSCP, and no packet says its workload.
    let reads = !service.claims.is_empty() || !service.tls.is_empty() || !service.tlvs.is_empty();
    let seen = |c: &&ClaimKind| {
        if reads {
            c.is_read() || **c == ClaimKind::Tag
        } else {
            matches!(c, ClaimKind::Mark | ClaimKind::Dscp | ClaimKind::Tag)
        }
    };
    if !identify().any(|c| seen(&c)) {
        let all: Vec<_> = identify().map(|c| c.name()).collect();
        report.warning(
            Draft::new(missing.span, "`deny` denies every client whose packets are steered")
                .help(format!("of them nothing of `identify` is ever known: {}", all.join(", "))),
        );
    }
}

/// Same service and same condition as an earlier route: the first one always wins.
fn shadowed(routes: &[RouteDraft], report: &mut Report<'_>) {
    // By service, lane and condition.
    type Same<'a> = (Option<&'a str>, Option<&'a str>, Option<String>);
    let mut seen: HashMap<Same<'_>, Span> = HashMap::new();
    // One with `same` is about some callers only.
    for route in routes.iter().filter(|r| r.same.is_empty()) {
        let [service, lane] = [&route.service, &route.lane].map(|n| n.as_ref().map(|n| n.value.as_str()));
        let when = route.when.as_ref().map(|w| condition::normal(&w.value));
        // Another lane may name other services.
        if let Some(first) = earlier(seen.entry((service, lane, when)), route.span) {
            report.warning(
                Draft::new(route.span, "this route never applies")
                    .also(first, "this one has the same service and the same clients, and comes first")
                    .help("remove one of them, or join them as weighted subsets"),
            );
        }
    }
}
