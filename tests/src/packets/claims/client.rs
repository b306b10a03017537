//! A client of a service whose requests are read, frame by frame: SYN, and what it says.

use std::net::{IpAddr, SocketAddr};

use gray_common::wire::{Addr, FlowKey4, FlowKey6};
use gray_userspace::kernel::Direction;

use super::{
    super::{
        case::REDIRECT,
        frame::{ACK, ETH, Packet, SYN, TCP},
        land::{Land, SHOP},
        rig::{Rig, hex},
    },
    Asking, Way,
};

/// Any number, near its end.
const FIRST: u32 = 0xffff_fff0;

/// Where the kernel sends the request.
///
/// # Panics
/// When the SYN is not answered, or the request is sent nowhere.
pub fn ask(rig: &mut Rig, a: &Asking, port: u16) -> Way {
    let (from, to) = (SocketAddr::new(a.source, port), Land { v6: a.source.is_ipv6(), proto: TCP }.vip(SHOP));
    let segment = |flags: u8, seq: u32, ack: u32, payload: &[u8]| Packet {
        numbers: [seq, ack],
        ..Packet::new(TCP, from, to).flags(flags).payload(payload)
    };
    let (verdict, answer) = rig.run(Direction::Ingress, &segment(SYN, FIRST, 0, &[]).frame());
    let answered = read(&answer);
    assert_eq!((verdict, answered.flags), (REDIRECT, SYN | ACK), "the SYN's answer:\n{}", hex(&answer));
    let (mut seq, ack) = (FIRST.wrapping_add(1), answered.seq.wrapping_add(1));
    for part in &a.parts {
        let (verdict, out) = rig.run(Direction::Ingress, &segment(ACK, seq, ack, part).frame());
        seq = seq.wrapping_add(part.len() as u32);
        let sent = read(&out);
        if verdict == REDIRECT && sent.flags == SYN {
            assert_eq!((sent.seq, sent.src), (FIRST, from), "in the client's name:\n{}", hex(&out));
            return (sent.dst.ip(), rule(rig, from, to));
        }
    }
    panic!("it went nowhere: {a:?}");
}

/// The rule of a connection's flow.
fn rule(rig: &Rig, from: SocketAddr, to: SocketAddr) -> u16 {
    let (sport, dport, proto) = (from.port().to_be(), to.port().to_be(), u32::from(TCP));
    let (saddr, daddr) = (Addr::from(from.ip()), Addr::from(to.ip()));
    let state = if from.is_ipv4() {
        let key = FlowKey4 { saddr: saddr.as_v4(), daddr: daddr.as_v4(), sport, dport, proto };
        rig.live.flow4(&key).unwrap().map(|f| f.state)
    } else {
        rig.live.flow6(&FlowKey6 { saddr, daddr, sport, dport, proto }).unwrap().map(|f| f.state)
    };
    state.expect("a flow").rule
}

struct Segment {
    src: SocketAddr,
    dst: SocketAddr,
    seq: u32,
    flags: u8,
}

/// The numbers of a plain TCP frame.
fn read(frame: &[u8]) -> Segment {
    let word = |at: usize| u32::from_be_bytes(std::array::from_fn(|i| frame[at + i]));
    let port = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let v6 = frame[12..14] == [0x86, 0xdd];
    let ip = |at: usize| match v6 {
        true => IpAddr::from(<[u8; 16]>::try_from(&frame[at..at + 16]).unwrap_or([0; 16])),
        false => IpAddr::from(<[u8; 4]>::try_from(&frame[at..at + 4]).unwrap_or([0; 4])),
    };
    let (tcp, src, dst) =
        if v6 { (ETH + 40, ip(ETH + 8), ip(ETH + 24)) } else { (ETH + 20, ip(ETH + 12), ip(ETH + 16)) };
    Segment {
        src: SocketAddr::new(src, port(tcp)),
        dst: SocketAddr::new(dst, port(tcp + 2)),
        seq: word(tcp + 4),
        flags: frame[tcp + 13],
    }
}
