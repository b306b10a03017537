//! What a test may lack on an older kernel or a slow machine. A test that lacks something says so in one line,
//! `SKIP test: reason`, and returns; `cargo xtask vm` compares those lines with the expected ones (tests/vm/expected.txt).

use gray_userspace::sys::kernel::{KernelVersion, TCX};

use crate::command::note;
use crate::pace;

/// Whether interfaces are hooked by tcx here; says nothing.
pub fn tcx() -> bool {
    KernelVersion::running().is_ok_and(|v| v >= TCX)
}

/// True, and a line that says so, where there is no tcx: the test returns then.
#[must_use]
pub fn without_tcx() -> bool {
    lacks(TCX, "tcx")
}

/// True, and a line that says so, when this kernel is older than `oldest`.
#[must_use]
pub fn lacks(oldest: KernelVersion, what: &str) -> bool {
    let Some(why) = KernelVersion::running().ok().and_then(|v| v.needs(oldest, what)) else { return false };
    say(&why);
    true
}

/// True, and a line that says so, on a slow machine (`GRAY_LAB_SLOW`): for tests that measure.
#[must_use]
pub fn measures() -> bool {
    let slow = pace::factor() > 1;
    if slow {
        say("measures; under emulation it means nothing");
    }
    slow
}

/// Says so: what a test needs is missing here, as it has found out itself.
pub fn because(why: &str) {
    say(why);
}

fn say(why: &str) {
    let thread = std::thread::current();
    // libtest names the thread after the test.
    note(&format!("SKIP {}: {why}", thread.name().unwrap_or("?")));
}
