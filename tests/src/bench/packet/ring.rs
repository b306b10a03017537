//! Established flows back to back: a ring of entries in which each turns a packet into the next one's, so that one call
//! runs the program on a flow after the other with nothing in between. Every run is a complete rewrite; the packet
//! that comes out in the end is checked.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use gray_common::{
    csum,
    wire::{Addr, Flow4, Flow6, FlowKey4, FlowKey6, FlowState},
};

use super::{
    spliced,
    spread::{Clients, End},
    table::{Table, bytes},
    testrun::Program,
    traffic::STRIDE,
};
use crate::packets::{
    frame::{ETH, Packet, SYN},
    rig::{Rig, hex},
    sum,
};

/// Runs a call: the TTL allows 254.
pub const REPEAT: u32 = 240;
const TTL: u8 = 255;
/// The IPv4 header's word of TTL and protocol, one TTL less, as its checksum sees it.
const TTL_STEP: u16 = 0xfffe;

pub struct Ring {
    /// An opening packet of a client.
    pub open: Packet,
    /// A packet of a known flow, which the ring's packets are like.
    pub like: Packet,
    pub clients: Clients,
    pub end: End,
    /// What stands at the other end, in turns.
    pub others: [SocketAddr; 2],
    pub flows: u32,
    /// The flows' numbers are translated.
    pub spliced: bool,
}

impl Ring {
    /// The client at a place of the ring, and who is at the other end.
    pub fn ends(&self, place: u32) -> (SocketAddr, SocketAddr) {
        let client = self.clients.at(place.wrapping_mul(STRIDE) & (self.flows - 1));
        (client, self.others[(place & 1) as usize])
    }

    /// The packet at a place of the ring.
    pub fn packet(&self, place: u32) -> Packet {
        let (client, other) = self.ends(place);
        let (src, dst) = if self.end == End::Source { (client, other) } else { (other, client) };
        Packet { src, dst, ttl: TTL, ..self.like.clone() }
    }

    /// Writes the entries, with the state of a flow that the program itself has made.
    pub fn make(&self, rig: &Rig, maker: &Program, table: &Table) -> Result<()> {
        if self.spliced {
            spliced::open(self, rig, maker)?;
        } else {
            let _ = maker.run(&self.open.clone().flags(SYN).frame(), 1)?;
            let _ = maker.run(&self.like.frame(), 1)?;
        }
        let pairs = (0..self.flows).map(|p| (self.packet(p), self.packet((p + 1) & (self.flows - 1))));
        if self.like.src.is_ipv4() {
            let made = rig.live.flow4(&key4(&self.like))?.context("the program made no flow")?;
            let (keys, flows): (Vec<_>, Vec<_>) =
                pairs.map(|(p, q)| (key4(&p), flow4(&p, &q, made.state))).unzip();
            table.put(bytes(&keys), bytes(&flows), keys.len())
        } else {
            let made = rig.live.flow6(&key6(&self.like))?.context("the program made no flow")?;
            let (keys, flows): (Vec<_>, Vec<_>) =
                pairs.map(|(p, q)| (key6(&p), flow6(&p, &q, made.state))).unzip();
            table.put(bytes(&keys), bytes(&flows), keys.len())
        }
    }

    /// Whether a call takes a packet as far round as it must, and one hop, with right checksums.
    pub fn look(&self, maker: &Program) -> Result<()> {
        for place in [0, self.flows / 2] {
            let frame = self.packet(place).frame();
            let (_, out) = maker.run_out(&frame, REPEAT)?;
            let far = self.packet((place + REPEAT) & (self.flows - 1));
            same(&out, &far.ttl(TTL - REPEAT as u8).frame())?;
            if self.spliced {
                let (_, out) = maker.run_out(&frame, 1)?;
                same(&out, &spliced::hop(self, place))?;
            }
        }
        Ok(())
    }
}

/// They are alike but for link addresses, and what came out has right checksums.
fn same(out: &[u8], want: &[u8]) -> Result<()> {
    // The zero of one's complement has two spellings: a checksum is right, not equal.
    let (mut a, mut b) = (out.to_vec(), want.to_vec());
    for f in [&mut a, &mut b] {
        f[..12].fill(0);
        blank(f);
    }
    ensure!(a == b, "came out:\n{}\nexpected:\n{}", hex(out), hex(want));
    ensure!(sum::wrong(out, false).is_none(), "{:?}:\n{}", sum::wrong(out, false), hex(out));
    Ok(())
}

/// Without its checksums.
fn blank(f: &mut [u8]) {
    let v4 = f[12] == 8;
    let (proto, l4) = if v4 { (f[ETH + 9], ETH + 20) } else { (f[ETH + 6], ETH + 40) };
    if v4 {
        f[ETH + 10..ETH + 12].fill(0);
    }
    let at = l4 + if proto == 6 { 16 } else { 6 };
    f[at..at + 2].fill(0);
}

fn v4(a: SocketAddr) -> u32 {
    Addr::from(a.ip()).as_v4()
}

fn key4(p: &Packet) -> FlowKey4 {
    let (sport, dport) = (p.src.port().to_be(), p.dst.port().to_be());
    FlowKey4 { saddr: v4(p.src), daddr: v4(p.dst), sport, dport, proto: u32::from(p.proto) }
}

fn key6(p: &Packet) -> FlowKey6 {
    let (sport, dport) = (p.src.port().to_be(), p.dst.port().to_be());
    let (saddr, daddr) = (Addr::from(p.src.ip()), Addr::from(p.dst.ip()));
    FlowKey6 { saddr, daddr, sport, dport, proto: u32::from(p.proto) }
}

fn ports(from: &Packet, to: &Packet) -> u16 {
    let diff = |a: SocketAddr, b: SocketAddr| csum::diff16(a.port().to_be(), b.port().to_be());
    csum::add(diff(from.src, to.src), diff(from.dst, to.dst))
}

fn flow4(from: &Packet, to: &Packet, like: FlowState) -> Flow4 {
    let addr = csum::add(csum::diff32(v4(from.src), v4(to.src)), csum::diff32(v4(from.dst), v4(to.dst)));
    let state = FlowState { l3: csum::add(addr, TTL_STEP), l4_addr: addr, l4_port: ports(from, to), ..like };
    let k = key4(to);
    Flow4 { saddr: k.saddr, daddr: k.daddr, sport: k.sport, dport: k.dport, state }
}

fn flow6(from: &Packet, to: &Packet, like: FlowState) -> Flow6 {
    let (a, b) = (key6(from), key6(to));
    let diff = |x: Addr, y: Addr| csum::diff128(x.words(), y.words());
    let addr = csum::add(diff(a.saddr, b.saddr), diff(a.daddr, b.daddr));
    let state = FlowState { l4_addr: addr, l4_port: ports(from, to), ..like };
    Flow6 { saddr: b.saddr, daddr: b.daddr, sport: b.sport, dport: b.dport, state }
}
