//! The flow table: one entry per direction and connection, holding all that a packet needs.

use super::{Addr, wire};

/// IPv4 tuple as it stands in the packet. Addresses and ports in network order.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowKey4 {
    pub saddr: u32,
    pub daddr: u32,
    pub sport: u16,
    pub dport: u16,
    /// IP protocol number.
    pub proto: u32,
}

/// IPv6 tuple as it stands in the packet. Addresses and ports in network order.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowKey6 {
    pub saddr: Addr,
    pub daddr: Addr,
    pub sport: u16,
    pub dport: u16,
    /// IP protocol number.
    pub proto: u32,
}

/// What both families share: deltas, next hop, accounting.
#[cfg(not(feature = "abi-test"))]
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowState {
    /// Next hop's and our own link address; unset while [`FLOW_UNRESOLVED`].
    pub dmac: [u8; 6],
    pub smac: [u8; 6],
    /// One's complement differences of the rewrite, folded (RFC 1624): IPv4 header including the TTL step; the
    /// transport checksum by address and by port.
    pub l3: u16,
    pub l4_addr: u16,
    pub l4_port: u16,
    /// `FLOW_*` bits.
    pub flags: u16,
    /// Interface the packet leaves by; 0: the stack decides.
    pub ifindex: u32,
    /// Low 32 bits of jiffies at the last packet.
    pub seen: u32,
    /// Largest IP packet of the next hop, bytes; 0: unknown.
    pub mtu: u16,
    /// The rule that decided; 0: default.
    pub rule: u16,
    /// Index into the arm counters: service id * 2 + arm.
    pub counter: u16,
    /// Jiffies / 256 (low 16 bits) when the next hop was looked up.
    pub hop_at: u16,
    /// While it is [`FLOW_TIMED`]: since when its next moment is awaited, units of [`TIME_UNIT_NS`](super::TIME_UNIT_NS).
    pub at: u32,
    /// When its SYN came, units of [`LIFE_UNIT_NS`](super::LIFE_UNIT_NS); 0: nobody saw it.
    pub opened: u32,
}

/// The same in another order, and larger.
#[cfg(feature = "abi-test")]
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowState {
    pub dmac: [u8; 6],
    pub smac: [u8; 6],
    pub flags: u16,
    pub l4_addr: u16,
    pub l4_port: u16,
    pub l3: u16,
    pub seen: u32,
    pub ifindex: u32,
    pub mtu: u16,
    pub rule: u16,
    pub counter: u16,
    pub hop_at: u16,
    pub at: u32,
    pub opened: u32,
    pub fresh: [u32; 2],
}

/// An IPv4 flow: the complete new tuple, then the state.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow4 {
    pub saddr: u32,
    pub daddr: u32,
    pub sport: u16,
    pub dport: u16,
    pub state: FlowState,
}

/// An IPv6 flow: the complete new tuple, then the state.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow6 {
    pub saddr: Addr,
    pub daddr: Addr,
    pub sport: u16,
    pub dport: u16,
    pub state: FlowState,
}

/// Client to service. Without it: the reply direction.
pub const FLOW_FORWARD: u16 = 1;
/// Stable on its own address: nothing is rewritten; the entry keeps the decision, and what its packets are counted under.
pub const FLOW_PASS: u16 = 1 << 1;
/// No next hop yet: look it up with the next packet.
pub const FLOW_UNRESOLVED: u16 = 1 << 2;
/// A TCP segment other than the opening SYN was seen.
pub const FLOW_ESTABLISHED: u16 = 1 << 3;
/// FIN or RST was seen.
pub const FLOW_CLOSING: u16 = 1 << 4;
/// Nothing is rewritten: the entry's addresses are those of the outer header that is put in front. `l4_port` is the source port
/// of GUE, and there is no entry of the reply direction.
pub const FLOW_DSR: u16 = 1 << 5;
/// ... with UDP and GUE.
pub const FLOW_GUE: u16 = 1 << 6;

/// TCP whose numbers are translated: see [`Bound`](super::Bound).
pub const FLOW_SPLICE: u16 = 1 << 7;
/// Its SYN came again, and was counted as unanswered.
pub const FLOW_UNANSWERED: u16 = 1 << 8;
/// A breaker waits for what the instance says first: see [`Trip`](super::Trip).
pub const FLOW_WATCHED: u16 = 1 << 9;
/// ... which opens it again, or closes it.
pub const FLOW_TRIES: u16 = 1 << 10;
/// Which opening of the breaker it tries: the lowest bits of `Trip::opens`. Of one that is watched and does not try: how often its SYN came
/// again, see [`RETRANSMITS_TOLD`](super::RETRANSMITS_TOLD).
pub const FLOW_OPENING: u16 = 7 << 11;
/// Of a client's entry: it has not said anything yet. Of the answers': nor has the instance. See [`Times`](super::Times).
pub const FLOW_TIMED: u16 = 1 << 14;
/// Its tuple is being given to another connection, or to its own's next one: see `maps::flows` of the programs. Never seen for longer.
pub const FLOW_GONE: u16 = 1 << 15;

/// Bits that tell programs which flow tables move from one map to another; not in any map.
pub const MOVING4: u32 = 1;
pub const MOVING6: u32 = 1 << 1;
/// The same, where the other map is of another ABI.
pub const MOVING4_OTHER: u32 = 1 << 2;
pub const MOVING6_OTHER: u32 = 1 << 3;

/// What a socket believes its peer is, and what it really is. IPv4 addresses mapped; ports in network order.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    pub service: Addr,
    pub instance: Addr,
    pub service_port: u16,
    pub instance_port: u16,
    /// Low 32 bits of jiffies at the last use.
    pub seen: u32,
}

/// A connected socket: its peer, and what is counted of it, of TCP alone.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Call {
    pub peer: Peer,
    /// When it dialled, units of `LIFE_UNIT_NS` and of `TIME_UNIT_NS`.
    pub opened: u32,
    pub at: u32,
    /// As `FlowState` has it.
    pub counter: u16,
    /// `CALL_*` bits.
    pub state: u16,
    /// The rule that decided, also of what is no TCP; 0: default.
    pub rule: u16,
    pub _pad: u16,
}

/// What becomes of it is counted.
pub const CALL_COUNTS: u16 = 1;
/// A reset has come for it.
pub const CALL_RESET: u16 = 1 << 1;
/// A breaker waits for what becomes of it.
pub const CALL_WATCHED: u16 = 1 << 2;
/// ... which was open, and was let pass by time: as [`FLOW_OPENING`] says.
pub const CALL_TRIES: u16 = 1 << 3;
/// First words are awaited: see [`SERVICE_MEASURE`](super::SERVICE_MEASURE). The caller has asked; the instance has answered.
pub const CALL_FULL: u16 = 1 << 4;
pub const CALL_ASKED: u16 = 1 << 5;
pub const CALL_ANSWERED: u16 = 1 << 6;
/// A splice listener has it: what becomes of it is the listener's to tell.
pub const CALL_HANDED: u16 = 1 << 7;

impl Call {
    /// Of a probe of health.
    pub const PROBE: Self =
        Self { peer: Peer::PROBE, opened: 0, at: 0, counter: 0, state: 0, rule: 0, _pad: 0 };
}

impl Peer {
    /// Of a probe of health: its socket goes to the instance that it asks about.
    pub const PROBE: Self = Self {
        service: Addr([0; 16]),
        instance: Addr([0; 16]),
        service_port: u16::MAX,
        instance_port: 0,
        seen: 0,
    };

    #[inline(always)]
    pub fn is_probe(&self) -> bool {
        // No instance has port 0.
        self.instance_port == 0 && self.service_port == u16::MAX
    }
}

/// What the SYN of a socket says.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Saying {
    /// As `Claims` have it; 0: none.
    pub identity: u64,
    /// Its number; 0: none.
    pub lane: u16,
    /// `SAYING_*` bits.
    pub state: u16,
    /// `hash::lane_check` of its name.
    pub check: u32,
}

/// That programs are asked for options of this socket's segments is our doing, and ours to end: others may ask, too.
pub const SAYING_ASKED: u16 = 1;
/// A SYN has said it.
pub const SAYING_SAID: u16 = 1 << 1;

impl Saying {
    #[inline(always)]
    pub fn says_nothing(&self) -> bool {
        self.identity | u64::from(self.lane) == 0
    }

    /// Nothing is said any more; what is ours to end stays known.
    #[inline(always)]
    pub fn hush(&mut self) {
        *self = Self { state: self.state & SAYING_ASKED, ..Self::default() };
    }
}

/// The services that one unconnected UDP socket talks to, oldest overwritten first.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UdpPeers {
    pub peers: [Peer; crate::limits::UDP_PEERS],
    pub next: u32,
    pub _pad: u32,
}

wire!(FlowKey4, size 16, { saddr @ 0: u32, daddr @ 4: u32, sport @ 8: u16, dport @ 10: u16, proto @ 12: u32 });
wire!(FlowKey6, size 40, { saddr @ 0: Addr, daddr @ 16: Addr, sport @ 32: u16, dport @ 34: u16, proto @ 36: u32 });
#[cfg(not(feature = "abi-test"))]
wire!(FlowState, size 44, {
    dmac @ 0: [u8; 6], smac @ 6: [u8; 6], l3 @ 12: u16, l4_addr @ 14: u16, l4_port @ 16: u16, flags @ 18: u16,
    ifindex @ 20: u32, seen @ 24: u32, mtu @ 28: u16, rule @ 30: u16, counter @ 32: u16, hop_at @ 34: u16,
    at @ 36: u32, opened @ 40: u32,
});
#[cfg(not(feature = "abi-test"))]
wire!(Flow4, size 56, { saddr @ 0: u32, daddr @ 4: u32, sport @ 8: u16, dport @ 10: u16, state @ 12: FlowState });
#[cfg(not(feature = "abi-test"))]
wire!(Flow6, size 80, { saddr @ 0: Addr, daddr @ 16: Addr, sport @ 32: u16, dport @ 34: u16, state @ 36: FlowState });
#[cfg(feature = "abi-test")]
wire!(FlowState, size 52, {
    dmac @ 0: [u8; 6], smac @ 6: [u8; 6], flags @ 12: u16, l4_addr @ 14: u16, l4_port @ 16: u16, l3 @ 18: u16,
    seen @ 20: u32, ifindex @ 24: u32, mtu @ 28: u16, rule @ 30: u16, counter @ 32: u16, hop_at @ 34: u16,
    at @ 36: u32, opened @ 40: u32, fresh @ 44: [u32; 2],
});
#[cfg(feature = "abi-test")]
wire!(Flow4, size 64, { saddr @ 0: u32, daddr @ 4: u32, sport @ 8: u16, dport @ 10: u16, state @ 12: FlowState });
#[cfg(feature = "abi-test")]
wire!(Flow6, size 88, { saddr @ 0: Addr, daddr @ 16: Addr, sport @ 32: u16, dport @ 34: u16, state @ 36: FlowState });
wire!(Peer, size 40, {
    service @ 0: Addr, instance @ 16: Addr, service_port @ 32: u16, instance_port @ 34: u16, seen @ 36: u32,
});
wire!(Call, size 56, {
    peer @ 0: Peer, opened @ 40: u32, at @ 44: u32, counter @ 48: u16, state @ 50: u16, rule @ 52: u16, _pad @ 54: u16,
});
wire!(Saying, size 16, { identity @ 0: u64, lane @ 8: u16, state @ 10: u16, check @ 12: u32 });
wire!(UdpPeers, size 328, { peers @ 0: [Peer; 8], next @ 320: u32, _pad @ 324: u32 });
