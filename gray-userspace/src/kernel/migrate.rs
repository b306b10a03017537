//! Between two ABI numbers: which maps are shared, where the flows of the other one are, and `gray migrate`, which leaves everything as
//! an agent of the other number takes it over (docs/adr/0017-layouts-of-other-numbers.md).

use std::os::fd::AsFd as _;

use gray_common::{
    abi::ABI,
    layouts::{self, Other, OtherFlow4, OtherFlow6},
    names::{self, MAPS, MapSpec},
    wire::{Flow4, Flow6, FlowKey4, FlowKey6},
};

use super::{
    Hook, KernelError, Live, bpf, live,
    moving::{self, Before, Moved},
    object::Parts,
    pins::Pins,
};
use crate::fail::{self, Point};

/// Value sizes of another ABI's flows.
fn value(spec: &MapSpec) -> u32 {
    let v4 = spec.name == names::FLOWS4;
    (if v4 { size_of::<OtherFlow4>() } else { size_of::<OtherFlow6>() }) as u32
}

/// The flow table of another ABI, to move from.
pub fn flows_of(other: &Pins, spec: &MapSpec) -> Result<Option<Before>, KernelError> {
    let path = other.next_map(spec.name);
    if other.open(&path)?.is_some() {
        return Err(KernelError::HalfWay { path, abi: other.abi() });
    }
    let path = other.map(spec.name);
    let shape = moving::shape(other, &MapSpec { value: value(spec), ..*spec }, &path)?;
    Ok(shape.map(|s| Before { path, abi: other.abi(), entries: s.entries }))
}

/// Pins there what both have in common: the same maps under both numbers. What is there already stays.
pub fn share(from: &Pins, to: &Pins) -> Result<(), KernelError> {
    to.make_dirs()?;
    for spec in MAPS.iter().filter(|m| layouts::is_shared(m.name)) {
        let path = to.map(spec.name);
        let (Some(map), None) = (from.open(&from.map(spec.name))?, to.open(&path)?) else { continue };
        bpf::pin(map.as_fd(), &path).map_err(|e| KernelError::io("cannot pin", &path, e))?;
    }
    fail::point(Point::MigrateShared).map_err(point)
}

fn point(source: std::io::Error) -> KernelError {
    KernelError::Write { what: "the pins".into(), source }
}

pub fn read4(f: &OtherFlow4) -> Flow4 {
    let mut ours = Flow4::default();
    f.read(&mut ours);
    ours
}

pub fn read6(f: &OtherFlow6) -> Flow6 {
    let mut ours = Flow6::default();
    f.read(&mut ours);
    ours
}

pub fn write4(f: &Flow4) -> OtherFlow4 {
    let mut theirs = OtherFlow4::default();
    theirs.write(f);
    theirs
}

pub fn write6(f: &Flow6) -> OtherFlow6 {
    let mut theirs = OtherFlow6::default();
    theirs.write(f);
    theirs
}

/// Makes of our pins those of another ABI, which its agent finds as if one of its own had left them. Until then our programs
/// go on, over the flow tables of both. No agent runs.
pub fn migrate_to(pins: &Pins, abi: u32, hook: Hook) -> Result<Moved, KernelError> {
    let other = pins.of(abi);
    share(pins, &other)?;
    // Of a migration that was cut short some are there already.
    other.hand_over_links(pins)?;
    let mut tables = moving::adopted(pins, gray_common::limits::FLOWS)?;
    for (table, spec) in tables.iter_mut().zip(moving::specs()) {
        let next = pins.next_map(spec.name);
        if pins.open(&next)?.is_some() {
            return Err(KernelError::HalfWay { path: next, abi: ABI });
        }
        let path = other.map(spec.name);
        let there = flows_of(&other, spec)?;
        table.before = Some(there.unwrap_or(Before { path, abi, entries: table.entries }));
    }
    // What nobody asked for is not opened, in between, to tags of strangers.
    let parts = Parts { reads: true, ..live::did(pins)? };
    let mut live = Live::open_over(pins.clone(), tables, hook, parts)?;
    live.relink_packet_programs()?;
    let others = live.strangers()?;
    if !others.is_empty() {
        return Err(KernelError::Stays { places: others.join(", ") });
    }
    let moved = live.copy_out()?;
    fail::point(Point::MigrateCopied).map_err(point)?;
    pins.hand_over_links(&other)?;
    fail::point(Point::MigrateHanded).map_err(point)?;
    pins.remove_all()?;
    Ok(moved)
}

/// Copies between a pair of tables of two numbers, either way.
pub fn copy_in4(
    from: &bpf::Map<FlowKey4, OtherFlow4>,
    to: &bpf::Map<FlowKey4, Flow4>,
    at: &moving::When,
) -> std::io::Result<Moved> {
    moving::copy(from, to, read4, |f| *f, at)
}

pub fn copy_in6(
    from: &bpf::Map<FlowKey6, OtherFlow6>,
    to: &bpf::Map<FlowKey6, Flow6>,
    at: &moving::When,
) -> std::io::Result<Moved> {
    moving::copy(from, to, read6, |f| *f, at)
}

pub fn copy_out4(
    from: &bpf::Map<FlowKey4, Flow4>,
    to: &bpf::Map<FlowKey4, OtherFlow4>,
    at: &moving::When,
) -> std::io::Result<Moved> {
    moving::copy(from, to, |f| *f, write4, at)
}

pub fn copy_out6(
    from: &bpf::Map<FlowKey6, Flow6>,
    to: &bpf::Map<FlowKey6, OtherFlow6>,
    at: &moving::When,
) -> std::io::Result<Moved> {
    moving::copy(from, to, |f| *f, write6, at)
}
