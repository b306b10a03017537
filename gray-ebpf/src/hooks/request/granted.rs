//! What a client is granted of what its SYN offers. Its timestamps bring it back with its cookie; of one without them it is kept.

use gray_common::request::{cookie::Offered, options::HAS_TIME, pending};

use crate::{
    ctx::exchange,
    maps::request::{Call, PENDING, call},
    tables::Kernel,
};

/// Of a SYN, into `CALL.offered`.
#[inline(always)]
pub fn grant(c: &mut Call) {
    c.offered = Offered::of(&c.options);
    if !c.options.has(HAS_TIME) {
        let _ = keep();
    }
}

/// Of whoever shows a cookie, into `CALL.offered`.
#[inline(always)]
pub fn recall(c: &mut Call) {
    c.offered = Offered::from_echo(c.seg.time != 0, c.seg.time_echo);
    if c.seg.time == 0 {
        let _ = find();
    }
}

/// Keeps what the SYN offers, and grants it. Where another connection has the place, nothing is granted.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_request_keep")]
#[inline(never)]
extern "C" fn keep() -> u32 {
    let Some((c, at, hash)) = place() else { return 0 };
    // SAFETY: the element stays readable for the run.
    let was = unsafe { at.read_volatile() };
    // A SYN that comes again may offer less than before; what never offered anything takes no place.
    let nothing = !pending::is_wanted(&c.options) && pending::granted(was, hash).is_none();
    if nothing || !pending::is_free(was, hash, c.now_ms) {
        return 0;
    }
    let word = pending::word(hash, &c.options, c.now_ms);
    let now = exchange(at, was, word);
    // Another CPU may have the same SYN at hand.
    if let Some(granted) = pending::granted(if now == was { word } else { now }, hash) {
        c.offered = granted;
    }
    1
}

/// Exported: see `keep`.
#[unsafe(export_name = "gray_request_granted")]
#[inline(never)]
extern "C" fn find() -> u32 {
    let Some((c, at, hash)) = place() else { return 0 };
    // SAFETY: as in `keep`.
    if let Some(granted) = pending::granted(unsafe { at.read_volatile() }, hash) {
        c.offered = granted;
    }
    1
}

#[inline(always)]
fn place() -> Option<(&'static mut Call, *mut u64, u64)> {
    let c = call()?;
    let hash = pending::hash(Kernel::at(c.epoch)?.key(), &c.tuple);
    Some((c, PENDING.get_ptr_mut(pending::place(hash))?, hash))
}
