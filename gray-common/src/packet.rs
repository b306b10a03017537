//! Header facts that both targets need. Offsets are bytes from the start of the Ethernet frame.

use crate::limits::{OTHER_PORTS, SNAT_PORTS};

pub const ETH_LEN: usize = 14;
pub const ETH_TYPE: usize = 12;
/// Ethertypes as they stand in memory on a little-endian load.
pub const ETH_IPV4: u16 = 0x0800u16.to_be();
pub const ETH_IPV6: u16 = 0x86ddu16.to_be();
pub const ETH_8021Q: u16 = 0x8100u16.to_be();
pub const ETH_8021AD: u16 = 0x88a8u16.to_be();

pub const ICMP: u8 = 1;
pub const ICMPV6: u8 = 58;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
/// An IPv4 and an IPv6 packet as payload (RFC 2003, RFC 2473).
pub const IPIP: u8 = 4;
pub const IPV6: u8 = 41;
/// Generic UDP encapsulation (draft-ietf-intarea-gue, Linux' `fou`), in network order.
pub const GUE_PORT: u16 = 6080u16.to_be();
/// Of its header of version 0 without options: flags, and the protocol of what follows.
pub const GUE_LEN: usize = 4;
/// Multipath TCP as a socket protocol (Linux); TCP on the wire.
pub const MPTCP: u32 = 262;

/// More-fragments flag and fragment offset of the IPv4 header, in memory order: any set bit makes a fragment.
pub const V4_FRAGMENT: u16 = 0x3fffu16.to_be();
/// The fragment offset alone: 0 in a whole packet and in a first fragment.
pub const V4_OFFSET: u16 = 0x1fffu16.to_be();
/// Don't fragment.
pub const V4_DF: u16 = 0x4000u16.to_be();

pub const TCP_FIN: u8 = 0x01;
pub const TCP_SYN: u8 = 0x02;
pub const TCP_RST: u8 = 0x04;
pub const TCP_PSH: u8 = 0x08;
pub const TCP_ACK: u8 = 0x10;

/// The opening segment of a connection: SYN without ACK.
#[inline(always)]
pub const fn opens(flags: u8) -> bool {
    flags & (TCP_SYN | TCP_ACK) == TCP_SYN
}

/// The i-th port to try for a client whose own one is taken (network order): 61 440 to 65 535, in an order of the
/// connection's own.
#[inline(always)]
pub fn other_client_port(seed: u64, i: u32) -> u16 {
    port_tried(OTHER_PORTS, !OTHER_PORTS, seed, i)
}

/// The same for a client behind the node's address: 16 384 to 32 767.
#[inline(always)]
pub fn snat_port(seed: u64, i: u32) -> u16 {
    port_tried(SNAT_PORTS, SNAT_PORTS - 1, seed, i)
}

/// The source port of GUE (network order), by the connection: what spreads packets by it keeps each one's in order.
#[inline(always)]
pub fn gue_port(seed: u64) -> u16 {
    (0xc000 | (seed >> 32) as u16 & 0x3fff).to_be()
}

/// `first` has no bit of `mask`. The step is odd, so that no port comes twice before all have; and each connection's own, so that
/// ports that are taken stand in nobody's way together (double hashing).
#[inline(always)]
fn port_tried(first: u16, mask: u16, seed: u64, i: u32) -> u16 {
    let step = (seed >> 32) as u32 | 1;
    let at = (seed as u32).wrapping_add(i.wrapping_mul(step)) as u16;
    (first | at & mask).to_be()
}
