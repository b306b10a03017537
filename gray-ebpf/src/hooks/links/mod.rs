//! The link of a workload (docs/adr/0028-links.md): what a thread reads decides the lane of what it calls. Which cgroups have one, and
//! what that comes to for the calling thread.

pub mod sockets;
pub mod threads;

use gray_common::{
    Reason,
    wire::{Thread, Workload},
};

use crate::{
    ctx::{
        sock::{cgroup, labelled},
        trace::task,
    },
    emit, maps,
};

/// What is remembered of a cgroup. Not shared with user space, not pinned.
#[derive(Clone, Copy)]
pub struct Mode {
    /// Of which `LINKS` this is.
    at: u64,
    /// The labelled cgroup.
    label: u64,
    /// `LINK_*`; 0: none.
    link: u32,
    _pad: u32,
}

/// When links were set last; 0: no workload has one.
#[inline(always)]
fn set_at() -> u64 {
    // SAFETY: a plain aligned load of a map's element.
    maps::LINKS.get(0).map_or(0, |at| unsafe { core::ptr::read_volatile(at) })
}

#[inline(always)]
pub fn are_there() -> bool {
    set_at() != 0
}

/// The link of the calling task's workload, if it has one. One lookup, but for the first time.
#[inline(always)]
fn mode() -> Option<&'static Mode> {
    let at = set_at();
    if at == 0 {
        return None;
    }
    let own = cgroup();
    // SAFETY: elements stay readable for the run.
    if let Some(m) = unsafe { maps::LINK_MODES.get(&own) }.filter(|m| m.at == at) {
        return if m.link == 0 { None } else { Some(m) };
    }
    if look(own, at) == 0 {
        return None;
    }
    // SAFETY: as above.
    unsafe { maps::LINK_MODES.get(&own) }
}

/// Looks a cgroup's link up, and keeps it. Of a workload with a lane of its own there is none to ask for.
///
/// Exported, and so checked once by itself, as those below.
#[unsafe(export_name = "gray_link_mode")]
#[inline(never)]
pub extern "C" fn look(own: u64, at: u64) -> u32 {
    let mut m = Mode { at, label: 0, link: 0, _pad: 0 };
    if let Some((label, w)) = labelled() {
        m.label = label;
        m.link = wanted(w);
    }
    let _ = maps::LINK_MODES.insert(&own, &m, 0);
    m.link
}

#[inline(always)]
fn wanted(w: &Workload) -> u32 {
    if w.lane == 0 { w.link } else { 0 }
}

/// What the calling thread has read, if it is remembered, and by which link: the lane of what it calls, by that; 0: none. In the upper half: not
/// 0, it is ambiguous.
#[inline(always)]
fn lane_now(link: impl FnOnce(&Thread) -> bool) -> u64 {
    // SAFETY: elements stay readable for the run; what others take off of `flying` meanwhile makes it no less sure.
    let Some(t) = (unsafe { maps::THREADS.get(&task()) }).filter(|t| link(t)) else { return 0 };
    // SAFETY: a plain aligned load: it is read once.
    let flying = unsafe { core::ptr::read_volatile(&raw const t.flying) };
    let ambiguous = u64::from(Thread::is_ambiguous(flying));
    u64::from(Thread::calls_in(t.lane, t.link, flying)) | ambiguous << 32
}

/// The lane of a call that is made now: the caller's own, else by its workload's link; 0: none. `counts`: what comes by a link is told.
///
/// Not in a function that is called for it: on Linux 6.1 there is no stack for that.
#[unsafe(export_name = "gray_link_lane")]
#[inline(never)]
pub extern "C" fn lane(own: u32, link: u32, counts: u32) -> u32 {
    if own != 0 || link == 0 || !are_there() {
        return own;
    }
    let now = lane_now(|t| t.link == link);
    if counts != 0 {
        if now >> 32 != 0 {
            emit::count(Reason::LinkAmbiguous);
        } else if now != 0 {
            emit::count(Reason::Linked);
        }
    }
    now as u32
}
