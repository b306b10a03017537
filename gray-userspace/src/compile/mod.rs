//! The policy compiler: a validated policy to what the kernel's tables shall hold. Pure: no clock, no I/O, no tokio.

pub mod arena;
pub mod assigned;
#[cfg(test)]
mod cases;
pub mod conditions;
pub mod guard;
pub mod have;
mod headers;
pub mod identities;
#[cfg(test)]
mod large;
pub mod lists;
pub mod nets;
pub mod order;
pub mod placed;
pub mod plan;
mod prefixes;
mod rules;
mod subsets;
#[cfg(test)]
mod tests;
pub mod weights;

use std::collections::{BTreeMap, BTreeSet};

use gray_common::{
    hash::{lane_check, salt},
    limits,
    packet::{ICMP, ICMPV6},
    request::{
        machine::{ALONE, PER_REQUEST, Terms},
        watch::{WATCHES, Watches},
    },
    wire::{
        Addr, Fact, Instance, ListenerKey, ListenerValue, Reading, Rule, SERVICE_AFFINITY, SERVICE_DENY,
        SERVICE_DSR, SERVICE_GUE, SERVICE_MARK, SERVICE_NO_FAILOVER, SERVICE_PREFIXES, SERVICE_REQUEST,
        SERVICE_ROUND_ROBIN, SERVICE_SHADOW, SERVICE_SNAT, Service, Weighted,
    },
};

pub use assigned::Assigned;
pub use order::{lane_rule, rule_name};
pub use subsets::{Family, Member, SubsetPlan, Who};

use self::{
    conditions::{Alternative, Facts, claim_code},
    order::By,
    rules::{Maker, What},
    subsets::Subsets,
};
use crate::model::{self, ClaimKind, Policy, Proto};

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CompileError {
    #[error("the policy needs more than {limit} {what}")]
    Limit { what: &'static str, limit: u32 },
    #[error("service {service}: more than {limit} rules after its conditions are spread out", limit = limits::RULES_PER_SERVICE)]
    TooManyRules { service: String },
    #[error("route {route}: its condition has too many alternatives, or its service asks for more than {n} different cohorts and lanes; split the route", n = limits::FACTS_PER_SERVICE)]
    TooComplex { route: String },
    #[error("cohort {0} does not exist")]
    NoCohort(String),
    #[error("no room in the table of instances; remove services or instances")]
    ArenaFull,
    #[error("all {limit} numbers of {what} were given to names already; take back one of the older names")]
    Spent { what: &'static str, limit: u32 },
    #[error("more than {} distinct sets of lists", limits::CLASSES)]
    Classes,
}

/// What varies beside the document.
#[derive(Clone, Debug, Default)]
pub struct Circumstances {
    /// `service/instance` names that get no new connections.
    pub drained: BTreeSet<String>,
    /// `CLOCK_MONOTONIC` ns until which a service takes connections found in mid-stream as stable's own.
    pub adopt_until_ns: BTreeMap<String, u64>,
}

/// What one bank shall hold, and the numbers that go with it. Indexes are relative to the bank.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Compiled {
    pub services: Vec<Service>,
    /// As many as services.
    pub readings: Vec<Reading>,
    pub facts: Vec<Fact>,
    pub rules: Vec<Rule>,
    pub weighted: Vec<Box<Weighted>>,
    pub subsets: Vec<SubsetPlan>,
    pub listeners: BTreeMap<ListenerKey, ListenerValue>,
    pub instances: BTreeMap<u32, Instance>,
    /// By number; what `hash::lane_check` says of their names.
    pub lanes: BTreeMap<u32, u32>,
    pub assigned: Assigned,
}

/// IP protocol number.
pub fn proto_number(p: Proto) -> u8 {
    match p {
        Proto::Tcp => gray_common::packet::TCP,
        Proto::Udp => gray_common::packet::UDP,
    }
}

/// Echo requests to a listener's address, whatever its port.
fn echo_key(l: &model::Listener) -> ListenerKey {
    ListenerKey { port: 0, proto: if l.addr.is_ipv4() { ICMP } else { ICMPV6 }, ..listener_key(l) }
}

pub fn listener_key(l: &model::Listener) -> ListenerKey {
    ListenerKey {
        addr: Addr::from(l.addr.ip().to_canonical()),
        port: l.addr.port().to_be(),
        proto: proto_number(l.proto),
        _pad: 0,
    }
}

/// Compiles a policy, keeping the numbers of the revision before.
pub fn compile(policy: &Policy, before: &Assigned, around: &Circumstances) -> Result<Compiled, CompileError> {
    let rule_names: Vec<String> = policy
        .services
        .iter()
        .flat_map(|s| order::of(policy, s).into_iter().map(|sends| sends.by.name(&s.name)))
        .chain(guard::guards(policy).into_iter().map(|g| g.name))
        .chain(policy.services.iter().filter(|s| s.headers.is_some()).flat_map(|s| headers::names(&s.name)))
        .collect();
    let service_names = guard::names(policy);
    let lists = policy.lists();
    let mut assigned = Assigned {
        services: before.services.next(
            "services",
            service_names.iter().map(String::as_str),
            0,
            limits::SERVICES,
        )?,
        rules: before.rules.next("rules", rule_names.iter().map(String::as_str), 1, 65_536)?,
        lists: before.lists.next("lists", lists.iter().map(|l| &*l.name), 0, limits::LISTS)?,
        instances: before.instances.next(
            "instances",
            subsets::instance_names(policy).iter().map(String::as_str),
            0,
            limits::INSTANCES,
        )?,
        lanes: before.lanes.next(
            "lanes",
            policy.lanes.iter().map(|l| l.name.as_str()),
            limits::LANE_NUMBERS,
        )?,
        weights: BTreeMap::new(),
    };
    let wild = wild(&lists, &assigned);
    let mut out = Compiled::default();
    let mut away = policy.blacklisted();
    away.extend(around.drained.iter().cloned());
    for (index, service) in policy.services.iter().enumerate() {
        let mut subsets = Subsets::new((index, service), &assigned.instances, &away, &mut out);
        let stable_subset = subsets.index(&service.stable)?;
        let first_rule = subsets.out().rules.len() as u32;
        let mut facts = Facts::default();
        for sends in order::of(policy, service) {
            let name = sends.by.name(&service.name);
            let lane = sends.lane.and_then(|l| assigned.lanes.get(l)).unwrap_or(0);
            let arms = sends.to.arms();
            let owner = (arms.len() > 1).then(|| {
                let weights: Vec<(String, u16)> =
                    arms.iter().map(|a| (a.subset.to_string(), a.basis_points)).collect();
                before.weights.get(&name).cloned().unwrap_or_default().next(&weights)
            });
            let rule = Rule {
                id: assigned.rules.get(&name).unwrap_or(0) as u16,
                precedence: sends.order.step as u8,
                salt: if owner.is_some() { salt(&name) } else { u64::from(lane) },
                ..Rule::default()
            };
            let always = match sends.by {
                By::Lane(l) => facts.in_lane(&l.name, lane)?,
                // Who is in a lane is not led into another one.
                By::Route(r) if lane != 0 => facts.in_no_lane(&r.name)?,
                By::Route(_) => Alternative::default(),
            };
            let text = sends.by.text();
            let what = What { rule, always, text, arms: &arms, owner: owner.as_ref() };
            let (subsets, facts) = (&mut subsets, &mut facts);
            Maker { policy, assigned: &assigned, service, subsets, facts }.put(&what, sends.by.when())?;
            assigned.weights.extend(owner.map(|owner| (name, owner)));
        }
        {
            let (subsets, facts) = (&mut subsets, &mut facts);
            Maker { policy, assigned: &assigned, service, subsets, facts }.put_headers()?;
        }
        let rules = subsets.out().rules.len() as u32 - first_rule;
        if rules > limits::RULES_PER_SERVICE {
            return Err(CompileError::TooManyRules { service: service.name.clone() });
        }
        let (list_kinds, mut flags) = lists_used(&lists, &facts, &assigned);
        if service.affinity == model::Affinity::Client {
            flags |= SERVICE_AFFINITY;
        }
        if service.nat == model::Nat::Snat {
            flags |= SERVICE_SNAT;
        }
        if service.nat == model::Nat::Dsr {
            flags |= SERVICE_DSR;
            if service.encapsulation == model::Encapsulation::Gue {
                flags |= SERVICE_GUE;
            }
        }
        if service.balance == model::Balance::RoundRobin {
            flags |= SERVICE_ROUND_ROBIN;
        }
        if service.reads() {
            flags |= SERVICE_REQUEST;
        }
        if service.on_missing == model::OnMissing::Deny {
            flags |= SERVICE_DENY;
        }
        if service.failover == model::Failover::Deny {
            flags |= SERVICE_NO_FAILOVER;
        }
        if service.shadow {
            flags |= SERVICE_SHADOW;
        }
        out.readings.push(wildcards(reading(service), service, (&wild, &facts))?);
        flags |= marked(service, &facts, list_kinds);
        let first_fact = out.facts.len() as u32;
        out.services.push(Service {
            adopt_until_ns: around.adopt_until_ns.get(&service.name).copied().unwrap_or(0),
            first_rule,
            first_fact,
            stable_subset,
            id: assigned.services.get(&service.name).unwrap_or(0) as u16,
            rules: rules as u16,
            facts: facts.0.len() as u16,
            identify: identify_codes(service),
            list_kinds,
            flags,
            _pad: 0,
        });
        out.facts.extend(facts.0);
        for l in &service.listen {
            let drained = |i: &model::Instance| away.contains(&format!("{}/{}", service.name, i.id));
            let stable = |i: &&model::Instance| service.stable.matches(i) && !drained(i);
            let own = service.instances.iter().filter(stable).any(|i| i.address == l.addr);
            let _ = out.listeners.insert(listener_key(l), ListenerValue::new(index as u32, own));
            // Who has the address answers its echo requests: an instance, or else gray.
            if !policy.services.iter().flat_map(|s| &s.instances).any(|i| i.address.ip() == l.addr.ip()) {
                let _ = out.listeners.insert(echo_key(l), ListenerValue::new(index as u32, false));
            }
        }
    }
    for g in guard::guards(policy) {
        guard::put(policy, &g, (&lists, &assigned, around), &mut out)?;
    }
    let number = |l: &model::Lane| Some((assigned.lanes.get(&l.name)?, lane_check(&l.name)));
    out.lanes = policy.lanes.iter().filter_map(number).collect();
    check_sizes(&out)?;
    out.assigned = assigned;
    Ok(out)
}

/// `SERVICE_MARK`, if something asks for the mark.
fn marked(service: &model::Service, facts: &Facts, list_kinds: u16) -> u32 {
    let mark = claim_code(ClaimKind::Mark);
    let asks = service.identify.contains(&ClaimKind::Mark)
        || list_kinds & 1 << mark != 0
        || facts.0.iter().any(|f| f.claim == mark);
    if asks { SERVICE_MARK } else { 0 }
}

fn identify_codes(service: &model::Service) -> [u8; limits::IDENTIFY] {
    let mut identify = [0; limits::IDENTIFY];
    for (slot, kind) in identify.iter_mut().zip(&service.identify) {
        *slot = claim_code(*kind);
    }
    identify
}

/// What holds for the connections of a service whose requests are read.
pub fn terms(service: &model::Service) -> Terms {
    let flags = ALONE | if service.per == model::Per::Request { PER_REQUEST } else { 0 };
    Terms { first_byte_ms: service.first_byte.0, silent_ms: 1000, mss: MSS, scale: SCALE, flags }
}

/// What is read of a service's requests.
pub fn reading(service: &model::Service) -> Reading {
    let mut out = Reading {
        names: Watches::default(),
        kinds: [0; WATCHES],
        beginning_of: [0; limits::BEGINNINGS],
        beginning_len: [0; limits::BEGINNINGS],
        terms: terms(service),
        sni: 0,
        alpn: 0,
        named: 0,
        _pad: 0,
    };
    for (kind, tls) in &service.tls {
        match tls {
            model::Tls::Sni => out.sni = claim_code(*kind),
            model::Tls::Alpn => out.alpn = claim_code(*kind),
        }
    }
    for (i, (kind, place)) in service.claims.iter().enumerate().take(WATCHES) {
        out.kinds[i] = claim_code(*kind);
        out.names.names[i] = place.watched();
        if !ClaimKind::ASKED.contains(kind) {
            out.named |= 1 << i;
        }
    }
    out
}

/// A list's bit, its claim, and how many first bytes its wildcards ask for.
type Wild = (u32, ClaimKind, BTreeSet<u8>);

fn wild(lists: &[model::List<'_>], assigned: &Assigned) -> Vec<Wild> {
    let of =
        |l: &model::List<'_>| Some((assigned.lists.get(&l.name)?, l.of, model::beginnings(l.of, &l.ids)));
    lists.iter().filter_map(of).filter(|(.., lengths)| !lengths.is_empty()).collect()
}

/// With what the wildcards ask for of the lists among these facts. Of a claim that is not read, nothing.
fn wildcards(
    mut out: Reading,
    service: &model::Service,
    (wild, facts): (&[Wild], &Facts),
) -> Result<Reading, CompileError> {
    let used = wild.iter().filter(|(bit, ..)| facts.0.contains(&conditions::on_list(*bit)));
    let asked: BTreeSet<(ClaimKind, u8)> =
        used.flat_map(|(_, of, lengths)| lengths.iter().map(|len| (*of, *len))).collect();
    let name = |of: &ClaimKind| service.claims.keys().position(|k| k == of);
    let read = asked.iter().filter_map(|(of, len)| Some((name(of)?, *len)));
    for (i, (name, len)) in read.enumerate() {
        let (Some(slot), Some(size)) = (out.beginning_of.get_mut(i), out.beginning_len.get_mut(i)) else {
            let limit = limits::BEGINNINGS as u32;
            return Err(CompileError::Limit { what: "lengths of wildcards in one service", limit });
        };
        (*slot, *size) = (name as u8 + 1, len);
    }
    Ok(out)
}

/// What clients are told: payload that every way has room for, and a window of up to 8 MB.
const MSS: u16 = 1440;
const SCALE: u8 = 7;

/// Which kinds of claims the lists among these facts are about, and whether prefixes may be among them.
fn lists_used(lists: &[model::List<'_>], facts: &Facts, assigned: &Assigned) -> (u16, u32) {
    let bits: BTreeSet<u32> =
        facts.0.iter().filter(|f| f.kind == gray_common::wire::FACT_LIST).map(|f| f.value).collect();
    let (mut kinds, mut flags) = (0, 0);
    for l in lists.iter().filter(|l| assigned.lists.get(&l.name).is_some_and(|b| bits.contains(&b))) {
        kinds |= 1 << claim_code(l.of);
        if l.of == ClaimKind::Source {
            flags |= SERVICE_PREFIXES;
        }
    }
    (kinds, flags)
}

fn check_sizes(out: &Compiled) -> Result<(), CompileError> {
    let sizes = [
        ("services, entries of `accept` included", out.services.len(), limits::SERVICES),
        ("listeners", out.listeners.len(), limits::LISTENERS),
        ("lanes", out.lanes.len(), limits::LANES),
        ("facts", out.facts.len(), limits::FACTS),
        ("rules", out.rules.len(), limits::RULES),
        ("weighted routes", out.weighted.len(), limits::WEIGHTED),
        ("subsets", out.subsets.len(), limits::SUBSETS),
    ];
    for (what, n, limit) in sizes {
        if n > limit as usize {
            return Err(CompileError::Limit { what, limit });
        }
    }
    Ok(())
}
