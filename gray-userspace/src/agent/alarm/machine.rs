//! When an alarm is raised and when it is over: counts of requests in, effects out. No clock, no I/O.

use std::collections::VecDeque;

use gray_common::wire::RequestCount;

use crate::model::{Alarm, Over};

/// What a window has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub read: u64,
    pub missing: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    Raised(Seen),
    Cleared(Seen),
}

/// One service's alarm.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// When it was raised.
    up: Option<u64>,
    /// Counts and when they were, the first one at the window's beginning or before it.
    counts: VecDeque<(u64, RequestCount)>,
    seen: Seen,
}

impl Machine {
    pub fn is_up(&self) -> bool {
        self.up.is_some()
    }

    /// The latest window.
    pub fn seen(&self) -> Seen {
        self.seen
    }

    /// `count`: all requests until `now` (ms of a clock that goes on).
    pub fn on(&mut self, a: &Alarm, count: RequestCount, now: u64) -> Option<Effect> {
        let window = u64::from(a.window_ms);
        if self.counts.back().is_some_and(|(_, c)| c.read > count.read || c.missing > count.missing) {
            // The counters began anew.
            self.counts.clear();
        }
        self.counts.push_back((now, count));
        while self.counts.get(1).is_some_and(|(at, _)| at + window <= now) {
            let _ = self.counts.pop_front();
        }
        let first = self.counts.front().map_or(count, |(_, c)| *c);
        self.seen = Seen { read: count.read - first.read, missing: count.missing - first.missing };
        match self.up {
            None if over(a, self.seen) => {
                self.up = Some(now);
                Some(Effect::Raised(self.seen))
            }
            // Not before a window without what raised it.
            Some(since) if since + window <= now && calm(a, self.seen) => {
                self.up = None;
                Some(Effect::Cleared(self.seen))
            }
            _ => None,
        }
    }
}

fn over(a: &Alarm, seen: Seen) -> bool {
    match a.over {
        Over::Percent(bp) => seen.read >= u64::from(a.least) && more(seen, bp),
        Over::PerSecond(n) => seen.missing * 1000 > u64::from(n) * u64::from(a.window_ms),
    }
}

fn calm(a: &Alarm, seen: Seen) -> bool {
    match a.over {
        // Nobody asks: nobody is missing.
        Over::Percent(_) => !more(seen, a.clear),
        Over::PerSecond(_) => seen.missing * 1000 <= u64::from(a.clear) * u64::from(a.window_ms),
    }
}

fn more(seen: Seen, basis_points: u32) -> bool {
    u128::from(seen.missing) * 10_000 > u128::from(seen.read) * u128::from(basis_points)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn alarm(over: Over, clear: u32) -> Alarm {
        Alarm { over, clear, window_ms: 10_000, least: 20, webhook: None, command: None }
    }

    /// A second each: requests, how many name nobody; what comes of it: `R`, `C` or `.`.
    fn run(a: &Alarm, seconds: &[(u64, u64, usize)]) -> String {
        let (mut m, mut c, mut now) = (Machine::default(), RequestCount::default(), 5000);
        let mut out = String::new();
        let _ = m.on(a, c, now);
        for (read, missing, times) in seconds {
            for _ in 0..*times {
                now += 1000;
                c = RequestCount { read: c.read + read, missing: c.missing + missing };
                out.push(match m.on(a, c, now) {
                    Some(Effect::Raised(_)) => 'R',
                    Some(Effect::Cleared(_)) => 'C',
                    None => '.',
                });
            }
        }
        out
    }

    #[test]
    fn a3_cases() {
        let share = alarm(Over::Percent(1000), 500);
        let rate = alarm(Over::PerSecond(5), 2);
        for (name, a, seconds, want) in [
            ("a tenth is not over a tenth", &share, &[(100, 10, 5)][..], "....."),
            ("a little more is", &share, &[(100, 11, 3)], "R.."),
            ("few requests raise nothing", &share, &[(1, 1, 15)], "..............."),
            ("once there are enough, they do", &share, &[(4, 4, 6)], "....R."),
            ("it stays up between the two", &share, &[(100, 20, 1), (100, 8, 15)], "R..............."),
            ("and is over below", &share, &[(100, 20, 1), (100, 1, 12)], "R.........C.."),
            ("silence ends it", &share, &[(100, 50, 1), (0, 0, 12)], "R.........C.."),
            ("50 in 10 s are 5 a second", &rate, &[(100, 5, 12)], "............"),
            ("51 are more", &rate, &[(100, 51, 1), (100, 0, 11)], "R.........C."),
            ("it stays up over 2 a second", &rate, &[(9, 9, 6), (9, 3, 14)], ".....R.............."),
            ("it may come again", &rate, &[(60, 60, 1), (0, 0, 10), (60, 60, 1)], "R.........CR"),
        ] {
            assert_eq!(run(a, seconds), want, "{name}");
        }
    }

    #[test]
    fn a3_counters_that_begin_anew_are_no_flood() {
        let a = alarm(Over::PerSecond(1), 0);
        let mut m = Machine::default();
        let count = |n| RequestCount { read: n, missing: n };
        assert_eq!(m.on(&a, count(1_000_000), 1000), None, "what was before is not of this window");
        assert_eq!(m.on(&a, count(3), 2000), None);
        assert_eq!(m.on(&a, count(9), 3000), None);
        assert!(matches!(m.on(&a, count(14), 4000), Some(Effect::Raised(Seen { read: 11, missing: 11 }))));
    }

    proptest! {
        /// Raised and cleared take turns, a window apart at least, and what it says is what its window had.
        #[test]
        fn a3_raised_and_cleared_take_turns(
            steps in prop::collection::vec((1u64..4000, 0u64..50, 0u64..50), 1..200),
            percent: bool,
        ) {
            let a = if percent { alarm(Over::Percent(2000), 1000) } else { alarm(Over::PerSecond(8), 4) };
            let (mut m, mut c, mut now) = (Machine::default(), RequestCount::default(), 0);
            let mut all = vec![(now, c)];
            let mut raised = None;
            let _ = m.on(&a, c, now);
            for (pause, named, missing) in steps {
                now += pause;
                c = RequestCount { read: c.read + named + missing, missing: c.missing + missing };
                all.push((now, c));
                let effect = m.on(&a, c, now);
                let base = all.iter().rev().find(|(at, _)| at + 10_000 <= now).unwrap_or(&all[0]).1;
                let want = Seen { read: c.read - base.read, missing: c.missing - base.missing };
                prop_assert_eq!(m.seen(), want);
                match effect {
                    Some(Effect::Raised(seen)) => {
                        prop_assert!(raised.is_none() && over(&a, seen));
                        raised = Some(now);
                    }
                    Some(Effect::Cleared(seen)) => {
                        prop_assert!(raised.is_some_and(|at| at + 10_000 <= now) && calm(&a, seen));
                        raised = None;
                    }
                    None => prop_assert!(raised.is_some() || !over(&a, want)),
                }
                prop_assert_eq!(m.is_up(), raised.is_some());
            }
        }
    }
}
