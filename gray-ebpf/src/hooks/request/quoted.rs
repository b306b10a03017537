//! Numbers that an ICMP error quotes.

use gray_common::{
    request::machine::EST,
    wire::{Addr, Bound},
};

use crate::maps::{self, request::SPLICES};

/// There is no such connection.
pub const UNKNOWN: u64 = u64::MAX;

/// What is to be added to the sequence number in the quotation of an error about an instance's segment, for it to be the instance's own
/// again: it quotes what its client was sent. The connection is in `SCRATCH.key4` or `.key6` as its client sees it. [`UNKNOWN`]: it is not
/// translated.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_request_shift_of")]
#[inline(never)]
pub extern "C" fn shift_of(v4: u32) -> u64 {
    let (Some(c), Some(scratch)) = (maps::request::call(), maps::SCRATCH.get_ptr(0)) else { return UNKNOWN };
    // SAFETY: this CPU's own slot.
    let scratch = unsafe { &*scratch };
    if v4 != 0 {
        let at = &scratch.key4;
        super::key(c, (&Addr::v4(at.saddr), &Addr::v4(at.daddr)), (at.sport, at.dport));
    } else {
        let at = &scratch.key6;
        super::key(c, (&at.saddr, &at.daddr), (at.sport, at.dport));
    }
    let Some(b) = SPLICES.get_ptr(&c.key) else { return UNKNOWN };
    // SAFETY: the element stays readable for the run; what is read of it is written once, when the instance answers.
    let b: &Bound = unsafe { &*b };
    if b.splice.state == EST { u64::from(b.splice.shift.seq) } else { UNKNOWN }
}
