//! Rows about opening packets: a policy of many rules and listed clients, and the decision at its longest.

use std::net::IpAddr;

use gray_userspace::compile::Circumstances;

use super::{
    rows::{Pace, Row},
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

#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub identities: u32,
    pub rules: usize,
}

/// The row's label.
impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IPv4 TCP new flow, {} identities, {} rules", self.identities, self.rules)
    }
}

pub fn sizes(quick: bool) -> Vec<Size> {
    let all = [(1000, 10), (100_000, 10), (1_000_000, 10), (1000, 64), (1_000_000, 64)];
    let sizes = all.map(|(identities, rules)| Size { identities, rules });
    sizes.into_iter().filter(|s| !quick || (s.identities == 1000 && s.rules == 10)).collect()
}

/// The listed clients: addresses of their own, which no packet ever leaves to.
fn clients(l: Land, identities: u32) -> Clients {
    let first: IpAddr = if l.v6 { [0xfd00, 0x18, 0, 0, 0, 0, 0, 0].into() } else { [10, 0, 0, 0].into() };
    Clients { first, hosts: identities }
}

/// As many facts as rules, half of them lists and half percentages; none holds for a client before the last rule, which
/// holds for all that are listed.
fn policy(l: Land, rules: usize) -> String {
    let some = (rules - 2) / 2;
    let (vip, one, two) = (l.vip(SHOP), l.stable(SHOP_AT), l.gray(SHOP_AT));
    let mut out = format!(
        "services:\n  shop:\n    listen: [\"{vip}\"]\n    identify: [source]\n    instances:\n      \
         - {{ address: \"{one}\", version: \"1.0\" }}\n      - {{ address: \"{two}\", version: \"2.0\" }}\n    \
         stable: {{ version: \"1.0\" }}\ncohorts:\n  {LISTED}: {{ sources: [] }}\n  everyone: {{ percent: 100 }}\n"
    );
    for i in 0..some {
        out += &format!("  list{i}: {{ sources: [\"198.18.3.{i}\"] }}\n  share{i}: {{ percent: 0.01 }}\n");
    }
    out += "routes:\n";
    for i in 0..some {
        out += &format!("  - {{ when: list{i}, to: {{ version: \"1.0\" }} }}\n");
        out += &format!("  - {{ when: share{i}, to: {{ version: \"2.0\" }} }}\n");
    }
    for list in ["list0", LISTED] {
        out += &format!("  - {{ when: {{ all: [{list}, everyone] }}, to: {{ version: \"2.0\" }} }}\n");
    }
    out
}

/// Puts the policy in force. Its row sends a round of opening packets, each of another tuple.
pub fn row(rig: &mut Rig, size: Size) -> Row {
    let l = LANDS[0];
    let clients = clients(l, size.identities);
    rig.apply_listed(&policy(l, size.rules), &Circumstances::default(), LISTED, clients.addresses());
    let template = l.open(l.plain(1), l.vip(SHOP)).flags(SYN);
    Row {
        label: size.to_string(),
        pace: Pace::OneACall,
        flows: TUPLES,
        kind: Kind::Fresh(Box::new(Spread::new(template, clients, End::Source))),
        out: Some(Box::new(move |p| p.rewritten(p.src, l.gray(SHOP_AT)))),
    }
}
