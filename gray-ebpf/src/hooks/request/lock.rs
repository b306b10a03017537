//! One packet of a connection at a time: its two directions come on two CPUs, and each changes what the other reads.

use gray_common::Reason;

use crate::{
    ctx::{exchange, repeat},
    emit,
    maps::request::{SPLICES, call},
};

/// About 50 us: many times what a packet takes.
const TRIES: u32 = 4096;
/// Whoever has it for longer has not let go.
const FORGOTTEN_MS: i64 = 1000;

/// Takes the connection; 0: another CPU has it, and the packet is lost for once.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_request_enter")]
#[inline(never)]
pub extern "C" fn enter() -> u32 {
    let Some(c) = call() else { return 0 };
    let Some(bound) = SPLICES.get_ptr_mut(&c.key) else { return 1 };
    // SAFETY: the element stays readable for the run.
    let lock = unsafe { &raw mut (*bound).lock };
    let now = c.now_ms | 1;
    let mut has = exchange(lock, 0, now);
    if has != 0 {
        repeat(TRIES, |_| {
            has = exchange(lock, 0, now);
            has != 0
        });
    }
    if has != 0 && now.wrapping_sub(has) as i64 > FORGOTTEN_MS && exchange(lock, has, now) == has {
        has = 0;
    }
    if has != 0 {
        emit::count(Reason::RequestBusy);
        return 0;
    }
    c.locked = 1;
    1
}

/// Lets go of it.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_request_leave")]
#[inline(never)]
pub extern "C" fn leave() -> u32 {
    let Some(c) = call() else { return 0 };
    if c.locked != 0
        && let Some(bound) = SPLICES.get_ptr_mut(&c.key)
    {
        // An exchange, which orders what was written before it.
        // SAFETY: as above.
        let (lock, now) = unsafe { (&raw mut (*bound).lock, (*bound).lock) };
        let _ = exchange(lock, now, 0);
    }
    c.locked = 0;
    1
}
