//! How patient the lab is. `GRAY_LAB_SLOW=10` makes it ten times as patient: emulated machines are slow. Campaigns are
//! smaller there, and say so.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::OnceLock;
use std::time::Duration;

use crate::command::note;

/// This long, on an ordinary machine.
pub fn patience(ordinary: Duration) -> Duration {
    ordinary * factor()
}

/// How long to wait between two looks, one of which took so long: on a slow machine looking must not be what takes the time.
pub fn between(look: Duration) -> Duration {
    let least = Duration::from_millis(5);
    if factor() == 1 { least } else { least.max(look * 3) }
}

/// Milliseconds between two requests of a load that is there to notice faults: on a slow machine it leaves the processor to
/// what it is to notice faults of. [`patience`] comes on top.
pub fn rest_ms(ordinary: u64) -> u64 {
    if factor() == 1 { ordinary } else { (ordinary * u64::from(factor())).min(100).max(ordinary) }
}

/// So many on an ordinary machine; on a slow one `slow`, which is said.
pub fn many(what: &str, ordinary: usize, slow: usize) -> usize {
    if factor() == 1 {
        return ordinary;
    }
    fewer(what, ordinary, slow);
    slow
}

/// Of what a slow machine does in part.
const EVERY: usize = 6;

/// All of them on an ordinary machine; on a slow one every sixth from one by chance, which is said.
pub fn some<T>(what: &str, all: Vec<T>) -> Vec<T> {
    if factor() == 1 {
        return all;
    }
    let ordinary = all.len();
    let some = every(EVERY, all);
    fewer(what, ordinary, some.len());
    some
}

/// Of the points that somebody is killed at an ordinary run takes a third, from one by chance: all of them take most of an hour.
/// `GRAY_POINTS=all`: all of them. A slow machine: as [`some`].
pub fn points<T>(all: Vec<T>) -> Vec<T> {
    const EVERY: usize = 3;
    if all_points() {
        return all;
    }
    if factor() > 1 {
        return some("points to be killed at", all);
    }
    every(EVERY, all)
}

/// Whether this is a campaign that leaves out no point.
pub fn all_points() -> bool {
    std::env::var("GRAY_POINTS").is_ok_and(|v| v == "all")
}

/// Each `nth`, from one by chance.
fn every<T>(nth: usize, all: Vec<T>) -> Vec<T> {
    let first = RandomState::new().hash_one(0) as usize % nth.min(all.len().max(1));
    all.into_iter().skip(first).step_by(nth).collect()
}

/// Says that less was done than is ordinary, in a line `FEWER test: ...`, which `cargo xtask vm` prints.
pub fn fewer(what: &str, ordinary: usize, done: usize) {
    let thread = std::thread::current();
    note(&format!("FEWER {}: {done} of {ordinary} {what}", thread.name().unwrap_or("?")));
}

/// So many as the variable says, for long campaigns; without it as [`many`].
pub fn asked(variable: &str, what: &str, ordinary: usize, slow: usize) -> usize {
    let said = std::env::var(variable).ok();
    let said = said.map(|v| v.parse().unwrap_or_else(|_| panic!("{variable}={v} is no number")));
    said.unwrap_or_else(|| many(what, ordinary, slow))
}

/// 1, or what `GRAY_LAB_SLOW` says.
pub fn factor() -> u32 {
    static FACTOR: OnceLock<u32> = OnceLock::new();
    *FACTOR
        .get_or_init(|| std::env::var("GRAY_LAB_SLOW").ok().and_then(|v| v.parse().ok()).unwrap_or(1).max(1))
}
