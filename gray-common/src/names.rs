//! Names and shapes of maps and programs: what the data path declares, the loader checks and the pins are called.

use crate::{
    filter::Filter,
    limits,
    reason::REASON_SLOTS,
    request::{cookie::Tuple, frame::Frames, pending},
    wire::{
        ArmCount, Bound, Call, Caller, Class, Clock, Control, EventBudget, Fact, Flow4, Flow6, FlowKey4,
        FlowKey6, Further, Held, Instance, LinkCount, Linked, ListenCount, ListenerKey, Listening, Metadata,
        PrefixKey, Reading, RequestCount, Rule, Saying, Service, Subset, SynKey, Tagged, Thread, Times, Trip,
        UdpPeers, Versioned, Weighted, Workload,
    },
};

/// Map types, as the kernel numbers them.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapKind {
    Hash = 1,
    Array = 2,
    PerCpuHash = 5,
    PerCpuArray = 6,
    LruHash = 9,
    LpmTrie = 11,
    SkStorage = 24,
    RingBuf = 27,
}

/// One map: its name (also its pin) and shape. Sizes in bytes.
#[derive(Clone, Copy, Debug)]
pub struct MapSpec {
    pub name: &'static str,
    pub kind: MapKind,
    pub key: u32,
    pub value: u32,
    pub entries: u32,
}

macro_rules! maps {
    ($($name:ident: $kind:ident, $key:ty => $value:ty, $entries:expr;)+) => {
        $(pub const $name: &str = stringify!($name);)+
        /// Every pinned map.
        pub const MAPS: &[MapSpec] = &[$(MapSpec {
            name: stringify!($name), kind: MapKind::$kind, key: size_of::<$key>() as u32,
            value: size_of::<$value>() as u32, entries: $entries,
        },)+];
    };
}

maps! {
    CONTROL: Array, u32 => Control, 1;
    LISTENERS: Hash, ListenerKey => Versioned, limits::LISTENERS;
    SERVICES: Array, u32 => Service, 2 * limits::SERVICES;
    FACTS: Array, u32 => Fact, 2 * limits::FACTS;
    RULES: Array, u32 => Rule, 2 * limits::RULES;
    WEIGHTED: Array, u32 => Weighted, 2 * limits::WEIGHTED;
    SUBSETS: Array, u32 => Subset, 2 * limits::SUBSETS;
    ARENA: Array, u32 => u32, limits::ARENA;
    INSTANCES: Array, u32 => Instance, limits::INSTANCES;
    IDENTITIES: Hash, u64 => Versioned, limits::IDENTITIES;
    PREFIXES: LpmTrie, PrefixKey => Versioned, limits::PREFIXES;
    NETS: Array, u32 => u32, 2 * limits::NETS;
    BOUNDS: Array, u32 => u32, limits::BOUNDS;
    CLASSES: Array, u32 => Class, limits::CLASSES;
    WORKLOADS: Hash, u64 => Workload, limits::WORKLOADS;
    LANES: Hash, u32 => Versioned, 2 * limits::LANES;
    FILTER: Array, u32 => Filter, 1;
    FLOWS4: LruHash, FlowKey4 => Flow4, limits::FLOWS;
    FLOWS6: LruHash, FlowKey6 => Flow6, limits::FLOWS;
    OPENING4: LruHash, FlowKey4 => Flow4, limits::OPENING;
    OPENING6: LruHash, FlowKey6 => Flow6, limits::OPENING;
    FLOOD: Array, u32 => u64, 1;
    TRIPS: Array, u32 => Trip, limits::SERVICES;
    READINGS: Array, u32 => Reading, 2 * limits::SERVICES;
    FURTHER: Array, u32 => Further, 2 * limits::SERVICES;
    METADATA: Array, u32 => Metadata, 2 * limits::METADATA;
    TAGGED: LruHash, Tuple => Tagged, limits::TAGGED;
    PENDING: Array, u32 => u64, pending::PLACES;
    SPLICES: LruHash, Tuple => Bound, limits::SPLICES;
    WAITING: LruHash, Tuple => Bound, limits::WAITING;
    HELD: Array, u32 => Held, limits::HELD;
    FRAMES: LruHash, Tuple => Frames, limits::FRAMES;
    LISTENER: Array, u32 => Listening, 2;
    CALLERS: LruHash, u64 => Caller, limits::CALLERS;
    LISTENED: Array, u32 => ListenCount, limits::SERVICES;
    XDP_OUT: Array, u32 => u32, limits::XDP_OUT_SLOTS;
    PEERS: SkStorage, u32 => Call, 0;
    UDP_PEERS: SkStorage, u32 => UdpPeers, 0;
    SAYINGS: SkStorage, u32 => Saying, 0;
    LINKS: Array, u32 => u64, 1;
    ARRIVALS: LruHash, SynKey => u32, limits::ARRIVALS;
    LINKED: SkStorage, u32 => Linked, 0;
    THREADS: Hash, u64 => Thread, limits::THREADS;
    LINK_CALLS: Hash, u64 => LinkCount, limits::WORKLOADS;
    TRUSTED: Array, u32 => u32, limits::XDP_OUT_SLOTS;
    EDGES: Array, u32 => u32, limits::XDP_OUT_SLOTS;
    REASONS: PerCpuArray, u32 => u64, REASON_SLOTS;
    ARMS: PerCpuArray, u32 => ArmCount, 2 * limits::SERVICES;
    TIMES: PerCpuHash, u32 => Times, 2 * limits::SERVICES;
    RULE_HITS: PerCpuArray, u32 => u64, 65_536;
    REQUESTS: PerCpuArray, u32 => RequestCount, limits::SERVICES;
    EVENT_BUDGET: PerCpuArray, u32 => EventBudget, 2;
    EVENTS: RingBuf, () => (), limits::EVENT_RING;
    CLOCK: Array, u32 => Clock, 1;
}

/// Programs, by the name of their function.
pub const TC_INGRESS: &str = "gray_tc_ingress";
pub const TC_EGRESS: &str = "gray_tc_egress";
/// The same with the request path, for policies that read requests or refuse.
pub const TC_INGRESS_READS: &str = "gray_tc_ingress_reads";
pub const TC_EGRESS_READS: &str = "gray_tc_egress_reads";
pub const XDP: &str = "gray_xdp";
pub const CLOCK_PROGRAM: &str = "gray_clock";
pub const PROBE_PROGRAM: &str = "gray_probe";
/// What writes tags, on the cgroup of the connect path.
pub const TAG_PROGRAMS: &[&str] = &["gray_sockops", "gray_say4", "gray_say6"];
/// What counts and times calls, on the cgroup of the connect path; and what tells it that a reset has come for a socket of the connect path: the tracepoint `tcp_receive_reset`.
pub const CALLS_PROGRAM: &str = "gray_calls";
pub const RESET_PROGRAM: &str = "gray_reset";
pub const RESET_POINT: &str = "tcp_receive_reset";
/// What times first words of callers, on the same cgroup.
pub const MEASURE_PROGRAMS: &[&str] = &["gray_hears", "gray_speaks"];
/// What tells the sockets of workloads with a link apart, on the cgroup of the connect path.
pub const LINK_PROGRAM: &str = "gray_links";
/// What tells it what their threads read, and what becomes of those: each at a tracepoint (Linux 6.3).
pub const LINK_TRACES: &[(&str, &str)] = &[
    ("gray_link_read", "sock_recv_length"),
    ("gray_link_send", "sock_send_length"),
    ("gray_link_close", "tcp_destroy_sock"),
    ("gray_link_fork", "sched_process_fork"),
    ("gray_link_exit", "sched_process_exit"),
];

/// The tracepoint of a program that has one.
pub fn trace_point(program: &str) -> Option<&'static str> {
    let all = LINK_TRACES.iter().chain(&[(RESET_PROGRAM, RESET_POINT)]);
    all.into_iter().find(|(p, _)| *p == program).map(|(_, point)| *point)
}
/// The connect path, in the order of attachment: what gives sockets the service's name back is there before anything is
/// steered.
/// In the place of two of them where a splice listener may have the call: name, and the one with it.
pub const HANDING_PROGRAMS: &[(&str, &str)] =
    &[("gray_connect4", "gray_connect4_hands"), ("gray_connect6", "gray_connect6_hands")];
pub const CONNECT_PROGRAMS: &[&str] = &[
    "gray_getpeername4",
    "gray_getpeername6",
    "gray_recvmsg4",
    "gray_recvmsg6",
    "gray_connect4",
    "gray_connect6",
    "gray_sendmsg4",
    "gray_sendmsg6",
];
