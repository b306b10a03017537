//! Percentages: an identity owns one of 10 000 buckets per salt, and a percentage is one comparison with it.

use crate::{hash::mix, limits::BUCKETS, wire::Addr};

/// The bucket of an identity under a salt, 0..10 000. Stateless, the same on each node and after each restart.
#[inline(always)]
pub fn bucket(identity: u64, salt: u64) -> u16 {
    (mix(identity ^ salt) % BUCKETS as u64) as u16
}

/// Whether an identity is in the first `basis_points` buckets: 0 nobody, 10 000 everybody, and growing moves nobody out.
#[inline(always)]
pub fn in_percent(identity: u64, salt: u64, basis_points: u32) -> bool {
    u32::from(bucket(identity, salt)) < basis_points
}

/// What a connection of the packet path is spread by: the same for every packet, so that a lost flow entry is decided
/// to the same instance. Ports in network order.
#[inline(always)]
pub fn flow_seed(secret: u64, saddr: &Addr, daddr: &Addr, sport: u16, dport: u16, proto: u8) -> u64 {
    let s = saddr.words();
    let d = daddr.words();
    let ports = u64::from(sport) | u64::from(dport) << 16 | u64::from(proto) << 32;
    mix(mix(secret ^ s[0] ^ s[1].rotate_left(21)) ^ d[0].rotate_left(7) ^ d[1] ^ ports)
}
