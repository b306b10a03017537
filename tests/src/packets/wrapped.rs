//! A packet in another one, written by hand: what `nat: dsr` sends to an instance (RFC 2003, RFC 2473, GUE version 0).

use std::net::{IpAddr, SocketAddr};

use gray_common::{decide::bucket::flow_seed, packet::gue_port, wire::Addr};

use super::{frame::ETH, model::Tuple, sum};

/// The outer header's ends and form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outer {
    pub src: IpAddr,
    pub dst: IpAddr,
    /// Source port of GUE; also of the flow label.
    pub port: u16,
    pub gue: bool,
}

impl Outer {
    /// Of a connection with this hash key.
    pub fn of(t: Tuple, secret: u64, (src, dst): (IpAddr, IpAddr), gue: bool) -> Self {
        let ends = [t.src, t.dst].map(|a: SocketAddr| Addr::from(a.ip()));
        let seed = flow_seed(secret, &ends[0], &ends[1], t.src.port().to_be(), t.dst.port().to_be(), t.proto);
        Self { src, dst, port: u16::from_be(gue_port(seed)), gue }
    }

    /// Bytes that come in front.
    pub fn room(&self) -> usize {
        (if self.dst.is_ipv4() { 20 } else { 40 }) + if self.gue { 12 } else { 0 }
    }

    /// The frame with this in front. Its own hop is the caller's matter.
    pub fn around(&self, frame: &[u8]) -> Vec<u8> {
        let there = frame.len() - ETH;
        let said = |at: usize| usize::from(u16::from_be_bytes([frame[ETH + at], frame[ETH + at + 1]]));
        let own = if self.dst.is_ipv4() { said(2) } else { said(4) + if said(4) == 0 { 0 } else { 40 } };
        let inner = if own == 0 || own > there { there } else { own };
        let number = if self.dst.is_ipv4() { 4 } else { 41 };
        let mut middle = Vec::new();
        if self.gue {
            middle.extend(self.port.to_be_bytes());
            middle.extend(6080u16.to_be_bytes());
            middle.extend(((inner + 12) as u16).to_be_bytes());
            middle.extend([0, 0, 0, number, 0, 0]);
        }
        let proto = if self.gue { 17 } else { number };
        let head = match (self.src, self.dst) {
            (IpAddr::V4(s), IpAddr::V4(d)) => {
                let mut h = vec![0x45, frame[ETH + 1]];
                h.extend(((20 + middle.len() + inner) as u16).to_be_bytes());
                h.extend([0, 0, 0x40, 0, 64, proto, 0, 0]);
                h.extend([s.octets(), d.octets()].concat());
                let check = sum::header(&h);
                h[10..12].copy_from_slice(&check.to_be_bytes());
                h
            }
            (IpAddr::V6(s), IpAddr::V6(d)) => {
                let mut h = vec![frame[ETH], frame[ETH + 1] & 0xf0];
                h.extend(self.port.to_be_bytes());
                h.extend(((middle.len() + inner) as u16).to_be_bytes());
                h.extend([proto, 64]);
                h.extend([s.octets(), d.octets()].concat());
                h
            }
            ends => panic!("two families: {ends:?}"),
        };
        [&frame[..ETH], &head, &middle, &frame[ETH..]].concat()
    }
}
