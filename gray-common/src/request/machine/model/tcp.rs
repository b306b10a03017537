//! A small honest TCP end (RFC 9293, 7323): windows, retransmission, reassembly, PAWS, challenge ACKs. What it is told about
//! its own timestamps must be true, or it panics.

use super::Dice;
use crate::{
    packet::{TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN},
    request::{
        machine::Segment,
        options::NO_SCALE,
        seq::{after, before},
    },
};

/// One packet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pkt {
    pub head: Segment,
    pub data: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum State {
    SynSent,
    SynReceived,
    Established,
    /// Reset by the other side.
    Reset,
}

#[derive(Clone, Debug)]
pub struct Tcp {
    pub state: State,
    /// Everything that it says, and everything it heard in order.
    pub out: Vec<u8>,
    inbox: Vec<Option<u8>>,
    pub heard: usize,
    /// The application took so many.
    pub read: usize,
    /// Closes behind `out`.
    pub closing: bool,
    /// The other side closed.
    pub closed: bool,
    fin_at: Option<usize>,
    iss: u32,
    una: u32,
    nxt: u32,
    irs: u32,
    window: u32,
    room: usize,
    told_room: usize,
    scale: u8,
    their_scale: u8,
    pub mss: u32,
    time: bool,
    recent: u32,
    clock: u32,
    clock_began: u32,
    timer: u64,
    rto: u64,
    same: u32,
    pub nagle: bool,
}

const RTO: u64 = 200;
const RTO_MAX: u64 = 1600;

impl Tcp {
    /// An end that will dial.
    pub fn dial(dice: &mut Dice, now: u64, time: bool, room: usize) -> Self {
        let iss = dice.next() as u32;
        let clock = dice.next() as u32;
        Self {
            state: State::SynSent,
            out: Vec::new(),
            inbox: Vec::new(),
            heard: 0,
            read: 0,
            closing: false,
            closed: false,
            fin_at: None,
            iss,
            una: iss,
            nxt: iss.wrapping_add(1),
            irs: 0,
            window: 0,
            room,
            told_room: 0,
            scale: [0, 2, 7][dice.below(3) as usize],
            their_scale: NO_SCALE,
            mss: [1460, 1220, 536][dice.below(3) as usize],
            time,
            recent: 0,
            clock: clock.wrapping_sub(now as u32),
            clock_began: clock,
            timer: 0,
            rto: RTO,
            same: 0,
            nagle: false,
        }
    }

    /// An end that was dialled.
    pub fn accept(dice: &mut Dice, now: u64, syn: &Pkt, room: usize) -> Self {
        let mut t = Self::dial(dice, now, syn.head.time != 0, room);
        t.state = State::SynReceived;
        t.irs = syn.head.seq;
        t.recent = syn.head.time_value;
        t.their_scale = syn.head.scale;
        t.mss = t.mss.min(u32::from(syn.head.mss));
        t.window = u32::from(syn.head.window);
        t
    }

    pub fn alive(&self) -> bool {
        self.state != State::Reset
    }

    fn rcv_nxt(&self) -> u32 {
        let fin = u32::from(self.closed);
        self.irs.wrapping_add(1 + self.heard as u32 + fin)
    }

    pub fn heard(&self) -> Vec<u8> {
        self.inbox[..self.heard].iter().map(|b| b.unwrap()).collect()
    }

    /// Everything was said, the end of it too, and acknowledged.
    pub fn done(&self) -> bool {
        self.closing && self.una == self.iss.wrapping_add(2 + self.out.len() as u32)
    }

    fn pkt(&mut self, now: u64, seq: u32, flags: u8, data: Vec<u8>) -> Pkt {
        let room = self.room.saturating_sub(self.heard - self.read);
        self.told_room = room;
        let syn = flags & TCP_SYN != 0;
        let shift = if syn || self.their_scale >= NO_SCALE { 0 } else { self.scale };
        let options = self.state == State::SynSent || self.state == State::SynReceived;
        Pkt {
            head: Segment {
                seq,
                ack: if flags & TCP_ACK != 0 { self.rcv_nxt() } else { 0 },
                len: data.len() as u32,
                time_value: if self.time { self.clock.wrapping_add(now as u32) } else { 0 },
                time_echo: if self.time && flags & TCP_ACK != 0 { self.recent } else { 0 },
                window: (room >> shift).min(0xffff) as u16,
                mss: self.mss as u16,
                scale: if syn && options && (self.state == State::SynSent || self.their_scale < NO_SCALE) {
                    self.scale
                } else {
                    NO_SCALE
                },
                sack: 0,
                time: self.time.into(),
                flags,
            },
            data,
        }
    }

    pub fn ack(&mut self, now: u64) -> Pkt {
        self.pkt(now, self.nxt, TCP_ACK, Vec::new())
    }

    fn said(&self, seq: u32) -> usize {
        seq.wrapping_sub(self.iss.wrapping_add(1)) as usize
    }

    fn data(&mut self, now: u64, seq: u32, max: usize) -> Pkt {
        let at = self.said(seq);
        let end = self.out.len().min(at + max);
        let data = self.out[at.min(end)..end].to_vec();
        let last = end == self.out.len() && self.closing;
        self.pkt(now, seq, TCP_ACK | if last { TCP_FIN } else { 0 }, data)
    }

    /// The first that is not acknowledged, and nothing that was never said.
    fn again(&mut self, now: u64, max: usize) -> Pkt {
        let sent = self.nxt.wrapping_sub(self.una);
        let mut p = self.data(now, self.una, max.min(sent as usize));
        if p.head.len + u32::from(p.head.flags & TCP_FIN) > sent {
            p.head.flags &= !TCP_FIN;
        }
        p
    }

    /// What is due.
    pub fn poll(&mut self, now: u64, dice: &mut Dice) -> Vec<Pkt> {
        let due = now >= self.timer;
        match self.state {
            State::SynSent | State::SynReceived if due => {
                self.backoff(now);
                let ack = if self.state == State::SynReceived { TCP_ACK } else { 0 };
                return vec![self.pkt(now, self.iss, TCP_SYN | ack, Vec::new())];
            }
            State::Established => {}
            _ => return Vec::new(),
        }
        let mut out = Vec::new();
        let payload = (self.mss - if self.time { 12 } else { 0 }) as usize;
        // Reading made room.
        if self.told_room < payload && self.room - (self.heard - self.read) >= payload.min(self.room / 2) {
            out.push(self.ack(now));
        }
        while !(self.nagle
            && self.una != self.nxt
            && self.out.len() - self.said(self.nxt).min(self.out.len()) < payload)
        {
            let room = (self.una.wrapping_add(self.window)).wrapping_sub(self.nxt) as i32;
            let left = self.out.len().saturating_sub(self.said(self.nxt));
            let fin = self.closing && self.said(self.nxt) <= self.out.len();
            if room <= 0 && left > 0 || left == 0 && !fin {
                break;
            }
            let p = self.data(now, self.nxt, payload.min(room.max(0) as usize));
            if self.una == self.nxt {
                self.timer = now + self.rto;
            }
            self.nxt = self.nxt.wrapping_add(p.data.len() as u32 + u32::from(p.head.flags & TCP_FIN));
            out.push(p);
        }
        if now >= self.timer && (self.una != self.nxt || self.said(self.nxt) < self.out.len()) {
            self.backoff(now);
            if self.una == self.nxt {
                // Nobody has room: ask.
                out.push(self.pkt(now, self.una.wrapping_sub(1), TCP_ACK, Vec::new()));
            } else {
                // Not cut as before.
                let size = if dice.percent(30) { 1 + dice.below(payload as u64) as usize } else { payload };
                out.push(self.again(now, size));
            }
        }
        out
    }

    fn backoff(&mut self, now: u64) {
        self.timer = now + self.rto;
        self.rto = (self.rto * 2).min(RTO_MAX);
    }

    /// A packet came; what is said to that.
    pub fn input(&mut self, p: &Pkt, now: u64) -> Vec<Pkt> {
        let (g, flags) = (&p.head, p.head.flags);
        match self.state {
            State::Reset => return Vec::new(),
            State::SynSent => return self.answered(g, now),
            State::SynReceived => {
                if flags & TCP_SYN != 0 {
                    let again = g.seq == self.irs;
                    return vec![if again {
                        self.pkt(now, self.iss, TCP_SYN | TCP_ACK, Vec::new())
                    } else {
                        self.ack(now)
                    }];
                }
                if flags & TCP_RST == 0 && flags & TCP_ACK != 0 && g.ack != self.nxt {
                    return vec![reset(g)];
                }
            }
            State::Established => {}
        }
        let next = self.rcv_nxt();
        if flags & TCP_RST != 0 {
            if g.seq == next {
                self.state = State::Reset;
            } else if g.seq.wrapping_sub(next) < self.room as u32 {
                return vec![self.ack(now)];
            }
            return Vec::new();
        }
        if flags & TCP_SYN != 0 || self.time && g.time == 0 || self.time && before(g.time_value, self.recent)
        {
            return vec![self.ack(now)];
        }
        let end = g.seq.wrapping_add(g.len + u32::from(flags & TCP_FIN));
        let room = self.room.saturating_sub(self.heard - self.read) as u32;
        let beyond = g.seq.wrapping_sub(next) as i32 > room as i32;
        if beyond || before(end, next) || end != g.seq && end == next {
            return vec![self.ack(now)];
        }
        if flags & TCP_ACK == 0 {
            return Vec::new();
        }
        if after(g.ack, self.nxt) {
            return vec![self.ack(now)];
        }
        if self.time {
            // Once it is known, a late packet may have an older one.
            let mine = self.clock.wrapping_add(now as u32);
            let slack = if self.state == State::SynReceived { 0 } else { 3000 };
            let first = self.clock_began.wrapping_sub(slack);
            assert!(
                !after(g.time_echo, mine) && !before(g.time_echo, first),
                "an echo of what was never said: {g:?}"
            );
            if !after(g.seq, next) {
                self.recent = g.time_value;
            }
        }
        self.state = State::Established;
        let mut out = self.acked(g, now);
        out.extend(self.take(p, now, room));
        out
    }

    fn answered(&mut self, g: &Segment, now: u64) -> Vec<Pkt> {
        if g.flags & TCP_ACK == 0 || g.ack != self.nxt {
            return if g.flags & (TCP_RST | TCP_ACK) == TCP_ACK { vec![reset(g)] } else { Vec::new() };
        }
        if g.flags & TCP_RST != 0 {
            self.state = State::Reset;
        }
        if g.flags & TCP_SYN == 0 || !self.alive() {
            return Vec::new();
        }
        self.irs = g.seq;
        self.una = g.ack;
        self.window = u32::from(g.window);
        self.their_scale = g.scale;
        self.time &= g.time != 0;
        self.recent = g.time_value;
        self.mss = self.mss.min(u32::from(g.mss));
        self.state = State::Established;
        self.rto = RTO;
        vec![self.ack(now)]
    }

    fn acked(&mut self, g: &Segment, now: u64) -> Vec<Pkt> {
        if before(g.ack, self.una) {
            return Vec::new();
        }
        let shift = if self.their_scale < NO_SCALE && self.scale_in_use() { self.their_scale } else { 0 };
        let window = u32::from(g.window) << shift;
        let repeated = g.ack == self.una && self.una != self.nxt && g.len == 0 && window == self.window;
        self.window = window;
        if after(g.ack, self.una) {
            self.una = g.ack;
            self.rto = RTO;
            self.timer = now + RTO;
            self.same = 0;
        } else if repeated {
            self.same += 1;
            if self.same == 3 {
                return vec![self.again(now, (self.mss - 12) as usize)];
            }
        }
        Vec::new()
    }

    fn scale_in_use(&self) -> bool {
        self.their_scale < NO_SCALE
    }

    fn take(&mut self, p: &Pkt, now: u64, room: u32) -> Vec<Pkt> {
        let fin = p.head.flags & TCP_FIN != 0;
        if p.data.is_empty() && !fin {
            // A probe of a closed window, or to keep alive.
            let probe = before(p.head.seq, self.rcv_nxt());
            return if probe { vec![self.ack(now)] } else { Vec::new() };
        }
        let begin = p.head.seq.wrapping_sub(self.irs.wrapping_add(1)) as i32;
        let limit = self.heard + room as usize;
        for (i, b) in p.data.iter().enumerate() {
            let Ok(at) = usize::try_from(begin + i as i32) else { continue };
            if at < limit && at >= self.heard {
                if self.inbox.len() <= at {
                    self.inbox.resize(at + 1, None);
                }
                self.inbox[at] = Some(*b);
            }
        }
        if fin {
            self.fin_at = usize::try_from(begin + p.data.len() as i32).ok();
        }
        while self.inbox.get(self.heard).is_some_and(Option::is_some) {
            self.heard += 1;
        }
        self.closed |= self.fin_at == Some(self.heard);
        vec![self.ack(now)]
    }
}

/// To somebody whose segment belongs to nothing.
pub fn reset(g: &Segment) -> Pkt {
    Pkt {
        head: Segment { seq: g.ack, flags: TCP_RST, scale: NO_SCALE, ..Segment::default() },
        data: Vec::new(),
    }
}

/// What a port that nobody listens on answers a SYN with.
pub fn refusal(g: &Segment) -> Pkt {
    let flags = TCP_RST | TCP_ACK;
    Pkt {
        head: Segment { ack: g.seq.wrapping_add(1), flags, scale: NO_SCALE, ..Segment::default() },
        data: Vec::new(),
    }
}
