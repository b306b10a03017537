//! What people tell a release, carried out. Whether it is taken is [`command::fits`]'s to say.

use super::{
    super::{Command, Verb, command::Asked},
    Hold, Machine, Phase, What, command,
};

impl Machine<'_> {
    pub(super) fn command(&mut self, c: &Command) {
        let why = if c.why.is_empty() { String::new() } else { format!(": {}", c.why) };
        let said = format!("{} by {}{why}", c.verb.name(), c.who);
        let from = self.s.name();
        match c.verb {
            Verb::Pause => {
                let evidence = self.evidence();
                (self.s.hold, self.s.held_at) = (Hold::Paused, self.now);
                self.told(from, &said, evidence);
            }
            Verb::Resume if self.s.hold == Hold::None => {
                self.climb(0, &said);
            }
            Verb::Resume => self.resume(from, &said),
            Verb::Approve => {
                match command::awaits(self.spec, self.s) {
                    Some(Asked::Alignment) => self.s.align_approved = true,
                    _ => self.s.approved = true,
                }
                self.say("command", said);
            }
            Verb::Jump => {
                let hold = self.s.hold;
                self.climb(c.stage, &said);
                if hold == Hold::Paused {
                    (self.s.hold, self.s.held_at) = (hold, self.now);
                }
            }
            Verb::Promote => self.enter(Phase::Aligning, &said),
            Verb::Abort | Verb::Recall if self.s.phase <= Phase::DeployVerify => {
                self.enter(Phase::Stopped, &said);
            }
            Verb::Abort => self.enter(Phase::Abnormal, &said),
            Verb::Recall => {
                self.s.closing = Some(c.closing);
                self.enter(Phase::Recalling, &said);
            }
            Verb::Retry => self.enter(Phase::Deploying, &said),
            Verb::Close if self.s.phase == Phase::Done => self.enter(Phase::Closed, &said),
            Verb::Close => self.enter(Phase::Failed, &said),
        }
        // Somebody waits for the answer.
        for e in self.s.due.iter_mut().filter(|e| matches!(e.what, What::Traffic(_))) {
            e.not_before = self.now;
        }
    }

    fn resume(&mut self, from: String, said: &str) {
        // Of what a person decided on.
        let evidence = self.evidence();
        if self.s.hold == Hold::Paused {
            // The pause is no time of the stage.
            self.s.since += self.now.saturating_sub(self.s.held_at);
        } else if self.s.phase == Phase::Ramp {
            // What was bad is judged no more.
            self.s.since = self.now;
            self.s.base = self.counts.to_vec();
            (self.s.at, self.s.checked, self.s.next_round) = (0, false, self.now);
        }
        self.s.hold = Hold::None;
        self.share();
        self.s.reason = said.into();
        self.told(from, said, evidence);
    }
}
