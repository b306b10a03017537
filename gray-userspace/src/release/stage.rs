//! What a stage asks for, what it still waits for, and both in words.

use super::{
    Asked as Judging, Counts, Effect, Hold, Phase, Says, Spec, State, Traffic, Verdict, command,
    command::Asked, evidence, judge, steps::describe,
};
use crate::{config::percent_text, model::Millis};

const FULL: u16 = 10_000;
/// Notices of one release that are being delivered at a time.
const NOTICES: usize = 4;

pub fn verdict(spec: &Spec, s: &State, counts: &[Counts]) -> Verdict {
    let Some(g) = spec.stages.get(s.stage) else {
        return Verdict { says: Says::Nothing, why: "there is no such stage".into(), compared: Vec::new() };
    };
    let asked = Judging {
        samples: g.samples,
        whole: g.basis_points >= FULL,
        unmeasured: g.unmeasured,
        // Each stage is a test of its own, of new counters.
        level: spec.verdict.level / spec.stages.len().max(1) as f64,
        least: spec.verdict.least,
        times: spec.verdict.times,
        exclude: spec.verdict.exclude,
    };
    judge(&evidence::since(counts, &s.base), &asked)
}

/// Time and evidence that are missing.
pub(super) fn unmet(spec: &Spec, s: &State, now: u64, counts: &[Counts]) -> Vec<String> {
    let mut out = Vec::new();
    let ms = match s.phase {
        Phase::GrayPeriod => spec.gray_period_ms,
        Phase::Ramp => spec.stages.get(s.stage).map_or(0, |g| g.time_ms),
        _ => 0,
    };
    let left = (s.since + u64::from(ms)).saturating_sub(now);
    if left > 0 {
        // Whole seconds are enough for people.
        let left = u32::try_from(left.div_ceil(1000) * 1000).unwrap_or(u32::MAX);
        out.push(format!("time: {} of {} left", Millis(left), Millis(ms)));
    }
    if s.phase == Phase::Ramp {
        let verdict = verdict(spec, s, counts);
        if !verdict.says.is_enough() {
            out.push(format!("evidence: {}", verdict.why));
        }
    }
    out
}

/// Everything that a stage still asks for.
pub(super) fn open(spec: &Spec, s: &State, now: u64, counts: &[Counts]) -> Vec<String> {
    let mut out = unmet(spec, s, now, counts);
    let Some(g) = spec.stages.get(s.stage).filter(|_| s.phase == Phase::Ramp) else { return out };
    if !g.checks.is_empty() && !s.checked {
        out.push("checks: a round that passes".into());
    }
    match command::awaits(spec, s) {
        Some(Asked::Stage) => out.push(format!("a person: gray release approve {}", spec.name)),
        Some(Asked::Alignment) => {
            out.push(format!("a person, for the alignment: gray release approve {}", spec.name));
        }
        None => {}
    }
    out
}

/// What a release waits for, for people. Of one that is over: what is still to be told.
pub fn waits(spec: &Spec, s: &State, now: u64, counts: &[Counts]) -> Vec<String> {
    let name = &spec.name;
    let mut out: Vec<String> = s.due.iter().filter(|e| e.is_step()).map(|e| due(spec, e, now)).collect();
    match (s.hold, s.phase) {
        (Hold::Paused, _) => out.push(format!("a person: gray release resume {name}")),
        (Hold::Frozen, _) => out.push(format!("a person: gray release resume, abort or recall {name}")),
        (_, Phase::GrayPeriod | Phase::Ramp) => out.extend(open(spec, s, now, counts)),
        (_, Phase::Stopped) => out.push(format!("a person: gray release retry or close {name}")),
        (_, Phase::Abnormal) => out.push(format!("a person: gray release retry, resume or close {name}")),
        (_, Phase::Done) => {
            out.push(format!("a policy whose stable is the new version, then gray release close {name}"));
        }
        _ => {}
    }
    match s.notices_left() {
        0 => {}
        1 => out.push("1 notice that nobody has taken yet".into()),
        n => out.push(format!("{n} notices that nobody has taken yet")),
    }
    out
}

fn due(spec: &Spec, e: &Effect, now: u64) -> String {
    let mut text = describe(spec, &e.what);
    if e.attempt > 0 {
        text += &format!(", attempt {}", e.attempt + 1);
    }
    let pause = e.not_before.saturating_sub(now);
    if pause > 0 {
        let pause = u32::try_from(pause.div_ceil(1000) * 1000).unwrap_or(u32::MAX);
        text += &format!(", in {}", Millis(pause));
    }
    if !e.why.is_empty() {
        text += &format!(": {}", e.why);
    }
    text
}

/// `25 % and beta to gray`.
pub fn share(spec: &Spec, t: Traffic) -> String {
    match t {
        Traffic::None => "nobody to gray".into(),
        Traffic::Testers => match &spec.testers {
            Some(c) => format!("{c} to gray"),
            None => "nobody to gray".into(),
        },
        Traffic::All => "everybody to gray".into(),
        Traffic::Stage(n) => format!("{} to gray", clients(spec, n)),
    }
}

/// `25 % and beta`.
pub fn clients(spec: &Spec, stage: usize) -> String {
    let bp = spec.stages.get(stage).map_or(0, |g| u32::from(g.basis_points));
    let mut parts: Vec<String> = spec.cohorts(stage).into_iter().map(str::to_owned).collect();
    if bp > 0 || parts.is_empty() {
        parts.insert(0, format!("{} %", percent_text(bp)));
    }
    parts.join(" and ")
}

/// What may begin now.
impl State {
    pub fn ready(&self, now: u64) -> impl Iterator<Item = &Effect> {
        let held = self.hold != Hold::None;
        self.due.iter().filter(move |e| {
            let waits = held && matches!(e.what, super::What::Hook(..));
            !e.begun && e.not_before <= now && !waits
        })
    }

    /// Steps and notices that begin now. Of notices so many at a time: who is told may not answer, and there may be many to tell.
    pub fn ready_hooks(&self, now: u64) -> impl Iterator<Item = &Effect> {
        let running = self.due.iter().filter(|e| e.begun && !e.is_step()).count();
        let mut room = NOTICES.saturating_sub(running);
        self.ready(now).filter(move |e| match e.what {
            super::What::Hook(..) => true,
            super::What::Notify(..) => {
                let begins = room > 0;
                room = room.saturating_sub(1);
                begins
            }
            _ => false,
        })
    }

    /// Told already, and not taken: they are told again.
    fn notices_left(&self) -> usize {
        self.due.iter().filter(|e| !e.is_step() && e.attempt > 0).count()
    }

    /// What the engine itself does next, of routes and connections.
    pub fn next_turn(&self, now: u64) -> Option<&Effect> {
        self.ready(now).find(|e| matches!(e.what, super::What::Traffic(_) | super::What::Close))
    }
}
