//! What a frame says, read by etherparse. The rules of what is steered are written here once more, by hand.

use std::net::{IpAddr, SocketAddr};

use etherparse::{Ethernet2HeaderSlice, Ipv4HeaderSlice, Ipv6HeaderSlice, TcpHeaderSlice, UdpHeaderSlice};
use gray_common::Reason;

use super::{Tuple, is_ours};
use crate::packets::frame::{ETH, TCP};

const UDP_HEADER: usize = 8;
const TCP_HEADER: usize = 20;
/// IPv6 extension headers (IANA), without the fragment header.
const EXTENSIONS: [u8; 8] = [0, 43, 50, 51, 60, 135, 139, 140];

/// A TCP or UDP packet that can be steered.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    pub tuple: Tuple,
    pub ttl: u8,
    pub dscp: u8,
    /// Nobody may fragment it.
    pub whole: bool,
    /// Where the transport header begins.
    pub at: usize,
    /// Of TCP, else false.
    pub syn: bool,
    pub ack: bool,
    /// FIN or RST.
    pub ends: bool,
}

impl Segment {
    pub fn opens(&self) -> bool {
        self.syn && !self.ack
    }
}

pub enum Parsed {
    Segment(Segment),
    /// Passes, and the link header is why.
    Link(Reason),
    /// Passes, counted.
    Broken(Reason),
    /// Passes: not TCP or UDP, or too short to be seen as such.
    Other,
}

/// What an IP header says.
struct Ip {
    src: IpAddr,
    dst: IpAddr,
    proto: u8,
    ttl: u8,
    dscp: u8,
    whole: bool,
    /// Bytes after the IP header by its own account; `None`: it says 0, as super-packets do.
    payload: Option<usize>,
}

pub fn parse(frame: &[u8]) -> Parsed {
    let Ok(link) = Ethernet2HeaderSlice::from_slice(frame) else { return Parsed::Link(Reason::Malformed) };
    let v4 = match link.ether_type().0 {
        0x0800 => true,
        0x86dd => false,
        0x8100 | 0x88a8 => return Parsed::Link(Reason::HeaderUnsupported),
        _ => return Parsed::Other,
    };
    let at = ETH + if v4 { 20 } else { 40 };
    if frame.len() < at + UDP_HEADER {
        return Parsed::Other;
    }
    // Lengths are judged below: the slices shall find none too short.
    let padded = [&frame[ETH..], &[0; 64]].concat();
    let ip = match if v4 { ip4(&padded) } else { ip6(&padded) } {
        Ok(ip) => ip,
        Err(passes) => return passes,
    };
    let segment = &padded[at - ETH..];
    let there = frame.len() - at;
    match if ip.proto == TCP { tcp(segment, &ip, there, at) } else { udp(segment, &ip, there, at) } {
        Some(s) => Parsed::Segment(s),
        None => Parsed::Broken(Reason::Malformed),
    }
}

fn ip4(bytes: &[u8]) -> Result<Ip, Parsed> {
    let Ok(h) = Ipv4HeaderSlice::from_slice(bytes) else { return Err(Parsed::Broken(Reason::Malformed)) };
    if h.ihl() > 5 {
        return Err(Parsed::Broken(Reason::HeaderUnsupported));
    }
    let proto = h.protocol().0;
    if !is_ours(proto) {
        return Err(Parsed::Other);
    }
    if h.is_fragmenting_payload() {
        return Err(Parsed::Broken(Reason::Fragment));
    }
    let total = usize::from(h.total_len());
    Ok(Ip {
        src: h.source_addr().into(),
        dst: h.destination_addr().into(),
        proto,
        ttl: h.ttl(),
        dscp: h.dcp().value(),
        whole: h.dont_fragment(),
        payload: (total != 0).then(|| total.saturating_sub(20)),
    })
}

fn ip6(bytes: &[u8]) -> Result<Ip, Parsed> {
    let Ok(h) = Ipv6HeaderSlice::from_slice(bytes) else { return Err(Parsed::Broken(Reason::Malformed)) };
    let proto = h.next_header().0;
    if !is_ours(proto) {
        return Err(match proto {
            44 => Parsed::Broken(Reason::Fragment),
            p if EXTENSIONS.contains(&p) => Parsed::Broken(Reason::HeaderUnsupported),
            _ => Parsed::Other,
        });
    }
    let payload = usize::from(h.payload_length());
    Ok(Ip {
        src: h.source_addr().into(),
        dst: h.destination_addr().into(),
        proto,
        ttl: h.hop_limit(),
        dscp: h.dscp().value(),
        whole: true,
        payload: (payload != 0).then_some(payload),
    })
}

/// `there`: bytes of the frame after the IP header.
fn tcp(bytes: &[u8], ip: &Ip, there: usize, at: usize) -> Option<Segment> {
    let h = TcpHeaderSlice::from_slice(bytes).ok()?;
    let header = usize::from(h.data_offset()) * 4;
    let fits = ip.payload.is_none_or(|n| header <= n && n <= there);
    if there < TCP_HEADER || !fits {
        return None;
    }
    let ports = (h.source_port(), h.destination_port());
    let (syn, ack, ends) = (h.syn(), h.ack(), h.fin() || h.rst());
    Some(Segment { syn, ack, ends, ..segment(ip, ports, at) })
}

fn udp(bytes: &[u8], ip: &Ip, there: usize, at: usize) -> Option<Segment> {
    let h = UdpHeaderSlice::from_slice(bytes).ok()?;
    // Its own length may be of one segment of many.
    let payload = ip.payload.unwrap_or(0);
    let fits = (UDP_HEADER..=there).contains(&payload) && usize::from(h.length()) >= UDP_HEADER;
    fits.then(|| segment(ip, (h.source_port(), h.destination_port()), at))
}

fn segment(ip: &Ip, (sport, dport): (u16, u16), at: usize) -> Segment {
    let tuple =
        Tuple { src: SocketAddr::new(ip.src, sport), dst: SocketAddr::new(ip.dst, dport), proto: ip.proto };
    Segment { tuple, ttl: ip.ttl, dscp: ip.dscp, whole: ip.whole, at, syn: false, ack: false, ends: false }
}
