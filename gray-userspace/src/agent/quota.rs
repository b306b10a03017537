//! What the log has of requests that name nobody, so that clients without claims cannot fill it.

use std::collections::BTreeMap;

use super::time;

/// Lines of one service in the log within one window. Counters, alarms and events have them all.
const LINES: u64 = 5;
/// Seconds of the longest window. The first is of one second, and where it was not enough the next is twice as long: who goes on
/// for days fills no disk.
const LONGEST: u64 = 64;

#[derive(Debug)]
struct Window {
    /// The second that is not of it any more.
    end: u64,
    seconds: u64,
    requests: u64,
}

/// What was left out of a window that is over.
#[derive(Debug, PartialEq, Eq)]
struct LeftOut {
    service: String,
    requests: u64,
    seconds: u64,
}

/// A window for each service that has something to say.
#[derive(Debug, Default)]
pub struct Quota(BTreeMap<String, Window>);

impl Quota {
    /// Whether one more line of this service may be written. What is over was settled before.
    pub fn admits(&mut self, service: &str) -> bool {
        self.admits_at(service, now())
    }

    /// Whether there is something to say of a window when it is over.
    pub fn holds(&self) -> bool {
        self.0.values().any(|w| w.requests > LINES)
    }

    /// Says what was left out of windows that are over.
    pub fn settle(&mut self) {
        for LeftOut { service, requests, seconds } in self.turn(now()) {
            tracing::warn!(
                service,
                requests,
                seconds,
                "more requests without any of the claims of their service"
            );
        }
    }

    fn admits_at(&mut self, service: &str, second: u64) -> bool {
        let w = match self.0.get_mut(service) {
            Some(w) => w,
            None => self.0.entry(service.to_owned()).or_insert(Window {
                end: second + 1,
                seconds: 1,
                requests: 0,
            }),
        };
        w.requests += 1;
        w.requests <= LINES
    }

    fn turn(&mut self, second: u64) -> Vec<LeftOut> {
        let mut left_out = Vec::new();
        self.0.retain(|service, w| {
            if second < w.end {
                return true;
            }
            if w.requests <= LINES {
                return false;
            }
            left_out.push(LeftOut {
                service: service.clone(),
                requests: w.requests - LINES,
                seconds: w.seconds,
            });
            w.seconds = (w.seconds * 2).min(LONGEST);
            (w.end, w.requests) = (second + w.seconds, 0);
            true
        });
        left_out
    }
}

fn now() -> u64 {
    time::monotonic_ns() / 1_000_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(quota: &mut Quota, service: &str, second: u64, n: u64) -> usize {
        (0..n).filter(|_| quota.admits_at(service, second)).count()
    }

    #[test]
    fn a2_the_log_has_a_few_of_each_service_and_window_and_the_number_of_the_others() {
        let mut quota = Quota::default();
        assert!(quota.turn(7).is_empty());
        assert_eq!(said(&mut quota, "shop", 7, 3), 3);
        assert!(!quota.holds());
        assert_eq!(said(&mut quota, "shop", 7, 200), 2);
        assert_eq!(said(&mut quota, "cart", 7, 5), 5, "each has its own");
        assert!(quota.holds());
        assert!(quota.turn(7).is_empty(), "the second is not over");
        assert_eq!(quota.turn(8), [LeftOut { service: "shop".into(), requests: 198, seconds: 1 }]);
        assert!(!quota.holds());
        assert_eq!(said(&mut quota, "cart", 8, 6), 5);
    }

    #[test]
    fn a2_who_goes_on_for_days_fills_no_disk() {
        let mut quota = Quota::default();
        let mut lines = 0;
        for second in 0..86_400 {
            lines += quota.turn(second).len();
            lines += said(&mut quota, "shop", second, 100);
        }
        assert!(lines < 86_400 / 10, "{lines}");
        // A quiet window, and it begins anew.
        assert_eq!(quota.turn(90_000).len(), 1);
        assert!(quota.turn(90_000 + LONGEST).is_empty());
        assert_eq!(said(&mut quota, "shop", 91_000, 6), 5);
        assert_eq!(quota.turn(91_001), [LeftOut { service: "shop".into(), requests: 1, seconds: 1 }]);
    }
}
