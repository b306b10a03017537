//! Who says something first on a caller's connection, and when: at each packet of the sockets of a cgroup, for services that ask for it
//! (`measure: full`).

use aya_ebpf::bindings::__sk_buff;
use gray_common::{
    packet::TCP,
    wire::{CALL_ANSWERED, CALL_ASKED, CALL_COUNTS, CALL_FULL, Call, FIRST_BYTE},
};

use crate::{
    ctx::{skb::Skb, sock::stored_of},
    hooks::times,
    maps,
};

/// On the way out: when the caller has asked.
#[inline(always)]
pub fn asks(raw: *mut __sk_buff) {
    if let Some(call) = waits(raw, CALL_ASKED)
        && says(raw) != 0
    {
        call.state |= CALL_ASKED;
        call.at = times::now();
    }
}

/// On the way in: when the instance has answered, and what. One that speaks first is timed from the connection on.
#[inline(always)]
pub fn answers(raw: *mut __sk_buff) {
    if let Some(call) = waits(raw, CALL_ANSWERED) {
        let at = says(raw);
        if at == 0 {
            return;
        }
        call.state |= CALL_ANSWERED;
        times::note(call.counter, FIRST_BYTE, times::now().wrapping_sub(call.at));
        let _ = times::said(raw, call.counter.into(), at);
    }
}

/// The record of a socket of which that is awaited.
#[inline(always)]
fn waits(raw: *mut __sk_buff, moment: u16) -> Option<&'static mut Call> {
    let call = stored_of(raw, &maps::PEERS)?;
    let is_due = call.state & (CALL_COUNTS | CALL_FULL | CALL_ANSWERED | moment) == CALL_COUNTS | CALL_FULL;
    is_due.then_some(call)
}

/// Where the bytes of its stream begin, from the IP header on; 0: it carries none, or is no plain TCP.
#[inline(always)]
fn says(raw: *mut __sk_buff) -> u32 {
    let skb = Skb::from_raw(raw);
    let head = skb.text(0);
    let (l4, proto) = match head[0].to_ne_bytes() {
        [first, ..] if first >> 4 == 4 => (u32::from(first & 15) * 4, head[1].to_ne_bytes()[1]),
        [first, _, _, _, _, _, next, _] if first >> 4 == 6 => (40, next),
        _ => return 0,
    };
    if proto != TCP {
        return 0;
    }
    // Its last four bytes begin with the data offset.
    let at = l4 + u32::from(skb.byte(l4 + 12) >> 4) * 4;
    if at > l4 + 19 && skb.len() > at { at } else { 0 }
}
