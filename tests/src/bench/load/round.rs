//! One load in a world of its own, with traffic beside it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::WorldSpec;
use crate::bench::ask::Ask;
use crate::bench::flip::{redial, witness::Witness};
use crate::bench::stats;
use crate::bench::turn::Turn;
use crate::client::{LoadSpec, Mode, Sample};
use crate::policy::PolicyText;
use crate::scene::{Scene, vip};
use crate::sys::monotonic_ns;

/// What a load gave. Seconds count from the start of the command.
#[derive(Debug, Clone, Copy)]
pub struct Round {
    pub live_s: f64,
    pub durable_s: f64,
    pub command_s: f64,
    pub peak_mb: f64,
    pub rss_mb: f64,
    pub store_mb: f64,
    pub p99_ratio: f64,
    pub add_p50_ms: f64,
    pub add_p99_ms: f64,
}

/// Before the load.
const CALM: Duration = Duration::from_secs(3);
/// Single edits with the list resident.
const EDITS: usize = 50;

pub fn run(size: usize, number: usize) -> Result<Round> {
    let scene = Scene::start(WorldSpec { sources4: 4, ..WorldSpec::default() });
    let (world, agent) = (&scene.world, &scene.agent);
    let policy = PolicyText::moved(world).identify("workload, source");
    scene.apply(&policy.cohort("apps", "workloads: []").gray_when("apps"));
    let (file, last) = write(world.temp(), size, number)?;
    let callers = world.callers.path().to_string_lossy().into_owned();
    let _ = agent.gray_ok(&["workload", "set", &last, "--cgroup", &callers])?;
    let witness = Witness::attach(world.callers.path())?;
    let _dialler = redial::start(&world.caller(), vip(false, 9001), Duration::from_millis(1))?;
    let _turn = Turn::wait()?;
    let mut traffic = LoadSpec::new(vip(false, 8080), Mode::Http { per_connection: 1 });
    (traffic.record, traffic.pause_ms) = (true, 2);
    let traffic =
        traffic.sources(world.clients[0].sources(false)).workers(2).start(&world.clients[0].place())?;
    std::thread::sleep(CALM);
    let begun = monotonic_ns();
    let answer = agent.gray_json(&["cohort", "load", "apps", "--file", &file])?;
    let ended = monotonic_ns();
    ensure!(answer["added"] == json!(size), "{answer}");
    let traffic = traffic.stop()?;
    traffic.assert_all_ok();
    let first = witness.seen(world.backends[1].v4)?.first_ns;
    ensure!(first > begun, "the last id was never decided for, or too early");
    let seconds = |ns: u64| (ns - begun) as f64 / 1e9;
    let pid = agent.pid().context("the agent is gone")?;
    let peak_mb = memory(pid, "VmHWM:")?;
    let (add_p50_ms, add_p99_ms) = edits(agent.socket())?;
    let store = world.temp().join("state");
    let round = Round {
        live_s: seconds(first),
        durable_s: seconds(at(&answer, "durable_ns")?),
        command_s: seconds(ended),
        peak_mb,
        rss_mb: memory(pid, "VmRSS:")?,
        store_mb: sizes(&store)? / 1e6,
        p99_ratio: p99(&traffic.samples, begun, ended) / p99(&traffic.samples, 0, begun),
        add_p50_ms,
        add_p99_ms,
    };
    Ok(round)
}

fn at(answer: &Value, key: &str) -> Result<u64> {
    answer["timings"][key].as_u64().with_context(|| format!("no {key} in {answer}"))
}

/// Ids in an order that is no order; returns the file and its last id.
fn write(dir: &Path, size: usize, number: usize) -> Result<(String, String)> {
    let id = |i: usize| format!("app-{number}-{i:07}");
    // A step without a common divisor with the size visits each once.
    let order = (0..size).map(|i| i.wrapping_mul(611_953) % size);
    let mut text = String::with_capacity(size * 16);
    let mut last = String::new();
    for i in order {
        last = id(i);
        text.push_str(&last);
        text.push('\n');
    }
    let file = dir.join("ids.txt");
    fs::write(&file, text)?;
    Ok((file.to_string_lossy().into_owned(), last))
}

/// From the request to the flip, p50 and p99, ms; after each pause nothing is left to tidy.
fn edits(socket: &Path) -> Result<(f64, f64)> {
    let mut ask = Ask::connect(socket)?;
    let mut found = Vec::with_capacity(EDITS);
    for n in 0..EDITS {
        std::thread::sleep(Duration::from_millis(60));
        let begun = monotonic_ns();
        let edit = json!({ "op": "add", "ids": [format!("one-more-{n}")] });
        let answer = ask.post("/v1/cohorts/apps/edit", &edit)?;
        found.push((at(&answer, "flipped_ns")? - begun) as f64 / 1e6);
    }
    Ok((stats::percentile(&found, 50.0), stats::percentile(&found, 99.0)))
}

/// Of the requests that began in this time, us.
fn p99(samples: &[Sample], from: u64, to: u64) -> f64 {
    let of: Vec<f64> = samples
        .iter()
        .filter(|s| (from..to).contains(&s.begun_ns))
        .map(|s| (s.ended_ns - s.opened_ns) as f64 / 1e3)
        .collect();
    stats::percentile(&of, 99.0)
}

fn memory(pid: u32, key: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|l| l.strip_prefix(key)).context("no such line")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1e3)
}

fn sizes(dir: &Path) -> Result<f64> {
    let mut sum = 0;
    for entry in fs::read_dir(dir)? {
        sum += entry?.metadata()?.len();
    }
    Ok(sum as f64)
}
