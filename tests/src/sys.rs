//! The few system calls that std does not have, each behind a safe function. No policy here.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

fn check(code: libc::c_int) -> io::Result<()> {
    if code < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

pub fn is_root() -> bool {
    // SAFETY: geteuid has no preconditions and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// This process and those it starts may have at least so many files open. For root: also over the limit that it was given.
pub fn allow_open_files(n: u64) -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the struct is valid for writes.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    let limit = libc::rlimit { rlim_cur: limit.rlim_cur.max(n), rlim_max: limit.rlim_max.max(n) };
    // SAFETY: the struct is valid for reads.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })
}

/// Moves the calling thread into the network namespace. Async-signal-safe.
pub fn setns_net(ns: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the descriptor is open for the duration of the borrow.
    check(unsafe { libc::setns(ns.as_raw_fd(), libc::CLONE_NEWNET) })
}

/// Gives the calling thread a new, empty network namespace.
pub fn unshare_net() -> io::Result<()> {
    // SAFETY: CLONE_NEWNET changes only the calling thread's namespace.
    check(unsafe { libc::unshare(libc::CLONE_NEWNET) })
}

/// The calling process is killed when the thread that made it ends. Async-signal-safe.
pub fn die_with_parent(parent: u32) -> io::Result<()> {
    // SAFETY: PR_SET_PDEATHSIG takes one integer.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })?;
    // SAFETY: getppid has no preconditions. The parent may have died before the prctl.
    if unsafe { libc::getppid() } as u32 == parent {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(libc::ESRCH))
    }
}

/// One unbuffered write; async-signal-safe, unlike `Write for File` by contract.
pub fn write_once(file: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<()> {
    // SAFETY: the buffer is valid for its length and the descriptor is open.
    let n = unsafe { libc::write(file.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) };
    if n < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Waits for the exclusive lock; it is released when the file is closed.
pub fn lock(file: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open for the duration of the borrow.
    check(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) })
}

pub fn bind_mount(from: &Path, to: &Path, recursive: bool) -> io::Result<()> {
    let (from, to) = (c_path(from)?, c_path(to)?);
    let flags = libc::MS_BIND | if recursive { libc::MS_REC } else { 0 };
    // SAFETY: both strings are NUL-terminated and outlive the call; type and data may be null for a bind.
    check(unsafe { libc::mount(from.as_ptr(), to.as_ptr(), std::ptr::null(), flags, std::ptr::null()) })
}

pub fn make_shared(at: &Path) -> io::Result<()> {
    let at = c_path(at)?;
    let flags = libc::MS_SHARED | libc::MS_REC;
    // SAFETY: the target is NUL-terminated; source, type and data are ignored for a propagation change.
    check(unsafe { libc::mount(c"none".as_ptr(), at.as_ptr(), std::ptr::null(), flags, std::ptr::null()) })
}

pub fn unmount(at: &Path) -> io::Result<()> {
    let at = c_path(at)?;
    // SAFETY: the target is NUL-terminated.
    check(unsafe { libc::umount2(at.as_ptr(), libc::MNT_DETACH) })
}

pub fn kill(pid: u32, signal: i32) -> io::Result<()> {
    // SAFETY: kill takes two integers.
    check(unsafe { libc::kill(pid as libc::pid_t, signal) })
}

/// CLOCK_MONOTONIC in ns: comparable between processes of one machine, unlike `Instant`.
pub fn monotonic_ns() -> u64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is a valid timespec to write to; this clock always exists.
    let _ = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut t) };
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// `setsockopt` of one int.
pub fn set_int_option(socket: BorrowedFd<'_>, level: i32, option: i32, value: i32) -> io::Result<()> {
    let size = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the pointer and length describe one live i32.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), size) })
}

/// IPv4 options of what a socket sends from now on; of a length that is a multiple of 4.
pub fn ip_options(socket: &impl AsFd, options: &[u8]) -> io::Result<()> {
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: a live descriptor, and a pointer to as many bytes as are said.
    let rc = unsafe {
        libc::setsockopt(
            fd,
            libc::IPPROTO_IP,
            libc::IP_OPTIONS,
            options.as_ptr().cast(),
            options.len() as libc::socklen_t,
        )
    };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A process, 0 for this thread, and what it starts from now on, runs on these cores alone.
pub fn stay_on(pid: u32, cores: &[usize]) -> io::Result<()> {
    // SAFETY: all-zero is an empty set; the call reads as many bytes as are said.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        cores.iter().for_each(|c| libc::CPU_SET(*c, &mut set));
        check(libc::sched_setaffinity(pid as libc::pid_t, size_of_val(&set), &raw const set))
    }
}
