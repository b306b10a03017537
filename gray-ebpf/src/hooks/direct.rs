//! A client that dials an instance itself, from a port that it had towards a service before: what is left of that would make the
//! instance's answers the service's.

use gray_common::{
    packet::{TCP, opens},
    wire::{FLOW_CLOSING, FLOW_FORWARD, FlowKey4, FlowKey6},
};

use crate::{hooks::life::is_over, maps, tables::Kernel};

/// Removes the answers' entry of an earlier connection of the tuple in `SCRATCH.arrival`, which is for no service. Of one that
/// lives it stays: the instance could not tell the two apart anyway.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_direct")]
#[inline(never)]
pub extern "C" fn dialled(v4: u32) -> u32 {
    let (Some(k), Some(scratch)) = (Kernel::now(), maps::SCRATCH.get_ptr_mut(0)) else { return 0 };
    // SAFETY: this CPU's own slot; tc programs of one CPU do not interrupt each other.
    let scratch = unsafe { &mut *scratch };
    let (proto, flags) = (scratch.arrival.proto, scratch.arrival.tcp_flags);
    // While tables move there is no stack for it.
    if proto == TCP && !opens(flags) || maps::moving(v4 != 0) {
        return 0;
    }
    let late = maps::flooded();
    macro_rules! family {
        ($flows:ident, $key:ident, $back:ident, $tuple:ident, $of:ident) => {{
            let at = scratch.arrival.$of();
            scratch.$back = $tuple {
                saddr: at.daddr,
                daddr: at.saddr,
                sport: at.dport,
                dport: at.sport,
                proto: at.proto,
            };
            let Some(reply) = maps::$flows.any(&scratch.$back, late) else { return 0 };
            // SAFETY: elements that stay readable for the run.
            let reply = unsafe { &*reply };
            if reply.state.flags & FLOW_FORWARD != 0 {
                return 0;
            }
            scratch.$key = $tuple {
                saddr: reply.daddr,
                daddr: reply.saddr,
                sport: reply.dport,
                dport: reply.sport,
                proto: at.proto,
            };
            let forward = maps::$flows.any(&scratch.$key, late);
            // SAFETY: as above.
            let lives = forward.is_some_and(|f| !is_over(&k, unsafe { &(*f).state }, proto));
            if lives && reply.state.flags & FLOW_CLOSING == 0 {
                return 0;
            }
            maps::$flows.remove(&scratch.$back, late);
            1
        }};
    }
    if v4 != 0 {
        family!(FLOWS4, key4, back4, FlowKey4, key4)
    } else {
        family!(FLOWS6, key6, back6, FlowKey6, key6)
    }
}
