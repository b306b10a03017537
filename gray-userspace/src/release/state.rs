//! What is kept of a running release, and the words of its machine. All of it is stored as JSON: fields are added,
//! never renamed.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Command, Compared, Counts, Judged};

/// Where a release is. `paused` and `frozen` lie over it: [`Hold`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    Requested,
    Deploying,
    /// The data plan, where there is one.
    Data,
    DeployVerify,
    GrayVerify,
    GrayPeriod,
    Ramp,
    Aligning,
    /// Everybody is on gray, the rest is deployed.
    Done,
    /// The deployment was not good. No traffic has moved.
    Stopped,
    /// Everybody is on stable.
    Abnormal,
    /// Everybody is on stable, connections of gray are being closed.
    Recalling,
    /// Given up.
    Failed,
    /// Done, and its routes are gone.
    Closed,
}

impl Phase {
    pub const ALL: [Self; 14] = [
        Self::Requested,
        Self::Deploying,
        Self::Data,
        Self::DeployVerify,
        Self::GrayVerify,
        Self::GrayPeriod,
        Self::Ramp,
        Self::Aligning,
        Self::Done,
        Self::Stopped,
        Self::Abnormal,
        Self::Recalling,
        Self::Failed,
        Self::Closed,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Deploying => "deploying",
            Self::Data => "data",
            Self::DeployVerify => "deploy-verify",
            Self::GrayVerify => "gray-verify",
            Self::GrayPeriod => "gray-period",
            Self::Ramp => "ramp",
            Self::Aligning => "aligning",
            Self::Done => "done",
            Self::Stopped => "stopped",
            Self::Abnormal => "abnormal",
            Self::Recalling => "recalling",
            Self::Failed => "failed",
            Self::Closed => "closed",
        }
    }

    /// Nothing will ever happen to it again.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Failed | Self::Closed)
    }

    /// It goes on by itself.
    pub fn moves(self) -> bool {
        self <= Self::Aligning
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hold {
    #[default]
    None,
    /// By a person.
    Paused,
    /// By bad evidence that the engine may not act on.
    Frozen,
}

/// What of the traffic goes to gray.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Traffic {
    #[default]
    None,
    Testers,
    /// From 0.
    Stage(usize),
    All,
}

/// Which hooks of the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum List {
    Deploy,
    Data,
    Verify,
    GrayVerify,
    /// Checks of the stage with this number, from 0.
    Checks(usize),
    Align,
    Notify,
}

/// What becomes of established connections of gray.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Closing {
    /// They end by themselves, or are closed when this is over, in milliseconds.
    Drain(u64),
    /// At once.
    Reset,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    Traffic(Traffic),
    /// The hook of a list.
    Hook(List, usize),
    /// Of a transition, with its words.
    Notify(usize, String),
    /// Established connections of gray instances end.
    Close,
}

/// Something that the driver is to do. It stays due until its end is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    /// Never given twice in one run of a release: the last part of the idempotency key.
    pub seq: u64,
    pub what: What,
    /// Attempts that have failed.
    pub attempt: u32,
    /// Unix milliseconds.
    pub not_before: u64,
    /// So far ahead that was when it was set, milliseconds.
    #[serde(default = "longest")]
    pub pause: u64,
    /// An attempt has begun, and its end is not known yet.
    pub begun: bool,
    /// Of routes and connections: what the last attempt failed by.
    #[serde(default)]
    pub why: String,
}

fn longest() -> u64 {
    7 * 24 * 3_600_000
}

impl Effect {
    /// Of the process itself, not beside it.
    pub fn is_step(&self) -> bool {
        !matches!(self.what, What::Notify(..))
    }
}

/// Everything that is kept of one run of a release.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    pub phase: Phase,
    pub hold: Hold,
    /// Since when it is held, unix milliseconds.
    pub held_at: u64,
    /// Of the ramp, from 0.
    pub stage: usize,
    /// Why it is here, for people.
    pub reason: String,
    /// When this phase or stage began; of a stage: when its share was in force.
    pub since: u64,
    /// The hook that is next, of the phase's list or the round of checks.
    pub at: usize,
    /// Rounds of checks of this stage that passed, one after the other.
    pub rounds: u32,
    /// One of them when all else was there.
    pub checked: bool,
    pub next_round: u64,
    pub approved: bool,
    /// The alignment is; the stage has an approval of its own.
    #[serde(default)]
    pub align_approved: bool,
    /// What the checks of this stage last said.
    #[serde(default)]
    pub answers: BTreeMap<usize, Outcome>,
    /// The counters when the stage began.
    pub base: Vec<Counts>,
    /// What was last asked for.
    pub traffic: Traffic,
    /// What was last in force, as far as is known; none: what was asked for.
    #[serde(default)]
    pub turned: Option<Traffic>,
    pub closing: Option<Closing>,
    pub seq: u64,
    pub due: Vec<Effect>,
    /// A script of its data plan cannot be undone.
    #[serde(default)]
    pub irreversible: bool,
    /// The scripts that were judged: file, and SHA-256 of what was judged.
    #[serde(default)]
    pub scripts: BTreeMap<String, String>,
    /// The numbers that rules of its routes had, ever: by them its connections are known when the routes are gone. None: an older gray
    /// has begun it, which did not keep them.
    #[serde(default)]
    pub rules: Option<BTreeSet<u32>>,
    /// The clock that the times are of; 0: an older gray's, which was the machine's own.
    #[serde(default)]
    pub clock: u64,
}

impl State {
    pub fn new(now: u64) -> Self {
        Self {
            phase: Phase::Requested,
            hold: Hold::None,
            held_at: 0,
            stage: 0,
            reason: String::new(),
            since: now,
            at: 0,
            rounds: 0,
            checked: false,
            next_round: 0,
            approved: false,
            align_approved: false,
            answers: BTreeMap::new(),
            base: Vec::new(),
            traffic: Traffic::None,
            turned: None,
            closing: None,
            seq: 0,
            due: Vec::new(),
            irreversible: false,
            scripts: BTreeMap::new(),
            rules: Some(BTreeSet::new()),
            clock: 0,
        }
    }

    /// Of one that cannot be read: nothing of it moves, and its routes, whatever they are, can be taken away.
    pub fn unread(now: u64, why: &str) -> Self {
        let (phase, hold) = (Phase::Abnormal, Hold::Frozen);
        let reason = format!("it cannot be read by this agent: {why}");
        Self { phase, hold, reason, traffic: Traffic::All, rules: None, ..Self::new(now) }
    }

    /// From here on its times are of this clock. Those of another one say nothing: what has begun begins anew, so that a soak or a
    /// drain may take longer, and never less. Whether that was so.
    pub fn go_by(&mut self, clock: u64, now: u64) -> bool {
        if self.clock == clock {
            return false;
        }
        (self.clock, self.since, self.held_at) = (clock, now, now);
        for e in self.due.iter_mut().filter(|e| e.what == What::Close) {
            e.not_before = now.saturating_add(e.pause);
        }
        true
    }

    /// As people are told: `ramp 2`, `paused (ramp 2)`.
    pub fn name(&self) -> String {
        let phase = match self.phase {
            Phase::Ramp => format!("ramp {}", self.stage + 1),
            p => p.name().into(),
        };
        match self.hold {
            Hold::None => phase,
            Hold::Paused => format!("paused ({phase})"),
            Hold::Frozen => format!("frozen ({phase})"),
        }
    }

    /// A step is due: nothing else begins.
    pub fn is_busy(&self) -> bool {
        self.due.iter().any(Effect::is_step)
    }

    /// Nothing of it moves any more. Notices that nobody takes are told beside it.
    pub fn is_over(&self) -> bool {
        self.phase.is_over() && !self.is_busy()
    }

    /// People are being taken back, or what was on gray of them is being closed.
    pub fn goes_back(&self) -> bool {
        let back = matches!(self.phase, Phase::Stopped | Phase::Abnormal | Phase::Recalling | Phase::Failed);
        let turns = self.due.iter().any(|e| matches!(e.what, What::Traffic(_) | What::Close));
        back && (turns || self.in_force() != Traffic::None)
    }

    /// The share that is in force, which may be another than the one that is asked for.
    pub fn in_force(&self) -> Traffic {
        self.turned.unwrap_or(self.traffic)
    }

    /// What the engine itself could not do yet, and why.
    pub fn stuck(&self) -> Option<&Effect> {
        self.due.iter().find(|e| e.attempt > 0 && matches!(e.what, What::Traffic(_) | What::Close))
    }

    pub fn effect(&self, seq: u64) -> Option<&Effect> {
        self.due.iter().find(|e| e.seq == seq)
    }
}

/// How an effect ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Pass,
    Fail,
    /// Nothing can be said: it is asked again.
    Inconclusive,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    pub seq: u64,
    pub outcome: Outcome,
    /// What it had to say.
    pub text: String,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Time has passed.
    Tick,
    /// The driver is about to try an effect.
    Begun(u64),
    Ended(Ended),
    /// An attempt had begun when the last agent died: nobody knows its end.
    Lost(u64),
    /// A person's.
    Command(Command),
}

/// What a decision was made on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Milliseconds of the stage.
    pub time_ms: u64,
    pub judged: Judged,
    /// Since the stage began, by service.
    pub counts: Vec<Counts>,
    /// Of the ramp: the comparisons behind `judged`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub compared: Vec<Compared>,
}

/// One line of a release's history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// `transition`, `step`, `command`, `script` ..
    pub what: String,
    /// States; the same where nothing turned.
    pub from: String,
    pub to: String,
    pub text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
}
