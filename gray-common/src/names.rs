//! Names and shapes of maps and programs: what the data path declares, the loader checks and the pins are called.

use crate::{limits, reason::REASON_SLOTS};

/// Map types, as the kernel numbers them.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapKind {
    Hash = 1,
    Array = 2,
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
    ($($name:ident: $kind:ident, $key:literal => $value:literal, $entries:expr;)+) => {
        $(pub const $name: &str = stringify!($name);)+
        /// Every pinned map.
        pub const MAPS: &[MapSpec] = &[$(MapSpec {
            name: stringify!($name), kind: MapKind::$kind, key: $key, value: $value, entries: $entries,
        },)+];
    };
}

maps! {
    CONTROL: Array, 4 => 88, 1;
    LISTENERS: Hash, 20 => 16, limits::LISTENERS;
    SERVICES: Array, 4 => 40, 2 * limits::SERVICES;
    FACTS: Array, 4 => 16, 2 * limits::FACTS;
    RULES: Array, 4 => 32, 2 * limits::RULES;
    WEIGHTED: Array, 4 => 10032, 2 * limits::WEIGHTED;
    SUBSETS: Array, 4 => 24, 2 * limits::SUBSETS;
    ARENA: Array, 4 => 4, limits::ARENA;
    INSTANCES: Array, 4 => 20, limits::INSTANCES;
    IDENTITIES: Hash, 8 => 16, limits::IDENTITIES;
    PREFIXES: LpmTrie, 20 => 16, limits::PREFIXES;
    CLASSES: Array, 4 => 32, limits::CLASSES;
    WORKLOADS: Hash, 8 => 16, limits::WORKLOADS;
    FILTER: Array, 4 => 8, limits::FILTER_BITS / 64;
    FLOWS4: LruHash, 16 => 48, limits::FLOWS;
    FLOWS6: LruHash, 40 => 72, limits::FLOWS;
    XDP_OUT: Array, 4 => 4, limits::XDP_OUT_SLOTS;
    PEERS: SkStorage, 4 => 40, 0;
    UDP_PEERS: SkStorage, 4 => 328, 0;
    REASONS: PerCpuArray, 4 => 8, REASON_SLOTS;
    ARMS: PerCpuArray, 4 => 48, 2 * limits::SERVICES;
    RULE_HITS: PerCpuArray, 4 => 8, 65_536;
    EVENT_BUDGET: PerCpuArray, 4 => 16, 1;
    EVENTS: RingBuf, 0 => 0, limits::EVENT_RING;
    CLOCK: Array, 4 => 16, 1;
}

/// Programs, by the name of their function.
pub const TC_INGRESS: &str = "gray_tc_ingress";
pub const TC_EGRESS: &str = "gray_tc_egress";
pub const XDP: &str = "gray_xdp";
pub const CLOCK_PROGRAM: &str = "gray_clock";
/// The connect path, in the order of attachment: what gives sockets the service's name back is there before anything is
/// steered.
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
