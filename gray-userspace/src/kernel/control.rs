//! The control element, mapped into memory: the epoch is one atomic store.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

use gray_common::wire::Control;

/// The memory-mapped [`Control`] element. One agent writes (the state directory's lock sees to that); programs read.
#[derive(Debug)]
pub struct ControlPage {
    at: NonNull<Control>,
}

// SAFETY: the page is shared memory; the epoch is accessed atomically, everything else under the owner's `&mut`.
unsafe impl Send for ControlPage {}

const PAGE: usize = 4096;

impl ControlPage {
    pub fn map(map: BorrowedFd<'_>) -> io::Result<Self> {
        // SAFETY: a fresh shared mapping of the array's one element; the kernel rounds it to a page.
        let p = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                PAGE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.as_raw_fd(),
                0,
            )
        };
        if p == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(p.cast()).map(|at| Self { at }).ok_or_else(|| io::Error::other("mapped at 0"))
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

impl Drop for ControlPage {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `map`.
        let _ = unsafe { libc::munmap(self.at.as_ptr().cast(), PAGE) };
    }
}
