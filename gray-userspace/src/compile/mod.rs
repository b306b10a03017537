//! The policy compiler: a validated policy to what the kernel's tables shall hold. Pure: no clock, no I/O, no tokio.

pub mod arena;
pub mod assigned;
pub mod conditions;
mod error;
mod further;
pub mod guard;
pub mod have;
mod headers;
pub mod identities;
#[cfg(test)]
mod large;
pub mod lists;
mod making;
pub mod nets;
pub mod order;
pub mod placed;
pub mod plan;
mod prefixes;
#[cfg(test)]
mod room;
mod rules;
mod subsets;
#[cfg(test)]
mod tests;
pub mod weights;

use std::collections::{BTreeMap, BTreeSet};

use gray_common::{
    decide::claims::ND_MORE,
    hash::{HashKey, salt},
    limits,
    packet::{ICMP, ICMPV6},
    request::{
        machine::{PER_REQUEST, Terms},
        watch::{MORE, MORE_AT, WATCHES, Watches},
    },
    wire::{
        Addr, Fact, Further, Instance, ListenerKey, ListenerValue, Metadata, Reading, Rule, SERVICE_MARK,
        SERVICE_PREFIXES, Service, Weighted,
    },
};

pub use assigned::Assigned;
pub use error::{About, CompileError};
pub use order::{lane_rule, rule_name};
pub use subsets::{Family, Member, SubsetPlan, Who, is_far};

use self::{
    conditions::{Facts, claim_code},
    making::Making,
};
use crate::model::{self, ClaimKind, Policy, Proto};

/// What varies beside the document.
#[derive(Clone, Debug, Default)]
pub struct Circumstances {
    /// `service/instance` names that get no new connections.
    pub drained: BTreeSet<String>,
    /// `CLOCK_MONOTONIC` ns until which a service takes connections found in mid-stream as stable's own.
    pub adopt_until_ns: BTreeMap<String, u64>,
    /// Of the agent's node; `None`: affinity to a zone means nothing.
    pub zone: Option<String>,
}

/// What one bank shall hold, and the numbers that go with it. Indexes are relative to the bank.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Compiled {
    pub services: Vec<Service>,
    /// As many as services.
    pub readings: Vec<Reading>,
    pub further: Vec<Further>,
    pub metadata: Vec<Metadata>,
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

/// Compiles a policy, keeping the numbers of the revision before. The first refusal ends it.
pub fn compile(policy: &Policy, before: &Assigned, around: &Circumstances) -> Result<Compiled, CompileError> {
    let mut making = Making::begin(policy, before, around)?;
    for (index, service) in policy.services.iter().enumerate() {
        making.service(index, service)?;
    }
    for g in guard::guards(policy) {
        making.guard(&g)?;
    }
    making.end()
}

/// The same for who wants to know all that refuses the policy, each once.
pub fn compile_all(
    policy: &Policy,
    before: &Assigned,
    around: &Circumstances,
) -> Result<Compiled, Vec<CompileError>> {
    let mut making = Making::begin(policy, before, around).map_err(|e| vec![e])?;
    let mut errors = Vec::new();
    let mut told = |done: Result<(), CompileError>| {
        // A route for every service may be too much at each of them.
        errors.extend(done.err().filter(|e| !errors.contains(e)));
    };
    for (index, service) in policy.services.iter().enumerate() {
        told(making.service(index, service));
    }
    guard::guards(policy).iter().for_each(|g| told(making.guard(g)));
    match making.end() {
        Ok(compiled) if errors.is_empty() => Ok(compiled),
        Err(e) if errors.is_empty() => Err(vec![e]),
        _ => Err(errors),
    }
}

/// Whether the tables of a node that has nothing else have room for the policy.
///
/// # Errors
/// All that refuses it. A node whose tables hold another policy still may have less room.
pub fn check(policy: &Policy) -> Result<(), Vec<CompileError>> {
    let compiled = compile_all(policy, &Assigned::default(), &Circumstances::default())?;
    // Which key does not matter: no identity is asked for.
    let key = HashKey::default();
    let lists = lists::of_policy(policy, &compiled.assigned.lists, key);
    let want = plan::Want::all(1, key, &compiled, &lists);
    plan::plan(&mut have::Have::default(), &want).map(drop).map_err(|e| vec![e])
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
    let flags = if service.per == model::Per::Request { PER_REQUEST } else { 0 };
    Terms {
        first_byte_ms: service.first_byte.0,
        silent_ms: service.instance_timeout.0,
        mss: MSS,
        scale: SCALE,
        flags,
    }
}

/// The claims that requests and PROXY headers make, by place; of a TLV alone no request has a name.
fn names(service: &model::Service) -> Vec<(ClaimKind, u64)> {
    let tlvs = service.tlvs.keys().filter(|k| !service.claims.contains_key(k));
    service.claims.iter().map(|(k, place)| (*k, place.watched())).chain(tlvs.map(|k| (*k, 0))).collect()
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
        name: salt(&service.name),
    };
    for (kind, tls) in &service.tls {
        match tls {
            model::Tls::Sni => out.sni = claim_code(*kind),
            model::Tls::Alpn => out.alpn = claim_code(*kind),
        }
    }
    for (i, (kind, name)) in names(service).into_iter().enumerate().take(WATCHES) {
        out.kinds[i] = claim_code(kind);
        out.names.names[i] = name;
        if !ClaimKind::ASKED.contains(&kind) {
            out.named |= 1 << i;
        }
    }
    if service.headers.as_ref().is_some_and(|h| !h.more.is_empty()) {
        out.kinds[MORE_AT] = ND_MORE;
        out.names.names[MORE_AT] = MORE;
    } else if out.kinds == [0; WATCHES] && out.sni | out.alpn == 0 && !service.proxies.is_empty() {
        // Something is read, and of requests nothing.
        out.kinds[MORE_AT] = ND_MORE;
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
    let name = |of: &ClaimKind| names(service).iter().position(|(k, _)| k == of);
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
