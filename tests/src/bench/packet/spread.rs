//! Frames of one kind from many clients: a template whose client address and port are set for each run, with checksums
//! computed in full.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::packets::{
    frame::{ETH, Packet, TCP},
    sum,
};

/// The clients: so many addresses from the first on, then the next port.
#[derive(Debug, Clone, Copy)]
pub struct Clients {
    pub first: IpAddr,
    pub hosts: u32,
}

/// Clients are on ports from here on.
const FIRST_PORT: u16 = 1024;

impl Clients {
    pub fn at(&self, n: u32) -> SocketAddr {
        let (host, port) = (n % self.hosts, FIRST_PORT + (n / self.hosts) as u16);
        let ip = match self.first {
            IpAddr::V4(a) => Ipv4Addr::from_bits(a.to_bits() + host).into(),
            IpAddr::V6(a) => Ipv6Addr::from_bits(a.to_bits() + u128::from(host)).into(),
        };
        SocketAddr::new(ip, port)
    }

    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let all = *self;
        (0..self.hosts).map(move |n| all.at(n).ip())
    }
}

/// Whose place the client takes in the template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Source,
    Destination,
}

#[derive(Debug, Clone)]
pub struct Spread {
    template: Packet,
    clients: Clients,
    end: End,
    frame: Vec<u8>,
}

impl Spread {
    pub fn new(template: Packet, clients: Clients, end: End) -> Self {
        let mut spread = Self { frame: Vec::new(), template, clients, end };
        spread.frame = spread.packet(0).frame();
        spread
    }

    /// The packet of a client, spelled out.
    pub fn packet(&self, n: u32) -> Packet {
        let client = self.clients.at(n);
        let p = self.template.clone();
        if self.end == End::Source { Packet { src: client, ..p } } else { Packet { dst: client, ..p } }
    }

    /// Its frame, made of the last one.
    pub fn lay(&mut self, n: u32) -> &[u8] {
        let client = self.clients.at(n);
        let (f, proto) = (&mut self.frame, self.template.proto);
        let (length, ip) = if client.is_ipv4() { (4, ETH + 12) } else { (16, ETH + 8) };
        let l4 = ip + 2 * length;
        let second = usize::from(self.end == End::Destination);
        let (at, port) = (ip + second * length, l4 + second * 2);
        match client.ip() {
            IpAddr::V4(a) => f[at..at + 4].copy_from_slice(&a.octets()),
            IpAddr::V6(a) => f[at..at + 16].copy_from_slice(&a.octets()),
        }
        f[port..port + 2].copy_from_slice(&client.port().to_be_bytes());
        if client.is_ipv4() {
            f[ETH + 10..ETH + 12].fill(0);
            let check = sum::header(&f[ETH..ETH + 20]);
            f[ETH + 10..ETH + 12].copy_from_slice(&check.to_be_bytes());
        }
        let check = l4 + if proto == TCP { 16 } else { 6 };
        f[check..check + 2].fill(0);
        let sum = sum::transport(&f[ip..l4], proto, &f[l4..]);
        f[check..check + 2].copy_from_slice(&sum.to_be_bytes());
        &self.frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packets::land::{LANDS, SHOP};

    #[test]
    fn a_laid_frame_is_the_packet_spelled_out() {
        for land in LANDS {
            let clients = Clients { first: land.plain(0).ip(), hosts: 7 };
            for end in [End::Source, End::Destination] {
                let mut spread = Spread::new(land.open(land.plain(1), land.vip(SHOP)), clients, end);
                for n in [0, 1, 6, 7, 700, 3, 0] {
                    assert_eq!(spread.packet(n).frame(), spread.lay(n), "{land:?} {end:?} {n}");
                }
            }
        }
    }
}
