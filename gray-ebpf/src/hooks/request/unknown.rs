//! Where there is no connection: a SYN is answered with a cookie, a good one begins a connection, and what was lost is reset.

use gray_common::{
    Reason,
    decide::Decision,
    packet::{TCP_ACK, TCP_RST, TCP_SYN},
    request::{
        cookie::{self, Tuple},
        machine::{self, SYN_OPTIONS},
    },
    wire::Bound,
};

use super::{ACT, DROPPED, FOREIGN, GO, GONE, INSTANCE, NEW_CLIENT, WAITS, lock, reading};
use crate::{
    emit,
    maps::request::{Call, call},
    tables::Kernel,
};

/// A packet of no connection that is known: a SYN is answered, a good cookie begins one.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_request_unknown")]
#[inline(never)]
pub extern "C" fn unknown() -> u32 {
    let Some(c) = call() else { return DROPPED };
    if c.whose == INSTANCE {
        return GO;
    }
    let flags = c.seg.flags;
    let Some(reading) = reading(c) else { return if flags & TCP_SYN != 0 { GONE } else { lost(c) } };
    if flags & TCP_SYN != 0 {
        let bad = flags & TCP_ACK != 0 || c.options.has(SYN_OPTIONS);
        return if bad { DROPPED } else { answer() };
    }
    if flags & TCP_ACK == 0 || flags & TCP_RST != 0 {
        return FOREIGN;
    }
    let Some(k) = Kernel::at(c.epoch) else { return DROPPED };
    c.tuple = Tuple { number: c.seg.seq.wrapping_sub(1), ..c.key };
    let Some(mss) = cookie::check(k.key(), &c.tuple, c.seg.ack.wrapping_sub(1), c.now_ms) else {
        return lost(c);
    };
    c.bound = Bound {
        decision: Decision::default(),
        splice: machine::open(&c.seg, mss, c.now_ms as u32, &reading.terms),
        picked: 0,
        mark: c.mark,
        lock: 0,
        dscp: c.dscp,
        _pad: [0; 7],
    };
    if lock::begin(c) != 0 { GO } else { WAITS }
}

/// In mid-stream. Where a flow says that it was translated, its numbers are lost, and its client is told so; else it may be
/// older than gray.
#[inline(always)]
fn lost(c: &mut Call) -> u32 {
    let flags = c.seg.flags;
    if c.whose == NEW_CLIENT || flags & TCP_ACK == 0 || flags & TCP_RST != 0 {
        return FOREIGN;
    }
    emit::count(Reason::RequestLost);
    c.outs.reset_client(c.seg.ack, c.seg.seq.wrapping_add(c.seg.len));
    ACT
}

/// The SYN's answer.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_request_answer")]
#[inline(never)]
pub extern "C" fn answer() -> u32 {
    let Some(c) = call() else { return DROPPED };
    let (Some(k), Some(reading)) = (Kernel::at(c.epoch), reading(c)) else { return DROPPED };
    c.tuple = Tuple { number: c.seg.seq, ..c.key };
    c.outs.out[0] = machine::answer_syn(&c.seg, &c.options, &c.tuple, k.key(), c.now_ms, &reading.terms);
    c.outs.n = 1;
    emit::count(Reason::RequestAnswered);
    ACT
}
