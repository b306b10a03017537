//! The address plan of the world, inside 198.18.0.0/15 and fd00:18::/32. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// One link's subnet: 198.18.N.0/24 and fd00:18:N::/64, where the hextet's hex digits read as the decimal N.
#[derive(Debug, Clone, Copy)]
pub(super) struct Net(u8);

pub(super) fn client_net(i: usize) -> Net {
    Net(10 + i as u8)
}

pub(super) fn backend_net(j: usize) -> Net {
    Net(200 + j as u8)
}

/// Service address k: 198.18.100.(100+k).
pub fn vip4(k: usize) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, 100, 100 + k as u8)
}

/// Service address k: fd00:18:100::(100+k).
pub fn vip6(k: usize) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0x18, 0x100, 0, 0, 0, 0, look_alike(100 + k))
}

pub(super) fn host_route(address: &IpAddr) -> String {
    match address {
        IpAddr::V4(a) => format!("{a}/32"),
        IpAddr::V6(a) => format!("{a}/128 nodad"),
    }
}

impl Net {
    pub(super) fn v4(self, host: usize) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.0, host as u8)
    }

    pub(super) fn v6(self, host: usize) -> Ipv6Addr {
        Ipv6Addr::new(0xfd00, 0x18, look_alike(self.0.into()), 0, 0, 0, 0, look_alike(host))
    }
}

/// 123 -> 0x123: the address shows the decimal number. Below 10 000.
fn look_alike(n: usize) -> u16 {
    (n / 1000 % 10 * 0x1000 + n / 100 % 10 * 0x100 + n / 10 % 10 * 0x10 + n % 10) as u16
}
