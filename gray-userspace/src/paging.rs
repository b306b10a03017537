//! Runs the one `decide` over tables that are fetched as it asks for them, entry by entry. Knows no kernel and no names.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
};

use gray_common::{
    decide::{
        Request, SLOTS_TRIED, Tables, Verdict, another, decide,
        mem::{MemTables, View},
    },
    hash::mix,
    limits,
    request::watch::WATCHES,
    slots,
    wire::{
        Addr, Class, Fact, Further, Instance, ListenerKey, ListenerValue, Metadata, Reading, Rule, Service,
        Subset, Table, Versioned,
    },
};

use crate::kernel::Miss;

/// More entries than any decision looks at: every rule and fact of a service, and some ten more.
const STEPS: u32 = limits::RULES_PER_SERVICE + limits::FACTS_PER_SERVICE + 64;

/// What a decision was and how it came about.
#[derive(Debug)]
pub struct Answer {
    pub verdict: Verdict,
    pub service: Option<Service>,
    /// (rule, facts, matched), in the order of the scan.
    pub trail: Vec<(Rule, u64, bool)>,
    /// The subset that was asked for, and the one that was used in the end, as indexes in the bank.
    pub wanted: Option<u32>,
    pub subset: Option<u32>,
}

/// Where entries come from: puts what the tables hold for the miss, also nothing, into the tables in memory.
pub trait Fetch<E>: FnMut(&mut MemTables, Miss) -> Result<(), E> {}
impl<E, F: FnMut(&mut MemTables, Miss) -> Result<(), E>> Fetch<E> for F {}

/// The listener's value at the active epoch of `tables.control`.
pub fn listener<E>(
    t: &mut MemTables,
    key: ListenerKey,
    mut fetch: impl Fetch<E>,
) -> Result<ListenerValue, E> {
    fetch(t, Miss::Listener(key))?;
    Ok(t.view().listener(&key))
}

/// What is read of requests to a listener's service; `None`: nothing.
pub fn reading<E>(
    t: &mut MemTables,
    listener: ListenerValue,
    mut fetch: impl Fetch<E>,
) -> Result<Option<Reading>, E> {
    let Some(service) = listener.service() else { return Ok(None) };
    let bank = (t.control.epoch & 1) as u32;
    fetch(t, Miss::Reading(bank * limits::SERVICES + service))?;
    Ok(t.view().reading(service).copied().filter(|r| r.kinds != [0; WATCHES] || r.sni | r.alpn != 0))
}

/// What is asked of a listener's service beyond what programs do.
pub fn further<E>(
    t: &mut MemTables,
    listener: ListenerValue,
    mut fetch: impl Fetch<E>,
) -> Result<Further, E> {
    let Some(service) = listener.service() else { return Ok(Further::default()) };
    let bank = (t.control.epoch & 1) as u32;
    fetch(t, Miss::Further(bank * limits::SERVICES + service))?;
    Ok(t.view().further(service).copied().unwrap_or_default())
}

/// The instances of such a service.
pub fn metadata<E>(
    t: &mut MemTables,
    further: &Further,
    mut fetch: impl Fetch<E>,
) -> Result<Vec<Metadata>, E> {
    let bank = (t.control.epoch & 1) as u32;
    let mut out = Vec::new();
    for i in further.first..further.first.saturating_add(further.count).min(limits::METADATA) {
        fetch(t, Miss::Metadata(bank * limits::METADATA + i))?;
        out.extend(t.view().metadata(i).copied());
    }
    Ok(out)
}

/// Of a subset's table the first instance that is wanted, from a place on that `choice` says: each as often as it has places, as far as
/// [`SLOTS_LOOKED_AT`] goes. And by what programs know the subset.
pub fn wanted<E>(
    t: &mut MemTables,
    (subset, is_v4): (u32, bool),
    choice: u64,
    wanted: impl Fn(&Instance) -> bool,
    mut fetch: impl Fetch<E>,
) -> Result<Option<(Instance, u32)>, E> {
    let bank = (t.control.epoch & 1) as u32;
    if t.view().subset(subset).is_none() {
        fetch(t, Miss::Subset(bank * limits::SUBSETS + subset))?;
    }
    let Some(subset) = t.view().subset(subset).copied() else { return Ok(None) };
    let table = if is_v4 { subset.v4 } else { subset.v6 };
    if table.len == 0 {
        return Ok(None);
    }
    let begin = (mix(choice) % u64::from(table.len)) as u32;
    let mut seen = BTreeSet::new();
    for n in 0..table.len.min(SLOTS_LOOKED_AT) {
        let slot = (begin + n) % table.len;
        let number = |t: &MemTables| {
            let paged = Paged::new(t, 0);
            (slots::number(&paged, table, slot), paged.miss.get())
        };
        let (mut found, mut miss) = number(t);
        // A word of slots, then one of members.
        for _ in 0..2 {
            if let Some(lacks) = miss {
                fetch(t, lacks)?;
                (found, miss) = number(t);
            }
        }
        let Some(number) = found else { return Ok(None) };
        if !seen.insert(number) {
            continue;
        }
        if t.view().instance(number).is_none() {
            fetch(t, Miss::Instance(number))?;
        }
        if let Some(i) = t.view().instance(number).filter(|i| i.live != 0 && wanted(i)) {
            return Ok(Some((*i, subset.target)));
        }
    }
    Ok(None)
}

/// Enough for each of 256 instances to be met, whose tables have 32 749 places.
const SLOTS_LOOKED_AT: u32 = 4096;

/// The service of a listener, if it is one's.
pub fn service<E>(
    t: &mut MemTables,
    listener: ListenerValue,
    mut fetch: impl Fetch<E>,
) -> Result<Option<Service>, E> {
    let Some(service) = listener.service() else { return Ok(None) };
    let bank = (t.control.epoch & 1) as u32;
    fetch(t, Miss::Service(bank * limits::SERVICES + service))?;
    Ok(t.view().service(service).copied())
}

/// Decides, fetching until nothing is missing; an entry that stays missing is a hole, as it is for the data path. The first turn of
/// round robin is this one's.
pub fn ask<E>(t: &mut MemTables, request: &Request<'_>, fetch: impl Fetch<E>) -> Result<Answer, E> {
    ask_in_turn(t, request, 0, fetch)
}

/// The same by whoever decides again and again: `turn` counts its decisions.
pub fn ask_in_turn<E>(
    t: &mut MemTables,
    request: &Request<'_>,
    turn: u32,
    mut fetch: impl Fetch<E>,
) -> Result<Answer, E> {
    let mut last = None;
    let mut steps = 0;
    loop {
        let paged = Paged::new(t, turn);
        let verdict = decide(&paged, request);
        match paged.miss.get() {
            Some(miss) if last != Some(miss) && steps < STEPS => {
                last = Some(miss);
                steps += 1;
                fetch(t, miss)?;
            }
            _ => {
                return Ok(Answer {
                    verdict,
                    service: request.listener.service().and_then(|i| paged.view.service(i)).copied(),
                    wanted: paged.wanted.get(),
                    subset: paged.subset.get(),
                    trail: RefCell::take(&paged.view.trail),
                });
            }
        }
    }
}

/// Another instance of a subset, which `decide` has just arrived at, than these two.
pub fn other<E>(
    t: &mut MemTables,
    (subset, is_v4): (u32, bool),
    choice: u64,
    tried: [&Instance; 2],
    mut fetch: impl Fetch<E>,
) -> Result<Option<Instance>, E> {
    let (mut last, mut steps) = (None, 0);
    loop {
        let paged = Paged::new(t, 0);
        let table =
            paged.subset(subset).map_or(Table { offset: 0, len: 0 }, |s| if is_v4 { s.v4 } else { s.v6 });
        let found = another(&paged, table, choice, tried).and_then(|n| paged.instance(n).copied());
        match paged.miss.get() {
            // A word of slots, a member, and its instance.
            Some(miss) if last != Some(miss) && steps < 3 * SLOTS_TRIED => {
                last = Some(miss);
                steps += 1;
                fetch(t, miss)?;
            }
            _ => return Ok(found),
        }
    }
}

/// Tables in memory that note the first entry they lack.
struct Paged<'a> {
    view: View<'a>,
    bank: u32,
    miss: Cell<Option<Miss>>,
    wanted: Cell<Option<u32>>,
    subset: Cell<Option<u32>>,
    turn: u32,
}

impl<'a> Paged<'a> {
    fn new(t: &'a MemTables, turn: u32) -> Self {
        let view = t.view();
        let bank = (view.epoch() & 1) as u32;
        Self { view, bank, miss: Cell::new(None), wanted: Cell::new(None), subset: Cell::new(None), turn }
    }

    fn or<T>(&self, found: Option<T>, miss: Miss) -> Option<T> {
        if found.is_none() && self.miss.get().is_none() {
            self.miss.set(Some(miss));
        }
        found
    }
}

impl Tables for Paged<'_> {
    fn epoch(&self) -> u64 {
        self.view.epoch()
    }

    fn service(&self, index: u32) -> Option<&Service> {
        self.or(self.view.service(index), Miss::Service(self.bank * limits::SERVICES + index))
    }

    fn rule(&self, index: u32) -> Option<&Rule> {
        self.or(self.view.rule(index), Miss::Rule(self.bank * limits::RULES + index))
    }

    fn fact(&self, index: u32) -> Option<&Fact> {
        self.or(self.view.fact(index), Miss::Fact(self.bank * limits::FACTS + index))
    }

    fn identity(&self, hash: u64) -> Option<Versioned> {
        self.or(self.view.identity(hash), Miss::Identity(hash))
    }

    fn prefix(&self, addr: &Addr) -> Option<u32> {
        self.or(self.view.prefix(addr), Miss::Prefix(*addr))
    }

    fn class(&self, index: u32) -> Option<&Class> {
        self.or(self.view.class(index), Miss::Class(index))
    }

    fn owner(&self, weighted: u32, bucket: u16) -> Option<u32> {
        self.or(self.view.owner(weighted, bucket), Miss::Weighted(self.bank * limits::WEIGHTED + weighted))
    }

    fn subset(&self, index: u32) -> Option<&Subset> {
        self.wanted.set(self.wanted.get().or(Some(index)));
        self.subset.set(Some(index));
        self.or(self.view.subset(index), Miss::Subset(self.bank * limits::SUBSETS + index))
    }

    fn arena(&self, index: u32) -> Option<u32> {
        self.or(self.view.arena(index), Miss::Arena(index))
    }

    fn instance(&self, index: u32) -> Option<&Instance> {
        self.or(self.view.instance(index), Miss::Instance(index))
    }

    fn turn(&self, at: u32) -> u32 {
        self.view.turn(at).wrapping_add(self.turn)
    }

    fn guard(&self, service: &Service) -> u32 {
        let _ = self.or(self.view.trip(service.id.into()), Miss::Trip(service.id.into()));
        self.view.guard(service)
    }

    fn looked_at(&self, rule: &Rule, facts: u64, matched: bool) {
        self.view.looked_at(rule, facts, matched);
    }
}
