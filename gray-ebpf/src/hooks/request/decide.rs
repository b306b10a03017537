//! Where a connection goes whose first bytes were read.

use gray_common::{
    decide::{
        Claims, Known as _, MARK_SPLICE, Tables as _, another,
        claims::{BEGINNING, ND_ENV, ND_MORE, ND_REGION, ND_VERSION, SOURCE},
        tail,
    },
    hash::{CLAIM_MAX, HashKey, claim_hash_words},
    limits::{BEGINNINGS, SUBSETS},
    packet::{TCP, TCP_ACK, TCP_SYN},
    request::{
        machine::{ATTEMPTS, HOLD, LISTENER, PER_REQUEST, READ_DENY},
        scan::Span,
        tls,
        watch::WATCHES,
    },
    wire::{Addr, Instance, Reading, SERVICE_DENY, Table},
};

use super::held;
use crate::{
    ctx::{opaque, repeat},
    hooks::{
        admit::{Admit, Arrival},
        links, tags,
    },
    maps::{
        self,
        request::{Call, FRAMES, TAGGED, call},
    },
    tables::Kernel,
};

/// The values that were found become claims. Not called by who finds them: their frames would lie on one another.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_request_claims")]
#[inline(never)]
pub extern "C" fn claims() -> u32 {
    let Some(c) = call() else { return 0 };
    let Some((reading, text, key)) = read(c) else { return 0 };
    let at: *mut Call = c;
    repeat(WATCHES as u32, |i| {
        // SAFETY: this CPU's own slot.
        let c = unsafe { &mut *at };
        let i = opaque(i) as usize;
        if i >= WATCHES {
            return false;
        }
        if c.scan.found & 1 << i != 0 {
            let kind = reading.kinds[i];
            // Weights, addresses, blacklists: for the listener.
            if kind == ND_MORE {
                c.json = 1;
                return true;
            }
            claim(c, key, text, (kind, c.scan.values[i], 0));
            // Of each service, as JSON: too.
            let named = kind == ND_VERSION || kind == ND_REGION || kind == ND_ENV;
            c.json |= u32::from(named && c.words[0] as u8 == b'{');
        }
        true
    });
    if reading.beginning_of[0] == 0 {
        return 1;
    }
    repeat(BEGINNINGS as u32, |i| {
        // SAFETY: as above.
        let c = unsafe { &mut *at };
        // Masks, not comparisons: see `hooks::udp`.
        let i = opaque(i) as usize % BEGINNINGS;
        let (of, len) = (u32::from(reading.beginning_of[i]), u32::from(reading.beginning_len[i]));
        if of == 0 {
            return false;
        }
        let watch = opaque(of - 1) as usize % WATCHES;
        if c.scan.found & 1 << watch == 0 {
            return true;
        }
        let (kind, span) = (reading.kinds[watch], c.scan.values[watch]);
        if len > u32::from(span.len)
            || len > CLAIM_MAX as u32
            || words(c, text, (u32::from(span.at), len, 0)) == 0
        {
            return true;
        }
        c.claims.set_beginning(i as u8, claim_hash_words(key, kind | BEGINNING, len as u8, &c.words));
        true
    });
    1
}

/// What the service reads, what is held, and the key.
#[inline(always)]
fn read(c: &Call) -> Option<(&'static Reading, *const u8, HashKey)> {
    Some((super::reading(c)?, held::text(c)?, Kernel::at(c.epoch)?.key()))
}

const _: () = assert!(WATCHES.is_power_of_two() && BEGINNINGS.is_power_of_two());

/// Puts the first `len` bytes of a value, at most 32, into `CALL.words`, with zeros behind them, in lower case with `lower` all
/// ones. 0: there is no such place.
#[inline(always)]
fn words(c: &mut Call, text: *const u8, (at, len, lower): (u32, u32, u64)) -> u32 {
    let from = opaque(at);
    if from >= HOLD {
        return 0;
    }
    let mut w = 0;
    while w < 4 {
        // SAFETY: there are bytes behind what is held.
        let word = unsafe { text.add(from as usize + w * 8).cast::<u64>().read_unaligned() };
        let left = len.saturating_sub(w as u32 * 8);
        let keep = if left >= 8 { u64::MAX } else { (1 << ((left * 8) & 63)) - 1 };
        c.words[w] = (word ^ (word ^ tls::lower(word)) & lower) & keep;
        w += 1;
    }
    1
}

/// ... of a ClientHello.
///
/// Exported: see `claims`.
#[unsafe(export_name = "gray_request_hello_claims")]
#[inline(never)]
pub extern "C" fn hello_claims() -> u32 {
    let Some(c) = call() else { return 0 };
    let Some((reading, text, key)) = read(c) else { return 0 };
    let at: *mut Call = c;
    repeat(2, |i| {
        // SAFETY: this CPU's own slot.
        let c = unsafe { &mut *at };
        if i == 0 && c.hello.has_name() {
            claim(c, key, text, (reading.sni, c.hello.name, u64::MAX));
        } else if i != 0 && c.hello.has_protocol() {
            claim(c, key, text, (reading.alpn, c.hello.protocol, 0));
        }
        true
    });
    1
}

/// What the SYN's tag said is known beside what is read.
///
/// Exported: see `claims`.
#[unsafe(export_name = "gray_request_tagged")]
#[inline(never)]
pub extern "C" fn tagged() -> u32 {
    let Some(c) = call() else { return 0 };
    let Some(t) = TAGGED.get_ptr(&c.key) else { return 0 };
    // SAFETY: an element of a map, which stays readable for the run; its words are written before it is there.
    let t = unsafe { &*t };
    c.claims.set_tag(t.identity, t.lane);
    1
}

/// What stands at `span` becomes a claim, in lower case with `lower` all ones.
#[inline(always)]
fn claim(c: &mut Call, key: HashKey, text: *const u8, (kind, span, lower): (u8, Span, u64)) {
    let len = u32::from(span.len).min(CLAIM_MAX as u32);
    if kind == 0 || words(c, text, (u32::from(span.at), len, lower)) == 0 {
        return;
    }
    let hash = claim_hash_words(key, kind, len as u8, &c.words);
    // Of the whole value.
    let last = opaque(u32::from(span.at).wrapping_add(u32::from(span.len)).wrapping_sub(2));
    if last >= HOLD {
        return;
    }
    // SAFETY: as in `words`.
    let two = unsafe { text.add(last as usize).cast::<[u8; 2]>().read_unaligned() };
    c.claims.set_read(kind, hash, tail::of(two, u32::from(span.len)));
}

/// Whether the policy denies a client of whom no more is known than was read, and where it comes from.
#[inline(always)]
pub fn refuses(c: &Call) -> bool {
    let Some(k) = Kernel::at(c.epoch) else { return false };
    let Some(service) = k.service(c.service) else { return false };
    let mut sourced = false;
    let mut i = 0;
    while i < gray_common::limits::IDENTIFY {
        sourced |= service.identify[i] == SOURCE;
        i += 1;
    }
    service.flags & SERVICE_DENY != 0 && !sourced && c.claims.identity(&service.identify) == 0
}

/// Makes what is to be decided on of what was read, in `SCRATCH`: `admit_at` decides. 0: nothing is to be decided.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_request_ready")]
#[inline(never)]
pub extern "C" fn ready() -> u32 {
    let Some(c) = call() else { return 0 };
    if c.picked == 0 {
        return 0;
    }
    let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: this CPU's own slot.
    let scratch = unsafe { &mut *scratch };
    arrived(c, &mut scratch.arrival);
    scratch.arrival.attempt = (c.picked - 1) as u8;
    // The last one is stable's.
    if c.picked >= ATTEMPTS {
        c.claims = Claims::none(0);
    } else if tags::read() {
        let _ = tagged();
    }
    scratch.claims = c.claims;
    1
}

/// Makes what is to be decided on of a request that was read, as [`ready`] does. 0: nothing.
///
/// Exported: see `claims`.
#[unsafe(export_name = "gray_request_asked")]
#[inline(never)]
pub extern "C" fn asked() -> u32 {
    let (Some(c), Some(scratch)) = (call(), maps::SCRATCH.get_ptr_mut(0)) else { return 0 };
    // SAFETY: this CPU's own slot.
    let scratch = unsafe { &mut *scratch };
    arrived(c, &mut scratch.arrival);
    scratch.claims = c.claims;
    1
}

/// Whether the connection may stay where it is, by what was decided on its next request, or ends. In doubt, it may stay.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_request_kept")]
#[inline(never)]
pub extern "C" fn kept(code: u32) -> u32 {
    let (Some(c), Some(scratch)) = (call(), maps::SCRATCH.get_ptr_mut(0)) else { return 0 };
    // SAFETY: this CPU's own slot.
    let (new, old) = (unsafe { &(*scratch).decision }, &c.bound.decision);
    let same = new.arm == old.arm && new.target == old.target;
    if code == Admit::Deny as u32 {
        (c.verdict, c.refused) = (READ_DENY, new.reason);
    }
    c.keeps = u32::from(code != Admit::Steer as u32 && code != Admit::Stay as u32 || same);
    c.keeps
}

/// What [`ready`] was decided on, where an instance has failed the connection: another one of the same subset, if there is one. The one that is
/// decided on was tried first, and the connection's last; of another subset it was not. `code`: of `Admit`, and so is the answer.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_request_other")]
#[inline(never)]
pub extern "C" fn other(code: u32) -> u32 {
    let (Some(c), Some(scratch)) = (call(), maps::SCRATCH.get_ptr_mut(0)) else { return code };
    if c.picked < 2 || c.picked > ATTEMPTS || code != Admit::Steer as u32 && code != Admit::Stay as u32 {
        return code;
    }
    // SAFETY: this CPU's own slot.
    let scratch = unsafe { &mut *scratch };
    let (d, failed, a) = (&mut scratch.decision, &c.bound.decision, &scratch.arrival);
    if d.target != failed.target {
        return code;
    }
    if code == Admit::Stay as u32 {
        d.instance = Instance { addr: a.daddr, port: a.dport, proto: TCP, live: 1 };
    }
    let Some(k) = Kernel::at(c.epoch) else { return code };
    let (target, v4) = (d.target, c.v4 != 0);
    let mut table = Table { offset: 0, len: 0 };
    // What is left of an earlier policy is behind it.
    repeat(SUBSETS, |i| {
        let Some(s) = k.subset(i) else { return false };
        if s.target == target {
            table = if v4 { s.v4 } else { s.v6 };
        }
        s.target != target
    });
    let [x, y] = c.key.client;
    let choice = x ^ y ^ u64::from(c.key.client_port) << 32;
    let Some(i) = another(&k, table, choice, [&d.instance, &failed.instance]).and_then(|n| k.instance(n))
    else {
        return code;
    };
    d.instance = *i;
    Admit::Steer as u32
}

/// The instance that was decided on becomes the connection's. `code`: of `Admit`. 0: there is none.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_request_chosen")]
#[inline(never)]
pub extern "C" fn chosen(code: u32) -> u32 {
    let (Some(c), Some(scratch)) = (call(), maps::SCRATCH.get_ptr_mut(0)) else { return 0 };
    if code != Admit::Steer as u32 && code != Admit::Stay as u32 {
        return 0;
    }
    // SAFETY: this CPU's own slot.
    let scratch = unsafe { &mut *scratch };
    let (a, at) = (&scratch.arrival, &scratch.decision.instance);
    // The address that was dialled may come up among others when stable's first one has failed.
    if code == Admit::Stay as u32 || at.addr == a.daddr && at.port == a.dport {
        // Translated all the same; but the client's address stays, as it does where nothing is rewritten.
        scratch.decision.snat = 0;
        scratch.decision.instance =
            Instance { addr: scratch.arrival.daddr, port: scratch.arrival.dport, proto: TCP, live: 1 };
    }
    scratch.decision.marks |= MARK_SPLICE;
    // The client's own, else the one that it is led into. At the listener nobody knows yet.
    let own = scratch.claims.lane() as u32;
    scratch.decision.lane = match scratch.decision.led() {
        _ if c.picked > ATTEMPTS => 0,
        led if own == 0 => led,
        _ => own,
    };
    c.bound.decision = scratch.decision;
    let chooses = c.bound.splice.has(PER_REQUEST) && c.bound.splice.attempt != LISTENER;
    if chooses && FRAMES.get_ptr(&c.key).is_none() {
        // Without, its requests are not followed.
        let _ = maps::keep(&FRAMES, &c.key, &c.frames, 0);
    }
    1
}

/// Whoever accepts the SYN that is made for the client serves a request in the connection's lane; the flow is in `SCRATCH`.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_request_leads")]
#[inline(never)]
pub extern "C" fn leads(v4: u32) -> u32 {
    let Some(c) = call() else { return 0 };
    links::sockets::will_come(v4, c.bound.splice.first.wrapping_sub(1), c.bound.decision.lane)
}

/// The packet as one that opens a flow.
#[inline(always)]
pub fn arrived(c: &Call, a: &mut Arrival) {
    *a = Arrival {
        saddr: Addr::from_words(c.key.client),
        daddr: Addr::from_words(c.key.service),
        sport: c.key.client_port,
        dport: c.key.service_port,
        proto: TCP,
        tcp_flags: TCP_SYN,
        dscp: c.bound.dscp,
        mark: c.bound.mark,
        is_v4: c.v4 as u8,
        attempt: 0,
        again: 0,
    };
}

/// Brings back what was decided, for the connection's flow to be made again. 0: it cannot be.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_request_rebuild")]
#[inline(never)]
pub extern "C" fn rebuild() -> u32 {
    let (Some(c), Some(scratch)) = (call(), maps::SCRATCH.get_ptr_mut(0)) else { return 0 };
    // SAFETY: this CPU's own slot.
    let scratch = unsafe { &mut *scratch };
    arrived(c, &mut scratch.arrival);
    // What is in mid-stream has its port already.
    scratch.arrival.tcp_flags = TCP_ACK;
    scratch.decision = c.bound.decision;
    // Its instance has spoken.
    (scratch.decision.marks, scratch.decision.tunnel) = (MARK_SPLICE, 0);
    1
}
