//! The flow tables on their way to another size: programs over both, the copy, programs over the new ones alone, the pins.

use std::os::fd::AsFd as _;

use gray_common::{
    abi::ABI,
    layouts::{OtherFlow4, OtherFlow6},
    names,
    wire::{CONTROL_READS, CONTROL_TAGS, Control, Flow4, Flow6, FlowKey4, FlowKey6},
};

use super::{
    super::maps::{failed, open_at, open_flows},
    Live,
};
use crate::{
    fail::{self, Point},
    kernel::{
        Hook, KernelError, Pins,
        bpf::{self, Map},
        migrate,
        moving::{self, Before, Moved, When},
        object::{self, Parts},
    },
};

/// What programs over these pins have done.
pub(in crate::kernel) fn did(pins: &Pins) -> Result<Parts, KernelError> {
    let path = pins.map(names::CONTROL);
    let Some(fd) = pins.open(&path)? else { return Ok(Parts::default()) };
    let control: Map<u32, Control> =
        Map::new(fd).map_err(|e| KernelError::io("cannot use the map", &path, e))?;
    let flags = control.lookup(&0).map_err(failed("the control element"))?.map_or(0, |c| c.flags);
    Ok(Parts { reads: flags & CONTROL_READS != 0, tags: flags & CONTROL_TAGS != 0, ..Parts::default() })
}

impl Live {
    /// As [`Live::open`], towards flow tables of this size: where others are pinned, the programs are over both, and attaching
    /// them begins the move. `wanted` says nothing of the request path, which is there once it was.
    pub fn open_towards(pins: Pins, flows: u32, hook: Hook, wanted: Parts) -> Result<Self, KernelError> {
        if let Some(other) = pins.others() {
            migrate::share(&other, &pins)?;
            other.hand_over_links(&pins)?;
        }
        let tables = moving::towards(&pins, flows)?;
        let tags = wanted.tags;
        let reads = did(&pins)?.reads;
        let mut live = Self::open_over(pins, tables, hook, Parts { reads, ..wanted })?;
        // Before any is attached: who stands in for them must know.
        live.configure(|c| c.flags = c.flags & !CONTROL_TAGS | if tags { CONTROL_TAGS } else { 0 });
        if live.moves() {
            fail::point(Point::MoveBegun).map_err(failed("the flow tables"))?;
        }
        Ok(live)
    }

    /// Loads packet programs that read requests, to be attached in the place of those that do not. False: these do.
    pub fn read_requests(&mut self) -> Result<bool, KernelError> {
        if !self.loaded.read_requests()? {
            return Ok(false);
        }
        // Before any is attached: the next agent must know.
        self.configure(|c| c.flags |= CONTROL_READS);
        Ok(true)
    }

    /// Whether the packet programs read requests.
    pub fn reads(&self) -> bool {
        self.loaded.parts().reads
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
        let at = self.when()?;
        let mut sum = Moved::default();
        for t in &self.tables {
            let Some(Before { path, abi, .. }) = t.before.clone() else { continue };
            let (pins, v4, v6) = (&self.pins, &self.maps.flows4, &self.maps.flows6);
            sum += match (t.name == names::FLOWS4, abi == ABI) {
                (true, true) => moving::copy(&open_at(pins, path)?, v4, |f| *f, |f| *f, &at),
                (false, true) => moving::copy(&open_at(pins, path)?, v6, |f| *f, |f| *f, &at),
                (true, false) => migrate::copy_in4(&open_at(pins, path)?, v4, &at),
                (false, false) => migrate::copy_in6(&open_at(pins, path)?, v6, &at),
            }
            .map_err(failed("the flows"))?;
        }
        fail::point(Point::MoveCopied).map_err(failed("the flows"))?;
        Ok(sum)
    }

    /// The other way, for an agent of another ABI.
    pub fn copy_out(&mut self) -> Result<Moved, KernelError> {
        let at = self.when()?;
        let mut sum = Moved::default();
        for t in &self.tables {
            let Some(Before { path, .. }) = t.before.clone() else { continue };
            sum += match t.name == names::FLOWS4 {
                true => migrate::copy_out4(&self.maps.flows4, &open_at(&self.pins, path)?, &at),
                false => migrate::copy_out6(&self.maps.flows6, &open_at(&self.pins, path)?, &at),
            }
            .map_err(failed("the flows"))?;
        }
        Ok(sum)
    }

    /// When every run that is going on began after this call, and the age of entries then.
    fn when(&mut self) -> Result<When, KernelError> {
        bpf::wait_for_runs().map_err(failed("the end of runs"))?;
        Ok(When { clock: self.clock()?, hz: self.control().hz, cpus: self.cpus })
    }

    /// Every link of a packet program gets ours, whoever asked for it.
    pub fn relink_packet_programs(&mut self) -> Result<(), KernelError> {
        for name in self.pins.links() {
            let program = match name.split('-').next() {
                Some("xdp") => names::XDP,
                Some("tc") if name.starts_with("tc-egress-") => names::TC_EGRESS,
                Some("tc") => names::TC_INGRESS,
                _ => continue,
            };
            let path = self.pins.link(&name);
            let Some(link) = self.pins.open(&path)? else { continue };
            // What is no link of ours, or of an interface that is gone, stays: `strangers` tells one from the other.
            let _ = bpf::link_update(link.as_fd(), self.loaded.program(program)?.as_fd());
        }
        Ok(())
    }

    /// Programs over the new tables alone, to be attached in the place of the others.
    pub fn leave_old_tables(&mut self) -> Result<(), KernelError> {
        let alone: Vec<_> =
            self.tables.iter().map(|t| moving::FlowTable { before: None, ..t.clone() }).collect();
        self.loaded = object::load(&self.pins, &alone, self.loaded.parts())?;
        Ok(())
    }

    /// The new tables take the old ones' place. To be called when nothing is attached but programs over the new ones alone.
    pub fn end_move(&mut self) -> Result<(), KernelError> {
        bpf::wait_for_runs().map_err(failed("the end of runs"))?;
        for t in &mut self.tables {
            if t.before.is_some() {
                if t.now != self.pins.map(t.name) {
                    self.pins.put_in_place(t.name)?;
                }
                *t = t.settled(&self.pins);
                fail::point(Point::MovePlaced).map_err(failed("the flow tables"))?;
            }
        }
        self.forget_others()
    }

    /// Removes the pins of another ABI, from which all has moved.
    pub fn forget_others(&self) -> Result<(), KernelError> {
        self.pins.others().map_or(Ok(()), |other| other.remove_all())
    }

    /// After a move to a size that an earlier agent wanted: on to this one. False: it is there.
    pub fn move_on(&mut self, flows: u32) -> Result<bool, KernelError> {
        let tables = moving::towards(&self.pins, flows)?;
        if tables == self.tables {
            return Ok(false);
        }
        self.loaded = object::load(&self.pins, &tables, self.loaded.parts())?;
        self.maps.flows4 = open_flows(&self.pins, &tables, names::FLOWS4)?;
        self.maps.flows6 = open_flows(&self.pins, &tables, names::FLOWS6)?;
        self.tables = tables;
        Ok(true)
    }

    pub(super) fn forget_before(&self, v4: &[FlowKey4], v6: &[FlowKey6]) -> Result<(), KernelError> {
        for t in &self.tables {
            let Some(Before { path, abi, .. }) = t.before.clone() else { continue };
            let pins = &self.pins;
            match (t.name == names::FLOWS4, abi == ABI) {
                (true, true) => open_at::<FlowKey4, Flow4>(pins, path)?.delete_all(v4),
                (false, true) => open_at::<FlowKey6, Flow6>(pins, path)?.delete_all(v6),
                (true, false) => open_at::<FlowKey4, OtherFlow4>(pins, path)?.delete_all(v4),
                (false, false) => open_at::<FlowKey6, OtherFlow6>(pins, path)?.delete_all(v6),
            }
            .map_err(failed("the flows"))?;
        }
        Ok(())
    }
}
