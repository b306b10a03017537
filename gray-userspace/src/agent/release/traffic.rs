//! The routes of releases: documents of their own beside the user's, one change of policy each time. Nothing that a step does
//! stands in the way.

use std::sync::Arc;

use super::{Turned, internal};
use crate::{
    agent::{
        change::{ListsChange, same_lists},
        core::Inner,
    },
    api::{ApiError, Who},
    config,
    fail::{self, Point},
    release::{self, Effect, Ended, Event, Outcome, SOURCE, Spec, Traffic, What},
    store::{Kind, Source, Store as _},
};

impl Inner {
    /// Everything that is due of routes and connections, to its end.
    pub(super) fn turn_routes(&mut self, name: &str) -> Result<(), ApiError> {
        // Of an engine that failed in the middle of it.
        self.releases.riding = None;
        loop {
            let Some(r) = self.releases.all.get(name) else { return Ok(()) };
            let Some(e) = r.state.next_turn(self.releases.clock.now()).cloned() else { return Ok(()) };
            let spec = r.spec.clone();
            let done = match e.what {
                What::Traffic(t) => self.on_the_way_back(t == Traffic::None, |all| {
                    let _ = all.store.made_room();
                    match all.shift(&spec, t) {
                        Err(_) if all.store.made_room() => all.shift(&spec, t),
                        done => done,
                    }
                }),
                _ => self.close_gray(&spec),
            };
            self.shifted(name, &e, done)?;
        }
    }

    /// Turns the routes that `turned` asks for first, with it in the record of their change. Where there is no change, or none that was
    /// written down, it is written down alone.
    pub(super) fn turn_with(&mut self, turned: Turned, first: &Effect) -> Result<(), ApiError> {
        let What::Traffic(traffic) = first.what else { return self.save(turned) };
        let name = turned.name().to_owned();
        let Some(spec) = self.releases.all.get(&name).map(|r| r.spec.clone()) else { return Ok(()) };
        self.releases.riding = Some(turned);
        let _ = self.store.made_room();
        let mut done = self.shift(&spec, traffic);
        if let Some(turned) = self.releases.riding.take() {
            self.save(turned)?;
            if done.is_err() && self.store.made_room() {
                done = self.shift(&spec, traffic);
            }
        }
        self.shifted(&name, first, done)
    }

    /// What rides goes into the record that is being made.
    pub(in crate::agent) fn take_along(&mut self) -> Result<(), ApiError> {
        let Some(turned) = &self.releases.riding else { return Ok(()) };
        let (kept, log) = turned.rows();
        self.store.add_release(kept, log, turned.note().as_ref()).map_err(internal)
    }

    /// That record is durable.
    pub(in crate::agent) fn has_ridden(&mut self) -> Result<(), ApiError> {
        self.releases.riding.take().map_or(Ok(()), |turned| self.saved(turned))
    }

    /// What came of an effect goes into the record.
    fn shifted(&mut self, name: &str, e: &Effect, done: Result<String, ApiError>) -> Result<(), ApiError> {
        if matches!(e.what, What::Traffic(_)) {
            self.note_rules(name);
        }
        fail::point(Point::ReleaseShifted).map_err(|e| ApiError::internal(&e))?;
        let (outcome, text) = match done {
            Ok(text) => (Outcome::Pass, text),
            Err(e) => (Outcome::Fail, e.error),
        };
        self.record_event(name, &Event::Ended(Ended { seq: e.seq, outcome, text }), None)
    }

    /// Makes this share the one in force; what is there already costs nothing, so that it can be asked for again.
    fn shift(&mut self, spec: &Spec, traffic: Traffic) -> Result<String, ApiError> {
        let text = release::source(spec, traffic);
        if self.revision == 0 {
            return match text {
                None => Ok("there is no policy".into()),
                Some(_) => Err(ApiError::conflict("there is no policy", "apply one")),
            };
        }
        let before = self.store.sources(self.revision).map_err(internal)?;
        let (name, mut sources) = (release::source_name(&spec.name), before.clone());
        sources.retain(|s| s.name != name);
        sources.extend(text.map(|text| Source { name, text }));
        if sources == before {
            return Ok(format!("in force already, epoch {}", self.have.epoch));
        }
        let loaded = config::load(&documents(&sources)).map_err(|p| plain(&ApiError::from(&p)))?;
        // Without routes for gray it is the policy as people applied it: no way back is refused.
        if traffic != Traffic::None {
            self.may_stand_in(&loaded.policy)?;
        }
        let summary = format!("release {}: {}", spec.name, release::share(spec, traffic));
        let mut draft = self.draft(Kind::Release, &Who::agent(), None, summary);
        draft.sources = Some(sources);
        let mut change = self.keep(draft);
        if !same_lists(&self.policy, &loaded.policy) {
            change.lists = ListsChange::Rebuild;
        }
        change.policy = Arc::new(loaded.policy);
        change.rides = self.releases.riding.is_some();
        let made = self.change(change)?;
        Ok(format!("revision {}, epoch {}", made.revision, made.epoch))
    }

    /// The numbers of its rules, for the record that comes next. Of routes that have just gone they rest.
    fn note_rules(&mut self, name: &str) {
        let all = self.compiled.assigned.rules.with_resting();
        let ours: Vec<u32> = all.filter(|(rule, _)| release::owns(name, rule)).map(|(_, n)| n).collect();
        if let Some(rules) = self.releases.all.get_mut(name).and_then(|r| r.state.rules.as_mut()) {
            rules.extend(ours);
        }
    }

    /// Established TCP connections that the release's routes have sent to gray instances, not to those that are stable's, too.
    fn close_gray(&mut self, spec: &Spec) -> Result<String, ApiError> {
        let policy = self.policy.clone();
        let rules = self.releases.all.get(&spec.name).and_then(|r| r.state.rules.clone());
        let (mut n, mut failed) = (0, Vec::new());
        for s in &spec.services {
            let Some(service) = policy.service(&s.name) else { continue };
            for i in service.instances.iter().filter(|i| s.gray.matches(i) && !service.stable.matches(i)) {
                let id = format!("{}/{}", s.name, i.id);
                // One that cannot be closed leaves none of the others open.
                match self.close(&id, rules.as_ref()) {
                    Ok(closed) => n += closed,
                    Err(e) => failed.push(format!("{id}: {}", ApiError::internal(&e).error)),
                }
            }
        }
        match failed.is_empty() {
            true => Ok(format!("{n} closed")),
            false => Err(ApiError::conflict(format!("{n} closed; {}", failed.join("; ")), "")),
        }
    }

    /// The documents of releases in the policy in force: they stay when the user's are replaced.
    pub(in crate::agent) fn release_sources(&self) -> Result<Vec<Source>, ApiError> {
        if self.revision == 0 {
            return Ok(Vec::new());
        }
        let mut sources = self.store.sources(self.revision).map_err(internal)?;
        sources.retain(|s| s.name.starts_with(SOURCE));
        Ok(sources)
    }
}

pub(super) fn documents(sources: &[Source]) -> Vec<config::Source> {
    sources.iter().map(|s| config::Source::new(s.name.clone(), s.text.clone())).collect()
}

/// The problems in one line: a history has no pictures.
pub(super) fn plain(e: &ApiError) -> ApiError {
    let all: Vec<&str> = e.problems.iter().take(3).map(|p| p.message.as_str()).collect();
    ApiError::conflict(format!("{}: {}", e.error, all.join("; ")), e.help.clone())
}
