//! What the machine wants done is done; and what is refused is answered.

use aya_ebpf::bindings::__sk_buff;
use gray_common::{
    Reason,
    packet::TCP_RST,
    request::machine::{self, OUTS},
};

use super::{GO, NEW_CLIENT, begin, lock, parse, send};
use crate::{
    ctx::skb::Skb,
    emit,
    hooks::packet::{DROP, NEW, TOO_BIG, again},
    maps::request::call,
};

/// Does what the machine said; with `early` not 0, what an instance is to hear that has had the connection.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_request_act")]
#[inline(never)]
pub extern "C" fn act(raw: *mut __sk_buff, v4: u32, early: u32) -> i32 {
    let mut verdict = DROP;
    let mut i = 0;
    while i < OUTS as u32 {
        let done = send::one(raw, early);
        if done == send::OVER {
            break;
        }
        verdict = match done {
            send::ON => again(raw, 0, v4 != 0, false),
            send::OUT => again(raw, 1, v4 != 0, false),
            send::HOME => {
                let _ = again(raw, 0, v4 != 0, false);
                send::home(raw)
            }
            done => done,
        };
        if verdict >= NEW {
            verdict = failed(raw, verdict);
        }
        i += 1;
    }
    verdict
}

/// What was to go on has no flow, or does not fit the next hop: its sender is told, in its own numbers.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_request_failed")]
#[inline(never)]
pub extern "C" fn failed(raw: *mut __sk_buff, verdict: i32) -> i32 {
    if verdict < TOO_BIG {
        emit::count(Reason::RequestLost);
        return DROP;
    }
    let Some(c) = call() else { return DROP };
    let (l4, seq) = (c.l4, c.seg.seq);
    let skb = &mut Skb::from_raw(raw);
    let Some(mut t) = skb.window::<20>(l4) else { return DROP };
    t.set::<u32, 4>(seq.to_be());
    verdict
}

/// Answers a TCP packet that is refused, of the connection in `SCRATCH.arrival`, with a reset. Anything else, and what has IP
/// options or extension headers, is dropped.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_refuse")]
#[inline(never)]
pub extern "C" fn refuse(raw: *mut __sk_buff, v4: u32) -> i32 {
    if begin(v4, NEW_CLIENT, 0) != GO || parse::parse(raw) == 0 {
        return DROP;
    }
    let Some(c) = call() else { return DROP };
    // A reset is not answered.
    if c.seg.flags & TCP_RST != 0 {
        return DROP;
    }
    c.outs.out[0] = machine::refuse(&c.seg);
    c.outs.n = 1;
    let verdict = send::one(raw, 0);
    let _ = lock::leave();
    verdict
}
