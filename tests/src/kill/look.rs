//! What is decided now, by the kernel's tables read back and by real connections on both paths, and what a state
//! should decide.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, ensure};
use gray_common::{
    decide::{Verdict, mem::MemTables},
    wire::{Addr, ListenerKey, Workload},
};

use super::model::{Asker, State, ask, version};
use super::pinned;
use crate::client::{LoadSpec, Mode, Report};
use crate::place::Place;
use crate::scene::{Scene, vip};

/// Seeds of made-up connections: other instances of an arm, other buckets of who has no identity.
const SEEDS: [u64; 3] = [1, 77, 4_000_000_007];

/// All that one look sees. Two policies that differ for nobody here are the same to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    decisions: Vec<(String, Verdict)>,
    versions: BTreeMap<String, String>,
    pub listeners: usize,
    pub identities: usize,
    pub prefixes: usize,
    pub instances: usize,
}

impl Seen {
    /// What a state should look like.
    pub fn expected(scene: &Scene, state: &State) -> Result<Self> {
        let (tables, label) = (state.tables()?, state.label());
        let web = |v6| key(v6, 8080, 6);
        let mut versions = BTreeMap::new();
        for (who, asker) in callers(scene) {
            let v6 = asker.source.is_some_and(|s| s.is_ipv6());
            let verdict = ask(&tables, &asker, label.as_ref(), &web(v6), SEEDS[0]);
            let _ = versions.insert(who, version(verdict).to_owned());
        }
        Ok(Self::of(&tables, label.as_ref(), versions))
    }

    /// What is in force, agent or not.
    pub fn now(scene: &Scene) -> Result<Self> {
        let mut versions = BTreeMap::new();
        let w = &scene.world;
        for v6 in [false, true] {
            connect(&w.clients[0].place(), "packet", w.clients[0].sources(v6), v6, &mut versions)?;
        }
        connect(&w.caller(), "connect", w.edge_addresses(), false, &mut versions)?;
        connect(&w.caller(), "connect", Vec::new(), false, &mut versions)?;
        let tables = pinned::read(scene.agent.bpffs())?;
        Ok(Self::of(&tables, pinned::label(scene.agent.bpffs())?.as_ref(), versions))
    }

    fn of(tables: &MemTables, label: Option<&Workload>, versions: BTreeMap<String, String>) -> Self {
        let mut decisions = Vec::new();
        let bits = tables.control.epoch & 1;
        // A label carries its hash under both keys; `ask` takes the active bank's.
        let label = label.map(|w| Workload { hash: [w.hash[bits as usize]; 2], ..*w });
        for (port, proto) in [(8080, 6), (9000, 6), (9001, 17), (8081, 6)] {
            for asker in askers() {
                for v6 in [false, true] {
                    if asker.source.is_some_and(|s| s.is_ipv6() != v6) {
                        continue;
                    }
                    for seed in SEEDS {
                        let verdict = ask(tables, &asker, label.as_ref(), &key(v6, port, proto), seed);
                        decisions.push((format!("{asker:?} {port} {v6} {seed}"), verdict));
                    }
                }
            }
        }
        Self {
            decisions,
            versions,
            listeners: tables.listeners.len(),
            identities: tables.identities.len(),
            prefixes: tables.prefixes.len(),
            instances: tables.instances.len(),
        }
    }

    /// Whether everything is decided as there. Leftovers that decide nothing do not count.
    pub fn decides_as(&self, other: &Self) -> bool {
        self.decisions == other.decisions && self.versions == other.versions
    }

    /// How this differs from an expectation: how often, and the first differences.
    pub fn unlike(&self, other: &Self) -> String {
        let table: Vec<_> = self.decisions.iter().zip(&other.decisions).filter(|(a, b)| a != b).collect();
        let live: Vec<_> = self.versions.iter().filter(|(k, v)| other.versions.get(*k) != Some(*v)).collect();
        let first = table.first().map(|(a, b)| format!("{}: {:?}, not {:?}", a.0, a.1, b.1));
        format!(
            "{} of {} decisions of the tables (first: {first:?}), connections {live:?}; entries {:?}, not {:?}",
            table.len(),
            self.decisions.len(),
            (self.listeners, self.identities, self.prefixes, self.instances),
            (other.listeners, other.identities, other.prefixes, other.instances),
        )
    }
}

fn key(v6: bool, port: u16, proto: u8) -> ListenerKey {
    ListenerKey { addr: Addr::from(vip(v6, port).ip()), port: port.to_be(), proto, _pad: 0 }
}

/// Made-up clients: half of the client network and a little of its IPv6 one, and local callers.
fn askers() -> Vec<Asker> {
    let v4 = (0..128).map(|n| IpAddr::from([198, 18, 10, n]));
    let v6 = (0..16).map(|n| IpAddr::from([0xfd00, 0x18, 0x10, 0, 0, 0, 0, n]));
    let mut all: Vec<Asker> = v4.chain(v6).map(|s| Asker { source: Some(s), local: false }).collect();
    all.push(Asker { source: None, local: true });
    all
}

/// Who really connects: name and claims.
fn callers(scene: &Scene) -> Vec<(String, Asker)> {
    let c = &scene.world.clients[0];
    let remote = [c.sources(false), c.sources(true)].concat().into_iter();
    let mut all: Vec<_> =
        remote.map(|s| (format!("packet {s}"), Asker { source: Some(s), local: false })).collect();
    let local = scene.world.edge_addresses().into_iter();
    all.extend(local.map(|s| (format!("connect {s}"), Asker { source: Some(s), local: true })));
    all.push(("connect unbound".into(), Asker { source: None, local: true }));
    all
}

/// One connection from each source; no failure is forgiven.
fn connect(
    place: &Place,
    path: &str,
    sources: Vec<IpAddr>,
    v6: bool,
    out: &mut BTreeMap<String, String>,
) -> Result<()> {
    let to: SocketAddr = vip(v6, 8080);
    let count = sources.len().max(1) as u64;
    let spec = LoadSpec::new(to, Mode::Http { per_connection: 1 }).count(count).sources(sources.clone());
    let report: Report = spec.run(place)?;
    ensure!(report.failed() == 0, "{path}: {:?} {:#?}", report.failures, report.details);
    for s in &sources {
        let _ = out.insert(format!("{path} {s}"), report.versions_of(*s).join("+"));
    }
    if sources.is_empty() {
        let gray = report.share("2.0") > 0.5;
        let _ = out.insert(format!("{path} unbound"), if gray { "2.0" } else { "1.0" }.into());
    }
    Ok(())
}
