//! The node: the machine, what it holds, and what it asks to be done, done to packets.

use std::collections::BTreeMap;

use super::{Dice, Pkt};
use crate::{
    hash::HashKey,
    packet::{TCP_ACK, TCP_SYN},
    request::{
        cookie::{Offered, Tuple, check},
        frame::{Frames, Taken},
        machine::{
            out::{CLIENT, FORWARD},
            *,
        },
        options::{HAS_SACK_OK, HAS_TIME, Options},
        pending,
        scan::{BAD, END, Scan},
        translate::Fields,
        watch::Watches,
    },
};

const KEY: HashKey = HashKey { k0: 7, k1: 9 };

/// Where a packet goes: 0 is the client, others are instances.
pub type To = u32;

/// The listener, where there is one: an instance as others.
pub const LISTENING: u32 = 4;

/// The machine's surroundings.
#[derive(Debug)]
pub struct Desk {
    data: Vec<u8>,
    held: Vec<u8>,
    frames: Frames,
    scan: (Scan, u32),
    app: u32,
    /// Without an identity, and at the last attempt.
    pub stable: u32,
    /// By attempt; empty: the identity's number is the instance's.
    pub picks: Vec<u32>,
    pub deny: bool,
    /// [`LISTENING`], or 0.
    pub listener: u32,
}

impl Desk {
    fn new() -> Self {
        Self {
            data: Vec::new(),
            held: Vec::new(),
            frames: Frames::begin(0, 0),
            scan: (Scan::request(), 0),
            app: 0,
            stable: 1,
            picks: Vec::new(),
            deny: false,
            listener: 0,
        }
    }

    fn watch() -> Watches {
        let mut w = Watches::default();
        w.names[0] = Watches::header("X-App-Id");
        w
    }
}

impl Host for Desk {
    fn hold(&mut self, at: u32, from: u32, len: u32) -> bool {
        assert!(at + len <= HOLD, "more than is held");
        self.held.truncate(at as usize);
        assert_eq!(self.held.len(), at as usize, "a hole");
        self.held.extend(&self.data[from as usize..(from + len) as usize]);
        true
    }

    fn read(&mut self, held: u32, ended: bool) -> u32 {
        let held = &self.held[..held as usize];
        let mut scan = Scan::request();
        let r = scan.run(held, &Self::watch());
        self.scan = (scan, r);
        let v = scan.values[0];
        let value = std::str::from_utf8(&held[usize::from(v.at)..usize::from(v.at + v.len)]);
        self.app = value.ok().and_then(|v| v.parse().ok()).unwrap_or(self.stable);
        match r {
            _ if self.deny => READ_DENY,
            END => READ_FOUND,
            BAD => READ_LISTENER,
            _ if scan.found != 0 || ended => READ_FOUND,
            _ => READ_MORE,
        }
    }

    fn pick(&mut self, attempt: u32) -> u32 {
        if attempt == u32::from(LISTENER) {
            return self.listener;
        }
        if self.picks.is_empty() { self.app } else { self.picks.get(attempt as usize).copied().unwrap_or(0) }
    }

    fn keeps(&mut self, instance: u32) -> bool {
        instance == self.app
    }

    fn frames(&mut self) -> Option<&mut Frames> {
        Some(&mut self.frames)
    }

    fn request(&mut self, g: &Segment) -> Taken {
        self.frames.request(g.seq, &self.data[..], g.len, false, &Self::watch())
    }

    fn head(&mut self, first: u32) {
        self.frames.head(first, &self.scan.0, self.scan.1);
    }

    fn held(&mut self, first: u32, held: u32) -> Taken {
        self.frames.request(first, &self.held[..], held, true, &Self::watch())
    }

    fn answer(&mut self, seq: u32, len: u32) -> Taken {
        self.frames.answer(seq, &self.data[..], len)
    }
}

#[derive(Debug)]
pub struct Edge {
    pub splice: Option<Splice>,
    pub desk: Desk,
    pub terms: Terms,
    /// Notes, in order.
    pub notes: Vec<u32>,
    /// When a silent client was last asked.
    asked: u64,
    /// What clients without timestamps were granted, by place; nothing is, where there is no room.
    pending: BTreeMap<u32, u64>,
    pub full: bool,
    /// In so many percent of segments what is held is lost before, as a full table loses it.
    pub forgets: u64,
    dice: Dice,
}

impl Edge {
    pub fn new(flags: u8) -> Self {
        Self {
            splice: None,
            desk: Desk::new(),
            terms: Terms { first_byte_ms: 3000, silent_ms: 1000, mss: 1460, scale: 7, flags },
            notes: Vec::new(),
            asked: 0,
            pending: BTreeMap::new(),
            full: false,
            forgets: 0,
            dice: Dice::new(1),
        }
    }

    fn forget(&mut self, s: &mut Splice) {
        if self.forgets != 0 && s.holds() && self.dice.percent(self.forgets) {
            s.forget();
            self.desk.held.clear();
        }
    }

    pub fn saw(&self, note: u32) -> bool {
        self.notes.contains(&note)
    }

    pub fn client(&mut self, p: &Pkt, now: u64) -> Vec<(To, Pkt)> {
        self.desk.data.clone_from(&p.data);
        let mut entry = self.splice;
        if entry.is_none() {
            if p.head.flags & TCP_SYN != 0 {
                return vec![self.answer(p, now)];
            }
            let tuple = tuple(p.head.seq.wrapping_sub(1));
            let mss = check(KEY, &tuple, p.head.ack.wrapping_sub(1), now);
            let Some(mss) = mss.filter(|_| p.head.flags & TCP_ACK != 0) else { return Vec::new() };
            let h = pending::hash(KEY, &tuple);
            let word = self.pending.get(&pending::place(h)).filter(|_| p.head.time == 0);
            let offered = word.and_then(|w| pending::granted(*w, h));
            let offered = offered.unwrap_or(Offered::from_echo(p.head.time != 0, p.head.time_echo));
            entry = Some(open(&p.head, (mss, offered), now as u32, &self.terms));
        }
        let mut s = entry.unwrap();
        self.forget(&mut s);
        let mut outs = Outs::default();
        let at = (now as u32, &self.terms);
        client(&mut s, &mut self.desk, &p.head, at, &mut outs);
        while outs.again != 0 {
            client(&mut s, &mut self.desk, &p.head, at, &mut outs);
        }
        self.splice = Some(s);
        let mut done = self.done(outs, p);
        if outs.note == NOTE_RESTART {
            self.splice = None;
            done.push(self.answer(p, now));
        }
        done
    }

    pub fn instance(&mut self, from: u32, p: &Pkt, now: u64) -> Vec<(To, Pkt)> {
        self.desk.data.clone_from(&p.data);
        let Some(mut s) = self.splice else { return Vec::new() };
        self.forget(&mut s);
        let mut outs = Outs::default();
        instance(&mut s, &mut self.desk, (from, &p.head), now as u32, &mut outs);
        self.splice = Some(s);
        self.done(outs, p)
    }

    /// What the agent does: asks a client that says nothing.
    pub fn tick(&mut self, now: u64) -> Vec<(To, Pkt)> {
        let last = core::mem::replace(&mut self.asked, now);
        let probe = self.splice.as_ref().and_then(|s| probe(s, now as u32, last as u32, &self.terms));
        probe.map(|out| (0, Pkt { head: made(&out), data: Vec::new() })).into_iter().collect()
    }

    fn answer(&mut self, p: &Pkt, now: u64) -> (To, Pkt) {
        let g = &p.head;
        let flags = if g.time != 0 { HAS_TIME } else { 0 } | if g.sack != 0 { HAS_SACK_OK } else { 0 };
        let mut o = Options::default();
        (o.mss, o.scale, o.flags, o.time_value) = (g.mss, g.scale, flags, g.time_value);
        let mut offered = Offered::of(&o);
        if pending::is_wanted(&o) && !self.full {
            let h = pending::hash(KEY, &tuple(g.seq));
            let at = self.pending.entry(pending::place(h)).or_default();
            if pending::is_free(*at, h, now) {
                *at = pending::word(h, &o, now);
                offered = pending::granted(*at, h).unwrap();
            }
        }
        let out = answer_syn(g, (&o, &offered), &tuple(g.seq), KEY, now, &self.terms);
        (0, Pkt { head: made(&out), data: Vec::new() })
    }

    fn done(&mut self, outs: Outs, p: &Pkt) -> Vec<(To, Pkt)> {
        if outs.note != 0 {
            self.notes.push(outs.note);
        }
        let all = &outs.out[..outs.n as usize];
        all.iter().map(|o| self.packet(o, p)).collect()
    }

    fn packet(&self, o: &Out, p: &Pkt) -> (To, Pkt) {
        let to = if o.to == CLIENT { 0 } else { o.instance };
        if o.kind != FORWARD {
            let at = o.held_at as usize;
            let data = self.desk.held.get(at..at + o.len as usize).unwrap_or_default().to_vec();
            assert_eq!(data.len(), o.len as usize, "more than is held");
            return (to, Pkt { head: made(o), data });
        }
        let mut f = Fields {
            seq: o.seq,
            ack: p.head.ack,
            time_value: p.head.time_value,
            time_echo: p.head.time_echo,
            window: p.head.window,
            has_ack: (p.head.flags & TCP_ACK != 0).into(),
            has_time: p.head.time,
            ..Fields::default()
        };
        let shift = self.splice.unwrap().shift;
        if o.to == CLIENT {
            shift.to_client(&mut f)
        } else {
            shift.to_instance(&mut f)
        }
        let head = Segment {
            seq: f.seq,
            ack: f.ack,
            time_value: f.time_value,
            time_echo: f.time_echo,
            window: f.window,
            len: o.len,
            flags: o.flags,
            ..p.head
        };
        (to, Pkt { head, data: p.data[..o.len as usize].to_vec() })
    }
}

fn made(o: &Out) -> Segment {
    Segment {
        seq: o.seq,
        ack: o.ack,
        len: o.len,
        time_value: o.time_value,
        time_echo: o.time_echo,
        window: o.window,
        mss: o.mss,
        scale: o.scale,
        sack: o.sack,
        time: o.time,
        flags: o.flags,
    }
}

fn tuple(number: u32) -> Tuple {
    Tuple { client: [1, 0], service: [2, 0], client_port: 3, service_port: 4, number }
}
