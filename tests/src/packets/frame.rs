//! Frames by hand: Ethernet, IPv4 or IPv6, TCP or UDP, with checksums computed in full. It knows nothing of gray.

use std::net::{IpAddr, SocketAddr};

use super::sum;

/// Bytes of the Ethernet header.
pub const ETH: usize = 14;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const PSH: u8 = 0x08;
pub const ACK: u8 = 0x10;

/// A well-formed packet; [`Packet::frame`] spells it out.
#[derive(Clone, Debug)]
pub struct Packet {
    pub dmac: [u8; 6],
    pub smac: [u8; 6],
    pub src: SocketAddr,
    pub dst: SocketAddr,
    /// IP protocol number: [`TCP`] or [`UDP`].
    pub proto: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Type of service or traffic class.
    pub tos: u8,
    pub tcp_flags: u8,
    /// TCP: sequence and acknowledgement number.
    pub numbers: [u32; 2],
    /// Identification of the IPv4 header.
    pub id: u16,
    /// Flags and offset of the IPv4 header; 0x4000 is "don't fragment".
    pub frag: u16,
    /// VLAN tags in the frame, the outermost first: ethertype and control information.
    pub tags: Vec<(u16, u16)>,
    /// IPv4, of a length that is a multiple of 4.
    pub ip_options: Vec<u8>,
    /// IPv6: the number of the first extension header, and all of them.
    pub extensions: Option<(u8, Vec<u8>)>,
    /// A later fragment: the payload has no transport header before it.
    pub middle: bool,
    /// Of a length that is a multiple of 4.
    pub tcp_options: Vec<u8>,
    pub payload: Vec<u8>,
    /// UDP with checksum 0.
    pub no_check: bool,
    /// Another total length (IPv4) or payload length (IPv6) than the true one.
    pub ip_length: Option<u16>,
    /// UDP: another length than the true one.
    pub udp_length: Option<u16>,
    /// Bytes after the packet.
    pub trailer: Vec<u8>,
}

impl Packet {
    pub fn new(proto: u8, src: SocketAddr, dst: SocketAddr) -> Self {
        Self {
            dmac: [2, 0, 0, 0, 0, 1],
            smac: [2, 0, 0, 0, 0, 2],
            src,
            dst,
            proto,
            ttl: 64,
            tos: 0,
            tcp_flags: SYN,
            numbers: [0x0102_0304, 0x0506_0708],
            id: 0x1234,
            frag: 0x4000,
            tags: Vec::new(),
            ip_options: Vec::new(),
            extensions: None,
            middle: false,
            tcp_options: Vec::new(),
            payload: b"forty bytes of payload, more or less ...".to_vec(),
            no_check: false,
            ip_length: None,
            udp_length: None,
            trailer: Vec::new(),
        }
    }

    pub fn flags(mut self, tcp_flags: u8) -> Self {
        self.tcp_flags = tcp_flags;
        self
    }

    pub fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = ttl;
        self
    }

    pub fn tos(mut self, tos: u8) -> Self {
        self.tos = tos;
        self
    }

    pub fn payload(mut self, payload: impl Into<Vec<u8>>) -> Self {
        self.payload = payload.into();
        self
    }

    /// The packet that must come out of a rewrite: other addresses, one hop further.
    pub fn rewritten(&self, src: SocketAddr, dst: SocketAddr) -> Self {
        Self { src, dst, ttl: self.ttl - 1, ..self.clone() }
    }

    /// The answer of whoever is at `from` to the sender.
    pub fn answer(&self, from: SocketAddr, tcp_flags: u8) -> Self {
        Self { src: from, dst: self.src, tcp_flags, ..self.clone() }
    }

    pub fn frame(&self) -> Vec<u8> {
        let segment = self.segment();
        let ip = match (self.src.ip(), self.dst.ip()) {
            (IpAddr::V4(s), IpAddr::V4(d)) => self.v4(&s.octets(), &d.octets(), segment),
            (IpAddr::V6(s), IpAddr::V6(d)) => self.v6(&s.octets(), &d.octets(), segment),
            _ => panic!("one packet, two families: {self:?}"),
        };
        let kind: [u8; 2] = if self.src.is_ipv4() { [0x08, 0x00] } else { [0x86, 0xdd] };
        let tags = self.tags.iter().flat_map(|(kind, tci)| [kind.to_be_bytes(), tci.to_be_bytes()].concat());
        let tags: Vec<u8> = tags.collect();
        [&self.dmac[..], &self.smac[..], &tags, &kind, &ip, &self.trailer].concat()
    }

    fn v4(&self, src: &[u8; 4], dst: &[u8; 4], mut segment: Vec<u8>) -> Vec<u8> {
        let header = 20 + self.ip_options.len();
        let mut ip = vec![0x40 | (header / 4) as u8, self.tos];
        ip.extend(self.ip_length.unwrap_or((header + segment.len()) as u16).to_be_bytes());
        ip.extend(self.id.to_be_bytes());
        ip.extend(self.frag.to_be_bytes());
        ip.extend([self.ttl, self.proto, 0, 0]);
        ip.extend(src);
        ip.extend(dst);
        ip.extend(&self.ip_options);
        let check = sum::header(&ip);
        ip[10..12].copy_from_slice(&check.to_be_bytes());
        self.check(&ip[12..20], &mut segment);
        ip.extend(segment);
        ip
    }

    fn v6(&self, src: &[u8; 16], dst: &[u8; 16], mut segment: Vec<u8>) -> Vec<u8> {
        let mut ip = vec![0x60 | self.tos >> 4, self.tos << 4, 0, 0];
        let (next, extensions) = self.extensions.clone().unwrap_or((self.proto, Vec::new()));
        let length = (extensions.len() + segment.len()) as u16;
        ip.extend(self.ip_length.unwrap_or(length).to_be_bytes());
        ip.extend([next, self.ttl]);
        ip.extend(src);
        ip.extend(dst);
        self.check(&ip[8..40], &mut segment);
        ip.extend(extensions);
        ip.extend(segment);
        ip
    }

    /// The transport header and payload, checksum 0.
    fn segment(&self) -> Vec<u8> {
        if self.middle {
            return self.payload.clone();
        }
        let mut s = Vec::new();
        s.extend(self.src.port().to_be_bytes());
        s.extend(self.dst.port().to_be_bytes());
        if self.proto == TCP {
            s.extend(self.numbers.map(u32::to_be_bytes).concat());
            s.extend([
                (((20 + self.tcp_options.len()) / 4) << 4) as u8,
                self.tcp_flags,
                0xfa,
                0xf0,
                0,
                0,
                0,
                0,
            ]);
            s.extend(&self.tcp_options);
        } else {
            s.extend(self.udp_length.unwrap_or((8 + self.payload.len()) as u16).to_be_bytes());
            s.extend([0, 0]);
        }
        s.extend(&self.payload);
        s
    }

    fn check(&self, addresses: &[u8], segment: &mut [u8]) {
        if self.middle || self.proto == UDP && self.no_check {
            return;
        }
        let check = sum::transport(addresses, self.proto, segment).to_be_bytes();
        let at = if self.proto == TCP { 16 } else { 6 };
        segment[at..at + 2].copy_from_slice(&check);
    }
}
