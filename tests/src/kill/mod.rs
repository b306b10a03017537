//! The kill driver: lets the agent die at a fail point or at a moment of chance, under load, and compares what is then
//! decided, with no agent and with the next one, with a reference model: the old policy or the new one, whole.

pub mod look;
pub mod model;
pub mod op;
pub mod pinned;

use std::collections::BTreeMap;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use gray_userspace::fail::Point;

use crate::bpf;
use crate::client::{Load, LoadSpec};
use crate::command::{note, wait_for};
use crate::pace::patience;
use crate::scene::{Scene, vip};
use look::Seen;
use model::{State, key_of};
pub use op::Op;

/// How often it comes.
const HOUSEKEEPING: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(10);
const LONG_LIVED: usize = 20;

/// When the agent dies.
#[derive(Debug, Clone, PartialEq)]
pub enum Kill {
    /// `NAME:NTH` of a fail point.
    At(String),
    /// So long after it was started.
    Starting(Duration),
    /// So long after the command was started.
    Changing(Duration),
}

/// What a round came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Turn {
    /// It died before the operation began.
    InStart,
    Kept,
    Turned,
    /// The operation ended and nothing killed it; the driver did.
    Survived,
}

/// A small generator (Knuth's MMIX constants): a seed gives the same kills again.
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 11
    }
}

/// A scene with its model. Between two rounds no agent runs.
pub struct Driver {
    pub scene: Scene,
    pub state: State,
    expected: Seen,
    /// What the next start may finish.
    lagging: Option<State>,
    /// Revisions that took effect.
    pub revisions: BTreeMap<u64, State>,
    pub random: Random,
    baseline: Vec<String>,
    loads: Vec<Load>,
}

impl Driver {
    /// Applies the first document and a label, starts the background load, and stops the agent.
    pub fn start(mut scene: Scene, seed: u64) -> Result<Self> {
        note(&format!("kill driver: GRAY_SEED={seed}"));
        let agent = &scene.agent;
        let key = key_of(&agent.gray_ok(&["key", "export"])?)?;
        let mut state = State::new(key);
        state.document = op::document(&scene.world, false);
        let _ = agent.apply(&state.document)?;
        let state = state.settled()?;
        let expected = Seen::expected(&scene, &state)?;
        let long = |interval| LoadSpec::long_lived(vip(false, 9000), LONG_LIVED, interval);
        let client = &scene.world.clients[0];
        let loads = vec![
            long(50).sources(client.sources(false)).start(&client.place())?,
            long(50).start(&scene.world.caller())?,
        ];
        let baseline = traces(&scene)?;
        scene.agent.stop()?;
        let (revisions, random) = (BTreeMap::from([(1, state.clone())]), Random(seed));
        let mut d = Self { scene, state, expected, lagging: None, revisions, random, baseline, loads };
        // A second document to roll back to.
        let _ = d.round(Op::Apply, &Kill::At(format!("{}:99", Point::ChangeBegun.name())))?;
        Ok(d)
    }

    /// Starts the agent, begins an operation, lets the agent die, looks.
    pub fn round(&mut self, op: Op, kill: &Kill) -> Result<Turn> {
        self.round_inner(op, kill).with_context(|| format!("{op:?}, killed at {kill:?}"))
    }

    fn round_inner(&mut self, op: Op, kill: &Kill) -> Result<Turn> {
        let point = if let Kill::At(point) = kill { point.as_str() } else { "" };
        self.scene.agent.spawn(&[("GRAY_FAIL", point)])?;
        if let Kill::Starting(after) = kill {
            pass(*after);
            self.scene.agent.kill9()?;
            return self.died_in_start();
        }
        if !self.scene.agent.wait_ready()? {
            return self.died_in_start();
        }
        if let Err(e) = self.converged() {
            return if self.scene.agent.was_killed()? { self.died_in_start() } else { Err(e) };
        }
        let (mut command, next) = op.prepare(self)?;
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let survived = match kill {
            Kill::Changing(after) => {
                pass(*after);
                self.scene.agent.kill9()?;
                end(child)?;
                false
            }
            _ => self.until_dead(child)?,
        };
        self.died_in_change(op, next, survived)
    }

    /// Waits for the agent's death; true when none came.
    fn until_dead(&mut self, mut child: Child) -> Result<bool> {
        let mut done = None;
        loop {
            if self.scene.agent.was_killed()? {
                end(child)?;
                return Ok(false);
            }
            if done.is_none() && child.try_wait()?.is_some() {
                done = Some(Instant::now());
            }
            // What comes after the answer comes with the next housekeeping.
            if done.is_some_and(|d| d.elapsed() > HOUSEKEEPING + patience(Duration::from_millis(500))) {
                self.scene.agent.kill9()?;
                return Ok(true);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn died_in_start(&mut self) -> Result<Turn> {
        let seen = Seen::now(&self.scene)?;
        self.settle_lagging(&seen)?;
        ensure!(seen.decides_as(&self.expected), "killed in the start: {}", seen.unlike(&self.expected));
        Ok(Turn::InStart)
    }

    fn died_in_change(&mut self, op: Op, next: State, survived: bool) -> Result<Turn> {
        let seen = Seen::now(&self.scene)?;
        let new = Seen::expected(&self.scene, &next)?;
        ensure!(!new.decides_as(&self.expected), "the operation changes nothing that is looked at");
        let turned = seen.decides_as(&new);
        if !turned && !seen.decides_as(&self.expected) {
            bail!(
                "neither policy is in force. Unlike the old one: {}. Unlike the new one: {}",
                seen.unlike(&self.expected),
                seen.unlike(&new)
            );
        }
        ensure!(turned || !survived, "the operation ended, and the old policy is in force");
        if turned {
            (self.state, self.expected) = (next, new);
            let revision = pinned::read(self.scene.agent.bpffs())?;
            let revision = revision.control.revision[(revision.control.epoch & 1) as usize];
            let _ = self.revisions.insert(revision, self.state.clone());
        } else if op.may_lag() {
            self.lagging = Some(next);
        }
        Ok(match (survived, turned) {
            (true, _) => Turn::Survived,
            (_, true) => Turn::Turned,
            _ => Turn::Kept,
        })
    }

    fn settle_lagging(&mut self, seen: &Seen) -> Result<()> {
        if let Some(next) = self.lagging.take() {
            let new = Seen::expected(&self.scene, &next)?;
            if seen.decides_as(&new) {
                (self.state, self.expected) = (next, new);
            } else {
                self.lagging = Some(next);
            }
        }
        Ok(())
    }

    /// With an agent: the state is in force and nothing else is there, no hand was needed.
    fn converged(&mut self) -> Result<()> {
        // A start compiles anew, on the numbers that were kept.
        self.state = self.state.clone().settled()?;
        let seen = Seen::now(&self.scene)?;
        self.settle_lagging(&seen)?;
        self.lagging = None;
        ensure!(seen.decides_as(&self.expected), "after the start: {}", seen.unlike(&self.expected));
        let expected = &self.expected;
        let scene = &self.scene;
        wait_for("the leftovers of the last flip to go", PATIENCE, || {
            let t = pinned::read(scene.agent.bpffs())?;
            let now = (t.listeners.len(), t.identities.len(), t.prefixes.len(), t.instances.len());
            Ok(now == (expected.listeners, expected.identities, expected.prefixes, expected.instances))
        })
        .with_context(|| seen.unlike(expected))?;
        let now = traces(&self.scene)?;
        ensure!(now == self.baseline, "what is there now: {now:?}, and should be: {:?}", self.baseline);
        self.records()
    }

    /// The store says what the kernel does.
    fn records(&self) -> Result<()> {
        let history = self.scene.agent.gray_json(&["history"])?;
        let history = history.as_array().context("history is no list")?;
        let of = |state: &str| -> Vec<u64> {
            let in_state = history.iter().filter(|e| e["state"] == state);
            in_state.filter_map(|e| e["revision"].as_u64()).collect()
        };
        ensure!(of("pending").is_empty(), "revisions {:?} are pending", of("pending"));
        let control = pinned::read(self.scene.agent.bpffs())?.control;
        let in_force = control.revision[(control.epoch & 1) as usize];
        ensure!(of("active") == [in_force], "active {:?}, in the kernel {in_force}", of("active"));
        let status = self.scene.agent.gray_json(&["status"])?;
        ensure!(status["revision"].as_u64() == Some(in_force), "status says {}", status["revision"]);
        Ok(())
    }

    /// The points that a start and then an operation pass, as `NAME:NTH`, in order.
    pub fn trace(&mut self, op: Op) -> Result<(Vec<String>, Vec<String>)> {
        let log = self.scene.agent.log().to_owned();
        let end_of_log = || Ok::<_, anyhow::Error>(std::fs::read_to_string(&log)?.len());
        let begin = end_of_log()?;
        self.scene.agent.spawn(&[("GRAY_FAIL", "trace")])?;
        ensure!(self.scene.agent.wait_ready()?, "it was killed");
        self.converged()?;
        let middle = end_of_log()?;
        let (mut command, next) = op.prepare(self)?;
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let survived = self.until_dead(child)?;
        let _ = self.died_in_change(op, next, survived)?;
        let text = std::fs::read_to_string(&log)?;
        let points = |text: &str| -> Vec<String> {
            text.lines().filter_map(|l| l.strip_prefix("fail point ").map(str::to_owned)).collect()
        };
        Ok((points(&text[begin..middle]), points(&text[middle..])))
    }

    /// Lets a point fail in an operation: the old policy stays, with the agent alive, the command says why, and the
    /// same operation then works. False: the point was not reached.
    pub fn fail(&mut self, op: Op, point: &str) -> Result<bool> {
        self.scene.agent.spawn(&[("GRAY_FAIL", &format!("{point}=error"))])?;
        ensure!(self.scene.agent.wait_ready()?, "it was killed");
        self.converged()?;
        let (mut command, mut next) = op.prepare(self)?;
        let out = crate::command::output(&mut command)?;
        let failed = !out.status.success();
        if failed {
            let said = String::from_utf8_lossy(&out.stderr).into_owned();
            ensure!(said.contains(&format!("fail point {point}")), "{op:?} at {point} said: {said}");
            let seen = Seen::now(&self.scene)?;
            ensure!(
                seen.decides_as(&self.expected),
                "{op:?} failed at {point}: {}",
                seen.unlike(&self.expected)
            );
            self.records()?;
        }
        if failed {
            (command, next) = op.prepare(self)?;
            let _ =
                crate::command::run(&mut command).with_context(|| format!("{op:?} after {point} failed"))?;
        }
        self.scene.agent.kill9()?;
        let turn = self.died_in_change(op, next, true)?;
        ensure!(turn == Turn::Survived);
        Ok(failed)
    }

    /// Ends with an agent that runs, no failed request, no lost connection, and nothing left behind.
    pub fn finish(mut self) -> Result<()> {
        self.scene.agent.spawn(&[])?;
        ensure!(self.scene.agent.wait_ready()?, "it was killed");
        self.converged()?;
        let classes = pinned::classes(self.scene.agent.bpffs())?;
        ensure!(classes <= 64, "{classes} classes: they grow");
        for load in self.loads.drain(..) {
            let report = load.stop()?;
            ensure!(report.failed() == 0, "{:?} {:#?}", report.failures, report.details);
            ensure!(report.opened == LONG_LIVED as u64, "{} opened: a connection was lost", report.opened);
        }
        self.scene.finish();
        Ok(())
    }
}

/// What of ours is there whatever the policy: pins, files of the state directory, attached programs by place.
fn traces(scene: &Scene) -> Result<Vec<String>> {
    let mut all = pinned::names(scene.agent.bpffs());
    for entry in std::fs::read_dir(scene.agent.state_dir())? {
        all.push(entry?.file_name().to_string_lossy().into_owned());
    }
    all.sort();
    let w = &scene.world;
    for ifname in w.client_ifs().into_iter().chain(w.backend_ifs()) {
        let n = bpf::on_interface(&w.edge, &ifname, bpf::TCX_INGRESS)?.len();
        all.push(format!("{n} programs on {ifname}"));
    }
    for (kind, name) in bpf::CGROUP_TYPES {
        let n = bpf::on_cgroup(w.callers.path(), *kind)?.len();
        all.push(format!("{n} programs at {name}"));
    }
    Ok(all)
}

/// The command's connection is gone with the agent.
fn end(mut child: Child) -> Result<()> {
    wait_for("the command to notice that its agent died", PATIENCE, || Ok(child.try_wait()?.is_some()))
}

/// Lets time pass, to the microsecond.
fn pass(time: Duration) {
    let until = Instant::now() + time;
    if time > Duration::from_millis(10) {
        std::thread::sleep(time - Duration::from_millis(5));
    }
    while Instant::now() < until {
        std::hint::spin_loop();
    }
}
