//! The end of steering, before anything is taken apart: links and maps go one by one, and whoever dies in between must
//! leave no half of the data path at work.

use std::{
    ffi::OsStr,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};

use gray_common::{
    names,
    wire::{ListenerKey, Versioned},
};

use super::{KernelError, bpf};

/// Takes the program off whose link this pin is, if it is one: without, it would hang there for a moment after the pin is gone. What cannot
/// be taken off so goes with its pin.
pub fn take_off(pin: &Path) {
    if pin.parent().is_some_and(|dir| dir.ends_with("links"))
        && let Ok(link) = bpf::get(pin)
    {
        let _ = bpf::link_detach(link.as_fd());
    }
}

/// Deletes the listeners in these pins: from here on no new connection is steered. Open ones go on by their flows, and by
/// tc alone: XDP goes from one interface after the other, and what it would send where it is gone already was lost.
pub fn stop_steering(pins: &[PathBuf]) -> Result<(), KernelError> {
    for path in named(pins, names::XDP_OUT) {
        let Ok(map) = bpf::get(path).and_then(bpf::Map::<u32, u32>::new) else { continue };
        (0..map.shape().entries)
            .try_for_each(|slot| map.update(&slot, &0))
            .and_then(|()| bpf::wait_for_runs())
            .map_err(|e| KernelError::io("cannot empty", path, e))?;
    }
    for path in named(pins, names::LISTENERS) {
        let failed = |e| KernelError::io("cannot empty", path, e);
        // A map of another ABI may look different: its pins are removed all the same.
        let Ok(map) = bpf::get(path).and_then(bpf::Map::<ListenerKey, Versioned>::new) else { continue };
        let mut keys = Vec::new();
        map.for_each(|k, _| keys.push(k)).map_err(failed)?;
        map.delete_all(&keys).map_err(failed)?;
    }
    Ok(())
}

fn named<'p>(pins: &'p [PathBuf], name: &'static str) -> impl Iterator<Item = &'p Path> {
    pins.iter().map(PathBuf::as_path).filter(move |p| p.file_name() == Some(OsStr::new(name)))
}
