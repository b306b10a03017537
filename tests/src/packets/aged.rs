//! Rows about time: what becomes of a flow that was idle for longer than its state may be.

use gray_common::{
    Reason::{Default as Unlisted, Explicit, Rebuilt},
    wire::{FLOW_CLOSING, FLOW_ESTABLISHED, FLOW_FORWARD, FLOW_PASS},
};

use super::{
    case::{Case, Flow},
    frame::{ACK, FIN, Packet, SYN, TCP},
    land::{Land, OWN, SHOP, SHOP_AT},
};

/// Rows of one family and transport. `port`: client ports above it are used.
pub fn rows(l: Land, port: u16) -> Vec<Case> {
    let mut port = port;
    let mut early = || {
        port += 1;
        l.open(l.early(port), l.vip(SHOP))
    };
    let mut out = if l.proto == TCP { tcp(l, &mut early) } else { udp(l, &mut early) };
    for c in &mut out {
        *c = Case { name: format!("{}: {}", l.name(), c.name), ..c.clone() }.aged();
    }
    out
}

fn to_gray(l: Land, p: &Packet) -> Packet {
    p.rewritten(p.src, l.gray(SHOP_AT))
}

fn tcp(l: Land, early: &mut impl FnMut() -> Packet) -> Vec<Case> {
    let mut out = Vec::new();
    let p = early();
    let flow = Flow::Flags(p.clone(), FLOW_FORWARD);
    let row = Case::new("a SYN long after the last one decides again", p.frame());
    out.push(row.after(&[&p]).sent(to_gray(l, &p)).moves(&[Explicit]).flow(flow));
    let p = early();
    let ack = p.clone().flags(ACK);
    let flow = Flow::Flags(p.clone(), FLOW_FORWARD | FLOW_ESTABLISHED);
    let row = Case::new("an established connection may be silent", ack.frame());
    out.push(row.after(&[&p, &ack]).sent(to_gray(l, &ack)).flow(flow));
    let p = early();
    let ack = p.clone().flags(ACK);
    let flow = Flow::Flags(p.clone(), FLOW_FORWARD | FLOW_ESTABLISHED);
    let row = Case::new("a segment long after the end is of another connection", ack.frame());
    let before = [&p, &ack, &p.clone().flags(FIN | ACK)];
    out.push(row.after(&before).sent(to_gray(l, &ack)).moves(&[Rebuilt, Explicit]).flow(flow));
    let p = early();
    let fin = p.answer(l.gray(SHOP_AT), FIN | ACK);
    let answer = p.answer(l.gray(SHOP_AT), ACK);
    let row = Case::new("a reply long after the end is nobody's", answer.frame());
    out.push(row.after(&[&p, &fin]).flow(Flow::None(answer)));
    let p = early();
    let fin = p.answer(l.gray(SHOP_AT), FIN | ACK);
    let flow = Flow::Flags(fin.clone(), FLOW_ESTABLISHED | FLOW_CLOSING);
    let row = Case::new("the client's direction outlives the server's end", p.clone().flags(ACK).frame());
    out.push(row.after(&[&p, &p.clone().flags(ACK), &fin]).sent(to_gray(l, &p.flags(ACK))).flow(flow));
    out
}

fn udp(l: Land, early: &mut impl FnMut() -> Packet) -> Vec<Case> {
    let p = early();
    let flow = Flow::Flags(p.clone(), FLOW_FORWARD);
    let again = Case::new("an idle client is decided again", p.frame());
    let again = again.after(&[&p]).sent(to_gray(l, &p)).moves(&[Explicit]).flow(flow);
    let p = early();
    let answer = p.answer(l.gray(SHOP_AT), SYN);
    let reply = Case::new("a late answer still is one", answer.frame());
    let reply = reply.after(&[&p]).sent(answer.rewritten(l.vip(SHOP), p.src)).flow(Flow::Flags(answer, 0));
    let own = l.open(l.plain(early().src.port()), l.stable(OWN));
    let flow = Flow::Flags(own.clone(), FLOW_FORWARD | FLOW_PASS);
    let stays = Case::new("so is one that stays with stable", own.frame());
    vec![again, reply, stays.after(&[&own]).moves(&[Unlisted]).flow(flow)]
}
