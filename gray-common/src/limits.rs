//! The sizes of everything that is fixed. Validation refuses a document that does not fit and names the limit.

/// Buckets of a percentage: one is 0.01 %.
pub const BUCKETS: u16 = 10_000;
/// Services in one policy.
pub const SERVICES: u32 = 1024;
/// Listeners (service addresses) over all services.
pub const LISTENERS: u32 = 8192;
/// Rules over all services, per bank.
pub const RULES: u32 = 16_384;
/// Rules that one service may have: the bound of the kernel's scan.
pub const RULES_PER_SERVICE: u32 = 64;
/// Facts (list memberships and percentages) over all services, per bank.
pub const FACTS: u32 = 16_384;
/// Different facts that one service's rules may ask for: the bits of a word.
pub const FACTS_PER_SERVICE: u32 = 64;
/// Explicit lists: the bits of a class, without the two that say which switches a listener has.
pub const LISTS: u32 = 254;
/// Distinct sets of lists that clients can be on.
pub const CLASSES: u32 = 65_536;
/// Identities (exact list entries).
pub const IDENTITIES: u32 = 1_250_000;
/// Address prefixes.
pub const PREFIXES: u32 = 1_050_000;
/// IPv4 networks of 16 bits.
pub const NETS: u32 = 65_536;
/// Words of their blocks: two changes of class for each prefix, a count and a first class for each network, and the blocks of
/// the policy before.
pub const BOUNDS: u32 = 4_500_000;
/// Weighted routes, per bank.
pub const WEIGHTED: u32 = 256;
/// Arms of one weighted route.
pub const ARMS: usize = 8;
/// Lanes in one policy.
pub const LANES: u32 = 1024;
/// Lanes that a fleet ever had, 0 included, which is none: their numbers are never given to another one.
pub const LANE_NUMBERS: u32 = 65_536;
/// Subsets over all services, per bank.
pub const SUBSETS: u32 = 8192;
/// Instances over all services.
pub const INSTANCES: u32 = 262_144;
/// Words of the arena of Maglev tables, 4 bytes each, shared by both banks.
pub const ARENA: u32 = 1 << 23;
/// Kinds of claims, 0 included, which is none.
pub const CLAIMS: usize = 16;
/// Different beginnings of values that one service's wildcards ask for: of how many bytes, of which claim.
pub const BEGINNINGS: usize = 8;
/// Claims that make an identity, per service.
pub const IDENTIFY: usize = 4;
/// Workloads on one node (labelled cgroups).
pub const WORKLOADS: u32 = 16_384;
/// Cgroup levels looked at for a label, from the caller's own upwards.
pub const CGROUP_LEVELS: i32 = 12;
/// Flow entries per address family when nothing else is configured (two per connection).
pub const FLOWS: u32 = 131_072;
/// Flow entries per address family of connections that open during a flood.
pub const OPENING: u32 = 65_536;
/// A flood opens more connections than the flow table has room for in so long, seconds.
pub const FLOOD_S: u32 = 2;
/// Flow entries of connections that opened during a flood are looked for so long after its end, timer ticks: an hour at
/// CONFIG_HZ=1000.
pub const FLOOD_MEMORY: u64 = 3_600_000;
/// Connections whose numbers are translated, when nothing else is configured: as many as a flow table has room for.
pub const SPLICES: u32 = FLOWS / 2;
/// However small the flow tables are, and however large: they are allocated whole, 60 MB.
pub const SPLICES_LEAST: u32 = 1024;
pub const SPLICES_MOST: u32 = 1 << 18;
/// Prefixes of load balancers whose PROXY headers one service believes.
pub const PROXIES: usize = 8;
/// Instances that `n-d-*` headers may tell apart by id, version and region, over all services, per bank.
pub const METADATA: u32 = 16_384;
/// Connections with a tag whose first bytes are read, or choose again and again.
pub const TAGGED: u32 = FRAMES;
/// Sockets of local callers whose connections a splice listener has.
pub const CALLERS: u32 = 16_384;
/// Connections that have said nothing, or not enough.
pub const WAITING: u32 = 16_384;
/// Connections that speak and that nobody knows. Each CPU keeps 128 places of such a table for itself (before Linux 6.16): enough for 256.
pub const STRANGERS: u32 = 32_768;
/// Of which the first bytes are held; a power of two, at most 65 536.
pub const HELD: u32 = 2048;
/// Places that a connection may have there. Where others have all of them, it takes that of whoever has had its own the longest.
pub const HELD_TRIES: u32 = 8;
/// Connections whose every request chooses; what is older keeps its instance.
pub const FRAMES: u32 = 16_384;
/// SYNs with a lane whose sockets are still to come, on nodes where a workload has a link.
pub const ARRIVALS: u32 = 16_384;
/// SYNs that were sent on with a lane, and may come again.
pub const STAMPS: u32 = 16_384;
/// Threads of workloads with a link that are remembered; what one more calls is stable.
pub const THREADS: u32 = 65_536;
/// Cgroups of which it is remembered whether their workload has a link.
pub const LINK_MODES: u32 = 8192;
/// Bytes of the event ring.
pub const EVENT_RING: u32 = 1 << 20;
/// Bits of the filter in front of the packet path.
pub const FILTER_BITS: u32 = 65_536;
/// UDP services that one unconnected socket can talk to and still see their addresses in replies.
pub const UDP_PEERS: usize = 8;
/// A UDP flow idle for longer is decided anew, seconds.
pub const UDP_IDLE_S: u32 = 60;
/// A SYN for an entry that saw nothing else is a retransmission for so long after the last one, seconds; then it is
/// decided anew, which gives the same answer while the policy stands.
pub const TCP_OPENING_S: u32 = 2;
/// A TCP flow whose end was seen is forgotten after this, seconds (two maximum segment life times).
pub const TCP_CLOSING_S: u32 = 60;
/// A tuple whose connection has ended is given to another client's after this, seconds: the last acknowledgement still comes by it, also
/// when it was lost once (RFC 6298: a second at most for a first retransmission).
pub const TCP_ENDING_S: u32 = 1;
/// A TCP flow that was silent for longer in both directions has no ends any more, seconds (RFC 5382: two hours and four minutes).
pub const TCP_IDLE_S: u32 = 7440;
/// The next hop of a flow is looked up again after this, seconds; and whether its neighbour is still there.
pub const NEXT_HOP_S: u32 = 4;
/// Places for interfaces that XDP may send to; a power of two.
pub const XDP_OUT_SLOTS: u32 = 256;
/// Ports that are tried for a client that cannot have its own: with nine of ten taken, one of thirty finds none.
pub const PORT_TRIES: u32 = 32;
/// Where its own is taken: 4 096 from here on, above those that Linux gives to sockets by itself.
pub const OTHER_PORTS: u16 = 61_440;
/// The node's ports that stand in for clients' with `nat: snat`: 16 384 from here on, below those that Linux gives to sockets
/// by itself.
pub const SNAT_PORTS: u16 = 16_384;
/// Prefixes whose encapsulated packets an agent opens.
pub const DSR_FROM: usize = 8;
/// Packets of which fragments are on their way.
pub const FRAGMENTS: u32 = 16_384;
/// Fragments of one packet find each other for this long, seconds (Linux' receivers wait 30).
pub const FRAGMENT_S: u32 = 30;
