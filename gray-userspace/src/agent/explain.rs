//! Why: the decision over the live tables, with its trail.

use std::cell::Cell;

use gray_common::{
    decide::{Claims, Decision, NO_BUCKET, Precedence, Request, Tables, Verdict, claims, decide, mem::{MemTables, View}},
    limits,
    wire::{
        Addr, Class, FACT_LIST, Fact, FLOW_FORWARD, FlowKey4, FlowKey6, Instance, ListenerKey, ListenerValue, Rule,
        Service, Subset, Versioned,
    },
};

use super::core::Inner;
use crate::{
    api::{ApiError, types::*},
    compile::{self, lists::text_hash},
    kernel::{KernelError, Miss},
    model::{self, CohortBody},
};

/// Lookups after which a decision that still misses something is given up: far above what a full service needs.
const ROUNDS: usize = 100_000;

/// Tables that note the first lookup they could not answer.
struct Paged<'a> {
    view: View<'a>,
    miss: Cell<Option<Miss>>,
}

impl Paged<'_> {
    fn bank(&self, index: u32, size: u32) -> u32 {
        (self.view.epoch() & 1) as u32 * size + index
    }

    fn note<T>(&self, found: Option<T>, miss: Miss) -> Option<T> {
        if found.is_none() && self.miss.get().is_none() {
            self.miss.set(Some(miss));
        }
        found
    }
}

impl Tables for Paged<'_> {
    fn epoch(&self) -> u64 {
        self.view.epoch()
    }
    fn service(&self, i: u32) -> Option<&Service> {
        self.note(self.view.service(i), Miss::Service(self.bank(i, limits::SERVICES)))
    }
    fn fact(&self, i: u32) -> Option<&Fact> {
        self.note(self.view.fact(i), Miss::Fact(self.bank(i, limits::FACTS)))
    }
    fn rule(&self, i: u32) -> Option<&Rule> {
        self.note(self.view.rule(i), Miss::Rule(self.bank(i, limits::RULES)))
    }
    fn identity(&self, hash: u64) -> Option<Versioned> {
        self.note(self.view.identity(hash), Miss::Identity(hash))
    }
    fn prefix(&self, addr: &Addr) -> Option<Versioned> {
        self.note(self.view.prefix(addr), Miss::Prefix(*addr))
    }
    fn class(&self, i: u32) -> Option<&Class> {
        self.note(self.view.class(i), Miss::Class(i))
    }
    fn owner(&self, w: u32, bucket: u16) -> Option<u32> {
        self.note(self.view.owner(w, bucket), Miss::Weighted(self.bank(w, limits::WEIGHTED)))
    }
    fn subset(&self, i: u32) -> Option<&Subset> {
        self.note(self.view.subset(i), Miss::Subset(self.bank(i, limits::SUBSETS)))
    }
    fn slot(&self, i: u32) -> Option<u32> {
        self.note(self.view.slot(i), Miss::Slot(i))
    }
    fn instance(&self, i: u32) -> Option<&Instance> {
        self.note(self.view.instance(i), Miss::Instance(i))
    }
    fn looked_at(&self, rule: &Rule, facts: u64, matched: bool) {
        self.view.looked_at(rule, facts, matched);
    }
}

/// What the tables answered.
struct Answer {
    verdict: Verdict,
    service: Option<Service>,
    facts: Vec<Fact>,
    /// (rule, the client's facts, matched).
    trail: Vec<(Rule, u64, bool)>,
}

/// The decision by demand paging: decide, fetch what was missing, decide again.
fn ask(
    tables: &mut MemTables,
    key: &ListenerKey,
    claims: &Claims,
    source: Option<&Addr>,
    seed: u64,
    mut fetch: impl FnMut(&mut MemTables, Miss) -> Result<(), KernelError>,
) -> Result<Answer, KernelError> {
    fetch(tables, Miss::Listener(*key))?;
    let mut last = None;
    for _ in 0..ROUNDS {
        let paged = Paged { view: tables.view(), miss: Cell::new(None) };
        let listener: ListenerValue = paged.view.listener(key);
        let request = Request { listener, claims, source, is_v4: key.addr.is_v4(), seed };
        let verdict = decide(&paged, &request);
        let miss = paged.miss.get();
        // Asked for twice in a row: it is not there, and the verdict says so.
        if miss.is_none() || miss == last {
            let service = listener.service().and_then(|i| paged.view.service(i)).copied();
            let facts = service.map_or_else(Vec::new, |s| {
                (0..u32::from(s.facts)).filter_map(|i| paged.view.fact(s.first_fact + i)).copied().collect()
            });
            return Ok(Answer { verdict, service, facts, trail: paged.view.trail.take() });
        }
        drop(paged);
        if let Some(m) = miss {
            fetch(tables, m)?;
        }
        last = miss;
    }
    Err(KernelError::MissingProgram("explain: the tables changed all the time".into()))
}

/// Who asks, in the words of the tables.
struct Client {
    claims: Claims,
    shown: Vec<(model::ClaimKind, String)>,
    source: Option<Addr>,
    seed: u64,
}

fn client(inner: &Inner, r: &ExplainRequest) -> Client {
    let key = inner.hash_key();
    let mut c = Client { claims: Claims::none(0), shown: Vec::new(), source: None, seed: 0 };
    if let Some(ip) = r.src {
        let addr = Addr::from(ip.to_canonical());
        c.claims.set_source(key, &addr);
        c.source = Some(addr);
        c.shown.push((model::ClaimKind::Source, ip.to_canonical().to_string()));
    }
    if let Some(m) = r.mark.filter(|m| *m != 0) {
        c.claims.set_mark(key, m);
        c.shown.push((model::ClaimKind::Mark, m.to_string()));
    }
    if let Some(d) = r.dscp.filter(|d| *d != 0) {
        c.claims.set_dscp(key, d);
        c.shown.push((model::ClaimKind::Dscp, d.to_string()));
    }
    if let Some(w) = &r.workload {
        c.claims.hash[usize::from(claims::WORKLOAD)] = text_hash(key, claims::WORKLOAD, w).max(1);
        c.shown.push((model::ClaimKind::Workload, w.clone()));
    }
    c.seed = u64::from(r.sport.unwrap_or(0));
    c
}

/// Explains a made-up connection, or a live one.
pub fn explain(inner: &mut Inner, mut r: ExplainRequest) -> Result<ExplainReply, ApiError> {
    let internal = |e: KernelError| ApiError::internal(&e);
    let mut found = None;
    if let Some(live) = r.live {
        found = Some(live_flow(inner, &live)?);
        let service = inner.policy.services.iter().find(|s| s.listen.iter().any(|l| l.addr == live.dst && l.proto == live.proto));
        let service = service.ok_or_else(|| {
            ApiError::not_found(format!("{} is no service address", live.dst), "see `gray get services`")
        })?;
        r = ExplainRequest {
            service: Some(service.name.clone()),
            src: Some(live.src.ip()),
            sport: Some(live.src.port()),
            proto: Some(live.proto),
            port: Some(live.dst.port()),
            ..ExplainRequest::default()
        };
    }
    let name = r.service.clone().ok_or_else(|| {
        ApiError::unusable("no service is named", "give --service NAME, or --live with a connection of `gray flows`")
    })?;
    let service = inner
        .policy
        .service(&name)
        .cloned()
        .ok_or_else(|| ApiError::not_found(format!("there is no service {name}"), "see `gray get services`"))?;
    let fits = |l: &&model::Listener| {
        r.proto.is_none_or(|p| l.proto == p)
            && r.port.is_none_or(|p| l.addr.port() == p)
            && r.src.is_none_or(|s| s.to_canonical().is_ipv4() == l.addr.is_ipv4())
    };
    let listener = *service.listen.iter().find(fits).ok_or_else(|| {
        ApiError::not_found(format!("{name} has no listener that fits"), "leave out --proto and --port, or see `gray get services`")
    })?;
    let who = client(inner, &r);
    let mut tables = MemTables { control: inner.live.control(), ..MemTables::default() };
    let key = compile::listener_key(&listener);
    let answer = ask(&mut tables, &key, &who.claims, who.source.as_ref(), who.seed, |t, m| inner.live.fetch(t, m))
        .map_err(internal)?;
    Ok(reply(inner, &service, &listener, &who, &answer, tables.control.epoch, found))
}

/// The instance that a live connection is bound to.
fn live_flow(inner: &Inner, l: &FlowTuple) -> Result<String, ApiError> {
    let internal = |e: KernelError| ApiError::internal(&e);
    let (src, dst) = (Addr::from(l.src.ip().to_canonical()), Addr::from(l.dst.ip().to_canonical()));
    let (sport, dport) = (l.src.port().to_be(), l.dst.port().to_be());
    let proto = u32::from(compile::proto_number(l.proto));
    let bound = if src.is_v4() {
        let key = FlowKey4 { saddr: src.as_v4(), daddr: dst.as_v4(), sport, dport, proto };
        let f = inner.live.flow4(&key).map_err(internal)?;
        f.filter(|f| f.state.flags & FLOW_FORWARD != 0).map(|f| (Addr::v4(f.daddr), f.dport))
    } else {
        let key = FlowKey6 { saddr: src, daddr: dst, sport, dport, proto };
        let f = inner.live.flow6(&key).map_err(internal)?;
        f.filter(|f| f.state.flags & FLOW_FORWARD != 0).map(|f| (f.daddr, f.dport))
    };
    let (addr, port) = bound.ok_or_else(|| {
        ApiError::not_found("there is no such connection in the flow table", "see `gray flows`; the connect path keeps none")
    })?;
    Ok(std::net::SocketAddr::new(addr.into(), u16::from_be(port)).to_string())
}

fn reply(
    inner: &Inner,
    service: &model::Service,
    listener: &model::Listener,
    who: &Client,
    answer: &Answer,
    epoch: u64,
    live: Option<String>,
) -> ExplainReply {
    let (d, reason, steered) = match answer.verdict {
        Verdict::Steer(d) => (d, gray_common::Reason::from_code(d.reason), true),
        Verdict::Stay(d) => (d, gray_common::Reason::from_code(d.reason), false),
        Verdict::Pass(r) => (Decision { bucket: NO_BUCKET, ..Decision::default() }, Some(r), false),
    };
    let words = Words { inner, facts: &answer.facts, who, identity: d.identity };
    let trail: Vec<TrailStep> = answer.trail.iter().map(|(rule, facts, m)| words.step(rule, *facts, *m)).collect();
    let chosen = answer.trail.iter().find(|t| t.2).map(|t| t.0);
    let percent = chosen.and_then(|rule| words.percent_of(&rule));
    let bucket = if d.bucket == NO_BUCKET { percent.map(|p| p.0) } else { Some(d.bucket) };
    let arm = if d.arm == 1 { ArmName::Gray } else { ArmName::Stable };
    let at = std::net::SocketAddr::new(d.instance.addr.into(), u16::from_be(d.instance.port));
    let instance = service.instances.iter().find(|i| steered && i.address == at);
    let instance = instance.map(|i| if i.id == at.to_string() { i.id.clone() } else { format!("{} ({at})", i.id) });
    let route = (d.rule != 0).then(|| inner.rule_name(u32::from(d.rule)));
    let reason = reason.map_or("unknown", gray_common::Reason::label).to_string();
    let subset = words.subset(service, chosen.as_ref(), &d);
    let mut text = match answer.verdict {
        Verdict::Steer(_) => format!("goes to {} ({}, {})", instance.clone().unwrap_or_else(|| at.to_string()), arm.name(), reason),
        Verdict::Stay(_) => format!("stays on {}, stable's own address ({reason})", listener.addr),
        Verdict::Pass(_) => format!("is left alone ({reason})"),
    };
    if steered && service.instances.iter().filter(|i| i.address.is_ipv4() == listener.addr.is_ipv4()).count() > 2 {
        text.push_str("; another connection of this client may get another instance of the same subset");
    }
    if let Some(bound) = live {
        text = format!("this connection is bound to {bound}; a new one {text}");
    }
    let identity = service.identify.iter().find_map(|k| {
        who.shown.iter().find(|(kind, _)| kind == k).map(|(kind, value)| format!("{} {value}", kind.name()))
    });
    ExplainReply {
        service: service.name.clone(),
        listener: listener.to_string(),
        claims: who.shown.iter().map(|(k, v)| words.claim(*k, v)).collect(),
        identity,
        trail,
        bucket,
        threshold: percent.map(|p| p.1),
        route,
        arm,
        subset,
        instance,
        reason,
        text,
        epoch,
    }
}

/// Turns facts and rules into sentences.
struct Words<'a> {
    inner: &'a Inner,
    facts: &'a [Fact],
    who: &'a Client,
    identity: u64,
}

impl Words<'_> {
    fn claim(&self, kind: model::ClaimKind, value: &str) -> ClaimShown {
        let hash = self.who.claims.of(compile::conditions::claim_code(kind));
        ClaimShown { kind: kind.name().into(), value: value.into(), hash: format!("{hash:016x}") }
    }

    fn step(&self, rule: &Rule, facts: u64, matched: bool) -> TrailStep {
        let asked = rule.need | rule.forbid;
        let said: Vec<String> = (0..64)
            .filter(|i| asked >> i & 1 != 0)
            .filter_map(|i| self.facts.get(i as usize).map(|f| self.fact(f, facts >> i & 1 != 0)))
            .collect();
        TrailStep {
            rule: self.inner.rule_name(u32::from(rule.id)),
            precedence: Precedence::name(rule.precedence).into(),
            matched,
            why: if said.is_empty() { "applies to everybody".into() } else { said.join("; ") },
        }
    }

    fn fact(&self, f: &Fact, holds: bool) -> String {
        if f.kind == FACT_LIST {
            let lists = &self.inner.compiled.assigned.lists;
            let name = lists.name(f.value).unwrap_or("a list of an earlier policy");
            return format!("{} list {name}", if holds { "on" } else { "not on" });
        }
        let name = self.percent_name(f);
        match self.bucket(f) {
            Some(b) => format!("bucket {b} is {} {} of {name}", if holds { "below" } else { "not below" }, f.value),
            None => format!("no identity for {name}"),
        }
    }

    fn bucket(&self, f: &Fact) -> Option<u16> {
        let who = if f.claim == 0 { self.identity } else { self.who.claims.of(f.claim) };
        (who != 0).then(|| gray_common::decide::bucket(who, f.salt))
    }

    fn percent_name(&self, f: &Fact) -> String {
        let same = |c: &&model::Cohort| match &c.body {
            CohortBody::Percent { salt, basis_points, .. } => {
                gray_common::hash::salt(salt) == f.salt && u32::from(*basis_points) == f.value
            }
            CohortBody::List { .. } => false,
        };
        self.inner.policy.cohorts.iter().find(same).map_or_else(|| "a percentage".into(), |c| c.name.clone())
    }

    /// Bucket and threshold of the first percentage that a rule needs.
    fn percent_of(&self, rule: &Rule) -> Option<(u16, u16)> {
        (0..64).filter(|i| rule.need >> i & 1 != 0).filter_map(|i| self.facts.get(i)).find_map(|f| {
            (f.kind != FACT_LIST).then(|| self.bucket(f).map(|b| (b, f.value as u16))).flatten()
        })
    }

    fn subset(&self, service: &model::Service, rule: Option<&Rule>, d: &Decision) -> String {
        let target = match rule {
            Some(r) if r.weighted != 0 => {
                let w = self.inner.compiled.weighted.get(r.target as usize);
                w.and_then(|w| w.arms.get(usize::from(*w.owner.get(usize::from(d.bucket))?))).copied()
            }
            Some(r) => Some(r.target),
            None => None,
        };
        let failed_over = d.reason == gray_common::Reason::Failover as u8;
        match target.filter(|_| !failed_over).and_then(|t| self.inner.compiled.subsets.get(t as usize)) {
            Some(s) => s.name.rsplit_once(": ").map_or_else(|| s.name.clone(), |(_, n)| n.to_string()),
            None => service.stable.to_string(),
        }
    }
}

impl Inner {
    /// The name that a rule number is counted under.
    pub fn rule_name(&self, id: u32) -> String {
        self.compiled.assigned.rules.name(id).map_or_else(|| format!("rule {id}"), str::to_string)
    }
}

