//! A packet case and the machine that runs it: frame in, verdict, frame out, and exactly the counters that moved.

use std::collections::BTreeMap;

use gray_common::{Reason, wire::FLOW_UNRESOLVED};
use gray_userspace::kernel::Direction;

use super::{
    frame::Packet,
    rig::{Rig, Way, hex, moved},
};

/// `TCX_NEXT`: goes on to the next program.
pub const NEXT: i32 = -1;
/// `TC_ACT_REDIRECT`.
pub const REDIRECT: i32 = 7;

/// What must come out.
#[derive(Clone, Debug)]
pub enum Out {
    /// NEXT, every byte as it was.
    Same,
    /// Rewritten to this, and sent the way the bench has: the stack, or redirected with new link addresses.
    Sent(Packet),
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
            may_be_refused: false,
        }
    }

    pub fn after(mut self, before: &[&Packet]) -> Self {
        self.before = before.iter().map(|p| p.frame()).collect();
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
    pub fn check(&self, rig: &mut Rig) -> Result<(), String> {
        for frame in &self.before {
            let _ = rig.run(Direction::Ingress, frame);
        }
        if self.may_be_refused && rig.try_run(self.direction, &self.frame).is_none() {
            return Ok(());
        }
        let before = rig.counters();
        let (verdict, out) = rig.run_marked(self.direction, &self.frame, self.mark);
        let got = moved(&before, &rig.counters());
        let mut want: BTreeMap<Reason, u64> = self.moved.iter().map(|r| (*r, 1)).collect();
        let (want_verdict, want_out) = match (&self.out, &rig.way) {
            (Out::Same, _) => (NEXT, self.frame.clone()),
            (Out::Passed(p), _) => (NEXT, p.frame()),
            (Out::Sent(p), way) => {
                let (verdict, reason) = match way {
                    Way::Stack => (NEXT, Some(Reason::NoRoute)),
                    Way::Resolve => (REDIRECT, Some(Reason::NoNeighbour)),
                    Way::Redirect(_) => (REDIRECT, None),
                };
                want.extend(reason.map(|r| (r, 1)));
                (verdict, rig.leaves(p))
            }
        };
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
        let (packet, flags) = match &self.flow {
            Flow::Any => (None, None),
            Flow::None(p) => (Some(p), None),
            // Where no link address was found, the next packet looks again.
            Flow::Flags(p, flags) if matches!((&self.out, &rig.way), (Out::Sent(_), Way::Resolve)) => {
                (Some(p), Some(*flags | FLOW_UNRESOLVED))
            }
            Flow::Flags(p, flags) => (Some(p), Some(*flags)),
        };
        if let Some(p) = packet {
            let got = rig.flow(p);
            if got != flags {
                wrong.push(format!("flow flags {got:?}, expected {flags:?}"));
            }
        }
        if wrong.is_empty() {
            return Ok(());
        }
        Err(format!("{}:\n{}\nframe in:\n{}", self.name, wrong.join("\n"), hex(&self.frame)))
    }
}

/// Runs rows one after another and fails with all that went wrong.
///
/// # Panics
/// When a row fails, or there is none.
pub fn run_all(rig: &mut Rig, cases: &[Case]) {
    assert!(!cases.is_empty(), "an empty table proves nothing");
    let failed: Vec<String> = cases.iter().filter_map(|c| c.check(rig).err()).collect();
    assert!(failed.is_empty(), "{} of {} cases failed\n\n{}", failed.len(), cases.len(), failed.join("\n\n"));
}
