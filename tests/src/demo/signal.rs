//! Ctrl-C and friends become a flag, so that every guard is dropped on the way out. No other signal use.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};

static CAME: AtomicBool = AtomicBool::new(false);

extern "C" fn remember(_signal: libc::c_int) {
    CAME.store(true, Ordering::Relaxed);
}

/// From now on SIGINT, SIGTERM and SIGHUP only set the flag. Children get the default action back at exec.
pub(super) fn listen() {
    let handler = remember as extern "C" fn(libc::c_int);
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the handler stores to an atomic, which is async-signal-safe.
        let _ = unsafe { libc::signal(signal, handler as libc::sighandler_t) };
    }
}

pub(super) fn came() -> bool {
    CAME.load(Ordering::Relaxed)
}

/// An error once a signal came: between two parts of the work.
pub(super) fn check() -> Result<()> {
    if came() {
        bail!("interrupted");
    }
    Ok(())
}

/// Until a signal comes. Polled: a signal may fall between the look and a sleep without end.
pub(super) fn wait() {
    while !came() {
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}
