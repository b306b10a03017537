//! Segments of this node's own making, in the name of one end of a connection, that make the other end speak. Pure.

use std::net::{IpAddr, SocketAddr};

use gray_common::packet::TCP_ACK;

/// A bare acknowledgement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ack {
    pub seq: u32,
    pub ack: u32,
    pub window: u16,
    /// Value and echo of its timestamp.
    pub time: Option<(u32, u32)>,
}

/// As an Ethernet frame, whose addresses are for others to fill in. Both ends are of one family, else of the sender's.
pub fn frame(from: SocketAddr, to: SocketAddr, s: Ack) -> Vec<u8> {
    let mut tcp = Vec::with_capacity(32);
    tcp.extend(from.port().to_be_bytes());
    tcp.extend(to.port().to_be_bytes());
    tcp.extend(s.seq.to_be_bytes());
    tcp.extend(s.ack.to_be_bytes());
    let words: u8 = if s.time.is_some() { 8 } else { 5 };
    tcp.extend([words << 4, TCP_ACK]);
    tcp.extend(s.window.to_be_bytes());
    tcp.extend([0; 4]);
    if let Some((value, echo)) = s.time {
        // RFC 7323, appendix A.
        tcp.extend([1, 1, 8, 10]);
        tcp.extend(value.to_be_bytes());
        tcp.extend(echo.to_be_bytes());
    }
    let mut out = vec![0; 12];
    match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let (from, to) = (from.octets(), to.octets());
            check(&mut tcp, &[from, to].concat());
            out.extend([0x08, 0x00]);
            let mut ip = vec![0x45, 0];
            ip.extend(((20 + tcp.len()) as u16).to_be_bytes());
            ip.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
            ip.extend(from);
            ip.extend(to);
            let sum = !sum(&ip);
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
            out.extend(ip);
        }
        (from, to) => {
            let v6 = |a: IpAddr| match a {
                IpAddr::V4(a) => a.to_ipv6_mapped().octets(),
                IpAddr::V6(a) => a.octets(),
            };
            let (from, to) = (v6(from), v6(to));
            check(&mut tcp, &[from, to].concat());
            out.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            out.extend((tcp.len() as u16).to_be_bytes());
            out.extend([6, 64]);
            out.extend(from);
            out.extend(to);
        }
    }
    out.extend(tcp);
    out
}

fn check(tcp: &mut [u8], addresses: &[u8]) {
    let mut pseudo = addresses.to_vec();
    pseudo.extend((tcp.len() as u32).to_be_bytes());
    pseudo.extend([0, 0, 0, 6]);
    pseudo.extend(&*tcp);
    let sum = !sum(&pseudo);
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
}

/// The one's complement sum of an even number of bytes (RFC 1071).
fn sum(bytes: &[u8]) -> u16 {
    let mut all: u32 = bytes.chunks_exact(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
    while all > 0xffff {
        all = (all & 0xffff) + (all >> 16);
    }
    all as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_a_whole_acknowledgement() {
        for (from, to, ip) in
            [("198.18.0.1:80", "198.18.0.2:4000", 34), ("[fd00:18::1]:80", "[fd00:18::2]:4000", 54)]
        {
            for time in [None, Some((7, 9))] {
                let ack = Ack { seq: 0x0102_0304, ack: 0x0506_0708, window: 500, time };
                let f = frame(from.parse().unwrap(), to.parse().unwrap(), ack);
                assert_eq!(f.len(), ip + if time.is_some() { 32 } else { 20 });
                assert_eq!(f[ip..ip + 12], [0, 80, 15, 160, 1, 2, 3, 4, 5, 6, 7, 8]);
                assert_eq!((f[ip + 13], &f[ip + 14..ip + 16]), (TCP_ACK, &500u16.to_be_bytes()[..]));
                // Sums that are right add up to all ones.
                let tcp = &f[ip..];
                let addresses = if ip == 34 { &f[26..34] } else { &f[22..54] };
                let mut pseudo = [addresses, &(tcp.len() as u32).to_be_bytes(), &[0, 0, 0, 6]].concat();
                pseudo.extend(tcp);
                assert_eq!(sum(&pseudo), 0xffff);
                if ip == 34 {
                    assert_eq!(
                        (sum(&f[14..34]), f[16..18].to_vec()),
                        (0xffff, vec![0, (f.len() - 14) as u8])
                    );
                } else {
                    assert_eq!(f[18..20], [0, (f.len() - 54) as u8]);
                }
            }
        }
    }
}
