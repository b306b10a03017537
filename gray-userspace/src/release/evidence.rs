//! What the kernel counted of both arms, and what it says about a stage.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Counters of one arm of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ArmCounts {
    /// New connections and UDP flows, by packets and by calls.
    pub connections: u64,
    pub packets: u64,
    pub bytes: u64,
    pub reply_packets: u64,
    pub reply_bytes: u64,
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
    /// What came after `base`. Counters that are smaller began anew: the machine was started again.
    fn since(self, base: Self) -> Self {
        let less = |now: u64, then: u64| now.checked_sub(then).unwrap_or(now);
        Self {
            connections: less(self.connections, base.connections),
            packets: less(self.packets, base.packets),
            bytes: less(self.bytes, base.bytes),
            reply_packets: less(self.reply_packets, base.reply_packets),
            reply_bytes: less(self.reply_bytes, base.reply_bytes),
        }
    }
}

/// What each service has counted since `base`.
pub fn since(now: &[Counts], base: &[Counts]) -> Vec<Counts> {
    let of = |name: &str| base.iter().find(|b| b.service == name).cloned().unwrap_or_default();
    now.iter()
        .map(|n| {
            let base = of(&n.service);
            Counts {
                service: n.service.clone(),
                gray: n.gray.since(base.gray),
                stable: n.stable.since(base.stable),
            }
        })
        .collect()
}

/// The one place where counters become a verdict. Today: enough connections of each arm, or `Inconclusive`; a comparison of the arms
/// belongs here, and the machine knows already what to do with a `Fail`.
/// `whole`: everybody is on gray, and stable has nothing to show.
pub fn judge(stage: &[Counts], least: u64, whole: bool) -> Verdict {
    for s in stage {
        for (arm, n) in [("gray", s.gray.connections), ("stable", s.stable.connections)] {
            if n < least && (arm == "gray" || !whole) {
                let why = format!("{}: {n} of {least} connections of {arm}", s.service);
                return Verdict::Inconclusive(why);
            }
        }
    }
    Verdict::Pass
}
