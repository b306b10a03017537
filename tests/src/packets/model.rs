//! An independent model of the packet path: what must become of a frame, from the policy's tables and the frames
//! before it. It shares `decide` with the data path, and nothing else: its own parser (etherparse), its own flow table,
//! its own arithmetic. ICMP errors are not its matter.

mod flows;
mod forward;
mod segment;
mod tables;

use std::collections::BTreeMap;

use gray_common::{
    Reason,
    decide::{Claims, Decision, Request, Tables as _, Verdict, bucket::flow_seed, decide},
    wire::{Addr, ArmCount, ListenerKey},
};
use gray_userspace::{compile::Circumstances, kernel::Direction};

use self::{
    flows::Flows,
    segment::{Parsed, Segment},
    tables::Policy,
};
use super::{
    case::NEXT,
    frame::{TCP, UDP},
    rig::{KEY, Way},
};

pub use self::flows::{Entry, Tuple};

/// Any time between the adoption deadlines of the cases: long after the one, long before the other.
const NOW_NS: u64 = 1 << 40;

/// The packet path in memory.
#[derive(Debug)]
pub struct Model {
    pub way: Way,
    /// Every flow has been idle for longer than any limit.
    pub aged: bool,
    /// The last packet was too large and not to be fragmented. Its sender is told, which is ICMP: verdict, bytes and
    /// counter are not the model's.
    pub told: bool,
    pub flows: Flows,
    pub counters: BTreeMap<Reason, u64>,
    /// By service number and arm.
    pub arms: BTreeMap<(u32, u32), ArmCount>,
    pub rule_hits: BTreeMap<u32, u64>,
    policy: Policy,
}

/// What the decision says of a new flow.
enum Admit {
    Leave,
    Stay(Decision),
    Steer(Decision),
}

impl Model {
    pub fn new(way: Way) -> Self {
        Self {
            way,
            aged: false,
            told: false,
            flows: Flows::default(),
            counters: Reason::ALL.iter().map(|r| (*r, 0)).collect(),
            arms: BTreeMap::new(),
            rule_hits: BTreeMap::new(),
            policy: Policy::default(),
        }
    }

    pub fn apply(&mut self, text: &str, around: &Circumstances) {
        self.policy.apply(text, around);
    }

    /// Verdict and frame after one run.
    pub fn run(&mut self, d: Direction, frame: &[u8], mark: u32) -> (i32, Vec<u8>) {
        self.told = false;
        let unchanged = (NEXT, frame.to_vec());
        let active = self.policy.is_active();
        let segment = match segment::parse(frame) {
            Parsed::Segment(s) if active => s,
            // What the link header alone says is counted before a policy is asked for.
            Parsed::Link(reason) => {
                self.count(reason);
                return unchanged;
            }
            Parsed::Broken(reason) if active => {
                self.count(reason);
                return unchanged;
            }
            _ => return unchanged,
        };
        if let Some(done) = self.known(d, frame, &segment) {
            return done;
        }
        if d == Direction::Egress || self.flows.last_was_reply {
            return unchanged;
        }
        let recorded = match self.admit(&segment, mark) {
            Admit::Leave => false,
            Admit::Stay(decision) => self.flows.stay(segment.tuple, &decision),
            Admit::Steer(decision) => match self.flows.steer(segment.tuple, &decision) {
                Ok(()) => true,
                Err(reason) => {
                    self.count(reason);
                    false
                }
            },
        };
        if !recorded {
            return unchanged;
        }
        // Just recorded, so it is young.
        let aged = std::mem::replace(&mut self.aged, false);
        let done = self.known(d, frame, &segment);
        self.aged = aged;
        done.unwrap_or(unchanged)
    }

    /// A packet of a known flow; `None`: no flow knows it, or the flow was over.
    fn known(&mut self, d: Direction, frame: &[u8], s: &Segment) -> Option<(i32, Vec<u8>)> {
        let mut entry = self.flows.follow(s, self.aged)?;
        let done = self.forward(d, frame, s, &mut entry);
        self.flows.put(s.tuple, entry);
        Some(done)
    }

    fn admit(&mut self, s: &Segment, mark: u32) -> Admit {
        let t = s.tuple;
        let (source, dialled) = (Addr::from(t.src.ip()), Addr::from(t.dst.ip()));
        let (sport, dport) = (t.src.port().to_be(), t.dst.port().to_be());
        let view = self.policy.tables.view();
        let listener = view.listener(&ListenerKey { addr: dialled, port: dport, proto: t.proto, _pad: 0 });
        let Some(index) = listener.service() else { return Admit::Leave };
        let mut reasons = Vec::new();
        if t.proto == TCP && !s.opens() {
            let until = view.service(index).map_or(0, |service| service.adopt_until_ns);
            if listener.is_self() && NOW_NS < until {
                let service = view.service(index).map_or(0, |service| service.id);
                self.count(Reason::Adopted);
                return Admit::Stay(Decision { service, ..Decision::default() });
            }
            reasons.push(Reason::Rebuilt);
        }
        let mut claims = Claims::none(0);
        claims.set_source(KEY, &source);
        claims.set_mark(KEY, mark);
        claims.set_dscp(KEY, s.dscp);
        let seed = flow_seed(KEY.k0, &source, &dialled, sport, dport, t.proto);
        let is_v4 = t.src.is_ipv4();
        let request = Request { listener, claims: &claims, source: Some(&source), is_v4, seed };
        let verdict = decide(&view, &request);
        let out = match verdict {
            Verdict::Pass(reason) => {
                reasons.push(reason);
                Admit::Leave
            }
            Verdict::Stay(d) | Verdict::Steer(d) => {
                // Unwrap: a decision's reason is one.
                reasons.push(Reason::from_code(d.reason).unwrap());
                *self.rule_hits.entry(u32::from(d.rule)).or_default() += 1;
                self.arm(u32::from(d.service), u32::from(d.arm)).packet_flows += 1;
                if matches!(verdict, Verdict::Stay(_)) { Admit::Stay(d) } else { Admit::Steer(d) }
            }
        };
        reasons.into_iter().for_each(|r| self.count(r));
        out
    }

    fn arm(&mut self, service: u32, arm: u32) -> &mut ArmCount {
        self.arms.entry((service, arm)).or_default()
    }

    fn count(&mut self, reason: Reason) {
        *self.counters.entry(reason).or_default() += 1;
    }
}

/// Whether this is what the model is about.
pub fn is_ours(proto: u8) -> bool {
    proto == TCP || proto == UDP
}
