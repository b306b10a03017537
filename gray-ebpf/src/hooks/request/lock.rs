//! One packet of a connection at a time: its two directions come on two CPUs, and each changes what the other reads. So whoever
//! has it takes it out of its table, and puts it back when the packet is done.

use aya_ebpf::bindings::BPF_NOEXIST;
use gray_common::{
    Reason,
    request::machine::{EST, IDLE},
    wire::Bound,
};

use super::held;
use crate::{
    ctx::{exchange, repeat},
    emit,
    maps::{
        self,
        request::{Call, FRAMES, SPLICES, WAITING, call},
    },
};

/// About 50 us: many times what a packet takes.
const TRIES: u32 = 4096;
/// Whoever has it for longer has not let go.
const FORGOTTEN_MS: i64 = 1000;

/// `Call::has`, and what [`enter`] answers: there is no such connection; it has, or had, an instance; it has none yet; another
/// CPU has it.
pub const NONE: u32 = 0;
pub const LIVES: u32 = 1;
pub const WAITS: u32 = 2;
pub const BUSY: u32 = 3;

/// Takes the connection of `CALL.key`. [`BUSY`]: the packet is lost for once.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_request_enter")]
#[inline(never)]
pub extern "C" fn enter() -> u32 {
    let Some(c) = call() else { return BUSY };
    if let Some(at) = SPLICES.get_ptr_mut(&c.key) {
        return take(c, at, LIVES);
    }
    match WAITING.get_ptr_mut(&c.key) {
        Some(at) => take(c, at, WAITS),
        None => NONE,
    }
}

#[inline(always)]
fn take(c: &mut Call, at: *mut Bound, from: u32) -> u32 {
    // SAFETY: the element stays readable for the run.
    let lock = unsafe { &raw mut (*at).lock };
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
        return BUSY;
    }
    // SAFETY: as above; whoever has the lock is alone.
    unsafe { copy(at, &raw mut c.bound) };
    c.bound.lock = now;
    c.has = from;
    from
}

/// By words, and volatile: else the compiler calls a function that goes byte by byte.
///
/// # Safety
/// Both are elements of maps, and different ones.
#[inline(always)]
unsafe fn copy(from: *const Bound, to: *mut Bound) {
    const WORDS: usize = size_of::<Bound>() / 8;
    let (from, to) = (from.cast::<u64>(), to.cast::<u64>());
    let mut i = 0;
    while i < WORDS {
        // SAFETY: within both; a `Bound` is words.
        unsafe { to.add(i).write_volatile(from.add(i).read_volatile()) };
        i += 1;
    }
}

/// A connection that was not there before, in `CALL.bound`. 0: another CPU was quicker.
#[inline(always)]
pub fn begin(c: &mut Call) -> u32 {
    c.bound.lock = c.now_ms | 1;
    if WAITING.insert(&c.key, &c.bound, u64::from(BPF_NOEXIST)).is_err() {
        return 0;
    }
    c.has = WAITS;
    1
}

/// It is over: nothing of it stays.
#[inline(always)]
pub fn forget(c: &mut Call) {
    let _ = SPLICES.remove(&c.key);
    let _ = WAITING.remove(&c.key);
    held::release(c);
    let _ = FRAMES.remove(&c.key);
    c.has = NONE;
}

/// After every packet: puts the connection back and lets go of it. One that was removed meanwhile stays so.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_request_leave")]
#[inline(never)]
pub extern "C" fn leave() -> u32 {
    let (Some(c), Some(scratch)) = (call(), maps::SCRATCH.get_ptr_mut(0)) else { return 0 };
    // What ordinary packets must not find.
    // SAFETY: this CPU's own slot.
    unsafe {
        (*scratch).translated = 0;
        (*scratch).clone = 0;
    }
    let has = c.has;
    c.has = NONE;
    if c.bound.since != 0 && c.bound.splice.state == EST && !c.bound.splice.holds() {
        held::release(c);
    }
    if has == WAITS && c.bound.splice.state != IDLE {
        c.bound.lock = 0;
        let _ = maps::keep(&SPLICES, &c.key, &c.bound, 0);
        let _ = WAITING.remove(&c.key);
        return 1;
    }
    let at = match has {
        LIVES => SPLICES.get_ptr_mut(&c.key),
        WAITS => WAITING.get_ptr_mut(&c.key),
        _ => return 1,
    };
    let Some(at) = at else { return 1 };
    let now = c.bound.lock;
    // An exchange, which orders what was written before it.
    // SAFETY: the element stays readable for the run, and is this CPU's.
    unsafe {
        copy(&raw const c.bound, at);
        let _ = exchange(&raw mut (*at).lock, now, 0);
    }
    1
}
