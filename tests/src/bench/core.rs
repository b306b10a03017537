//! The core that a bench runs on.

use std::io;

/// Keeps this thread, and those it starts from now on, on the last core that it may use. The first one serves most
/// interrupts.
pub fn pin() -> io::Result<usize> {
    // SAFETY: all-zero is an empty set; the calls read and write within the size given.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) != 0 {
            return Err(io::Error::last_os_error());
        }
        let all = 0..libc::CPU_SETSIZE as usize;
        let core = all.rev().find(|c| libc::CPU_ISSET(*c, &set)).unwrap_or(0);
        libc::CPU_ZERO(&mut set);
        libc::CPU_SET(core, &mut set);
        if libc::sched_setaffinity(0, size_of_val(&set), &raw const set) != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(core)
    }
}
