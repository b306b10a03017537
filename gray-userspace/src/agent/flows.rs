//! `gray flows`: the flow tables as rows. Reads only.

use std::{collections::HashMap, net::SocketAddr};

use gray_common::{
    limits, packet,
    wire::{
        Addr, FLOW_CLOSING, FLOW_DSR, FLOW_ESTABLISHED, FLOW_FORWARD, FLOW_GUE, FLOW_PASS, FLOW_SPLICE,
        FLOW_UNRESOLVED, Flow4, Flow6, FlowKey4, FlowKey6, FlowState,
    },
};

use super::{
    core::Inner,
    names::{Names, arm_name, proto_name, socket_addr},
};
use crate::{
    api::{
        ApiError,
        types::{Flow, FlowQuery, Flows},
    },
    model::Encapsulation,
    sys::netlink,
};

const DEFAULT_LIMIT: usize = 1000;

/// A forward entry, whichever family.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub proto: u8,
    pub client: SocketAddr,
    pub service: SocketAddr,
    pub instance: SocketAddr,
    /// The client as the instance sees it.
    pub seen_as: SocketAddr,
    pub state: FlowState,
}

/// `None`: an entry of the reply direction.
pub(super) fn row4(k: &FlowKey4, f: &Flow4) -> Option<Row> {
    (f.state.flags & FLOW_FORWARD != 0).then(|| Row {
        proto: k.proto as u8,
        client: socket_addr(Addr::v4(k.saddr), k.sport),
        service: socket_addr(Addr::v4(k.daddr), k.dport),
        instance: socket_addr(Addr::v4(f.daddr), f.dport),
        seen_as: seen_as(&f.state, (Addr::v4(f.saddr), f.sport), (Addr::v4(k.saddr), k.sport)),
        state: f.state,
    })
}

pub(super) fn row6(k: &FlowKey6, f: &Flow6) -> Option<Row> {
    (f.state.flags & FLOW_FORWARD != 0).then(|| Row {
        proto: k.proto as u8,
        client: socket_addr(k.saddr, k.sport),
        service: socket_addr(k.daddr, k.dport),
        instance: socket_addr(f.daddr, f.dport),
        seen_as: seen_as(&f.state, (f.saddr, f.sport), (k.saddr, k.sport)),
        state: f.state,
    })
}

/// What is put into another packet keeps its client: the entry's source is the outer one.
fn seen_as(s: &FlowState, new: (Addr, u16), client: (Addr, u16)) -> SocketAddr {
    let (addr, port) = if s.flags & FLOW_DSR != 0 { client } else { new };
    socket_addr(addr, port)
}

impl Row {
    pub(super) fn service_number(&self) -> u32 {
        u32::from(self.state.counter >> 1)
    }

    pub(super) fn arm(&self) -> u32 {
        u32::from(self.state.counter & 1)
    }

    /// What packets to the instance are put into.
    fn encapsulation(&self) -> Option<&'static str> {
        match self.state.flags {
            f if f & FLOW_DSR == 0 => None,
            f if f & FLOW_GUE != 0 => Some(Encapsulation::Gue.name()),
            _ => Some(Encapsulation::Ipip.name()),
        }
    }

    /// `active` for protocols that have no beginning and end.
    fn phase(&self) -> &'static str {
        match self.state.flags {
            _ if self.proto != packet::TCP => "active",
            f if f & FLOW_CLOSING != 0 => "closing",
            f if f & FLOW_ESTABLISHED != 0 => "established",
            _ => "new",
        }
    }

    /// `links`: names by index.
    fn next_hop(&self, links: &HashMap<u32, String>) -> Option<String> {
        let s = &self.state;
        if s.flags & FLOW_PASS != 0 || s.ifindex == 0 {
            return None;
        }
        let iface = links.get(&s.ifindex).cloned().unwrap_or_else(|| format!("#{}", s.ifindex));
        if s.flags & FLOW_UNRESOLVED != 0 {
            return Some(format!("{iface} (unresolved)"));
        }
        let mac: Vec<String> = s.dmac.iter().map(|b| format!("{b:02x}")).collect();
        Some(format!("{iface} {}", mac.join(":")))
    }
}

/// Whether a client's entry is of a connection that goes on, at `now` (ticks); `answered`: its instance has ended or reset its side. Entries
/// stay behind their connections for a while.
pub(super) fn goes_on((proto, s): (u8, &FlowState), answered: bool, now: u32, hz: u32) -> bool {
    // Signed: a CPU may have stamped it since, a moment ago; what is further ahead is old, for the clock has come round.
    let (idle, hz) = (i64::from(now.wrapping_sub(s.seen) as i32), i64::from(hz));
    let limit = match (s.flags & FLOW_CLOSING != 0, answered) {
        _ if proto != packet::TCP => limits::UDP_IDLE_S,
        (true, true) => limits::TCP_ENDING_S,
        // A client that waits for its first answer says nothing, and what it has said another program has.
        (false, _) if s.flags & (FLOW_ESTABLISHED | FLOW_SPLICE) == 0 => limits::TCP_OPENING_S,
        (false, false) => limits::TCP_IDLE_S,
        // Half of it may go on.
        (true, false) | (false, true) => limits::TCP_CLOSING_S,
    };
    (-hz..=i64::from(limit) * hz).contains(&idle)
}

/// The end of an answers' entry that closes: its instance, and the client as the instance sees it. `None`: another entry.
pub(super) fn closes4(k: &FlowKey4, f: &Flow4) -> Option<(SocketAddr, SocketAddr)> {
    let ends = (socket_addr(Addr::v4(k.saddr), k.sport), socket_addr(Addr::v4(k.daddr), k.dport));
    (f.state.flags & (FLOW_FORWARD | FLOW_CLOSING) == FLOW_CLOSING).then_some(ends)
}

pub(super) fn closes6(k: &FlowKey6, f: &Flow6) -> Option<(SocketAddr, SocketAddr)> {
    let ends = (socket_addr(k.saddr, k.sport), socket_addr(k.daddr, k.dport));
    (f.state.flags & (FLOW_FORWARD | FLOW_CLOSING) == FLOW_CLOSING).then_some(ends)
}

/// The filter of a query, with the service as its number.
struct Wanted<'a> {
    query: &'a FlowQuery,
    service: Option<u32>,
}

impl Wanted<'_> {
    fn fits(&self, r: &Row) -> bool {
        self.service.is_none_or(|s| r.service_number() == s)
            && self.query.src.is_none_or(|a| r.client.ip() == a.to_canonical())
            && self.query.arm.is_none_or(|a| arm_name(r.arm()) == a)
    }
}

/// Walks both tables once; keeps the first `limit` matches and counts the others.
pub fn flows(inner: &mut Inner, query: &FlowQuery) -> Result<Flows, ApiError> {
    let service = match &query.service {
        None => None,
        Some(name) => Some(inner.compiled.assigned.services.get(name).ok_or_else(|| {
            ApiError::not_found(format!("there is no service `{name}`"), "`gray get services` shows them")
        })?),
    };
    let wanted = Wanted { query, service };
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    let (mut rows, mut matched) = (Vec::new(), 0u64);
    let mut see = |row: Option<Row>| {
        if let Some(r) = row.filter(|r| wanted.fits(r)) {
            matched += 1;
            if rows.len() < limit {
                rows.push(r);
            }
        }
    };
    inner
        .live
        .flows4(|k, f| see(row4(&k, &f)))
        .and_then(|()| inner.live.flows6(|k, f| see(row6(&k, &f))))
        .map_err(|e| ApiError::internal(&e))?;
    // Read after the walk: no packet that the walk saw is later than this.
    let now = inner.live.clock().map_err(|e| ApiError::internal(&e))?.jiffies as u32;
    let hz = inner.live.control().hz.max(1);
    let links = links();
    let names = Names::new(&inner.policy, &inner.compiled.assigned);
    rows.sort_by_key(|r| (r.service, r.client, r.proto));
    Ok(Flows { flows: rows.iter().map(|r| show(r, &names, &links, now, hz)).collect(), matched })
}

/// One entry as a row.
pub(super) fn one(inner: &mut Inner, row: &Row, names: &Names) -> Result<Flow, ApiError> {
    let now = inner.live.clock().map_err(|e| ApiError::internal(&e))?.jiffies as u32;
    Ok(show(row, names, &links(), now, inner.live.control().hz.max(1)))
}

/// Without names the indexes still tell interfaces apart.
fn links() -> HashMap<u32, String> {
    netlink::links().unwrap_or_default().into_iter().map(|l| (l.ifindex, l.name)).collect()
}

fn show(r: &Row, names: &Names, links: &HashMap<u32, String>, now: u32, hz: u32) -> Flow {
    let instance_addr = r.instance.to_string();
    Flow {
        proto: proto_name(r.proto),
        service: names.service(r.service_number()).into_owned(),
        client: r.client.to_string(),
        seen_as: (r.seen_as != r.client).then(|| r.seen_as.to_string()),
        service_addr: r.service.to_string(),
        instance: names
            .instance(r.service_number(), r.instance)
            .map_or_else(|| instance_addr.clone(), Into::into),
        instance_addr,
        encapsulation: r.encapsulation().map(Into::into),
        arm: arm_name(r.arm()),
        rule: names.route(u32::from(r.state.rule)),
        state: r.phase().into(),
        idle_s: u64::from(now.wrapping_sub(r.state.seen) / hz),
        next_hop: r.next_hop(links),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{agent::testing, api::types::ArmName};

    const DOCUMENT: &str = "services:
  shop: { listen: ['198.18.1.100:80'], instances: [{ address: '198.18.2.3:8080', version: '2.0', id: two }], stable: { version: '2.0' } }
cohorts:
  early: { sources: ['198.18.1.3'] }
routes:
  - { name: first, service: shop, when: early, to: { version: '2.0' } }
";

    fn entry(flags: u16, counter: u16, rule: u16) -> (FlowKey4, Flow4) {
        let ip = |d: [u8; 4]| u32::from_ne_bytes(d);
        let key = FlowKey4 {
            saddr: ip([198, 18, 1, 3]),
            daddr: ip([198, 18, 1, 100]),
            sport: 40_000u16.to_be(),
            dport: 80u16.to_be(),
            proto: 6,
        };
        let state = FlowState {
            flags,
            counter,
            rule,
            ifindex: 7,
            dmac: [2, 0, 0, 0, 0, 1],
            seen: u32::MAX - 499,
            ..FlowState::default()
        };
        let f = Flow4 {
            saddr: key.saddr,
            daddr: ip([198, 18, 2, 3]),
            sport: key.sport,
            dport: 8080u16.to_be(),
            state,
        };
        (key, f)
    }

    #[test]
    fn a_connection_goes_on_until_its_end_or_its_silence() {
        let state = |flags, seen| FlowState { flags, seen, ..FlowState::default() };
        let after = |proto, flags, answered, seconds: u32| {
            goes_on((proto, &state(flags, 7u32.wrapping_sub(seconds * 250))), answered, 7, 250)
        };
        for (proto, flags, answered, seconds) in [
            (packet::TCP, FLOW_ESTABLISHED, false, 7440),
            (packet::TCP, FLOW_SPLICE, false, 7440),
            (packet::TCP, 0, false, 2),
            (packet::TCP, 0, true, 2),
            (packet::TCP, FLOW_ESTABLISHED, true, 60),
            (packet::TCP, FLOW_ESTABLISHED | FLOW_CLOSING, false, 60),
            (packet::TCP, FLOW_ESTABLISHED | FLOW_CLOSING, true, 1),
            (packet::UDP, 0, false, 60),
        ] {
            let (now, later) =
                (after(proto, flags, answered, seconds), after(proto, flags, answered, seconds + 1));
            assert!(now && !later, "{proto} {flags} {answered}");
        }
        assert!(goes_on((packet::UDP, &state(0, 9)), false, 7, 250), "stamped after the clock was read");
        assert!(!goes_on((packet::UDP, &state(0, 7 + 251)), false, 7, 250), "the clock has come round");
    }

    #[test]
    fn a_forward_entry_becomes_a_row_and_a_reply_entry_does_not() {
        let (policy, compiled) = testing::compiled(DOCUMENT);
        let names = Names::new(&policy, &compiled.assigned);
        let service = compiled.assigned.services.get("shop").unwrap() as u16;
        let rule = compiled.assigned.rules.get("first").unwrap() as u16;
        let (k, f) = entry(FLOW_FORWARD | FLOW_ESTABLISHED, service * 2 + 1, rule);
        let row = row4(&k, &f).unwrap();
        let links = HashMap::from([(7, "eth1".to_string())]);
        // The tick counter wrapped meanwhile: 500 ticks before 0, now 500.
        let shown = show(&row, &names, &links, 500, 100);
        assert_eq!(
            shown,
            Flow {
                proto: "tcp".into(),
                service: "shop".into(),
                client: "198.18.1.3:40000".into(),
                seen_as: None,
                service_addr: "198.18.1.100:80".into(),
                instance: "two".into(),
                instance_addr: "198.18.2.3:8080".into(),
                encapsulation: None,
                arm: ArmName::Gray,
                rule: Some("first".into()),
                state: "established".into(),
                idle_s: 10,
                next_hop: Some("eth1 02:00:00:00:00:01".into()),
            }
        );
        let (k, f) = entry(FLOW_ESTABLISHED, 1, 0);
        assert!(row4(&k, &f).is_none());
    }

    /// What is put into another packet keeps its client, and the entry's addresses are of the outer header.
    #[test]
    fn a_flow_in_other_packets_says_so() {
        let (policy, compiled) = testing::compiled(DOCUMENT);
        let names = Names::new(&policy, &compiled.assigned);
        for (flags, says) in [(FLOW_DSR, "ipip"), (FLOW_DSR | FLOW_GUE, "gue")] {
            let (k, mut f) = entry(FLOW_FORWARD | flags, 1, 0);
            (f.saddr, f.dport) = (u32::from_ne_bytes([198, 18, 2, 99]), k.dport);
            let shown = show(&row4(&k, &f).unwrap(), &names, &HashMap::new(), 0, 100);
            assert_eq!((shown.encapsulation.as_deref(), shown.seen_as), (Some(says), None));
            assert_eq!(shown.instance_addr, "198.18.2.3:80");
        }
    }

    #[test]
    fn filters_are_joined_by_and() {
        let (k, f) = entry(FLOW_FORWARD, 5 * 2 + 1, 0);
        let row = row4(&k, &f).unwrap();
        let fits = |src: &str, arm, service| {
            let query = FlowQuery { src: Some(src.parse().unwrap()), arm: Some(arm), ..FlowQuery::default() };
            Wanted { query: &query, service: Some(service) }.fits(&row)
        };
        assert!(fits("198.18.1.3", ArmName::Gray, 5) && fits("::ffff:198.18.1.3", ArmName::Gray, 5));
        assert!(!fits("198.18.1.4", ArmName::Gray, 5));
        assert!(!fits("198.18.1.3", ArmName::Stable, 5));
        assert!(!fits("198.18.1.3", ArmName::Gray, 4));
    }

    #[test]
    fn a_next_hop_is_told_as_far_as_it_is_known() {
        let hop = |flags: u16, ifindex| {
            let (k, mut f) = entry(FLOW_FORWARD | flags, 0, 0);
            f.state.ifindex = ifindex;
            row4(&k, &f).unwrap().next_hop(&HashMap::new())
        };
        assert_eq!(hop(0, 7).as_deref(), Some("#7 02:00:00:00:00:01"));
        assert_eq!(hop(FLOW_UNRESOLVED, 7).as_deref(), Some("#7 (unresolved)"));
        assert_eq!((hop(FLOW_PASS, 7), hop(0, 0)), (None, None));
    }
}
