//! What the kernel counted of both arms, and what it says about a stage.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::verdict::{self, Limits, Outcome, Sample, Tally};

/// Counters of one arm of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ArmCounts {
    /// New connections and UDP flows, by packets and by calls.
    pub connections: u64,
    pub packets: u64,
    pub bytes: u64,
    pub reply_packets: u64,
    pub reply_bytes: u64,
    /// Of the connections those by packets, of which it is known how they fare: refused or reset by the instance, without an answer
    /// within a second, reset by the client.
    #[serde(default)]
    pub flows: u64,
    #[serde(default)]
    pub refused: u64,
    #[serde(default)]
    pub resets: u64,
    #[serde(default)]
    pub unanswered: u64,
    #[serde(default)]
    pub client_resets: u64,
    /// Of stable: connections of gray's that went here because gray's breaker was open.
    #[serde(default)]
    pub broken: u64,
}

/// Of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Counts {
    pub service: String,
    pub gray: ArmCounts,
    pub stable: ArmCounts,
}

/// What evidence says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Pass,
    /// Gray is worse.
    Fail(String),
    /// Nothing can be said yet: the stage holds.
    Inconclusive(String),
}

/// A verdict as history shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Judged {
    /// `pass`, `fail` or `inconclusive`.
    pub verdict: String,
    pub why: String,
}

impl From<&Verdict> for Judged {
    fn from(v: &Verdict) -> Self {
        let (verdict, why) = match v {
            Verdict::Pass => ("pass", ""),
            Verdict::Fail(why) => ("fail", why.as_str()),
            Verdict::Inconclusive(why) => ("inconclusive", why.as_str()),
        };
        Self { verdict: verdict.into(), why: why.into() }
    }
}

impl ArmCounts {
    /// What came after `base`, of which nothing is larger.
    fn since(self, base: Self) -> Self {
        Self {
            connections: self.connections - base.connections,
            packets: self.packets - base.packets,
            bytes: self.bytes - base.bytes,
            reply_packets: self.reply_packets - base.reply_packets,
            reply_bytes: self.reply_bytes - base.reply_bytes,
            flows: self.flows - base.flows,
            refused: self.refused - base.refused,
            resets: self.resets - base.resets,
            unanswered: self.unanswered - base.unanswered,
            client_resets: self.client_resets - base.client_resets,
            broken: self.broken - base.broken,
        }
    }

    fn all(&self) -> [u64; 11] {
        [
            self.connections,
            self.packets,
            self.bytes,
            self.reply_packets,
            self.reply_bytes,
            self.flows,
            self.refused,
            self.resets,
            self.unanswered,
            self.client_resets,
            self.broken,
        ]
    }

    /// Whether its replies pass here: not with `dsr`, nor where they take another way. A few may have gone astray: each connection
    /// has at least one, be it a refusal.
    fn is_heard(&self) -> bool {
        self.packets == 0
            || self.reply_packets > 0 && self.reply_packets >= self.flows.saturating_sub(self.unanswered)
    }

    /// `heard`: of both arms. What only replies tell is not compared where one arm's are not seen.
    fn sample(&self, heard: bool) -> Sample {
        let replies = [("refused", self.refused), ("reset", self.resets)].into_iter().filter(|_| heard);
        let all = replies.chain([("unanswered", self.unanswered)]);
        Sample {
            attempts: self.flows,
            failures: all.map(|(kind, n)| (kind.to_string(), n)).collect(),
            ..Sample::default()
        }
    }
}

impl Counts {
    /// Any counter is smaller than it was: all of them began anew (a reboot, maps of another layout), those of both arms together.
    pub(super) fn began_anew(&self, base: &Self) -> bool {
        let less = |now: &ArmCounts, then: &ArmCounts| now.all().iter().zip(then.all()).any(|(n, t)| *n < t);
        less(&self.gray, &base.gray) || less(&self.stable, &base.stable)
    }
}

/// What each service has counted since `base`; since they began anew, where they did.
pub fn since(now: &[Counts], base: &[Counts]) -> Vec<Counts> {
    let of = |n: &Counts| base.iter().find(|b| b.service == n.service && !n.began_anew(b)).cloned();
    now.iter()
        .map(|n| {
            let base = of(n).unwrap_or_default();
            Counts {
                service: n.service.clone(),
                gray: n.gray.since(base.gray),
                stable: n.stable.since(base.stable),
            }
        })
        .collect()
}

/// The one place where counters become a verdict: enough connections of each arm, and gray's do not fail more than stable's
/// ([`crate::verdict`]). So many connections that none failed of must be enough, so what `least` can rule out is what must be ruled out:
/// no less than a point. With a `least` below 20 nothing need be ruled out, but a regression that is seen fails all the same.
/// `whole`: everybody is on gray, and stable has nothing to show.
pub fn judge(stage: &[Counts], least: u64, whole: bool) -> Verdict {
    let found: Vec<_> = stage.iter().map(|s| (s, compared(s, least, stage.len()))).collect();
    let first = |wanted| found.iter().find(|(_, v)| v.as_ref().is_some_and(|v| v.outcome == wanted));
    // As soon as it is seen: the test may be looked at all the time.
    if let Some((s, v)) = first(Outcome::Fail) {
        return Verdict::Fail(told(s, v.as_ref()));
    }
    // Behind an open breaker gray has nobody to fail: the failures that opened it are what there is to see.
    if let Some(s) = stage.iter().find(|s| s.stable.broken > 0) {
        let (n, of) = (s.stable.broken, &s.service);
        return Verdict::Fail(format!("{of}: gray's breaker opened; it kept {n} connections with stable"));
    }
    for s in stage {
        for (arm, n) in [("gray", s.gray.connections), ("stable", s.stable.connections)] {
            if n < least && (arm == "gray" || !whole) {
                let why = format!("{}: {n} of {least} connections of {arm}", s.service);
                return Verdict::Inconclusive(why);
            }
        }
    }
    match first(Outcome::Inconclusive) {
        Some((s, v)) if least >= FEW && !whole => Verdict::Inconclusive(told(s, v.as_ref())),
        _ => Verdict::Pass,
    }
}

fn told(s: &Counts, v: Option<&verdict::Verdict>) -> String {
    format!("{}: {}", s.service, v.map(|v| v.why.as_str()).unwrap_or_default())
}

/// Fewer say nothing, and rule nothing out.
const FEW: u64 = 20;
/// Connections that did not fail, over this, and the regression that they rule out.
const RULED_OUT: f64 = 10.0;
/// The probability that a release whose versions are alike fails by what is counted.
const LEVEL: f64 = 0.05;
/// The share of refused connections that needs nobody to compare with.
const REFUSED: f64 = 0.05;

/// `None`: nothing is known of how connections of an arm fare; calls of local callers are counted, and not followed.
fn compared(s: &Counts, least: u64, services: usize) -> Option<verdict::Verdict> {
    if s.gray.flows == 0 || s.stable.flows == 0 {
        return None;
    }
    let heard = s.gray.is_heard() && s.stable.is_heard();
    let alone = !heard && s.gray.is_heard();
    let limits = Limits {
        level: LEVEL / services.max(1) as f64 / if alone { 2.0 } else { 1.0 },
        least: FEW,
        exclude_failures: (RULED_OUT / least.max(1) as f64).clamp(0.01, 1.0),
        ..Limits::default()
    };
    let mut v = verdict::judge(&s.stable.sample(heard), &s.gray.sample(heard), &limits);
    if alone
        && v.outcome != Outcome::Fail
        && let Some(why) = refuses(&s.gray, limits.level)
    {
        (v.outcome, v.why) = (Outcome::Fail, why);
    }
    Some(v)
}

/// Stable's replies do not pass here, so that nobody knows how many it refuses: but a service that answers is not refused by
/// one in twenty. Resets say less, with some applications each connection ends so.
fn refuses(gray: &ArmCounts, level: f64) -> Option<String> {
    let refused = Tally::new(gray.flows, gray.refused);
    let (low, _) = refused.bounds(level);
    (gray.flows >= FEW && low > REFUSED).then(|| {
        format!(
            "gray refuses {:.1} % of {} connections, more than {:.0} %; stable's replies are not seen here",
            refused.rate() * 100.0,
            gray.flows,
            REFUSED * 100.0
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arm(flows: u64, refused: u64) -> ArmCounts {
        let (packets, reply_packets) = (flows * 8, flows * 8);
        ArmCounts { connections: flows, flows, refused, packets, reply_packets, ..ArmCounts::default() }
    }

    fn of(gray: ArmCounts, stable: ArmCounts, least: u64) -> Verdict {
        judge(&[Counts { service: "shop".into(), gray, stable }], least, false)
    }

    #[test]
    fn f9_so_many_connections_that_none_failed_of_are_enough() {
        for least in [1, 5, 10, 20, 30, 50, 100, 500, 1000, 5000] {
            assert_eq!(of(arm(least, 0), arm(least, 0), least), Verdict::Pass, "{least}");
            assert_eq!(of(arm(least, 0), arm(least * 99, 0), least), Verdict::Pass, "{least}");
        }
    }

    #[test]
    fn f9_a_gray_arm_that_refuses_fails() {
        assert!(
            matches!(of(arm(100, 30), arm(9900, 10), 100), Verdict::Fail(why) if why.starts_with("shop: failures"))
        );
        // Also where no sample is asked for.
        assert!(matches!(of(arm(100, 30), arm(9900, 10), 0), Verdict::Fail(_)));
        // Stable does the same: nobody is worse.
        assert!(!matches!(of(arm(100, 30), arm(9900, 2970), 100), Verdict::Fail(_)));
        // A few may be chance.
        assert!(!matches!(of(arm(100, 1), arm(9900, 10), 100), Verdict::Fail(_)));
    }

    #[test]
    fn f9_f15_gray_whose_breaker_opened_fails_however_few_it_had() {
        let kept = ArmCounts { broken: 1, ..arm(9900, 0) };
        for least in [0, 100] {
            let verdict = of(arm(5, 5), kept, least);
            assert!(matches!(&verdict, Verdict::Fail(why) if why.contains("breaker")), "{verdict:?}");
        }
    }

    #[test]
    fn f9_what_is_not_seen_of_one_arm_is_not_compared() {
        let silent = ArmCounts { reply_packets: 0, ..arm(9900, 0) };
        let resets = ArmCounts { resets: 30, ..arm(100, 0) };
        assert!(!matches!(of(resets, silent, 100), Verdict::Fail(_)));
        // Of some connections they pass here, of most elsewhere.
        let half = ArmCounts { reply_packets: 99, ..arm(9900, 0) };
        assert!(!matches!(of(resets, half, 100), Verdict::Fail(_)));
        assert!(matches!(of(resets, arm(9900, 0), 100), Verdict::Fail(_)));
        // A few refusals may be the service's own way.
        assert!(!matches!(of(arm(100, 5), silent, 100), Verdict::Fail(_)));
        let unanswered = ArmCounts { unanswered: 30, ..arm(100, 0) };
        assert!(matches!(of(unanswered, silent, 100), Verdict::Fail(_)));
        // Many are not, whatever stable does.
        assert!(
            matches!(of(arm(100, 30), silent, 100), Verdict::Fail(why) if why.contains("gray refuses 30.0 % of 100"))
        );
        // Callers of this node: counted, and not followed.
        let calls = ArmCounts { connections: 100, ..ArmCounts::default() };
        assert_eq!(of(calls, calls, 100), Verdict::Pass);
    }
}
