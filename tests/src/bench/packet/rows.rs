//! The rows: which packet, of how many flows, and what becomes of it. Addresses and policy are those of the packet cases.

use std::net::{IpAddr, SocketAddr};

use super::{
    ring::Ring,
    spread::{Clients, End, Spread},
    traffic::Kind,
};
use crate::packets::{
    frame::{ACK, Packet, SYN},
    land::{LANDS, Land, OWN, SAME, SHOP, SHOP_AT},
};

/// Addresses of the clients; more flows are more ports of each.
pub const HOSTS: u32 = 64;

/// How a row's packets follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Many in one call, nothing in between.
    BackToBack,
    /// One a call: between two packets the caches serve a system call and the bench.
    OneACall,
}

/// The packet that comes out of a path, by the one that goes in.
pub type Out = dyn Fn(&Packet) -> Packet;

pub struct Row {
    pub label: String,
    pub pace: Pace,
    pub flows: u32,
    pub kind: Kind,
    /// What becomes of a packet; `None`: it passes as it is.
    pub out: Option<Box<Out>>,
}

/// Clients on no list.
pub fn clients(v6: bool) -> Clients {
    let first = if v6 { [0xfd00, 0x40, 0, 0, 0, 0, 0, 0].into() } else { [198, 18, 64, 0].into() };
    Clients { first, hosts: HOSTS }
}

/// Who has a link address beside the hosts of the cases: in a ring, packets go to services, too.
pub fn hosts() -> Vec<IpAddr> {
    let services = LANDS.map(|l| l.vip(0).ip());
    clients(false).addresses().chain(clients(true).addresses()).chain(services).collect()
}

fn name(l: Land) -> String {
    format!("{} {}", if l.v6 { "IPv6" } else { "IPv4" }, if l.proto == 6 { "TCP" } else { "UDP" })
}

fn spread(l: Land, to: SocketAddr, flags: u8) -> Spread {
    Spread::new(l.open(l.plain(1), to).flags(flags), clients(l.v6), End::Source)
}

/// A service: what clients dial, and where its stable instance is.
type Ends = (SocketAddr, SocketAddr);

fn shop(l: Land) -> Ends {
    (l.vip(SHOP), l.stable(SHOP_AT))
}

/// One with the same port at both ends.
fn same(l: Land) -> Ends {
    (l.vip(SAME), l.stable(SAME))
}

pub fn known(l: Land, what: &str, flows: u32) -> String {
    format!("{} {what}, {flows} flows", name(l))
}

/// A known flow from a client to a service, one packet a call.
fn forward(l: Land, what: &str, (vip, at): Ends, flows: u32) -> Row {
    Row {
        label: known(l, what, flows),
        pace: Pace::OneACall,
        flows,
        kind: Kind::Known(Box::new([spread(l, vip, SYN), spread(l, vip, ACK)])),
        out: Some(Box::new(move |p| p.rewritten(p.src, at))),
    }
}

pub const BOTH: &str = "address and port";
const ADDRESS: &str = "address only";

fn ring(l: Land, what: &str, (vip, at): Ends, end: End, flows: u32) -> Row {
    let open = l.open(l.plain(1), vip);
    let like = match end {
        End::Source => open.clone().flags(ACK),
        End::Destination => open.answer(at, ACK),
    };
    let others = if end == End::Source { [vip, at] } else { [at, vip] };
    Row {
        label: known(l, what, flows),
        pace: Pace::BackToBack,
        flows,
        kind: Kind::Ring(Box::new(Ring {
            open,
            like,
            clients: clients(l.v6),
            end,
            others,
            flows,
            spliced: false,
        })),
        out: Some(Box::new(Packet::clone)),
    }
}

fn foreign(what: &str, frame: Vec<u8>, pace: Pace) -> Row {
    Row { label: format!("not ours: {what}"), pace, flows: 1, kind: Kind::Frame(frame), out: None }
}

/// Stable on its own address: nothing to rewrite.
fn pass(l: Land, pace: Pace) -> Row {
    let kind = Kind::Known(Box::new([SYN, ACK].map(|flags| spread(l, l.stable(OWN), flags))));
    Row { label: known(l, "pass", 1), pace, flows: 1, kind, out: None }
}

/// What stable answers there. Of UDP such a packet has no entry, and is looked at anew each time.
fn pass_back(l: Land) -> Row {
    let open = l.open(l.plain(1), l.stable(OWN));
    let answer = Spread::new(open.answer(l.stable(OWN), ACK), clients(l.v6), End::Destination);
    let kind = Kind::Known(Box::new([Spread::new(open, clients(l.v6), End::Source), answer]));
    Row { label: known(l, "reply, pass", 1), pace: Pace::BackToBack, flows: 1, kind, out: None }
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
    let to = |l: Land, flows| ring(l, BOTH, shop(l), End::Source, flows);
    let back = |l: Land| ring(l, "reply", shop(l), End::Destination, 4096);
    let strange = |l: Land, pace| {
        let frame = l.open(l.stranger(4000), l.stranger(5000)).flags(ACK).frame();
        foreign(&name(l), frame, pace)
    };
    let mut rows = vec![to(tcp4, 64), to(tcp4, 4096), ring(tcp4, ADDRESS, same(tcp4), End::Source, 4096)];
    rows.extend([to(tcp6, 4096), back(tcp4), strange(tcp4, Pace::BackToBack)]);
    if !quick {
        rows.extend([to(tcp4, 512), to(udp4, 4096), to(udp6, 4096), to(tcp6, 64), back(tcp6)]);
        rows.extend([pass(tcp4, Pace::BackToBack), pass_back(tcp4), pass_back(udp4)]);
        rows.push(strange(tcp6, Pace::BackToBack));
        rows.push(foreign("ARP", arp(), Pace::BackToBack));
    }
    rows.push(forward(tcp4, BOTH, shop(tcp4), 64));
    if !quick {
        rows.push(forward(tcp4, BOTH, shop(tcp4), 4096));
        rows.push(forward(tcp6, BOTH, shop(tcp6), 64));
        rows.push(pass(tcp4, Pace::OneACall));
        rows.push(strange(tcp4, Pace::OneACall));
    }
    rows
}

/// For XDP: known flows, and what is none of ours.
pub fn xdp(quick: bool) -> Vec<Row> {
    let [tcp4, udp4, tcp6, _] = LANDS;
    let to = |l: Land, flows| ring(l, BOTH, shop(l), End::Source, flows);
    let strange = tcp4.open(tcp4.stranger(4000), tcp4.stranger(5000)).flags(ACK).frame();
    let mut rows = vec![to(tcp4, 64), to(tcp4, 4096), to(tcp6, 64), to(tcp6, 4096)];
    rows.push(foreign(&name(tcp4), strange, Pace::BackToBack));
    if !quick {
        rows.extend([to(udp4, 4096), ring(tcp4, "reply", shop(tcp4), End::Destination, 4096)]);
    }
    rows
}

/// What the bars on an established flow are about.
pub fn established() -> Row {
    ring(LANDS[0], BOTH, shop(LANDS[0]), End::Source, 4096)
}

/// More flows than fit the caches.
pub fn many(flows: u32, quick: bool) -> Vec<Row> {
    let [tcp4, _, tcp6, _] = LANDS;
    let mut rows = vec![ring(tcp4, BOTH, shop(tcp4), End::Source, flows)];
    if !quick {
        rows.push(ring(tcp6, BOTH, shop(tcp6), End::Source, flows));
    }
    // A packet of each flow a call and round takes too long for more.
    if !quick && flows <= 65_536 {
        rows.push(forward(tcp4, BOTH, shop(tcp4), flows));
    }
    rows
}
