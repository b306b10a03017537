//! What an agent costs that nobody asks anything.

use std::fmt::Write as _;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::outcome::{Bar, Row, Table};
use super::{Options, Outcome};
use crate::agent::Agent;
use crate::command::run as run_command;
use crate::policy::PolicyText;
use crate::world::{World, WorldSpec};

const HOW: &str = "The agent on an edge with three interfaces and a cgroup, 10 000 addresses on one list, loaded from a file; no traffic and no \
request. CPU time is user and system time (`/proc/PID/stat`), memory is VmRSS at the end. \
Nothing of it runs in kernel threads.";

const IDENTITIES: usize = 10_000;

pub fn run(o: &Options) -> Result<Outcome> {
    let time = Duration::from_secs(if o.quick { 4 } else { 60 });
    let mut out = Outcome::new("idle", "The agent at rest");
    out.how = HOW.into();
    let world = World::build(WorldSpec::default())?;
    let agent = Agent::start(&world)?;
    let policy = PolicyText::own(&world).sources("early", ["198.18.10.2"]).gray_when("early");
    let _ = agent.apply(&policy.to_string())?;
    let pid = agent.pid().context("the agent runs")?;
    let fresh = memory(pid)?;
    let mut ids = String::new();
    for n in 0..IDENTITIES {
        let _ = writeln!(ids, "198.19.{}.{}", n / 250, n % 250 + 1);
    }
    let file = world.temp().join("ids");
    fs::write(&file, ids)?;
    let _ = run_command(&mut agent.command(&["cohort", "load", "early", "--file", &file.to_string_lossy()]))?;
    // Until the load's own housekeeping is over.
    std::thread::sleep(Duration::from_secs(3));
    let (before, start) = (cpu_ns(pid)?, Instant::now());
    std::thread::sleep(time);
    let share = (cpu_ns(pid)? - before) as f64 / start.elapsed().as_nanos() as f64 * 100.0;
    let rss = memory(pid)?;
    let threads = fs::read_dir(format!("/proc/{pid}/task"))?.count();
    agent.uninstall()?;
    let row = |label: &str, cell: String, name: &str, value: f64| Row {
        label: label.into(),
        cells: vec![cell],
        values: [(name.to_owned(), value)].into(),
    };
    out.tables = vec![Table {
        title: format!("{} s at rest", time.as_secs()),
        columns: vec![String::new(), "agent".into()],
        rows: vec![
            row("CPU, % of a core", format!("{share:.3}"), "cpu_percent", share),
            row("memory, MB", format!("{:.1}", mb(rss)), "rss_mb", mb(rss)),
            row("memory before the list, MB", format!("{:.1}", mb(fresh)), "rss_fresh_mb", mb(fresh)),
            row("threads", threads.to_string(), "threads", threads as f64),
        ],
    }];
    let bar = |what: &str, bar: &str, measured: String, met| Bar {
        what: what.into(),
        bar: bar.into(),
        measured,
        met,
    };
    out.bars = vec![
        bar("CPU at rest", "<= 0.3 % of a core", format!("{share:.3} %"), share <= 0.3),
        bar("memory with 10 000 identities", "<= 40 MB", format!("{:.1} MB", mb(rss)), mb(rss) <= 40.0),
    ];
    Ok(out)
}

fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// User and system time, threads that ended included. Counted in hundredths of a second.
fn cpu_ns(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, which may hold anything, ends with the last parenthesis; utime and stime are fields 14 and 15.
    let fields = text.rsplit_once(')').context("/proc/PID/stat is not as expected")?.1;
    let times: Vec<u64> = fields.split_whitespace().skip(11).take(2).filter_map(|n| n.parse().ok()).collect();
    Ok(times.iter().sum::<u64>() * 10_000_000)
}

/// VmRSS in bytes.
fn memory(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kb: u64 = line.split_whitespace().next().context("no VmRSS")?.parse()?;
    Ok(kb * 1024)
}
