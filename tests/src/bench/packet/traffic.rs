//! What a row sends: packets of flows that exist, opening packets of flows that do not, or one frame of no concern.

use anyhow::{Context, Result, ensure};
use gray_common::names::{FLOWS4, FLOWS6};

use super::{rounds::Load, spread::Spread, table::Table, testrun::Program};
use crate::packets::{
    case::{NEXT, REDIRECT},
    frame::Packet,
    rig::Rig,
};

/// Odd: multiplied by it, the numbers below a power of two come in an order that no prefetcher guesses.
const STRIDE: u32 = 0x9E37_79B1;
/// Distance of two subjects in the flows, as a part of them.
const SUBJECTS: u32 = 4;

pub enum Kind {
    /// Flows made by opening packets and one packet each of `sent`; then packets of `sent`.
    Known { open: Spread, sent: Spread },
    /// Every packet opens a flow; the table is emptied before each round.
    Fresh { open: Spread },
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
}

impl<'a> Traffic<'a> {
    /// Makes the flows, in tables that hold no others, and looks at one packet closely: `out` is what must become of
    /// it, `None`: nothing.
    pub fn new(
        rig: &Rig,
        maker: &'a Program,
        kind: Kind,
        flows: u32,
        out: Option<&dyn Fn(&Packet) -> Packet>,
    ) -> Result<Self> {
        ensure!(flows.is_power_of_two(), "{flows} flows: no power of two");
        for name in [FLOWS4, FLOWS6] {
            Table::open(&rig.pins.map(name))?.empty()?;
        }
        let v6 = match &kind {
            Kind::Known { sent: s, .. } | Kind::Fresh { open: s } => s.packet(0).src.is_ipv6(),
            Kind::Frame(_) => false,
        };
        let table = Table::open(&rig.pins.map(if v6 { FLOWS6 } else { FLOWS4 }))?;
        let verdict = if out.is_some() { REDIRECT } else { NEXT };
        let mut new = Self { kind, flows, verdict, maker, table };
        new.make()?;
        new.look(rig, out)?;
        Ok(new)
    }

    fn make(&mut self) -> Result<()> {
        if let Kind::Known { open, .. } = &mut self.kind {
            for n in 0..self.flows {
                let _ = self.maker.run(open.lay(n))?;
            }
        }
        self.touch()
    }

    /// One packet of every flow: next hops are not older than a round.
    fn touch(&mut self) -> Result<()> {
        if let Kind::Known { sent, .. } = &mut self.kind {
            for n in 0..self.flows {
                let run = self.maker.run(sent.lay(n))?;
                ensure!(run.verdict == self.verdict, "flow {n}: verdict {}", run.verdict);
            }
        }
        Ok(())
    }

    fn look(&mut self, rig: &Rig, out: Option<&dyn Fn(&Packet) -> Packet>) -> Result<()> {
        for n in [0, self.flows - 1] {
            let (frame, want) = match &self.kind {
                Kind::Known { sent: s, .. } | Kind::Fresh { open: s } => {
                    let p = s.packet(n);
                    (p.frame(), out.map_or_else(|| p.frame(), |out| rig.leaves(&out(&p))))
                }
                Kind::Frame(f) => (f.clone(), f.clone()),
            };
            let (run, got) = self.maker.run_out(&frame).context("look at a packet")?;
            ensure!(run.verdict == self.verdict, "verdict {} where {} belongs", run.verdict, self.verdict);
            ensure!(got == want, "the packet of flow {n} came out wrong");
        }
        Ok(())
    }
}

impl Load for Traffic<'_> {
    fn prepare(&mut self) -> Result<()> {
        match self.kind {
            Kind::Known { .. } => self.touch(),
            Kind::Fresh { .. } => self.table.empty(),
            Kind::Frame(_) => Ok(()),
        }
    }

    fn frame(&mut self, who: usize, n: usize) -> &[u8] {
        let at = (who as u32 * (self.flows / SUBJECTS)).wrapping_add(n as u32);
        let flow = at.wrapping_mul(STRIDE) & (self.flows - 1);
        match &mut self.kind {
            Kind::Known { sent: s, .. } | Kind::Fresh { open: s } => s.lay(flow),
            Kind::Frame(f) => f,
        }
    }

    fn verdict(&self) -> i32 {
        self.verdict
    }
}
