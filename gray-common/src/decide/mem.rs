//! The tables in memory: what the compiler's writes mean, for tests, for the fake data path and for `explain`
//! (which fills them from the kernel). Host only.

use std::{cell::RefCell, collections::BTreeMap};

use super::{Decision, HAS_BREAKER, MARK_TRIES, MARK_WATCHED, Tables, kept_by, mark_opening};
use crate::{
    Reason, limits, nets,
    wire::{
        ARM_GRAY, Addr, Class, Control, Fact, Further, Instance, ListenerKey, ListenerValue, Metadata,
        PrefixKey, Reading, Rule, SERVICE_BREAKER, SERVICE_LEASE, SERVICE_SHADOW, Service, Subset, Trip,
        Versioned, Weighted, trip_is_open,
    },
};

/// Every policy table, keyed as the kernel's are. Banked arrays are indexed by `bank * size + index`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemTables {
    pub control: Control,
    /// Ticks now: what the agent's lease is held against.
    pub now: u64,
    /// By the numbers of services.
    pub trips: BTreeMap<u32, Trip>,
    /// Nobody will see the end of the connection that asks: a breaker does not let it try.
    pub unseen: bool,
    pub listeners: BTreeMap<ListenerKey, Versioned>,
    pub identities: BTreeMap<u64, Versioned>,
    pub lanes: BTreeMap<u32, Versioned>,
    /// Of IPv6.
    pub prefixes: BTreeMap<PrefixKey, Versioned>,
    /// Of IPv4: see [`nets`].
    pub nets: BTreeMap<u32, u32>,
    pub bounds: BTreeMap<u32, u32>,
    pub services: BTreeMap<u32, Service>,
    /// By the numbers of services.
    pub readings: BTreeMap<u32, Reading>,
    pub further: BTreeMap<u32, Further>,
    pub metadata: BTreeMap<u32, Metadata>,
    pub facts: BTreeMap<u32, Fact>,
    pub rules: BTreeMap<u32, Rule>,
    pub weighted: BTreeMap<u32, Box<Weighted>>,
    pub subsets: BTreeMap<u32, Subset>,
    pub arena: BTreeMap<u32, u32>,
    pub instances: BTreeMap<u32, Instance>,
    pub classes: BTreeMap<u32, Class>,
}

/// One epoch's view of the tables, recording the trail of rules.
#[derive(Debug)]
pub struct View<'a> {
    tables: &'a MemTables,
    epoch: u64,
    /// (rule, facts, matched), in the order of the scan.
    pub trail: RefCell<Vec<(Rule, u64, bool)>>,
    /// Taken from this view.
    turns: RefCell<BTreeMap<u32, u32>>,
}

impl MemTables {
    /// The view of the active epoch.
    pub fn view(&self) -> View<'_> {
        self.view_at(self.control.epoch)
    }

    pub fn view_at(&self, epoch: u64) -> View<'_> {
        View { tables: self, epoch, trail: RefCell::default(), turns: RefCell::default() }
    }
}

impl View<'_> {
    pub fn listener(&self, key: &ListenerKey) -> ListenerValue {
        ListenerValue(self.tables.listeners.get(key).map_or(0, |v| v.at(self.epoch)))
    }

    /// Not 0: the policy knows the lane of this number.
    pub fn lane(&self, number: u32) -> u32 {
        self.tables.lanes.get(&number).map_or(0, |v| v.at(self.epoch))
    }

    /// The breaker of the service with this number.
    pub fn trip(&self, number: u32) -> Option<&Trip> {
        self.tables.trips.get(&number)
    }

    /// The marks of a decision's flow, as programs make them when they record it.
    pub fn marks(&self, d: &Decision) -> u8 {
        if d.tunnel & HAS_BREAKER == 0 || u32::from(d.arm) != ARM_GRAY || self.tables.unseen {
            return 0;
        }
        match self.tables.trips.get(&u32::from(d.service)) {
            Some(t) if t.opened != 0 => MARK_WATCHED | MARK_TRIES | mark_opening(t.opens),
            _ => MARK_WATCHED,
        }
    }

    /// What is read of a service's requests.
    pub fn reading(&self, service: u32) -> Option<&Reading> {
        self.tables.readings.get(&self.banked(service, limits::SERVICES))
    }

    /// What the splice listener asks of a service beyond that.
    pub fn further(&self, service: u32) -> Option<&Further> {
        self.tables.further.get(&self.banked(service, limits::SERVICES))
    }

    /// An element of `METADATA`, index in the bank.
    pub fn metadata(&self, index: u32) -> Option<&Metadata> {
        self.tables.metadata.get(&self.banked(index, limits::METADATA))
    }

    fn banked(&self, index: u32, size: u32) -> u32 {
        (self.epoch & 1) as u32 * size + index
    }
}

impl Tables for View<'_> {
    fn epoch(&self) -> u64 {
        self.epoch
    }

    fn service(&self, index: u32) -> Option<&Service> {
        self.tables.services.get(&self.banked(index, limits::SERVICES))
    }

    fn fact(&self, index: u32) -> Option<&Fact> {
        self.tables.facts.get(&self.banked(index, limits::FACTS))
    }

    fn rule(&self, index: u32) -> Option<&Rule> {
        self.tables.rules.get(&self.banked(index, limits::RULES))
    }

    fn identity(&self, hash: u64) -> Option<Versioned> {
        self.tables.identities.get(&hash).copied()
    }

    fn prefix(&self, addr: &Addr) -> Option<u32> {
        if addr.is_v4() {
            let addr = u32::from_be(addr.as_v4());
            let element = self.tables.nets.get(&self.banked(addr >> 16, limits::NETS))?;
            return nets::class(*element, addr as u16, |i| self.tables.bounds.get(&i).copied());
        }
        let addr_bits = u128::from_be_bytes(addr.0);
        (0..=128u32).rev().find_map(|bits| {
            let mask = if bits == 0 { 0 } else { u128::MAX << (128 - bits) };
            let key = PrefixKey { bits, addr: Addr((addr_bits & mask).to_be_bytes()) };
            self.tables.prefixes.get(&key).map(|v| v.at(self.epoch))
        })
    }

    fn class(&self, index: u32) -> Option<&Class> {
        // The empty set needs no entry.
        const NOTHING: Class = Class { lists: [0; 4] };
        self.tables.classes.get(&index).or((index == 0).then_some(&NOTHING))
    }

    fn owner(&self, weighted: u32, bucket: u16) -> Option<u32> {
        let w = self.tables.weighted.get(&self.banked(weighted, limits::WEIGHTED))?;
        w.arms.get(usize::from(*w.owner.get(usize::from(bucket))?)).copied()
    }

    fn subset(&self, index: u32) -> Option<&Subset> {
        self.tables.subsets.get(&self.banked(index, limits::SUBSETS))
    }

    fn arena(&self, index: u32) -> Option<u32> {
        self.tables.arena.get(&index).copied()
    }

    fn instance(&self, index: u32) -> Option<&Instance> {
        self.tables.instances.get(&index)
    }

    fn turn(&self, at: u32) -> u32 {
        let mut turns = self.turns.borrow_mut();
        let n = turns.entry(at).or_insert(0);
        *n += 1;
        *n - 1
    }

    fn guard(&self, s: &Service) -> u32 {
        let (t, now) = (self.tables, self.tables.now);
        if s.flags & SERVICE_SHADOW != 0 {
            return s.flags;
        }
        if s.flags & SERVICE_LEASE != 0 && t.control.is_lost(now, s.lease_ms) {
            return s.flags | kept_by(Reason::AgentLost);
        }
        let opened = t.trips.get(&u32::from(s.id)).map_or(0, |t| t.opened);
        let open = trip_is_open(opened, now, t.control.hz, s.breaker.open_ms, !t.unseen);
        if s.flags & SERVICE_BREAKER != 0 && open { s.flags | kept_by(Reason::Broken) } else { s.flags }
    }

    fn looked_at(&self, rule: &Rule, facts: u64, matched: bool) {
        self.trail.borrow_mut().push((*rule, facts, matched));
    }
}
