//! The end of steering, before anything is taken apart: links and maps go one by one, and whoever dies in between must
//! leave no half of the data path at work.

use std::{ffi::OsStr, path::PathBuf};

use gray_common::{
    names,
    wire::{ListenerKey, Versioned},
};

use super::{KernelError, bpf};

/// Deletes the listeners in these pins: from here on no new connection is steered. Open ones go on by their flows.
pub fn stop_steering(pins: &[PathBuf]) -> Result<(), KernelError> {
    for path in pins.iter().filter(|p| p.file_name() == Some(OsStr::new(names::LISTENERS))) {
        let failed = |e| KernelError::io("cannot empty", path, e);
        // A map of another ABI may look different: its pins are removed all the same.
        let Ok(map) = bpf::get(path).and_then(bpf::Map::<ListenerKey, Versioned>::new) else { continue };
        let mut keys = Vec::new();
        map.for_each(|k, _| keys.push(k)).map_err(failed)?;
        map.delete_all(&keys).map_err(failed)?;
    }
    Ok(())
}
