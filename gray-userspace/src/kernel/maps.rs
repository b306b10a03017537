//! The pinned maps by type, and what a decision reads of them.

use std::{io, path::PathBuf};

use gray_common::{
    decide::mem::MemTables,
    filter::Filter,
    limits, names, nets,
    request::{cookie::Tuple, frame::Frames},
    wire::{
        Addr, ArmCount, Bound, Caller, Class, Clock, Fact, Flow4, Flow6, FlowKey4, FlowKey6, Further,
        Instance, LinkCount, ListenCount, ListenerKey, Listening, Metadata, PrefixKey, Reading, RequestCount,
        Rule, Service, Subset, Tagged, Thread, Times, Trip, Versioned, Weighted, Wire, Workload,
    },
};

use super::{KernelError, bpf::Map, moving::FlowTable, pins::Pins};

/// Every table that is read or written by its type.
pub struct Maps {
    pub listeners: Map<ListenerKey, Versioned>,
    pub services: Map<u32, Service>,
    pub readings: Map<u32, Reading>,
    pub further: Map<u32, Further>,
    pub metadata: Map<u32, Metadata>,
    pub tagged: Map<Tuple, Tagged>,
    pub trips: Map<u32, Trip>,
    pub splices: Map<Tuple, Bound>,
    pub waiting: Map<Tuple, Bound>,
    pub frames: Map<Tuple, Frames>,
    pub facts: Map<u32, Fact>,
    pub rules: Map<u32, Rule>,
    pub weighted: Map<u32, Weighted>,
    pub subsets: Map<u32, Subset>,
    pub arena: Map<u32, u32>,
    pub instances: Map<u32, Instance>,
    pub identities: Map<u64, Versioned>,
    pub prefixes: Map<PrefixKey, Versioned>,
    pub nets: Map<u32, u32>,
    pub bounds: Map<u32, u32>,
    pub classes: Map<u32, Class>,
    pub workloads: Map<u64, Workload>,
    pub lanes: Map<u32, Versioned>,
    pub links: Map<u32, u64>,
    pub threads: Map<u64, Thread>,
    pub link_calls: Map<u64, LinkCount>,
    pub filter: Map<u32, Filter>,
    pub flows4: Map<FlowKey4, Flow4>,
    pub opening4: Map<FlowKey4, Flow4>,
    pub opening6: Map<FlowKey6, Flow6>,
    pub flows6: Map<FlowKey6, Flow6>,
    pub reasons: Map<u32, u64>,
    pub arms: Map<u32, ArmCount>,
    pub times: Map<u32, Times>,
    pub requests: Map<u32, RequestCount>,
    pub rule_hits: Map<u32, u64>,
    pub clock: Map<u32, Clock>,
    pub listener: Map<u32, Listening>,
    pub callers: Map<u64, Caller>,
    pub listened: Map<u32, ListenCount>,
    pub xdp_out: Map<u32, u32>,
    pub trusted: Map<u32, u32>,
    pub edges: Map<u32, u32>,
}

pub fn open<K: Wire, V: Wire>(pins: &Pins, name: &str) -> Result<Map<K, V>, KernelError> {
    open_at(pins, pins.map(name))
}

pub fn open_flows<K: Wire, V: Wire>(
    pins: &Pins,
    tables: &[FlowTable],
    name: &str,
) -> Result<Map<K, V>, KernelError> {
    let at = tables.iter().find(|t| t.name == name).map_or_else(|| pins.map(name), |t| t.now.clone());
    open_at(pins, at)
}

pub fn open_at<K: Wire, V: Wire>(pins: &Pins, path: PathBuf) -> Result<Map<K, V>, KernelError> {
    let fd = pins.open(&path)?.ok_or_else(|| KernelError::ForeignMap { path: path.clone() })?;
    Map::new(fd).map_err(|e| KernelError::io("cannot use the map", &path, e))
}

pub fn failed(what: impl ToString) -> impl FnOnce(io::Error) -> KernelError {
    move |source| KernelError::Write { what: what.to_string(), source }
}

impl Maps {
    /// `tables`: where the flows are.
    pub fn open(pins: &Pins, tables: &[FlowTable]) -> Result<Self, KernelError> {
        Ok(Self {
            listeners: open(pins, names::LISTENERS)?,
            services: open(pins, names::SERVICES)?,
            readings: open(pins, names::READINGS)?,
            further: open(pins, names::FURTHER)?,
            metadata: open(pins, names::METADATA)?,
            tagged: open(pins, names::TAGGED)?,
            trips: open(pins, names::TRIPS)?,
            splices: open(pins, names::SPLICES)?,
            waiting: open(pins, names::WAITING)?,
            frames: open(pins, names::FRAMES)?,
            facts: open(pins, names::FACTS)?,
            rules: open(pins, names::RULES)?,
            weighted: open(pins, names::WEIGHTED)?,
            subsets: open(pins, names::SUBSETS)?,
            arena: open(pins, names::ARENA)?,
            instances: open(pins, names::INSTANCES)?,
            identities: open(pins, names::IDENTITIES)?,
            prefixes: open(pins, names::PREFIXES)?,
            nets: open(pins, names::NETS)?,
            bounds: open(pins, names::BOUNDS)?,
            classes: open(pins, names::CLASSES)?,
            workloads: open(pins, names::WORKLOADS)?,
            lanes: open(pins, names::LANES)?,
            links: open(pins, names::LINKS)?,
            threads: open(pins, names::THREADS)?,
            link_calls: open(pins, names::LINK_CALLS)?,
            filter: open(pins, names::FILTER)?,
            flows4: open_flows(pins, tables, names::FLOWS4)?,
            flows6: open_flows(pins, tables, names::FLOWS6)?,
            opening4: open(pins, names::OPENING4)?,
            opening6: open(pins, names::OPENING6)?,
            reasons: open(pins, names::REASONS)?,
            arms: open(pins, names::ARMS)?,
            times: open(pins, names::TIMES)?,
            requests: open(pins, names::REQUESTS)?,
            rule_hits: open(pins, names::RULE_HITS)?,
            clock: open(pins, names::CLOCK)?,
            listener: open(pins, names::LISTENER)?,
            callers: open(pins, names::CALLERS)?,
            listened: open(pins, names::LISTENED)?,
            xdp_out: open(pins, names::XDP_OUT)?,
            trusted: open(pins, names::TRUSTED)?,
            edges: open(pins, names::EDGES)?,
        })
    }

    /// Fetches what a decision missed into tables in memory; see `paging`.
    pub fn fetch(&self, t: &mut MemTables, miss: Miss) -> Result<(), KernelError> {
        let m = self;
        let why = failed("what a decision asks for");
        (|| {
            match miss {
                Miss::Listener(k) => {
                    let _ = t.listeners.insert(k, m.listeners.lookup(&k)?.unwrap_or_default());
                }
                Miss::Service(i) => array(&m.services, &mut t.services, i)?,
                Miss::Trip(i) => array(&m.trips, &mut t.trips, i)?,
                Miss::Reading(i) => array(&m.readings, &mut t.readings, i)?,
                Miss::Further(i) => array(&m.further, &mut t.further, i)?,
                Miss::Metadata(i) => array(&m.metadata, &mut t.metadata, i)?,
                Miss::Fact(i) => array(&m.facts, &mut t.facts, i)?,
                Miss::Rule(i) => array(&m.rules, &mut t.rules, i)?,
                Miss::Subset(i) => array(&m.subsets, &mut t.subsets, i)?,
                Miss::Arena(i) => array(&m.arena, &mut t.arena, i)?,
                Miss::Instance(i) => array(&m.instances, &mut t.instances, i)?,
                Miss::Class(i) => array(&m.classes, &mut t.classes, i)?,
                Miss::Weighted(i) => {
                    if let Some(v) = m.weighted.lookup(&i)? {
                        let _ = t.weighted.insert(i, Box::new(v));
                    }
                }
                Miss::Identity(h) => {
                    let _ = t.identities.insert(h, m.identities.lookup(&h)?.unwrap_or_default());
                }
                Miss::Prefix(addr) if addr.is_v4() => {
                    let bank = (t.control.epoch & 1) as u32;
                    let net = bank * limits::NETS + (u32::from_be(addr.as_v4()) >> 16);
                    let element = m.nets.lookup(&net)?.unwrap_or_default();
                    let _ = t.nets.insert(net, element);
                    if let Some(at) = nets::offset(element) {
                        let words = m.bounds.lookup(&at)?.unwrap_or(0) + 1;
                        t.bounds.extend((at..).zip(m.bounds.read(at, words)?));
                    }
                }
                Miss::Prefix(addr) => {
                    let key = PrefixKey { bits: 128, addr };
                    let _ = t.prefixes.insert(key, m.prefixes.lookup(&key)?.unwrap_or_default());
                }
            }
            Ok(())
        })()
        .map_err(why)
    }
}

/// A lookup that tables in memory could not answer. Array indexes are the kernel's, bank included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    Listener(ListenerKey),
    Service(u32),
    Trip(u32),
    Reading(u32),
    Further(u32),
    Metadata(u32),
    Fact(u32),
    Rule(u32),
    Weighted(u32),
    Subset(u32),
    Arena(u32),
    Instance(u32),
    Class(u32),
    Identity(u64),
    Prefix(Addr),
}

fn array<V: Wire>(
    map: &Map<u32, V>,
    into: &mut std::collections::BTreeMap<u32, V>,
    i: u32,
) -> io::Result<()> {
    if let Some(v) = map.lookup(&i)? {
        let _ = into.insert(i, v);
    }
    Ok(())
}
