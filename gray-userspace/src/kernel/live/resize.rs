//! The flow tables on their way to another size: programs over both, the copy, programs over the new ones alone, the pins.

use std::os::fd::AsFd as _;

use gray_common::{
    names,
    wire::{FlowKey4, FlowKey6},
};

use super::{Live, failed, open_at, open_flows};
use crate::{
    fail::{self, Point},
    kernel::{
        Hook, KernelError, Pins, bpf,
        moving::{self, Moved},
        object,
    },
};

impl Live {
    /// As [`Live::open`], towards flow tables of this size: where others are pinned, the programs are over both, and attaching
    /// them begins the move.
    pub fn open_towards(pins: Pins, flows: u32, hook: Hook) -> Result<Self, KernelError> {
        let tables = moving::towards(&pins, flows)?;
        let live = Self::open_over(pins, tables, hook)?;
        if live.moves() {
            fail::point(Point::MoveBegun).map_err(failed("the flow tables"))?;
        }
        Ok(live)
    }

    /// Whether the programs are over two tables.
    pub fn moves(&self) -> bool {
        self.tables.iter().any(|t| t.before.is_some())
    }

    /// Links of packet programs that are not these: what they do with the flow tables, these do not know.
    pub fn strangers(&self) -> Result<Vec<String>, KernelError> {
        let ours = self.loaded.packet_programs()?;
        let mut others = Vec::new();
        for name in self.pins.links() {
            let path = self.pins.link(&name);
            let Some(link) = self.pins.open(&path)? else { continue };
            let (program, on) =
                bpf::link_program(link.as_fd()).map_err(|e| KernelError::io("cannot inspect", &path, e))?;
            if on.is_some_and(|ifindex| ifindex != 0) && !ours.contains(&program) {
                others.push(name);
            }
        }
        Ok(others)
    }

    /// Copies what lives. To be called when nothing is attached but programs over both tables.
    pub fn copy_flows(&mut self) -> Result<Moved, KernelError> {
        let what = failed("the flows");
        bpf::wait_for_runs().map_err(failed("the end of runs"))?;
        let (clock, hz, cpus) = (self.clock()?, self.control().hz, self.cpus);
        let mut sum = Moved::default();
        for t in &self.tables {
            let Some(before) = &t.before else { continue };
            let one = if t.name == names::FLOWS4 {
                let before = open_at(&self.pins, before.clone())?;
                moving::copy::<FlowKey4>(&before, &self.maps.flows4, clock, hz, cpus)
            } else {
                let before = open_at(&self.pins, before.clone())?;
                moving::copy::<FlowKey6>(&before, &self.maps.flows6, clock, hz, cpus)
            };
            match one {
                Ok(one) => sum += one,
                Err(e) => return Err(what(e)),
            }
        }
        fail::point(Point::MoveCopied).map_err(failed("the flows"))?;
        Ok(sum)
    }

    /// Programs over the new tables alone, to be attached in the place of the others.
    pub fn leave_old_tables(&mut self) -> Result<(), KernelError> {
        let alone: Vec<_> =
            self.tables.iter().map(|t| moving::FlowTable { before: None, ..t.clone() }).collect();
        self.loaded = object::load(&self.pins, &alone)?;
        Ok(())
    }

    /// The new tables take the old ones' place. To be called when nothing is attached but programs over the new ones alone.
    pub fn end_move(&mut self) -> Result<(), KernelError> {
        bpf::wait_for_runs().map_err(failed("the end of runs"))?;
        for t in &mut self.tables {
            if t.before.is_some() {
                self.pins.put_in_place(t.name)?;
                *t = t.settled(&self.pins);
                fail::point(Point::MovePlaced).map_err(failed("the flow tables"))?;
            }
        }
        Ok(())
    }

    /// After a move to a size that an earlier agent wanted: on to this one. False: it is there.
    pub fn move_on(&mut self, flows: u32) -> Result<bool, KernelError> {
        let tables = moving::towards(&self.pins, flows)?;
        if tables == self.tables {
            return Ok(false);
        }
        self.loaded = object::load(&self.pins, &tables)?;
        self.maps.flows4 = open_flows(&self.pins, &tables, names::FLOWS4)?;
        self.maps.flows6 = open_flows(&self.pins, &tables, names::FLOWS6)?;
        self.tables = tables;
        Ok(true)
    }

    pub(super) fn forget_before(&self, v4: &[FlowKey4], v6: &[FlowKey6]) -> Result<(), KernelError> {
        for t in &self.tables {
            let Some(before) = &t.before else { continue };
            if t.name == names::FLOWS4 {
                open_at::<FlowKey4, gray_common::wire::Flow4>(&self.pins, before.clone())?.delete_all(v4)
            } else {
                open_at::<FlowKey6, gray_common::wire::Flow6>(&self.pins, before.clone())?.delete_all(v6)
            }
            .map_err(failed("the flows"))?;
        }
        Ok(())
    }
}
