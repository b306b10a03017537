//! kill -9 under load: the agent dies, stays dead for a minute and is replaced. Nobody may notice.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};

use super::outcome::{Bar, Row, Table};
use super::{Options, Outcome};
use crate::agent::Agent;
use crate::client::{Load, LoadSpec, Mode, Report};
use crate::command::note;
use crate::place::Place;
use crate::policy::PolicyText;
use crate::scene::{servers, vip};
use crate::world::{World, WorldSpec};

const HOW: &str = "A client behind the edge (the packet path) and callers on the edge itself (the connect path); on each, 100 TCP \
connections that live through it all with a request each 100 ms, and HTTP with a connection per request, from addresses of which every \
fourth is gray. The agent gets SIGKILL, is gone for the stated time, and is started again. Every answer is checked by its nonce; a \
connection that had to be dialled again counts as lost; an answer of the arm that the policy does not name counts as wrong.";

const LONG_LIVED: usize = 50;
const PATIENCE: Duration = Duration::from_secs(20);

/// The loads of one path, and what they had done when the agent died.
struct Path {
    name: &'static str,
    sources: Vec<IpAddr>,
    new: Load,
    long: [Load; 2],
    dead: [u64; 2],
}

impl Path {
    fn start(name: &'static str, place: &Place, sources: Vec<IpAddr>) -> Result<Self> {
        let mut new = LoadSpec::new(vip(false, 8080), Mode::Http { per_connection: 1 });
        new.pause_ms = 10;
        let long =
            || LoadSpec::long_lived(vip(false, 9000), LONG_LIVED, 100).sources(sources.clone()).start(place);
        let new = new.sources(sources.clone()).start(place)?;
        let mut path = Self { name, new, long: [long()?, long()?], sources, dead: [0; 2] };
        for load in &mut path.long {
            let _ = load.wait_requests(2 * LONG_LIVED as u64, PATIENCE)?;
        }
        let _ = path.new.wait_requests(100, PATIENCE)?;
        Ok(path)
    }

    /// The new connections up to now.
    fn mark(&mut self, at: usize) -> Result<()> {
        self.dead[at] = self.new.snapshot()?.requests;
        Ok(())
    }
}

pub fn run(o: &Options) -> Result<Outcome> {
    let dead = Duration::from_secs(if o.quick { 3 } else { 60 });
    let mut out = Outcome::new("survive", "kill -9 under load");
    out.how = HOW.into();
    let world = World::build(WorldSpec { sources4: 64, ..WorldSpec::default() })?;
    let _servers = servers(&world);
    let mut agent = Agent::start(&world)?;
    let remote = world.clients[0].sources(false);
    let local: Vec<IpAddr> = world.edge_addresses();
    let every_fourth = |all: &[IpAddr]| -> Vec<IpAddr> { all.iter().step_by(4).copied().collect() };
    let gray = [every_fourth(&remote), every_fourth(&local)].concat();
    let policy = PolicyText::own(&world).sources("early", &gray).gray_when("early");
    let _ = agent.apply(&policy.to_string())?;
    let mut paths = [
        Path::start("packet path", &world.clients[0].place(), remote)?,
        Path::start("connect path", &world.caller(), local)?,
    ];
    agent.kill9()?;
    note(&format!("  dead for {} s", dead.as_secs()));
    for p in &mut paths {
        p.mark(0)?;
    }
    std::thread::sleep(dead);
    for p in &mut paths {
        p.mark(1)?;
    }
    agent.restart()?;
    std::thread::sleep(Duration::from_secs(1));
    let wanted = if o.quick { 1000 } else { 20_000 };
    report(&mut out, paths, &gray, wanted)?;
    agent.uninstall().context("uninstall")?;
    Ok(out)
}

fn report(out: &mut Outcome, paths: [Path; 2], gray: &[IpAddr], wanted: u64) -> Result<()> {
    let mut table = Table {
        title: "What the clients saw, from before the kill until after the restart".into(),
        columns: ["", "requests", "failed", "lost", "wrong arm", "p99 ms", "slowest ms"]
            .map(str::to_owned)
            .into(),
        rows: Vec::new(),
    };
    let (mut new_dead, mut new_failed, mut lost, mut wrong, mut stalls, mut slowest) = (0, 0, 0, 0, 0, 0);
    for p in paths {
        new_dead += p.dead[1] - p.dead[0];
        let new = p.new.stop()?;
        let long = p.long.into_iter().map(Load::stop).collect::<Result<Vec<Report>>>()?;
        new_failed += new.failed();
        let lost_here: u64 = long.iter().map(|r| r.opened.abs_diff(LONG_LIVED as u64) + r.failed()).sum();
        lost += lost_here;
        table.rows.push(row(
            &format!("{}, new connections", p.name),
            &new,
            0,
            wrong_arm(&new, &p.sources, gray),
        ));
        for r in &long {
            let lost = r.opened.abs_diff(LONG_LIVED as u64) + r.failed();
            table.rows.push(row(
                &format!("{}, {LONG_LIVED} long-lived", p.name),
                r,
                lost,
                wrong_arm(r, &p.sources, gray),
            ));
        }
        for r in long.iter().chain([&new]) {
            (stalls, slowest) = (stalls + r.stalls, slowest.max(r.max_us));
            wrong += wrong_arm(r, &p.sources, gray);
        }
    }
    let bar = |what: &str, bar: &str, measured: String, met: bool| Bar {
        what: what.into(),
        bar: bar.into(),
        measured,
        met,
    };
    out.tables = vec![table];
    out.bars = vec![
        bar(
            "new connections while no agent ran",
            &format!(">= {wanted}"),
            new_dead.to_string(),
            new_dead >= wanted,
        ),
        bar("failed new connections", "0", new_failed.to_string(), new_failed == 0),
        bar("lost of 200 long-lived connections", "0", lost.to_string(), lost == 0),
        bar(
            "answers later than 200 ms",
            "0",
            format!("{stalls}, slowest {} ms", slowest / 1000),
            stalls == 0,
        ),
        bar("answers of the wrong arm", "0", wrong.to_string(), wrong == 0),
    ];
    Ok(())
}

fn row(label: &str, r: &Report, lost: u64, wrong: u64) -> Row {
    let ms = |us: u64| format!("{:.1}", us as f64 / 1000.0);
    let counts = [r.requests, r.failed(), lost, wrong];
    let values = ["requests", "failed", "lost", "wrong"].map(str::to_owned);
    Row {
        label: label.into(),
        cells: counts.iter().map(u64::to_string).chain([ms(r.p99_us), ms(r.max_us)]).collect(),
        values: values.into_iter().zip(counts.map(|n| n as f64)).collect(),
    }
}

/// Good answers of a version that the source's list does not name.
fn wrong_arm(r: &Report, sources: &[IpAddr], gray: &[IpAddr]) -> u64 {
    let of = |s: &IpAddr| -> u64 {
        let wanted = if gray.contains(s) { "/2.0" } else { "/1.0" };
        let seen = r.by_source.get(&s.to_string()).into_iter().flatten();
        seen.filter(|(server, _)| !server.ends_with(wanted)).map(|(_, n)| n).sum()
    };
    sources.iter().map(of).sum()
}
