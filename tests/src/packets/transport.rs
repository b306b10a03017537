//! Rows about TCP and UDP of both families: what is steered, what stays, and what becomes of the flow.

use std::net::SocketAddr;

use gray_common::{
    Reason::{
        self, Adopted, Condition, Default as Unlisted, Explicit, Failover, NoInstance, PortChanged, Rebuilt,
        TtlExpired, TupleClash, Weight,
    },
    decide::bucket::flow_seed,
    limits::PORT_TRIES,
    packet::{other_client_port, snat_port},
    wire::{Addr, FLOW_CLOSING, FLOW_ESTABLISHED, FLOW_FORWARD, FLOW_PASS, FLOW_UNRESOLVED},
};

use super::{
    case::{Case, Flow},
    frame::{ACK, FIN, Packet, RST, SYN, TCP, UDP},
    land::*,
    rig::KEY,
};

/// Client ports, one per row: rows share a flow table and must not meet.
struct Rows {
    land: Land,
    port: u16,
    rows: Vec<Case>,
}

impl Rows {
    fn port(&mut self) -> u16 {
        self.port += 1;
        self.port
    }

    fn add(&mut self, case: Case) {
        let name = format!("{}: {}", self.land.name(), case.name);
        self.rows.push(Case { name, ..case });
    }

    /// An opening packet of a listed client to `shop`.
    fn early(&mut self) -> Packet {
        let port = self.port();
        self.land.open(self.land.early(port), self.land.vip(SHOP))
    }

    fn plain_to(&mut self, service: u16) -> Packet {
        let port = self.port();
        self.land.open(self.land.plain(port), self.land.vip(service))
    }

    /// Rewritten on the way to 2.0 of `shop`.
    fn to_gray(&self, p: &Packet) -> Packet {
        p.rewritten(p.src, self.land.gray(SHOP_AT))
    }

    fn steered(&mut self, name: &str, p: &Packet, to: SocketAddr, why: &[Reason]) {
        let flow = Flow::Flags(p.clone(), FLOW_FORWARD | established(p));
        self.add(Case::new(name, p.frame()).sent(p.rewritten(p.src, to)).moves(why).flow(flow));
    }
}

fn established(p: &Packet) -> u16 {
    if p.proto == TCP && p.tcp_flags & (SYN | ACK) != SYN { FLOW_ESTABLISHED } else { 0 }
}

/// All rows of one family and transport. `port`: client ports above it are used.
pub fn rows(land: Land, port: u16) -> Vec<Case> {
    let mut t = Rows { land, port, rows: Vec::new() };
    first_packets(&mut t);
    stays(&mut t);
    replies(&mut t);
    claims(&mut t);
    edges(&mut t);
    ports(&mut t);
    leaves_alone(&mut t);
    if land.proto == TCP {
        own_answers(&mut t);
        mid_stream(&mut t);
        lives(&mut t);
    }
    t.rows
}

fn first_packets(t: &mut Rows) {
    let l = t.land;
    let p = t.early();
    t.steered("a listed source goes to gray", &p, l.gray(SHOP_AT), &[Explicit]);
    let p = t.plain_to(SHOP);
    t.steered("an unlisted source goes to stable", &p, l.stable(SHOP_AT), &[Unlisted]);
    let port = t.port();
    let p = l.open(l.office(port), l.vip(SHOP));
    t.steered("a source in a listed prefix goes to gray", &p, l.gray(SHOP_AT), &[Explicit]);
    let p = t.plain_to(COND);
    t.steered("a percentage of 100 takes everybody", &p, l.gray(COND_AT), &[Condition]);
    let p = t.plain_to(WEIGH);
    t.steered("a weighted route counts as one", &p, l.gray(WEIGH_AT), &[Weight]);
    let port = t.port();
    let p = l.open(l.early(port), l.vip(HALF));
    t.steered("a drained gray subset falls to stable", &p, l.stable(HALF_AT), &[Failover]);
    let port = t.port();
    let p = l.open(l.early(port), l.vip(SAME));
    t.steered("service and instance on the same port", &p, l.gray(SAME), &[Explicit]);
    let p = t.plain_to(NONE);
    t.add(Case::new("nobody left to serve", p.frame()).moves(&[NoInstance]).flow(Flow::None(p)));
}

/// `listen` on stable's own address: stable is no rewrite at all.
fn stays(t: &mut Rows) {
    let l = t.land;
    let port = t.port();
    let p = l.open(l.plain(port), l.stable(OWN));
    let flow = Flow::Flags(p.clone(), FLOW_FORWARD | FLOW_PASS);
    t.add(Case::new("stable on its own address: unchanged", p.frame()).moves(&[Unlisted]).flow(flow));
    let next = p.clone().flags(ACK);
    let flow = Flow::Flags(p.clone(), FLOW_FORWARD | FLOW_PASS | established(&next));
    t.add(Case::new("the next packet of that flow: unchanged, no decision", next.frame()).flow(flow));
    let answer = p.answer(l.stable(OWN), SYN | ACK);
    let flow = match l.proto {
        TCP => Flow::Flags(answer.clone(), FLOW_PASS | FLOW_ESTABLISHED),
        _ => Flow::None(answer.clone()),
    };
    t.add(Case::new("stable's answer: unchanged, of TCP a known flow's", answer.frame()).flow(flow));
    let port = t.port();
    let p = l.open(l.early(port), l.stable(OWN));
    t.steered("stable's own address, a listed source", &p, l.gray(OWN), &[Explicit]);
    let answer = p.answer(l.gray(OWN), SYN | ACK);
    let back = answer.rewritten(l.stable(OWN), p.src);
    t.add(Case::new("its reply comes from stable's address", answer.frame()).sent(back));
}

fn replies(t: &mut Rows) {
    let l = t.land;
    let p = t.early();
    let answer = p.answer(l.gray(SHOP_AT), SYN | ACK);
    let back = answer.rewritten(l.vip(SHOP), p.src);
    let flow = Flow::Flags(answer.clone(), established(&answer));
    t.add(
        Case::new("a reply gets the service address back", answer.frame()).after(&[&p]).sent(back).flow(flow),
    );
    let p = t.early();
    let answer = p.answer(l.gray(SHOP_AT), SYN | ACK);
    // The stack forwards or sends it: the TTL is the stack's business there.
    let back = Packet { src: l.vip(SHOP), ..answer.clone() };
    t.add(Case::new("a reply on egress keeps its TTL", answer.frame()).after(&[&p]).egress().passed(back));
    let p = t.early();
    let answer = p.answer(l.gray(SHOP_AT), SYN | ACK);
    let flow = Flow::None(answer.clone());
    t.add(Case::new("a reply that no flow knows", answer.frame()).flow(flow));
    let p = t.early();
    let other = p.answer(l.stable(SHOP_AT), ACK);
    t.add(Case::new("a reply of the other instance is not the flow's", other.frame()).after(&[&p]));
    let p = t.early();
    t.add(Case::new("egress decides nothing", p.frame()).egress().flow(Flow::None(p)));
}

/// A11: marks and DSCP.
fn claims(t: &mut Rows) {
    let l = t.land;
    let p = t.plain_to(SAME);
    let out = p.rewritten(p.src, l.gray(SAME));
    t.add(Case::new("a listed mark", p.frame()).mark(7).sent(out).moves(&[Explicit]));
    let p = t.plain_to(SAME);
    let out = p.rewritten(p.src, l.stable(SAME));
    t.add(Case::new("another mark", p.frame()).mark(8).sent(out).moves(&[Unlisted]));
    let p = t.plain_to(SHOP).tos(46 << 2);
    t.steered("a listed DSCP", &p, l.gray(SHOP_AT), &[Explicit]);
    let p = t.plain_to(SHOP).tos(46 << 2 | 3);
    t.steered("a listed DSCP, ECN bits set", &p, l.gray(SHOP_AT), &[Explicit]);
    let p = t.plain_to(SHOP).tos(45 << 2 | 3);
    t.steered("another DSCP", &p, l.stable(SHOP_AT), &[Unlisted]);
}

fn edges(t: &mut Rows) {
    let l = t.land;
    for ttl in [0, 1] {
        let p = t.early().ttl(ttl);
        let flow = Flow::Flags(p.clone(), FLOW_FORWARD | FLOW_UNRESOLVED);
        t.add(Case::new(format!("TTL {ttl}"), p.frame()).moves(&[Explicit, TtlExpired]).flow(flow));
    }
    let p = t.early().ttl(2);
    t.steered("TTL 2 leaves as 1", &p, l.gray(SHOP_AT), &[Explicit]);
    let p = t.early().payload([]);
    t.steered("no payload", &p, l.gray(SHOP_AT), &[Explicit]);
    let p = t.early().payload([0xff]);
    t.steered("an odd length", &p, l.gray(SHOP_AT), &[Explicit]);
    let p = Packet { frag: 0, ..t.early() };
    t.steered("don't fragment not set", &p, l.gray(SHOP_AT), &[Explicit]);
    let p = Packet { no_check: true, ..t.early() };
    if l.proto == UDP {
        // Over IPv6 a checksum of 0 is allowed to tunnels only (RFC 6935); it is not ours to judge.
        t.steered("UDP checksum 0 stays 0", &p, l.gray(SHOP_AT), &[Explicit]);
    } else {
        let p = Packet { tcp_options: vec![2, 4, 5, 0xb4, 3, 0, 1, 1], ..p };
        t.steered("a TCP option of length 0 is the receiver's business", &p, l.gray(SHOP_AT), &[Explicit]);
    }
}

/// What the instance takes for the client: the n-th port that is tried.
fn another(p: &Packet, n: u32) -> SocketAddr {
    SocketAddr::new(p.src.ip(), u16::from_be(other_client_port(seed(p), n)))
}

/// Connections of other clients that the node stands in for, each with one of the first `n` ports that `p` would get.
fn others_behind(l: Land, p: &Packet, n: u32) -> Vec<Packet> {
    let mut wanted: Vec<u16> = (0..n).map(|i| snat_port(seed(p), i)).collect();
    let mut out = Vec::new();
    // Each port is the first one of some four of them.
    let clients = (1024..u16::MAX).flat_map(|port| [l.stranger(port), l.plain(port)]);
    for from in clients.filter(|from| *from != p.src) {
        let other = l.open(from, l.vip(BEHIND));
        let first = snat_port(seed(&other), 0);
        if let Some(at) = wanted.iter().position(|w| *w == first) {
            let _ = wanted.swap_remove(at);
            out.push(other);
        }
    }
    assert!(wanted.is_empty(), "nobody has {wanted:?} first");
    out
}

fn seed(p: &Packet) -> u64 {
    let (src, dst) = (Addr::from(p.src.ip()), Addr::from(p.dst.ip()));
    flow_seed(KEY.k0, &src, &dst, p.src.port().to_be(), p.dst.port().to_be(), p.proto)
}

/// Connections that would look the same to the instance: it sees each from a port of its own.
fn ports(t: &mut Rows) {
    let l = t.land;
    let too = |p: &Packet| Packet { dst: l.vip(SHOP_TOO), ..p.clone() };
    let p = t.early();
    let second = too(&p);
    let out = second.rewritten(another(&second, 0), l.gray(SHOP_AT));
    let flow = Flow::Flags(second.clone(), FLOW_FORWARD | established(&second));
    let row = Case::new("the same client port over two listeners", second.frame());
    t.add(row.after(&[&p]).sent(out.clone()).moves(&[Explicit, PortChanged]).flow(flow));
    let answer = out.answer(l.gray(SHOP_AT), SYN | ACK).ttl(64);
    let back = answer.rewritten(second.dst, second.src);
    t.add(Case::new("the answer to the port that the instance saw", answer.frame()).sent(back));
    let answer = p.answer(l.gray(SHOP_AT), SYN | ACK);
    let back = answer.rewritten(p.dst, p.src);
    t.add(Case::new("the answer to the client's own port", answer.frame()).sent(back));
    // Of those that are tried all but the last are taken.
    const LAST: u32 = PORT_TRIES - 1;
    let p = t.early();
    let second = too(&p);
    let mut before = vec![p.clone()];
    before.extend((0..LAST).map(|n| l.open(another(&second, n), l.vip(SHOP))));
    let out = second.rewritten(another(&second, LAST), l.gray(SHOP_AT));
    let row = Case::new("a port that nobody has", second.frame());
    t.add(row.after(&before.iter().collect::<Vec<_>>()).sent(out).moves(&[Explicit, PortChanged]));
    let p = t.early();
    let second = too(&p);
    let mut before = vec![p.clone()];
    before.extend((0..PORT_TRIES).map(|n| l.open(another(&second, n), l.vip(SHOP))));
    let row = Case::new("no port left: alone", second.frame()).flow(Flow::None(second));
    t.add(row.after(&before.iter().collect::<Vec<_>>()).moves(&[Explicit, TupleClash]));
    // The node stands in for the client.
    let p = t.plain_to(BEHIND);
    let behind = |p: &Packet, n| SocketAddr::new(l.node(0).ip(), u16::from_be(snat_port(seed(p), n)));
    let out = p.rewritten(behind(&p, 0), l.stable(BEHIND_AT));
    let flow = Flow::Flags(p.clone(), FLOW_FORWARD | established(&p));
    t.add(Case::new("snat: from the node", p.frame()).sent(out.clone()).moves(&[Unlisted]).flow(flow));
    let answer = out.answer(l.stable(BEHIND_AT), SYN | ACK).ttl(64);
    let back = answer.rewritten(l.vip(BEHIND), p.src);
    t.add(Case::new("snat: to the node, and on to the client", answer.frame()).sent(back));
    // The ports that are tried are others' first ones, and those live: alone, and counted. With all but the last taken that one is its.
    for (taken, out) in [(PORT_TRIES, None), (LAST, Some(LAST))] {
        let p = t.plain_to(BEHIND);
        let before = others_behind(l, &p, taken);
        let before: Vec<&Packet> = before.iter().collect();
        let row = Case::new(format!("snat: {taken} ports taken"), p.frame()).after(&before);
        t.add(match out {
            None => row.moves(&[Unlisted, TupleClash]).flow(Flow::None(p)),
            Some(n) => row.sent(p.rewritten(behind(&p, n), l.stable(BEHIND_AT))).moves(&[Unlisted]),
        });
    }
    // Hairpin: a host drops packets from its own address.
    let port = t.port();
    let p = l.open(l.stable(port), l.vip(SHOP));
    let out = p.rewritten(l.vip(port), l.stable(SHOP_AT));
    t.add(Case::new("an instance that gets itself", p.frame()).sent(out.clone()).moves(&[Unlisted]));
    let answer = out.answer(l.stable(SHOP_AT), SYN | ACK).ttl(64);
    let back = answer.rewritten(l.vip(SHOP), p.src);
    t.add(Case::new("and answers itself", answer.frame()).sent(back));
}

/// Who answers on stable's own address has an entry, and another connection's stays its own.
fn own_answers(t: &mut Rows) {
    let l = t.land;
    let port = t.port();
    let own = l.open(l.plain(port), l.stable(OWN));
    let refusal = own.answer(l.stable(OWN), RST | ACK);
    let flow = Flow::Flags(refusal.clone(), FLOW_PASS | FLOW_CLOSING | FLOW_ESTABLISHED);
    t.add(Case::new("stable's refusal: unchanged", refusal.frame()).after(&[&own]).flow(flow));
    let port = t.port();
    let [own, too] = [l.open(l.plain(port), l.stable(OWN)), l.open(l.plain(port), l.vip(OWN))];
    let answer = too.answer(l.stable(OWN), SYN | ACK);
    let back = answer.rewritten(l.vip(OWN), too.src);
    let flow = Flow::Flags(answer.clone(), FLOW_ESTABLISHED);
    let row = Case::new("what stays leaves another connection its answers", answer.frame());
    t.add(row.after(&[&too, &own]).sent(back).flow(flow));
    let port = t.port();
    let [own, too] = [l.open(l.plain(port), l.stable(OWN)), l.open(l.plain(port), l.vip(OWN))];
    let out = too.rewritten(another(&too, 0), l.stable(OWN));
    let row = Case::new("another connection leaves what stays its port", too.frame());
    t.add(row.after(&[&own]).sent(out).moves(&[Unlisted, PortChanged]));
}

fn leaves_alone(t: &mut Rows) {
    let l = t.land;
    for (name, to) in [
        ("another host", l.stranger(SHOP)),
        ("another port of the service address", l.vip(7)),
        ("an instance dialled directly", l.gray(SHOP_AT)),
    ] {
        let port = t.port();
        let p = l.open(l.early(port), to);
        t.add(Case::new(name, p.frame()).flow(Flow::None(p)));
    }
}

fn mid_stream(t: &mut Rows) {
    let l = t.land;
    let p = t.early().flags(ACK);
    t.steered("in mid-stream without a flow: rebuilt", &p, l.gray(SHOP_AT), &[Rebuilt, Explicit]);
    let p = t.early().flags(SYN | ACK);
    t.steered("SYN-ACK to a service opens nothing: rebuilt", &p, l.gray(SHOP_AT), &[Rebuilt, Explicit]);
    let port = t.port();
    let p = l.open(l.early(port), l.stable(OLD)).flags(ACK);
    let flow = Flow::Flags(p.clone(), FLOW_FORWARD | FLOW_PASS | FLOW_ESTABLISHED);
    t.add(Case::new("older than gray: adopted as stable's", p.frame()).moves(&[Adopted]).flow(flow));
    let port = t.port();
    let p = l.open(l.early(port), l.stable(OLD));
    t.steered("a new connection while others are adopted", &p, l.gray(OLD), &[Explicit]);
    let port = t.port();
    let p = l.open(l.early(port), l.stable(LATE)).flags(ACK);
    t.steered("after the time to adopt: rebuilt", &p, l.gray(LATE), &[Rebuilt, Explicit]);
}

fn lives(t: &mut Rows) {
    let l = t.land;
    let p = t.early();
    let out = t.to_gray(&p);
    let flow = Flow::Flags(p.clone(), FLOW_FORWARD);
    t.add(Case::new("a SYN sent again: no second decision", p.frame()).after(&[&p]).sent(out).flow(flow));
    let p = t.early();
    let ack = p.clone().flags(ACK);
    let flow = Flow::Flags(p.clone(), FLOW_FORWARD | FLOW_ESTABLISHED);
    let out = t.to_gray(&ack);
    t.add(Case::new("the first ACK establishes", ack.frame()).after(&[&p]).sent(out).flow(flow));
    for (name, end) in [("FIN", FIN | ACK), ("RST", RST), ("FIN and RST", FIN | RST | ACK)] {
        let p = t.early();
        let last = p.clone().flags(end);
        let flow = Flow::Flags(p.clone(), FLOW_FORWARD | FLOW_ESTABLISHED | FLOW_CLOSING);
        let out = t.to_gray(&last);
        t.add(
            Case::new(format!("{name} marks the end"), last.frame())
                .after(&[&p, &ack_of(&p)])
                .sent(out)
                .flow(flow),
        );
        let p = t.early();
        let flow = Flow::Flags(p.clone(), FLOW_FORWARD);
        let out = t.to_gray(&p);
        let row = Case::new(format!("SYN after {name} decides again"), p.frame());
        t.add(row.after(&[&p, &p.clone().flags(end)]).sent(out).moves(&[Explicit]).flow(flow));
    }
    let p = t.early();
    let fin = p.answer(l.gray(SHOP_AT), FIN | ACK);
    let flow = Flow::Flags(fin.clone(), FLOW_ESTABLISHED | FLOW_CLOSING);
    let back = fin.rewritten(l.vip(SHOP), p.src);
    t.add(Case::new("the server's FIN marks its direction", fin.frame()).after(&[&p]).sent(back).flow(flow));
    let p = t.early();
    let flow = Flow::Flags(p.clone(), FLOW_FORWARD);
    let out = t.to_gray(&p);
    let row = Case::new("a second SYN of an established flow decides again", p.frame());
    t.add(row.after(&[&p, &ack_of(&p)]).sent(out).moves(&[Explicit]).flow(flow));
    // A simultaneous open's SYN-ACK from the client side is no opening.
    let p = t.early();
    let both = p.clone().flags(SYN | ACK);
    let out = t.to_gray(&both);
    let flow = Flow::Flags(p.clone(), FLOW_FORWARD | FLOW_ESTABLISHED);
    t.add(Case::new("SYN-ACK of the client's side", both.frame()).after(&[&p]).sent(out).flow(flow));
}

fn ack_of(p: &Packet) -> Packet {
    p.clone().flags(ACK)
}
