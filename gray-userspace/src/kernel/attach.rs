//! Attaching: pinned links on interfaces (tcx, or clsact before Linux 6.6) and on a cgroup. An existing link gets the
//! new program in one step; foreign programs are never touched.

use std::{
    fs::{self, File},
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use aya::programs::tc::{
    NlOptions, SchedClassifierLink, TcAttachOptions, TcAttachType, TcHandle, qdisc_add_clsact,
};
use gray_common::names;

use super::{KernelError, bpf, link_name, object::Loaded, pins::Pins};
use crate::fail::{self, Point};

/// `enum bpf_attach_type`.
mod point {
    pub const TCX_INGRESS: u32 = 46;
    pub const TCX_EGRESS: u32 = 47;
    /// In the order of `names::CONNECT_PROGRAMS`.
    pub const CONNECT: [u32; 8] = [29, 30, 19, 20, 10, 11, 14, 15];
    pub const CALLS: u32 = 3;
    /// In the order of `names::MEASURE_PROGRAMS`.
    pub const MEASURE: [u32; 2] = [0, 1];
    pub const TRACE: u32 = 23;
    /// In the order of `names::TAG_PROGRAMS`.
    pub const TAGS: [u32; 3] = [3, 10, 11];
}

/// Where on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    Ingress,
    Egress,
}

/// How interfaces are hooked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Linux 6.6.
    Tcx,
    Clsact,
}

impl Hook {
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }
}

impl Direction {
    fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }

    pub(super) fn program(self) -> &'static str {
        match self {
            Self::Ingress => names::TC_INGRESS,
            Self::Egress => names::TC_EGRESS,
        }
    }

    /// The same program with the request path.
    fn reading(self) -> &'static str {
        match self {
            Self::Ingress => names::TC_INGRESS_READS,
            Self::Egress => names::TC_EGRESS_READS,
        }
    }

    fn tcx(self) -> u32 {
        match self {
            Self::Ingress => point::TCX_INGRESS,
            Self::Egress => point::TCX_EGRESS,
        }
    }

    fn clsact(self) -> TcAttachType {
        match self {
            Self::Ingress => TcAttachType::Ingress,
            Self::Egress => TcAttachType::Egress,
        }
    }
}

/// Our filter's place among clsact filters: late, so that others that classify first still do.
const PRIORITY: u16 = 40_000;
const HANDLE: u32 = 0x67;
/// `BPF_OBJ_NAME_LEN` without its end.
const OBJECT_NAME: usize = 15;

fn pin_name(iface: &str, d: Direction) -> String {
    link_name::of(&format!("tc-{}-", d.name()), iface)
}

/// Attaches to an interface (true), or brings an existing attachment to our program (false).
pub fn interface(
    pins: &Pins,
    loaded: &mut Loaded,
    hook: Hook,
    iface: &str,
    ifindex: u32,
    d: Direction,
) -> Result<bool, KernelError> {
    let failed = |e: std::io::Error| KernelError::Attach { what: format!("{iface} {}", d.name()), source: e };
    if hook == Hook::Clsact {
        return clsact(loaded, iface, d);
    }
    let program = loaded.program(d.program())?;
    let path = pins.link(&pin_name(iface, d));
    if let Some(link) = pins.open(&path)? {
        if bpf::link_tcx(link.as_fd()).map_err(failed)? == (ifindex, d.tcx()) {
            return bpf::link_update(link.as_fd(), program.as_fd()).map_err(failed).map(|()| false);
        }
        // The interface was deleted and made again: its old link hangs on nothing.
        pins.remove(&path)?;
    }
    let link = match bpf::link_create(program.as_fd(), ifindex, d.tcx()) {
        Ok(link) => link,
        Err(e) => {
            let link = under_another_name(pins, ifindex, d, &path)?.ok_or_else(|| failed(e))?;
            return bpf::link_update(link.as_fd(), program.as_fd()).map_err(failed).map(|()| false);
        }
    };
    fail::point(Point::KernelLink).map_err(failed)?;
    bpf::pin(link.as_fd(), &path).map_err(|e| KernelError::io("cannot pin", &path, e))?;
    Ok(true)
}

/// Our link that hangs on an interface which had another name: it is pinned by the one that it has now.
fn under_another_name(
    pins: &Pins,
    ifindex: u32,
    d: Direction,
    path: &Path,
) -> Result<Option<OwnedFd>, KernelError> {
    for name in pins.links() {
        let at = pins.link(&name);
        let Some(link) = pins.open(&at)? else { continue };
        if bpf::link_tcx(link.as_fd()).is_ok_and(|at| at == (ifindex, d.tcx())) {
            fs::rename(&at, path).map_err(|e| KernelError::io("cannot rename", &at, e))?;
            return Ok(Some(link));
        }
    }
    Ok(None)
}

/// Whether the pinned link still hangs on this interface.
pub fn is_attached(pins: &Pins, iface: &str, ifindex: u32, d: Direction) -> bool {
    pins.open(&pins.link(&pin_name(iface, d)))
        .ok()
        .flatten()
        .is_some_and(|l| bpf::link_tcx(l.as_fd()).is_ok_and(|at| at == (ifindex, d.tcx())))
}

fn clsact(loaded: &mut Loaded, iface: &str, d: Direction) -> Result<bool, KernelError> {
    let failed = |e: aya::programs::ProgramError| KernelError::Load {
        what: format!("{iface} {}", d.name()),
        source: e.into(),
    };
    // EEXIST: somebody has it already, which serves us too.
    let _ = qdisc_add_clsact(iface);
    let handle = TcHandle::from(HANDLE);
    let program = loaded.classifier(d.program())?;
    let existing = SchedClassifierLink::attached(iface, d.clsact(), PRIORITY, handle, None);
    let replaced = existing.map(|l| program.attach_to_link(l));
    let created = !matches!(replaced, Ok(Ok(_)));
    let id = match replaced {
        Ok(Ok(id)) => id,
        _ => program
            .attach_with_options(
                iface,
                d.clsact(),
                TcAttachOptions::Netlink(NlOptions { priority: PRIORITY, handle, classid: None }),
            )
            .map_err(failed)?,
    };
    // The filter stays when the agent goes: what lives in the kernel needs no owner.
    let _ = std::mem::ManuallyDrop::new(program.take_link(id).map_err(failed)?);
    Ok(created)
}

/// Removes our filters from an interface (clsact only; links go with their pins).
pub fn clear_clsact(iface: &str) -> Vec<String> {
    let mut done = Vec::new();
    for d in [Direction::Ingress, Direction::Egress] {
        // A filter is called as its program was by who attached it: one that was taken over has the kernel's name, which is cut off.
        let mut all =
            [d.program(), d.reading()].map(|name| [name, &name[..name.len().min(OBJECT_NAME)]]).concat();
        all.sort_unstable();
        all.dedup();
        let named = |name: &&str| aya::programs::tc::qdisc_detach_program(iface, d.clsact(), name).is_ok();
        if all.iter().filter(|name| named(name)).count() != 0 {
            done.push(format!("clsact {} {iface}", d.name()));
        }
    }
    done
}

/// Attaches the connect path to a cgroup, or brings existing links to our programs. Several agents and foreign
/// programs may share a cgroup: links are always in multi mode.
pub fn cgroup(pins: &Pins, loaded: &mut Loaded, path: &Path) -> Result<(), KernelError> {
    let (at, mut programs) = (Cgroup::open(path)?, names::CONNECT_PROGRAMS.iter().zip(point::CONNECT));
    programs.try_for_each(|(name, point)| at.attach(pins, loaded, name, point))
}

/// Attaches what counts and times calls; first what tells of resets, without which whoever refuses would look well (Linux 5.19).
pub fn calls(pins: &Pins, loaded: &mut Loaded, path: &Path) -> Result<(), KernelError> {
    trace(pins, loaded, (names::RESET_PROGRAM, names::RESET_POINT), TRACE_LINK)?;
    Cgroup::open(path)?.attach(pins, loaded, names::CALLS_PROGRAM, point::CALLS)
}

/// Attaches a program to its tracepoint. A link of this kind keeps its program: the new one is there before the old one goes.
fn trace(
    pins: &Pins,
    loaded: &mut Loaded,
    (program, point): (&str, &str),
    pin: &str,
) -> Result<(), KernelError> {
    let failed = |e: std::io::Error| KernelError::Attach { what: point.to_string(), source: e };
    let program = loaded.program(program)?;
    let pin = pins.link(pin);
    let link = bpf::link_create(program.as_fd(), 0, point::TRACE).map_err(failed)?;
    fail::point(Point::KernelLink).map_err(failed)?;
    pins.remove(&pin)?;
    bpf::pin(link.as_fd(), &pin).map_err(|e| KernelError::io("cannot pin", &pin, e))
}

/// Whether calls are counted on the cgroup with this id.
pub fn are_calls_attached(pins: &Pins, id: u64) -> bool {
    let there = pins.open(&pins.link(TRACE_LINK)).ok().flatten().is_some();
    there && hang_on(pins, id, [(&names::CALLS_PROGRAM, point::CALLS)].into_iter())
}

const TRACE_LINK: &str = "trace-reset";

/// The same for the programs that write tags.
pub fn tags(pins: &Pins, loaded: &mut Loaded, path: &Path) -> Result<(), KernelError> {
    let (at, mut programs) = (Cgroup::open(path)?, names::TAG_PROGRAMS.iter().zip(point::TAGS));
    programs.try_for_each(|(name, point)| at.attach(pins, loaded, name, point))
}

pub fn detach_tags(pins: &Pins) -> Result<(), KernelError> {
    names::TAG_PROGRAMS.iter().try_for_each(|name| pins.detach(&pins.link(&cgroup_link(name))))
}

/// The same for those that time first words.
pub fn measures(pins: &Pins, loaded: &mut Loaded, path: &Path) -> Result<(), KernelError> {
    let (at, mut programs) = (Cgroup::open(path)?, names::MEASURE_PROGRAMS.iter().zip(point::MEASURE));
    programs.try_for_each(|(name, point)| at.attach(pins, loaded, name, point))
}

pub fn detach_measures(pins: &Pins) -> Result<(), KernelError> {
    names::MEASURE_PROGRAMS.iter().try_for_each(|name| pins.detach(&pins.link(&cgroup_link(name))))
}

/// What links are made by: first what tells of threads, without which nothing would be told of a socket.
pub fn links(pins: &Pins, loaded: &mut Loaded, path: &Path) -> Result<(), KernelError> {
    let mut all = names::LINK_TRACES.iter();
    all.try_for_each(|at| trace(pins, loaded, *at, &trace_link(at.0)))?;
    Cgroup::open(path)?.attach(pins, loaded, names::LINK_PROGRAM, point::CALLS)
}

pub fn detach_links(pins: &Pins) -> Result<(), KernelError> {
    pins.detach(&pins.link(&cgroup_link(names::LINK_PROGRAM)))?;
    names::LINK_TRACES.iter().try_for_each(|(name, _)| pins.remove(&pins.link(&trace_link(name))))
}

/// Whether all of that is there, on the cgroup with this id.
pub fn are_links_attached(pins: &Pins, id: u64) -> bool {
    let is_there = |name: &str| pins.open(&pins.link(&trace_link(name))).ok().flatten().is_some();
    names::LINK_TRACES.iter().all(|(name, _)| is_there(name))
        && hang_on(pins, id, [(&names::LINK_PROGRAM, point::CALLS)].into_iter())
}

fn trace_link(program: &str) -> String {
    format!("trace-{program}")
}

fn cgroup_link(program: &str) -> String {
    format!("cgroup-{program}")
}

struct Cgroup<'a> {
    path: &'a Path,
    dir: File,
    id: u64,
}

impl<'a> Cgroup<'a> {
    fn open(path: &'a Path) -> Result<Self, KernelError> {
        let dir = File::open(path).map_err(|e| KernelError::io("cannot open the cgroup", path, e))?;
        let id = dir.metadata().map_err(|e| KernelError::io("cannot read the cgroup", path, e))?.ino();
        Ok(Self { path, dir, id })
    }

    fn attach(&self, pins: &Pins, loaded: &mut Loaded, name: &str, point: u32) -> Result<(), KernelError> {
        let failed = |e: std::io::Error| KernelError::Attach {
            what: format!("{name} at {}", self.path.display()),
            source: e,
        };
        let program = loaded.program(name)?;
        let pin = pins.link(&cgroup_link(name));
        if let Some(link) = pins.open(&pin)? {
            if bpf::link_cgroup(link.as_fd()).map_err(failed)? == (self.id, point) {
                return bpf::link_update(link.as_fd(), program.as_fd()).map_err(failed);
            }
            pins.remove(&pin)?;
        }
        let link: OwnedFd =
            bpf::link_create(program.as_fd(), self.dir.as_raw_fd() as u32, point).map_err(failed)?;
        fail::point(Point::KernelLink).map_err(failed)?;
        bpf::pin(link.as_fd(), &pin).map_err(|e| KernelError::io("cannot pin", &pin, e))
    }
}

/// Whether all links of the connect path hang on the cgroup with this id. Those of one that was removed hang on none.
pub fn is_cgroup_attached(pins: &Pins, id: u64) -> bool {
    hang_on(pins, id, names::CONNECT_PROGRAMS.iter().zip(point::CONNECT))
}

/// The same of the programs that write tags.
pub fn are_tags_attached(pins: &Pins, id: u64) -> bool {
    hang_on(pins, id, names::TAG_PROGRAMS.iter().zip(point::TAGS))
}

/// The same of those that time first words.
pub fn are_measures_attached(pins: &Pins, id: u64) -> bool {
    hang_on(pins, id, names::MEASURE_PROGRAMS.iter().zip(point::MEASURE))
}

fn hang_on<'a>(pins: &Pins, id: u64, mut links: impl Iterator<Item = (&'a &'a str, u32)>) -> bool {
    links.all(|(name, attach_type)| {
        let link = pins.open(&pins.link(&cgroup_link(name))).ok().flatten();
        link.is_some_and(|l| bpf::link_cgroup(l.as_fd()).is_ok_and(|at| at == (id, attach_type)))
    })
}

/// Removes links that no wanted attachment explains. `wanted`: interfaces with their directions.
pub fn prune(pins: &Pins, wanted: &[(String, Direction)], connect: bool) -> Result<Vec<String>, KernelError> {
    // XDP is taken off by itself (`agent::front`), when nothing sends there any more.
    let keep: Vec<String> = wanted.iter().map(|(i, d)| pin_name(i, *d)).collect();
    let mut gone = Vec::new();
    for name in pins.links() {
        let stays = match name.split('-').next() {
            Some("cgroup" | "trace") => connect,
            Some("xdp") => true,
            _ => keep.contains(&name),
        };
        if !stays {
            pins.detach(&pins.link(&name))?;
            gone.push(name);
        }
    }
    Ok(gone)
}
