//! The circuit breaker of a service's gray arm, as validated.

use std::fmt;

use super::Millis;

/// So many failures inside of a window, and nobody new goes to gray for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker {
    pub failures: u32,
    pub window: Millis,
    pub open: Millis,
    /// How often a SYN comes again, unanswered, before that is a failure.
    pub retransmits: u32,
}

/// `5 failures in 10s, open for 30s`.
impl fmt::Display for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = if self.failures == 1 { "" } else { "s" };
        write!(f, "{} failure{s} in {}, open for {}", self.failures, self.window, self.open)?;
        if self.retransmits != 1 {
            write!(f, ", silent after {} retransmits", self.retransmits)
        } else {
            Ok(())
        }
    }
}
