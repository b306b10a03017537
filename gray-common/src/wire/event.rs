//! What the kernel tells user space: decisions (sampled, rate-limited) and counters.

use super::{Addr, wire};

/// One decision. IPv4 addresses mapped; ports in network order.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// `CLOCK_MONOTONIC`, ns.
    pub at_ns: u64,
    pub epoch: u64,
    pub identity: u64,
    /// All zero where the address is not known yet (connect path).
    pub client: Addr,
    pub service_addr: Addr,
    /// All zero when nothing was rewritten.
    pub instance: Addr,
    pub client_port: u16,
    pub service_port: u16,
    pub instance_port: u16,
    /// Service id (counters), rule id, bucket (0xffff: none took part).
    pub service: u16,
    pub rule: u16,
    pub bucket: u16,
    /// `Reason` code.
    pub reason: u8,
    pub arm: u8,
    pub proto: u8,
    /// `PATH_*`.
    pub path: u8,
}

pub const PATH_PACKET: u8 = 0;
pub const PATH_CONNECT: u8 = 1;

/// Bytes of a client that a [`Missing`] shows.
pub const SAID: usize = 512;

/// A request that names none of the claims that its service looks for. It begins as an event of reason `RequestPlain`, without
/// an instance: whoever knows no more takes it for that.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    pub event: Event,
    /// Bytes that were held and read.
    pub held: u32,
    /// The first of them, so many, are in `said`: as the client sent them. Nobody but the agent sees them.
    pub len: u16,
    /// What the reading came to, of `request::scan`.
    pub read: u8,
    pub _pad: u8,
    pub said: [u8; SAID],
}

/// Per-CPU counters of the requests of one service whose `claims` are read.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestCount {
    /// Decided on, and how many of these named none of the claims.
    pub read: u64,
    pub missing: u64,
}

/// Per-CPU counters of one arm of one service.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArmCount {
    /// New connections (or UDP flows) by path.
    pub packet_flows: u64,
    pub connects: u64,
    /// Packets and bytes towards the instance, and back, on the packet path.
    pub packets: u64,
    pub bytes: u64,
    pub reply_packets: u64,
    pub reply_bytes: u64,
    /// TCP connections that failed: reset by the instance before it said anything else, and later; reset by the client; whose SYN was sent
    /// once more. What an instance does is seen where its replies pass, and at the sockets of callers on this node (`calls`).
    pub refused: u64,
    pub resets: u64,
    pub client_resets: u64,
    pub unanswered: u64,
    /// Of the new connections, those that a route would have sent to gray: see `SERVICE_SHADOW`.
    pub shadowed: u64,
    /// ... and did not, because no agent had renewed its lease: see `SERVICE_LEASE`.
    pub lost: u64,
    /// ... or because of a breaker: see `SERVICE_BREAKER`.
    pub broken: u64,
    /// Of `packet_flows`, those of UDP: none of the failures above is theirs.
    pub udp_flows: u64,
    /// TCP connections by what their instance said first: [0] something else, [1] .. [5] HTTP/1 with a status of this hundred.
    pub answers: [u64; 6],
    /// Segments that callers on this node sent once more.
    pub retransmits: u64,
    /// Of `connects`, those of TCP whose end is counted.
    pub calls: u64,
}

/// Per-CPU state of an event limiter: [`BUDGET_DECISIONS`] or [`BUDGET_MISSING`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventBudget {
    /// Decisions seen, for the sampling.
    pub seen: u64,
    /// Second (jiffies / hz) and events sent in it.
    pub second: u32,
    pub sent: u32,
}

pub const BUDGET_DECISIONS: u32 = 0;
pub const BUDGET_MISSING: u32 = 1;

/// What the clock program reports: how ticks and nanoseconds relate.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    pub jiffies: u64,
    pub ktime_ns: u64,
}

wire!(Event, size 88, {
    at_ns @ 0: u64, epoch @ 8: u64, identity @ 16: u64, client @ 24: Addr, service_addr @ 40: Addr,
    instance @ 56: Addr, client_port @ 72: u16, service_port @ 74: u16, instance_port @ 76: u16,
    service @ 78: u16, rule @ 80: u16, bucket @ 82: u16, reason @ 84: u8, arm @ 85: u8, proto @ 86: u8, path @ 87: u8,
});
wire!(Missing, size 608, {
    event @ 0: Event, held @ 88: u32, len @ 92: u16, read @ 94: u8, _pad @ 95: u8, said @ 96: [u8; 512],
});
wire!(RequestCount, size 16, { read @ 0: u64, missing @ 8: u64 });
wire!(ArmCount, size 176, {
    packet_flows @ 0: u64, connects @ 8: u64, packets @ 16: u64, bytes @ 24: u64, reply_packets @ 32: u64,
    reply_bytes @ 40: u64, refused @ 48: u64, resets @ 56: u64, client_resets @ 64: u64, unanswered @ 72: u64,
    shadowed @ 80: u64, lost @ 88: u64, broken @ 96: u64, udp_flows @ 104: u64, answers @ 112: [u64; 6],
    retransmits @ 160: u64, calls @ 168: u64,
});
wire!(EventBudget, size 16, { seen @ 0: u64, second @ 8: u32, sent @ 12: u32 });
wire!(Clock, size 16, { jiffies @ 0: u64, ktime_ns @ 8: u64 });
