//! Rows about `nat: dsr`: packets that go to the instance in other ones, and have no reply direction here.

use gray_common::{
    Reason::{Default as Unlisted, Explicit, TtlExpired},
    wire::{FLOW_CLOSING, FLOW_DSR, FLOW_ESTABLISHED, FLOW_FORWARD, FLOW_GUE},
};

use super::{
    case::{Case, Flow},
    frame::{ACK, FIN, Packet, SYN, TCP},
    land::{DIRECT, DIRECT_GUE, Land},
    model::Tuple,
    rig::KEY,
    wrapped::Outer,
};

/// All rows of one family and transport. `port`: client ports above it are used.
pub fn rows(l: Land, port: u16) -> Vec<Case> {
    let forms = [("ipip", DIRECT, FLOW_DSR), ("gue", DIRECT_GUE, FLOW_DSR | FLOW_GUE)];
    let rows = forms.into_iter().flat_map(|(form, service, flags)| {
        let port = port + 20 * u16::from(flags & FLOW_GUE != 0);
        of(l, port, (service, flags))
            .into_iter()
            .map(move |c| Case { name: format!("{} {form}: {}", l.name(), c.name), ..c })
    });
    rows.collect()
}

fn of(l: Land, port: u16, (service, flags): (u16, u16)) -> Vec<Case> {
    let flags = flags | FLOW_FORWARD;
    let settled = if l.proto == TCP { FLOW_ESTABLISHED } else { 0 };
    let to = |p: &Packet, gray: bool| {
        let at = if gray { l.gray(service) } else { l.stable(service) };
        let t = Tuple { src: p.src, dst: p.dst, proto: p.proto };
        Outer::of(t, KEY.k0, (l.node(0).ip(), at.ip()), flags & FLOW_GUE != 0)
    };
    let hop = |p: &Packet| Packet { ttl: p.ttl - 1, ..p.clone() };
    let mut rows = Vec::new();
    let p = l.open(l.plain(port + 1), l.vip(service));
    let flow = Flow::Flags(p.clone(), flags);
    rows.push(
        Case::new("to stable", p.frame()).wrapped(hop(&p), to(&p, false)).moves(&[Unlisted]).flow(flow),
    );
    let p = l.open(l.early(port + 2), l.vip(service)).tos(0xb9).ttl(3);
    let flow = Flow::Flags(p.clone(), flags);
    let row = Case::new("to gray, with its class and ECN", p.frame());
    rows.push(row.wrapped(hop(&p), to(&p, true)).moves(&[Explicit]).flow(flow));
    let p = l.open(l.early(port + 3), l.vip(service));
    let more = p.clone().flags(ACK);
    let flow = Flow::Flags(p.clone(), flags | settled);
    let row = Case::new("a known flow: no second decision", more.frame()).after(&[&p]);
    rows.push(row.wrapped(hop(&more), to(&p, true)).flow(flow));
    let p = l.open(l.early(port + 4), l.vip(service));
    let mut padded = p.clone().flags(ACK).payload([]);
    padded.trailer = vec![0; 12];
    let row = Case::new("a short frame is padded behind the outer packet", padded.frame()).after(&[&p]);
    rows.push(row.wrapped(hop(&padded), to(&p, true)));
    let p = l.open(l.early(port + 5), l.vip(service));
    let dying = p.clone().flags(ACK).ttl(1);
    rows.push(Case::new("its TTL is used up", dying.frame()).after(&[&p]).moves(&[TtlExpired]));
    // Answers come from the service's address, and are nobody's here.
    let p = l.open(l.early(port + 6), l.vip(service));
    let answer = p.answer(l.vip(service), SYN | ACK);
    rows.push(Case::new("an answer passes", answer.frame()).after(&[&p]).flow(Flow::None(answer)));
    let p = l.open(l.early(port + 7), l.vip(service));
    let stray = p.answer(l.gray(service), SYN | ACK);
    rows.push(Case::new("an answer from the instance's own address passes", stray.frame()).after(&[&p]));
    let p = l.open(l.early(port + 8), l.vip(service));
    let row = Case::new("on the way out of this node it passes", p.frame());
    rows.push(row.after(&[&p]).egress());
    if l.proto == TCP {
        let p = l.open(l.early(port + 9), l.vip(service));
        let last = p.clone().flags(FIN | ACK);
        let flow = Flow::Flags(p.clone(), flags | FLOW_ESTABLISHED | FLOW_CLOSING);
        let row = Case::new("FIN marks the end", last.frame()).after(&[&p]);
        rows.push(row.wrapped(hop(&last), to(&p, true)).flow(flow));
    }
    rows
}
