//! The reference: a policy compiled here, decided over in memory. It asks neither agent nor kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::{Context, Result};
use gray_common::{
    decide::{Claims, Request, Verdict, decide, mem::MemTables},
    hash::HashKey,
    wire::{ARM_GRAY, Addr, ListenerKey, Workload},
};
use gray_userspace::{
    compile::{
        self, Assigned, Circumstances, Compiled,
        have::Have,
        lists::{Lists, entry, of_policy, text_hash},
        plan::{self, Want},
    },
    config,
    datapath::write_mem,
    model::parse_member,
};

use super::op::LANE;

/// Everything that makes a policy beside the code.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    pub document: String,
    /// Live edits: cohort and id, on or off.
    pub edits: BTreeMap<(String, String), bool>,
    pub drained: BTreeSet<String>,
    pub key: HashKey,
    /// The label of the callers' cgroup, which says a lane, too.
    pub workload: Option<String>,
    pub assigned: Assigned,
}

/// Who asks, with which claims.
#[derive(Clone, Debug)]
pub struct Asker {
    pub source: Option<IpAddr>,
    /// Carries the callers' label.
    pub local: bool,
}

impl State {
    pub fn new(key: HashKey) -> Self {
        Self {
            document: String::new(),
            edits: BTreeMap::new(),
            drained: BTreeSet::new(),
            key,
            workload: None,
            assigned: Assigned::default(),
        }
    }

    /// As the agent compiles, on the numbers of the revision before.
    fn compile(&self) -> Result<(Compiled, Lists)> {
        let source = config::Source::new("policy", self.document.clone());
        let policy = config::load(&[source]).map_err(|e| anyhow::anyhow!("{e}"))?.policy;
        let around = Circumstances { drained: self.drained.clone(), ..Circumstances::default() };
        let compiled = compile::compile(&policy, &self.assigned, &around)?;
        let mut lists = of_policy(&policy, &compiled.assigned.lists, self.key);
        for l in policy.lists().iter().filter(|l| l.is_cohort) {
            let bit = compiled.assigned.lists.get(&l.name).context("a list without a number")?;
            for ((_, id), on) in self.edits.iter().filter(|((cohort, _), _)| *cohort == l.name) {
                let member = parse_member(l.of, id).map_err(|e| anyhow::anyhow!("{e}"))?;
                let _ = lists.set(bit, entry(self.key, l.of, &member), *on);
            }
        }
        Ok((compiled, lists))
    }

    /// With the numbers that this state hands down: after a change, and after a start, which compiles anew.
    pub fn settled(mut self) -> Result<Self> {
        self.assigned = self.compile()?.0.assigned;
        Ok(self)
    }

    /// The tables of an agent that never knew another policy.
    pub fn tables(&self) -> Result<MemTables> {
        let (compiled, lists) = self.compile()?;
        let want = Want::all(1, self.key, &compiled, &lists);
        let mut tables = MemTables::default();
        for step in plan::plan(&mut Have::default(), &want)? {
            write_mem(&mut tables, &step);
        }
        Ok(tables)
    }

    /// The label's claim in both banks.
    pub fn label(&self) -> Option<Workload> {
        let name = self.workload.as_ref()?;
        let hash = text_hash(self.key, gray_common::decide::claims::WORKLOAD, name).max(1);
        let lane = self.assigned.lanes.get(LANE).unwrap_or(Workload::NEW_LANE);
        Some(Workload { hash: [hash; 2], lane, link: 0 })
    }
}

/// What these tables decide for a connection.
pub fn ask(t: &MemTables, who: &Asker, label: Option<&Workload>, to: &ListenerKey, seed: u64) -> Verdict {
    let epoch = t.control.epoch;
    let key = t.control.key[(epoch & 1) as usize];
    let view = t.view();
    let source = who.source.map(Addr::from);
    let mut claims = Claims::none(0);
    if let Some(a) = &source {
        claims.set_source(key, a);
    }
    if let (true, Some(w)) = (who.local, label) {
        claims.set_workload(epoch, w);
        claims.lane = if view.lane(w.lane) == 0 { 0 } else { u64::from(w.lane) };
    }
    let listener = view.listener(to);
    let is_v4 = to.addr.is_v4();
    decide(&view, &Request { listener, claims: &claims, source: source.as_ref(), is_v4, seed, spares: 0 })
}

/// The version that a client sees: gray is 2.0.
pub fn version(v: Verdict) -> &'static str {
    match v {
        Verdict::Steer(d) if u32::from(d.arm) == ARM_GRAY => "2.0",
        _ => "1.0",
    }
}

/// A key as `gray key export` prints it.
pub fn key_of(hex: &str) -> Result<HashKey> {
    let b = gray_userspace::store::key::HashKey::from_hex(hex)?.bytes();
    let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| b[at + i]));
    Ok(HashKey { k0: word(0), k1: word(8) })
}
