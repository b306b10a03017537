//! ICMP and ICMPv6 errors by hand, with checksums computed in full.

use std::net::IpAddr;

use super::{
    frame::{ETH, Packet},
    sum,
};

/// An error about a packet.
#[derive(Clone, Debug)]
pub struct IcmpError {
    pub dmac: [u8; 6],
    pub smac: [u8; 6],
    pub from: IpAddr,
    pub to: IpAddr,
    pub ttl: u8,
    pub tos: u8,
    pub kind: u8,
    pub code: u8,
    /// The four bytes after the checksum: the MTU, in some.
    pub rest: u32,
    /// The packet it is about, from its IP header on.
    pub quoted: Vec<u8>,
}

/// "Fragmentation needed" or "packet too big".
pub fn too_big(v6: bool) -> (u8, u8) {
    if v6 { (2, 0) } else { (3, 4) }
}

/// The answer to a frame that is larger than `mtu`, as a frame.
pub fn answer_too_big(frame: &[u8], mtu: u32) -> Vec<u8> {
    let v6 = frame[ETH] >> 4 == 6;
    let (at, len, head) = if v6 { (ETH + 8, 16, 40) } else { (ETH + 12, 4, 20) };
    let address = |at: usize| -> IpAddr {
        let bytes = &frame[at..at + len];
        if v6 {
            <[u8; 16]>::try_from(bytes).unwrap().into()
        } else {
            <[u8; 4]>::try_from(bytes).unwrap().into()
        }
    };
    let (kind, code) = too_big(v6);
    IcmpError {
        dmac: frame[6..12].try_into().unwrap(),
        smac: frame[..6].try_into().unwrap(),
        from: address(at + len),
        to: address(at),
        ttl: 64,
        tos: if v6 { 0 } else { 0xc0 },
        kind,
        code,
        rest: mtu,
        quoted: frame[ETH..ETH + head + 20].to_vec(),
    }
    .frame()
}

impl IcmpError {
    /// From a router or host at `from` to the sender of `about`, quoting its IP header and `l4` bytes.
    pub fn about(about: &Packet, from: IpAddr, (kind, code): (u8, u8), rest: u32, l4: usize) -> Self {
        let head = if from.is_ipv6() { 40 } else { 20 };
        let quoted = about.frame()[ETH..ETH + head + l4].to_vec();
        let (dmac, smac, to) = (about.dmac, about.smac, about.src.ip());
        Self { dmac, smac, from, to, ttl: 60, tos: 0, kind, code, rest, quoted }
    }

    pub fn frame(&self) -> Vec<u8> {
        let mut icmp = vec![self.kind, self.code, 0, 0];
        icmp.extend(self.rest.to_be_bytes());
        icmp.extend(&self.quoted);
        let mut ip = match (self.from, self.to) {
            (IpAddr::V4(s), IpAddr::V4(d)) => {
                let check = sum::header(&icmp);
                icmp[2..4].copy_from_slice(&check.to_be_bytes());
                let mut ip = vec![0x45, self.tos];
                ip.extend((20 + icmp.len() as u16).to_be_bytes());
                ip.extend([0, 0, 0x40, 0, self.ttl, 1, 0, 0]);
                ip.extend(s.octets());
                ip.extend(d.octets());
                let check = sum::header(&ip);
                ip[10..12].copy_from_slice(&check.to_be_bytes());
                ip
            }
            (IpAddr::V6(s), IpAddr::V6(d)) => {
                let addresses = [s.octets(), d.octets()].concat();
                let check = sum::transport(&addresses, 58, &icmp);
                icmp[2..4].copy_from_slice(&check.to_be_bytes());
                let mut ip = vec![0x60 | self.tos >> 4, self.tos << 4, 0, 0];
                ip.extend((icmp.len() as u16).to_be_bytes());
                ip.extend([58, self.ttl]);
                ip.extend(addresses);
                ip
            }
            _ => panic!("one error, two families: {self:?}"),
        };
        let kind: [u8; 2] = if self.from.is_ipv4() { [0x08, 0x00] } else { [0x86, 0xdd] };
        ip.extend(icmp);
        [&self.dmac[..], &self.smac[..], &kind[..], &ip[..]].concat()
    }
}
