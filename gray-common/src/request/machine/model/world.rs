//! The network between the ends, and the course of things.

use super::{
    Dice, Edge, LISTENING, Pkt, Plan, Tcp,
    tcp::{State, refusal, reset},
};
use crate::packet::{TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN};

/// Shares of packets, percent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hostile {
    pub lost: u64,
    pub twice: u64,
    pub late: u64,
    pub split: u64,
    pub joined: u64,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Everything was said and heard.
    Complete,
    Reset,
    /// Not over after a long time.
    Stuck,
}

const STEP: u64 = 5;
/// The network is bad for so long, ms.
const BAD_FOR: u64 = 15_000;
const END: u64 = 90_000;

#[derive(Clone, Copy, Debug)]
enum Place {
    Edge(u32),
    Client,
    Instance(u32),
}

pub struct World {
    pub edge: Edge,
    pub client: Tcp,
    /// The connection that each instance has, and what earlier ones heard.
    servers: Vec<Option<Tcp>>,
    pub heard: Vec<(u32, Vec<u8>)>,
    plan: Plan,
    net: Vec<(u64, Place, Pkt)>,
    hostile: Hostile,
    dice: Dice,
    now: u64,
    /// Of every instance.
    pub room: usize,
    /// The listener is none: it refuses.
    dead: bool,
}

impl World {
    pub fn new(seed: u64, plan: Plan, hostile: Hostile, flags: u8) -> Self {
        let mut dice = Dice::new(seed);
        let rooms = [1500, 6000, 60_000];
        let (a, room) = (rooms[dice.below(3) as usize], rooms[dice.below(3) as usize]);
        let time = dice.percent(70);
        let mut client = Tcp::dial(&mut dice, 0, time, a);
        client.nagle = dice.percent(20);
        let mut edge = Edge::new(flags);
        edge.desk.listener = if dice.percent(60) { LISTENING } else { 0 };
        let dead = dice.percent(30);
        edge.full = dice.percent(30);
        edge.forgets = if hostile.lost != 0 && dice.percent(30) { 10 } else { 0 };
        Self {
            edge,
            client,
            servers: vec![None, None, None, None, None],
            heard: Vec::new(),
            plan,
            net: Vec::new(),
            hostile,
            dice,
            now: 1000,
            room,
            dead,
        }
    }

    fn send(&mut self, to: Place, p: Pkt) {
        let bad = self.now < BAD_FOR;
        let h = if bad { self.hostile } else { Hostile::default() };
        let mut parts = vec![p];
        if self.dice.percent(h.split) && parts[0].data.len() > 1 {
            let at = 1 + self.dice.below(parts[0].data.len() as u64 - 1) as usize;
            let mut b = parts[0].clone();
            b.data = b.data.split_off(at);
            b.head.seq = b.head.seq.wrapping_add(at as u32);
            b.head.len = b.data.len() as u32;
            parts[0].data.truncate(at);
            parts[0].head.len = at as u32;
            parts[0].head.flags &= !TCP_FIN;
            parts.push(b);
        }
        for p in parts {
            let copies =
                if self.dice.percent(h.lost) { 0 } else { 1 + u32::from(self.dice.percent(h.twice)) };
            for _ in 0..copies {
                let late = if self.dice.percent(h.late) { self.dice.below(300) } else { 0 };
                self.net.push((self.now + STEP + late, to, p.clone()));
            }
        }
    }

    /// Runs until everything is over.
    pub fn run(&mut self) -> Outcome {
        while self.now < END {
            self.now += STEP;
            for (to, p) in self.edge.tick(self.now) {
                self.leave(to, p);
            }
            self.speak();
            for p in self.client.poll(self.now, &mut self.dice) {
                self.send(Place::Edge(0), p);
            }
            for i in 0..self.servers.len() {
                self.serve(i);
            }
            self.deliver();
            if self.client.state == State::Reset {
                self.bury();
                return Outcome::Reset;
            }
            if self.client.done() && self.client.closed {
                self.bury();
                return Outcome::Complete;
            }
        }
        self.bury();
        Outcome::Stuck
    }

    fn leave(&mut self, to: u32, p: Pkt) {
        let place = if to == 0 { Place::Client } else { Place::Instance(to) };
        self.send(place, p);
    }

    /// The client says what is next, and reads.
    fn speak(&mut self) {
        self.client.read = self.client.heard.min(self.client.read + 400);
        let read = self.client.read;
        let (mut said, mut heard) = (0, 0);
        for e in &self.plan.all {
            let answered = heard + e.answer.len() <= read;
            said += e.request.len();
            heard += e.answer.len();
            if self.client.out.len() < said {
                self.client.out.extend(&e.request);
            }
            if !answered && !self.plan.pipelined {
                return;
            }
        }
        self.client.closing = heard <= read;
    }

    /// An instance answers every whole request that it has, and closes when the client does.
    fn serve(&mut self, i: usize) {
        let Some(t) = &mut self.servers[i] else { return };
        if t.state == State::Reset {
            self.bury_one(i);
            return;
        }
        if t.read < t.heard {
            t.read = t.heard.min(t.read + 700);
            let said = answers(&self.plan, &t.heard(), t.read);
            t.out.extend(said.get(t.out.len()..).unwrap_or_default());
        }
        t.closing |= t.closed && t.read == t.heard;
        for p in t.poll(self.now, &mut self.dice) {
            self.send(Place::Edge(i as u32), p);
        }
    }

    fn bury(&mut self) {
        (0..self.servers.len()).for_each(|i| self.bury_one(i));
    }

    fn bury_one(&mut self, i: usize) {
        if let Some(t) = self.servers[i].take() {
            self.heard.push((i as u32, t.heard()));
        }
    }

    fn deliver(&mut self) {
        let mut due: Vec<(u64, Place, Pkt)> = Vec::new();
        let mut i = 0;
        while i < self.net.len() {
            if self.net[i].0 <= self.now { due.push(self.net.remove(i)) } else { i += 1 }
        }
        due.sort_by_key(|d| d.0);
        let mut due = due.into_iter().peekable();
        while let Some((_, place, mut p)) = due.next() {
            match place {
                Place::Edge(0) => {
                    // As GRO does.
                    while self.dice.percent(self.hostile.joined)
                        && let Some((_, _, next)) =
                            due.next_if(|(_, to, n)| matches!(to, Place::Edge(0)) && joins(&p, n))
                    {
                        p.data.extend(&next.data);
                        p.head.len = p.data.len() as u32;
                    }
                    for (to, p) in self.edge.client(&p, self.now) {
                        self.leave(to, p);
                    }
                }
                Place::Edge(i) => {
                    for (to, p) in self.edge.instance(i, &p, self.now) {
                        self.leave(to, p);
                    }
                }
                Place::Client => {
                    for p in self.client.input(&p, self.now) {
                        self.send(Place::Edge(0), p);
                    }
                }
                Place::Instance(i) => self.arrive(i as usize, &p),
            }
        }
    }

    fn arrive(&mut self, i: usize, p: &Pkt) {
        let flags = p.head.flags;
        if self.servers[i].as_ref().is_some_and(|t| !t.alive() || t.done() && t.closed) {
            self.bury_one(i);
        }
        let answers = match &mut self.servers[i] {
            Some(t) => t.input(p, self.now),
            None if i == LISTENING as usize && self.dead && flags & TCP_SYN != 0 => vec![refusal(&p.head)],
            None if flags & (TCP_SYN | TCP_ACK | TCP_RST) == TCP_SYN => {
                self.servers[i] = Some(Tcp::accept(&mut self.dice, self.now, p, self.room));
                Vec::new()
            }
            None if flags & TCP_RST == 0 && flags & TCP_ACK != 0 => vec![reset(&p.head)],
            None => Vec::new(),
        };
        for a in answers {
            self.send(Place::Edge(i as u32), a);
        }
    }
}

/// To every whole request of what was heard and read.
fn answers(plan: &Plan, heard: &[u8], read: usize) -> Vec<u8> {
    let (mut at, mut out) = (0, Vec::new());
    while let Some(e) = plan.all.iter().find(|e| heard[at..read].starts_with(&e.request)) {
        at += e.request.len();
        out.extend(&e.answer);
    }
    out
}

fn joins(a: &Pkt, b: &Pkt) -> bool {
    let same = (a.head.flags, a.head.ack, a.head.window, a.head.time_value)
        == (b.head.flags, b.head.ack, b.head.window, b.head.time_value);
    same && a.head.flags == TCP_ACK && !a.data.is_empty() && b.head.seq == a.head.seq.wrapping_add(a.head.len)
}
