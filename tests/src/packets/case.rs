//! A packet case and the machine that runs it: frame in, verdict, frame out, and exactly the counters that moved.

use std::collections::BTreeMap;

use gray_common::{
    Reason,
    wire::{FLOW_TIMED, FLOW_UNANSWERED, FLOW_UNRESOLVED},
};
use gray_userspace::kernel::Direction;

use super::{
    frame::Packet,
    pcap,
    rig::{Way, hex, moved, neighbour},
    subject::Subject,
    wrapped::Outer,
};

/// `TCX_NEXT`: goes on to the next program.
pub const NEXT: i32 = -1;
/// `TC_ACT_SHOT`.
pub const DROP: i32 = 2;
/// `TC_ACT_REDIRECT`.
pub const REDIRECT: i32 = 7;

/// What must come out.
#[derive(Clone, Debug)]
pub enum Out {
    /// NEXT, every byte as it was.
    Same,
    /// Rewritten to this, and sent the way the bench has: the stack, or redirected with new link addresses.
    Sent(Packet),
    /// In another packet, sent with new link addresses; without a route as it was.
    Wrapped(Packet, Outer),
    /// NEXT, these bytes.
    Passed(Packet),
}

/// What the flow table must hold afterwards.
#[derive(Clone, Debug)]
pub enum Flow {
    Any,
    /// Nothing for this packet's tuple.
    None(Packet),
    /// An entry for this packet's tuple with exactly these flags.
    Flags(Packet, u16),
}

/// One row.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: String,
    /// Frames that came before, all inbound.
    pub before: Vec<Vec<u8>>,
    pub direction: Direction,
    /// skb mark.
    pub mark: u32,
    pub frame: Vec<u8>,
    pub out: Out,
    /// Counters that move by one, beside the ones of the way out. Every other must stand still.
    pub moved: Vec<Reason>,
    pub flow: Flow,
    /// Between `before` and `frame` more time passes than any flow may be idle.
    pub aged: bool,
    /// So short that BPF_PROG_TEST_RUN may refuse it: then there is nothing to see.
    pub may_be_refused: bool,
}

impl Case {
    /// A frame that must pass unchanged and move nothing; other rows start from it.
    pub fn new(name: impl Into<String>, frame: Vec<u8>) -> Self {
        Self {
            name: name.into(),
            before: Vec::new(),
            direction: Direction::Ingress,
            mark: 0,
            frame,
            out: Out::Same,
            moved: Vec::new(),
            flow: Flow::Any,
            aged: false,
            may_be_refused: false,
        }
    }

    pub fn after(mut self, before: &[&Packet]) -> Self {
        self.before = before.iter().map(|p| p.frame()).collect();
        self
    }

    pub fn aged(mut self) -> Self {
        self.aged = true;
        self
    }

    pub fn egress(mut self) -> Self {
        self.direction = Direction::Egress;
        self
    }

    pub fn mark(mut self, mark: u32) -> Self {
        self.mark = mark;
        self
    }

    pub fn sent(mut self, out: Packet) -> Self {
        self.out = Out::Sent(out);
        self
    }

    pub fn wrapped(mut self, inner: Packet, outer: Outer) -> Self {
        self.out = Out::Wrapped(inner, outer);
        self
    }

    pub fn passed(mut self, out: Packet) -> Self {
        self.out = Out::Passed(out);
        self
    }

    pub fn moves(mut self, reasons: &[Reason]) -> Self {
        self.moved = reasons.to_vec();
        self
    }

    pub fn flow(mut self, flow: Flow) -> Self {
        self.flow = flow;
        self
    }

    /// Runs the row; `Err` says everything that differs.
    pub fn check(&self, on: &mut impl Subject) -> Result<(), String> {
        self.prepare(on);
        if self.aged {
            on.age();
        }
        let checked = self.judge(on);
        if self.aged {
            on.young();
        }
        checked
    }

    /// What came before.
    fn prepare(&self, on: &mut impl Subject) {
        for frame in &self.before {
            let _ = on.run(Direction::Ingress, frame, 0);
        }
    }

    fn judge(&self, on: &mut impl Subject) -> Result<(), String> {
        let before = on.counters();
        let Some((verdict, out)) = on.run(self.direction, &self.frame, self.mark) else {
            return if self.may_be_refused { Ok(()) } else { Err(format!("{}: refused", self.name)) };
        };
        let got = moved(&before, &on.counters());
        let (want_verdict, want_out, want) = self.expected(on.way());
        let mut wrong = Vec::new();
        if verdict != want_verdict {
            wrong.push(format!("verdict {verdict}, expected {want_verdict}"));
        }
        if got != want {
            wrong.push(format!("counters moved {got:?}, expected {want:?}"));
        }
        if out != want_out {
            wrong.push(format!("out:\n{}\nexpected:\n{}", hex(&out), hex(&want_out)));
        }
        wrong.extend(self.wrong_flow(on));
        if wrong.is_empty() {
            return Ok(());
        }
        let frames: Vec<&[u8]> =
            self.before.iter().chain([&self.frame, &out, &want_out]).map(|f| &**f).collect();
        let saved = pcap::save(&self.name, &frames);
        Err(format!("{}:\n{}\nframe in:\n{}\n{saved}", self.name, wrong.join("\n"), hex(&self.frame)))
    }

    /// Verdict, bytes and counters that the row stands for where packets leave this way.
    fn expected(&self, way: &Way) -> (i32, Vec<u8>, BTreeMap<Reason, u64>) {
        let mut counters: BTreeMap<Reason, u64> = self.moved.iter().map(|r| (*r, 1)).collect();
        let (verdict, out) = match &self.out {
            Out::Same => (NEXT, self.frame.clone()),
            Out::Passed(p) => (NEXT, p.frame()),
            Out::Wrapped(..) if matches!(way, Way::Stack) => {
                let _ = counters.insert(Reason::DsrNoRoute, 1);
                (NEXT, self.frame.clone())
            }
            Out::Wrapped(p, outer) => {
                let mut out = outer.around(&p.frame());
                if let Way::Redirect(own) = way {
                    out[..6].copy_from_slice(&neighbour(outer.dst));
                    out[6..12].copy_from_slice(own);
                } else {
                    let _ = counters.insert(Reason::NoNeighbour, 1);
                }
                (REDIRECT, out)
            }
            Out::Sent(p) => {
                let (verdict, reason) = match way {
                    Way::Stack => (NEXT, Some(Reason::NoRoute)),
                    Way::Resolve => (REDIRECT, Some(Reason::NoNeighbour)),
                    Way::Redirect(_) => (REDIRECT, None),
                };
                counters.extend(reason.map(|r| (r, 1)));
                (verdict, way.leaves(p))
            }
        };
        (verdict, out, counters)
    }

    fn wrong_flow(&self, on: &impl Subject) -> Option<String> {
        let (packet, want) = match &self.flow {
            Flow::Any => return None,
            Flow::None(p) => (p, None),
            // Where no link address was found, the next packet looks again.
            Flow::Flags(p, flags)
                if matches!((&self.out, on.way()), (Out::Sent(_) | Out::Wrapped(..), Way::Resolve)) =>
            {
                (p, Some(*flags | FLOW_UNRESOLVED))
            }
            Flow::Flags(p, flags) => (p, Some(*flags)),
        };
        // To a machine that stands still for half a second, tc's look at what XDP has left is the SYN's second coming.
        let late = FLOW_UNANSWERED & !want.unwrap_or(0);
        // Rows are of steering; whose first word is awaited, the campaign holds against the model.
        let late = late | FLOW_TIMED & !want.unwrap_or(0);
        let got = on.flow(packet).map(|flags| flags & !late);
        (got != want).then(|| format!("flow flags {got:?}, expected {want:?}"))
    }
}

/// Runs rows one after another and fails with all that went wrong. Time passes once for all rows that want it: their
/// clients share nothing.
///
/// # Panics
/// When a row fails, or there is none.
pub fn run_all(on: &mut impl Subject, cases: &[Case]) {
    assert!(!cases.is_empty(), "an empty table proves nothing");
    let (aged, young): (Vec<&Case>, Vec<&Case>) = cases.iter().partition(|c| c.aged);
    let mut failed: Vec<String> = young.into_iter().filter_map(|c| c.check(on).err()).collect();
    if !aged.is_empty() {
        aged.iter().for_each(|c| c.prepare(on));
        on.age();
        failed.extend(aged.iter().filter_map(|c| c.judge(on).err()));
        on.young();
    }
    assert!(failed.is_empty(), "{} of {} cases failed\n\n{}", failed.len(), cases.len(), failed.join("\n\n"));
}
