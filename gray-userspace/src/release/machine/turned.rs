//! Routes that were turned or could not be, connections that were closed or could not be.

use super::{
    super::{Effect, Ended, Outcome, Phase, Traffic, What},
    Machine,
};

/// More routes for gray that could not be turned so often: the release is taken back, for what is in force is not what is asked for.
/// A way back is tried for ever, and told after so many attempts.
const ROUTES: u32 = 6;
/// Connections that could not be closed so often are left.
const CLOSE: u32 = 10;
const LONGEST_PAUSE_MS: u64 = 60_000;

impl Machine<'_> {
    pub(super) fn turned(&mut self, e: Effect, ended: &Ended, text: String) {
        match (&e.what, ended.outcome == Outcome::Pass) {
            (What::Traffic(to), true) => {
                self.s.turned = Some(*to);
                self.say("traffic", text);
                self.s.since = self.now;
                self.s.base = self.counts.to_vec();
                self.s.next_round = self.now;
            }
            (_, true) => self.say("step", text),
            (_, false) => self.not_turned(e, &ended.text, text),
        }
    }

    fn not_turned(&mut self, mut e: Effect, why: &str, text: String) {
        if e.why != why {
            self.say("error", text.clone());
            e.why = why.to_owned();
        }
        let failed = e.attempt + 1;
        match e.what {
            What::Traffic(Traffic::None) if failed == ROUTES => {
                self.notice(&format!("the routes are still in force: {text}"));
            }
            What::Traffic(to) if to != Traffic::None && failed >= ROUTES => {
                return self.bad(&format!("its routes cannot be turned: {text}"));
            }
            What::Close if failed >= CLOSE => {
                let why = format!("recalled, and not all of gray's connections were closed: {text}");
                self.say("error", why.clone());
                return self.enter(Phase::Abnormal, &why);
            }
            _ => {}
        }
        self.again(e, (1000 << failed.min(10) >> 1).min(LONGEST_PAUSE_MS));
    }
}
