//! The kernel as what decides: a test program around `decide` over the data path's own maps, run on frames that ask. Beside it the same
//! tables in memory, which must say the same of everything that is asked.

use std::{collections::BTreeMap, net::IpAddr};

use anyhow::{Context as _, Result, anyhow, ensure};
use aya::{
    Ebpf, TestRun as _, TestRunOptions,
    maps::{Array, Map, MapData},
    programs::{Program, SchedClassifier},
};
use gray_common::{
    decide::{
        Claims, Known, Local, Request, Verdict,
        ask::{Ask, Said},
        decide,
        mem::MemTables,
    },
    names::{self, MAPS},
    packet::ETH_LEN,
    wire::{Addr, ListenerKey, SERVICE_REQUEST, Trip, Workload},
};
use gray_userspace::{
    compile::{
        Assigned, Circumstances, compile,
        have::Have,
        lists::of_policy,
        plan::{Want, Write, plan},
    },
    config::{self, Source},
    datapath::{Datapath as _, write_mem},
    kernel::Live,
};

use super::reader::{Asked, Decides, KEY};
use crate::{
    object,
    packets::rig::{HZ, Rig},
};

/// By all that can be known of a client, and by what is known of a caller on this node.
const ALL: &str = "lab_decide";
const LOCAL: &str = "lab_decide_local";

/// A breaker's element, of which the time it opened is first.
type TripBytes = [u8; size_of::<Trip>()];

/// What a caller on this node is known by.
#[derive(Clone, Copy, Debug, Default)]
pub struct Caller {
    pub source: Option<IpAddr>,
    pub mark: u32,
    /// The hash of its workload's name; 0: it has none.
    pub workload: u64,
    pub lane: u64,
    pub seed: u64,
}

/// The kernel, and the tables in memory.
pub struct Kernel<'r> {
    live: &'r mut Live,
    ebpf: Ebpf,
    trips: Array<MapData, TripBytes>,
    have: Have,
    pub memory: MemTables,
    /// For so long no agent was able to act.
    gone: u64,
    /// Breakers that are open, and since how long ago.
    tripped: BTreeMap<u32, u64>,
    /// So often it was asked.
    pub asked: u64,
}

impl<'r> Kernel<'r> {
    /// # Errors
    /// When the program does not load.
    pub fn new(rig: &'r mut Rig) -> Result<Self> {
        let mut ebpf = object::open_decide(|loader| {
            let _ = loader.allow_unsupported_maps();
            for spec in MAPS {
                let _ = loader.map_pin_path(spec.name, rig.pins.map(spec.name));
            }
        })?;
        for name in [ALL, LOCAL] {
            program(&mut ebpf, name)?.load().context(name)?;
        }
        let pin = rig.pins.map(names::TRIPS);
        let trips = Array::try_from(Map::Array(MapData::from_pin(pin)?))?;
        Ok(Self {
            have: rig.live.read()?,
            live: &mut rig.live,
            ebpf,
            trips,
            memory: MemTables::default(),
            gone: 0,
            tripped: BTreeMap::new(),
            asked: 0,
        })
    }

    /// The kernel's verdict, which memory's must equal.
    fn verdict(
        &mut self,
        name: &str,
        ask: &Ask,
        by_memory: impl FnOnce(&MemTables) -> Verdict,
    ) -> Result<Verdict> {
        self.turn_clock()?;
        let mut frame = vec![0; ETH_LEN];
        // An Ethernet type for experiments: the kernel looks no further.
        frame[12..].copy_from_slice(&[0x88, 0xb5]);
        frame.extend(ask.bytes());
        let mut out = vec![0; frame.len()];
        let options =
            TestRunOptions { data_in: Some(&frame), data_out: Some(&mut out), ..TestRunOptions::default() };
        let done = program(&mut self.ebpf, name)?.test_run(options)?.return_value;
        ensure!(done == 1, "{name} did not decide: {done}");
        let got = Said::read(&out[ETH_LEN..]).context("no verdict")?;
        let want = by_memory(&self.memory);
        self.asked += 1;
        ensure!(got == want, "the kernel says {got:?}\n    memory says     {want:?}");
        Ok(got)
    }

    /// Ticks go on meanwhile: what is counted in them is said anew each time.
    fn turn_clock(&mut self) -> Result<()> {
        let timed = self.gone != 0 || !self.tripped.is_empty();
        if !timed && self.memory.now != 0 {
            return Ok(());
        }
        let now = self.live.clock()?.jiffies;
        let ago = |seconds: u64| now - seconds * u64::from(HZ);
        // A tick before it was over, and one after.
        let renewed = ago(self.gone) - u64::from(self.gone != 0);
        self.live.configure(|c| (c.hz, c.renewed) = (HZ, renewed));
        (self.memory.control.hz, self.memory.control.renewed, self.memory.now) = (HZ, renewed, now);
        for (service, seconds) in &self.tripped {
            let mut bytes = [0; size_of::<Trip>()];
            bytes[..8].copy_from_slice(&ago(*seconds).to_ne_bytes());
            self.trips.set(*service, bytes, 0)?;
            let trip = Trip { opened: ago(*seconds), ..Trip::default() };
            let _ = self.memory.trips.insert(*service, trip);
        }
        Ok(())
    }

    /// Puts a policy in force: where it listens. `None`: it has nothing to ask for, or does not fit.
    ///
    /// # Panics
    /// When the kernel does not take it.
    pub fn put(&mut self, text: &str) -> Option<Vec<ListenerKey>> {
        let policy = config::load(&[Source::new("lab", text)]).ok()?.policy;
        let compiled = compile(&policy, &Assigned::default(), &Circumstances::default()).ok()?;
        self.begin().expect("breakers are closed");
        let lists = of_policy(&policy, &compiled.assigned.lists, KEY);
        let have = self.have();
        let want = Want::all(have.revision + 1, KEY, &compiled, &lists);
        let steps = plan(have, &want).expect("it was compiled");
        self.write(&steps).expect("the kernel takes it");
        let keys: Vec<_> = compiled.listeners.keys().copied().collect();
        (!keys.is_empty()).then_some(keys)
    }

    /// What the connect path's decision is for a caller.
    ///
    /// # Errors
    /// When memory's is another one.
    pub fn decide_local(&mut self, key: ListenerKey, is_v4: bool, who: &Caller) -> Result<Verdict> {
        let source = who.source.map(Addr::from);
        let mut claims = Local::none(0);
        if let Some(source) = &source {
            claims.set_source(KEY, source);
        }
        claims.set_mark(KEY, who.mark);
        if who.workload != 0 {
            claims.set_workload(0, &Workload { hash: [who.workload; 2], ..Workload::default() });
        }
        claims.lane = who.lane;
        let asked = Asked {
            key,
            claims: Claims { lane: who.lane, ..Claims::none(0) },
            source,
            is_v4,
            seed: who.seed,
        };
        let ask = Ask { spares: SERVICE_REQUEST, mark: who.mark, workload: who.workload, ..ask(&asked) };
        self.verdict(LOCAL, &ask, |t| by_memory(t, &asked, &claims, SERVICE_REQUEST))
    }
}

impl Decides for Kernel<'_> {
    fn have(&mut self) -> &mut Have {
        &mut self.have
    }

    fn begin(&mut self) -> Result<(), String> {
        let closed = [0; size_of::<Trip>()];
        for service in std::mem::take(&mut self.tripped).into_keys() {
            self.trips.set(service, closed, 0).map_err(|e| e.to_string())?;
        }
        (self.gone, self.memory.now) = (0, 0);
        self.memory.trips.clear();
        Ok(())
    }

    fn write(&mut self, steps: &[Write]) -> Result<(), String> {
        self.live.settle().map_err(|e| e.to_string())?;
        for step in steps {
            self.live.write(step).map_err(|e| e.to_string())?;
            write_mem(&mut self.memory, step);
        }
        Ok(())
    }

    fn leave(&mut self, seconds: u64) {
        (self.gone, self.memory.now) = (seconds, 0);
    }

    fn trip(&mut self, service: u32, seconds: u64) {
        self.leave(0);
        let _ = self.tripped.insert(service, seconds);
    }

    fn decide(&mut self, a: &Asked) -> Result<Verdict, String> {
        self.verdict(ALL, &ask(a), |t| by_memory(t, a, &a.claims, 0)).map_err(|e| format!("{e:#}"))
    }
}

fn program<'e>(ebpf: &'e mut Ebpf, name: &str) -> Result<&'e mut SchedClassifier> {
    match ebpf.program_mut(name) {
        Some(Program::SchedClassifier(p)) => Ok(p),
        _ => Err(anyhow!("the object has no program {name}")),
    }
}

fn ask(a: &Asked) -> Ask {
    Ask {
        claims: a.claims,
        seed: a.seed,
        workload: 0,
        key: a.key,
        source: a.source.unwrap_or_default(),
        has_source: u32::from(a.source.is_some()),
        is_v4: u32::from(a.is_v4),
        spares: 0,
        mark: 0,
        _pad: 0,
    }
}

fn by_memory<C: Known>(tables: &MemTables, a: &Asked, claims: &C, spares: u32) -> Verdict {
    let view = tables.view();
    let request = Request {
        listener: view.listener(&a.key),
        claims,
        source: a.source.as_ref(),
        is_v4: a.is_v4,
        seed: a.seed,
        spares,
    };
    decide(&view, &request)
}
