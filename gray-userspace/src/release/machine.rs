//! The machine: an event, and what it leads to. What is to be done stands in [`State::due`] until its end comes back as an event, so
//! that a driver which writes the state down before it acts can die anywhere.

mod told;
mod turned;
mod world;

use super::{
    Closing, Counts, Effect, Ended, Entry, Event, Evidence, Judged, List, Outcome, Phase, Refused, Says,
    Spec, State, Traffic, Verdict, What, command, evidence, stage,
    state::Hold,
    steps::{count, describe, hook},
};

/// One event. `counts` are the kernel's, never reset. The entries are the history that it makes; on `Err` nothing has changed.
pub fn on(
    spec: &Spec,
    s: &mut State,
    event: &Event,
    now: u64,
    counts: &[Counts],
) -> Result<Vec<Entry>, Refused> {
    let mut m = Machine { spec, s, now, counts, entries: Vec::new() };
    match event {
        Event::Begun(seq) => {
            m.change(*seq, |e| e.begun = true);
            return Ok(m.entries);
        }
        Event::Command(c) => command::fits(spec, m.s, c)?,
        _ => {}
    }
    m.look();
    match event {
        Event::Tick | Event::Begun(_) => {}
        Event::Lost(seq) => m.lost(*seq),
        Event::Ended(ended) => m.ended(ended),
        Event::Command(c) => m.command(c),
    }
    m.go();
    Ok(m.entries)
}

struct Machine<'a> {
    spec: &'a Spec,
    s: &'a mut State,
    now: u64,
    counts: &'a [Counts],
    entries: Vec<Entry>,
}

impl Machine<'_> {
    /// Takes every turn that can be taken now.
    fn go(&mut self) {
        // Each turn goes to a later place or makes something due: a handful.
        while self.turn() {}
    }

    /// One turn; false: there is nothing to do but wait.
    fn turn(&mut self) -> bool {
        if self.s.hold == Hold::Frozen {
            return false;
        }
        // Routes that cannot be turned leave a share of gray in force, and it is judged.
        let turns = |e: &Effect| matches!(e.what, What::Traffic(_)) && e.attempt == 0;
        if self.s.phase == Phase::Ramp
            && !self.s.due.iter().any(turns)
            && let Verdict { says: Says::Fail, why, .. } = self.verdict()
        {
            self.bad(&why);
            return true;
        }
        if self.s.hold != Hold::None {
            return false;
        }
        if self.s.is_busy() {
            return false;
        }
        match self.s.phase {
            Phase::Requested => self.enter(Phase::Deploying, ""),
            Phase::Deploying if self.spec.data.is_empty() => self.next(List::Deploy, Phase::DeployVerify),
            Phase::Deploying => self.next(List::Deploy, Phase::Data),
            Phase::Data => self.next(List::Data, Phase::DeployVerify),
            Phase::DeployVerify => self.next(List::Verify, Phase::GrayVerify),
            Phase::GrayVerify => self.next(List::GrayVerify, Phase::GrayPeriod),
            Phase::GrayPeriod => {
                if !stage::unmet(self.spec, self.s, self.now, self.counts).is_empty() {
                    return false;
                }
                self.climb(0, "");
            }
            Phase::Ramp => return self.ramp(),
            Phase::Aligning => self.next(List::Align, Phase::Done),
            Phase::Recalling => match self.s.closing.take() {
                Some(closing) => {
                    let grace = if let Closing::Drain(ms) = closing { ms } else { 0 };
                    self.push(What::Close, self.now + grace);
                }
                None => self.enter(Phase::Abnormal, "recalled"),
            },
            _ => return false,
        }
        true
    }

    /// The next hook of a phase's list, or the phase behind it.
    fn next(&mut self, list: List, then: Phase) {
        if self.s.at < count(self.spec, list) {
            self.push(What::Hook(list, self.s.at), self.now);
        } else {
            self.enter(then, "");
        }
    }

    fn ramp(&mut self) -> bool {
        let Some(g) = self.spec.stages.get(self.s.stage) else {
            self.enter(Phase::Aligning, "");
            return true;
        };
        if !g.checks.is_empty() {
            if self.s.at == g.checks.len() {
                // Only a round that ended when all else was there counts.
                self.s.checked |= stage::unmet(self.spec, self.s, self.now, self.counts).is_empty();
                self.s.at = 0;
                self.s.rounds += 1;
                self.s.next_round = self.now + u64::from(g.every_ms);
            } else if self.now >= self.s.next_round || self.s.at > 0 {
                self.push(What::Hook(List::Checks(self.s.stage), self.s.at), self.now);
                return true;
            }
        }
        if !stage::open(self.spec, self.s, self.now, self.counts).is_empty() {
            return false;
        }
        if self.s.stage + 1 == self.spec.stages.len() {
            self.enter(Phase::Aligning, "all stages passed");
        } else {
            self.climb(self.s.stage + 1, "the stage passed");
        }
        true
    }

    fn verdict(&self) -> Verdict {
        stage::verdict(self.spec, self.s, self.counts)
    }

    /// Evidence against gray.
    fn bad(&mut self, why: &str) {
        if self.spec.irreversible || self.s.irreversible {
            self.freeze(&format!("{why}; what was released cannot be undone: decide"));
        } else {
            self.enter(Phase::Abnormal, why);
        }
    }

    fn freeze(&mut self, why: &str) {
        let from = self.s.name();
        let evidence = self.evidence();
        self.drop_steps();
        // What could not be turned until now is not turned behind a person's back.
        self.s.due.retain(|e| !matches!(e.what, What::Traffic(_)));
        (self.s.hold, self.s.held_at) = (Hold::Frozen, self.now);
        self.s.reason = why.into();
        self.told(from, why, evidence);
    }

    /// The beginning of a phase.
    fn enter(&mut self, phase: Phase, why: &str) {
        self.begin(phase, self.s.stage, why);
    }

    /// The beginning of a stage of the ramp.
    fn climb(&mut self, stage: usize, why: &str) {
        self.begin(Phase::Ramp, stage, why);
    }

    fn begin(&mut self, phase: Phase, stage: usize, why: &str) {
        // Of what is being left.
        let (from, evidence) = (self.s.name(), self.evidence());
        self.drop_steps();
        let s = &mut *self.s;
        (s.phase, s.stage, s.hold, s.since) = (phase, stage, Hold::None, self.now);
        (s.at, s.rounds, s.checked, s.next_round) = (0, 0, false, self.now);
        (s.approved, s.align_approved) = (false, false);
        s.answers.clear();
        s.base = self.counts.to_vec();
        s.reason = why.into();
        if phase != Phase::Recalling {
            s.closing = None;
        }
        self.share();
        self.told(from, why, evidence);
    }

    /// Asks for the share of this phase.
    fn share(&mut self) {
        match self.s.phase {
            Phase::GrayVerify => self.shift(Traffic::Testers),
            Phase::Ramp => self.shift(Traffic::Stage(self.s.stage)),
            Phase::Aligning => self.shift(Traffic::All),
            Phase::Abnormal | Phase::Recalling | Phase::Failed | Phase::Closed => self.shift(Traffic::None),
            _ => {}
        }
    }

    /// Of what is being left, while somebody is on gray: outside of the ramp nothing is judged by it.
    fn evidence(&self) -> Option<Evidence> {
        let ramp = self.s.phase == Phase::Ramp;
        (ramp || self.s.in_force() != Traffic::None).then(|| {
            let verdict = match ramp {
                true => self.verdict(),
                false => Verdict { says: Says::Nothing, why: String::new(), compared: Vec::new() },
            };
            Evidence {
                time_ms: self.now.saturating_sub(self.s.since),
                judged: Judged::from(&verdict),
                counts: evidence::since(self.counts, &self.s.base),
                compared: verdict.compared,
            }
        })
    }

    fn shift(&mut self, to: Traffic) {
        let waits = self.s.due.iter().any(|e| e.what == What::Traffic(to));
        let other = self.s.due.iter().any(|e| matches!(e.what, What::Traffic(t) if t != to));
        if waits || (self.s.traffic == to && self.s.in_force() == to && !other) {
            return;
        }
        self.s.due.retain(|e| !matches!(e.what, What::Traffic(_)));
        self.s.turned = Some(self.s.in_force());
        self.s.traffic = to;
        self.push(What::Traffic(to), self.now);
    }

    /// Nothing of what a phase wanted is wanted any more. Routes that are on their way stay.
    fn drop_steps(&mut self) {
        let spec = self.spec;
        let state = self.s.name();
        let gone = |e: &Effect| matches!(e.what, What::Hook(..) | What::Close);
        for e in self.s.due.iter().filter(|e| gone(e) && e.begun) {
            let text = format!("{}: ended by the engine", describe(spec, &e.what));
            self.entries.push(entry("step", &state, text));
        }
        self.s.due.retain(|e| !gone(e));
    }

    fn push(&mut self, what: What, not_before: u64) {
        self.s.seq += 1;
        let seq = self.s.seq;
        let pause = not_before.saturating_sub(self.now);
        self.s.due.push(Effect {
            seq,
            what,
            attempt: 0,
            not_before,
            pause,
            begun: false,
            why: String::new(),
        });
    }

    fn change(&mut self, seq: u64, f: impl FnOnce(&mut Effect)) {
        if let Some(e) = self.s.due.iter_mut().find(|e| e.seq == seq) {
            f(e);
        }
    }

    /// A transition: history and notices.
    fn told(&mut self, from: String, why: &str, evidence: Option<Evidence>) {
        let to = self.s.name();
        let text = if why.is_empty() { format!("{from} -> {to}") } else { format!("{from} -> {to}: {why}") };
        self.notice(&text);
        self.entries.push(Entry { what: "transition".into(), from, to, text: why.into(), evidence });
    }

    fn notice(&mut self, text: &str) {
        for i in 0..self.spec.notify.len() {
            self.push(What::Notify(i, text.to_owned()), self.now);
        }
    }

    fn say(&mut self, what: &str, text: String) {
        let state = self.s.name();
        self.entries.push(entry(what, &state, text));
    }

    fn lost(&mut self, seq: u64) {
        let Some(e) = self.s.effect(seq).filter(|e| e.begun).cloned() else { return };
        self.change(seq, |e| e.begun = false);
        let what = describe(self.spec, &e.what);
        self.say("unknown", format!("{what}: nobody knows what came of it; asked again"));
    }

    fn ended(&mut self, ended: &Ended) {
        let Some(i) = self.s.due.iter().position(|e| e.seq == ended.seq) else { return };
        let e = self.s.due.remove(i);
        let passed = ended.outcome == Outcome::Pass;
        let text = format!("{}: {}", describe(self.spec, &e.what), ended.text);
        match &e.what {
            What::Traffic(_) | What::Close => self.turned(e, ended, text),
            What::Notify(n, _) => match self.spec.notify.get(*n) {
                Some(h) if !passed && e.attempt < h.retries => {
                    let pause = h.pause_ms(e.attempt + 1);
                    self.again(e, pause);
                }
                _ if !passed => self.say("error", text),
                _ => {}
            },
            What::Hook(list, n) => {
                let (list, n) = (*list, *n);
                self.hook_ended(e, (list, n), &ended.outcome, text);
            }
        }
    }

    fn hook_ended(&mut self, e: Effect, (list, n): (List, usize), outcome: &Outcome, text: String) {
        // Round after round of them: the history has what changed.
        let check = matches!(list, List::Checks(_));
        let same = check && self.s.answers.insert(n, outcome.clone()).as_ref() == Some(outcome);
        if !same || *outcome == Outcome::Fail {
            self.say("step", text.clone());
        }
        if *outcome == Outcome::Pass {
            self.s.at = n + 1;
            return;
        }
        if let Some(h) = hook(self.spec, list, n).filter(|h| e.attempt < h.retries) {
            let pause = h.pause_ms(e.attempt + 1);
            return self.again(e, pause);
        }
        match list {
            List::Checks(stage) if *outcome == Outcome::Inconclusive => {
                let every = self.spec.stages.get(stage).map_or(0, |g| u64::from(g.every_ms));
                (self.s.at, self.s.rounds, self.s.checked) = (0, 0, false);
                self.s.next_round = self.now + every;
            }
            List::Deploy | List::Data | List::Verify => self.enter(Phase::Stopped, &text),
            // Everybody is on gray and the rest is half deployed: both ways are a person's to choose.
            List::Align => self.freeze(&text),
            List::Checks(_) | List::GrayVerify | List::Notify => self.bad(&text),
        }
    }

    fn again(&mut self, mut e: Effect, pause: u64) {
        e.attempt += 1;
        (e.begun, e.not_before, e.pause) = (false, self.now + pause, pause);
        self.s.due.push(e);
    }
}

fn entry(what: &str, state: &str, text: String) -> Entry {
    Entry { what: what.into(), from: state.into(), to: state.into(), text, evidence: None }
}
