//! The promises of the test, by simulation with fixed seeds: false alarms under continuous looking, and power.

use super::*;

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Four uniforms of variance 1 together: near enough to a normal one, and cheap.
    fn normal(&mut self) -> f64 {
        ((0..4).map(|_| self.unit()).sum::<f64>() - 2.0) * 3f64.sqrt()
    }
}

/// How connections of an arm behave.
#[derive(Clone, Copy)]
struct Arm {
    fails: f64,
    /// Median of a lognormal time; 0: not measured.
    median: f64,
    /// Its spread, in natural logarithms.
    sigma: f64,
}

struct World {
    stable: Arm,
    gray: Arm,
    /// Which part of all connections is gray.
    share: f64,
    /// Until the gray arm (or, if it is larger, stable) has so many.
    until: u64,
    /// A look after each so many connections.
    each: u64,
}

impl World {
    fn add(&self, arm: Arm, to: &mut Sample, random: &mut Random) {
        to.attempts += 1;
        let failed = random.unit() < arm.fails;
        *to.failures.entry("reset".into()).or_default() += u64::from(failed);
        if arm.median > 0.0 && !failed {
            let h = to.histograms.entry("first_byte".into()).or_default();
            h.0.resize(64, 0);
            let value = arm.median * (arm.sigma * random.normal()).exp();
            h.0[value.max(1.0).log2() as usize] += 1;
        }
    }

    /// The outcome at which a release would have stopped: the first fail, else what the last look says.
    fn run(&self, seed: u64) -> Outcome {
        let mut random = Random(seed);
        let (mut stable, mut gray) = (Sample::default(), Sample::default());
        let mut last = Outcome::Inconclusive;
        let mut n = 0u64;
        while stable.attempts.min(gray.attempts) < self.until {
            if random.unit() < self.share {
                self.add(self.gray, &mut gray, &mut random);
            } else {
                self.add(self.stable, &mut stable, &mut random);
            }
            n += 1;
            if n.is_multiple_of(self.each) {
                last = judge(&stable, &gray, &Limits::default()).outcome;
                if last == Outcome::Fail {
                    break;
                }
            }
        }
        last
    }

    /// Shares of runs that pass and that fail.
    fn runs(&self, runs: u64) -> (f64, f64) {
        let seed = |i: u64| 0x5eed_0000 ^ (i << 20);
        let outcomes: Vec<Outcome> = (0..runs).map(|i| self.run(seed(i))).collect();
        let share = |o: Outcome| outcomes.iter().filter(|x| **x == o).count() as f64 / runs as f64;
        (share(Outcome::Pass), share(Outcome::Fail))
    }
}

const fn failing(fails: f64) -> Arm {
    Arm { fails, median: 0.0, sigma: 0.0 }
}

const fn taking(median: f64, sigma: f64) -> Arm {
    Arm { fails: 0.005, median, sigma }
}

/// Equal arms.
fn alike(arm: Arm, share: f64, until: u64, each: u64) -> World {
    World { stable: arm, gray: arm, share, until, each }
}

#[test]
fn f9_false_alarms_of_failures_stay_below_the_level() {
    for (rate, share, until, each) in
        [(0.005, 0.5, 4000, 40), (0.05, 0.5, 2000, 20), (0.3, 0.5, 1000, 20), (0.02, 0.05, 300, 40)]
    {
        let (_, fail) = alike(failing(rate), share, until, each).runs(1000);
        assert!(fail <= 0.05, "{rate} {share}: {fail}");
    }
}

#[test]
fn f9_false_alarms_of_failures_and_times_stay_below_the_level() {
    for (sigma, share, until) in [(0.5, 0.5, 500), (1.2, 0.1, 200)] {
        let (_, fail) = alike(taking(900.0, sigma), share, until, 50).runs(1000);
        assert!(fail <= 0.05, "{sigma} {share}: {fail}");
    }
}

#[test]
fn f9_one_point_more_of_failures_is_caught_within_4000_connections() {
    let world = World { gray: failing(0.015), ..alike(failing(0.005), 0.5, 4000, 40) };
    let (pass, fail) = world.runs(300);
    assert!(fail >= 0.9 && pass <= 0.05, "caught {fail}, passed {pass}");
    // Beside times, which take their part of the level.
    let gray = Arm { fails: 0.015, ..taking(900.0, 1.0) };
    let world = World { gray, ..alike(taking(900.0, 1.0), 0.5, 4000, 200) };
    let (pass, fail) = world.runs(200);
    assert!(fail >= 0.9 && pass <= 0.05, "caught {fail}, passed {pass}");
}

#[test]
fn f9_twice_the_latency_is_caught_within_500_connections() {
    for sigma in [0.4, 0.7, 1.0, 1.5] {
        let world = World { gray: taking(1800.0, sigma), ..alike(taking(900.0, sigma), 0.5, 500, 25) };
        let (pass, fail) = world.runs(200);
        assert!(fail >= 0.9 && pass <= 0.05, "sigma {sigma}: caught {fail}, passed {pass}");
    }
}

/// An arm that is worse by just what must not pass: it would fail long before, so only this half of the judgement is asked.
#[test]
fn f9_what_must_not_pass_does_not() {
    for (rate, share) in [(0.005, 0.5), (0.05, 0.5), (0.02, 0.1)] {
        let ever = |seed: u64| {
            let (mut random, mut stable, mut gray) = (Random(seed), (0, 0), (0, 0));
            (0..4000u64).any(|i| {
                let is_gray = random.unit() < share;
                let failed = random.unit() < if is_gray { rate + 0.01 } else { rate };
                let arm = if is_gray { &mut gray } else { &mut stable };
                *arm = (arm.0 + 1, arm.1 + u64::from(failed));
                i % 100 == 99
                    && excludes(Tally::new(stable.0, stable.1), Tally::new(gray.0, gray.1), 0.01)
                        >= -0.05f64.ln()
            })
        };
        let passed = (0..1000u64).filter(|i| ever(0x5eed ^ (i << 20))).count();
        assert!(passed <= 50, "{rate} {share}: {passed} of 1000");
    }
}

#[test]
fn f9_a_good_arm_passes_in_the_end() {
    let (pass, _) = alike(failing(0.005), 0.5, 4500, 250).runs(100);
    assert!(pass >= 0.9, "passed {pass}");
    let (pass, _) = alike(taking(900.0, 1.0), 0.5, 4500, 500).runs(100);
    assert!(pass >= 0.9, "passed {pass}");
}
