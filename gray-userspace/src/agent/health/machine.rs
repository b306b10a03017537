//! What probes say of one instance, as a state machine. Pure: `now` is given, in milliseconds of any clock that does
//! not go back.

use crate::model::Health;

/// A slow start gives the weight in so many steps, each of them one more table.
const STEPS: u64 = 10;
/// The first of them, per cent.
const FIRST_SHARE: u64 = 10;

/// What an instance is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nobody knows yet: the first success brings it up.
    New,
    /// `since`: when it came up; `None`: it was up before anybody looked, and has its whole weight.
    Up { since: Option<u64> },
    /// `until`: held down for coming and going too often.
    Down { until: u64 },
}

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Up,
    Down,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    state: State,
    /// Results in a row that speak against the state.
    streak: u32,
    /// Times that it was taken out, since it was last up for long.
    strikes: u32,
}

impl Machine {
    pub fn new(state: State) -> Self {
        Self { state, streak: 0, strikes: 0 }
    }

    pub fn state(&self) -> State {
        self.state
    }

    pub fn is_up(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }

    /// Times that it was taken out and that are still remembered.
    pub fn strikes(&self) -> u32 {
        self.strikes
    }

    /// One result of a probe.
    pub fn on(&mut self, h: &Health, passed: bool, now: u64) -> Option<Verdict> {
        match (self.state, passed) {
            (State::New, true) => Some(self.rise(now)),
            (State::New, false) => {
                // Not heard of before, so nothing is taken out and nothing counts against it.
                (self.state, self.streak) = (State::Down { until: now }, 0);
                Some(Verdict::Down)
            }
            (State::Up { .. }, true) | (State::Down { .. }, false) => {
                self.streak = 0;
                None
            }
            (State::Up { since }, false) => {
                self.streak = self.streak.saturating_add(1);
                (self.streak >= h.fall).then(|| self.fall(h, since, now))
            }
            (State::Down { until }, true) => {
                self.streak = self.streak.saturating_add(1);
                (self.streak >= h.rise && now >= until).then(|| self.rise(now))
            }
        }
    }

    fn rise(&mut self, now: u64) -> Verdict {
        (self.state, self.streak) = (State::Up { since: Some(now) }, 0);
        Verdict::Up
    }

    fn fall(&mut self, h: &Health, since: Option<u64>, now: u64) -> Verdict {
        let up_for = since.map_or(u64::MAX, |s| now.saturating_sub(s));
        if up_for >= u64::from(h.damping.max_ms) {
            self.strikes = 0;
        }
        self.strikes = self.strikes.saturating_add(1);
        (self.state, self.streak) = (State::Down { until: now + hold(h, self.strikes) }, 0);
        Verdict::Down
    }

    /// Per cent of its weight that an instance gets.
    pub fn share(&self, h: &Health, now: u64) -> u32 {
        match self.state {
            State::New | State::Down { .. } => 0,
            State::Up { since: None } => 100,
            State::Up { since: Some(s) } => share(now.saturating_sub(s), u64::from(h.slow_start_ms)),
        }
    }

    /// When the share changes next without any result.
    pub fn next_step(&self, h: &Health, now: u64) -> Option<u64> {
        let State::Up { since: Some(s) } = self.state else { return None };
        let slow = u64::from(h.slow_start_ms);
        let done = step(now.saturating_sub(s), slow);
        (done < STEPS).then(|| s + ((done + 1) * slow).div_ceil(STEPS))
    }
}

/// How long an instance with so many strikes stays out, milliseconds.
fn hold(h: &Health, strikes: u32) -> u64 {
    let d = &h.damping;
    match strikes.checked_sub(d.flips + 1) {
        Some(doublings) => (u64::from(d.hold_ms) << doublings.min(32)).min(u64::from(d.max_ms)),
        None => 0,
    }
}

fn step(elapsed: u64, slow: u64) -> u64 {
    (elapsed * STEPS).checked_div(slow).unwrap_or(STEPS).min(STEPS)
}

fn share(elapsed: u64, slow: u64) -> u32 {
    (FIRST_SHARE + (100 - FIRST_SHARE) * step(elapsed, slow) / STEPS) as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{Damping, Empty, Probe};

    fn rules(rise: u32, fall: u32) -> Health {
        Health {
            probe: Probe::Tcp,
            port: None,
            interval_ms: 1000,
            timeout_ms: 1000,
            rise,
            fall,
            jitter: 0,
            slow_start_ms: 0,
            damping: Damping { flips: 2, hold_ms: 10_000, max_ms: 60_000 },
            empty: Empty::Stable,
        }
    }

    const UP: State = State::Up { since: None };
    const DOWN: State = State::Down { until: 0 };

    /// (from, results in order, verdicts of each: `u`, `d` or `.`)
    #[test]
    fn every_state_and_result() {
        for (from, results, verdicts) in [
            (State::New, "+", "u"),
            (State::New, "-", "d"),
            (State::New, "-++", "d.u"),
            (State::New, "-+-++", "d...u"),
            (UP, "+++", "..."),
            (UP, "--+", "..."),
            (UP, "---", "..d"),
            (UP, "--+--+---", "........d"),
            (UP, "---++", "..d.u"),
            (UP, "---+-++", "..d...u"),
            (DOWN, "-", "."),
            (DOWN, "++", ".u"),
            (DOWN, "+-+-++", ".....u"),
        ] {
            let (h, mut m) = (rules(2, 3), Machine::new(from));
            let got: String = results
                .chars()
                .enumerate()
                .map(|(i, r)| match m.on(&h, r == '+', i as u64 * 1000) {
                    Some(Verdict::Up) => 'u',
                    Some(Verdict::Down) => 'd',
                    None => '.',
                })
                .collect();
            assert_eq!(got, verdicts, "{from:?} {results}");
        }
    }

    /// Out and in as fast as it goes, and when it was let back each time.
    fn downtimes(h: &Health, up_for: u64, n: usize) -> Vec<u64> {
        let (mut m, mut now, mut out) = (Machine::new(UP), 0, Vec::new());
        for _ in 0..n {
            now += up_for;
            while m.on(h, false, now).is_none() {}
            let fell = now;
            while m.on(h, true, now).is_none() {
                now += 100;
            }
            out.push(now - fell);
        }
        out
    }

    #[test]
    fn who_comes_and_goes_stays_out_for_longer_each_time_up_to_a_bound() {
        let h = rules(1, 1);
        assert_eq!(downtimes(&h, 100, 8), [0, 0, 10_000, 20_000, 40_000, 60_000, 60_000, 60_000]);
        assert_eq!(downtimes(&h, 60_000, 8), [0; 8], "up for long: begins anew");
        let none = Health { damping: Damping { hold_ms: 0, ..h.damping }, ..h };
        assert_eq!(downtimes(&none, 1, 8), [0; 8]);
    }

    #[test]
    fn a_slow_start_gives_the_weight_step_by_step() {
        let h = Health { slow_start_ms: 30_000, ..rules(1, 1) };
        let mut m = Machine::new(State::New);
        assert_eq!(m.share(&h, 5), 0);
        assert_eq!(m.on(&h, true, 1000), Some(Verdict::Up));
        let (mut now, mut shares) = (1000, vec![m.share(&h, 1000)]);
        while let Some(next) = m.next_step(&h, now) {
            assert!(next > now && m.share(&h, next - 1) == m.share(&h, now), "{now} {next}");
            now = next;
            shares.push(m.share(&h, now));
        }
        assert_eq!(shares, [10, 19, 28, 37, 46, 55, 64, 73, 82, 91, 100]);
        assert_eq!(now, 31_000);
        assert_eq!(Machine::new(UP).share(&h, 0), 100, "who was up before is not started anew");
    }

    proptest! {
        /// Up only after `rise` successes and the hold, down only after `fall` failures; shares never fall while up.
        #[test]
        fn verdicts_are_earned(
            results in prop::collection::vec(any::<bool>(), 1..200), rise in 1u32..5, fall in 1u32..5,
            step in 1u64..20_000, slow in 0u32..50_000, start in 0..3usize,
        ) {
            let h = Health { slow_start_ms: slow, ..rules(rise, fall) };
            let mut m = Machine::new([State::New, UP, DOWN][start]);
            let (mut now, mut same, mut last, mut before) = (0u64, 0u32, None, 0);
            for passed in results {
                now += step;
                same = if last == Some(passed) { same + 1 } else { 1 };
                last = Some(passed);
                let from = m.state();
                let verdict = m.on(&h, passed, now);
                match (from, verdict) {
                    (State::New, v) => prop_assert_eq!(v, Some(if passed { Verdict::Up } else { Verdict::Down })),
                    (State::Down { until }, Some(Verdict::Up)) => prop_assert!(same >= rise && now >= until),
                    (State::Up { .. }, Some(Verdict::Down)) => {
                        prop_assert!(same >= fall);
                        let State::Down { until } = m.state() else { panic!("{m:?}") };
                        prop_assert!(until - now <= u64::from(h.damping.max_ms));
                    }
                    (_, v) => prop_assert_eq!(v, None),
                }
                prop_assert_eq!(m.is_up(), m.share(&h, now) > 0);
                if verdict.is_none() && m.is_up() {
                    prop_assert!(m.share(&h, now) >= before, "{before}");
                }
                before = m.share(&h, now);
                if let Some(next) = m.next_step(&h, now) {
                    prop_assert!(next > now && m.share(&h, next) > m.share(&h, now));
                }
            }
        }
    }
}
