//! Policy -> its canonical document. Must write what `load` reads back as the same policy.

use std::{collections::BTreeSet, fmt::Write as _};

use super::{
    limits,
    route::default_name,
    service::{FIRST_BYTE, INSTANCE_TIMEOUT},
    value::percent_text,
};
use crate::model::{
    Affinity, Alarm, Arm, Balance, Blacklist, CallerKey, ClaimKind, Cohort, CohortBody, Condition, Empty,
    Encapsulation, Failover, Health, Instance, Lane, MetaKey, Millis, Over, Per, Policy, Probe, Route,
    Selector, Service, Workload, ZoneAffinity,
};

/// Lists longer than this get one line per entry.
const INLINE: usize = 8;

/// The policy as one YAML document: fixed order of keys, everything quoted that could be read as something else.
pub fn to_yaml(policy: &Policy) -> String {
    let mut out = String::new();
    section(&mut out, "services", &policy.services, service);
    if !policy.blacklist.is_empty() {
        let _ = writeln!(out, "blacklist: {{ {} }}", blacklist(&policy.blacklist));
    }
    section(&mut out, "cohorts", &policy.cohorts, cohort);
    section(&mut out, "lanes", &policy.lanes, lane);
    section(&mut out, "workloads", &policy.workloads, workload);
    section(&mut out, "routes", &policy.routes, route);
    out
}

fn section<T>(out: &mut String, name: &str, items: &[T], write: impl Fn(&mut String, &T)) {
    if !items.is_empty() {
        out.push_str(name);
        out.push_str(":\n");
        items.iter().for_each(|item| write(out, item));
    }
}

/// JSON's quoting is YAML's double quoting for every text that `load` lets in (no control characters).
fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A name, quoted only where another reader could take it for a number or a word of YAML.
fn name(text: &str) -> String {
    let word = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"].contains(&text);
    let plain = text.starts_with(|c: char| c.is_ascii_lowercase()) && !word;
    if plain { text.to_owned() } else { quote(text) }
}

fn service(out: &mut String, s: &Service) {
    let listen: Vec<_> = s.listen.iter().map(|l| quote(&l.to_string())).collect();
    let identify: Vec<_> = s.identify.iter().map(|c| c.name()).collect();
    let _ = writeln!(out, "  {}:", name(&s.name));
    let _ = writeln!(out, "    listen: [{}]", listen.join(", "));
    let _ = writeln!(out, "    identify: [{}]", identify.join(", "));
    let claims: Vec<_> = ClaimKind::ALL.into_iter().filter_map(|kind| claim(s, kind)).collect();
    if !claims.is_empty() {
        let _ = writeln!(out, "    claims: {{ {} }}", claims.join(", "));
    }
    if !s.proxies.is_empty() {
        let all: Vec<_> = s.proxies.iter().map(|p| format!("\"{p}\"")).collect();
        let _ = writeln!(out, "    trusted-proxies: [{}]", all.join(", "));
    }
    if s.per != Per::default() {
        let _ = writeln!(out, "    per: {}", s.per.name());
    }
    if s.first_byte != FIRST_BYTE {
        let _ = writeln!(out, "    first-byte: {}", s.first_byte);
    }
    if s.instance_timeout != INSTANCE_TIMEOUT {
        let _ = writeln!(out, "    instance-timeout: {}", s.instance_timeout);
    }
    let _ = writeln!(out, "    on-missing-identity: {}\n    nat: {}", s.on_missing.name(), s.nat.name());
    if let Some(b) = &s.breaker {
        let _ = writeln!(
            out,
            "    breaker: {{ failures: {}, window: {}, open: {}, retransmits: {} }}",
            b.failures, b.window, b.open, b.retransmits
        );
    }
    if let Some(lease) = s.agent_lease {
        let _ = writeln!(out, "    on-agent-lost: stable\n    agent-lease: {lease}");
    }
    if let Some(a) = &s.alarm {
        let _ = writeln!(out, "    missing-alarm: {{ {} }}", alarm(a));
    }
    if s.encapsulation != Encapsulation::default() {
        let _ = writeln!(out, "    encapsulation: {}", s.encapsulation.name());
    }
    if s.balance != Balance::default() {
        let _ = writeln!(out, "    balance: {}", s.balance.name());
    }
    if s.affinity == Affinity::Client {
        out.push_str("    affinity: client\n");
    }
    if s.zone_affinity != ZoneAffinity::default() {
        let _ = writeln!(out, "    zone-affinity: {}", s.zone_affinity.name());
    }
    if let Some(h) = &s.health {
        let _ = writeln!(out, "    health: {{ {} }}", health(h));
    }
    out.push_str("    instances:\n");
    for i in &s.instances {
        let _ = writeln!(out, "      - {{ {} }}", instance(i));
    }
    let _ = writeln!(out, "    stable: {{ {} }}", selector(&s.stable));
    if s.failover != Failover::Stable {
        let _ = writeln!(out, "    failover: {}", failover(&s.failover));
    }
    if !s.failover_by.is_empty() {
        let by = s.failover_by.iter().map(|(key, f)| format!("{}: {}", key.name(), failover(f)));
        let _ = writeln!(out, "    failover-by: {{ {} }}", by.collect::<Vec<_>>().join(", "));
    }
    if !s.blacklist.is_empty() {
        let _ = writeln!(out, "    blacklist: {{ {} }}", blacklist(&s.blacklist));
    }
    if let Some(h) = &s.headers {
        let _ = writeln!(out, "    route-headers: {{ {h} }}");
    }
    if !s.accept.is_empty() {
        out.push_str("    accept:\n");
    }
    for a in &s.accept {
        let _ = writeln!(
            out,
            "      - {{ instances: {{ {} }}, from: {} }}",
            selector(&a.instances),
            condition(&a.from)
        );
    }
    if s.shadow {
        out.push_str("    shadow: true\n");
    }
    if s.measure_full {
        out.push_str("    measure: full\n");
    }
}

fn failover(f: &Failover) -> String {
    match f {
        Failover::To(subset) => format!("{{ {} }}", selector(subset)),
        word => word.to_string(),
    }
}

fn claim(s: &Service, kind: ClaimKind) -> Option<String> {
    let place = s.claims.get(&kind).map(|place| {
        let (key, name) = place.parts();
        format!("{key}: {}", quote(name))
    });
    let tls = s.tls.get(&kind).map(|tls| format!("{}: true", tls.name()));
    let tlv = s.tlvs.get(&kind).map(|tlv| format!("proxy-tlv: {tlv:#x}"));
    let parts: Vec<_> = [place, tls, tlv].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| format!("{}: {{ {} }}", kind.name(), parts.join(", ")))
}

fn alarm(a: &Alarm) -> String {
    let mut out = match a.over {
        Over::Percent(bp) => {
            format!("percent: {}, clear: {}, least: {}", percent_text(bp), percent_text(a.clear), a.least)
        }
        Over::PerSecond(n) => format!("per-second: {n}, clear: {}", a.clear),
    };
    let _ = write!(out, ", window: {}", Millis(a.window_ms));
    if let Some(hook) = &a.webhook {
        let _ = write!(out, ", webhook: {}", quote(&hook.to_string()));
    }
    if let Some(words) = &a.command {
        let words: Vec<_> = words.iter().map(|w| quote(w)).collect();
        let _ = write!(out, ", command: [{}]", words.join(", "));
    }
    out
}

/// Everything, also what is the default: a later version may have others.
fn health(h: &Health) -> String {
    let mut out = match &h.probe {
        Probe::Tcp => "check: tcp".to_owned(),
        Probe::Http { path, status: (first, last), host } => {
            let host = host.as_ref().map_or_else(String::new, |h| format!(", host: {}", quote(h)));
            format!("check: http, path: {}, status: {first}-{last}{host}", quote(path))
        }
        Probe::Command(words) => {
            let words: Vec<_> = words.iter().map(|w| quote(w)).collect();
            format!("check: command, command: [{}]", words.join(", "))
        }
    };
    if let Some(port) = h.port {
        let _ = write!(out, ", port: {port}");
    }
    let (every, within, slow) = (Millis(h.interval_ms), Millis(h.timeout_ms), Millis(h.slow_start_ms));
    let _ = write!(out, ", interval: {every}, timeout: {within}, rise: {}, fall: {}", h.rise, h.fall);
    let d = &h.damping;
    let damping = format!("{{ flips: {}, hold: {}, max: {} }}", d.flips, Millis(d.hold_ms), Millis(d.max_ms));
    let empty = if h.empty == Empty::Keep { "keep" } else { "stable" };
    let _ = write!(out, ", jitter: {}, slow-start: {slow}, damping: {damping}, empty: {empty}", h.jitter);
    out
}

fn instance(i: &Instance) -> String {
    let address = i.address.to_string();
    let mut out = format!("address: {}", quote(&address));
    if i.id != address {
        let _ = write!(out, ", id: {}", quote(&i.id));
    }
    for (key, value) in &i.meta {
        let _ = write!(out, ", {}: {}", key.name(), quote(value));
    }
    if i.weight != limits::INSTANCE_WEIGHT_DEFAULT {
        let _ = write!(out, ", weight: {}", i.weight);
    }
    out
}

fn blacklist(b: &Blacklist) -> String {
    let list = |(key, all): (&str, &BTreeSet<String>)| {
        let all: Vec<_> = all.iter().map(|e| quote(e)).collect();
        format!("{key}: [{}]", all.join(", "))
    };
    let parts = [("ids", &b.ids), ("addresses", &b.addresses)];
    parts.into_iter().filter(|(_, all)| !all.is_empty()).map(list).collect::<Vec<_>>().join(", ")
}

fn selector(s: &Selector) -> String {
    let pair = |(key, any): (&MetaKey, &BTreeSet<String>)| {
        let values: Vec<_> = any.iter().map(|v| quote(v)).collect();
        match values.as_slice() {
            [one] => format!("{}: {one}", key.name()),
            many => format!("{}: [{}]", key.name(), many.join(", ")),
        }
    };
    s.0.iter().map(pair).collect::<Vec<_>>().join(", ")
}

fn cohort(out: &mut String, c: &Cohort) {
    let _ = write!(out, "  {}: ", name(&c.name));
    match &c.body {
        CohortBody::List { of, ids } => {
            let key = of.plural();
            if ids.len() <= INLINE {
                let ids: Vec<_> = ids.iter().map(|id| quote(id)).collect();
                let _ = writeln!(out, "{{ {key}: [{}] }}", ids.join(", "));
            } else {
                let _ = writeln!(out, "\n    {key}:");
                for id in ids {
                    let _ = writeln!(out, "      - {}", quote(id));
                }
            }
        }
        CohortBody::Joined(of) => drop(writeln!(out, "{}", condition(of))),
        CohortBody::Tail { of, digits } => {
            let digits: Vec<_> = digits.iter().map(|d| quote(d)).collect();
            let _ = writeln!(out, "{{ tail: {{ of: {}, digits: [{}] }} }}", of.name(), digits.join(", "));
        }
        CohortBody::Percent { of, basis_points, salt } => {
            let _ = write!(out, "{{ percent: {}", percent_text(u32::from(*basis_points)));
            if let Some(of) = of {
                let _ = write!(out, ", of: {}", of.name());
            }
            let _ = writeln!(out, ", salt: {} }}", quote(salt));
        }
    }
}

fn lane(out: &mut String, l: &Lane) {
    let _ = writeln!(out, "  {}:", name(&l.name));
    for (service, subset) in &l.subsets {
        let _ = writeln!(out, "    {}: {{ {} }}", name(service), selector(subset));
    }
}

fn workload(out: &mut String, w: &Workload) {
    let pairs: Vec<_> = w.meta.iter().map(|(key, v)| format!("{}: {}", key.name(), quote(v))).collect();
    let _ = writeln!(out, "  {}: {{ {} }}", name(&w.name), pairs.join(", "));
}

fn route(out: &mut String, r: &Route) {
    out.push_str("  - { ");
    let made = default_name(r.service.as_deref(), r.when.as_ref(), &r.to);
    if r.name != made {
        let _ = write!(out, "name: {}, ", name(&r.name));
    }
    if let Some(service) = &r.service {
        let _ = write!(out, "service: {}, ", name(service));
    }
    if let Some(when) = &r.when {
        let _ = write!(out, "when: {}, ", condition(when));
    }
    if let Some(lane) = r.to.lane() {
        let _ = writeln!(out, "lane: {} }}", name(lane));
        return;
    }
    match r.to.arms() {
        [one] => {
            let _ = writeln!(out, "to: {{ {} }} }}", selector(&one.subset));
        }
        many => {
            let arm = |a: &Arm| {
                format!("{{ {}, weight: {} }}", selector(&a.subset), percent_text(u32::from(a.basis_points)))
            };
            let arms: Vec<_> = many.iter().map(arm).collect();
            let _ = writeln!(out, "to: [{}] }}", arms.join(", "));
        }
    }
}

fn condition(c: &Condition) -> String {
    let many = |items: &[Condition]| items.iter().map(condition).collect::<Vec<_>>().join(", ");
    match c {
        Condition::Cohort(cohort) => name(cohort),
        Condition::Caller(caller) => {
            let pair = |(key, any): (&CallerKey, &BTreeSet<String>)| {
                let values: Vec<_> = any.iter().map(|v| quote(v)).collect();
                format!("{}: [{}]", key.name(), values.join(", "))
            };
            format!("{{ caller: {{ {} }} }}", caller.0.iter().map(pair).collect::<Vec<_>>().join(", "))
        }
        Condition::Lane(lane) => format!("{{ lane: {} }}", name(lane)),
        Condition::Claim { of, values } => {
            let values: Vec<_> = values.iter().map(|v| quote(v)).collect();
            match values.as_slice() {
                [one] => format!("{{ {}: {one} }}", of.name()),
                many => format!("{{ {}: [{}] }}", of.name(), many.join(", ")),
            }
        }
        Condition::All(items) => format!("{{ all: [{}] }}", many(items)),
        Condition::Any(items) => format!("{{ any: [{}] }}", many(items)),
        Condition::Not(item) => format!("{{ not: {} }}", condition(item)),
    }
}
