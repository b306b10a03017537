//! Rounds of paired measurements: every path in turn and back again, so that a drift of the machine meets
//! them alike.

use std::time::Duration;

use anyhow::Result;

use super::stats::{self, Median};
use super::turn::Turn;
use crate::command::note;

/// Samples by path, then by round; a round's two samples are of the way there and of the way back.
#[derive(Debug)]
pub struct Rounds<S> {
    pub samples: Vec<Vec<[S; 2]>>,
}

/// `paths` are measured in this order and then backwards, `rounds` times; each round begins with another one,
/// so that nobody always follows the same neighbour. Each is warmed up first by a measurement that is
/// thrown away.
pub fn abba<S: Copy>(
    rounds: usize,
    paths: usize,
    mut measure: impl FnMut(usize) -> Result<S>,
) -> Result<Rounds<S>> {
    let mut samples: Vec<Vec<[S; 2]>> = (0..paths).map(|_| Vec::new()).collect();
    let mut turn = None;
    for round in 0..rounds {
        if turn.as_ref().is_none_or(Turn::is_over) {
            if turn.take().is_some() {
                note(&format!("  {round} of {rounds} rounds"));
                // Whoever waits for the lock wakes up and takes it.
                std::thread::sleep(Duration::from_millis(300));
            }
            turn = Some(Turn::wait()?);
            for path in 0..paths {
                let _ = measure(path)?;
            }
        }
        let order: Vec<usize> = (0..paths).map(|k| (k + round) % paths).collect();
        let there = order.iter().map(|&p| measure(p)).collect::<Result<Vec<S>>>()?;
        let mut back = order.iter().rev().map(|&p| measure(p)).collect::<Result<Vec<S>>>()?;
        back.reverse();
        for (k, &p) in order.iter().enumerate() {
            samples[p].push([there[k], back[k]]);
        }
    }
    Ok(Rounds { samples })
}

impl<S> Rounds<S> {
    /// One figure of a path for each round: the mean of its two samples.
    pub fn each(&self, path: usize, figure: impl Fn(&S) -> f64) -> Vec<f64> {
        self.samples[path].iter().map(|[a, b]| f64::midpoint(figure(a), figure(b))).collect()
    }

    pub fn median(&self, path: usize, figure: impl Fn(&S) -> f64) -> Median {
        stats::median(&self.each(path, figure))
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
        assert_eq!(calls, [13; 3], "there and back six times, and once to warm up");
        for path in 0..3 {
            let r = rounds.ratio(path, 0, |s| *s);
            assert_eq!((rounds.samples[path].len(), r.low, r.median, r.high), (6, 1.0, 1.0, 1.0));
        }
    }

    #[test]
    fn samples_are_of_the_path_that_was_measured() {
        let rounds = abba(4, 3, |path| Ok(path as f64 + 1.0)).unwrap();
        assert_eq!(rounds.ratio(2, 0, |s| *s).median, 3.0);
        assert_eq!(rounds.median(1, |s| *s).low, 2.0);
    }
}
