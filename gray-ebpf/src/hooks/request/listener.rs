//! The splice listener of this node: an instance to which goes what programs cannot read.

use gray_common::{
    Reason,
    decide::{Decision, MARK_SPLICE, NO_BUCKET, Tables as _},
    packet::TCP,
    request::machine::{HANDED, LISTENER},
    wire::{Instance, Listening},
};

use super::decide::arrived;
use crate::{
    ctx::ktime_ns,
    maps::{
        self,
        request::{self, Call, call},
    },
    tables::Kernel,
};

/// Not 0: there is one, for the family of the connection in `CALL`.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_request_listens")]
#[inline(never)]
pub extern "C" fn listens() -> u32 {
    let Some(c) = call() else { return 0 };
    // What it answers would be met by nobody.
    if !maps::meets(c.bound.ifindex) {
        return 0;
    }
    u32::from(there(c).is_some_and(|l| l.until_ns > ktime_ns()))
}

#[inline(always)]
fn there(c: &Call) -> Option<&'static Listening> {
    request::LISTENER.get(u32::from(c.v4 == 0))
}

/// Makes the listener what was decided, where it is what was picked. 0: it is not.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_request_listener")]
#[inline(never)]
pub extern "C" fn picked() -> u32 {
    let (Some(c), Some(scratch)) = (call(), maps::SCRATCH.get_ptr_mut(0)) else { return 0 };
    if c.picked != u32::from(LISTENER) + 1 {
        return 0;
    }
    let Some(at) = there(c) else { return 0 };
    // SAFETY: this CPU's own slot.
    let scratch = unsafe { &mut *scratch };
    arrived(c, &mut scratch.arrival);
    let service = Kernel::at(c.epoch).map_or(0, |k| k.service(c.service).map_or(0, |s| s.id));
    scratch.own = 0;
    scratch.decision = Decision {
        instance: Instance { addr: at.addr, port: at.port, proto: TCP, live: 1 },
        service,
        bucket: NO_BUCKET,
        reason: Reason::RequestListener as u8,
        marks: MARK_SPLICE,
        // Of no arm yet.
        refused: 1,
        ..Decision::default()
    };
    1
}

/// Whether the first attempt is that of a connection which only the listener could have read: nobody has looked yet whether its client is
/// refused.
#[inline(always)]
pub fn is_unread() -> bool {
    call().is_some_and(|c| c.bound.splice.handed != 0 && c.picked == 1)
}

/// ... and which the listener did not take: nobody has told of it either.
#[inline(always)]
pub fn is_untold() -> bool {
    is_unread() && call().is_some_and(|c| c.bound.splice.handed == HANDED)
}
