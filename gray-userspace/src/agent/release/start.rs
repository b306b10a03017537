//! What people tell the engine: start one, and commands.

use super::{Running, admission::is_stable, internal, log, scripts, traffic::documents};
use crate::{
    agent::{core::Inner, health, time},
    api::{
        ApiError, ErrorKind, Who,
        types::{LONGEST_DRAIN_MS, RecallMode, ReleaseCommand, ReleaseStart, ReleaseView},
    },
    config,
    model::Policy,
    release::{self, Closing, Command, Does, Entry, Event, Hold, Phase, Spec, State, Traffic, Verb, What},
    store::{Note, Store as _},
};

/// Of `recall --mode drain`.
const GRACE_MS: u64 = 30_000;

impl Inner {
    pub fn start_release(&mut self, who: &Who, start: ReleaseStart) -> Result<ReleaseView, ApiError> {
        let document = start.source.text.clone();
        let spec = config::load_release(&start.source.into(), Some(&self.policy)).map_err(|p| {
            let e = ApiError::from(&p);
            let help = "nothing was started; correct the document and start it again".into();
            ApiError { error: e.error.replace("the policy", "the release"), help, ..e }
        })?;
        self.can_run(&spec)?;
        self.is_free(&spec)?;
        self.would_fit(&spec)?;
        // What its checks say of gray is known when it is deployed.
        self.is_served(&spec, false)?;
        let now = time::now_ms();
        let mut state = State::new(self.releases.clock.now());
        let _ = state.go_by(self.releases.clock.id(), self.releases.clock.now());
        let judged = scripts::judge(self.release_hooks.as_deref(), &spec, &mut state)?;
        let running = Running { spec, state, run: now, who: who.to_string(), document, unread: None };
        if start.dry_run {
            return self.view_of(&running);
        }
        let name = running.spec.name.clone();
        let text = start.message.unwrap_or_default();
        let said = format!("{} of {}", running.spec.version, services(&running.spec));
        let entry = Entry {
            what: "start".into(),
            from: String::new(),
            to: running.state.name(),
            text: if text.is_empty() {
                format!("{said}, by {who}")
            } else {
                format!("{said}, by {who}: {text}")
            },
            evidence: None,
        };
        let script = |text| Entry { what: "script".into(), text, ..entry.clone() };
        let mut entries: Vec<Entry> = judged.into_iter().map(script).collect();
        entries.insert(0, entry);
        let note = Note { at: now, who: &who.to_string(), action: "release start", detail: &name };
        let kept = running.kept(&running.state, now)?;
        self.store.save_release(&kept, &log(&entries, now, now)?, Some(&note)).map_err(internal)?;
        let _ = self.releases.all.insert(name.clone(), running);
        self.releases.wake.notify_one();
        self.forget_old(&name);
        self.release_view(&name)
    }

    pub fn command_release(
        &mut self,
        who: &Who,
        name: &str,
        c: &ReleaseCommand,
    ) -> Result<ReleaseView, ApiError> {
        if !self.releases.all.contains_key(name) {
            return Err(self.no_release(name));
        }
        if self.releases.all.get(name).is_some_and(|r| r.unread.is_some() && !r.state.phase.is_over()) {
            return self.end_unread(who, name, c);
        }
        let stage = match (c.verb, c.stage) {
            (Verb::Jump, None | Some(0)) => {
                return Err(ApiError::unusable("a jump needs a stage", "name one, from 1 on"));
            }
            (_, stage) => stage.map_or(0, |n| n.saturating_sub(1) as usize),
        };
        let grace = c.grace_ms.unwrap_or(GRACE_MS);
        if grace > LONGEST_DRAIN_MS {
            return Err(ApiError::unusable("a grace of more than a week", "give a shorter one"));
        }
        match c.verb {
            Verb::Close => self.nobody_goes_back(name)?,
            Verb::Abort | Verb::Recall => self.somebody_goes_back(name)?,
            Verb::Jump | Verb::Promote => {
                let r = self.releases.all.get(name);
                let r = r.filter(|r| matches!(r.state.phase, Phase::GrayPeriod | Phase::Ramp));
                r.map_or(Ok(()), |r| self.is_served(&r.spec, true))?;
            }
            _ => {}
        }
        let closing = match c.mode {
            RecallMode::Drain => Closing::Drain(grace),
            RecallMode::Reset => Closing::Reset,
        };
        let why = c.message.clone().unwrap_or_default();
        let command = Command { verb: c.verb, stage, closing, who: who.to_string(), why };
        self.release_event(name, &Event::Command(command), Some(who))?;
        if !matches!(c.verb, Verb::Pause | Verb::Approve) {
            self.is_carried_out(name)?;
        }
        self.release_view(name)
    }

    /// One that cannot be read: its routes go, and it is over.
    fn end_unread(&mut self, who: &Who, name: &str, c: &ReleaseCommand) -> Result<ReleaseView, ApiError> {
        let Some(r) = self.releases.all.get_mut(name) else { return Err(self.no_release(name)) };
        if c.verb != Verb::Abort {
            return Err(ApiError::conflict(
                format!("{name} cannot {}: {}", c.verb.name(), r.state.reason),
                "it takes: abort, which takes its routes away and ends it",
            ));
        }
        r.state.hold = Hold::None;
        let why = c.message.clone().unwrap_or_else(|| r.state.reason.clone());
        let (verb, closing) = (Verb::Close, Closing::Reset);
        let command = Command { verb, stage: 0, closing, who: who.to_string(), why };
        let done = self.release_event(name, &Event::Command(command), Some(who));
        if let Some(r) = self.releases.all.get_mut(name).filter(|r| !r.state.phase.is_over()) {
            r.state.hold = Hold::Frozen;
        }
        done?;
        self.is_carried_out(name)?;
        self.release_view(name)
    }

    /// A command that was taken is not carried out before its routes are turned.
    fn is_carried_out(&self, name: &str) -> Result<(), ApiError> {
        let Some(r) = self.releases.all.get(name) else { return Ok(()) };
        let Some(e) = r.state.stuck() else { return Ok(()) };
        let left = match e.what {
            What::Close => "not all connections of gray are closed".to_owned(),
            _ => format!("{} is still in force", release::share(&r.spec, r.state.in_force())),
        };
        Err(ApiError::new(
            ErrorKind::Internal,
            format!("{name} is {}, but {left}: {}", r.state.name(), e.why),
            format!("it is tried again, at least each minute: gray release status {name}"),
        ))
    }

    /// Where the new version is stable already, no route of a release keeps anybody there.
    fn somebody_goes_back(&self, name: &str) -> Result<(), ApiError> {
        let Some(r) = self.releases.all.get(name).filter(|r| r.state.phase == Phase::Done) else {
            return Ok(());
        };
        for s in &r.spec.services {
            if let Some(p) = self.policy.service(&s.name).filter(|p| is_stable(&s.gray, p)) {
                return Err(ApiError::conflict(
                    format!("stable of {} is {}, what was released: nobody would go back", s.name, p.stable),
                    "roll the policy back first: gray rollback REVISION, of those that `gray history` shows",
                ));
            }
        }
        Ok(())
    }

    /// Without the routes of a finished release its clients go where the policy sends them.
    fn nobody_goes_back(&self, name: &str) -> Result<(), ApiError> {
        let Some(r) = self.releases.all.get(name).filter(|r| r.state.phase == Phase::Done) else {
            return Ok(());
        };
        for s in &r.spec.services {
            if let Some(stable) = self.policy.service(&s.name).map(|p| &p.stable).filter(|p| **p != s.gray) {
                return Err(ApiError::conflict(
                    format!("stable of {} is {stable}: its clients would go back there", s.name),
                    format!("apply a policy whose stable is {}, or `gray release recall {name}`", s.gray),
                ));
            }
        }
        Ok(())
    }

    /// Programs, units and secrets are for this machine's administrator to provide.
    fn can_run(&self, spec: &Spec) -> Result<(), ApiError> {
        for h in spec.hooks() {
            let needs = match &h.does {
                Does::Command { words, .. } => words.first().map(String::as_str),
                Does::Webhook { secret, .. } => secret.as_deref(),
                Does::Unit(unit) => Some(unit.as_str()),
                Does::Script(script) => script.run.first().map(String::as_str),
                _ => None,
            };
            let Some(what) = needs else { continue };
            let Some(dir) = &self.release_hooks else {
                return Err(ApiError::new(
                    ErrorKind::Invalid,
                    format!(
                        "the release has a step that needs `{what}`, and this agent has no directory of hooks"
                    ),
                    "start the agent with --release-hooks DIR, and put there what steps need",
                ));
            };
            let found = match &h.does {
                Does::Command { .. } | Does::Script(_) => health::program(dir, what).map(drop),
                Does::Webhook { .. } => super::sign::secret(dir, what).map(drop),
                _ => super::hooks::unit_allowed(dir, what),
            };
            if let Err(e) = found {
                let text = format!("the step `{h}` cannot be done: {e}");
                return Err(ApiError::new(
                    ErrorKind::Invalid,
                    text,
                    "nothing was started; put it right first",
                ));
            }
        }
        Ok(())
    }

    /// One open release of a name and of a service, and no number twice.
    fn is_free(&self, spec: &Spec) -> Result<(), ApiError> {
        for (name, r) in &self.releases.all {
            let shared = r.spec.services.iter().find(|s| spec.services.iter().any(|o| o.name == s.name));
            if r.is_open() && (*name == spec.name || shared.is_some()) {
                let what = match shared {
                    Some(s) => format!("{} is being released by {name}, which is {}", s.name, r.state.name()),
                    None => format!("{name} is {}", r.state.name()),
                };
                return Err(ApiError::conflict(what, r.way_out()));
            }
            if shared.is_some() && *name != spec.name && r.spec.version == spec.version {
                let what = format!("{} was the number of {name}", spec.version);
                return Err(ApiError::conflict(what, "give it the next one"));
            }
        }
        Ok(())
    }

    /// The policy with each of the release's shares is one that can be in force.
    fn would_fit(&self, spec: &Spec) -> Result<(), ApiError> {
        if self.revision == 0 {
            return Err(ApiError::conflict(
                "there is no policy",
                "apply one that has the release's services",
            ));
        }
        let sources = self.store.sources(self.revision).map_err(internal)?;
        self.may_go_on(documents(&sources), Some(spec))
    }

    /// With these documents every open release, and this one, can have the most that it will ever ask for, all of them at once:
    /// no later stage finds that the policy has lost what it needs.
    pub(in crate::agent) fn may_go_on(
        &self,
        mut documents: Vec<config::Source>,
        also: Option<&Spec>,
    ) -> Result<(), ApiError> {
        // What another gray has made stays as it is.
        let open = self.releases.all.values().filter(|r| !r.state.phase.is_over() && r.unread.is_none());
        let open = open.map(|r| &r.spec);
        let most = |spec: &Spec| {
            let text = release::source(spec, Traffic::All)?;
            Some(config::Source::new(release::source_name(&spec.name), text))
        };
        let most: Vec<_> = open.chain(also).filter_map(most).collect();
        if most.is_empty() {
            return Ok(());
        }
        documents.retain(|d| !most.iter().any(|m| m.name == d.name));
        documents.extend(most);
        let loaded = config::load(&documents).map_err(|p| ApiError::from(&p))?;
        self.compile(&loaded.policy, &self.drained, &loaded.places).map(drop)
    }

    /// No open release loses by this policy whom it would take back to.
    pub(in crate::agent) fn may_restable(&self, policy: &Policy) -> Result<(), ApiError> {
        self.releases.all.values().try_for_each(|r| r.keeps_stable(&self.policy, policy))
    }

    pub(super) fn no_release(&self, name: &str) -> ApiError {
        let names = self.releases.all.keys();
        let near = names.max_by(|a, b| strsim::jaro(a, name).total_cmp(&strsim::jaro(b, name)));
        let help = match near {
            Some(n) if strsim::jaro(n, name) > 0.7 => format!("did you mean {n}?"),
            _ => "`gray release status` lists those there are".to_string(),
        };
        ApiError::not_found(format!("there is no release {name}"), help)
    }
}

pub(super) fn services(spec: &Spec) -> String {
    spec.services.iter().map(|s| s.name.as_str()).collect::<Vec<_>>().join(", ")
}
