//! Drives releases: the machine's state is written down before anything of it is done, and what was done comes back as an
//! event. `driver` runs steps, `traffic` turns routes, both by the same record.

pub(super) mod admission;
mod driver;
mod frozen;
mod hooks;
mod process;
mod scripts;
mod sign;
#[cfg(test)]
mod soak;
mod start;
mod traffic;
mod view;

use std::{collections::BTreeMap, sync::Arc};

use gray_common::wire::{ARM_GRAY, ARM_STABLE};
use tokio::sync::Notify;

pub use driver::run;

use traffic::plain;

use super::{core::Inner, steady::Steady, time};
use crate::{
    api::{ApiError, Who},
    config,
    fail::{self, Point},
    kernel::KernelError,
    release::{ArmCounts, Buckets, Counts, Entry, Event, Spec, State, Verb, on},
    store::{LogEntry, Note, Release},
};

/// Releases that are over, and runs of one: so many are remembered.
const KEPT: usize = 50;

/// Every release that is known, by name.
#[derive(Debug)]
pub struct Releases {
    all: BTreeMap<String, Running>,
    /// Steps that had begun when the last agent died: what is left of them is ended first.
    lost: Vec<String>,
    /// By release and what it cannot do: why not, as it was last said.
    failing: BTreeMap<(String, &'static str), String>,
    /// What their times are of.
    clock: Steady,
    /// What is to be written down with the change of policy that it asks for: taken when that is durable.
    pub(super) riding: Option<Turned>,
    /// Rung when something may be due.
    pub wake: Arc<Notify>,
}

impl Releases {
    pub fn new(clock: Steady) -> Self {
        Self {
            all: BTreeMap::new(),
            lost: Vec::new(),
            failing: BTreeMap::new(),
            clock,
            riding: None,
            wake: Arc::default(),
        }
    }

    /// When those that are open were started, unix milliseconds.
    pub fn open_since(&self) -> Vec<u64> {
        self.all.values().filter(|r| r.is_open()).map(|r| r.run).collect()
    }

    pub fn any_open(&self) -> bool {
        self.all.values().any(Running::is_open)
    }
}

/// One release.
#[derive(Clone, Debug)]
pub struct Running {
    spec: Spec,
    state: State,
    /// When it was started.
    run: u64,
    who: String,
    document: String,
    /// Why this agent cannot read it: what was kept of it is of another gray.
    unread: Option<String>,
}

impl Running {
    /// Something may still happen to it; also where its routes are still to be taken away.
    fn is_open(&self) -> bool {
        !self.state.is_over()
    }

    /// The idempotency key of a step: the same for all its attempts, and of no other step ever.
    fn key(&self, seq: u64) -> String {
        format!("{}.{}.{seq}", self.spec.name, self.run)
    }

    fn kept(&self, state: &State, at: u64) -> Result<Release, ApiError> {
        Ok(Release {
            name: self.spec.name.clone(),
            run: self.run,
            who: self.who.clone(),
            document: self.document.clone(),
            state: serde_json::to_string(state).map_err(|e| ApiError::internal(&e))?,
            at,
        })
    }
}

/// What an event has made of a release, not written down yet.
#[derive(Debug)]
pub(super) struct Turned {
    kept: Release,
    log: Vec<LogEntry>,
    /// For the audit, of who gave a command.
    who: Option<String>,
    action: String,
    state: State,
    entries: Vec<Entry>,
    /// It takes people back.
    back: bool,
}

impl Turned {
    pub(super) fn name(&self) -> &str {
        &self.kept.name
    }

    pub(super) fn note(&self) -> Option<Note<'_>> {
        let (at, action, detail) = (self.kept.at, &self.action, &self.kept.name);
        self.who.as_deref().map(|who| Note { at, who, action, detail })
    }

    /// The rows of its record: the release as it is now, and what happened.
    pub(super) fn rows(&self) -> (&Release, &[LogEntry]) {
        (&self.kept, &self.log)
    }
}

fn internal(e: crate::store::Error) -> ApiError {
    ApiError::internal(&e)
}

impl Inner {
    /// Those of the last agent. One that cannot be read stays as it is, and takes an `abort`.
    pub fn load_releases(&mut self) -> anyhow::Result<()> {
        for r in self.store.releases()? {
            let source = config::Source::new(r.name.clone(), r.document.clone());
            let spec = config::load_release(&source, None).map_err(|p| ApiError::from(&p));
            let state = serde_json::from_str::<State>(&r.state);
            let mut anew = false;
            let (spec, state, unread) = match (spec, state) {
                (Ok(spec), Ok(mut state)) => {
                    let clock = &self.releases.clock;
                    anew = state.go_by(clock.id(), clock.now()) && !state.phase.is_over();
                    if anew {
                        tracing::warn!(
                            release = r.name,
                            "how long it is in its state is not known to this agent's clock: that begins anew"
                        );
                    }
                    (spec, state, None)
                }
                // Nothing will happen to it any more.
                (Err(_), Ok(state)) if state.phase.is_over() && !state.is_busy() => continue,
                (spec, state) => {
                    let (spec, known) = (spec.map_err(|e| plain(&e).error), state.map_err(|e| e.to_string()));
                    let over = known.as_ref().ok().filter(|s| s.phase.is_over()).cloned();
                    let why = spec.err().or(known.err()).unwrap_or_default();
                    tracing::error!(
                        release = r.name,
                        error = why,
                        "a release cannot be read; it stays where it is, and takes an abort"
                    );
                    let spec = Spec { name: r.name.clone(), ..Spec::default() };
                    (spec, over.unwrap_or_else(|| State::unread(self.releases.clock.now(), &why)), Some(why))
                }
            };
            let begun: Vec<u64> = state.due.iter().filter(|e| e.begun).map(|e| e.seq).collect();
            let running = Running { spec, state, run: r.run, who: r.who, document: r.document, unread };
            self.releases.lost.extend(begun.iter().map(|seq| running.key(*seq)));
            if anew && let Err(e) = self.keep_time_of(&running) {
                tracing::warn!(
                    release = r.name,
                    error = e.error,
                    "that cannot be written down; a next agent begins it anew, too"
                );
            }
            let _ = self.releases.all.insert(r.name.clone(), running);
            for seq in begun {
                if let Err(e) = self.record_event(&r.name, &Event::Lost(seq), None) {
                    // The agent is needed all the same; the driver finds it.
                    tracing::error!(
                        release = r.name,
                        error = e.error,
                        "a step that had begun is lost, which cannot be recorded yet"
                    );
                }
            }
        }
        Ok(())
    }

    fn keep_time_of(&mut self, r: &Running) -> Result<(), ApiError> {
        let kept = r.kept(&r.state, time::now_ms())?;
        self.store.save_release(&kept, &[], None).map_err(internal)
    }

    /// Of releases that are over the newest are kept, and of this one the histories of its newest runs.
    fn forget_old(&mut self, name: &str) {
        let over = self.releases.all.values().filter(|r| !r.is_open());
        let mut over: Vec<(u64, String)> = over.map(|r| (r.run, r.spec.name.clone())).collect();
        over.sort_unstable_by(|a, b| b.cmp(a));
        let gone: Vec<String> = over.into_iter().skip(KEPT).map(|(_, name)| name).collect();
        match self.store.forget_releases(&gone, (name, KEPT)) {
            Ok(()) => self.releases.all.retain(|name, _| !gone.contains(name)),
            Err(e) => tracing::warn!(error = %e, "old releases stay; the next start tries again"),
        }
    }

    /// One event, written down; the routes that it asks for are turned before this returns. Of a turn of routes the event and
    /// the change of policy are one record, so that nothing durable stands between a recall's word and its effect.
    fn release_event(&mut self, name: &str, event: &Event, who: Option<&Who>) -> Result<(), ApiError> {
        if let Some(turned) = self.turned(name, event, who)? {
            self.on_the_way_back(turned.back, |all| {
                match turned.state.next_turn(all.releases.clock.now()).cloned() {
                    Some(e) => all.turn_with(turned, &e),
                    None => all.save(turned),
                }
            })?;
        }
        self.turn_routes(name)
    }

    /// One event, written down. What it makes due is not begun before.
    fn record_event(&mut self, name: &str, event: &Event, who: Option<&Who>) -> Result<(), ApiError> {
        let Some(turned) = self.turned(name, event, who)? else { return Ok(()) };
        self.on_the_way_back(turned.back, |all| all.save(turned))
    }

    /// What takes people back may have the room that is held back for it; everything else waits until somebody makes some.
    fn on_the_way_back<T>(&mut self, back: bool, f: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.store.on_the_way_back(back);
        let done = f(self);
        let _ = self.store.on_the_way_back(before);
        done
    }

    /// What the event makes of the release; `None`: nothing.
    fn turned(&self, name: &str, event: &Event, who: Option<&Who>) -> Result<Option<Turned>, ApiError> {
        let Some(r) = self.releases.all.get(name) else { return Err(self.no_release(name)) };
        let counts = self.release_counts(&r.spec).map_err(|e| ApiError::internal(&e))?;
        let (now, mut state) = (time::now_ms(), r.state.clone());
        let entries = on(&r.spec, &mut state, event, self.releases.clock.now(), &counts)
            .map_err(|refused| ApiError::conflict(refused.what, refused.help))?;
        if state == r.state && entries.is_empty() {
            return Ok(None);
        }
        fail::point(Point::ReleaseTurned).map_err(|e| ApiError::internal(&e))?;
        let action = match event {
            Event::Command(c) => format!("release {}", c.verb.name()),
            _ => String::new(),
        };
        let asked = matches!(event, Event::Command(c) if matches!(c.verb, Verb::Abort | Verb::Recall));
        let back = asked || r.state.goes_back() || state.goes_back();
        let kept = r.kept(&state, now)?;
        let log = log(&entries, r.run, now)?;
        Ok(Some(Turned { kept, log, action, who: who.map(Who::to_string), state, entries, back }))
    }

    fn save(&mut self, turned: Turned) -> Result<(), ApiError> {
        self.store.save_release(&turned.kept, &turned.log, turned.note().as_ref()).map_err(internal)?;
        self.saved(turned)
    }

    /// It is durable.
    pub(super) fn saved(&mut self, turned: Turned) -> Result<(), ApiError> {
        let name = &turned.kept.name;
        for e in &turned.entries {
            tracing::info!(release = name, what = e.what, from = e.from, to = e.to, text = e.text, "release");
        }
        if let Some(r) = self.releases.all.get_mut(name) {
            r.state = turned.state;
        }
        self.releases.wake.notify_one();
        fail::point(Point::ReleaseSaved).map_err(|e| ApiError::internal(&e))
    }

    /// What the kernel has counted of its services, ever.
    fn release_counts(&self, spec: &Spec) -> Result<Vec<Counts>, KernelError> {
        let mut out = Vec::with_capacity(spec.services.len());
        for s in &spec.services {
            let arm = |arm| -> Result<ArmCounts, KernelError> {
                // A service that is not in the policy has counted nothing.
                let Some(id) = self.compiled.assigned.services.get(&s.name) else {
                    return Ok(ArmCounts::default());
                };
                let n = self.live.arm(id, arm)?;
                let times = self.live.times(id, arm)?;
                let listened = self.live.listened(id)?;
                // Of the splice listener's the failed ones are attempts, too.
                let (took, failed) = match arm {
                    ARM_GRAY => (listened.gray, listened.failed_gray),
                    _ => (listened.stable, listened.failed_stable),
                };
                Ok(ArmCounts {
                    connections: n.packet_flows + n.connects,
                    packets: n.packets,
                    bytes: n.bytes,
                    reply_packets: n.reply_packets,
                    reply_bytes: n.reply_bytes,
                    // Those that are followed: UDP has no beginning that could fail.
                    flows: n.packet_flows.saturating_sub(n.udp_flows) + failed,
                    refused: n.refused,
                    resets: n.resets,
                    unanswered: n.unanswered,
                    client_resets: n.client_resets,
                    broken: n.broken,
                    calls: n.calls,
                    relayed: took + failed,
                    answers: n.answers[1..].iter().sum(),
                    server_errors: n.answers[5],
                    handshake: Buckets(times.handshake),
                    first_byte: Buckets(times.first_byte),
                })
            };
            out.push(Counts { service: s.name.clone(), gray: arm(ARM_GRAY)?, stable: arm(ARM_STABLE)? });
        }
        Ok(out)
    }
}

fn log(entries: &[Entry], run: u64, at: u64) -> Result<Vec<LogEntry>, ApiError> {
    let one = |e: &Entry| {
        let entry = serde_json::to_string(e).map_err(|e| ApiError::internal(&e))?;
        Ok(LogEntry { run, at, entry })
    };
    entries.iter().map(one).collect()
}
