//! What the generator lays and the sink expects: the same file is a module of the lab's programs and of its user space.

/// Bytes of Ethernet, IPv4 and TCP header.
pub const HEADERS: usize = 54;
/// Bytes of a frame that the sink keeps.
pub const KEPT: usize = 96;

/// Written by user space before a run. Words as they stand in memory, addresses and ports in network order.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct FramePlan {
    /// Headers of the packet of client address 0.0.0.0 and port 0, checksums zero.
    pub headers: [u8; 56],
    /// Sums (RFC 1071, not folded below 16 bits) of what the two checksums cover, without the client.
    pub ip_sum: u32,
    pub tcp_sum: u32,
    /// First client address, host order; addresses follow it.
    pub first: u32,
    /// Client addresses, and flows in all, less one: both powers of two.
    pub hosts_mask: u32,
    pub hosts_shift: u32,
    pub flows_mask: u32,
    pub stride: u32,
    /// Of the next frame.
    pub next: u32,
    /// Where the sink's frames must be going.
    pub daddr: u32,
    pub dport: u32,
    /// Interface that the bare redirect sends to.
    pub redirect: u32,
    pub pad: u32,
}

/// What the sink saw.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Arrived {
    /// TCP over IPv4 to where it must go, and to elsewhere.
    pub right: u64,
    pub wrong: u64,
    /// The last right frame of every 1024.
    pub kept: [u8; KEPT],
}
