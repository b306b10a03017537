//! The way out of a packet with a flow: counting, rewriting, next hop.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use gray_common::Reason;
use gray_userspace::kernel::Direction;

use super::{Entry, Model, segment::Segment};
use crate::packets::{
    case::{DROP, NEXT, REDIRECT},
    frame::{ETH, TCP, UDP},
    land::LANDS,
    rig::{MTU, Way, neighbour},
    wrapped::Outer,
};

/// What the bench's routing says of a destination.
#[derive(PartialEq, Eq)]
enum Reach {
    /// No route, or an address of the node itself, or of many.
    Stack,
    /// On the link, its link address unknown.
    Unknown,
    Known,
}

impl Model {
    pub(super) fn forward(
        &mut self,
        d: Direction,
        frame: &[u8],
        s: &Segment,
        e: &mut Entry,
    ) -> (i32, Vec<u8>) {
        let arm = self.arm(u32::from(e.service), u32::from(e.arm));
        let bytes = frame.len() as u64;
        if e.forward {
            (arm.packets, arm.bytes) = (arm.packets + 1, arm.bytes + bytes);
        } else {
            (arm.reply_packets, arm.reply_bytes) = (arm.reply_packets + 1, arm.reply_bytes + bytes);
        }
        if e.pass {
            return (NEXT, frame.to_vec());
        }
        if let Some(outer) = e.outer {
            return self.wrap(d, frame, s, e, outer);
        }
        if d == Direction::Egress {
            return (NEXT, rewritten(frame, s, e, s.ttl));
        }
        if s.ttl <= 1 {
            self.count(Reason::TtlExpired);
            return (NEXT, frame.to_vec());
        }
        let mut out = rewritten(frame, s, e, s.ttl - 1);
        let reach = reach(&self.way, e.src.ip(), e.dst.ip());
        e.unresolved = reach == Reach::Unknown;
        let (verdict, reason) = match reach {
            Reach::Stack => (NEXT, Some(Reason::NoRoute)),
            Reach::Unknown => (REDIRECT, Some(Reason::NoNeighbour)),
            Reach::Known if frame.len() - ETH > MTU as usize => {
                self.told = s.whole && s.plain;
                (NEXT, Some(Reason::Oversize))
            }
            Reach::Known => {
                if let Way::Redirect(own) = self.way {
                    out[..6].copy_from_slice(&neighbour(e.dst.ip()));
                    out[6..12].copy_from_slice(&own);
                }
                (REDIRECT, None)
            }
        };
        reason.into_iter().for_each(|r| self.count(r));
        (verdict, out)
    }
}

impl Model {
    /// Into another packet, or on as it came.
    fn wrap(
        &mut self,
        d: Direction,
        frame: &[u8],
        s: &Segment,
        e: &mut Entry,
        outer: Outer,
    ) -> (i32, Vec<u8>) {
        let unchanged = (NEXT, frame.to_vec());
        if d == Direction::Egress {
            return unchanged;
        }
        if s.ttl <= 1 {
            self.count(Reason::TtlExpired);
            return unchanged;
        }
        let reach = reach(&self.way, outer.src, outer.dst);
        e.unresolved = reach == Reach::Unknown;
        if reach == Reach::Stack {
            self.count(Reason::DsrNoRoute);
            if !self.own(s.tuple) {
                return unchanged;
            }
            // Stable has the address: it gets a connection whole or not at all.
            if e.established {
                return (DROP, frame.to_vec());
            }
            (e.src, e.dst) = (s.tuple.src, s.tuple.dst);
            (e.pass, e.outer, e.arm) = (true, None, 0);
            e.forget_breaker();
            return unchanged;
        }
        if reach == Reach::Known && frame.len() - ETH + outer.room() > MTU as usize {
            let quoted = if s.tuple.src.is_ipv4() { ETH + 20..=ETH + 20 } else { ETH + 40..=ETH + 48 };
            self.told = quoted.contains(&s.at);
            self.count(Reason::DsrOversize);
            return unchanged;
        }
        // Only the TTL, and what sums it up.
        let same = Entry { src: s.tuple.src, dst: s.tuple.dst, ..*e };
        let mut out = outer.around(&rewritten(frame, &Segment { at: 0, ..*s }, &same, s.ttl - 1));
        if reach == Reach::Unknown {
            self.count(Reason::NoNeighbour);
        } else if let Way::Redirect(own) = self.way {
            out[..6].copy_from_slice(&neighbour(outer.dst));
            out[6..12].copy_from_slice(&own);
        }
        (REDIRECT, out)
    }
}

/// The network that the bench's interface is in: 198.18.0.0/16 and fd00::/16.
fn reach(way: &Way, src: IpAddr, dst: IpAddr) -> Reach {
    // bpf_fib_lookup leaves such IPv6 addresses to the stack, whatever the routes say (`rt6_need_strict`).
    let strict = |ip: IpAddr| match ip {
        IpAddr::V4(_) => false,
        IpAddr::V6(a) => a.is_multicast() || a.is_unicast_link_local() || a.is_loopback(),
    };
    if matches!(way, Way::Stack) || strict(src) || strict(dst) {
        return Reach::Stack;
    }
    let on_link = match dst {
        IpAddr::V4(a) => {
            let [x, y, ..] = a.octets();
            let ends = [Ipv4Addr::new(198, 18, 255, 255), Ipv4Addr::new(198, 18, 99, 1)];
            (x, y) == (198, 18) && !ends.contains(&a)
        }
        IpAddr::V6(a) => {
            let own = [0xfd00, 0x99, 0, 0, 0, 0, 0, 1];
            // The first address of the subnet is every router's.
            a.segments()[0] == 0xfd00 && a.segments() != own && a.segments()[1..] != [0; 7]
        }
    };
    let known = matches!(way, Way::Redirect(_)) && LANDS.iter().any(|l| l.hosts().contains(&dst));
    match (on_link, known) {
        (false, _) => Reach::Stack,
        (true, false) => Reach::Unknown,
        (true, true) => Reach::Known,
    }
}

fn rewritten(frame: &[u8], s: &Segment, e: &Entry, ttl: u8) -> Vec<u8> {
    let mut out = frame.to_vec();
    let put = |out: &mut Vec<u8>, at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    let addresses = match (e.src.ip(), e.dst.ip()) {
        (IpAddr::V4(a), IpAddr::V4(b)) => [a.octets(), b.octets()].concat(),
        (a, b) => [a, b].map(|a| v6(a).octets()).concat(),
    };
    let v4 = addresses.len() == 8;
    let (ttl_at, from) = if v4 { (ETH + 8, ETH + 12) } else { (ETH + 7, ETH + 8) };
    out[ttl_at] = ttl;
    put(&mut out, from, &addresses);
    if v4 {
        let end = ETH + usize::from(frame[ETH] & 15) * 4;
        let check = adjusted(
            word(frame, ETH + 10),
            &[&frame[ETH..ETH + 10], &frame[ETH + 12..end]],
            &[&out[ETH..ETH + 10], &out[ETH + 12..end]],
        );
        put(&mut out, ETH + 10, &check.to_be_bytes());
    }
    if s.at == 0 {
        return out;
    }
    put(&mut out, s.at, &ports(e.src, e.dst));
    let at = s.at + if s.tuple.proto == TCP { 16 } else { 6 };
    let check = word(frame, at);
    if s.tuple.proto == UDP && check == 0 {
        return out;
    }
    let (addresses, ports) = (from..from + addresses.len(), s.at..s.at + 4);
    let check =
        adjusted(check, &[&frame[addresses.clone()], &frame[ports.clone()]], &[&out[addresses], &out[ports]]);
    let check = if s.tuple.proto == UDP && check == 0 { 0xffff } else { check };
    put(&mut out, at, &check.to_be_bytes());
    out
}

fn v6(ip: IpAddr) -> std::net::Ipv6Addr {
    match ip {
        IpAddr::V4(a) => a.to_ipv6_mapped(),
        IpAddr::V6(a) => a,
    }
}

fn ports(src: SocketAddr, dst: SocketAddr) -> [u8; 4] {
    let ([a, b], [c, d]) = (src.port().to_be_bytes(), dst.port().to_be_bytes());
    [a, b, c, d]
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// A checksum after the words it covers have changed: what was wrong with it stays wrong by the same amount. One's
/// complement sums are numbers modulo 65535; of the two spellings of 0 the result has the one a full computation gives.
fn adjusted(check: u16, old: &[&[u8]], new: &[&[u8]]) -> u16 {
    let sum = |parts: &[&[u8]]| -> u64 {
        parts.iter().flat_map(|p| p.chunks(2)).map(|w| u64::from(word(w, 0))).sum()
    };
    let total = u64::from(!check) + sum(new) + (65_535_u64 << 32) - sum(old);
    match total % 65_535 {
        0 => 0,
        n => !(n as u16),
    }
}
