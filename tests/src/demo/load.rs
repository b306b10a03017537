//! The traffic of one step: every client and every caller, both families, at once; then the judgement.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::Result;

use super::expect::Expect;
use super::policy::CALLERS;
use super::report::Row;
use super::signal;
use super::stage::{Stage, target};
use crate::client::{Load, LoadSpec, Mode, Report};
use crate::pace;
use crate::place::Place;

/// Requests of each client address in a step.
fn per_source() -> u64 {
    static N: OnceLock<u64> = OnceLock::new();
    *N.get_or_init(|| pace::many("requests of each client address in a step", 8, 2) as u64)
}

/// Each caller makes as many as five client addresses.
const PER_CALLER: u64 = 5;
/// The machine may be busy with something else: slow is not failed.
const TIMEOUT_MS: u64 = 10_000;
const PATIENCE: Duration = Duration::from_secs(30);

struct Running {
    caller: Option<&'static str>,
    v6: bool,
    load: Load,
}

/// All loads of a step.
pub(super) struct Traffic {
    running: Vec<Running>,
}

impl Traffic {
    /// A fixed number of requests for everybody.
    pub fn send(stage: &Stage, expect: &Expect) -> Result<Vec<Row>> {
        let mut traffic = Self::begin(stage, true, 0)?;
        let reports =
            std::mem::take(&mut traffic.running).into_iter().map(|r| Ok((r.caller, r.v6, r.load.wait()?)));
        judge(stage, expect, &reports.collect::<Result<Vec<_>>>()?)
    }

    /// Until `end`, with a pause between requests: a new agent must find time to start.
    pub fn endless(stage: &Stage) -> Result<Self> {
        Self::begin(stage, false, 20)
    }

    fn begin(stage: &Stage, counted: bool, pause_ms: u64) -> Result<Self> {
        let mut running = Vec::new();
        for v6 in [false, true] {
            for client in &stage.world.clients {
                let sources = client.sources(v6);
                let n = sources.len() as u64 * per_source();
                let spec = spec(v6, counted.then_some(n), pause_ms).sources(sources);
                running.push(start(&spec, &client.place(), None, v6)?);
            }
            for caller in &stage.callers {
                let spec = spec(v6, counted.then_some(PER_CALLER * per_source()), pause_ms).workers(1);
                running.push(start(&spec, &stage.caller_place(caller), Some(caller.name), v6)?);
            }
        }
        Ok(Self { running })
    }

    /// Until every load has `n` more answers than now.
    pub fn more(&mut self, n: u64) -> Result<()> {
        let now: Vec<u64> =
            self.running.iter_mut().map(|r| Ok(r.load.snapshot()?.requests)).collect::<Result<_>>()?;
        for (r, now) in self.running.iter_mut().zip(now) {
            signal::check()?;
            let _ = r.load.wait_requests(now + n, PATIENCE)?;
        }
        Ok(())
    }

    pub fn end(self, stage: &Stage, expect: &Expect) -> Result<Vec<Row>> {
        let reports = self.running.into_iter().map(|r| Ok((r.caller, r.v6, r.load.stop()?)));
        judge(stage, expect, &reports.collect::<Result<Vec<_>>>()?)
    }
}

fn spec(v6: bool, count: Option<u64>, pause_ms: u64) -> LoadSpec {
    let mut spec = LoadSpec::new(target(v6), Mode::Http { per_connection: 1 });
    (spec.count, spec.pause_ms, spec.timeout_ms) = (count, pause_ms, TIMEOUT_MS);
    spec
}

fn start(spec: &LoadSpec, place: &Place, caller: Option<&'static str>, v6: bool) -> Result<Running> {
    Ok(Running { caller, v6, load: spec.start(place)? })
}

type Told = (Option<&'static str>, bool, Report);

/// Four rows: clients and callers, IPv4 and IPv6.
fn judge(stage: &Stage, expect: &Expect, reports: &[Told]) -> Result<Vec<Row>> {
    signal::check()?;
    let mut rows = Vec::new();
    for callers in [false, true] {
        for v6 in [false, true] {
            let of_row = reports.iter().filter(|(c, six, _)| c.is_some() == callers && *six == v6);
            let names = if callers {
                CALLERS.iter().map(|c| (*c).to_owned()).collect()
            } else {
                stage.sources(v6).iter().map(ToString::to_string).collect()
            };
            rows.push(row(callers, v6, names, expect, of_row));
        }
    }
    Ok(rows)
}

fn row<'a>(
    callers: bool,
    v6: bool,
    names: Vec<String>,
    expect: &Expect,
    reports: impl Iterator<Item = &'a Told>,
) -> Row {
    let mut row = Row::new(callers, v6, names.len() as u64);
    let mut heard: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
    let reports: Vec<&Told> = reports.collect();
    for (caller, _, report) in &reports {
        row.count(report);
        for (source, servers) in &report.by_source {
            let seen = heard.entry(caller.unwrap_or(source)).or_default();
            for (server, n) in servers {
                *seen.entry(server.rsplit_once('/').map_or("?", |(_, version)| version)).or_default() += n;
            }
        }
    }
    for name in &names {
        row.judge(name, expect.gray(name), &heard.remove(name.as_str()).unwrap_or_default());
    }
    row
}
