//! An independent model of the packet path: what must become of a frame, from the policy's tables and the frames
//! before it. It shares `decide` and the bits of the filter in front with the data path, and nothing else: its own parser (etherparse), its own flow table,
//! its own arithmetic. ICMP errors are not its matter.

mod flows;
mod forward;
mod segment;
mod tables;

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
};

use gray_common::{
    Reason,
    decide::{Claims, Decision, MARK_TRIES, Request, Tables as _, Verdict, bucket::flow_seed, decide},
    wire::{Addr, ArmCount, FIRST_BYTE, HANDSHAKE, LIFE, ListenerKey, Trip},
};
use gray_userspace::{compile::Circumstances, kernel::Direction};

use self::{
    flows::Flows,
    segment::{Parsed, Piece, PieceId, Segment},
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

/// How long a breaker stays open: ticks here.
const OPEN_S: u64 = 30;

/// Of gray that open a breaker, where a policy here has one.
pub const FAILURES: u64 = 3;

/// Failures of gray, those before its breaker was closed, and how often it opened.
#[derive(Debug, Default)]
struct Breaker {
    count: u64,
    before: u64,
    opens: u64,
}

/// The packet path in memory.
#[derive(Debug)]
pub struct Model {
    pub way: Way,
    /// Every flow has been idle for longer than any limit.
    pub aged: bool,
    /// The last packet was too large and not to be fragmented. Its sender is told, which is ICMP: verdict, bytes and
    /// counter are not the model's. Or it was a tagged one that passes.
    pub told: bool,
    pub flows: Flows,
    /// The ports of packets in pieces; `None`: the first piece was not the first to come.
    pieces: HashMap<PieceId, Option<(u16, u16)>>,
    pub counters: BTreeMap<Reason, u64>,
    /// By service number and arm.
    pub arms: BTreeMap<(u32, u32), ArmCount>,
    /// The same: handshakes, first words and ends of connections that are timed.
    pub times: BTreeMap<(u32, u32), [u64; 3]>,
    pub rule_hits: BTreeMap<u32, u64>,
    /// By service number: what becomes of them when they close, too.
    breakers: HashMap<u16, Breaker>,
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
            pieces: HashMap::new(),
            counters: Reason::ALL.iter().map(|r| (*r, 0)).collect(),
            arms: BTreeMap::new(),
            times: BTreeMap::new(),
            rule_hits: BTreeMap::new(),
            breakers: HashMap::new(),
            policy: Policy::default(),
        }
    }

    pub fn apply(&mut self, text: &str, around: &Circumstances) {
        self.policy.apply(text, around);
    }

    /// Whether the agent's lease is over.
    pub fn lose(&mut self, lost: bool) {
        let t = &mut self.policy.tables;
        (t.control.hz, t.control.renewed, t.now) = (1, u64::from(!lost) << 40, 1 << 30);
    }

    /// Verdict and frame after one run.
    pub fn run(&mut self, d: Direction, frame: &[u8], mark: u32) -> (i32, Vec<u8>) {
        self.told = false;
        let Some(inner) = segment::untagged(frame) else { return self.plain(d, frame, mark) };
        let (verdict, out) = match segment::parse(frame) {
            Parsed::Link(_) => return self.plain(d, frame, mark),
            _ => self.plain(d, &inner, mark),
        };
        if verdict != NEXT || out != inner {
            return (verdict, out);
        }
        // Where the tag is then, in the frame or beside it, is a matter of the filter in front.
        self.told = true;
        (NEXT, frame.to_vec())
    }

    fn plain(&mut self, d: Direction, frame: &[u8], mark: u32) -> (i32, Vec<u8>) {
        let unchanged = (NEXT, frame.to_vec());
        let active = self.policy.is_active();
        let segment = match segment::parse(frame) {
            Parsed::Segment(s) if active => s,
            Parsed::Piece(piece) if active => match self.piece(d, frame, &piece) {
                Ok(first) => first,
                Err(done) => return done.unwrap_or(unchanged),
            },
            // What these headers alone say is counted before a policy is asked for.
            Parsed::Link(reason) | Parsed::Broken(reason) => {
                self.count(reason);
                return unchanged;
            }
            Parsed::Odd(reason) if active => {
                self.count(reason);
                return unchanged;
            }
            Parsed::Short(tuple) => {
                self.short(&tuple);
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
            Admit::Leave => {
                self.flows.dialled(&segment, self.aged);
                false
            }
            Admit::Stay(decision) => self.flows.stay(&segment, &decision, self.aged),
            Admit::Steer(decision) => {
                let around = (self.own(segment.tuple), self.aged, KEY.k0);
                let (counted, recorded) = self.flows.steer(&segment, &decision, around);
                counted.into_iter().for_each(|r| self.count(r));
                recorded
            }
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

    /// A fragment: the first one, to be treated like a whole packet, or what becomes of it.
    fn piece(&mut self, d: Direction, frame: &[u8], p: &Piece) -> Result<Segment, Option<(i32, Vec<u8>)>> {
        if !self.policy.knows_address(p.id.src) && !self.policy.knows_address(p.id.dst) {
            return Err(None);
        }
        if self.aged {
            // Identifications come round again.
            let _ = self.pieces.remove(&p.id);
        }
        if !p.later {
            if self.pieces.get(&p.id) == Some(&None) {
                self.count(Reason::Fragment);
                return Err(None);
            }
            let _ = self.pieces.insert(p.id, p.ports);
            p.broken.iter().for_each(|tuple| self.short(tuple));
            return p.first.ok_or(None);
        }
        let Some((sport, dport)) = *self.pieces.entry(p.id).or_insert(None) else {
            self.count(Reason::Fragment);
            return Err(None);
        };
        let (src, dst) = (SocketAddr::new(p.id.src, sport), SocketAddr::new(p.id.dst, dport));
        let tuple = Tuple { src, dst, proto: p.id.proto };
        let Some(mut entry) = self.flows.table.get(&tuple).copied() else { return Err(None) };
        let s = Segment::later(tuple, p.ttl);
        let done = self.forward(d, frame, &s, &mut entry);
        self.flows.put(tuple, entry);
        Err(Some(done))
    }

    /// A transport header that contradicts itself is a fault only of what may be ours.
    fn short(&mut self, t: &Tuple) {
        if self.policy.knows_end(t.src) || self.policy.knows_end(t.dst) {
            self.count(Reason::Malformed);
        }
    }

    /// A packet of a known flow; `None`: no flow knows it, or the flow was over.
    fn known(&mut self, d: Direction, frame: &[u8], s: &Segment) -> Option<(i32, Vec<u8>)> {
        let before = self.flows.table.get(&s.tuple).copied();
        let mut entry = self.flows.follow(s, self.aged)?;
        if let Some(e) = before.filter(|e| s.resets && !e.closing) {
            let arm = self.arm(u32::from(e.service), u32::from(e.arm));
            *match (e.forward, e.established) {
                (true, _) => &mut arm.client_resets,
                (false, true) => &mut arm.resets,
                (false, false) => &mut arm.refused,
            } += 1;
        }
        if before.is_some_and(|e| e.watched && s.resets && !e.closing && !e.forward) {
            self.failed(&mut entry);
        } else if before.is_some_and(|e| e.watched && e.tries && s.resets && !e.closing && e.forward) {
            self.left(&mut entry);
        } else if s.says && entry.watched && !(entry.forward && s.opens()) {
            self.said(&mut entry);
        }
        if before.is_some_and(|e| e.begun && s.ends && !e.closing && (e.forward || s.resets)) {
            self.time(&entry, LIFE);
        }
        self.moment(s, &mut entry, before.is_some_and(|e| e.established));
        let done = self.forward(d, frame, s, &mut entry);
        self.flows.put(s.tuple, entry);
        Some(done)
    }

    /// What a segment is to a connection whose first words are awaited.
    fn moment(&mut self, s: &Segment, e: &mut Entry, settled: bool) {
        if !e.timed || e.forward && s.opens() {
            return;
        }
        if !e.forward && s.resets {
            e.timed = false;
            return;
        }
        // The first answer to a SYN alone.
        if !e.forward && s.syn && !settled {
            self.time(e, HANDSHAKE);
        }
        if s.carries {
            e.timed = false;
            if !e.forward {
                self.time(e, FIRST_BYTE);
                self.arm(e.service.into(), e.arm.into()).answers[s.class] += 1;
            }
        }
    }

    fn time(&mut self, e: &Entry, kind: usize) {
        self.times.entry((e.service.into(), e.arm.into())).or_default()[kind] += 1;
    }

    /// An instance has refused a connection, or reset it before its first word.
    fn failed(&mut self, e: &mut Entry) {
        let b = self.breakers.entry(e.service).or_default();
        b.count += 1;
        let (tries, t) = (e.is_try(b.opens), &mut self.policy.tables);
        let opened = t.now - 1;
        match t.trips.get_mut(&e.service.into()) {
            Some(trip) if tries => trip.opened = opened,
            // In a silence, those before are long ago.
            None if !self.aged && b.count - b.before >= FAILURES => {
                b.opens += 1;
                let trip = Trip { opened, opens: b.opens, ..Trip::default() };
                let _ = t.trips.insert(e.service.into(), trip);
            }
            _ => {}
        }
        e.forget_breaker();
    }

    /// The client of one that tries has reset it: the next one tries.
    fn left(&mut self, e: &mut Entry) {
        let opens = self.breakers.entry(e.service).or_default().opens;
        let t = &mut self.policy.tables;
        if let Some(trip) = t.trips.get_mut(&e.service.into()).filter(|_| e.is_try(opens)) {
            // In a silence all times are short, and after it this one is long again.
            trip.opened = if self.aged { t.now - 1 } else { t.now - OPEN_S - 1 };
        }
        e.forget_breaker();
    }

    /// Somebody said something on a watched connection; what clients say counts where answers pass elsewhere.
    fn said(&mut self, e: &mut Entry) {
        if e.forward && e.outer.is_none() {
            e.watched = false;
            return;
        }
        let b = self.breakers.entry(e.service).or_default();
        if e.is_try(b.opens) && self.policy.tables.trips.remove(&e.service.into()).is_some() {
            b.before = b.count;
        }
        e.forget_breaker();
    }

    fn admit(&mut self, s: &Segment, mark: u32) -> Admit {
        let t = s.tuple;
        let (source, dialled) = (Addr::from(t.src.ip()), Addr::from(t.dst.ip()));
        let (sport, dport) = (t.src.port().to_be(), t.dst.port().to_be());
        let tables = &mut self.policy.tables;
        tables.unseen = t.proto != TCP || !s.opens();
        tables.control.hz = u32::from(!self.aged);
        let view = self.policy.tables.view();
        let listener = view.listener(&ListenerKey { addr: dialled, port: dport, proto: t.proto, _pad: 0 });
        let Some(index) = listener.service() else { return Admit::Leave };
        let mut reasons = Vec::new();
        if t.proto == TCP && !s.opens() {
            let until = view.service(index).map_or(0, |service| service.adopt_until_ns);
            if listener.is_self() && NOW_NS < until {
                let service = view.service(index).map_or(0, |service| service.id);
                self.count(Reason::Adopted);
                let reason = Reason::Adopted as u8;
                return Admit::Stay(Decision { service, reason, ..Decision::default() });
            }
            reasons.push(Reason::Rebuilt);
        }
        let mut claims = Claims::none(0);
        claims.set_source(KEY, &source);
        claims.set_mark(KEY, mark);
        claims.set_dscp(KEY, s.dscp);
        let seed = flow_seed(KEY.k0, &source, &dialled, sport, dport, t.proto);
        let is_v4 = t.src.is_ipv4();
        let request = Request { listener, claims: &claims, source: Some(&source), is_v4, seed, spares: 0 };
        let verdict = decide(&view, &request);
        let out = match verdict {
            Verdict::Pass(reason) => {
                reasons.push(reason);
                Admit::Leave
            }
            // No policy here has it.
            Verdict::Deny(d) => unreachable!("{d:?}"),
            Verdict::Stay(d) | Verdict::Steer(d) => {
                // Unwrap: a decision's reason is one.
                reasons.push(Reason::from_code(d.reason).unwrap());
                *self.rule_hits.entry(u32::from(d.rule)).or_default() += 1;
                let arm = self.arm(u32::from(d.service), u32::from(d.arm));
                arm.packet_flows += 1;
                arm.udp_flows += u64::from(t.proto == UDP);
                arm.lost += u64::from(d.reason == Reason::AgentLost as u8);
                arm.broken += u64::from(d.reason == Reason::Broken as u8);
                let d = Decision { marks: self.policy.tables.view().marks(&d), ..d };
                if d.marks & MARK_TRIES != 0 {
                    let opened = self.policy.tables.now - 1;
                    let _ =
                        self.policy.tables.trips.entry(d.service.into()).and_modify(|t| t.opened = opened);
                }
                if matches!(verdict, Verdict::Stay(_)) { Admit::Stay(d) } else { Admit::Steer(d) }
            }
        };
        reasons.into_iter().for_each(|r| self.count(r));
        out
    }

    /// Whether the dialled address is stable's own.
    fn own(&self, t: Tuple) -> bool {
        let (addr, port) = (Addr::from(t.dst.ip()), t.dst.port().to_be());
        self.policy.tables.view().listener(&ListenerKey { addr, port, proto: t.proto, _pad: 0 }).is_self()
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
