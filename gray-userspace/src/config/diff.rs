//! What changed between two policies, in words a person reads. Must not decide what a change does to the kernel.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
};

use serde::{Deserialize, Serialize};

use super::{condition::condition_text, value::percent_text};
use crate::model::{
    Accept, Blacklist, ClaimKind, Cohort, CohortBody, Failover, Instance, Lane, MetaKey, Place, Policy,
    Route, Selector, Service,
};

/// How something changed. `Display`: `+`, `-`, `~`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Added,
    Removed,
    Changed,
}

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    Service,
    Listener,
    Instance,
    Cohort,
    Lane,
    Workload,
    Route,
    Blacklist,
    /// The order of routes, which decides ties.
    Order,
}

/// One line of a diff: `~ cohort tenth: 10% -> 20%`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub change: Kind,
    pub what: What,
    /// The service it belongs to, of listeners and instances.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub service: Option<String>,
    pub name: String,
    /// Empty where the name says it all.
    pub detail: String,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Added => "+",
            Self::Removed => "-",
            Self::Changed => "~",
        })
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Service => "service",
            Self::Listener => "listener",
            Self::Instance => "instance",
            Self::Cohort => "cohort",
            Self::Lane => "lane",
            Self::Workload => "workload",
            Self::Route => "route",
            Self::Blacklist => "blacklist",
            Self::Order => "order of",
        })
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.change, self.what, self.name)?;
        if let Some(service) = &self.service {
            write!(f, " of {service}")?;
        }
        if self.detail.is_empty() { Ok(()) } else { write!(f, ": {}", self.detail) }
    }
}

/// Everything that differs: services, then cohorts, lanes, routes; within each removed and changed in the old order,
/// then added in the new one. The order of services, cohorts and lanes means nothing and is not compared.
pub fn diff(old: &Policy, new: &Policy) -> Vec<Change> {
    let mut out = Vec::new();
    let whole = |s: &Service| format!("{} on {}", count(s.instances.len(), "instance"), listeners(s));
    pairs(&mut out, What::Service, None, (&old.services, &new.services), |s| s.name.clone(), whole, service);
    pairs(&mut out, What::Cohort, None, (&old.cohorts, &new.cohorts), |c| c.name.clone(), body, cohort);
    if let Some(detail) = blacklist(&old.blacklist, &new.blacklist) {
        out.push(changed(What::Blacklist, "of all services", detail));
    }
    let whole = |l: &Lane| l.subsets.iter().map(of_lane).collect::<Vec<_>>().join("; ");
    pairs(&mut out, What::Lane, None, (&old.lanes, &new.lanes), |l| l.name.clone(), whole, lane);
    pairs(
        &mut out,
        What::Workload,
        None,
        (&old.workloads, &new.workloads),
        |w| w.name.clone(),
        ToString::to_string,
        |out, a, b| {
            if a != b {
                out.push(changed(What::Workload, &a.name, format!("{a} -> {b}")));
            }
        },
    );
    pairs(
        &mut out,
        What::Route,
        None,
        (&old.routes, &new.routes),
        |r| r.name.clone(),
        rule,
        |out, a, b| {
            if a != b {
                out.push(changed(What::Route, &a.name, route(a, b)));
            }
        },
    );
    order(&mut out, &old.routes, &new.routes);
    out
}

/// `+a -b`.
fn blacklist(old: &Blacklist, new: &Blacklist) -> Option<String> {
    let all = |b: &Blacklist| b.ids.union(&b.addresses).cloned().collect::<BTreeSet<_>>();
    let (old, new) = (all(old), all(new));
    let parts: Vec<_> = [some_of('+', &new, &old), some_of('-', &old, &new)].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(" "))
}

fn changed(what: What, name: &str, detail: String) -> Change {
    Change { change: Kind::Changed, what, service: None, name: name.to_owned(), detail }
}

/// Matches two lists by name: gone, changed (told by `both`), new.
fn pairs<T>(
    out: &mut Vec<Change>,
    what: What,
    service: Option<&str>,
    (old, new): (&[T], &[T]),
    name: impl Fn(&T) -> String,
    detail: impl Fn(&T) -> String,
    both: impl Fn(&mut Vec<Change>, &T, &T),
) {
    let line = |change, item: &T| Change {
        change,
        what,
        service: service.map(str::to_owned),
        name: name(item),
        detail: detail(item),
    };
    let before: HashMap<String, &T> = old.iter().map(|t| (name(t), t)).collect();
    let after: HashMap<String, &T> = new.iter().map(|t| (name(t), t)).collect();
    for item in old {
        match after.get(&name(item)) {
            None => out.push(line(Kind::Removed, item)),
            Some(now) => both(out, item, now),
        }
    }
    out.extend(new.iter().filter(|t| !before.contains_key(&name(t))).map(|t| line(Kind::Added, t)));
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

fn listeners(s: &Service) -> String {
    s.listen.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn service(out: &mut Vec<Change>, a: &Service, b: &Service) {
    let mut detail = Vec::new();
    let claims = |s: &Service| s.identify.iter().map(|c| c.name()).collect::<Vec<_>>().join(", ");
    if a.stable != b.stable {
        detail.push(format!("stable {} -> {}", a.stable, b.stable));
    }
    if a.failover != b.failover {
        detail.push(format!("failover {} -> {}", a.failover, b.failover));
    }
    if a.failover_by != b.failover_by {
        let one = |(key, f): (&MetaKey, &Failover)| format!("{} to {f}", key.name());
        let show = |s: &Service| match s.failover_by.iter().map(one).collect::<Vec<_>>().join(", ") {
            none if none.is_empty() => "none".to_owned(),
            all => all,
        };
        detail.push(format!("failover-by {} -> {}", show(a), show(b)));
    }
    detail.extend(blacklist(&a.blacklist, &b.blacklist).map(|d| format!("blacklist {d}")));
    if a.shadow != b.shadow {
        detail.push(format!("shadow {} -> {}", a.shadow, b.shadow));
    }
    if a.measure_full != b.measure_full {
        let show = |full| if full { "full" } else { "connections" };
        detail.push(format!("measure {} -> {}", show(a.measure_full), show(b.measure_full)));
    }
    if a.headers != b.headers {
        let show = |s: &Service| s.headers.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
        detail.push(format!("route-headers {} -> {}", show(a), show(b)));
    }
    if a.proxies != b.proxies {
        let show =
            |s: &Service| match s.proxies.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ") {
                none if none.is_empty() => "nobody".to_owned(),
                all => all,
            };
        detail.push(format!("trusted-proxies {} -> {}", show(a), show(b)));
    }
    if a.accept != b.accept {
        let one = |x: &Accept| format!("{} from {}", x.instances, condition_text(&x.from));
        let show = |s: &Service| match s.accept.iter().map(one).collect::<Vec<_>>().join(", ") {
            none if none.is_empty() => "everybody".to_owned(),
            all => all,
        };
        detail.push(format!("accept {} -> {}", show(a), show(b)));
    }
    if a.identify != b.identify {
        detail.push(format!("identify {} -> {}", claims(a), claims(b)));
    }
    let claimed = |s: &Service| {
        let mut claims = s.claims.clone();
        claims.retain(|kind, _| !ClaimKind::ASKED.contains(kind));
        claims
    };
    if (claimed(a), &a.tls, &a.tlvs) != (claimed(b), &b.tls, &b.tlvs) {
        let read = |s: &Service| {
            let of = |(kind, place): (&ClaimKind, &Place)| {
                let (key, name) = place.parts();
                format!("{} in {key} {name}", kind.name())
            };
            let plain = s.claims.iter().filter(|(kind, _)| !ClaimKind::ASKED.contains(kind));
            let mut all: Vec<_> = plain.map(of).collect();
            all.extend(s.tls.iter().map(|(kind, tls)| format!("{} in {}", kind.name(), tls.name())));
            all.extend(s.tlvs.iter().map(|(kind, tlv)| format!("{} in TLV {tlv:#x}", kind.name())));
            if all.is_empty() { "none".to_owned() } else { all.join(", ") }
        };
        detail.push(format!("claims {} -> {}", read(a), read(b)));
    }
    if a.per != b.per {
        detail.push(format!("per {} -> {}", a.per.name(), b.per.name()));
    }
    if a.first_byte != b.first_byte {
        detail.push(format!("first-byte {} -> {}", a.first_byte, b.first_byte));
    }
    if a.instance_timeout != b.instance_timeout {
        detail.push(format!("instance-timeout {} -> {}", a.instance_timeout, b.instance_timeout));
    }
    if a.on_missing != b.on_missing {
        detail.push(format!("on-missing-identity {} -> {}", a.on_missing.name(), b.on_missing.name()));
    }
    if a.breaker != b.breaker {
        let show = |s: &Service| s.breaker.map_or_else(|| "none".to_owned(), |b| b.to_string());
        detail.push(format!("breaker {} -> {}", show(a), show(b)));
    }
    if a.agent_lease != b.agent_lease {
        let show =
            |s: &Service| s.agent_lease.map_or_else(|| "keep".to_owned(), |l| format!("stable after {l}"));
        detail.push(format!("on-agent-lost {} -> {}", show(a), show(b)));
    }
    if a.alarm != b.alarm {
        let show = |s: &Service| s.alarm.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
        detail.push(match (show(a), show(b)) {
            (x, y) if x == y => format!("alarm {x} with other receivers or numbers"),
            (x, y) => format!("alarm {x} -> {y}"),
        });
    }
    if a.encapsulation != b.encapsulation {
        detail.push(format!("encapsulation {} -> {}", a.encapsulation.name(), b.encapsulation.name()));
    }
    if a.nat != b.nat {
        detail.push(format!("nat {:?} -> {:?}", a.nat, b.nat).to_lowercase());
    }
    if a.balance != b.balance {
        detail.push(format!("balance {} -> {}", a.balance.name(), b.balance.name()));
    }
    if a.affinity != b.affinity {
        detail.push(format!("affinity {:?} -> {:?}", a.affinity, b.affinity).to_lowercase());
    }
    if a.zone_affinity != b.zone_affinity {
        detail.push(format!("zone-affinity {} -> {}", a.zone_affinity.name(), b.zone_affinity.name()));
    }
    if a.health != b.health {
        let show = |s: &Service| s.health.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
        detail.push(match (show(a), show(b)) {
            (x, y) if x == y => format!("health {x} with other numbers"),
            (x, y) => format!("health {x} -> {y}"),
        });
    }
    if !detail.is_empty() {
        out.push(changed(What::Service, &a.name, detail.join("; ")));
    }
    let of = Some(a.name.as_str());
    pairs(
        out,
        What::Listener,
        of,
        (&a.listen, &b.listen),
        ToString::to_string,
        |_| String::new(),
        |_, _, _| {},
    );
    pairs(
        out,
        What::Instance,
        of,
        (&a.instances, &b.instances),
        |i| i.id.clone(),
        about,
        |out, x, y| {
            if x != y {
                out.push(Change {
                    service: of.map(str::to_owned),
                    ..changed(What::Instance, &x.id, instance(x, y))
                });
            }
        },
    );
}

fn about(i: &Instance) -> String {
    let mut parts: Vec<_> = i.meta.iter().map(|(k, v)| format!("{} {v}", k.name())).collect();
    if i.id != i.address.to_string() {
        parts.insert(0, i.address.to_string());
    }
    parts.join(", ")
}

fn instance(a: &Instance, b: &Instance) -> String {
    let mut parts = Vec::new();
    if a.address != b.address {
        parts.push(format!("address {} -> {}", a.address, b.address));
    }
    let keys: BTreeSet<_> = a.meta.keys().chain(b.meta.keys()).collect();
    for key in keys {
        let (x, y) = (a.meta.get(key), b.meta.get(key));
        if x != y {
            let show = |v: Option<&String>| v.map_or("none", String::as_str).to_owned();
            parts.push(format!("{} {} -> {}", key.name(), show(x), show(y)));
        }
    }
    if a.weight != b.weight {
        parts.push(format!("weight {} -> {}", a.weight, b.weight));
    }
    parts.join(", ")
}

fn percent(basis_points: u16) -> String {
    format!("{}%", percent_text(u32::from(basis_points)))
}

fn body(c: &Cohort) -> String {
    match &c.body {
        CohortBody::List { of, ids } => count(ids.len(), of.name()),
        CohortBody::Percent { of, basis_points, .. } => {
            format!("{} of {}", percent(*basis_points), of.map_or("the identity", |of| of.name()))
        }
        CohortBody::Joined(of) => condition_text(of),
        CohortBody::Tail { of, digits } => {
            format!(
                "{} that ends with {}",
                of.name(),
                digits.iter().cloned().collect::<Vec<_>>().join(" or ")
            )
        }
    }
}

fn cohort(out: &mut Vec<Change>, a: &Cohort, b: &Cohort) {
    if a.body == b.body {
        return;
    }
    let detail = match (&a.body, &b.body) {
        (CohortBody::List { of: x, ids: old }, CohortBody::List { of: y, ids: new }) if x == y => {
            let mut parts = vec![format!("{} -> {}", old.len(), count(new.len(), x.name()))];
            parts.extend(some_of('+', new, old));
            parts.extend(some_of('-', old, new));
            parts.join(", ")
        }
        (
            CohortBody::Percent { of: x, basis_points: p, salt: s },
            CohortBody::Percent { of: y, basis_points: q, salt: t },
        ) => {
            let mut parts = Vec::new();
            if p != q {
                parts.push(format!("{} -> {}", percent(*p), percent(*q)));
            }
            if x != y {
                parts.push(format!("{} -> {}", body(a), body(b)));
            }
            if s != t {
                parts.push(format!("salt {s} -> {t} (other clients)"));
            }
            parts.join(", ")
        }
        _ => format!("{} -> {}", body(a), body(b)),
    };
    out.push(changed(What::Cohort, &a.name, detail));
}

/// `+a +b ... (12 more)`: up to five of those in `here` that are not in `there`.
fn some_of(sign: char, here: &BTreeSet<String>, there: &BTreeSet<String>) -> Option<String> {
    let mut more = here.difference(there);
    let mut words: Vec<_> = more.by_ref().take(5).map(|id| format!("{sign}{id}")).collect();
    let rest = more.count();
    if rest > 0 {
        words.push(format!("({rest} more)"));
    }
    (!words.is_empty()).then(|| words.join(" "))
}

/// `shop version=2.0`.
fn of_lane((service, subset): (&String, &Selector)) -> String {
    format!("{service} {subset}")
}

fn lane(out: &mut Vec<Change>, a: &Lane, b: &Lane) {
    let services: BTreeSet<_> = a.subsets.keys().chain(b.subsets.keys()).collect();
    let said = services.into_iter().filter_map(|s| match (a.subsets.get(s), b.subsets.get(s)) {
        (Some(x), Some(y)) if x != y => Some(format!("{s} {x} -> {y}")),
        (Some(x), None) => Some(format!("-{}", of_lane((s, x)))),
        (None, Some(y)) => Some(format!("+{}", of_lane((s, y)))),
        _ => None,
    });
    let said: Vec<_> = said.collect();
    if !said.is_empty() {
        out.push(changed(What::Lane, &a.name, said.join("; ")));
    }
}

/// Where a route leads.
fn target(r: &Route) -> String {
    if let Some(lane) = r.to.lane() {
        return format!("lane {lane}");
    }
    match r.to.arms() {
        [one] => one.subset.to_string(),
        many => {
            let arm = |a: &crate::model::Arm| format!("{} {}", a.subset, percent(a.basis_points));
            many.iter().map(arm).collect::<Vec<_>>().join(" / ")
        }
    }
}

fn clients(r: &Route) -> String {
    r.when.as_ref().map_or_else(|| "everybody".to_owned(), condition_text)
}

fn rule(r: &Route) -> String {
    format!("{} of {} to {}", clients(r), r.service.as_deref().unwrap_or("every service"), target(r))
}

fn route(a: &Route, b: &Route) -> String {
    let mut parts = Vec::new();
    if a.service != b.service {
        let of = |r: &Route| r.service.clone().unwrap_or_else(|| "every service".to_owned());
        parts.push(format!("service {} -> {}", of(a), of(b)));
    }
    if a.when != b.when {
        parts.push(format!("clients {} -> {}", clients(a), clients(b)));
    }
    if a.to != b.to {
        parts.push(format!("{} -> {}", target(a), target(b)));
    }
    parts.join("; ")
}

/// The routes that both policies have stand in another order.
fn order(out: &mut Vec<Change>, old: &[Route], new: &[Route]) {
    let names = |a: &[Route], b: &[Route]| -> Vec<String> {
        let other: BTreeSet<_> = b.iter().map(|r| r.name.as_str()).collect();
        a.iter().map(|r| r.name.clone()).filter(|n| other.contains(n.as_str())).collect()
    };
    let (before, after) = (names(old, new), names(new, old));
    if before != after {
        out.push(changed(What::Order, "routes", format!("now {}", after.join(", "))));
    }
}
