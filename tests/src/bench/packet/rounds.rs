//! Rounds of runs, programs interleaved: what each takes above an empty one.

use anyhow::{Result, ensure};

use super::testrun::Program;
use crate::bench::stats;

/// The largest duration told apart, ns; an interrupt may take more.
const LONGEST: usize = 1 << 15;
/// The share of the longest runs that is left out, of every program alike: interrupts and what the
/// hypervisor takes.
pub const TRIM: f64 = 0.02;
/// A measurement whose empty program varies by more between its rounds says nothing.
pub const SPREAD: f64 = 0.15;
/// ... unless it is by less than this, ns: back to back an empty program takes but a few.
pub const LEAST: f64 = 2.0;
/// How often a void measurement is repeated.
const TRIES: usize = 3;

#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub rounds: usize,
    /// Calls of each program and round.
    pub calls: usize,
    /// Calls of one program before the next one's turn.
    pub turn: usize,
    /// Runs a call.
    pub repeat: u32,
}

/// A program under test; the first of a list is the empty one.
pub struct Subject {
    pub name: String,
    pub program: Program,
    /// What it answers to every packet, if it does: the empty one.
    pub always: Option<i32>,
}

/// What is sent, and what must come of it.
pub trait Load {
    /// Before each round.
    fn prepare(&mut self) -> Result<()>;
    /// The frame number `n` of the subject `who`: no two subjects see the same flow at the same time.
    fn frame(&mut self, who: usize, n: usize) -> &[u8];
    /// The verdict that every run must give.
    fn verdict(&self) -> i32;
}

/// Nanoseconds a run, by subject and round.
#[derive(Debug, Clone)]
pub struct Measured {
    pub ns: Vec<Vec<f64>>,
    /// The empty program varied too much each time.
    pub void: bool,
    pub tries: usize,
}

impl Measured {
    /// Round by round, above the empty program.
    pub fn net(&self, who: usize) -> Vec<f64> {
        stats::differences(&self.ns[who], &self.ns[0])
    }
}

pub fn measure(subjects: &[Subject], load: &mut dyn Load, plan: Plan) -> Result<Measured> {
    let mut cursor = 0;
    for tries in 1.. {
        let mut ns = vec![Vec::new(); subjects.len()];
        for _ in 0..plan.rounds {
            load.prepare()?;
            for (of, value) in ns.iter_mut().zip(round(subjects, load, plan, cursor)?) {
                of.push(value);
            }
            cursor += plan.calls;
        }
        let void = unsteady(&ns[0]);
        if !void || tries == TRIES {
            return Ok(Measured { ns, void, tries });
        }
    }
    unreachable!("the last try returns")
}

fn round(subjects: &[Subject], load: &mut dyn Load, plan: Plan, cursor: usize) -> Result<Vec<f64>> {
    let mut seen: Vec<Histogram> = subjects.iter().map(|_| Histogram::default()).collect();
    let turns = plan.calls.div_ceil(plan.turn);
    for turn in 0..turns {
        for step in 0..subjects.len() {
            // Each turn begins with another one, so that each follows each alike.
            let who = (step + turn) % subjects.len();
            let want = subjects[who].always.unwrap_or(load.verdict());
            for n in 0..plan.turn {
                let frame = load.frame(who, cursor + turn * plan.turn + n);
                let run = subjects[who].program.run(frame, plan.repeat)?;
                ensure!(
                    run.verdict == want,
                    "{} answered {} where {want} was expected, in run {n} of turn {turn}",
                    subjects[who].name,
                    run.verdict
                );
                seen[who].add(run.ns);
            }
        }
    }
    Ok(seen.iter().map(Histogram::mean).collect())
}

fn unsteady(rounds: &[f64]) -> bool {
    let low = rounds.iter().copied().fold(f64::INFINITY, f64::min);
    let high = rounds.iter().copied().fold(0.0, f64::max);
    high - low > LEAST.max(SPREAD * stats::median(rounds).median)
}

struct Histogram {
    count: Vec<u32>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { count: vec![0; LONGEST], total: 0 }
    }
}

impl Histogram {
    fn add(&mut self, ns: u32) {
        self.count[(ns as usize).min(LONGEST - 1)] += 1;
        self.total += 1;
    }

    /// Of all but the longest runs.
    fn mean(&self) -> f64 {
        let keep = self.total - (self.total as f64 * TRIM) as u64;
        let (mut left, mut sum) = (keep, 0);
        for (ns, count) in self.count.iter().enumerate() {
            let n = u64::from(*count).min(left);
            sum += n * ns as u64;
            left -= n;
        }
        sum as f64 / keep as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_leaves_out_the_longest_runs() {
        let mut h = Histogram::default();
        for _ in 0..97 {
            h.add(100);
        }
        h.add(3);
        h.add(30_000);
        h.add(40_000);
        assert!((h.mean() - (97.0 * 100.0 + 3.0) / 98.0).abs() < 1e-9, "{}", h.mean());
    }

    #[test]
    fn the_spread_is_of_the_whole_range() {
        assert!(!unsteady(&[96.0, 100.0, 110.0]));
        assert!(unsteady(&[94.0, 100.0, 110.0]));
        assert!(!unsteady(&[4.0, 5.0, 6.0]));
    }
}
