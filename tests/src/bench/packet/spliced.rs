//! Rows about established connections of the request path, whose numbers are translated. The program itself opens one; what it has
//! left in the tables is laid for each flow of a ring, with shifts that take the numbers there and back again in turns.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use gray_common::{
    names::SPLICES,
    request::{cookie::Tuple, machine::EST, options::Options},
    wire::{Addr, Bound},
};

use super::{
    ring::Ring,
    rows::{self, Pace, Row},
    spread::End,
    table::{Table, bytes},
    testrun::Program,
    traffic::Kind,
};
use crate::packets::{
    frame::{ACK, ETH, Packet, SYN},
    land::{LANDS, Land, SHOP, SHOP_AT},
    rig::Rig,
    sum,
};

/// A client's packets, and an instance's.
const CLIENTS: &str = "translated, to the instance";
const INSTANCES: &str = "translated, to the client";

/// Of the ring's packets; the first two as [`Packet`] has them.
const SEQ: u32 = 0x0102_0304;
const ACKED: u32 = 0x0506_0708;
const TIME: u32 = 0x0a0b_0c0d;
const ECHO: u32 = 0x0e0f_1011;
/// Numbers of the two SYNs. The client's is below what instances acknowledge: that is nothing old.
const CLIENT: u32 = ACKED - 0x708;
const INSTANCE: u32 = 0x7766_5544;
/// How far the shifts go.
const NUMBERS: u32 = 0x1234_5678;
const TIMES: u32 = 0x0102_0304;
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\nX-App-Id: nobody\r\n\r\n";

/// A second service address, on a host that is on the link: every hop of a ring changes address and port.
fn second(l: Land) -> SocketAddr {
    l.gray(SHOP + 1)
}

pub fn policy() -> String {
    let [tcp4, _, tcp6, _] = LANDS;
    let listen = [tcp4.vip(SHOP), second(tcp4), tcp6.vip(SHOP), second(tcp6)].map(|a| format!("\"{a}\""));
    let instances =
        [tcp4, tcp6].map(|l| l.stable(SHOP_AT)).map(|a| format!("{{ address: \"{a}\", version: \"1.0\" }}"));
    format!(
        "services:\n  shop:\n    listen: [{}]\n    claims: {{ app: {{ header: X-App-Id }} }}\n    identify: [app, source]\n    \
         instances: [{}]\n    stable: {{ version: \"1.0\" }}\n",
        listen.join(", "),
        instances.join(", ")
    )
}

pub fn rows(quick: bool) -> Vec<Row> {
    let [tcp4, _, tcp6, _] = LANDS;
    let mut rows = vec![row(tcp4, End::Source, 4096), row(tcp4, End::Destination, 4096)];
    if !quick {
        rows.extend([row(tcp4, End::Source, 64), row(tcp4, End::Destination, 64)]);
        rows.extend([row(tcp6, End::Source, 4096), row(tcp6, End::Destination, 4096)]);
    }
    rows
}

fn row(l: Land, end: End, flows: u32) -> Row {
    let open = l.open(l.plain(1), l.vip(SHOP));
    let (what, mut like) = match end {
        End::Source => (CLIENTS, open.clone().flags(ACK)),
        End::Destination => (INSTANCES, open.answer(l.stable(SHOP_AT), ACK)),
    };
    like.tcp_options = times(TIME, ECHO);
    let others = [l.vip(SHOP), second(l)];
    let ring = Ring { open, like, clients: rows::clients(l.v6), end, others, flows, spliced: true };
    Row {
        label: rows::known(l, what, flows),
        pace: Pace::BackToBack,
        flows,
        kind: Kind::Ring(Box::new(ring)),
        out: Some(Box::new(Packet::clone)),
    }
}

/// Opens the ring's first connection with an instance, and lays what is known of it for each of the others.
pub fn open(ring: &Ring, rig: &Rig, maker: &Program) -> Result<()> {
    let mut table = Table::open(&rig.pins.map(SPLICES))?;
    table.empty()?;
    let template = dial(ring, maker, &table)?;
    let keys: Vec<Tuple> = (0..ring.flows).map(|p| tuple(&ring.ends(p))).collect();
    let bounds: Vec<Bound> = (0..ring.flows).map(|p| bound(template, ring, p)).collect();
    table.put(bytes(&keys), bytes(&bounds), keys.len())
}

/// What the program makes of a handshake on both sides, and of an instance that has acknowledged the request.
fn dial(ring: &Ring, maker: &Program, table: &Table) -> Result<Bound> {
    let asks = Packet { payload: Vec::new(), ..ring.open.clone() };
    let l = LANDS[if asks.src.is_ipv4() { 0 } else { 2 }];
    let at = l.stable(SHOP_AT);
    let run = |what: &str, p: &Packet, seq: u32, ack: u32| {
        let frame = numbered(p, seq, ack);
        let (_, out) = maker.run_out(&frame, 1).with_context(|| what.to_owned())?;
        Ok::<_, anyhow::Error>(out)
    };
    let syn = Packet { tcp_options: syn_options(7, 0), ..asks.clone().flags(SYN) };
    let answer = run("a client's SYN", &syn, CLIENT, 0)?;
    let tcp = &answer[ETH + if asks.src.is_ipv4() { 20 } else { 40 }..];
    ensure!(tcp[13] == SYN | ACK, "a SYN was answered by flags {:#x}", tcp[13]);
    let cookie = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
    let options = Options::read(&tcp[20..], u32::from(tcp[12] >> 4) * 4 - 20);
    let request =
        Packet { tcp_options: times(2, options.time_value), payload: REQUEST.into(), ..asks.clone() };
    let _ = run("a request", &request.flags(ACK), CLIENT + 1, cookie.wrapping_add(1))?;
    let back = asks.answer(at, SYN | ACK);
    let syn_ack = Packet { tcp_options: syn_options(7, 2), ..back.clone() };
    let _ = run("an instance's SYN-ACK", &syn_ack, INSTANCE, CLIENT + 1)?;
    let ack = Packet { tcp_options: times(9, 2), ..back.flags(ACK) };
    let _ = run("an instance's ACK", &ack, INSTANCE + 1, CLIENT + 1 + REQUEST.len() as u32)?;
    let bound: Bound =
        table.get(&tuple(&(asks.src, asks.dst)))?.context("the program knows no connection")?;
    ensure!(bound.splice.state == EST, "the connection is in state {}", bound.splice.state);
    Ok(bound)
}

/// Of the connection at a place: from where the ring comes to it, its instance is.
fn bound(template: Bound, ring: &Ring, place: u32) -> Bound {
    let mut b = template;
    let from = ring.ends(place.wrapping_sub(1)).1;
    (b.decision.instance.addr, b.decision.instance.port) = (Addr::from(from.ip()), from.port().to_be());
    let there = |n: u32| if place & 1 == 0 { n } else { n.wrapping_neg() };
    (b.splice.shift.seq, b.splice.shift.time) = (there(NUMBERS), there(TIMES));
    b.splice.shift.told = b.splice.shift.scale;
    b
}

/// What becomes of the packet at a place in one hop.
pub fn hop(ring: &Ring, place: u32) -> Vec<u8> {
    let next = ring.packet(place + 1);
    let next = Packet { ttl: next.ttl - 1, ..next };
    let there = |n: u32| if place & 1 == 0 { n } else { n.wrapping_neg() };
    let times = |value, echo| Packet { tcp_options: times(value, echo), ..next.clone() };
    // Of an instance the connection at the next place is looked up, whose shift is taken off.
    match ring.end {
        End::Source => {
            numbered(&times(TIME, ECHO.wrapping_add(there(TIMES))), SEQ, ACKED.wrapping_add(there(NUMBERS)))
        }
        End::Destination => {
            numbered(&times(TIME.wrapping_add(there(TIMES)), ECHO), SEQ.wrapping_add(there(NUMBERS)), ACKED)
        }
    }
}

fn tuple((client, service): &(SocketAddr, SocketAddr)) -> Tuple {
    let words = |ip: IpAddr| Addr::from(ip).words();
    Tuple {
        client: words(client.ip()),
        service: words(service.ip()),
        client_port: client.port().to_be(),
        service_port: service.port().to_be(),
        number: 0,
    }
}

fn syn_options(scale: u8, echo: u32) -> Vec<u8> {
    [&[2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1][..], &echo.to_be_bytes(), &[1, 3, 3, scale]].concat()
}

fn times(value: u32, echo: u32) -> Vec<u8> {
    [&[1, 1, 8, 10][..], &value.to_be_bytes(), &echo.to_be_bytes()].concat()
}

/// The frame with these numbers.
fn numbered(p: &Packet, seq: u32, ack: u32) -> Vec<u8> {
    let mut f = p.frame();
    let (from, l4) = if p.src.is_ipv4() { (ETH + 12, ETH + 20) } else { (ETH + 8, ETH + 40) };
    f[l4 + 4..l4 + 8].copy_from_slice(&seq.to_be_bytes());
    f[l4 + 8..l4 + 12].copy_from_slice(&ack.to_be_bytes());
    f[l4 + 16..l4 + 18].fill(0);
    let check = sum::transport(&f[from..l4], p.proto, &f[l4..]);
    f[l4 + 16..l4 + 18].copy_from_slice(&check.to_be_bytes());
    f
}
