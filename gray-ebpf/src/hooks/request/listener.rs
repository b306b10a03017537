//! The splice listener of this node: an instance to which goes what programs cannot read.

use gray_common::{
    Reason,
    decide::{Decision, MARK_SPLICE, NO_BUCKET, Tables as _},
    packet::TCP,
    request::machine::LISTENER,
    wire::{CONTROL_SPLICES, Instance, Listening},
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
    let met = Kernel::at(c.epoch).is_some_and(|k| k.control.flags & CONTROL_SPLICES != 0);
    u32::from(met && there(c).is_some_and(|l| l.until_ns > ktime_ns()))
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

/// Whether the connection is one that the listener was to read: nobody has looked yet whether its client may be refused.
#[inline(always)]
pub fn was_asked() -> bool {
    call().is_some_and(|c| c.bound.splice.handed != 0)
}
