//! What is told of requests: how many were decided on, and which of them name nobody. Changes nothing of a connection.

use gray_common::{
    Reason,
    decide::{Decision, Tables as _},
    packet::{TCP, TCP_RST, TCP_SYN},
    request::machine::{EST, IDLE, LISTENER, NOTE_DENIED, NOTE_NOT_FOLLOWED, NOTE_SWITCHED},
    wire::{Addr, Event},
};

use super::held;
use crate::{
    emit,
    maps::request::{Call, call},
    tables::Kernel,
};

/// Whether the machine has taken up the request that was read: what is read may be read again, with the client's next segment.
#[inline(always)]
pub fn settled(was: u8, is: u8, taken: u32, c: &Call) -> bool {
    if was == IDLE {
        // What the listener reads it tells itself.
        return is != IDLE && c.seg.flags & (TCP_RST | TCP_SYN) == 0 && c.bound.splice.attempt != LISTENER;
    }
    let note = c.outs.note;
    was == EST
        && (c.outs.taken() != taken
            || note == NOTE_SWITCHED
            || note == NOTE_DENIED
            || note == NOTE_NOT_FOLLOWED)
}

/// Counts a request that was decided on, and tells of it when it names none of the claims.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_request_told")]
#[inline(never)]
pub extern "C" fn told() -> u32 {
    let Some(c) = call() else { return 0 };
    c.settled = 0;
    let Some(k) = Kernel::at(c.epoch) else { return 0 };
    let Some(service) = k.service(c.service) else { return 0 };
    emit::asked(service.id, c.blank != 0);
    if c.blank == 0 {
        return 0;
    }
    emit::count(Reason::RequestPlain);
    let Some(text) = held::text(c) else { return 0 };
    let held = c.bound.splice.held;
    let d = Decision { service: service.id, reason: Reason::RequestPlain as u8, ..Decision::default() };
    emit::missing(&k, &d, text, (held, c.came_to as u8), |e: &mut Event| {
        e.client = Addr::from_words(c.key.client);
        e.service_addr = Addr::from_words(c.key.service);
        e.client_port = c.key.client_port;
        e.service_port = c.key.service_port;
        e.proto = TCP;
    });
    1
}
