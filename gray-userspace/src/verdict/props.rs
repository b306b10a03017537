//! Any counters give a verdict, and what a verdict says holds together.

use std::collections::BTreeMap;

use proptest::{collection, prelude::*};

use super::*;

fn histogram() -> impl Strategy<Value = Histogram> {
    collection::vec(prop_oneof![Just(0u64), 0..2000u64, any::<u64>()], 0..80).prop_map(Histogram)
}

fn sample() -> impl Strategy<Value = Sample> {
    let n = || prop_oneof![0..50u64, 0..100_000u64, any::<u64>(), Just(u64::MAX)];
    let failures = collection::btree_map("[a-c]", n(), 0..4);
    let histograms = collection::btree_map("[x-z]", histogram(), 0..3);
    (n(), failures, histograms).prop_map(|(attempts, failures, histograms)| Sample {
        attempts,
        failures,
        histograms,
    })
}

fn limits() -> impl Strategy<Value = Limits> {
    let any_f = || prop_oneof![any::<f64>(), 0.0..1.0f64, Just(f64::NAN), Just(f64::INFINITY)];
    (any_f(), any::<u64>(), any_f(), any_f(), any_f(), any_f(), any::<u8>()).prop_map(
        |(level, least, a, b, c, d, exclude_doublings)| Limits {
            level,
            least: least % 1000,
            ignore_failures: a,
            exclude_failures: b,
            ignore_median: c,
            ignore_tail: d,
            exclude_doublings,
            tails: exclude_doublings != 2,
        },
    )
}

fn sound(v: &Verdict, least: u64) -> Result<(), TestCaseError> {
    for c in &v.comparisons {
        for x in [c.estimate, c.p, c.level, c.stable.value, c.gray.value, c.interval_level] {
            prop_assert!(x.is_finite(), "{c:?}");
        }
        prop_assert!((0.0..=1.0).contains(&c.p), "{c:?}");
        if let Interval { low: Some(low), high: Some(high) } = c.interval {
            prop_assert!(low.is_finite() && high.is_finite() && low <= high, "{c:?}");
        }
        if c.stable.n < least || c.gray.n < least {
            prop_assert_eq!(c.outcome, Outcome::Inconclusive);
        }
    }
    let some = |o: Outcome| v.comparisons.iter().any(|c| c.outcome == o);
    let want = match (some(Outcome::Fail), some(Outcome::Inconclusive)) {
        (true, _) => Outcome::Fail,
        (false, true) => Outcome::Inconclusive,
        (false, false) => Outcome::Pass,
    };
    prop_assert_eq!(v.outcome, want);
    let text = serde_json::to_string(v).map_err(|e| TestCaseError::fail(e.to_string()))?;
    let back: Verdict = serde_json::from_str(&text).map_err(|e| TestCaseError::fail(e.to_string()))?;
    prop_assert_eq!(back.comparisons.len(), v.comparisons.len());
    prop_assert!(!v.why.contains(char::is_control));
    Ok(())
}

proptest! {
    #[test]
    fn any_counters_give_a_verdict(s in sample(), g in sample(), limits in limits()) {
        sound(&judge(&s, &g, &limits), limits.least.max(1))?;
        sound(&judge(&s, &g, &Limits::default()), 50)?;
        let _ = g.since(&s);
    }

    /// Equal arms never fail, whatever they hold.
    #[test]
    fn an_arm_is_no_worse_than_itself(s in sample()) {
        prop_assert_ne!(judge(&s, &s, &Limits::default()).outcome, Outcome::Fail);
    }

    /// Of what fails, more fails more surely.
    #[test]
    fn more_failures_are_no_weaker(n in 50..5000u64, k in 0..5000u64, more in 1..500u64) {
        let (s, k) = (Tally::new(5000, 25), k.min(n));
        if k as f64 / n as f64 >= s.rate() {
            prop_assert!(evidence(s, Tally::new(n, k + more)) >= evidence(s, Tally::new(n, k)) - 1e-9);
        }
    }
}

/// The expectation of the e-value over all ways to deal k events to the arms: 1 at most, whatever k is.
#[test]
fn f9_the_test_is_exact_at_each_look() {
    let ln_factorials: Vec<f64> = (0..=2200u64)
        .scan(0.0, |sum, i| {
            *sum += if i == 0 { 0.0 } else { (i as f64).ln() };
            Some(*sum)
        })
        .collect();
    let ways = |n: u64, k: u64| {
        ln_factorials[n as usize] - ln_factorials[k as usize] - ln_factorials[(n - k) as usize]
    };
    let mut worst = 0.0f64;
    for (ns, ng) in [(50, 50), (1000, 50), (50, 1000), (300, 60), (500, 500)] {
        for k in (1..ns + ng).step_by(7) {
            let deal = |kg: u64| {
                let odds = ways(ng, kg) + ways(ns, k - kg) - ways(ns + ng, k);
                (odds + evidence(Tally::new(ns, k - kg), Tally::new(ng, kg))).exp()
            };
            worst = worst.max((k.saturating_sub(ns)..=k.min(ng)).map(deal).sum());
        }
    }
    assert!(worst <= 1.0, "{worst}");
}

fn arm(attempts: u64, kinds: &[(&str, u64)]) -> Sample {
    let failures = kinds.iter().map(|(name, n)| ((*name).to_string(), *n)).collect();
    Sample { attempts, failures, histograms: BTreeMap::new() }
}

#[test]
fn f9_practical_thresholds_stand_beside_the_statistical_ones() {
    let judged = |s: Sample, g: Sample| judge(&s, &g, &Limits::default());
    // 0.1 points in ten million connections: as sure as can be, and ignored.
    let small = judged(arm(10_000_000, &[("reset", 50_000)]), arm(10_000_000, &[("reset", 60_000)]));
    assert!(small.outcome == Outcome::Pass && small.comparisons[0].p < 1e-9, "{small:?}");
    let large = judged(arm(10_000_000, &[("reset", 50_000)]), arm(10_000_000, &[("reset", 71_000)]));
    assert_eq!(large.outcome, Outcome::Fail);
    // Twice the rate, and nobody can know.
    let few = judged(arm(400, &[("reset", 2)]), arm(400, &[("reset", 4)]));
    assert_eq!(few.outcome, Outcome::Inconclusive);
    assert!(few.why.contains("not excluded"), "{}", few.why);
    let fewer = judged(arm(49, &[("reset", 0)]), arm(40, &[("reset", 40)]));
    assert!(fewer.why.contains("too few samples: stable 49, gray 40"), "{}", fewer.why);
}

#[test]
fn f9_a_kind_that_rises_while_another_falls_is_seen() {
    let s = arm(20_000, &[("reset", 400), ("timeout", 0)]);
    let g = arm(20_000, &[("reset", 0), ("timeout", 400)]);
    let v = judge(&s, &g, &Limits::default());
    assert_eq!(v.outcome, Outcome::Fail);
    assert!(v.why.starts_with("failures.timeout: gray is worse: +2.00 points"), "{}", v.why);
}

#[test]
fn times_that_buckets_cannot_tell_apart_do_not_fail() {
    let spike = |at: usize| {
        let mut h = vec![0; 64];
        h[at] = 5000;
        Sample {
            attempts: 5000,
            histograms: [("first_byte".to_string(), Histogram(h))].into(),
            ..Sample::default()
        }
    };
    let outcome = |g: usize| judge(&spike(15), &spike(g), &Limits::default()).outcome;
    // One bucket up may be 1.001 times, or nearly 4 times.
    assert_eq!(
        [15, 16, 17, 14].map(outcome),
        [Outcome::Pass, Outcome::Inconclusive, Outcome::Fail, Outcome::Pass]
    );
}

/// From a cache or from behind it: nothing lies between the heaps, and a cut there sees arms alike that are and arms that are not.
#[test]
fn f9_times_in_two_heaps_pass_and_the_slower_heap_is_seen() {
    let heaps = |n: u64, shares: &[(usize, u64)]| {
        let mut h = vec![0; 64];
        shares.iter().for_each(|(at, share)| h[*at] = n * share / 100);
        Sample {
            attempts: n,
            histograms: [("first_byte".to_string(), Histogram(h))].into(),
            ..Sample::default()
        }
    };
    let stable = [(12, 92), (15, 8)];
    let of = |n: [u64; 2], stable: &[(usize, u64)], gray: &[(usize, u64)]| {
        judge(&heaps(n[0], stable), &heaps(n[1], gray), &Limits::default()).outcome
    };
    let outcome = |gray, shares: &[(usize, u64)]| of([7500, gray], &stable, shares);
    // However few of all are gray.
    for n in [7500, 2500, 1000] {
        assert_eq!(outcome(n, &[(12, 92), (15, 8)]), Outcome::Pass, "{n}");
    }
    for shares in [&[(12, 92), (16, 8)], &[(13, 92), (16, 8)], &[(12, 92), (20, 8)], &[(12, 80), (15, 20)]] {
        assert_ne!(outcome(2500, shares), Outcome::Pass, "{shares:?}");
        // Also where the quantile itself is sure to be in the lower heap.
        assert_ne!(of([750_000, 250_000], &stable, shares), Outcome::Pass, "{shares:?}");
    }
    // A spread of few, behind a heap that is wide (all that is short): no cut has a tenth above it, and the tail is in the heap.
    let few = [(12, 94), (14, 1), (15, 2), (16, 2), (17, 1)];
    assert_eq!(of([80_000, 17_000], &few, &few), Outcome::Pass);
    let many = [(12, 88), (14, 3), (15, 4), (16, 4), (17, 1)];
    assert_ne!(of([80_000, 17_000], &few, &many), Outcome::Pass);
}

#[test]
fn a_window_is_a_difference_of_counters() {
    let earlier = arm(100, &[("reset", 5)]);
    let mut now = arm(150, &[("reset", 4), ("timeout", 2)]);
    let _ = now.histograms.insert("x".into(), Histogram(vec![1, 2]));
    let since = now.since(&earlier);
    assert_eq!(since.attempts, 50);
    assert_eq!(since.failures, arm(0, &[("reset", 4), ("timeout", 2)]).failures);
    assert_eq!(since.histograms["x"], Histogram(vec![1, 2]));
}
