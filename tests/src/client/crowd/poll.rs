//! epoll, edge-triggered: what std does not have.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

/// At most so many are told of at once.
const MANY: usize = 64;

#[derive(Debug)]
pub struct Poll {
    fd: OwnedFd,
    ready: Vec<libc::epoll_event>,
}

impl Poll {
    pub fn new() -> io::Result<Self> {
        // SAFETY: takes a flag.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: it is new and ours.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) }, ready: Vec::with_capacity(MANY) })
    }

    /// From now on `number` is told of whenever the descriptor becomes readable or writable; until it is closed.
    pub fn add(&self, fd: BorrowedFd<'_>, number: usize) -> io::Result<()> {
        let events = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;
        let mut event = libc::epoll_event { events: events as u32, u64: number as u64 };
        // SAFETY: two live descriptors, and an event that is read.
        let rc = unsafe {
            libc::epoll_ctl(self.fd.as_raw_fd(), libc::EPOLL_CTL_ADD, fd.as_raw_fd(), &raw mut event)
        };
        if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// The numbers of those that are ready, which may be none, after `ms` at the latest.
    pub fn wait(&mut self, ms: u64) -> io::Result<impl Iterator<Item = usize> + use<>> {
        let room = self.ready.capacity().min(MANY) as i32;
        // SAFETY: room for as many events as are said.
        let n = unsafe { libc::epoll_wait(self.fd.as_raw_fd(), self.ready.as_mut_ptr(), room, ms as i32) };
        let n = match n {
            0.. => n as usize,
            _ if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => 0,
            _ => return Err(io::Error::last_os_error()),
        };
        // SAFETY: so many were written.
        unsafe { self.ready.set_len(n) };
        let numbers: Vec<usize> = self.ready.iter().map(|e| e.u64 as usize).collect();
        Ok(numbers.into_iter())
    }
}
