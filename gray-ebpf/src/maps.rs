//! Every map of the data path, declared once with the shapes of `gray_common::names`. No logic but that of tables that move.

mod flows;
pub mod request;

use aya_ebpf::{
    bindings::bpf_fib_lookup,
    btf_maps::SkStorage,
    macros::{btf_map, map},
    maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, PerCpuHashMap, RingBuf},
};
use gray_common::{
    decide::{Claims, Decision, tag::Tag},
    filter::Filter,
    limits,
    reason::REASON_SLOTS,
    wire::{
        Addr, ArmCount, Call, Class, Clock, Control, EDGE_WHOLE, EventBudget, Fact, Flow4, Flow6, FlowKey4,
        FlowKey6, Instance, LinkCount, Linked, ListenerKey, Rule, Saying, Service, Subset, SynKey, Thread,
        Times, Trip, UdpPeers, Versioned, Weighted, Workload,
    },
};

pub use flows::{EEXIST, FLOWS4, FLOWS6, answers, fetch, flood, flooded, forget, moving, settle};

use crate::hooks::{
    admit::Arrival,
    dsr::Inner,
    fragment::{Fragment, FragmentKey},
    links::Mode,
    tags::syn::Options,
    times::Begun,
    v6::Behind,
};

/// Makes an entry, and looks at it. Of a full table the kernel takes entries that nobody has looked at since they were made, and once
/// all others have been looked at the newest of them: what the next packet would need (Linux 4.10 to at least 6.18,
/// `__local_list_flush` in front of `__bpf_lru_list_rotate`).
#[inline(always)]
pub fn keep<K, V>(map: &LruHashMap<K, V>, key: &K, value: &V, flags: u64) -> Result<(), i32> {
    map.insert(key, value, flags)?;
    let _ = map.get_ptr(key);
    Ok(())
}

/// Maps that user space may map into its memory (Linux 5.5).
const MMAPABLE: u32 = 1 << 10;
/// Entries are allocated when they are made: the tables may be large and mostly empty.
const NO_PREALLOC: u32 = 1;

#[map]
pub static CONTROL: Array<Control> = Array::with_max_entries(1, MMAPABLE);
#[map]
pub static LISTENERS: HashMap<ListenerKey, Versioned> =
    HashMap::with_max_entries(limits::LISTENERS, NO_PREALLOC);
#[map]
pub static SERVICES: Array<Service> = Array::with_max_entries(2 * limits::SERVICES, 0);
#[map]
pub static FACTS: Array<Fact> = Array::with_max_entries(2 * limits::FACTS, 0);
#[map]
pub static RULES: Array<Rule> = Array::with_max_entries(2 * limits::RULES, 0);
#[map]
pub static WEIGHTED: Array<Weighted> = Array::with_max_entries(2 * limits::WEIGHTED, 0);
#[map]
pub static SUBSETS: Array<Subset> = Array::with_max_entries(2 * limits::SUBSETS, 0);
#[map]
pub static ARENA: Array<u32> = Array::with_max_entries(limits::ARENA, 0);
#[map]
pub static INSTANCES: Array<Instance> = Array::with_max_entries(limits::INSTANCES, 0);
#[map]
pub static IDENTITIES: HashMap<u64, Versioned> = HashMap::with_max_entries(limits::IDENTITIES, NO_PREALLOC);
#[map]
pub static PREFIXES: LpmTrie<Addr, Versioned> = LpmTrie::with_max_entries(limits::PREFIXES, NO_PREALLOC);
/// By the upper half of an IPv4 address; see `gray_common::nets`. IPv6 prefixes are in the trie.
#[map]
pub static NETS: Array<u32> = Array::with_max_entries(2 * limits::NETS, 0);
#[map]
pub static BOUNDS: Array<u32> = Array::with_max_entries(limits::BOUNDS, 0);
#[map]
pub static CLASSES: Array<Class> = Array::with_max_entries(limits::CLASSES, 0);
#[map]
pub static WORKLOADS: HashMap<u64, Workload> = HashMap::with_max_entries(limits::WORKLOADS, NO_PREALLOC);
/// Lanes that the policy knows, by number: `gray_common::hash::lane_check`.
#[map]
pub static LANES: HashMap<u32, Versioned> = HashMap::with_max_entries(2 * limits::LANES, NO_PREALLOC);
/// Interfaces whose tags are believed, each at its number modulo the slots; see `agent::syn_tags`.
#[map]
pub static TRUSTED: Array<u32> = Array::with_max_entries(limits::XDP_OUT_SLOTS, 0);
/// Interfaces where what a splice listener answers is met on its way out, each at its number modulo the slots; with `EDGE_WHOLE` those
/// where all that leaves is.
#[map]
pub static EDGES: Array<u32> = Array::with_max_entries(limits::XDP_OUT_SLOTS, 0);

/// Whether only what this node's own sockets say is looked at on its way out.
#[inline(always)]
pub fn is_edge(ifindex: u32) -> bool {
    EDGES.get(ifindex & (limits::XDP_OUT_SLOTS - 1)).is_some_and(|i| *i == ifindex)
}

/// Whether what they say is looked at.
#[inline(always)]
pub fn meets(ifindex: u32) -> bool {
    EDGES.get(ifindex & (limits::XDP_OUT_SLOTS - 1)).is_some_and(|i| *i & !EDGE_WHOLE == ifindex)
}

#[map]
pub static FILTER: Array<Filter> = Array::with_max_entries(1, 0);
/// Interfaces that take frames of XDP, each at its number modulo the slots; see `agent::xdp`.
#[map]
pub static XDP_OUT: Array<u32> = Array::with_max_entries(limits::XDP_OUT_SLOTS, 0);
#[btf_map]
pub static PEERS: SkStorage<Call> = SkStorage::new();
#[btf_map]
pub static UDP_PEERS: SkStorage<UdpPeers> = SkStorage::new();
#[btf_map]
pub static SAYINGS: SkStorage<Saying> = SkStorage::new();
/// When links of workloads were set last; 0: there is none. See `hooks::links`.
#[map]
pub static LINKS: Array<u64> = Array::with_max_entries(1, 0);
/// SYNs that said a lane, until they are accepted.
#[map]
pub static ARRIVALS: LruHashMap<SynKey, u32> = LruHashMap::with_max_entries(limits::ARRIVALS, 0);
/// Lanes that SYNs said which this node has sent on, should they come again. Not shared, not pinned.
#[map]
pub static STAMPS: LruHashMap<SynKey, u32> = LruHashMap::with_max_entries(limits::STAMPS, 0);
#[btf_map]
pub static LINKED: SkStorage<Linked> = SkStorage::new();
/// By `ctx::trace::task`. Not the least recently used go: who is forgotten would be sure of what is left.
#[map]
pub static THREADS: HashMap<u64, Thread> = HashMap::with_max_entries(limits::THREADS, NO_PREALLOC);
/// By the labelled cgroup; made by user space.
#[map]
pub static LINK_CALLS: HashMap<u64, LinkCount> = HashMap::with_max_entries(limits::WORKLOADS, NO_PREALLOC);
/// By cgroup. Not shared, not pinned.
#[map]
pub static LINK_MODES: LruHashMap<u64, Mode> = LruHashMap::with_max_entries(limits::LINK_MODES, 0);
#[map]
pub static REASONS: PerCpuArray<u64> = PerCpuArray::with_max_entries(REASON_SLOTS, 0);
#[map]
pub static ARMS: PerCpuArray<ArmCount> = PerCpuArray::with_max_entries(2 * limits::SERVICES, 0);
/// As `ARMS`; of arms that have times, which are made when the first one comes: a table of all would be as large on each CPU.
#[map]
pub static TIMES: PerCpuHashMap<u32, Times> =
    PerCpuHashMap::with_max_entries(2 * limits::SERVICES, NO_PREALLOC);
/// What an element of it begins with. Not shared, not pinned.
#[map]
pub static NO_TIMES: Array<Times> = Array::with_max_entries(1, 0);
/// Breakers, by the numbers of services.
#[map]
pub static TRIPS: Array<Trip> = Array::with_max_entries(limits::SERVICES, MMAPABLE);
#[map]
pub static RULE_HITS: PerCpuArray<u64> = PerCpuArray::with_max_entries(65_536, 0);
#[map]
pub static EVENT_BUDGET: PerCpuArray<EventBudget> = PerCpuArray::with_max_entries(2, 0);
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(limits::EVENT_RING, 0);
#[map]
pub static CLOCK: Array<Clock> = Array::with_max_entries(1, 0);

/// Where the packet path builds a flow: the verifier's 512 bytes of stack are short, and tc programs of one CPU do not
/// interrupt each other. Not shared with user space, not pinned.
pub struct Scratch {
    pub arrival: Arrival,
    pub behind: Behind,
    pub key4: FlowKey4,
    pub back4: FlowKey4,
    pub other4: FlowKey4,
    pub key6: FlowKey6,
    pub back6: FlowKey6,
    pub other6: FlowKey6,
    /// Not 0: the listener's address is stable's own.
    pub own: u32,
    /// What the packet's tag says, if it has a good one.
    pub tag: Tag,
    pub claims: Claims,
    pub decision: Decision,
    /// When the connection that is recorded began.
    pub begun: Begun,
    pub flow4: Flow4,
    pub flow6: Flow6,
    pub inner: Inner,
    /// Not 0: the packet is one of a spliced connection, in its receiver's numbers; a copy of it is sent.
    pub translated: u32,
    pub clone: u32,
    /// The difference of its checksum that is still to be made.
    pub inside: u16,
}
#[map]
pub static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// Parameters of route lookups, for the same reason.
#[map]
pub static FIB: PerCpuArray<bpf_fib_lookup> = PerCpuArray::with_max_entries(1, 0);

/// When this CPU last let a packet go by its neighbour's own entry, in `life::hop_clock`, by next hop; 0: never. Not shared, not pinned.
#[map]
pub static ASKED: PerCpuArray<u16> = PerCpuArray::with_max_entries(ASKED_PLACES, 0);
pub const ASKED_PLACES: u32 = 4096;

/// Turns of round robin, by `decide::turn_of`. Not shared, not pinned.
#[map]
pub static TURNS: Array<u64> = Array::with_max_entries(2 * limits::SUBSETS, 0);

/// The options of a SYN that may have a tag. Not shared, not pinned.
#[map]
pub static OPTIONS: PerCpuArray<Options> = PerCpuArray::with_max_entries(1, 0);

/// Second of the last log line. Not shared, not pinned.
#[map]
pub static LAST_LOG: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Packets of which fragments are on their way. Not shared, not pinned.
#[map]
pub static FRAGMENTS: LruHashMap<FragmentKey, Fragment> = LruHashMap::with_max_entries(limits::FRAGMENTS, 0);

/// Whether the packet at hand is in its receiver's numbers already.
#[inline(always)]
pub fn translated() -> bool {
    // SAFETY: this CPU's own slot.
    SCRATCH.get_ptr(0).is_some_and(|s| unsafe { (*s).translated != 0 })
}
