//! The latest decision events, kept so that `gray events` has something to show, and handed on to followers without gap or repetition.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use tokio::sync::{
    broadcast::{self, error::RecvError},
    watch,
};

use super::types::EventLine;

/// How many events are kept, and how far a follower may fall behind.
pub(super) const KEPT: usize = 1024;

pub(super) struct Recent {
    /// Also orders `push` against `tail`.
    kept: Mutex<VecDeque<EventLine>>,
    live: broadcast::Sender<EventLine>,
}

impl Recent {
    pub fn new() -> Self {
        Self { kept: Mutex::new(VecDeque::with_capacity(KEPT)), live: broadcast::Sender::new(KEPT) }
    }

    pub fn push(&self, line: EventLine) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT {
            let _ = kept.pop_front();
        }
        kept.push_back(line.clone());
        // No follower at present is no error.
        let _ = self.live.send(line);
    }

    /// The last `n` lines that `keep` likes, oldest first, and everything after them.
    pub fn tail(
        &self,
        n: usize,
        keep: impl Fn(&EventLine) -> bool,
    ) -> (Vec<EventLine>, broadcast::Receiver<EventLine>) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut last: Vec<_> = kept.iter().rev().filter(|l| keep(l)).take(n).cloned().collect();
        last.reverse();
        (last, self.live.subscribe())
    }

    /// Takes events from the core until it closes the channel, then ends the followers.
    pub async fn record(&self, mut from: broadcast::Receiver<EventLine>, ending: watch::Sender<bool>) {
        loop {
            match from.recv().await {
                Ok(line) => self.push(line),
                Err(RecvError::Lagged(lost)) => self.push(EventLine::Lost { lost }),
                Err(RecvError::Closed) => break,
            }
        }
        let _ = ending.send_replace(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_latest_and_hands_on_the_rest() {
        let recent = Recent::new();
        for lost in 0..=KEPT as u64 {
            recent.push(EventLine::Lost { lost });
        }
        let (last, mut rest) = recent.tail(2, |_| true);
        assert_eq!(last, [EventLine::Lost { lost: 1023 }, EventLine::Lost { lost: 1024 }]);
        let (all, _) = recent.tail(usize::MAX, |_| true);
        assert_eq!(all.len(), KEPT);
        assert_eq!(all[0], EventLine::Lost { lost: 1 });
        recent.push(EventLine::Lost { lost: 7 });
        assert_eq!(rest.try_recv(), Ok(EventLine::Lost { lost: 7 }));
        assert!(rest.try_recv().is_err());
    }
}
