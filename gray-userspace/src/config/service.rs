//! Reads one service of the document. Must not look at other services, cohorts or routes.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::Arc,
};

use super::{
    accept::{self, AcceptDraft},
    alarm,
    blacklist::{self, BlacklistDraft},
    breaker, claims, headers, health, limits,
    report::{At, Draft, Report, Span, quoted},
    selector,
    shape::{
        self, AFFINITY, BALANCE, CLAIMS, CLAIMS_LATER, ENCAPSULATION, IDENTITIES, INSTANCE, MEASURE, NAT,
        ON_LOST, ON_MISSING, PER, SERVICE, YES_NO, ZONE_AFFINITY,
    },
    tree::Node,
    value::{self, BadAddress},
    walk::{self, Fields},
};
use crate::model::{
    Affinity, Alarm, Balance, Breaker, ClaimKind, Encapsulation, Failover, Health, Instance, Listener,
    MetaKey, Millis, Nat, OnMissing, Per, Place, Proto, RouteHeaders, Selector, Tls, ZoneAffinity,
};

/// Clients open connections that they use later (a browser for up to 10 s): who is taken for silent too soon is taken for nobody.
pub(super) const FIRST_BYTE: Millis = Millis(30_000);

/// A SYN that was lost is said again after a second (RFC 6298).
pub(super) const INSTANCE_TIMEOUT: Millis = Millis(1_000);

/// Longer than an agent takes to be started again, or another one to take its place.
pub(super) const AGENT_LEASE: Millis = Millis(30_000);

pub(super) struct ServiceDraft {
    pub name: At<String>,
    pub listen: Vec<At<Listener>>,
    pub identify: Vec<ClaimKind>,
    pub claims: BTreeMap<ClaimKind, Place>,
    pub tls: BTreeMap<ClaimKind, Tls>,
    pub tlvs: BTreeMap<ClaimKind, u8>,
    pub proxies: Vec<ipnet::IpNet>,
    pub per: Per,
    pub first_byte: Millis,
    pub instance_timeout: Millis,
    pub on_missing: Option<At<OnMissing>>,
    pub breaker: Option<Breaker>,
    pub agent_lease: Option<Millis>,
    pub alarm: Option<Alarm>,
    pub nat: Nat,
    pub encapsulation: Encapsulation,
    pub balance: Balance,
    pub affinity: Affinity,
    pub zone_affinity: Option<At<ZoneAffinity>>,
    pub health: Option<At<Health>>,
    pub instances: Vec<At<Instance>>,
    pub stable: Option<At<Selector>>,
    pub failover: Option<At<Failover>>,
    pub failover_by: Vec<(MetaKey, At<Failover>)>,
    pub blacklist: BlacklistDraft,
    pub shadow: bool,
    pub measure_full: bool,
    pub accept: Vec<AcceptDraft>,
    pub headers: Option<RouteHeaders>,
    /// Every part could be read: only then is "matches nothing" worth saying.
    pub whole: bool,
}

/// A service by its name and body. Also when parts are wrong: routes may name it.
pub(super) fn read(name: At<String>, node: &Node<'_>, report: &mut Report<'_>) -> ServiceDraft {
    let before = report.errors();
    let mut draft = ServiceDraft {
        listen: Vec::new(),
        identify: vec![ClaimKind::Source, ClaimKind::Workload],
        claims: BTreeMap::new(),
        tls: BTreeMap::new(),
        tlvs: BTreeMap::new(),
        proxies: Vec::new(),
        per: Per::default(),
        first_byte: FIRST_BYTE,
        instance_timeout: INSTANCE_TIMEOUT,
        on_missing: None,
        breaker: None,
        agent_lease: None,
        alarm: None,
        nat: Nat::default(),
        encapsulation: Encapsulation::default(),
        balance: Balance::default(),
        affinity: Affinity::default(),
        zone_affinity: None,
        health: None,
        instances: Vec::new(),
        stable: None,
        failover: None,
        failover_by: Vec::new(),
        blacklist: BlacklistDraft::default(),
        shadow: false,
        measure_full: false,
        accept: Vec::new(),
        headers: None,
        whole: false,
        name,
    };
    let Some(fields) = Fields::open(node, &SERVICE, draft.name.span, report) else { return draft };
    if let Some(node) = fields.get("listen") {
        draft.listen = listeners(node, report);
    }
    if let Some(node) = fields.get("identify") {
        draft.identify = identify(node, report);
    }
    if let Some(node) = fields.get("claims") {
        (draft.claims, draft.tls, draft.tlvs) = claims::read(node, &draft.listen, report);
    }
    if let Some(node) = fields.get("trusted-proxies") {
        draft.proxies = claims::proxies(node, report);
        for l in draft.listen.iter().filter(|l| l.value.proto == Proto::Udp) {
            report.error(
                Draft::new(l.span, "`trusted-proxies` and a UDP listener")
                    .help("PROXY headers are read on TCP only: make a service of its own for UDP"),
            );
        }
    }
    if let (Some(kind), true) = (draft.tlvs.keys().next(), draft.proxies.is_empty()) {
        report.error(
            Draft::new(
                draft.name.span,
                format!("the claim `{}` is read of PROXY headers, and nobody's are believed", kind.name()),
            )
            .help("say whose: `trusted-proxies: [198.18.1.3]`"),
        );
    }
    if let Some(node) = fields.get("per") {
        per(node, &fields, &mut draft, report);
    }
    if let Some((key, node)) = fields.pair("first-byte") {
        if let Some(ms) = walk::duration(node, "first-byte", 100..=600_000, report) {
            draft.first_byte = Millis(ms);
        }
        needs_claims(key.span, "first-byte", &fields, report);
    }
    if let Some((key, node)) = fields.pair("instance-timeout") {
        if let Some(ms) = walk::duration(node, "instance-timeout", 100..=60_000, report) {
            draft.instance_timeout = Millis(ms);
        }
        needs_claims(key.span, "instance-timeout", &fields, report);
    }
    if let Some(node) = fields.get("on-missing-identity") {
        let found = walk::word(node, "on-missing-identity", (ON_MISSING, &[]), report);
        let value = if found == Some(1) { OnMissing::Deny } else { OnMissing::Stable };
        draft.on_missing = Some(At { value, span: node.span });
    }
    if let Some(node) = fields.get("breaker") {
        draft.breaker = breaker::read(node, report);
    }
    agent_lost(&fields, &mut draft, report);
    if let Some((key, node)) = fields.pair("missing-alarm") {
        draft.alarm = alarm::read(node, report);
        if fields.get("claims").is_none() {
            report.error(
                Draft::new(key.span, "`missing-alarm` without `claims`")
                    .help("say what is read of requests: claims: { app: { header: X-App-Id } }"),
            );
        }
    }
    if let Some(node) = fields.get("nat") {
        draft.nat = match walk::word(node, "nat", (NAT, &[]), report) {
            Some(1) => Nat::Snat,
            Some(2) => Nat::Dsr,
            _ => Nat::Dnat,
        };
    }
    for (key, _) in ["claims", "trusted-proxies"].into_iter().filter_map(|k| fields.pair(k)) {
        if draft.nat != Nat::Dsr {
            break;
        }
        report.error(
            Draft::new(key.span, format!("`{}` and `nat: dsr`", key.text))
                .help("what a client says first is read by answering it: use `nat: dnat` or `snat`"),
        );
    }
    if let Some(node) = fields.get("encapsulation") {
        encapsulation(node, &mut draft, report);
    }
    if let Some(node) = fields.get("balance")
        && let Some(1) = walk::word(node, "balance", (BALANCE, &[]), report)
    {
        draft.balance = Balance::RoundRobin;
    }
    if let Some(node) = fields.get("affinity")
        && let Some(1) = walk::word(node, "affinity", (AFFINITY, &[]), report)
    {
        draft.affinity = Affinity::Client;
        if draft.balance == Balance::RoundRobin {
            report.error(
                Draft::new(node.span, "`affinity: client` and `balance: round-robin` exclude each other")
                    .help("remove one of them: a client keeps its instance, or instances take turns"),
            );
        }
    }
    if let Some(node) = fields.get("zone-affinity") {
        let value = match walk::word(node, "zone-affinity", (ZONE_AFFINITY, &[]), report) {
            Some(1) => ZoneAffinity::Prefer,
            Some(2) => ZoneAffinity::Only,
            _ => ZoneAffinity::Off,
        };
        draft.zone_affinity = Some(At { value, span: node.span });
    }
    if let Some(node) = fields.get("health") {
        draft.health = health::read(node, report).map(|value| At { value, span: node.span });
    }
    if let Some(node) = fields.get("instances") {
        draft.instances = instances(node, report);
    }
    if let Some(node) = fields.get("stable") {
        draft.stable = selector::read(node, &shape::SELECTOR, report);
    }
    if let Some(node) = fields.get("failover") {
        draft.failover = blacklist::failover(node, report).map(|(value, span)| At { value, span });
    }
    if let Some(node) = fields.get("failover-by") {
        draft.failover_by = blacklist::failover_by(node, report);
    }
    if let Some(node) = fields.get("blacklist") {
        draft.blacklist = blacklist::read(node, report);
    }
    if let Some(node) = fields.get("route-headers") {
        headers::read(node, &mut draft, report);
    }
    if let Some(node) = fields.get("accept") {
        draft.accept = accept::read(node, report);
    }
    if let Some(node) = fields.get("shadow") {
        draft.shadow = walk::word(node, "shadow", (YES_NO, &[]), report) == Some(0);
    }
    if let Some(node) = fields.get("measure") {
        draft.measure_full = walk::word(node, "measure", (MEASURE, &[]), report) == Some(1);
    }
    if let Some(node) = fields.get("identify") {
        let read = |c: &ClaimKind| {
            let places =
                [draft.claims.contains_key(c), draft.tls.contains_key(c), draft.tlvs.contains_key(c)];
            !c.is_read() || places.contains(&true)
        };
        for c in draft.identify.iter().filter(|c| !read(c)) {
            report.error(
                Draft::new(node.span, format!("nothing says where the claim `{}` is read", c.name()))
                    .help(format!("add it: claims: {{ {}: {{ header: {} }} }}", c.name(), c.usual_header())),
            );
        }
        let udp_only = !draft.listen.is_empty() && draft.listen.iter().all(|l| l.value.proto == Proto::Udp);
        if draft.identify.contains(&ClaimKind::Tag) && udp_only {
            report.warning(
                Draft::new(
                    node.span,
                    "no `tag` is ever known of clients of a service that listens on UDP only",
                )
                .help("a tag is in the SYN of a TCP connection; remove it from `identify`"),
            );
        }
    }
    draft.whole = report.errors() == before;
    draft
}

impl ServiceDraft {
    /// The finished service; `None` when a part is missing (and reported).
    pub(super) fn finish(self) -> Option<crate::model::Service> {
        Some(crate::model::Service {
            name: self.name.value,
            listen: self.listen.into_iter().map(|l| l.value).collect(),
            identify: self.identify,
            claims: self.claims,
            tls: self.tls,
            tlvs: self.tlvs,
            proxies: self.proxies,
            per: self.per,
            first_byte: self.first_byte,
            instance_timeout: self.instance_timeout,
            on_missing: self.on_missing.map_or(OnMissing::Stable, |m| m.value),
            breaker: self.breaker,
            agent_lease: self.agent_lease,
            alarm: self.alarm.map(Arc::new),
            nat: self.nat,
            encapsulation: self.encapsulation,
            balance: self.balance,
            affinity: self.affinity,
            zone_affinity: self.zone_affinity.map(|z| z.value).unwrap_or_default(),
            health: self.health.map(|h| h.value),
            instances: self.instances.into_iter().map(|i| i.value).collect(),
            stable: self.stable?.value,
            failover: self.failover.map(|f| f.value).unwrap_or_default(),
            failover_by: self.failover_by.into_iter().map(|(key, f)| (key, f.value)).collect(),
            blacklist: self.blacklist.finish(),
            shadow: self.shadow,
            measure_full: self.measure_full,
            headers: self.headers,
            accept: self.accept.into_iter().map(AcceptDraft::finish).collect(),
        })
    }
}

fn per(node: &Node<'_>, fields: &Fields<'_, '_>, draft: &mut ServiceDraft, report: &mut Report<'_>) {
    if walk::word(node, "per", (PER, &[]), report) == Some(1) {
        draft.per = Per::Request;
    }
    needs_claims(node.span, "per", fields, report);
}

fn agent_lost(fields: &Fields<'_, '_>, draft: &mut ServiceDraft, report: &mut Report<'_>) {
    let word = |node| walk::word(node, "on-agent-lost", (ON_LOST, &[]), report);
    let said = fields.get("on-agent-lost").map(word);
    if said == Some(Some(1)) {
        draft.agent_lease = Some(AGENT_LEASE);
    }
    let Some((key, node)) = fields.pair("agent-lease") else { return };
    let lease = walk::duration(node, "agent-lease", 5_000..=86_400_000, report);
    match said {
        Some(Some(1)) => draft.agent_lease = lease.map(Millis).or(draft.agent_lease),
        // What is wrong with it was said.
        Some(None) => {}
        Some(Some(_)) | None => report.error(
            Draft::new(key.span, "`agent-lease` without `on-agent-lost: stable`")
                .help("say what is to become of new connections when it is over: on-agent-lost: stable"),
        ),
    }
}

fn needs_claims(span: Span, key: &str, fields: &Fields<'_, '_>, report: &mut Report<'_>) {
    if fields.get("claims").is_none() && fields.get("route-headers").is_none() {
        report.error(
            Draft::new(span, format!("`{key}` without `claims`"))
                .help("say what is read of requests: claims: { app: { header: X-App-Id } }"),
        );
    }
}

fn encapsulation(node: &Node<'_>, draft: &mut ServiceDraft, report: &mut Report<'_>) {
    let Some(form) = walk::word(node, "encapsulation", (ENCAPSULATION, &[]), report) else { return };
    if form == 1 {
        draft.encapsulation = Encapsulation::Gue;
    }
    if draft.nat != Nat::Dsr {
        report.error(
            Draft::new(node.span, format!("`encapsulation` and `nat: {}`", draft.nat.name()))
                .help("only `nat: dsr` puts packets into other ones: say that, or remove it"),
        );
    }
}

fn too_many(node: &Node<'_>, given: usize, what: &str, most: usize, report: &mut Report<'_>) -> bool {
    if given > most {
        report.error(Draft::new(node.span, format!("{given} {what}")).expected(format!("at most {most}")));
    }
    given > most
}

fn none(node: &Node<'_>, key: &str, report: &mut Report<'_>) {
    report.error(Draft::new(node.span, format!("`{key}` is an empty list")).expected("at least one entry"));
}

fn bad_address(span: Span, text: &str, expected: &str, bad: BadAddress) -> Draft {
    Draft::new(span, format!("{} {}", quoted(text), bad.why)).expected(expected).help_if(bad.help)
}

fn listeners(node: &Node<'_>, report: &mut Report<'_>) -> Vec<At<Listener>> {
    let Some(items) = walk::list(node, "`listen`", "addresses", report) else { return Vec::new() };
    if items.is_empty() {
        none(node, "listen", report);
    }
    if too_many(node, items.len(), "listeners of one service", limits::LISTENERS_PER_SERVICE, report) {
        return Vec::new();
    }
    let mut out: Vec<At<Listener>> = Vec::new();
    for item in items {
        let Some(text) = walk::text(item, "a listener", value::LISTENER, report) else { continue };
        match value::listener(text) {
            Ok(value) => out.push(At { value, span: item.span }),
            Err(bad) => report.error(bad_address(item.span, text, value::LISTENER, bad)),
        }
    }
    out
}

fn identify(node: &Node<'_>, report: &mut Report<'_>) -> Vec<ClaimKind> {
    let Some(items) = walk::list(node, "`identify`", "claims", report) else { return Vec::new() };
    if items.is_empty() {
        none(node, "identify", report);
    }
    let mut out: Vec<ClaimKind> = Vec::new();
    for item in items {
        let Some(claim) = identity(item, report) else { continue };
        if out.contains(&claim) {
            report.error(
                Draft::new(item.span, format!("`{}` is in `identify` twice", claim.name()))
                    .help("remove one of them"),
            );
        } else {
            out.push(claim);
        }
    }
    out
}

fn identity(node: &Node<'_>, report: &mut Report<'_>) -> Option<ClaimKind> {
    let index = walk::word(node, "identify", (IDENTITIES, CLAIMS_LATER), report)?;
    let name = IDENTITIES[index];
    ClaimKind::ALL.into_iter().chain([ClaimKind::Tag]).find(|c| c.name() == name)
}

/// A built-in claim by name.
pub(super) fn claim(node: &Node<'_>, key: &str, report: &mut Report<'_>) -> Option<ClaimKind> {
    let index = walk::word(node, key, (CLAIMS, CLAIMS_LATER), report)?;
    ClaimKind::ALL.into_iter().find(|c| c.name() == CLAIMS[index])
}

fn instances(node: &Node<'_>, report: &mut Report<'_>) -> Vec<At<Instance>> {
    let Some(items) = walk::list(node, "`instances`", "instances", report) else { return Vec::new() };
    if items.is_empty() {
        none(node, "instances", report);
    }
    if too_many(node, items.len(), "instances of one service", limits::INSTANCES_PER_SERVICE, report) {
        return Vec::new();
    }
    let mut out = Vec::new();
    let mut ids: HashMap<String, Span> = HashMap::new();
    let mut addresses: HashMap<SocketAddr, Span> = HashMap::new();
    for item in items {
        let Some((instance, id_span, address_span)) = instance(item, report) else { continue };
        if let Some(first) = ids.insert(instance.id.clone(), id_span) {
            twice(id_span, first, format!("two instances have the id {}", quoted(&instance.id)), report);
        }
        if let Some(first) = addresses.insert(instance.address, address_span) {
            twice(
                address_span,
                first,
                format!("two instances have the address `{}`", instance.address),
                report,
            );
        }
        out.push(At { value: instance, span: address_span });
    }
    out
}

fn twice(at: Span, first: Span, text: String, report: &mut Report<'_>) {
    report.error(
        Draft::new(at, text).also(first, "first given here").help("every instance of a service has its own"),
    );
}

/// An instance, the place of its id, the place of its address.
fn instance(node: &Node<'_>, report: &mut Report<'_>) -> Option<(Instance, Span, Span)> {
    let fields = Fields::open(node, &INSTANCE, node.span, report)?;
    let mut meta = BTreeMap::new();
    let mut id = None;
    for key in MetaKey::TEXTS {
        let Some(node) = fields.get(key.name()) else { continue };
        let Some(text) = walk::meta(node, key.name(), report) else { continue };
        if key == MetaKey::Id {
            id = Some(text);
        } else {
            let _ = meta.insert(key, text.value);
        }
    }
    let weight =
        fields.get("weight").and_then(|node| weight(node, report)).unwrap_or(limits::INSTANCE_WEIGHT_DEFAULT);
    let node = fields.get("address")?;
    let text = walk::text(node, "`address`", value::ADDRESS, report)?;
    let address = match value::address(text) {
        Ok(address) => address,
        Err(bad) => {
            report.error(bad_address(node.span, text, value::ADDRESS, bad));
            return None;
        }
    };
    let id = id.unwrap_or_else(|| At { value: text.to_owned(), span: node.span });
    Some((Instance { id: id.value, address, meta, weight }, id.span, node.span))
}

fn weight(node: &Node<'_>, report: &mut Report<'_>) -> Option<u16> {
    let range = limits::INSTANCE_WEIGHT;
    let expected = format!("a whole number from {} to {}", range.start(), range.end());
    let text = walk::number(node, "`weight`", &expected, report)?;
    let found = text.parse().ok().filter(|w| range.contains(w));
    if found.is_none() {
        report.error(Draft::new(node.span, format!("`weight` is {}", quoted(text))).expected(expected));
    }
    found
}
