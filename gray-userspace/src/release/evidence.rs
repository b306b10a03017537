//! What the kernel counted of both arms, and which of it is compared: [`samples`]. What that says about a stage is [`super::judge`]'s.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::verdict::Sample;

/// Counters of one arm of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ArmCounts {
    /// New connections and UDP flows, by packets and by calls.
    pub connections: u64,
    pub packets: u64,
    pub bytes: u64,
    pub reply_packets: u64,
    pub reply_bytes: u64,
    /// Of the connections those of TCP by packets, of which it is known how they fare: refused or reset by the instance, without an answer
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

/// What is compared of one service.
pub(super) struct Samples {
    pub stable: Sample,
    pub gray: Sample,
    /// Replies pass here, with what only they tell (refusals, resets).
    pub stable_heard: bool,
    pub gray_heard: bool,
}

/// The one place where counters become samples: what the kernel learns to count (times as histograms, how callers of this node fare)
/// goes in here, of both arms alike. What only replies tell is not compared where one arm's are not seen.
pub(super) fn samples(s: &Counts) -> Samples {
    let (stable_heard, gray_heard) = (s.stable.is_heard(), s.gray.is_heard());
    let of = |arm: &ArmCounts| {
        let heard = stable_heard && gray_heard;
        let replies = [("refused", arm.refused), ("reset", arm.resets)].into_iter().filter(|_| heard);
        let all = replies.chain([("unanswered", arm.unanswered)]);
        Sample {
            attempts: arm.flows,
            failures: all.map(|(kind, n)| (kind.to_string(), n)).collect(),
            ..Sample::default()
        }
    };
    Samples { stable: of(&s.stable), gray: of(&s.gray), stable_heard, gray_heard }
}
