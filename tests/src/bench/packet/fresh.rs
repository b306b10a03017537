//! Rows about opening packets: what a decision costs by the size of what it is looked up in.

use std::fmt;
use std::net::IpAddr;

use gray_common::{hash::mix, limits::FACTS_PER_SERVICE};
use gray_userspace::compile::Circumstances;

use super::{
    rows::{self, Pace, Row},
    spread::{Clients, End, Spread},
    traffic::Kind,
};
use crate::packets::{
    frame::SYN,
    land::{LANDS, Land, SHOP, SHOP_AT},
    rig::Rig,
};

/// Opening packets differ by so many tuples.
const TUPLES: u32 = 1 << 25;
/// The list that every client is on.
const LISTED: &str = "listed";
/// A list whose rule asks for more than any client is.
const SPREAD: &str = "spread";
/// As many as a service may have.
pub const MOST_RULES: usize = gray_common::limits::RULES_PER_SERVICE as usize;
/// Rules where they are not what grows.
const RULES: usize = 10;

/// What grows from row to row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// On the list, one by one.
    Identities {
        identities: u32,
        rules: usize,
    },
    /// Prefixes of all lengths from 17 on inside the one that has all clients.
    Prefixes(u32),
    Services(u32),
}

/// The row's label.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IPv4 TCP new flow, ")?;
        match self {
            Self::Identities { identities, rules } => write!(f, "{identities} identities, {rules} rules"),
            Self::Prefixes(n) => write!(f, "{n} prefixes"),
            Self::Services(n) => write!(f, "{n} services"),
        }
    }
}

pub fn sizes(quick: bool) -> Vec<Size> {
    if quick {
        let rules = |rules| Size::Identities { identities: 1000, rules };
        return vec![rules(1), rules(RULES), rules(MOST_RULES), Size::Prefixes(1000)];
    }
    let identities = [
        (10, RULES),
        (1000, RULES),
        (100_000, RULES),
        (1_000_000, RULES),
        (1000, 1),
        (1000, 2),
        (1000, MOST_RULES),
        (1_000_000, MOST_RULES),
    ];
    let identities = identities.map(|(identities, rules)| Size::Identities { identities, rules });
    let prefixes = [10, 1000, 100_000, 1_000_000].map(Size::Prefixes);
    identities.into_iter().chain(prefixes).chain([10, 100, 1000].map(Size::Services)).collect()
}

/// The listed clients: addresses of their own, which no packet ever leaves to.
fn clients(hosts: u32) -> Clients {
    Clients { first: [10, 0, 0, 0].into(), hosts }
}

/// As many facts as rules, or as a service may have, half of them lists and half percentages; none holds for a client before the last rule, which
/// holds for all that are listed.
fn policy(l: Land, rules: usize, services: u32, listed: &str) -> String {
    let left = rules.saturating_sub(2);
    // Beside the four that the last two rules ask for.
    let some = (left / 2).min((FACTS_PER_SERVICE as usize - 4) / 2);
    let (vip, one, two) = (l.vip(SHOP), l.stable(SHOP_AT), l.gray(SHOP_AT));
    let service = |name: &str, listen: String| {
        format!(
            "  {name}:\n    listen: [\"{listen}\"]\n    identify: [source]\n    instances:\n      - {{ address: \"{one}\", \
             version: \"1.0\" }}\n      - {{ address: \"{two}\", version: \"2.0\" }}\n    stable: {{ version: \"1.0\" }}\n"
        )
    };
    let mut out = format!("services:\n{}", service("shop", vip.to_string()));
    out.extend((1..services).map(|i| service(&format!("s{i}"), format!("{}:{}", vip.ip(), 10_000 + i))));
    out += &format!(
        "cohorts:\n  {LISTED}: {{ sources: [{listed}] }}\n  {SPREAD}: {{ sources: [] }}\n  nobody: {{ sources: [\"198.18.4.1\"] }}\n  \
         everyone: {{ percent: 100 }}\n"
    );
    for i in 0..some {
        out += &format!("  list{i}: {{ sources: [\"198.18.3.{i}\"] }}\n  share{i}: {{ percent: 0.01 }}\n");
    }
    out += "routes:\n";
    let mut route = |when: String, version: &str| {
        out += &format!("  - {{ service: shop, when: {when}, to: {{ version: \"{version}\" }} }}\n");
    };
    for i in 0..some {
        route(format!("list{i}"), "1.0");
        route(format!("share{i}"), "2.0");
    }
    for i in 0..left - 2 * some {
        route(format!("{{ all: [list{i}, share{i}] }}"), "2.0");
    }
    if rules > 1 {
        route(format!("{{ all: [{SPREAD}, nobody] }}"), "1.0");
    }
    route(format!("{{ all: [{LISTED}, everyone] }}"), "2.0");
    out
}

/// Prefixes inside 10.0.0.0/8, of 17 to 32 bits.
fn prefixes(n: u32) -> impl Iterator<Item = String> {
    (0..n).map(|i| {
        let r = mix(u64::from(i) ^ 0x6769_7270);
        let bits = 17 + (r >> 32) as u32 % 16;
        let addr = (10 << 24 | r as u32 & 0x00ff_ffff) & u32::MAX << (32 - bits);
        format!("{}/{bits}", std::net::Ipv4Addr::from(addr))
    })
}

/// Puts the policy in force. Its row sends a round of opening packets, each of another tuple.
pub fn row(rig: &mut Rig, size: Size) -> Row {
    let l = LANDS[0];
    let nobody = Circumstances::default();
    let clients = match size {
        Size::Identities { identities, rules } => {
            let clients = clients(identities);
            let all = clients.addresses().map(|ip: IpAddr| ip.to_string());
            rig.apply_listed(&policy(l, rules, 1, ""), &nobody, LISTED, all);
            clients
        }
        Size::Prefixes(n) => {
            rig.apply_listed(&policy(l, RULES, 1, "\"10.0.0.0/8\""), &nobody, SPREAD, prefixes(n));
            clients(1 << 24)
        }
        Size::Services(n) => {
            let clients = clients(1000);
            let all = clients.addresses().map(|ip: IpAddr| ip.to_string());
            rig.apply_listed(&policy(l, RULES, n, ""), &nobody, LISTED, all);
            clients
        }
    };
    let template = l.open(l.plain(1), l.vip(SHOP)).flags(SYN);
    Row {
        label: size.to_string(),
        pace: Pace::OneACall,
        flows: TUPLES,
        kind: Kind::Fresh(Box::new(Spread::new(template, clients, End::Source))),
        out: Some(Box::new(move |p| p.rewritten(p.src, l.gray(SHOP_AT)))),
    }
}

/// An established flow beside a million identities and a hundred thousand prefixes.
pub fn beside(rig: &mut Rig) -> Row {
    let l = LANDS[0];
    let listed = "\"10.0.0.0/8\"";
    let all = clients(1_000_000).addresses().map(|ip: IpAddr| ip.to_string());
    rig.apply_listed(
        &policy(l, 64, 1, listed),
        &Circumstances::default(),
        SPREAD,
        all.chain(prefixes(100_000)),
    );
    let mut row = rows::established();
    row.label += ", beside 1000000 identities and 100000 prefixes";
    row
}

#[cfg(test)]
mod tests {
    use gray_userspace::{
        compile,
        config::{self, Source},
    };

    use super::*;

    #[test]
    fn every_size_has_as_many_rules_as_it_says_and_compiles() {
        for size in sizes(false) {
            let rules = if let Size::Identities { rules, .. } = size { rules } else { RULES };
            let text = policy(LANDS[0], rules, 1, "");
            let policy =
                config::load(&[Source::new("test", &text)]).unwrap_or_else(|e| panic!("{e}\n{text}")).policy;
            assert_eq!(policy.routes.len(), rules, "{size}");
            let compiled =
                compile::compile(&policy, &compile::Assigned::default(), &Circumstances::default());
            assert!(compiled.is_ok(), "{size}: {:?}", compiled.err());
        }
    }
}
