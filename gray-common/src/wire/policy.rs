//! What the active policy looks like in the kernel's tables.
//!
//! Two kinds of tables make a policy change one step. Arrays come in two banks; a run uses the bank `epoch & 1`.
//! Hash tables hold [`Versioned`] values that carry the old and the new answer and the epoch at which one turns
//! into the other. Both turn with [`Control::epoch`], which a run reads once.

use super::{Addr, Breaker, wire};
use crate::{hash::HashKey, limits};

/// The one element that a policy change writes last, and the few settings that the programs read. The element is
/// memory-mapped by the agent: `epoch` is stored with one atomic write. Epoch 0: nothing is steered.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Control {
    pub epoch: u64,
    /// The revision in each bank.
    pub revision: [u64; 2],
    /// The hash key in each bank.
    pub key: [HashKey; 2],
    /// Only sockets of this network namespace are steered on the connect path; 0: of every one.
    pub netns_cookie: u64,
    /// `CLOCK_MONOTONIC` ns until which every service takes connections found in mid-stream as stable's own: an
    /// interface was attached.
    pub adopt_until_ns: u64,
    /// Timer ticks per second of this kernel (CONFIG_HZ).
    pub hz: u32,
    /// One decision in so many becomes an event; 0: none.
    pub event_every: u32,
    /// Events per second and CPU, at most.
    pub event_limit: u32,
    /// `CONTROL_*` bits.
    pub flags: u32,
    /// This node's own addresses, which stand in for clients of services with `nat: snat`; IPv4 mapped, all zero: none.
    pub snat: [Addr; 2],
    /// This node's own addresses that packets to instances of services with `nat: dsr` are sent from; as `snat`.
    pub dsr: [Addr; 2],
    /// Whose encapsulated packets to this node are opened; unused ones are all zero.
    pub dsr_from: [Trusted; limits::DSR_FROM],
    /// What makes of this kernel's ticks, in ms, the time of day: cookies are good on every node.
    pub wall_ms: u64,
    /// Ticks (jiffies) when an agent was last able to act; 0: never.
    pub renewed: u64,
}

impl Control {
    /// Whether the agent's lease is over: at `now`, in ticks, none was able to act for longer than that.
    #[inline(always)]
    pub fn is_lost(&self, now: u64, lease_ms: u32) -> bool {
        // Signed: an agent may have renewed it since `now` was read.
        let ticks = now.wrapping_sub(self.renewed) as i64;
        ticks.wrapping_mul(1000) > i64::from(lease_ms).wrapping_mul(i64::from(self.hz))
    }
}

/// A prefix, IPv4 mapped: the bits of an address that count, and what they must be.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trusted {
    pub mask: Addr,
    pub addr: Addr,
}

impl Trusted {
    #[inline(always)]
    pub fn has(&self, addr: &Addr) -> bool {
        let ([m0, m1], [a0, a1], [b0, b1]) = (self.mask.words(), self.addr.words(), addr.words());
        m0 != 0 && b0 & m0 == a0 && b1 & m1 == a1
    }
}

/// Some cgroup has a label: look callers up.
pub const CONTROL_WORKLOADS: u32 = 1;
/// Since the tables were made some policy read requests: connections may live by what was read. Programs are loaded with that
/// part.
pub const CONTROL_READS: u32 = 2;
/// Next hops are kept true: now and then a packet goes by the kernel's own entry of its neighbour.
pub const CONTROL_ASKS: u32 = 4;
/// The latest agent's programs read tags of SYNs, or overwrite them: programs that stand in for them do, too.
pub const CONTROL_TAGS: u32 = 8;
/// SYNs that this node sends on, or makes for a client, say the lane of their connection.
pub const CONTROL_SAYS: u32 = 16;

/// In `EDGES`: all that leaves by the interface is looked at, not only what this node's own sockets say.
pub const EDGE_WHOLE: u32 = 1 << 31;

/// A value of a hash table that turns from `old` to `new` when the epoch reaches `since`. 0 means absent.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Versioned {
    pub since: u64,
    pub old: u32,
    pub new: u32,
}

impl Versioned {
    /// The value at an epoch.
    #[inline(always)]
    pub fn at(&self, epoch: u64) -> u32 {
        if epoch >= self.since { self.new } else { self.old }
    }

    /// The value that is unchanged until `epoch` and `new` from then on. `epoch` must not be before the active one.
    pub fn then(&self, epoch: u64, new: u32) -> Self {
        Self { since: epoch, old: self.at(epoch.saturating_sub(1)), new }
    }
}

/// An address that clients dial. Port in network order; protocol by its IP number.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerKey {
    pub addr: Addr,
    pub port: u16,
    pub proto: u8,
    pub _pad: u8,
}

/// What [`Versioned`] holds for a listener: the service's index in the bank plus one, and flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerValue(pub u32);

impl ListenerValue {
    /// The address is a stable instance's own: stable means no rewrite.
    pub const SELF: u32 = 1 << 31;
    /// ... of an instance of another zone: see [`SUBSET_NEAR4`].
    pub const FAR: u32 = 1 << 30;
    /// Of `n-d-*` headers: they go before what a route says; they count where no route applies.
    pub const OVER_ROUTES: u32 = 1 << 29;
    pub const WITHOUT_ROUTE: u32 = 1 << 28;
    const FLAGS: u32 = Self::SELF | Self::FAR | Self::OVER_ROUTES | Self::WITHOUT_ROUTE;

    pub fn new(service: u32, is_self: bool) -> Self {
        Self((service + 1) | if is_self { Self::SELF } else { 0 })
    }

    pub fn with_far(self, far: bool) -> Self {
        Self(self.0 | if far { Self::FAR } else { 0 })
    }

    /// With some of the bits of headers.
    pub fn with_switches(self, bits: u32) -> Self {
        Self(self.0 | bits & (Self::OVER_ROUTES | Self::WITHOUT_ROUTE))
    }

    /// The bit of the client's lists that says that the listener has this switch: behind the last list.
    pub const fn list_of(switch: u32) -> u32 {
        limits::LISTS + (switch == Self::OVER_ROUTES) as u32
    }

    /// Both switches, as the last two bits of the lists.
    #[inline(always)]
    pub fn as_lists(self) -> u64 {
        const { assert!(Self::OVER_ROUTES == Self::WITHOUT_ROUTE << 1 && limits::LISTS == 254) }
        u64::from((self.0 / Self::WITHOUT_ROUTE) & 3) << 62
    }

    #[inline(always)]
    pub fn is_self(self) -> bool {
        self.0 & Self::SELF != 0
    }

    #[inline(always)]
    pub fn is_far(self) -> bool {
        self.0 & Self::FAR != 0
    }

    /// Index in the bank; `None` when the listener is absent.
    #[inline(always)]
    pub fn service(self) -> Option<u32> {
        (self.0 & !Self::FLAGS).checked_sub(1)
    }
}

/// Key of the prefix trie, as `LPM_TRIE` wants it: bits, then the address (IPv4 mapped: bits + 96).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PrefixKey {
    pub bits: u32,
    pub addr: Addr,
}

/// A set of explicit lists, one bit each. Never changes while something refers to it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Class {
    pub lists: [u64; 4],
}

/// One service of a bank.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// `CLOCK_MONOTONIC` ns until which unknown TCP connections in mid-stream are taken as stable's own.
    pub adopt_until_ns: u64,
    /// First rule and first fact, indexes in the bank.
    pub first_rule: u32,
    pub first_fact: u32,
    /// Index in the bank.
    pub stable_subset: u32,
    /// Stable over revisions: indexes the counters.
    pub id: u16,
    pub rules: u16,
    pub facts: u16,
    /// Bit `kind` is set when some rule has a list of that kind of claim.
    pub list_kinds: u16,
    /// Claim kinds in order; 0 ends.
    pub identify: [u8; limits::IDENTIFY],
    /// `SERVICE_*` bits.
    pub flags: u32,
    /// Of [`SERVICE_LEASE`].
    pub lease_ms: u32,
    /// Of [`SERVICE_BREAKER`].
    pub breaker: Breaker,
}

/// Some rule's list has prefixes: ask for the source's.
pub const SERVICE_PREFIXES: u32 = 1;
/// One identity gets one instance of a subset; without an identity each connection is spread.
pub const SERVICE_AFFINITY: u32 = 2;
/// The instances of a subset take turns: its tables say in which order, `TURNS` counts.
pub const SERVICE_ROUND_ROBIN: u32 = 4;
/// Something asks for the packet's mark, which XDP does not see: tc decides.
pub const SERVICE_MARK: u32 = 8;
/// The instance sees one of the node's own addresses (`Control::snat`) in place of the client's.
pub const SERVICE_SNAT: u32 = 16;
/// Packets reach the instance as they are, with an outer header in front; it answers the client itself. The numbers are those
/// of `FLOW_DSR` and `FLOW_GUE`.
pub const SERVICE_DSR: u32 = 32;
/// ... and a header of UDP and GUE between.
pub const SERVICE_GUE: u32 = 64;

/// What a client says first is read: see [`Reading`](super::Reading).
pub const SERVICE_REQUEST: u32 = 128;
/// Clients without an identity are refused.
pub const SERVICE_DENY: u32 = 256;
/// What the rules say is counted, and everybody goes to stable.
pub const SERVICE_SHADOW: u32 = 512;
/// Everybody goes to stable while no agent renews its lease.
pub const SERVICE_LEASE: u32 = 2048;
/// Failures of gray are counted, and too many of them send everybody to stable for a while.
pub const SERVICE_BREAKER: u32 = 4096;
/// First words on callers' connections are timed, at the cost of their packets.
pub const SERVICE_MEASURE: u32 = 8192;
/// Some route leads connections that are in no lane into one.
pub const SERVICE_LEADS: u32 = 16_384;

/// Something that is true of a client or not. A service's facts are worked out once per decision and become the bits
/// of a word, which rules test.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fact {
    /// `Percent`: the salt. `Tail`: the first 64 endings, a bit each; see `decide::tail`.
    pub salt: u64,
    /// `List`: the bit of the class. `Percent`: buckets below this are in. `Lane`: its number; 0: any. `Tail`: the next 32 endings.
    pub value: u32,
    /// `FACT_*`.
    pub kind: u8,
    /// Claim kind of a tail or a percentage; 0: the identity.
    pub claim: u8,
    /// `Tail`: the last endings.
    pub more: u16,
}

pub const FACT_LIST: u8 = 1;
pub const FACT_PERCENT: u8 = 2;
/// The connection is in a lane.
pub const FACT_LANE: u8 = 3;
pub const FACT_TAIL: u8 = 4;

/// One rule: every needed fact and no forbidden one -> target. Scanned in order, first match wins.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    pub need: u64,
    pub forbid: u64,
    /// Salt of a weighted target's buckets. Of a rule of a lane: the lane's number.
    pub salt: u64,
    /// Subset (index in the bank) or weighted table (index in the bank).
    pub target: u32,
    /// Stable over revisions: indexes the hit counters. 0 is never a rule.
    pub id: u16,
    /// `decide::Precedence` as a number.
    pub precedence: u8,
    /// 1: `target` is a weighted table.
    pub weighted: u8,
}

/// Bucket ownership of a weighted route: bucket -> arm -> subset (index in the bank).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weighted {
    pub arms: [u32; limits::ARMS],
    pub owner: [u8; limits::BUCKETS as usize],
}

/// One Maglev table in the arena, packed as `slots` says; `len` slots, a prime, 0 when the subset has no instance of that family.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Table {
    pub offset: u32,
    pub len: u32,
}

/// One subset of a bank.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subset {
    pub v4: Table,
    pub v6: Table,
    /// [`ARM_STABLE`] or [`ARM_GRAY`].
    pub arm: u32,
    /// `SUBSET_*` bits.
    pub flags: u32,
    /// Of service and selector, in every bank and revision.
    pub target: u32,
}

/// The instance that is dialled by its own address is down, and another one serves: stable does not stay on the address.
pub const SUBSET_AWAY4: u32 = 1;
pub const SUBSET_AWAY6: u32 = 2;
/// None of the subset's own instances serves: the table has those that its service fails over to.
pub const SUBSET_SPARE4: u32 = 4;
pub const SUBSET_SPARE6: u32 = 8;
/// Whoever is sent here is refused.
pub const SUBSET_REFUSE: u32 = 16;
/// An instance of the agent's zone takes its whole share: stable does not stay on an address in another zone.
pub const SUBSET_NEAR4: u32 = 32;
pub const SUBSET_NEAR6: u32 = 64;
/// When nobody serves, its clients are refused.
pub const SUBSET_DENY: u32 = 128;

pub const ARM_STABLE: u32 = 0;
pub const ARM_GRAY: u32 = 1;

/// Where a server listens. Port in network order.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Instance {
    pub addr: Addr,
    pub port: u16,
    /// IP protocol number.
    pub proto: u8,
    /// 1 while the slot is in use.
    pub live: u8,
}

/// A labelled cgroup: the claim of the workload's name, hashed under each bank's key.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    pub hash: [u64; 2],
    /// The number of the lane that its calls are in; 0: none.
    pub lane: u32,
    /// `LINK_*`: its calls are in the lane of the requests that it serves, if it has none of its own; 0: they are not.
    pub link: u32,
}

impl Workload {
    /// A lane that no policy has had yet.
    pub const NEW_LANE: u32 = u32::MAX;
}

wire!(HashKey, size 16, { k0 @ 0: u64, k1 @ 8: u64 });
wire!(Trusted, size 32, { mask @ 0: Addr, addr @ 16: Addr });
wire!(Control, size 424, {
    epoch @ 0: u64, revision @ 8: [u64; 2], key @ 24: [HashKey; 2], netns_cookie @ 56: u64,
    adopt_until_ns @ 64: u64, hz @ 72: u32, event_every @ 76: u32, event_limit @ 80: u32, flags @ 84: u32,
    snat @ 88: [Addr; 2], dsr @ 120: [Addr; 2], dsr_from @ 152: [Trusted; 8],
    wall_ms @ 408: u64, renewed @ 416: u64,
});
wire!(Versioned, size 16, { since @ 0: u64, old @ 8: u32, new @ 12: u32 });
wire!(ListenerKey, size 20, { addr @ 0: Addr, port @ 16: u16, proto @ 18: u8, _pad @ 19: u8 });
wire!(PrefixKey, size 20, { bits @ 0: u32, addr @ 4: Addr });
wire!(Class, size 32, { lists @ 0: [u64; 4] });
wire!(Service, size 56, {
    adopt_until_ns @ 0: u64, first_rule @ 8: u32, first_fact @ 12: u32, stable_subset @ 16: u32, id @ 20: u16,
    rules @ 22: u16, facts @ 24: u16, list_kinds @ 26: u16, identify @ 28: [u8; 4], flags @ 32: u32, lease_ms @ 36: u32,
    breaker @ 40: Breaker,
});
wire!(Fact, size 16, { salt @ 0: u64, value @ 8: u32, kind @ 12: u8, claim @ 13: u8, more @ 14: u16 });
wire!(Rule, size 32, {
    need @ 0: u64, forbid @ 8: u64, salt @ 16: u64, target @ 24: u32, id @ 28: u16, precedence @ 30: u8,
    weighted @ 31: u8,
});
wire!(Weighted, size 10032, { arms @ 0: [u32; 8], owner @ 32: [u8; 10_000] });
wire!(Table, size 8, { offset @ 0: u32, len @ 4: u32 });
wire!(Subset, size 28, { v4 @ 0: Table, v6 @ 8: Table, arm @ 16: u32, flags @ 20: u32, target @ 24: u32 });
wire!(Instance, size 20, { addr @ 0: Addr, port @ 16: u16, proto @ 18: u8, live @ 19: u8 });
wire!(Workload, size 24, { hash @ 0: [u64; 2], lane @ 16: u32, link @ 20: u32 });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_versioned_value_turns_at_its_epoch() {
        let v = Versioned::default().then(5, 7);
        assert_eq!((v.at(4), v.at(5), v.at(6)), (0, 7, 7));
        let w = v.then(6, 9);
        assert_eq!((w.at(5), w.at(6)), (7, 9));
        // An abandoned change (epoch 6 never came): the next one starts again from what is active at 5.
        let x = w.then(6, 3);
        assert_eq!((x.at(5), x.at(6)), (7, 3));
    }

    /// To the tick; a stamp of another CPU's future is none of long ago.
    #[test]
    fn f14_a_lease_is_over_after_its_seconds() {
        for hz in [100, 250, 300, 1000] {
            let renewed = 4_294_667_296;
            let c = Control { hz, renewed, ..Control::default() };
            let end = renewed + 30 * u64::from(hz);
            let half = renewed + u64::from(hz) / 2;
            for (now, lost) in [(renewed - 5, false), (renewed, false), (end, false), (end + 1, true)] {
                assert_eq!(c.is_lost(now, 30_000), lost, "{now} of {end}");
            }
            assert_eq!((c.is_lost(half, 500), c.is_lost(half + 1, 500)), (false, true));
            assert!(Control { renewed: 0, ..c }.is_lost(renewed, 86_400_000), "no agent ever renewed it");
        }
    }

    #[test]
    fn a_listener_value_keeps_index_and_flag_apart() {
        assert_eq!(ListenerValue(0).service(), None);
        let v = ListenerValue::new(0, true);
        assert_eq!((v.service(), v.is_self()), (Some(0), true));
        assert_eq!(ListenerValue::new(1023, false).service(), Some(1023));
        let all = ListenerValue::new(1023, true).with_far(true).with_switches(u32::MAX);
        assert_eq!((all.service(), all.is_far(), all.is_self()), (Some(1023), true, true));
    }
}
