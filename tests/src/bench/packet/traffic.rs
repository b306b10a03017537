//! What a row sends: packets of flows that exist, opening packets of flows that do not, or one frame of no concern.

use anyhow::{Context, Result, ensure};
use gray_common::names::{FLOWS4, FLOWS6};

use super::{
    ring::{REPEAT, Ring},
    rounds::Load,
    rows::Out,
    spread::Spread,
    table::Table,
    testrun::{PASS, Program, SENT},
};
use crate::packets::{
    case::{NEXT, REDIRECT},
    rig::Rig,
};

/// What programs of a kind answer: the packet is sent on, and it is left alone.
#[derive(Clone, Copy)]
pub struct Verdicts {
    pub sent: i32,
    pub left: i32,
}

pub const TC: Verdicts = Verdicts { sent: REDIRECT, left: NEXT };
pub const XDP: Verdicts = Verdicts { sent: SENT, left: PASS };

/// Odd: multiplied by it, the numbers below a power of two come in an order that no prefetcher guesses.
pub const STRIDE: u32 = 0x9E37_79B1;
/// Distance of two subjects in the flows, as a part of them.
const SUBJECTS: u32 = 4;

pub enum Kind {
    /// Opening packets that make flows, and the packets that are sent then.
    Known(Box<[Spread; 2]>),
    /// Every packet opens a flow; the table is emptied before each round.
    Fresh(Box<Spread>),
    /// Established flows back to back.
    Ring(Box<Ring>),
    /// The same frame again and again.
    Frame(Vec<u8>),
}

pub struct Traffic<'a> {
    kind: Kind,
    /// A power of two.
    flows: u32,
    verdict: i32,
    maker: &'a Program,
    table: Table,
    frame: Vec<u8>,
}

impl<'a> Traffic<'a> {
    /// Makes the flows, in tables that hold no others, and looks at one packet closely: `out` is what must become of
    /// it, `None`: nothing.
    pub fn new(
        rig: &Rig,
        (maker, verdicts): (&'a Program, Verdicts),
        kind: Kind,
        flows: u32,
        out: Option<&Out>,
    ) -> Result<Self> {
        ensure!(flows.is_power_of_two(), "{flows} flows: no power of two");
        for name in [FLOWS4, FLOWS6] {
            Table::open(&rig.pins.map(name))?.empty()?;
        }
        let v6 = match &kind {
            Kind::Known(both) => both[1].packet(0).src.is_ipv6(),
            Kind::Fresh(open) => open.packet(0).src.is_ipv6(),
            Kind::Ring(r) => r.like.src.is_ipv6(),
            Kind::Frame(_) => false,
        };
        let table = Table::open(&rig.pins.map(if v6 { FLOWS6 } else { FLOWS4 }))?;
        let verdict = if out.is_some() { verdicts.sent } else { verdicts.left };
        let mut new = Self { kind, flows, verdict, maker, table, frame: Vec::new() };
        new.make(rig)?;
        new.look(rig, out)?;
        Ok(new)
    }

    fn make(&mut self, rig: &Rig) -> Result<()> {
        match &mut self.kind {
            Kind::Known(both) => {
                for n in 0..self.flows {
                    let _ = self.maker.run(both[0].lay(n), 1)?;
                }
            }
            Kind::Ring(r) => r.make(rig, self.maker, &self.table)?,
            Kind::Fresh(_) | Kind::Frame(_) => {}
        }
        self.touch()
    }

    /// One packet of every flow: next hops are not older than a round.
    fn touch(&mut self) -> Result<()> {
        match &mut self.kind {
            Kind::Known(both) => {
                for n in 0..self.flows {
                    let run = self.maker.run(both[1].lay(n), 1)?;
                    ensure!(run.verdict == self.verdict, "flow {n}: verdict {}", run.verdict);
                }
            }
            Kind::Ring(r) => {
                for n in (0..self.flows).step_by(REPEAT as usize) {
                    let run = self.maker.run(&r.packet(n).frame(), REPEAT)?;
                    ensure!(run.verdict == self.verdict, "flow {n}: verdict {}", run.verdict);
                }
            }
            Kind::Fresh(_) | Kind::Frame(_) => {}
        }
        Ok(())
    }

    fn look(&mut self, rig: &Rig, out: Option<&Out>) -> Result<()> {
        if let Kind::Ring(r) = &self.kind {
            return r.look(self.maker);
        }
        let at = |s: &Spread, n: u32| {
            let p = s.packet(n);
            (p.frame(), out.map_or_else(|| p.frame(), |out| rig.leaves(&out(&p))))
        };
        for n in [0, self.flows - 1] {
            let (frame, want) = match &self.kind {
                Kind::Known(both) => at(&both[1], n),
                Kind::Fresh(open) => at(open, n),
                Kind::Frame(f) => (f.clone(), f.clone()),
                Kind::Ring(_) => continue,
            };
            let (run, got) = self.maker.run_out(&frame, 1).context("look at a packet")?;
            ensure!(run.verdict == self.verdict, "verdict {} where {} belongs", run.verdict, self.verdict);
            ensure!(got == want, "the packet of flow {n} came out wrong");
        }
        Ok(())
    }
}

impl Load for Traffic<'_> {
    fn prepare(&mut self) -> Result<()> {
        match self.kind {
            Kind::Known(_) | Kind::Ring(_) => self.touch(),
            Kind::Fresh(_) => self.table.empty(),
            Kind::Frame(_) => Ok(()),
        }
    }

    fn frame(&mut self, who: usize, n: usize) -> &[u8] {
        let start = who as u32 * (self.flows / SUBJECTS);
        let flow = |n: u32| start.wrapping_add(n).wrapping_mul(STRIDE) & (self.flows - 1);
        match &mut self.kind {
            Kind::Known(both) => both[1].lay(flow(n as u32)),
            Kind::Fresh(open) => open.lay(flow(n as u32)),
            Kind::Frame(f) => f,
            Kind::Ring(r) => {
                // Each call goes on where the last one of this subject stopped.
                let place = start.wrapping_add((n as u32).wrapping_mul(REPEAT)) & (self.flows - 1);
                self.frame = r.packet(place).frame();
                &self.frame
            }
        }
    }

    fn verdict(&self) -> i32 {
        self.verdict
    }
}
