//! The control element, mapped into memory: the epoch is one atomic store.

use std::{
    io,
    os::fd::BorrowedFd,
    sync::atomic::{AtomicU64, Ordering},
};

use gray_common::wire::Control;

use super::mapped::Mapped;

/// The memory-mapped [`Control`] element. One agent writes (the state directory's lock sees to that); programs read.
#[derive(Debug)]
pub struct ControlPage {
    at: Mapped<Control>,
}

impl ControlPage {
    pub fn map(map: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self { at: Mapped::new(map, 1)? })
    }

    pub fn read(&self) -> Control {
        // SAFETY: the mapping lives as long as self; Control is a wire type.
        unsafe { self.at.as_ptr().read_volatile() }
    }

    /// Changes everything but the epoch.
    pub fn edit(&mut self, change: impl FnOnce(&mut Control)) {
        let mut c = self.read();
        let epoch = c.epoch;
        change(&mut c);
        c.epoch = epoch;
        // SAFETY: as in `read`; the epoch keeps its value, and only this owner ever changes it.
        unsafe { self.at.as_ptr().write_volatile(c) };
    }

    /// When an agent was last able to act, in ticks: one atomic store.
    pub fn set_renewed(&mut self, ticks: u64) {
        // SAFETY: the field is 8-aligned, as the element is, and lives as long as self.
        let cell = unsafe { AtomicU64::from_ptr(&raw mut (*self.at.as_ptr()).renewed) };
        cell.store(ticks, Ordering::Relaxed);
    }

    /// The flip: one atomic store, after which every new program run uses the other bank.
    pub fn set_epoch(&mut self, epoch: u64) {
        // SAFETY: the epoch is the first field, 8-aligned, and lives as long as self.
        let cell = unsafe { AtomicU64::from_ptr(self.at.as_ptr().cast()) };
        cell.store(epoch, Ordering::Release);
    }
}
