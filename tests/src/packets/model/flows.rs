//! The model's flow table: entries by tuple, and their lives.

use std::{collections::HashMap, net::SocketAddr};

use gray_common::{
    Reason,
    decide::{Decision, MARK_TRIES, MARK_WATCHED, bucket::flow_seed},
    limits::PORT_TRIES,
    packet::{other_client_port, snat_port},
    wire::{
        Addr, FLOW_CLOSING, FLOW_DSR, FLOW_ESTABLISHED, FLOW_FORWARD, FLOW_GUE, FLOW_OPENING, FLOW_PASS,
        FLOW_TIMED, FLOW_TRIES, FLOW_UNRESOLVED, FLOW_WATCHED, SERVICE_DSR, SERVICE_GUE,
    },
};

use super::segment::Segment;
use crate::packets::{
    frame::{TCP, UDP},
    land::Land,
    wrapped::Outer,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tuple {
    pub src: SocketAddr,
    pub dst: SocketAddr,
    pub proto: u8,
}

/// One direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The tuple after the rewrite.
    pub src: SocketAddr,
    pub dst: SocketAddr,
    /// Client to service.
    pub forward: bool,
    /// Nothing is rewritten.
    pub pass: bool,
    /// The next hop must be looked up.
    pub unresolved: bool,
    pub established: bool,
    pub closing: bool,
    pub service: u16,
    pub arm: u8,
    pub rule: u16,
    /// A breaker waits for the instance's first word; this one tries.
    pub watched: bool,
    pub tries: bool,
    /// Which opening: the bits of the flow.
    pub opening: u16,
    /// Its first word is awaited; its SYN was seen.
    pub timed: bool,
    pub begun: bool,
    /// It goes in another packet, from `src` to `dst`.
    pub outer: Option<Outer>,
}

impl Entry {
    /// As the kernel's entry has them.
    pub fn flags(&self) -> u16 {
        [
            (self.forward, FLOW_FORWARD),
            (self.pass, FLOW_PASS),
            (self.unresolved, FLOW_UNRESOLVED),
            (self.established, FLOW_ESTABLISHED),
            (self.closing, FLOW_CLOSING),
            (self.watched, FLOW_WATCHED),
            (self.tries, FLOW_TRIES),
            (self.timed, FLOW_TIMED),
            (self.outer.is_some(), FLOW_DSR),
            (self.outer.is_some_and(|o| o.gue), FLOW_GUE),
        ]
        .iter()
        .filter(|(on, _)| *on)
        .fold(self.opening, |all, (_, bit)| all | bit)
    }

    /// Whether it tries for the latest of so many openings.
    pub fn is_try(&self, opens: u64) -> bool {
        self.tries && self.opening == (opens as u16) << 11 & FLOW_OPENING
    }

    pub fn forget_breaker(&mut self) {
        (self.watched, self.tries, self.opening) = (false, false, 0);
    }
}

#[derive(Debug, Default)]
pub struct Flows {
    pub table: HashMap<Tuple, Entry>,
    /// The last packet that found no living flow found a dead one of the reply direction: nobody decides about it.
    pub last_was_reply: bool,
}

impl Flows {
    pub fn put(&mut self, tuple: Tuple, entry: Entry) {
        let _ = self.table.insert(tuple, entry);
    }

    /// The entry that this packet belongs to, with what the packet says of its life; `None`: none, or of an earlier
    /// connection, and then it is gone.
    pub fn follow(&mut self, s: &Segment, aged: bool) -> Option<Entry> {
        self.last_was_reply = false;
        let mut e = *self.table.get(&s.tuple)?;
        if over(&e, s, aged) {
            let _ = self.table.remove(&s.tuple);
            self.last_was_reply = !e.forward;
            return None;
        }
        if aged && self.is_half(&e, s.tuple.proto) {
            self.mend(s.tuple, &e);
        }
        if s.tuple.proto == TCP {
            let opening = e.forward && s.opens();
            e.established |= !opening;
            e.closing |= s.ends;
        }
        Some(e)
    }

    /// Its answers' entry, as it was when it was made.
    fn mend(&mut self, t: Tuple, e: &Entry) {
        let back = Tuple { src: e.dst, dst: e.src, proto: t.proto };
        let (src, dst) = (t.dst, t.src);
        let made = Entry {
            src,
            dst,
            forward: false,
            unresolved: true,
            established: false,
            closing: false,
            watched: false,
            tries: false,
            opening: 0,
            timed: false,
            begun: false,
            ..*e
        };
        self.put(back, made);
    }

    /// Whether a flow's answers have no entry any more, which is asked when the next hop is looked up anew.
    fn is_half(&self, e: &Entry, proto: u8) -> bool {
        let back = Tuple { src: e.dst, dst: e.src, proto };
        e.forward && !e.pass && e.outer.is_none() && !e.unresolved && !self.table.contains_key(&back)
    }

    /// Stable on its own address; answers have their entry where no other connection has it, and not when it is older than gray.
    /// Always done.
    pub fn stay(&mut self, s: &Segment, d: &Decision, aged: bool) -> bool {
        let t = s.tuple;
        let back = Tuple { src: t.dst, dst: t.src, proto: t.proto };
        let kept = |t: Tuple| Entry {
            pass: true,
            unresolved: false,
            watched: false,
            tries: false,
            opening: 0,
            ..entry(d, t.src, t.dst)
        };
        let older = d.reason == Reason::Adopted as u8;
        let mut begun = false;
        if t.proto == TCP && !older && !self.taken(s, &back, aged) {
            begun = s.opens();
            self.put(back, Entry { timed: begun, begun, ..kept(back) });
        }
        self.put(t, Entry { forward: true, timed: begun, begun, ..kept(t) });
        true
    }

    /// Both directions of a steered flow: what is counted beside the decision, and whether something was recorded. `own`: the
    /// address is stable's. `aged`: all that is there has been idle for longer than any limit. `secret`: of the policy.
    pub fn steer(
        &mut self,
        s: &Segment,
        d: &Decision,
        (own, aged, secret): (bool, bool, u64),
    ) -> (Option<Reason>, bool) {
        let t = s.tuple;
        let server = SocketAddr::new(d.instance.addr.into(), u16::from_be(d.instance.port));
        // An instance that reaches itself sees the service's address.
        let hairpin = server.ip() == t.src.ip();
        let snat = d.snat != 0 && !hairpin;
        let node = Land { v6: t.src.is_ipv6(), proto: t.proto }.node(0).ip();
        let seen = match (hairpin, snat) {
            (true, _) => t.dst.ip(),
            (_, true) => node,
            _ => t.src.ip(),
        };
        if u32::from(d.tunnel) & SERVICE_DSR != 0 {
            let gue = u32::from(d.tunnel) & SERVICE_GUE != 0;
            let outer = Outer::of(t, secret, (node, server.ip()), gue);
            let ends = (SocketAddr::new(node, t.src.port()), SocketAddr::new(server.ip(), t.dst.port()));
            let begun = s.opens();
            self.put(t, Entry { forward: true, outer: Some(outer), begun, ..entry(d, ends.0, ends.1) });
            return (None, true);
        }
        let back = |port: u16| Tuple { src: server, dst: SocketAddr::new(seen, port), proto: t.proto };
        let (mut port, mut counted) = (t.src.port(), None);
        if snat || self.taken(s, &back(port), aged) {
            let nth = if snat { snat_port } else { other_client_port };
            let all: Vec<u16> = (0..PORT_TRIES).map(|i| u16::from_be(nth(seed(secret, t), i))).collect();
            let settled = t.proto == TCP && !s.opens();
            let own_one =
                |port: u16| self.table.get(&back(port)).is_some_and(|e| (e.src, e.dst) == (t.dst, t.src));
            let free = |port: u16| match self.table.get(&back(port)) {
                None => !settled || snat,
                Some(_) => !settled && !self.taken(s, &back(port), aged),
            };
            let first = |fits: &dyn Fn(u16) -> bool| all.iter().copied().find(|p| fits(*p));
            let other = if settled {
                first(&own_one).or_else(|| first(&free))
            } else {
                first(&|p| own_one(p) || free(p))
            };
            let Some(other) = other else {
                // The instance could not tell the connections apart. On stable's own address this one stays there.
                if own {
                    let stable = Decision { arm: 0, ..*d };
                    let kept = Entry {
                        pass: true,
                        unresolved: false,
                        watched: false,
                        tries: false,
                        opening: 0,
                        ..entry(&stable, t.src, t.dst)
                    };
                    self.put(t, Entry { forward: true, ..kept });
                }
                return (Some(Reason::TupleClash), own);
            };
            (port, counted) = (other, (!snat).then_some(Reason::PortChanged));
        }
        let (timed, begun) = (s.opens(), s.opens());
        self.put(back(port), Entry { timed, begun, ..entry(d, t.dst, t.src) });
        self.put(t, Entry { forward: true, timed, begun, ..entry(d, SocketAddr::new(seen, port), server) });
        (counted, true)
    }

    fn taken(&self, s: &Segment, back: &Tuple, aged: bool) -> bool {
        let other = |e: &&Entry| (e.src, e.dst) != (s.tuple.dst, s.tuple.src);
        let Some(reply) = self.table.get(back).filter(other) else { return false };
        let tcp = s.tuple.proto == TCP;
        if tcp && !s.opens() {
            return true;
        }
        let is_over = |e: &Entry| if tcp { e.closing || aged && !e.established } else { aged };
        let forward = Tuple { src: reply.dst, dst: reply.src, proto: s.tuple.proto };
        match self.table.get(&forward) {
            _ if reply.closing => !aged,
            Some(f) => !(f.closing && aged || is_over(reply) && is_over(f)),
            None => !is_over(reply),
        }
    }

    /// An earlier connection of a tuple that is for no service, seen from the instance: its answers' entry goes when it is over.
    pub fn dialled(&mut self, s: &Segment, aged: bool) {
        let (t, tcp) = (s.tuple, s.tuple.proto == TCP);
        let back = Tuple { src: t.dst, dst: t.src, proto: t.proto };
        let Some(reply) = self.table.get(&back).filter(|e| !e.forward && (!tcp || s.opens())) else { return };
        let is_over = |e: &Entry| if tcp { e.closing || aged && !e.established } else { aged };
        let forward = Tuple { src: reply.dst, dst: reply.src, proto: t.proto };
        if reply.closing || self.table.get(&forward).is_none_or(is_over) {
            let _ = self.table.remove(&back);
        }
    }
}

fn seed(secret: u64, t: Tuple) -> u64 {
    let (src, dst) = (Addr::from(t.src.ip()), Addr::from(t.dst.ip()));
    flow_seed(secret, &src, &dst, t.src.port().to_be(), t.dst.port().to_be(), t.proto)
}

fn over(e: &Entry, s: &Segment, aged: bool) -> bool {
    match s.tuple.proto {
        UDP => e.forward && aged,
        // A SYN of the client on a connection that has moved on, or that was silent for long, is another connection.
        TCP => (e.closing && aged) || (e.forward && s.opens() && (aged || e.established || e.closing)),
        _ => false,
    }
}

fn entry(d: &Decision, src: SocketAddr, dst: SocketAddr) -> Entry {
    Entry {
        src,
        dst,
        forward: false,
        pass: false,
        unresolved: true,
        established: false,
        closing: false,
        service: d.service,
        arm: d.arm,
        rule: d.rule,
        watched: d.marks & MARK_WATCHED != 0,
        tries: d.marks & MARK_TRIES != 0,
        opening: u16::from(d.marks) << 7 & FLOW_OPENING,
        timed: false,
        begun: false,
        outer: None,
    }
}
