//! An array map whose elements lie in this process's memory (BPF_F_MMAPABLE): programs see what is written there at once, and it what they
//! write.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
    ptr::NonNull,
};

use gray_common::wire::Wire;

const PAGE: usize = 4096;

/// Elements of `T`, which are multiples of eight bytes and lie side by side. What is done there is the owner's matter.
#[derive(Debug)]
pub struct Mapped<T> {
    at: NonNull<T>,
    len: usize,
}

// SAFETY: shared memory, which programs change whoever has it here.
unsafe impl<T: Wire> Send for Mapped<T> {}

impl<T: Wire> Mapped<T> {
    /// All of the map's `entries`.
    pub fn new(map: BorrowedFd<'_>, entries: usize) -> io::Result<Self> {
        let len = (entries * size_of::<T>()).next_multiple_of(PAGE);
        let (null, protection) = (std::ptr::null_mut(), libc::PROT_READ | libc::PROT_WRITE);
        // SAFETY: a fresh shared mapping of the array; the kernel rounds it to pages.
        let p = unsafe { libc::mmap(null, len, protection, libc::MAP_SHARED, map.as_raw_fd(), 0) };
        if p == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(p.cast()).map(|at| Self { at, len }).ok_or_else(|| io::Error::other("mapped at 0"))
    }

    /// Its first element, which is valid as long as self.
    pub fn as_ptr(&self) -> *mut T {
        self.at.as_ptr()
    }
}

impl<T> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`.
        let _ = unsafe { libc::munmap(self.at.as_ptr().cast(), self.len) };
    }
}
