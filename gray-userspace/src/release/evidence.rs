//! What the kernel counted of both arms, and which of it is compared: [`samples`]. What that says about a stage is [`super::judge`]'s.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::buckets::Buckets;
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
    /// Of the connections those that callers on this node made, of TCP, whose end is counted with the others'.
    #[serde(default)]
    pub calls: u64,
    /// Of `flows` those that the splice listener made, whose packets are counted nowhere.
    #[serde(default)]
    pub relayed: u64,
    /// Answers of HTTP/1, as far as they could be read, and those of them with a status of 500 and more.
    #[serde(default)]
    pub answers: u64,
    #[serde(default)]
    pub server_errors: u64,
    /// From a SYN to the answer of the instance, and from a client's first byte to the instance's: counts by powers of two of 1024 ns.
    #[serde(default)]
    #[schema(value_type = Vec<u64>)]
    pub handshake: Buckets,
    #[serde(default)]
    #[schema(value_type = Vec<u64>)]
    pub first_byte: Buckets,
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
            // A difference of two counters that are read one after the other.
            flows: self.flows.saturating_sub(base.flows),
            refused: self.refused - base.refused,
            resets: self.resets - base.resets,
            unanswered: self.unanswered - base.unanswered,
            client_resets: self.client_resets - base.client_resets,
            broken: self.broken - base.broken,
            calls: self.calls - base.calls,
            relayed: self.relayed - base.relayed,
            answers: self.answers - base.answers,
            server_errors: self.server_errors - base.server_errors,
            handshake: self.handshake.since(&base.handshake),
            first_byte: self.first_byte.since(&base.first_byte),
        }
    }

    /// Connections of which it is known how they fare.
    pub fn followed(&self) -> u64 {
        self.flows.saturating_add(self.calls)
    }

    fn all(&self) -> [u64; 14] {
        [
            self.connections,
            self.packets,
            self.bytes,
            self.reply_packets,
            self.reply_bytes,
            self.refused,
            self.resets,
            self.unanswered,
            self.client_resets,
            self.broken,
            self.calls,
            self.relayed,
            self.answers,
            self.server_errors,
        ]
    }

    /// Whether its replies pass here: not with `dsr`, nor where they take another way. A few may have gone astray: each connection
    /// has at least one, be it a refusal.
    fn is_heard(&self) -> bool {
        self.packets == 0
            || self.reply_packets > 0
                && self.reply_packets
                    >= self.flows.saturating_sub(self.unanswered.saturating_add(self.relayed))
    }
}

impl Counts {
    /// Any counter is smaller than it was: all of them began anew (a reboot, maps of another layout), those of both arms together.
    pub(super) fn began_anew(&self, base: &Self) -> bool {
        let less = |now: &ArmCounts, then: &ArmCounts| {
            now.all().iter().zip(then.all()).any(|(n, t)| *n < t)
                || now.handshake.is_less(&then.handshake)
                || now.first_byte.is_less(&then.first_byte)
        };
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
    /// What could be read of answers, of stable and of gray, where there is enough of both.
    pub answers: Option<[Sample; 2]>,
    /// Replies pass here, with what only they tell (refusals, resets).
    pub stable_heard: bool,
    pub gray_heard: bool,
}

/// One kind of an arm's times.
type Kind = fn(&ArmCounts) -> &Buckets;

/// The one place where counters become samples: what the kernel learns to count goes in here, of both arms alike. What only replies tell
/// is not compared where one arm's are not seen; nor are answers that nobody could read, and times, of which there are not `enough` of
/// both arms (UDP has none, and a connection that is kept alive one).
pub(super) fn samples(s: &Counts, enough: u64, compares_times: bool) -> Samples {
    let (stable_heard, gray_heard) = (s.stable.is_heard(), s.gray.is_heard());
    let heard = stable_heard && gray_heard;
    let timed = |of: Kind| {
        heard && compares_times && [&s.stable, &s.gray].iter().all(|arm| of(arm).count() >= enough)
    };
    let kinds: [(&str, Kind); 2] = [("handshake", |a| &a.handshake), ("first_byte", |a| &a.first_byte)];
    let of = |arm: &ArmCounts| {
        let replies = [("refused", arm.refused), ("reset", arm.resets)].into_iter().filter(|_| heard);
        let all = replies.chain([("unanswered", arm.unanswered)]);
        let times = kinds.iter().filter(|(_, of)| timed(*of));
        Sample {
            attempts: arm.followed(),
            failures: all.map(|(kind, n)| (kind.to_string(), n)).collect(),
            histograms: times.map(|(kind, of)| (kind.to_string(), of(arm).compared())).collect(),
        }
    };
    // Of answers that can be read alone: of others nobody knows whether they are errors.
    let plain = heard && s.stable.answers.min(s.gray.answers) >= enough;
    let answers = |arm: &ArmCounts| Sample {
        attempts: arm.answers,
        failures: [("server_error".to_string(), arm.server_errors)].into(),
        ..Sample::default()
    };
    Samples {
        stable: of(&s.stable),
        gray: of(&s.gray),
        answers: plain.then(|| [answers(&s.stable), answers(&s.gray)]),
        stable_heard,
        gray_heard,
    }
}
