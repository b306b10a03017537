//! Drives releases: the machine's state is written down before anything of it is done, and what was done comes back as an
//! event. `driver` runs steps, `traffic` turns routes, both by the same record.

mod driver;
mod hooks;
mod process;
mod scripts;
mod sign;
mod start;
mod traffic;
mod view;

use std::{collections::BTreeMap, sync::Arc};

use gray_common::wire::{ARM_GRAY, ARM_STABLE};
use tokio::sync::Notify;

pub use driver::run;

use super::{core::Inner, time};
use crate::{
    api::{ApiError, Who},
    config,
    fail::{self, Point},
    kernel::KernelError,
    release::{ArmCounts, Counts, Entry, Event, Spec, State, on},
    store::{LogEntry, Note, Release},
};

/// Every release that is known, by name.
#[derive(Debug, Default)]
pub struct Releases {
    all: BTreeMap<String, Running>,
    /// Steps that had begun when the last agent died: what is left of them is ended first.
    lost: Vec<String>,
    /// Rung when something may be due.
    pub wake: Arc<Notify>,
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
}

impl Running {
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

fn internal(e: crate::store::Error) -> ApiError {
    ApiError::internal(&e)
}

impl Inner {
    /// Those of the last agent. One that cannot be read stays as it is, and is said.
    pub fn load_releases(&mut self) -> anyhow::Result<()> {
        for r in self.store.releases()? {
            let source = config::Source::new(r.name.clone(), r.document.clone());
            let spec = config::load_release(&source, None).map_err(|p| ApiError::from(&p));
            let state = serde_json::from_str::<State>(&r.state);
            let (spec, state) = match (spec, state) {
                (Ok(spec), Ok(state)) => (spec, state),
                (spec, state) => {
                    let error = spec.err().map_or_else(|| format!("{:?}", state.err()), |e| e.error);
                    tracing::error!(
                        release = r.name,
                        error,
                        "a release cannot be read; it stays where it is"
                    );
                    continue;
                }
            };
            let begun: Vec<u64> = state.due.iter().filter(|e| e.begun).map(|e| e.seq).collect();
            let running = Running { spec, state, run: r.run, who: r.who, document: r.document };
            self.releases.lost.extend(begun.iter().map(|seq| running.key(*seq)));
            let _ = self.releases.all.insert(r.name.clone(), running);
            for seq in begun {
                if let Err(e) = self.record_event(&r.name, &Event::Lost(seq), None) {
                    // The agent is needed all the same.
                    tracing::error!(
                        release = r.name,
                        error = e.error,
                        "a step that had begun stays as it is"
                    );
                }
            }
        }
        Ok(())
    }

    /// One event, written down; the routes that it asks for are turned before this returns.
    fn release_event(&mut self, name: &str, event: &Event, who: Option<&Who>) -> Result<(), ApiError> {
        self.record_event(name, event, who)?;
        self.turn_routes(name)
    }

    /// One event, written down. What it makes due is not begun before.
    fn record_event(&mut self, name: &str, event: &Event, who: Option<&Who>) -> Result<(), ApiError> {
        let Some(r) = self.releases.all.get(name) else { return Err(self.no_release(name)) };
        let counts = self.release_counts(&r.spec).map_err(|e| ApiError::internal(&e))?;
        let (now, mut state) = (time::now_ms(), r.state.clone());
        let entries = on(&r.spec, &mut state, event, now, &counts)
            .map_err(|refused| ApiError::conflict(refused.what, refused.help))?;
        if state == r.state && entries.is_empty() {
            return Ok(());
        }
        fail::point(Point::ReleaseTurned).map_err(|e| ApiError::internal(&e))?;
        let (kept, run) = (r.kept(&state, now)?, r.run);
        let name_of_who = who.map(Who::to_string);
        let action = match event {
            Event::Command(c) => format!("release {}", c.verb.name()),
            _ => String::new(),
        };
        let note = name_of_who.as_deref().map(|who| Note { at: now, who, action: &action, detail: name });
        self.store.save_release(&kept, &log(&entries, run, now)?, note.as_ref()).map_err(internal)?;
        for e in &entries {
            tracing::info!(release = name, what = e.what, from = e.from, to = e.to, text = e.text, "release");
        }
        if let Some(r) = self.releases.all.get_mut(name) {
            r.state = state;
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
                Ok(ArmCounts {
                    connections: n.packet_flows + n.connects,
                    packets: n.packets,
                    bytes: n.bytes,
                    reply_packets: n.reply_packets,
                    reply_bytes: n.reply_bytes,
                    flows: n.packet_flows,
                    refused: n.refused,
                    resets: n.resets,
                    unanswered: n.unanswered,
                    client_resets: n.client_resets,
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
