//! The link of a workload: from what its threads read to what they call.

use super::{Addr, wire};

/// `Workload::link`: what a thread read last decides, and children follow; the same without children; only what is not ambiguous.
pub const LINK_THREAD: u32 = 1;
pub const LINK_RUN_TO_COMPLETION: u32 = 2;
pub const LINK_STRICT: u32 = 3;

/// A SYN that says a lane, as the socket that it makes will know it. Its number tells it from an earlier one of the same port.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SynKey {
    pub addr: Addr,
    /// Its sequence number, host order.
    pub number: u32,
    /// Network order.
    pub port: u16,
    pub _pad: u16,
}

/// What is remembered of a TCP socket. One without a record is a client's, in no lane.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Linked {
    /// The thread that has a request of it in flight, as `THREADS` has it, and which record of that; 0: none.
    pub thread: u64,
    pub born: u64,
    /// A client's, or the one that it dialled in.
    pub lane: u32,
    /// `LINKED_*` bits.
    pub state: u32,
}

/// It dialled: what is read of it is no request.
pub const LINKED_CALLS: u32 = 1;
/// ... a service.
pub const LINKED_SERVICE: u32 = 1 << 1;
/// ... and has asked since it was last answered; it was answered once.
pub const LINKED_ASKED: u32 = 1 << 2;
pub const LINKED_ANSWERED: u32 = 1 << 3;
/// The request in flight is one of those of other lanes.
pub const LINKED_OTHER: u32 = 1 << 4;

/// What a thread of such a workload has read.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Thread {
    /// When the record was made: another one of the same thread's place is not this one.
    pub born: u64,
    /// `LINK_STRICT`: requests in flight, of `lane` in the lower half, of others in the upper.
    pub flying: u64,
    /// The labelled cgroup.
    pub label: u64,
    pub lane: u32,
    /// `LINK_*`.
    pub link: u32,
}

/// One request in flight that is not of the thread's lane.
pub const FLYING_OTHER: u64 = 1 << 32;

impl Thread {
    /// Whether its requests in flight are of several lanes, or may be.
    #[inline(always)]
    pub fn is_ambiguous(flying: u64) -> bool {
        flying >> 32 != 0
    }

    /// The lane that its calls are in now; 0: none.
    #[inline(always)]
    pub fn calls_in(lane: u32, link: u32, flying: u64) -> u32 {
        let sure = link != LINK_STRICT || flying != 0 && !Self::is_ambiguous(flying);
        if sure { lane } else { 0 }
    }
}

/// Calls of a workload with a link to services.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCount {
    pub calls: u64,
    /// ... by connections that were made in another lane than that of the request at hand.
    pub others: u64,
}

wire!(SynKey, size 24, { addr @ 0: Addr, number @ 16: u32, port @ 20: u16, _pad @ 22: u16 });
wire!(Linked, size 24, { thread @ 0: u64, born @ 8: u64, lane @ 16: u32, state @ 20: u32 });
wire!(Thread, size 32, { born @ 0: u64, flying @ 8: u64, label @ 16: u64, lane @ 24: u32, link @ 28: u32 });
wire!(LinkCount, size 16, { calls @ 0: u64, others @ 8: u64 });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c10_a_lane_is_sure_or_none() {
        let strict = |flying| Thread::calls_in(7, LINK_STRICT, flying);
        assert_eq!([0, 1, 5, FLYING_OTHER, FLYING_OTHER + 1].map(strict), [0, 7, 7, 0, 0]);
        for link in [LINK_THREAD, LINK_RUN_TO_COMPLETION] {
            assert_eq!(Thread::calls_in(7, link, 0), 7);
        }
        // What ends is taken off as it was put on.
        let flying = (1 + FLYING_OTHER).wrapping_add(1_u64.wrapping_neg());
        assert_eq!(flying.wrapping_add(FLYING_OTHER.wrapping_neg()), 0);
    }
}
