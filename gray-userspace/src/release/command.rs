//! What people tell a release, and in which states it is taken.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Closing, Hold, Phase, Spec, State};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// Holds it where it is.
    Pause,
    /// Goes on; from `abnormal`: with the ramp's first stage.
    Resume,
    /// Of the stage, or of the alignment.
    Approve,
    /// To a stage of the ramp.
    Jump,
    /// To the alignment.
    Promote,
    /// Everybody back to stable; established connections stay.
    Abort,
    /// Everybody back to stable, established connections too.
    Recall,
    /// From the deployment on.
    Retry,
    /// It is over.
    Close,
}

impl Verb {
    pub const ALL: [Self; 9] = [
        Self::Pause,
        Self::Resume,
        Self::Approve,
        Self::Jump,
        Self::Promote,
        Self::Abort,
        Self::Recall,
        Self::Retry,
        Self::Close,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Approve => "approve",
            Self::Jump => "jump",
            Self::Promote => "promote",
            Self::Abort => "abort",
            Self::Recall => "recall",
            Self::Retry => "retry",
            Self::Close => "close",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    pub verb: Verb,
    /// Of `jump`: from 0.
    pub stage: usize,
    /// Of `recall`.
    pub closing: Closing,
    pub who: String,
    pub why: String,
}

/// A command that does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub what: String,
    pub help: String,
}

/// `Ok`: the machine takes it in this state.
pub(super) fn fits(spec: &Spec, s: &State, c: &Command) -> Result<(), Refused> {
    if !takes(spec, s, c.verb) {
        let all: Vec<_> = Verb::ALL.into_iter().filter(|v| takes(spec, s, *v)).map(Verb::name).collect();
        let all = if all.is_empty() { "nothing any more".into() } else { all.join(", ") };
        return Err(Refused {
            what: format!("{} is {}: it cannot {}", spec.name, s.name(), c.verb.name()),
            help: format!("it takes: {all}"),
        });
    }
    if c.verb == Verb::Jump && c.stage >= spec.stages.len() {
        return Err(Refused {
            what: format!("there is no stage {}", c.stage + 1),
            help: format!("{} has stages 1 to {}", spec.name, spec.stages.len()),
        });
    }
    Ok(())
}

fn takes(spec: &Spec, s: &State, verb: Verb) -> bool {
    use Phase::*;
    let p = s.phase;
    match verb {
        Verb::Pause => p.moves() && s.hold == Hold::None,
        Verb::Resume => s.hold != Hold::None || p == Abnormal,
        Verb::Approve => p == Ramp && awaits(spec, s).is_some(),
        Verb::Jump | Verb::Promote => matches!(p, GrayPeriod | Ramp) && s.hold != Hold::Frozen,
        Verb::Abort => p.moves() || p == Done,
        // In `stopped` no traffic has moved.
        Verb::Recall => !p.is_over() && p != Stopped,
        Verb::Retry => matches!(p, Stopped | Abnormal),
        Verb::Close => matches!(p, Stopped | Abnormal | Done),
    }
}

/// What a person's word is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Stage,
    Alignment,
}

/// A person's word is asked for and not given; one word for each.
pub(super) fn awaits(spec: &Spec, s: &State) -> Option<Asked> {
    let last = s.stage + 1 == spec.stages.len();
    let stage = spec.stages.get(s.stage).is_some_and(|g| g.approval);
    match () {
        () if stage && !s.approved => Some(Asked::Stage),
        () if last && spec.align_approval && !s.align_approved => Some(Asked::Alignment),
        () => None,
    }
}
