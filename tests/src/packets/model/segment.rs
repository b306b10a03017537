//! What a frame says, read by etherparse. The rules of what is steered are written here once more, by hand.

use std::net::{IpAddr, SocketAddr};

use etherparse::{Ethernet2HeaderSlice, Ipv4HeaderSlice, Ipv6HeaderSlice, TcpHeaderSlice, UdpHeaderSlice};
use gray_common::Reason;

use super::{Tuple, is_ours};
use crate::packets::frame::{ETH, TCP};

const UDP_HEADER: usize = 8;
const TCP_HEADER: usize = 20;

/// A TCP or UDP packet that can be steered.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    pub tuple: Tuple,
    pub ttl: u8,
    pub dscp: u8,
    /// Nobody may fragment it.
    pub whole: bool,
    /// Where the transport header begins; 0: a later fragment has none.
    pub at: usize,
    /// Without options, extension headers and fragments.
    pub plain: bool,
    /// Of TCP, else false.
    pub syn: bool,
    pub ack: bool,
    /// FIN or RST.
    pub ends: bool,
    pub resets: bool,
    /// FIN, or PSH: the end of what its sender says for now.
    pub says: bool,
    /// It carries bytes of a stream.
    pub carries: bool,
    /// The hundred of the HTTP/1 status that these begin with; 0: none, or fewer than 16 bytes.
    pub class: usize,
}

impl Segment {
    /// A later fragment of a packet with this tuple.
    pub fn later(tuple: Tuple, ttl: u8) -> Self {
        let (at, no) = (0, false);
        Self {
            tuple,
            ttl,
            dscp: 0,
            whole: no,
            at,
            plain: no,
            syn: no,
            ack: no,
            ends: no,
            resets: no,
            says: no,
            carries: no,
            class: 0,
        }
    }

    pub fn opens(&self) -> bool {
        self.syn && !self.ack
    }
}

pub enum Parsed {
    Segment(Segment),
    /// Of a packet in pieces.
    Piece(Box<Piece>),
    /// Passes, counted: the link header is why.
    Link(Reason),
    /// Passes, counted: the IP header is why.
    Broken(Reason),
    /// Passes, counted where a policy is in force: what follows its IPv6 header is why.
    Odd(Reason),
    /// Passes, counted if it may be ours: its transport header contradicts itself.
    Short(Tuple),
    /// Passes: not TCP or UDP, or too short to be seen as such.
    Other,
}

/// A fragment.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    pub id: PieceId,
    pub ttl: u8,
    /// Of the first one, if it is long enough for that.
    pub ports: Option<(u16, u16)>,
    /// Of the first one, if it can be steered.
    pub first: Option<Segment>,
    /// Its transport header contradicts itself; the ports are noted all the same.
    pub broken: Option<Tuple>,
    /// Behind the first.
    pub later: bool,
}

/// What the fragments of a packet have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PieceId {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub proto: u8,
    pub id: u32,
}

/// What an IP header says.
struct Ip {
    src: IpAddr,
    dst: IpAddr,
    proto: u8,
    ttl: u8,
    dscp: u8,
    whole: bool,
    /// Where the transport header begins.
    at: usize,
    /// Bytes from there on by its own account; `None`: it says 0, as super-packets do.
    payload: Option<usize>,
    /// Without options, extension headers and fragments.
    plain: bool,
    /// Identification, and whether it is a later one.
    piece: Option<(u32, bool)>,
}

/// The frame within a tag; `None`: this one has none.
pub fn untagged(frame: &[u8]) -> Option<Vec<u8>> {
    match frame.get(12..14)? {
        [0x81, 0] | [0x88, 0xa8] => Some([&frame[..12], frame.get(16..)?].concat()),
        _ => None,
    }
}

pub fn parse(frame: &[u8]) -> Parsed {
    let Ok(link) = Ethernet2HeaderSlice::from_slice(frame) else { return Parsed::Link(Reason::Malformed) };
    let v4 = match link.ether_type().0 {
        0x0800 => true,
        0x86dd => false,
        0x8100 | 0x88a8 if frame.len() < ETH + 4 => return Parsed::Link(Reason::Malformed),
        _ => return Parsed::Other,
    };
    if frame.len() < ETH + if v4 { 20 } else { 40 } {
        return Parsed::Other;
    }
    // Lengths are judged below: the slices shall find none too short.
    let padded = [&frame[ETH..], &[0; 2048]].concat();
    let ip = match if v4 { ip4(&padded) } else { ip6(&padded, frame.len() - ETH) } {
        Ok(ip) => ip,
        Err(passes) => return passes,
    };
    let there = frame.len().saturating_sub(ip.at);
    let Some((id, later)) = ip.piece else { return whole(&padded, &ip, there) };
    let id = PieceId { src: ip.src, dst: ip.dst, proto: ip.proto, id };
    let mut piece = Piece { id, ttl: ip.ttl, ports: None, first: None, broken: None, later };
    if later {
        return Parsed::Piece(Box::new(piece));
    }
    if there < 4 {
        return Parsed::Other;
    }
    let segment = &padded[ip.at - ETH..];
    piece.ports = Some((port(segment, 0), port(segment, 2)));
    match whole(&padded, &ip, there) {
        Parsed::Segment(s) => piece.first = Some(s),
        Parsed::Short(tuple) => piece.broken = Some(tuple),
        _ => {}
    }
    Parsed::Piece(Box::new(piece))
}

/// The transport header. `there`: bytes of the frame from it on.
fn whole(padded: &[u8], ip: &Ip, there: usize) -> Parsed {
    if there < UDP_HEADER {
        return Parsed::Other;
    }
    let segment = &padded[ip.at - ETH..];
    match if ip.proto == TCP { tcp(segment, ip, there) } else { udp(segment, ip, there) } {
        Some(s) => Parsed::Segment(s),
        None => Parsed::Short(tuple(ip, (port(segment, 0), port(segment, 2)))),
    }
}

fn ip4(bytes: &[u8]) -> Result<Ip, Parsed> {
    let Ok(h) = Ipv4HeaderSlice::from_slice(bytes) else { return Err(Parsed::Broken(Reason::Malformed)) };
    let proto = h.protocol().0;
    if !is_ours(proto) {
        return Err(Parsed::Other);
    }
    let (total, header) = (usize::from(h.total_len()), usize::from(h.ihl()) * 4);
    let offset = h.fragments_offset().value();
    Ok(Ip {
        src: h.source_addr().into(),
        dst: h.destination_addr().into(),
        proto,
        ttl: h.ttl(),
        dscp: h.dcp().value(),
        whole: h.dont_fragment(),
        at: ETH + header,
        plain: header == 20,
        payload: (total != 0).then(|| total.saturating_sub(header)),
        piece: h.is_fragmenting_payload().then(|| (u32::from(h.identification()), offset != 0)),
    })
}

/// `there`: bytes of the frame from the IPv6 header on.
fn ip6(bytes: &[u8], there: usize) -> Result<Ip, Parsed> {
    let Ok(h) = Ipv6HeaderSlice::from_slice(bytes) else { return Err(Parsed::Broken(Reason::Malformed)) };
    let unsupported = || Parsed::Odd(Reason::HeaderUnsupported);
    let (mut proto, mut at, mut piece) = (h.next_header().0, 40, None);
    for n in 0.. {
        if n == 6 {
            return Err(unsupported());
        }
        match proto {
            44 => {
                if at + 8 > there {
                    return Err(unsupported());
                }
                let b = &bytes[at..at + 8];
                let later = u16::from_be_bytes([b[2], b[3]]) >> 3 != 0;
                piece = Some((u32::from_be_bytes([b[4], b[5], b[6], b[7]]), later));
                (proto, at) = (b[0], at + 8);
                if later {
                    break;
                }
            }
            0 | 43 | 60 => {
                if at + 4 > there || (proto == 43 && bytes[at + 3] != 0) {
                    return Err(unsupported());
                }
                (proto, at) = (bytes[at], at + (usize::from(bytes[at + 1]) + 1) * 8);
                if at + ETH > 1500 {
                    return Err(unsupported());
                }
            }
            50 | 51 | 135 | 139 | 140 if n == 0 => return Err(Parsed::Broken(Reason::HeaderUnsupported)),
            50 | 51 | 135 | 139 | 140 => return Err(unsupported()),
            _ => break,
        }
    }
    if !is_ours(proto) {
        return Err(Parsed::Other);
    }
    let payload = usize::from(h.payload_length());
    Ok(Ip {
        src: h.source_addr().into(),
        dst: h.destination_addr().into(),
        proto,
        ttl: h.hop_limit(),
        dscp: h.dscp().value(),
        whole: true,
        at: ETH + at,
        plain: at == 40,
        // An account that ends before the transport header is none that it fits into.
        payload: (payload != 0).then(|| payload.saturating_sub(at - 40)),
        piece,
    })
}

/// `there`: bytes of the frame from the transport header on.
fn tcp(bytes: &[u8], ip: &Ip, there: usize) -> Option<Segment> {
    let h = TcpHeaderSlice::from_slice(bytes).ok()?;
    let header = usize::from(h.data_offset()) * 4;
    let fits = ip.payload.is_none_or(|n| header <= n && n <= there);
    if there < TCP_HEADER || !fits {
        return None;
    }
    let ports = (h.source_port(), h.destination_port());
    let (syn, ack, resets) = (h.syn(), h.ack(), h.rst());
    let says = h.psh() || h.fin();
    let (carries, class) = (ip.payload.is_none_or(|n| n > header), status(bytes.get(header..)));
    Some(Segment { syn, ack, ends: h.fin() || resets, resets, says, carries, class, ..segment(ip, ports) })
}

fn status(text: Option<&[u8]>) -> usize {
    let Some(text) = text.filter(|t| t.len() >= 16).and_then(|t| t.strip_prefix(b"HTTP/1.")) else {
        return 0;
    };
    match text {
        [_, b' ', c @ b'1'..=b'5', ..] => usize::from(c - b'0'),
        _ => 0,
    }
}

fn udp(bytes: &[u8], ip: &Ip, there: usize) -> Option<Segment> {
    let h = UdpHeaderSlice::from_slice(bytes).ok()?;
    // Its own length may be of one segment of many.
    let payload = ip.payload.unwrap_or(0);
    let fits = (UDP_HEADER..=there).contains(&payload) && usize::from(h.length()) >= UDP_HEADER;
    fits.then(|| segment(ip, (h.source_port(), h.destination_port())))
}

fn port(segment: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([segment[at], segment[at + 1]])
}

fn tuple(ip: &Ip, (sport, dport): (u16, u16)) -> Tuple {
    Tuple { src: SocketAddr::new(ip.src, sport), dst: SocketAddr::new(ip.dst, dport), proto: ip.proto }
}

fn segment(ip: &Ip, ports: (u16, u16)) -> Segment {
    Segment {
        tuple: tuple(ip, ports),
        ttl: ip.ttl,
        dscp: ip.dscp,
        whole: ip.whole,
        at: ip.at,
        plain: ip.plain,
        syn: false,
        ack: false,
        ends: false,
        resets: false,
        says: false,
        carries: false,
        class: 0,
    }
}
