//! The request path end to end over an edge, side by side: what it costs to read a header of a connection's first request, or of each,
//! and what users would run instead.

pub(super) mod answers;
mod apart;
mod bars;
pub(super) mod path;

use std::cell::RefCell;

use anyhow::{Context as _, Result};

use super::compare::{Compared, Load, Sample, point};
use super::outcome::{Plot, Series};
use super::rounds::abba;
use super::stats::Median;
use super::{Options, Outcome, slice};
use crate::client::crowd::CrowdSpec;
use crate::client::fetch::{self, FetchSpec};
use answers::Answers;
use apart::{Apart, Cores};
use path::{Kind, Path};

const HOW: &str = "A client, an edge and a server (nginx, one worker, which is version 1.0 on one port and, for 10 000 listed APP IDs, 2.0 on another), \
each a network namespace, joined by veth. Each path has three of its own: only the machine is shared. Routed: every client dials the version that is \
its own. gray: `claims: { app: { header: X-App-Id } }` and a cohort of 10 000 `apps`, once `per: connection` and once `per: request`. HAProxy: mode \
http, one thread, the header looked up in a map file of 10 000 (`map_str`), `http-reuse always`, splicing, no log. nginx, Lua: one worker, the header \
looked up in a `lua_shared_dict` of 10 000 by `set_by_lua`, upstream keepalive, no log. The load is the lab's own and the same for all: one thread, 64 \
connections in a closed loop; each names one of 512 APP IDs, of which every second one is listed, and every answer is compared with what this request \
must get from this APP ID's version. Latencies count from when a request is sent. One at a time: one connection, a new one for each request; latencies \
count from when it is dialled. Bulk: one download of 1 GB over HTTP, compared byte by byte. A round measures each path for a second, then each again in \
reverse order; each round begins with another path. Ratios are taken within a round; what is shown is their median with its 95 % interval (sign test). \
CPU time is that of the whole machine (`/proc/stat`), load generator and server included. Edge apart: the edge has a core of its own, whose CPU time is \
shown; receive packet steering and affinity keep what the edge does on it and all else off it, as if it were a machine of its own. A round in which other \
programs took more than 3 % of the CPUs is measured again; where it is never quiet, the quietest rounds of three times as many count.";

const APART: Load = Load {
    title: "Keep-alive, edge apart",
    cpu: "edge's CPU us per request",
    cpu_key: "edge_cpu_us_per_request",
    ..slice::KEEP_ALIVE
};

/// Nobody waits for another one: what a request takes.
const ALONE: Load = Load { title: "One at a time", ..slice::KEEP_ALIVE };

pub fn run(o: &Options) -> Result<Outcome> {
    let mut out = Outcome::new("request", "The request path, side by side");
    out.how = HOW.into();
    let bench = Bench::build(o)?;
    let alive = bench.compare(slice::KEEP_ALIVE, |p| bench.ask(p, &bench.spec(p), None))?;
    let apart = bench.apart()?;
    let close = |p| CrowdSpec { close: true, ..bench.spec(p) };
    let each = bench.compare(slice::PER_REQUEST, |p| bench.ask(p, &close(p), None))?;
    let alone = bench.compare(ALONE, |p| bench.ask(p, &CrowdSpec { connections: 1, ..close(p) }, None))?;
    let bulk = bench.compare(slice::BULK, |p| bench.download(p))?;
    let answers = bench.answers.into_inner();
    let compared = [alive, apart, each, alone, bulk];
    out.tables = compared.iter().map(|c| c.table("routed")).collect();
    out.tables.push(answers::table(&answers));
    out.bars = bars::bars(&compared, &answers);
    let [alive, apart, each, _, bulk] = &compared;
    out.plots = vec![
        drawn(
            "request-rate",
            "Throughput over the edge, by a header",
            "times that of routed (more is better)",
            (&[alive, each, bulk], Compared::rate_ratio),
        ),
        drawn(
            "request-cpu",
            "CPU time per request or byte, by a header",
            "times that of routed (less is better)",
            (&[apart, alive, each, bulk], Compared::cpu_ratio),
        ),
    ];
    out.notes = compared.iter().map(|c| c.rounds.quiet(c.load.title)).collect();
    out.notes.extend(answers.iter().filter_map(Answers::note));
    Ok(out)
}

struct Bench {
    quick: bool,
    bulk_bytes: u64,
    paths: Vec<Path>,
    /// By path.
    answers: RefCell<Vec<Answers>>,
    _bulk: tempfile::TempDir,
}

impl Bench {
    fn build(o: &Options) -> Result<Self> {
        let dir = tempfile::tempdir().context("make a directory for the download")?;
        let (bulk, bulk_bytes) = (dir.path().join("bulk"), if o.quick { 50_000_000 } else { 1_000_000_000 });
        fetch::make(&bulk, bulk_bytes)?;
        let paths = Kind::ALL.into_iter().map(|k| Path::build(k, &bulk)).collect::<Result<Vec<_>>>()?;
        let answers = RefCell::new(paths.iter().map(|p| Answers::new(p.kind.name())).collect());
        Ok(Self { quick: o.quick, bulk_bytes, paths, answers, _bulk: dir })
    }

    fn compare(&self, load: Load, measure: impl Fn(usize) -> Result<Sample>) -> Result<Compared> {
        crate::command::note(&format!("  {}", load.title));
        let rounds = abba(if self.quick { 1 } else { 30 }, self.paths.len(), measure)?;
        Ok(Compared { load, paths: self.paths.iter().map(|p| p.kind.name()).collect(), rounds })
    }

    fn apart(&self) -> Result<Compared> {
        let cores = Cores::here()?;
        let _apart = self.paths.iter().map(|p| Apart::set(p, &cores)).collect::<Result<Vec<_>>>()?;
        let spec = |p| CrowdSpec { cores: cores.others.clone(), ..self.spec(p) };
        self.compare(APART, |p| self.ask(p, &spec(p), Some(cores.edge)))
    }

    fn spec(&self, path: usize) -> CrowdSpec {
        CrowdSpec {
            members: self.paths[path].members(),
            connections: slice::CONNECTIONS,
            close: false,
            time_ms: if self.quick { 200 } else { 1000 },
            patience_ms: 5000,
            cores: Vec::new(),
        }
    }

    /// `core`: whose CPU time counts; none: all.
    fn ask(&self, path: usize, spec: &CrowdSpec, core: Option<usize>) -> Result<Sample> {
        let p = &self.paths[path];
        let found = slice::crowd(spec, &p.world.clients[0].place(), core);
        let (sample, report) = found.with_context(|| p.kind.name())?;
        self.answers.borrow_mut()[path].add(&report);
        if spec.connections > 1 {
            return Ok(sample);
        }
        let us = |percent| report.whole.percentile(percent) as f64 / 1e3;
        Ok(Sample { p50_us: us(50.0), p99_us: us(99.0), ..sample })
    }

    fn download(&self, path: usize) -> Result<Sample> {
        let p = &self.paths[path];
        // On the list: a proxy or gray has read the header.
        let m = &p.members()[1];
        let spec =
            FetchSpec { dial: m.dial, path: "/bulk".into(), app: m.app.clone(), bytes: self.bulk_bytes };
        slice::download(&spec, &p.world.clients[0].place()).with_context(|| p.kind.name())
    }
}

type Ratio = fn(&Compared, usize) -> Median;

/// A group of bars for each load, a bar for each path.
fn drawn(name: &str, title: &str, y: &str, (compared, ratio): (&[&Compared], Ratio)) -> Plot {
    Plot {
        name: name.into(),
        title: title.into(),
        y: y.into(),
        categories: compared.iter().map(|c| c.load.title.into()).collect(),
        series: (0..Kind::ALL.len())
            .map(|p| Series {
                name: Kind::ALL[p].name().into(),
                points: compared.iter().enumerate().map(|(x, c)| point(x, ratio(c, p))).collect(),
            })
            .collect(),
        ..Plot::default()
    }
}
