//! Rounds of paired measurements: every path in turn and back again, so that a drift of the machine meets
//! them alike.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::others;
use super::stats::{self, Median};
use super::turn::Turn;
use crate::command::note;

/// Samples by path, then by round; a round's two samples are of the way there and of the way back.
#[derive(Debug, Serialize, Deserialize)]
pub struct Rounds<S> {
    pub samples: Vec<Vec<[S; 2]>>,
    /// What other programs took of the machine's CPU time in each round.
    pub others: Vec<f64>,
}

/// A round in which others took more of the CPUs than this is measured again.
const QUIET: f64 = 0.03;
/// Where it is never quiet there is an end: the quietest of so many times the rounds are taken.
const PATIENCE: usize = 3;
/// A run of fewer rounds shows only that it works, and takes what it gets.
const SERIOUS: usize = 5;

struct Round<S> {
    others: f64,
    samples: Vec<[S; 2]>,
}

/// `paths` are measured in this order and then backwards, `rounds` times; each round begins with another one,
/// so that nobody always follows the same neighbour. Each is warmed up first by a measurement that is
/// thrown away. Which rounds count is decided by what others did, never by what was found.
pub fn abba<S: Copy>(
    rounds: usize,
    paths: usize,
    mut measure: impl FnMut(usize) -> Result<S>,
) -> Result<Rounds<S>> {
    let most = if rounds < SERIOUS { rounds } else { rounds * PATIENCE };
    let mut done: Vec<Round<S>> = Vec::new();
    let mut turn = None;
    let quiet = |done: &[Round<S>]| done.iter().filter(|r| r.others <= QUIET).count();
    while done.len() < most && quiet(&done) < rounds {
        if turn.as_ref().is_none_or(Turn::is_over) {
            if turn.take().is_some() {
                note(&format!("  {} rounds, {} of {rounds} quiet", done.len(), quiet(&done)));
                // Whoever waits for the lock wakes up and takes it.
                std::thread::sleep(Duration::from_millis(300));
            }
            turn = Some(Turn::wait()?);
            for path in 0..paths {
                let _ = measure(path)?;
            }
        }
        done.push(round(done.len(), paths, &mut measure)?);
    }
    done.sort_by(|a, b| a.others.total_cmp(&b.others));
    done.truncate(rounds);
    let others = done.iter().map(|r| r.others).collect();
    let samples = (0..paths).map(|p| done.iter().map(|r| r.samples[p]).collect()).collect();
    Ok(Rounds { samples, others })
}

fn round<S: Copy>(
    nth: usize,
    paths: usize,
    measure: &mut impl FnMut(usize) -> Result<S>,
) -> Result<Round<S>> {
    let (start, before) = (Instant::now(), others::cpu_seconds()?);
    let order: Vec<usize> = (0..paths).map(|k| (k + nth) % paths).collect();
    let there = order.iter().map(|&p| measure(p)).collect::<Result<Vec<S>>>()?;
    let mut back = order.iter().rev().map(|&p| measure(p)).collect::<Result<Vec<S>>>()?;
    back.reverse();
    let cpus = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    let others = (others::cpu_seconds()? - before).max(0.0) / start.elapsed().as_secs_f64() / cpus;
    let mut by_path: Vec<(usize, [S; 2])> =
        order.iter().zip(there.into_iter().zip(back)).map(|(&p, (a, b))| (p, [a, b])).collect();
    by_path.sort_by_key(|(p, _)| *p);
    Ok(Round { others, samples: by_path.into_iter().map(|(_, s)| s).collect() })
}

impl<S> Rounds<S> {
    /// One figure of a path for each round: the mean of its two samples.
    pub fn each(&self, path: usize, figure: impl Fn(&S) -> f64) -> Vec<f64> {
        self.samples[path].iter().map(|[a, b]| f64::midpoint(figure(a), figure(b))).collect()
    }

    pub fn median(&self, path: usize, figure: impl Fn(&S) -> f64) -> Median {
        stats::median(&self.each(path, figure))
    }

    /// How quiet it was, for the notes.
    pub fn quiet(&self, what: &str) -> String {
        let percent = |share: f64| 100.0 * share;
        let worst = self.others.iter().copied().fold(0.0, f64::max);
        format!(
            "{what}: other programs took {:.1} % of the CPUs in the median round, {:.1} % in the worst one that counts.",
            percent(stats::median(&self.others).median),
            percent(worst)
        )
    }

    /// The median of the rounds' ratios.
    pub fn ratio(&self, path: usize, to: usize, figure: impl Fn(&S) -> f64) -> Median {
        stats::median(&stats::ratios(&self.each(path, &figure), &self.each(to, &figure)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drift_of_the_machine_is_no_difference_of_paths() {
        let (mut clock, mut calls) = (0.0, [0; 3]);
        // All are alike; whatever is measured later is slower.
        let rounds = abba(6, 3, |path| {
            clock += 1.0;
            calls[path] += 1;
            Ok(1000.0 - clock)
        });
        let rounds = rounds.unwrap();
        assert!(
            calls.iter().all(|c| *c == calls[0] && *c >= 13),
            "there and back six times, and once to warm up"
        );
        for path in 0..3 {
            let r = rounds.ratio(path, 0, |s| *s);
            assert_eq!((rounds.samples[path].len(), r.low, r.median, r.high), (6, 1.0, 1.0, 1.0));
        }
    }

    #[test]
    fn samples_are_of_the_path_that_was_measured() {
        let rounds = abba(4, 3, |path| Ok(path as f64 + 1.0)).unwrap();
        assert_eq!((rounds.samples[0].len(), rounds.others.len()), (4, 4));
        assert_eq!(rounds.ratio(2, 0, |s| *s).median, 3.0);
        assert_eq!(rounds.median(1, |s| *s).low, 2.0);
    }
}
