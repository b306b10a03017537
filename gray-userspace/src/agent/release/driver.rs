//! The loop: brings ends to the machines, lets time pass for them, begins what is ready, ends what nobody wants any more.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use serde_json::json;
use tokio::{sync::mpsc, task::JoinHandle, time::MissedTickBehavior};

use super::{hooks, hooks::Job, process, start::services};
use crate::{
    agent::core::{Core, Inner},
    api::ApiError,
    fail::{self, Point},
    release::{self, Does, Effect, Ended, Event, Outcome, What},
};

const EVERY: Duration = Duration::from_millis(250);

/// Of one step: a release's name, its run, and the step's number.
type Id = (String, u64, u64);

/// What one look came to.
#[derive(Default)]
struct Round {
    begin: Vec<Job>,
    wanted: HashSet<Id>,
    /// What could not be written down.
    again: Vec<(Id, Ended)>,
}

/// Runs as long as the agent. What runs of steps when it ends is ended.
pub async fn run(core: Arc<Core>) {
    let (wake, lost) = {
        let mut inner = core.lock();
        (inner.releases.wake.clone(), std::mem::take(&mut inner.releases.lost))
    };
    let swept = tokio::task::spawn_blocking(move || {
        for key in lost {
            let n = process::end_lost(&key);
            tracing::warn!(
                key,
                processes = n,
                "a step that had begun when the last agent died is asked for again"
            );
        }
    });
    let _ = swept.await;
    let (tell, mut told) = mpsc::unbounded_channel();
    let mut jobs = Jobs::default();
    let mut ends: Vec<(Id, Ended)> = Vec::new();
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let (all, brought) = (core.clone(), std::mem::take(&mut ends));
        let running: HashSet<Id> = jobs.0.keys().cloned().collect();
        // The state may be locked for seconds by a large change.
        let round =
            match tokio::task::spawn_blocking(move || all.lock().release_round(brought, &running)).await {
                Ok(round) => round,
                // The agent ends.
                Err(e) if e.is_cancelled() => return,
                // What it had begun or was told is found lost the next time round.
                Err(e) => {
                    tracing::error!(error = %e, "the release engine failed; it goes on");
                    let _ = tick.tick().await;
                    continue;
                }
            };
        ends = round.again;
        jobs.0.retain(|id, job| {
            let wanted = round.wanted.contains(id);
            if !wanted {
                job.abort();
            }
            wanted
        });
        for job in round.begin {
            let id: Id = (job.release.clone(), job.run, job.seq);
            let (tell, of) = (tell.clone(), id.clone());
            let task = tokio::spawn(async move {
                let (outcome, text) = match fail::point(Point::ReleaseAttempt) {
                    Ok(()) => hooks::attempt(&job).await,
                    Err(e) => (Outcome::Fail, e.to_string()),
                };
                // The loop ends with the agent alone.
                let _ = tell.send((of.clone(), Ended { seq: of.2, outcome, text }));
            });
            let _ = jobs.0.insert(id, task);
        }
        tokio::select! {
            _ = tick.tick() => {}
            () = wake.notified() => {}
            Some(end) = told.recv() => ends.push(end),
        }
        // Before what they said is read: a task that has ended and is not among them never said it.
        let over: Vec<Id> =
            jobs.0.iter().filter(|(_, j)| j.is_finished()).map(|(id, _)| id.clone()).collect();
        while let Ok(end) = told.try_recv() {
            ends.push(end);
        }
        for id in over.into_iter().filter(|id| !ends.iter().any(|(told, _)| told == id)).collect::<Vec<_>>() {
            let text = "the engine failed at it; see the agent's log".into();
            let seq = id.2;
            ends.push((id, Ended { seq, outcome: Outcome::Fail, text }));
        }
        for (id, _) in &ends {
            let _ = jobs.0.remove(id);
        }
    }
}

/// What runs; it ends with this.
#[derive(Default)]
struct Jobs(HashMap<Id, JoinHandle<()>>);

impl Drop for Jobs {
    fn drop(&mut self) {
        self.0.values().for_each(JoinHandle::abort);
    }
}

impl Inner {
    /// `running`: steps whose tasks have not ended.
    fn release_round(&mut self, ends: Vec<(Id, Ended)>, running: &HashSet<Id>) -> Round {
        let mut round = Round::default();
        // Of a round that failed in the middle of one.
        let _ = self.store.on_the_way_back(false);
        for (id, ended) in ends {
            let known = self.releases.all.get(&id.0).is_some_and(|r| r.run == id.1);
            if !known {
                continue;
            }
            let told = fail::point(Point::ReleaseEnded)
                .map_err(|e| ApiError::internal(&e))
                .and_then(|()| self.record_event(&id.0, &Event::Ended(ended.clone()), None));
            let failed = told.is_err();
            self.say_once(&id.0, "what came of a step cannot be recorded; trying again", told);
            if failed {
                round.again.push((id, ended));
            }
        }
        let names: Vec<String> = self.releases.all.keys().cloned().collect();
        for name in names {
            let lost = self.find_lost(&name, running, &round);
            let looked = self.look_at(&name, &mut round);
            self.say_once(&name, "a release cannot go on; trying again", lost.and(looked));
        }
        round
    }

    /// Each reason once: it is tried again four times a second.
    fn say_once(&mut self, name: &str, what: &'static str, done: Result<(), ApiError>) {
        let key = (name.to_owned(), what);
        let known = self.releases.failing.get(&key);
        match done {
            Ok(()) => drop(self.releases.failing.remove(&key)),
            Err(e) if known == Some(&e.error) => {}
            Err(e) => {
                tracing::error!(release = name, error = e.error, "{what}");
                let _ = self.releases.failing.insert(key, e.error);
            }
        }
    }

    /// Steps that have begun and that nothing runs for: of the last agent, whose loss could not be recorded then, or of a round that
    /// failed.
    fn find_lost(&mut self, name: &str, running: &HashSet<Id>, round: &Round) -> Result<(), ApiError> {
        let run = self.releases.all.get(name).map_or(0, |r| r.run);
        let lost = |seq: &u64| {
            let id = (name.to_owned(), run, *seq);
            !running.contains(&id) && !round.again.iter().any(|(told, _)| *told == id)
        };
        let lost: Vec<u64> = self.begun(name).filter(lost).collect();
        lost.into_iter().try_for_each(|seq| self.record_event(name, &Event::Lost(seq), None))
    }

    fn look_at(&mut self, name: &str, round: &mut Round) -> Result<(), ApiError> {
        if self.releases.all.get(name).is_none_or(|r| r.state.phase.is_over() && r.state.due.is_empty()) {
            return Ok(());
        }
        // What runs stays wanted even if what follows fails.
        self.want_running(name, round);
        self.release_event(name, &Event::Tick, None)?;
        let Some(r) = self.releases.all.get(name) else { return Ok(()) };
        let ready: Vec<Effect> = r.state.ready_hooks(self.releases.clock.now()).cloned().collect();
        for e in ready {
            self.record_event(name, &Event::Begun(e.seq), None)?;
            fail::point(Point::ReleaseBegun).map_err(|e| ApiError::internal(&e))?;
            round.begin.extend(self.job(name, &e));
        }
        let id = |seq| (name.to_owned(), self.releases.all.get(name).map_or(0, |r| r.run), seq);
        let running: Vec<Id> = self.begun(name).map(id).collect();
        // The tick may have ended some.
        round.wanted.retain(|w| w.0 != name);
        round.wanted.extend(running);
        Ok(())
    }

    fn begun(&self, name: &str) -> impl Iterator<Item = u64> {
        let due = self.releases.all.get(name).map(|r| r.state.due.iter());
        due.into_iter().flatten().filter(|e| e.begun).map(|e| e.seq)
    }

    fn want_running(&self, name: &str, round: &mut Round) {
        let run = self.releases.all.get(name).map_or(0, |r| r.run);
        round.wanted.extend(self.begun(name).map(|seq| (name.to_owned(), run, seq)));
    }

    fn job(&self, name: &str, e: &Effect) -> Option<Job> {
        let r = self.releases.all.get(name)?;
        let hook = release::hook_of(&r.spec, &e.what)?.clone();
        let script = if let Does::Script(s) = &hook.does { Some(&s.file) } else { None };
        let judged = script.and_then(|file| r.state.scripts.get(file).cloned());
        let step = release::step_name(&r.spec, &e.what);
        let key = r.key(e.seq);
        let transition = if let What::Notify(_, text) = &e.what { Some(text.clone()) } else { None };
        let attempt = e.attempt + 1;
        let view = self.view_of(r).ok();
        let stage = view.as_ref().and_then(|v| v.stage).map(|n| n.to_string()).unwrap_or_default();
        let layers = self.layers_of(r);
        // One layer serves all of a release's tenants.
        let layer = layers.iter().map(|l| l.basis_points).max();
        let mut environment = vec![
            ("GRAY_RELEASE", r.spec.name.clone()),
            ("GRAY_VERSION", r.spec.version.clone()),
            ("GRAY_FORMAL", r.spec.formal.clone()),
            ("GRAY_SERVICES", services(&r.spec).replace(", ", " ")),
            ("GRAY_STATE", r.state.name()),
            ("GRAY_STAGE", stage),
            ("GRAY_STEP", step.clone()),
            ("GRAY_KEY", key.clone()),
            ("GRAY_ATTEMPT", attempt.to_string()),
            ("GRAY_LAYER_BASIS_POINTS", layer.map(|n| n.to_string()).unwrap_or_default()),
        ];
        environment.extend(transition.clone().map(|t| ("GRAY_TRANSITION", t)));
        let input = json!({
            "release": view, "step": step, "key": key, "attempt": attempt, "transition": transition, "layers": layers,
        });
        Some(Job {
            release: name.to_owned(),
            run: r.run,
            seq: e.seq,
            hook,
            key,
            environment,
            input: input.to_string().into_bytes(),
            dir: self.release_hooks.clone(),
            judged,
        })
    }
}
