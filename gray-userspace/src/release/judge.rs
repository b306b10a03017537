//! What counters say about a stage: [`judge`].

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Counts,
    evidence::{Samples, samples},
};
use crate::verdict::{self, Comparison, Limits, Outcome, Tally};

/// Fewer say nothing.
pub const FEW: u64 = 20;
/// So many show how long one in ten takes, and whether times have doubled; fewer, whether the half takes four times as long.
const MANY: u64 = 300;
/// The share of refused connections that needs nobody to compare with.
const REFUSED: f64 = 0.05;

/// What a stage asks of its counters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Asked {
    /// At least so many connections of each arm of each service; 0: nothing is asked.
    pub samples: u64,
    /// Everybody is on gray, and stable has nothing to show.
    pub whole: bool,
    /// A service whose failures are not seen holds nothing up.
    pub unmeasured: bool,
    /// The probability that versions which are alike fail this stage, or that one passes which is worse by what must be ruled out.
    pub level: f64,
    /// With fewer attempts of either arm nothing is compared.
    pub least: u64,
    /// Times are compared, where there are `least` of either arm.
    pub times: bool,
    /// The difference of failures that must be ruled out; none: what `samples` can rule out.
    pub exclude: Option<f64>,
}

/// What evidence says of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    Pass,
    /// Gray is worse.
    Fail,
    /// Nothing can be said yet: the stage holds.
    Inconclusive,
    /// Nothing was asked, or nothing is seen and the document lets that pass.
    Nothing,
}

impl Says {
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Inconclusive => "inconclusive",
            Self::Nothing => "not judged",
        }
    }

    /// The stage waits for no more evidence.
    pub fn is_enough(self) -> bool {
        matches!(self, Self::Pass | Self::Nothing)
    }
}

/// What evidence says, with all that it rests on.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    pub says: Says,
    /// One line for people.
    pub why: String,
    pub compared: Vec<Compared>,
}

/// The comparisons of one service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Compared {
    pub service: String,
    pub outcome: Outcome,
    /// With p-values, intervals, and how many there were of each arm.
    pub comparisons: Vec<Comparison>,
}

/// A verdict as history shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Judged {
    /// `pass`, `fail`, `inconclusive`, `not judged`.
    pub verdict: String,
    pub why: String,
}

impl From<&Verdict> for Judged {
    fn from(v: &Verdict) -> Self {
        Self { verdict: v.says.name().into(), why: v.why.clone() }
    }
}

/// The one place where counters become a verdict: enough connections of each arm, and gray's do not fail more than stable's
/// ([`crate::verdict`]). What is seen to be worse fails however little was asked; what is too little, or not seen, holds.
pub fn judge(stage: &[Counts], asked: &Asked) -> Verdict {
    let least = asked.least.max(FEW);
    // Fewer than that are no sample.
    let wanted = if asked.samples == 0 { 0 } else { asked.samples.max(least) };
    let level = asked.level / stage.len().max(1) as f64;
    let asked = Asked { least, samples: wanted, level, ..*asked };
    let found: Vec<Found> = stage.iter().map(|s| look(s, &asked)).collect();
    let (says, why) = sum_up(&found, &asked);
    let compared = found.into_iter().filter_map(|f| {
        let v = f.verdict?;
        Some(Compared { service: f.of.service.clone(), outcome: v.outcome, comparisons: v.comparisons })
    });
    Verdict { says, why, compared: compared.collect() }
}

fn sum_up(found: &[Found<'_>], asked: &Asked) -> (Says, String) {
    let told = |f: &Found, why: &str| format!("{}: {why}", f.of.service);
    let first = |wanted| {
        found.iter().find_map(|f| f.verdict.as_ref().filter(|v| v.outcome == wanted).map(|v| (f, v)))
    };
    // As soon as it is seen: the test may be looked at all the time.
    if let Some((f, v)) = first(Outcome::Fail) {
        return (Says::Fail, told(f, &v.why));
    }
    if let Some((f, why)) = found.iter().find_map(|f| Some((f, f.refuses.as_ref()?))) {
        return (Says::Fail, told(f, why));
    }
    // Behind an open breaker gray has nobody to fail: the failures that opened it are what there is to see.
    if let Some(f) = found.iter().find(|f| f.of.stable.broken > 0) {
        let n = f.of.stable.broken;
        return (Says::Fail, told(f, &format!("gray's breaker opened; it kept {n} connections with stable")));
    }
    if asked.samples == 0 {
        return (Says::Nothing, "the stage has `samples: 0`".into());
    }
    for f in found {
        for (arm, n) in f.arms(asked).map(|(arm, a)| (arm, a.connections)) {
            if n < asked.samples {
                let why = format!("{n} of {} connections of {arm}", asked.samples);
                return (Says::Inconclusive, told(f, &why));
            }
        }
    }
    let unseen = || found.iter().find_map(|f| Some((f, f.unseen.as_ref()?)));
    if let Some((f, why)) = unseen().filter(|_| !asked.unmeasured) {
        let why = format!("{why}; hold it, or say `unmeasured: allow` and check it otherwise");
        return (Says::Inconclusive, told(f, &why));
    }
    // Of what is seen in part the part must be good.
    let seen = found.iter().filter(|f| f.unseen.is_none() && !asked.whole);
    let open = |v: &&verdict::Verdict| v.outcome == Outcome::Inconclusive;
    if let Some((f, v)) = seen.clone().find_map(|f| Some((f, f.verdict.as_ref().filter(open)?))) {
        return (Says::Inconclusive, told(f, &v.why));
    }
    if let Some((f, why)) = seen.clone().find_map(|f| Some((f, f.silent.as_ref()?))) {
        return (Says::Inconclusive, told(f, why));
    }
    match unseen() {
        Some((f, why)) if found.iter().all(|f| f.unseen.is_some()) => (Says::Nothing, told(f, why)),
        Some((f, why)) => (Says::Pass, format!("but for {}", told(f, why))),
        None if asked.whole => (Says::Pass, "everybody is on gray, and is compared with nobody".into()),
        None => (Says::Pass, first(Outcome::Pass).map(|(f, v)| told(f, &v.why)).unwrap_or_default()),
    }
}

/// What one service shows.
struct Found<'a> {
    of: &'a Counts,
    verdict: Option<verdict::Verdict>,
    /// Gray alone is bad enough.
    refuses: Option<String>,
    /// Why nobody can say how an arm fares.
    unseen: Option<String>,
    /// Gray takes connections, and says nothing on most of them.
    silent: Option<String>,
}

impl Found<'_> {
    fn arms(&self, asked: &Asked) -> impl Iterator<Item = (&'static str, &super::ArmCounts)> + use<'_> {
        let whole = asked.whole;
        [("gray", &self.of.gray), ("stable", &self.of.stable)]
            .into_iter()
            .filter(move |(arm, _)| *arm == "gray" || !whole)
    }
}

fn look<'a>(s: &'a Counts, asked: &Asked) -> Found<'a> {
    let seen = samples(s, asked.least, asked.times);
    // Nobody to compare with: what gray refuses must speak for itself.
    let alone = seen.gray_heard && (!seen.stable_heard || seen.stable.attempts < asked.least);
    let level = if alone { asked.level / 2.0 } else { asked.level };
    // What answers say has its part in any case, also where nobody can read them yet.
    let (level, errors) = (level * 0.75, level * 0.25);
    let limits = Limits {
        level,
        least: asked.least,
        exclude_failures: asked.exclude.unwrap_or_else(|| ruled_out(asked.samples, level)),
        // By what the document asks, as of failures, and not by what was counted.
        tails: asked.samples == 0 || asked.samples >= MANY,
        exclude_doublings: if asked.samples >= MANY { 1 } else { 2 },
        ..Limits::default()
    };
    let both = seen.gray.attempts > 0 && seen.stable.attempts > 0;
    let mut verdict = both.then(|| verdict::judge(&seen.stable, &seen.gray, &limits));
    if let (Some(v), Some([stable, gray])) = (&mut verdict, &seen.answers) {
        let limits = Limits { level: errors, ..limits };
        v.and(verdict::judge(stable, gray, &limits), "server_error");
    }
    let refuses = alone.then(|| refuses(&s.gray, level, asked.least)).flatten();
    let silent = both.then(|| silent(s, asked.least)).flatten();
    let mut found = Found { of: s, verdict, refuses, unseen: None, silent };
    found.unseen = unseen(&found, &seen, asked);
    found
}

fn unseen(found: &Found<'_>, seen: &Samples, asked: &Asked) -> Option<String> {
    found.arms(asked).find_map(|(arm, n)| {
        let (sample, heard) = match arm {
            "gray" => (&seen.gray, seen.gray_heard),
            _ => (&seen.stable, seen.stable_heard),
        };
        match () {
            () if n.connections < asked.least => None,
            () if sample.attempts < asked.least => Some(format!(
                "not measured: of {} connections of {arm} {} are followed (UDP is not)",
                n.connections, sample.attempts
            )),
            () if !heard => Some(format!("not measured: what {arm} answers does not pass here")),
            () => None,
        }
    })
}

/// Stable says something on most connections of the packet path, and gray on less than half as many: what is not said is not timed, and
/// nobody may pass by it.
fn silent(s: &Counts, least: u64) -> Option<String> {
    let said = |a: &super::ArmCounts| a.first_byte.count().min(a.flows);
    let share = |a: &super::ArmCounts| said(a) as f64 / a.flows.max(1) as f64;
    let known = s.gray.flows >= least && said(&s.stable) >= least && share(&s.stable) >= 0.5;
    (known && share(&s.gray) < share(&s.stable) / 2.0).then(|| {
        format!("gray has answered on {} of {} connections, stable on most", said(&s.gray), s.gray.flows)
    })
}

/// The difference that so many connections rule out of which none failed, with a stable arm of up to a hundred times as many: no less than
/// a point. It is the stage's, not of what was counted: a test may not choose what it asks by what it sees.
fn ruled_out(samples: u64, level: f64) -> f64 {
    let n = samples.max(FEW) as f64;
    let room = -level.ln() + 0.5 * (100.0 * n).ln() + std::f64::consts::LN_2;
    (room / n).clamp(0.01, 0.99)
}

/// Nobody knows how many stable refuses: but a service that answers is not refused by one in twenty. Resets say less, with some
/// applications each connection ends so.
fn refuses(gray: &super::ArmCounts, level: f64, least: u64) -> Option<String> {
    let followed = gray.followed();
    let refused = Tally::new(followed, gray.refused);
    let (low, _) = refused.bounds(level);
    (followed >= least && low > REFUSED).then(|| {
        format!(
            "gray refuses {:.1} % of {} connections, more than {:.0} %; there is no stable to compare with",
            refused.rate() * 100.0,
            followed,
            REFUSED * 100.0
        )
    })
}

#[cfg(test)]
mod tests;
