//! Flow tables that move to others of another size: where each is pinned meanwhile, and the copy. Programs over both run while
//! this goes on (`gray-ebpf`, `maps/flows.rs`); who attaches them is the agent's business (docs/adr/0016-flow-tables-move.md).

mod entries;

use std::{
    io,
    ops::AddAssign,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use gray_common::{
    abi::ABI,
    names::{self, MAPS, MapSpec},
    wire::{Clock, MOVING4, MOVING4_OTHER, MOVING6, MOVING6_OTHER, Wire},
};

pub use self::entries::Tuple;
use self::entries::{Chosen, choose};
use super::{
    KernelError,
    bpf::{self, Map, Shape},
    migrate,
    pins::Pins,
};
use crate::fail::{self, Point};

pub const TABLES: [&str; 2] = [names::FLOWS4, names::FLOWS6];

/// One address family's flow table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowTable {
    pub name: &'static str,
    /// Its pin.
    pub now: PathBuf,
    pub entries: u32,
    /// The one that it takes over from.
    pub before: Option<Before>,
}

/// A table that another takes over from, or (`migrate`) that takes over from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Before {
    /// Its pin.
    pub path: PathBuf,
    /// Whose layout its entries have.
    pub abi: u32,
    pub entries: u32,
}

/// What became of the entries of a table that moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    pub copied: u64,
    /// Fetched by the programs before the copy came to them.
    pub fetched: u64,
    /// Of connections that have ended.
    pub ended: u64,
    /// The least recently used, for which there was no room.
    pub left_out: u64,
}

impl AddAssign for Moved {
    fn add_assign(&mut self, o: Self) {
        self.copied += o.copied;
        self.fetched += o.fetched;
        self.ended += o.ended;
        self.left_out += o.left_out;
    }
}

impl FlowTable {
    /// As the programs call the other one, and the bit that says that there is one.
    pub fn before_name(&self, before: &Before) -> (&'static str, u32) {
        match (self.name == names::FLOWS4, before.abi == ABI) {
            (true, true) => ("FLOWS4_BEFORE", MOVING4),
            (false, true) => ("FLOWS6_BEFORE", MOVING6),
            (true, false) => ("FLOWS4_OTHER", MOVING4_OTHER),
            (false, false) => ("FLOWS6_OTHER", MOVING6_OTHER),
        }
    }

    /// As it is pinned, whatever its size; of `flows` entries where there is none.
    fn adopted(pins: &Pins, spec: &MapSpec, flows: u32) -> Result<Self, KernelError> {
        let now = pins.map(spec.name);
        let entries = shape(pins, spec, &now)?.map_or(flows, |s| s.entries);
        Ok(Self { name: spec.name, now, entries, before: None })
    }

    /// On its way to `flows` entries; first to where a move that was cut short was going.
    fn towards(pins: &Pins, spec: &MapSpec, flows: u32) -> Result<Self, KernelError> {
        let adopted = Self::adopted(pins, spec, flows)?;
        if let Some(other) = pins.others() {
            return Ok(Self { before: migrate::flows_of(&other, spec)?, ..adopted });
        }
        let next = pins.next_map(spec.name);
        let begun = shape(pins, spec, &next)?;
        if adopted.entries == flows && begun.is_none() {
            return Ok(adopted);
        }
        let entries = begun.map_or(flows, |s| s.entries);
        let before = Before { path: adopted.now, abi: ABI, entries: adopted.entries };
        Ok(Self { name: spec.name, now: next, entries, before: Some(before) })
    }

    /// When all is over.
    pub fn settled(&self, pins: &Pins) -> Self {
        Self { now: pins.map(self.name), before: None, ..self.clone() }
    }
}

/// A pinned map's shape, and `None` when there is none; refuses one of another kind.
pub fn shape(pins: &Pins, spec: &MapSpec, path: &Path) -> Result<Option<Shape>, KernelError> {
    let Some(fd) = pins.open(path)? else { return Ok(None) };
    let shape = bpf::map_shape(fd.as_fd()).map_err(|e| KernelError::io("cannot inspect", path, e))?;
    if shape.kind != spec.kind as u32 || (shape.key, shape.value) != (spec.key, spec.value) {
        return Err(KernelError::ForeignMap { path: path.into() });
    }
    Ok(Some(shape))
}

pub fn specs() -> impl Iterator<Item = &'static MapSpec> {
    MAPS.iter().filter(|m| TABLES.contains(&m.name))
}

/// The tables as they are pinned.
pub fn adopted(pins: &Pins, flows: u32) -> Result<Vec<FlowTable>, KernelError> {
    specs().map(|s| FlowTable::adopted(pins, s, flows)).collect()
}

/// The tables on their way to this size.
pub fn towards(pins: &Pins, flows: u32) -> Result<Vec<FlowTable>, KernelError> {
    specs().map(|s| FlowTable::towards(pins, s, flows)).collect()
}

/// Entries added between two looks at what was removed meanwhile.
const PART: usize = 2048;

/// Copies what lives and is not there yet. Every run that began now is over both tables. `read` and `write`: between theirs and
/// our layout, where one of the two is of another ABI.
pub fn copy<K: Tuple, A: Wire, B: Wire>(
    from: &Map<K, A>,
    to: &Map<K, B>,
    read: impl Fn(&A) -> K::Flow,
    write: impl Fn(&K::Flow) -> B + Sync,
    at: &When,
) -> io::Result<Moved> {
    let mut all = Vec::new();
    from.for_each(|k, f| all.push((k, read(&f))))?;
    let Chosen { keep, ended, left_out } = choose(all, at.clock.jiffies as u32, at.hz, room(to, at.cpus));
    let parts: Vec<&[(K, K::Flow)]> = keep.chunks(PART).collect();
    let copied = AtomicU64::new(0);
    let turn = |first: usize| {
        parts.iter().skip(first).step_by(2).try_for_each(|part| {
            fail::point(Point::MovePart)?;
            let _ = copied.fetch_add(add(from, to, &write, part)?, Ordering::Relaxed);
            Ok(())
        })
    };
    std::thread::scope(|s| {
        let other = s.spawn(|| turn(1));
        let own = turn(0);
        let other: io::Result<()> = other.join().unwrap_or_else(|_| Err(io::Error::other("a writer died")));
        own.and(other)
    })?;
    let copied = copied.into_inner();
    Ok(Moved { copied, fetched: keep.len() as u64 - copied, ended, left_out })
}

/// What tells how old entries are, and how many CPUs have free ones.
#[derive(Clone, Copy, Debug)]
pub struct When {
    pub clock: Clock,
    pub hz: u32,
    pub cpus: usize,
}

/// Entries that fit without one being forgotten for another: the kernel deals free ones to its CPUs by up to 128
/// (`LOCAL_FREE_TARGET`, kernel/bpf/bpf_lru_list.c).
fn room<K: Tuple, B: Wire>(to: &Map<K, B>, cpus: usize) -> usize {
    let entries = to.shape().entries as usize;
    entries - (128 * cpus).min(entries / 4)
}

fn add<K: Tuple, A: Wire, B: Wire>(
    from: &Map<K, A>,
    to: &Map<K, B>,
    write: impl Fn(&K::Flow) -> B,
    part: &[(K, K::Flow)],
) -> io::Result<u64> {
    let mut added = Vec::with_capacity(part.len());
    for (k, f) in part {
        if to.add(k, &write(f))? {
            added.push((k, f));
        }
    }
    // What a program removed from both since it was read is not to come back: the client's next connection would find the
    // answer of the last one.
    for (k, _) in added.iter().filter(|(_, f)| K::is_forward(f)) {
        if from.lookup(k)?.is_none() {
            to.delete(k)?;
        }
    }
    Ok(added.len() as u64)
}
