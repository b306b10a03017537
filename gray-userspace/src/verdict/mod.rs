//! The verdict of a release stage (F9): gray against stable over the same window, looked at as often as one likes.
//!
//! Every comparison is a sequential test whose error stays below its level at all looks together (an e-process; Ville's inequality):
//! - *failures*, and each kind of them, by a mixture sequential probability ratio test of two proportions: Johari, Pekelis, Walsh, "Always
//!   valid inference" (2015, 2022), in the form of Turner, Ly, Grünwald, "Generic E-variables for exact sequential k-sample
//!   tests" (2021), which needs no normal approximation: gray arms are small and failures rare.
//! - *times*, at the median and at the 90th percentile of log2 histograms, by the same test of the shares above the quantile (Howard and
//!   Ramdas, "Sequential estimation of quantiles", 2022, for why one may look at a quantile at any time).
//!
//! What fails is significant *and* large enough to matter; what passes has excluded a regression of the size that must not pass. All else
//! is inconclusive, and holds. The mean of both arms is put in for the unknown common one, which makes the test exact at each look and
//! close to it over all of them; the simulations beside this file hold the level. Attempts are taken as independent: clients whose failures come
//! in heaps need a larger minimum sample. [ADR 22](../../../docs/adr/0022-verdicts.md).
//!
//! Pure: no clock, no I/O; total for any counters.

mod sample;
mod tally;
mod times;

#[cfg(test)]
mod props;
#[cfg(test)]
mod simulated;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use sample::{Histogram, Sample};
pub(crate) use tally::Tally;
use tally::{evidence, excludes};
use times::Times;

/// What fails, what passes, and how sure either must be. Values that make no sense are brought into range.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Limits {
    /// The probability that a gray arm which is as good as stable ever fails, over all comparisons and looks; and that a regression of
    /// the excluded size ever passes.
    pub level: f64,
    /// With fewer attempts, or values of a metric, in either arm nothing is judged.
    pub least: u64,
    /// A difference of failures, as a share of attempts, that never fails: 0.002 is 0.2 points.
    pub ignore_failures: f64,
    /// A difference of failures that must be excluded to pass.
    pub exclude_failures: f64,
    /// A ratio of medians that never fails.
    pub ignore_median: f64,
    /// A ratio of 90th percentiles that never fails.
    pub ignore_tail: f64,
    /// How often a time must not have doubled, to pass: 1 excludes a ratio of 2, 2 of 4.
    pub exclude_doublings: u8,
    /// The 90th percentile is compared, too. A tenth of a small sample rules nothing out.
    pub tails: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            level: 0.05,
            least: 50,
            ignore_failures: 0.002,
            exclude_failures: 0.01,
            ignore_median: 1.2,
            ignore_tail: 1.5,
            exclude_doublings: 1,
            tails: true,
        }
    }
}

impl Limits {
    fn sane(self) -> Self {
        let or = |v: f64, other: f64| if v.is_finite() { v } else { other };
        let d = Self::default();
        Self {
            level: or(self.level, d.level).clamp(1e-9, 0.5),
            least: self.least.max(1),
            ignore_failures: or(self.ignore_failures, d.ignore_failures).clamp(0.0, 1.0),
            exclude_failures: or(self.exclude_failures, d.exclude_failures).clamp(0.0, 1.0),
            ignore_median: or(self.ignore_median, d.ignore_median).max(1.0),
            ignore_tail: or(self.ignore_tail, d.ignore_tail).max(1.0),
            exclude_doublings: self.exclude_doublings.clamp(1, 32),
            tails: self.tails,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// A regression of the excluded size is ruled out, in everything that was compared.
    Pass,
    /// Gray is worse, significantly and by more than is ignored.
    Fail,
    /// Hold: not enough is known for either.
    Inconclusive,
}

/// What came of one window, with all that it rests on. Every number is finite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Verdict {
    pub outcome: Outcome,
    /// One line for people.
    pub why: String,
    pub comparisons: Vec<Comparison>,
}

/// One comparison of the arms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Comparison {
    /// `failures`, `failures.reset`, `handshake.median`, `handshake.tail`.
    pub name: String,
    pub outcome: Outcome,
    /// One line for people.
    pub why: String,
    pub measure: Measure,
    pub stable: Side,
    pub gray: Side,
    /// Gray's value less stable's, or over it; see `measure`.
    pub estimate: f64,
    /// Where the true one lies, at all looks at once, with probability 1 - `interval_level`. Of failures it is made of each
    /// arm's own bounds, and wider than what the tests know of both.
    pub interval: Interval,
    pub interval_level: f64,
    /// Always-valid p-value of "gray is no worse".
    pub p: f64,
    /// What `p` must be at most to fail: this comparison's part of the level.
    pub level: f64,
}

/// None: no bound yet.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Interval {
    pub low: Option<f64>,
    pub high: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Measure {
    /// Of shares of attempts.
    Difference,
    /// Of times.
    Ratio,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Side {
    /// Attempts, or values of a metric.
    pub n: u64,
    /// The share that failed, or the quantile.
    pub value: f64,
}

/// The quantiles of times that are compared.
const QUANTILES: [(&str, f64); 2] = [("median", 0.5), ("tail", 0.9)];
/// Intervals of ratios look no further than so many doublings.
const FAR: i32 = 8;

/// Compares the arms. A stage in which everybody is gray has no stable arm to compare with, and is always inconclusive: ask something else there.
/// Half of the level is for failures of all kinds together, the rest in equal parts for everything else.
pub fn judge(stable: &Sample, gray: &Sample, limits: &Limits) -> Verdict {
    let limits = limits.sane();
    let kinds = names(stable.failures.keys().chain(gray.failures.keys()));
    // One kind alone is the same as all of them.
    let kinds = if kinds.len() > 1 { kinds } else { Vec::new() };
    let metrics = names(stable.histograms.keys().chain(gray.histograms.keys()));
    let quantiles = if limits.tails { &QUANTILES[..] } else { &QUANTILES[..1] };
    let others = kinds.len() + quantiles.len() * metrics.len();
    let (first, rest) = match others {
        0 => (limits.level, limits.level),
        n => (limits.level / 2.0, limits.level / 2.0 / n as f64),
    };

    let tallies = |of: &dyn Fn(&Sample) -> u64| [stable, gray].map(|arm| Tally::new(arm.attempts, of(arm)));
    let mut comparisons = vec![failures("failures".into(), tallies(&Sample::failed), first, &limits)];
    for kind in kinds {
        let arms = tallies(&|arm| arm.failures.get(kind).copied().unwrap_or(0));
        comparisons.push(failures(format!("failures.{kind}"), arms, rest, &limits));
    }
    let none = Histogram::default();
    for metric in metrics {
        let [s, g] = [stable, gray].map(|arm| arm.histograms.get(metric).unwrap_or(&none));
        let arms = Times::new(s, g);
        let one = |(at, q): &(&str, f64)| times(format!("{metric}.{at}"), &arms, *q, rest, &limits);
        comparisons.extend(quantiles.iter().map(one));
    }
    Verdict::of(comparisons)
}

fn names<'a>(all: impl Iterator<Item = &'a String>) -> Vec<&'a str> {
    let mut names: Vec<&str> = all.map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    names
}

impl Verdict {
    /// What another comparison of the same arms says, under a name of its own, with its own part of the level.
    pub fn and(&mut self, other: Self, name: &str) {
        let named = other.comparisons.into_iter().map(|c| Comparison { name: name.to_string(), ..c });
        let mut all = std::mem::take(&mut self.comparisons);
        all.extend(named);
        *self = Self::of(all);
    }

    fn of(comparisons: Vec<Comparison>) -> Self {
        let first = |wanted: Outcome| comparisons.iter().find(|c| c.outcome == wanted);
        let because = |c: &Comparison| format!("{}: {}", c.name, c.why);
        let (outcome, why) = match (first(Outcome::Fail), first(Outcome::Inconclusive)) {
            (Some(c), _) => (Outcome::Fail, because(c)),
            (None, Some(c)) => (Outcome::Inconclusive, because(c)),
            (None, None) => {
                (Outcome::Pass, "a regression that matters is excluded in everything compared".into())
            }
        };
        Self { outcome, why, comparisons }
    }
}

fn failures(name: String, [stable, gray]: [Tally; 2], level: f64, limits: &Limits) -> Comparison {
    let strength = evidence(stable, gray);
    let estimate = gray.rate() - stable.rate();
    let ((s_low, s_high), (g_low, g_high)) =
        (stable.bounds(limits.level / 2.0), gray.bounds(limits.level / 2.0));
    let (low, high) = (g_low - s_high, g_high - s_low);
    let sides = [stable, gray].map(|t| Side { n: t.n(), value: t.rate() });
    let found = Found {
        worse: estimate >= limits.ignore_failures,
        excluded: excludes(stable, gray, limits.exclude_failures) >= -limits.level.ln(),
        told: format!("{:+.2} points", estimate * 100.0),
        regression: format!("{:+.2} points", limits.exclude_failures * 100.0),
    };
    let bounds = Interval { low: Some(low), high: Some(high) };
    comparison(name, Measure::Difference, sides, estimate, bounds, strength, level, limits, &found)
}

fn times(name: String, arms: &Times, q: f64, level: f64, limits: &Limits) -> Comparison {
    let (n_stable, n_gray) = arms.counts();
    let strength = arms.slower(q, 0);
    let estimate = arms.ratio(q);
    let both = -(limits.level / 2.0).ln();
    // The estimate lies between the two.
    let near = (estimate.log2().floor() as i32).clamp(-FAR, FAR);
    let low = (-FAR..=near).rev().find(|s| arms.slower(q, *s) >= both);
    let high = (near + 1..=FAR).find(|s| arms.excludes(q, *s, limits.level / 2.0));
    let (at_stable, at_gray) = arms.quantiles(q);
    let sides = [Side { n: n_stable, value: at_stable }, Side { n: n_gray, value: at_gray }];
    let ignored = if q > 0.5 { limits.ignore_tail } else { limits.ignore_median };
    let doublings = i32::from(limits.exclude_doublings);
    let found = Found {
        worse: estimate >= ignored,
        excluded: arms.excludes(q, doublings, limits.level),
        told: format!("{estimate:.2} times"),
        regression: format!("{} times", f64::from(doublings).exp2()),
    };
    let [low, high] = [low, high].map(|s| s.map(|s| f64::from(s).exp2()));
    let bounds = Interval { low, high };
    comparison(name, Measure::Ratio, sides, estimate, bounds, strength, level, limits, &found)
}

/// What a comparison found, in the words of its measure.
struct Found {
    worse: bool,
    excluded: bool,
    told: String,
    regression: String,
}

#[expect(clippy::too_many_arguments, reason = "the fields of what it makes")]
fn comparison(
    name: String,
    measure: Measure,
    [stable, gray]: [Side; 2],
    estimate: f64,
    interval: Interval,
    strength: f64,
    level: f64,
    limits: &Limits,
    found: &Found,
) -> Comparison {
    let p = (-strength).exp().clamp(0.0, 1.0);
    let told = &found.told;
    let (outcome, why) = if stable.n.min(gray.n) < limits.least {
        let why =
            format!("too few samples: stable {}, gray {}, wanted {} of each", stable.n, gray.n, limits.least);
        (Outcome::Inconclusive, why)
    } else if p <= level && found.worse {
        (Outcome::Fail, format!("gray is worse: {told} (p {p:.1e}, level {level:.1e})"))
    } else if found.excluded {
        (Outcome::Pass, format!("{told}; a regression of {} is excluded", found.regression))
    } else {
        (Outcome::Inconclusive, format!("{told}; a regression of {} is not excluded yet", found.regression))
    };
    Comparison {
        name,
        outcome,
        why,
        measure,
        stable,
        gray,
        estimate,
        interval,
        interval_level: limits.level,
        p,
        level,
    }
}
