//! What may happen beneath a release: clocks are set, counters begin anew.

use super::{
    super::{Counts, Phase},
    Machine,
};

impl Machine<'_> {
    /// Before each event.
    pub(super) fn look(&mut self) {
        self.clocks();
        self.counters();
    }

    /// Times that lie ahead further than they ever should: the clock was set back. They wait for their own interval at most.
    fn clocks(&mut self) {
        let now = self.now;
        let every = self.spec.stages.get(self.s.stage).map_or(0, |g| u64::from(g.every_ms));
        self.s.since = self.s.since.min(now);
        self.s.held_at = self.s.held_at.min(now);
        self.s.next_round = self.s.next_round.min(now + every);
        for e in &mut self.s.due {
            e.not_before = e.not_before.min(now.saturating_add(e.pause));
        }
    }

    /// What was counted before is gone; from here on all that there is counts.
    fn counters(&mut self) {
        let mut anew = Vec::new();
        for base in &mut self.s.base {
            let now = self.counts.iter().find(|n| n.service == base.service);
            if now.is_some_and(|now| now.began_anew(base)) {
                let service = std::mem::take(&mut base.service);
                anew.push(service.clone());
                *base = Counts { service, ..Counts::default() };
            }
        }
        // Elsewhere nothing is decided by them.
        if self.s.phase != Phase::Ramp {
            return;
        }
        for service in anew {
            self.say(
                "counters",
                format!("{service}: the counters began anew, and so does what this stage has measured"),
            );
        }
    }
}
