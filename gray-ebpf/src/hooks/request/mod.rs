//! The request path: a connection is answered by us until its first bytes say which instance it belongs to
//! (docs/adr/0018-delayed-binding.md). What happens is the machine's matter (`gray_common::request::machine`); here is what
//! it sees and what it asks for. The steps follow one another, each a function with a stack frame of its own: the verifier
//! grants 512 bytes to them and to all that called them.

mod act;
mod decide;
mod desk;
mod follow;
mod granted;
mod held;
mod intact;
mod key;
mod listener;
mod lock;
mod parse;
mod quoted;
mod send;
mod steady;
mod told;
mod translate;
mod unknown;

use aya_ebpf::bindings::__sk_buff;
use gray_common::{
    Reason,
    decide::{Claims, HAS_BREAKER, Tables as _},
    limits,
    packet::{TCP, TCP_ACK, TCP_RST},
    request::machine::{
        self, ATTEMPTS, EST, NOTE_ALONE, NOTE_ANOTHER, NOTE_CHALLENGE, NOTE_DENIED, NOTE_EARLY,
        NOTE_NO_INSTANCE, NOTE_NOT_FOLLOWED, NOTE_RESTART, NOTE_SILENT, NOTE_SPLICED, NOTE_STAYED,
        NOTE_SWITCHED, NOTE_WAITS, PER_REQUEST, SYN_SENT, Terms,
    },
    wire::{ARM_GRAY, Addr, ListenerKey, Reading},
};

use self::{
    desk::Desk,
    unknown::{answer, unknown},
};
use crate::{
    ctx::jiffies,
    emit,
    hooks::{admit::Admit, breaker, times},
    maps::{
        self,
        request::{Call, READINGS, call},
    },
    tables::Kernel,
};
pub use unknown::stranger;

pub use act::{act, refuse};
pub use decide::{chosen, kept, leads, other, ready, rebuild};
pub use desk::prepare;
pub use follow::ASK;
pub use lock::leave;
pub use steady::{inside, steady};
pub use told::told;

/// Requests of one segment, and what is behind them.
pub const TURNS: u32 = machine::TURNS;
pub use key::{spliced4, spliced6};
pub use listener::{is_unread, is_untold, picked};
pub use quoted::{UNKNOWN, shift_of};

/// Whose packet it is, in the order of `packet::SPLICED`; 0: a client's, of a known connection.
const INSTANCE: u32 = 1;
const NEW_CLIENT: u32 = 2;

/// What a step answers: go on; drop the packet; leave it alone; answer the SYN; the connection's flow is lost; an instance is
/// to be chosen; do what the machine said.
pub const GO: u32 = 0;
pub const DROPPED: u32 = 1;
pub const LEFT: u32 = 2;
const ANSWER: u32 = 3;
pub const LOST_FLOW: u32 = 4;
pub const DECIDE: u32 = 5;
pub const ACT: u32 = 6;
/// In mid-stream, and not of a connection that was answered by us.
pub const FOREIGN: u32 = 7;
/// Nothing goes on before the client's next segment.
pub const WAITS: u32 = 8;
/// A SYN that cannot be answered by us: it is decided on as it is, by its client's address alone. It is in `SCRATCH.arrival`.
pub const SETTLED: u32 = 9;
/// A SYN to what is no service any more.
pub const GONE: u32 = 10;

/// Where there is no service to ask: an established connection needs none.
static GONE_TERMS: Terms = Terms { first_byte_ms: 0, silent_ms: 0, mss: 0, scale: 0, flags: 0 };

/// Finds the connection of a packet of a service whose requests are read. As its client sees it it is in `SCRATCH.key4` or
/// `.key6`, a new one in `.arrival`.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_request_find")]
#[inline(never)]
pub extern "C" fn find(raw: *mut __sk_buff, v4: u32, whose: u32) -> u32 {
    if begin(v4, whose, 0) != GO || parse::parse(raw) == 0 {
        return LEFT;
    }
    let (has, Some(c)) = (lock::enter(), call()) else { return LEFT };
    if has == lock::BUSY {
        return WAITS;
    }
    if has != lock::NONE && c.bound.splice.state == EST && !c.bound.splice.has(PER_REQUEST) {
        // Nothing is read, and nothing decided.
        return lives();
    }
    // Whatever it carries: a damaged SYN may look like a stranger's segment, which is answered with a reset.
    if intact::intact(raw) == 0 {
        emit::count(Reason::RequestDamaged);
        return WAITS;
    }
    let Some(c) = call() else { return DROPPED };
    // Of none that there is: who has an instance keeps it.
    c.service = served(c);
    match has {
        lock::NONE if c.service >= limits::SERVICES && whose == NEW_CLIENT => LEFT,
        lock::NONE => unknown(),
        _ => lives(),
    }
}

/// The index of the service that is dialled, or one that none has.
#[inline(always)]
fn served(c: &Call) -> u32 {
    let Some(k) = Kernel::at(c.epoch) else { return limits::SERVICES };
    let to =
        ListenerKey { addr: Addr::from_words(c.key.service), port: c.key.service_port, proto: TCP, _pad: 0 };
    k.listener(&to).service().unwrap_or(limits::SERVICES)
}

/// A connection that has, or had, an instance may have lost its flow.
#[inline(always)]
fn lives() -> u32 {
    let Some(c) = call() else { return DROPPED };
    let state = c.bound.splice.state;
    if c.whose == NEW_CLIENT && (state == EST || state == SYN_SENT) { LOST_FLOW } else { GO }
}

/// A segment of an instance of this node, on its way out. Another instance, should one be needed, is chosen with the client's
/// next segment.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_request_leaves")]
#[inline(never)]
pub extern "C" fn leaves(raw: *mut __sk_buff, v4: u32) -> u32 {
    if begin(v4, INSTANCE, 1) != GO || parse::parse(raw) == 0 {
        return DROPPED;
    }
    let (has, Some(c)) = (lock::enter(), call()) else { return DROPPED };
    if has == lock::BUSY {
        return WAITS;
    }
    if has != lock::NONE && (c.bound.splice.state != EST || c.bound.splice.has(PER_REQUEST)) {
        c.service = served(c);
    }
    let _ = desk::answered();
    if instance(raw) != GO {
        return DROPPED;
    }
    let Some(c) = call() else { return DROPPED };
    note(c.outs.note);
    if c.picked != 0 {
        c.bound.picked = c.picked;
        return WAITS;
    }
    ACT
}

/// The segment goes into the machine. [`GO`]: once more.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_request_step")]
#[inline(never)]
pub extern "C" fn step(raw: *mut __sk_buff) -> u32 {
    let Some(c) = call() else { return DROPPED };
    let mut next = if c.whose == INSTANCE {
        let _ = desk::answered();
        instance(raw)
    } else {
        client()
    };
    if next == ANSWER {
        next = answer();
    }
    note(c.outs.note);
    if c.settled != 0 {
        let _ = told();
    }
    if next != GO || c.outs.again != 0 {
        return next;
    }
    if wants() != 0 {
        let _ = desk::reread();
    }
    if c.picked != 0 { DECIDE } else { ACT }
}

/// Counts what the machine says of itself.
#[inline(always)]
fn note(note: u32) {
    let reason = match note {
        NOTE_SPLICED => {
            willing();
            Reason::RequestBound
        }
        NOTE_EARLY => Reason::RequestEarly,
        NOTE_DENIED => return denied(),
        NOTE_ANOTHER => {
            unwilling();
            Reason::RequestAnother
        }
        NOTE_NO_INSTANCE => {
            unwilling();
            Reason::RequestNoInstance
        }
        NOTE_CHALLENGE => Reason::RequestChallenge,
        NOTE_SWITCHED => Reason::RequestSwitched,
        NOTE_WAITS => Reason::RequestWaits,
        NOTE_SILENT => Reason::RequestSilent,
        NOTE_ALONE => Reason::RequestAlone,
        NOTE_STAYED => Reason::RequestStayed,
        NOTE_NOT_FOLLOWED => Reason::RequestNotFollowed,
        _ => return,
    };
    emit::count(reason);
}

/// The instance has taken the connection: a breaker is not to hear of it any more.
#[inline(always)]
fn willing() {
    if let Some(c) = call() {
        c.bound.decision.tunnel &= !HAS_BREAKER;
        let _ = times::taken(c.v4);
    }
}

/// The instance that the connection has refused it or says nothing: a breaker hears of that.
#[inline(always)]
fn unwilling() {
    let Some(c) = call() else { return };
    let d = &mut c.bound.decision;
    if d.tunnel & HAS_BREAKER != 0 && u32::from(d.arm) == ARM_GRAY {
        let _ = breaker::hears(u32::from(emit::counter(d)), breaker::FAILED);
        d.tunnel = 0;
    }
}

#[inline(always)]
fn denied() {
    match call() {
        Some(c) if c.refused != 0 => emit::refused(c.refused),
        _ => emit::count(Reason::Denied),
    }
}

/// Whether an instance is to be chosen by what was read of earlier packets.
#[inline(always)]
fn wants() -> u32 {
    let again = |c: &mut Call| c.picked == 1 && c.prepared == 0 || c.picked > 1 && c.picked <= ATTEMPTS;
    call().map_or(0, |c| u32::from(again(c)))
}

/// That the run began with.
#[inline(always)]
pub fn epoch() -> u64 {
    call().map_or(0, |c| c.epoch)
}

/// What the packet is of: into `CALL`.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_request_begin")]
#[inline(never)]
pub extern "C" fn begin(v4: u32, whose: u32, egress: u32) -> u32 {
    let (Some(k), Some(c)) = (Kernel::now(), call()) else { return LEFT };
    let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else { return LEFT };
    // SAFETY: this CPU's own slot; tc programs of one CPU do not interrupt each other.
    let scratch = unsafe { &mut *scratch };
    if whose == NEW_CLIENT {
        let a = &scratch.arrival;
        key(c, (&a.saddr, &a.daddr), (a.sport, a.dport));
    } else if v4 != 0 {
        let at = &scratch.key4;
        key(c, (&Addr::v4(at.saddr), &Addr::v4(at.daddr)), (at.sport, at.dport));
    } else {
        let at = &scratch.key6;
        key(c, (&at.saddr, &at.daddr), (at.sport, at.dport));
    }
    c.service = limits::SERVICES;
    c.v4 = v4;
    c.l4 = if v4 != 0 { 34 } else { 54 };
    c.epoch = k.epoch();
    let ticks_ms = jiffies().wrapping_mul(1000) / u64::from(k.control.hz.max(1));
    c.now_ms = ticks_ms.wrapping_add(k.control.wall_ms);
    c.picked = 0;
    c.claims = Claims::none(0);
    c.prepared = 0;
    c.settled = 0;
    c.whose = whose;
    c.egress = egress;
    c.reply = u32::from(whose == INSTANCE);
    c.outs.clear();
    c.keeps = 1;
    c.refused = 0;
    c.done = 0;
    c.has = lock::NONE;
    c.taken = follow::ALL;
    scratch.translated = 0;
    scratch.inside = 0;
    scratch.clone = 0;
    GO
}

#[inline(always)]
fn key(c: &mut Call, (client, service): (&Addr, &Addr), (from, to): (u16, u16)) {
    c.key.client = client.words();
    c.key.service = service.words();
    c.key.client_port = from;
    c.key.service_port = to;
    c.key.number = 0;
}

#[inline(always)]
fn reading(c: &Call) -> Option<&'static Reading> {
    let service = c.service;
    if service >= limits::SERVICES {
        return None;
    }
    READINGS.get((c.epoch & 1) as u32 * limits::SERVICES + service)
}

/// The client's segment goes into the machine.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_request_client")]
#[inline(never)]
pub extern "C" fn client() -> u32 {
    let Some(c) = call() else { return DROPPED };
    let terms = match reading(c) {
        Some(reading) => &reading.terms,
        None if machine::goes_on(&mut c.bound.splice, &c.seg, &mut c.outs) => &GONE_TERMS,
        None => return GO,
    };
    (c.bound.mark, c.bound.dscp, c.bound.ifindex) = (c.mark, c.dscp, c.ifindex);
    c.bound.hops = c.hops;
    let now = c.now_ms as u32;
    let (was, taken) = (c.bound.splice.state, c.outs.taken());
    machine::client(&mut c.bound.splice, &mut Desk::default(), &c.seg, (now, terms), &mut c.outs);
    c.settled = u32::from(c.prepared != 0 && told::settled(was, c.bound.splice.state, taken, c));
    if c.outs.note == NOTE_RESTART {
        lock::forget(c);
        c.service = served(c);
        return if c.service < limits::SERVICES { ANSWER } else { GONE };
    }
    let picked = c.bound.picked;
    if picked != 0 && c.picked == 0 {
        c.picked = picked;
    }
    c.bound.picked = 0;
    GO
}

/// The instance's segment goes into the machine.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_request_instance")]
#[inline(never)]
pub extern "C" fn instance(raw: *mut __sk_buff) -> u32 {
    let Some(c) = call() else { return DROPPED };
    if c.has == lock::NONE {
        // Its client's numbers are lost.
        if c.seg.flags & TCP_ACK == 0 || c.seg.flags & TCP_RST != 0 {
            return DROPPED;
        }
        emit::count(Reason::RequestLost);
        c.outs.reset_instance(send::STRANGER, c.seg.ack);
        return GO;
    }
    let at = &c.bound.decision.instance;
    // It may be one that had the connection before.
    let here = c.from == at.addr.words() && c.from_port == at.port;
    let from = if here { c.bound.splice.instance } else { send::STRANGER };
    let now = c.now_ms as u32;
    machine::instance(&mut c.bound.splice, &mut Desk { raw }, (from, &c.seg), now, &mut c.outs);
    GO
}

/// No instance takes the connection, or it is refused, as `code` of `Admit` says: its client is told.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_request_give_up")]
#[inline(never)]
pub extern "C" fn give_up(code: u32) -> u32 {
    let Some(c) = call() else { return DROPPED };
    c.outs.clear();
    c.done = 0;
    machine::give_up(&mut c.bound.splice, &mut c.outs);
    if code != Admit::Deny as u32 {
        emit::count(Reason::RequestNoInstance);
    }
    ACT
}
