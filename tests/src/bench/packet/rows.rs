//! The rows: which packet, of how many flows, and what becomes of it. Addresses and policy are those of the packet cases.

use std::net::SocketAddr;

use super::{
    spread::{Clients, End, Spread},
    traffic::Kind,
};
use crate::packets::{
    frame::{ACK, Packet, SYN},
    land::{LANDS, Land, OWN, SAME, SHOP, SHOP_AT},
};

/// Addresses of the clients; more flows are more ports of each.
pub const HOSTS: u32 = 64;

pub struct Row {
    pub label: String,
    pub flows: u32,
    pub kind: Kind,
    /// What becomes of a packet; `None`: it passes as it is.
    pub out: Option<Box<dyn Fn(&Packet) -> Packet>>,
}

/// Clients on no list.
pub fn clients(v6: bool) -> Clients {
    let first = if v6 { [0xfd00, 0x40, 0, 0, 0, 0, 0, 0].into() } else { [198, 18, 64, 0].into() };
    Clients { first, hosts: HOSTS }
}

fn name(l: Land) -> String {
    format!("{} {}", if l.v6 { "IPv6" } else { "IPv4" }, if l.proto == 6 { "TCP" } else { "UDP" })
}

fn spread(l: Land, to: SocketAddr, flags: u8) -> Spread {
    Spread::new(l.open(l.plain(1), to).flags(flags), clients(l.v6), End::Source)
}

/// A known flow from a client to `to`, which reaches the instance `at`.
fn forward(l: Land, what: &str, to: SocketAddr, at: Option<SocketAddr>, flows: u32) -> Row {
    Row {
        label: format!("{}, {what}, {flows} flows", name(l)),
        flows,
        kind: Kind::Known { open: spread(l, to, SYN), sent: spread(l, to, ACK) },
        out: at.map(|at| -> Box<dyn Fn(&Packet) -> Packet> { Box::new(move |p| p.rewritten(p.src, at)) }),
    }
}

pub fn steered(l: Land, flows: u32) -> Row {
    forward(l, "address and port", l.vip(SHOP), Some(l.stable(SHOP_AT)), flows)
}

fn reply(l: Land, flows: u32) -> Row {
    let (vip, instance) = (l.vip(SHOP), l.stable(SHOP_AT));
    let answer = l.open(instance, l.plain(1)).flags(ACK);
    Row {
        label: format!("{}, reply, {flows} flows", name(l)),
        flows,
        kind: Kind::Known {
            open: spread(l, vip, SYN),
            sent: Spread::new(answer, clients(l.v6), End::Destination),
        },
        out: Some(Box::new(move |p| p.rewritten(vip, p.dst))),
    }
}

fn foreign(what: &str, frame: Vec<u8>) -> Row {
    Row { label: format!("not ours: {what}"), flows: 1, kind: Kind::Frame(frame), out: None }
}

fn arp() -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend([2, 0, 0, 0, 0, 2, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 2, 198, 18, 1, 3]);
    frame.extend([0, 0, 0, 0, 0, 0, 198, 18, 1, 1]);
    frame.resize(60, 0);
    frame
}

/// Where a few thousand flows are known.
pub fn ordinary(quick: bool) -> Vec<Row> {
    let [tcp4, udp4, tcp6, udp6] = LANDS;
    let mut rows = vec![steered(tcp4, 64), steered(tcp4, 4096)];
    let same = |l: Land, flows| forward(l, "address only", l.vip(SAME), Some(l.stable(SAME)), flows);
    rows.push(same(tcp4, 4096));
    rows.push(steered(tcp6, 4096));
    if !quick {
        rows.extend([steered(tcp6, 64), same(tcp4, 64), steered(udp4, 4096), steered(udp6, 4096)]);
        rows.extend([reply(tcp4, 4096), reply(tcp6, 4096)]);
        rows.push(forward(tcp4, "stable on its own address", tcp4.stable(OWN), None, 4096));
    }
    let strange = |l: Land| l.open(l.stranger(4000), l.stranger(5000)).flags(ACK).frame();
    rows.push(foreign("IPv4 TCP", strange(tcp4)));
    if !quick {
        rows.extend([foreign("IPv6 TCP", strange(tcp6)), foreign("ARP", arp())]);
    }
    rows
}

/// More flows than fit the caches.
pub fn many(flows: u32, quick: bool) -> Vec<Row> {
    let [tcp4, _, tcp6, _] = LANDS;
    let mut rows = vec![steered(tcp4, flows)];
    if !quick {
        rows.push(steered(tcp6, flows));
    }
    rows
}
