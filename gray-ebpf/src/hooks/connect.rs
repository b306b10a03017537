//! The connect path: the destination is rewritten before a packet exists, and the application goes on seeing the
//! service address as its peer.

use aya_ebpf::{bindings::bpf_sock_addr, programs::SockAddrContext};
use gray_common::{
    Reason,
    decide::{Decision, HAS_BREAKER, Local, Request, Tables as _, Verdict, decide},
    hash::mix,
    packet::{MPTCP, TCP, UDP},
    wire::{
        ARM_GRAY, Addr, CALL_FULL, CONTROL_WORKLOADS, Call, Event, ListenerKey, ListenerValue, PATH_CONNECT,
        Peer, SERVICE_MEASURE, SERVICE_REQUEST,
    },
};

use crate::{
    ctx::{
        jiffies, opaque,
        sock::{Sock, workload},
        unknown_zero,
    },
    emit,
    hooks::{breaker, handed, links},
    maps,
    tables::Kernel,
};

pub fn connect4(ctx: &SockAddrContext) -> i32 {
    decided4(ctx)
}

pub fn connect6(ctx: &SockAddrContext) -> i32 {
    decided6(ctx)
}

/// The same where a splice listener may have the call. Verifiers before Linux 6.12 find too much on the stack.
pub fn connect4_hands(ctx: &SockAddrContext) -> i32 {
    let raw = ctx.sock_addr;
    if handed::hand4(raw) != 0 { ALLOWED } else { answer(chosen4(raw)) }
}

pub fn connect6_hands(ctx: &SockAddrContext) -> i32 {
    let raw = ctx.sock_addr;
    if handed::hand6(raw) != 0 { ALLOWED } else { answer(chosen6(raw)) }
}

/// What a function answers may be any number for a verifier.
#[inline(always)]
fn answer(of: i32) -> i32 {
    (opaque(of as u32) & 1) as i32
}

/// Exported: its frame is not to be one with that of `hand4`.
#[unsafe(export_name = "gray_chosen4")]
#[inline(never)]
extern "C" fn chosen4(raw: *mut bpf_sock_addr) -> i32 {
    decided4(&SockAddrContext::new(raw))
}

#[unsafe(export_name = "gray_chosen6")]
#[inline(never)]
extern "C" fn chosen6(raw: *mut bpf_sock_addr) -> i32 {
    decided6(&SockAddrContext::new(raw))
}

#[inline(always)]
fn decided4(ctx: &SockAddrContext) -> i32 {
    let mut s = Sock::new(ctx);
    let dialled = Dialled { addr: s.addr4(), port: s.port(), proto: wire_protocol(s.protocol()) };
    let mut answer = ALLOWED;
    if let Some(i) = connect(&s, &dialled, s.bound4(), &mut answer) {
        s.set4(&i.addr, i.port);
    }
    answer
}

#[inline(always)]
fn decided6(ctx: &SockAddrContext) -> i32 {
    let mut s = Sock::new(ctx);
    let dialled = Dialled { addr: s.addr6(), port: s.port(), proto: wire_protocol(s.protocol()) };
    let bound = if dialled.addr.is_v4() { s.bound4() } else { s.bound6() };
    let mut answer = ALLOWED;
    if let Some(i) = connect(&s, &dialled, bound, &mut answer) {
        s.set6(&i.addr, i.port);
    }
    answer
}

pub fn getpeername4(ctx: &SockAddrContext) {
    let mut s = Sock::new(ctx);
    if let Some(p) = peer(&s, &s.addr4()) {
        s.set4(&p.service, p.service_port);
    }
}

pub fn getpeername6(ctx: &SockAddrContext) {
    let mut s = Sock::new(ctx);
    if let Some(p) = peer(&s, &s.addr6()) {
        s.set6(&p.service, p.service_port);
    }
}

/// What a call dials. The address mapped, the port in network order.
pub struct Dialled {
    pub addr: Addr,
    pub port: u16,
    pub proto: u8,
}

/// Where a call is sent instead.
pub struct Target {
    pub addr: Addr,
    pub port: u16,
}

/// The protocol on the wire; 0: none of ours. The verifier is not to know which it is, or it would follow all that comes
/// after once for each.
#[inline(always)]
pub fn wire_protocol(socket: u32) -> u8 {
    let proto = match socket {
        p if p == u32::from(TCP) || p == MPTCP => TCP,
        p if p == u32::from(UDP) => UDP,
        _ => 0,
    };
    proto ^ (unknown_zero() as u8).wrapping_mul(0xff)
}

/// What a program answers: the call goes on; it fails with EPERM, which is for what a policy denies alone.
pub const ALLOWED: i32 = 1;
const REFUSED: i32 = 0;

/// Decides one call, with the socket's own facts as claims. `answer` becomes `REFUSED` where the policy says so.
#[inline(always)]
pub fn choose(
    k: &Kernel,
    s: &Sock<'_>,
    d: &Dialled,
    source: Option<Addr>,
    answer: &mut i32,
) -> Option<Decision> {
    let listener = k.listener(&ListenerKey { addr: d.addr, port: d.port, proto: d.proto, _pad: 0 });
    let _ = listener.service()?;
    // A probe of health goes to the instance that it asks about.
    if s.stored(&maps::PEERS).is_some_and(|c| c.peer.is_probe()) {
        return None;
    }
    if k.control.netns_cookie != 0 && s.netns_cookie() != k.control.netns_cookie {
        emit::count(Reason::OtherNamespace);
        return None;
    }
    let key = k.key();
    let mut claims = Local::none(unknown_zero());
    if let Some(a) = &source {
        claims.set_source(key, a);
    }
    claims.set_mark(key, s.mark());
    if k.control.flags & CONTROL_WORKLOADS != 0
        && let Some(w) = workload()
    {
        claims.set_workload(k.epoch(), w);
        claims.lane = lane(k.epoch(), links::lane(w.lane, w.link, 1));
    }
    let request = Request {
        listener,
        claims: &claims,
        source: source.as_ref(),
        is_v4: d.addr.is_v4(),
        seed: mix(key.k0 ^ s.cookie()),
        // Nothing is read here: what a caller would say of itself is not missing.
        spares: SERVICE_REQUEST,
    };
    let (mut decision, steer) = match decide(k, &request) {
        Verdict::Steer(x) => (x, true),
        // A connection that stays is remembered, too, as one to where it goes anyway: what becomes of it is stable's.
        Verdict::Stay(mut x) => {
            x.instance.addr = d.addr;
            x.instance.port = d.port;
            (x, d.proto == TCP)
        }
        Verdict::Deny(x) => {
            *answer = REFUSED;
            (x, false)
        }
        Verdict::Pass(reason) => {
            emit::passed(k, reason);
            return None;
        }
    };
    emit::decided(k, &decision, (PATH_CONNECT, d.proto), |e: &mut Event| {
        if let Some(a) = &source {
            e.client = *a;
        }
        e.service_addr = d.addr;
        e.service_port = d.port;
        e.proto = d.proto;
    });
    // Nothing else is marked here.
    decision.marks = measured(k.epoch(), listener.0) as u8;
    if steer { Some(decision) } else { None }
}

/// The lane of a caller, if the policy knows it; 0: it is in none.
///
/// Exported, and so checked once by itself: what comes after it is followed once, whatever lane it is.
#[unsafe(export_name = "gray_lane")]
#[inline(never)]
pub extern "C" fn lane(epoch: u64, number: u32) -> u64 {
    if number == 0 {
        return 0;
    }
    let known = Kernel::at(epoch).is_some_and(|k| k.lane(number) != 0);
    if !known {
        emit::count(Reason::LaneUnknown);
        return 0;
    }
    u64::from(number)
}

#[inline(always)]
fn connect(s: &Sock<'_>, d: &Dialled, source: Option<Addr>, answer: &mut i32) -> Option<Target> {
    let k = Kernel::now()?;
    let decision = choose(&k, s, d, source, answer);
    let Some(decision) = decision else {
        // A UDP socket may be connected again, now to something that is not steered: it must not keep the old name.
        if let Some(old) = s.stored(&maps::PEERS) {
            *old = Call::default();
        }
        return None;
    };
    let Decision { instance, tunnel, arm, service, .. } = decision;
    // Without the record the application would see the instance as its peer: rather not steered at all.
    let Some(record) = s.store(&maps::PEERS) else {
        emit::passed(&k, Reason::StorageFull);
        return None;
    };
    let peer = Peer {
        service: d.addr,
        instance: instance.addr,
        service_port: d.port,
        instance_port: instance.port,
        seen: jiffies() as u32,
    };
    *record = Call {
        peer,
        opened: 0,
        at: 0,
        counter: emit::counter(&decision),
        state: decision.marks.into(),
        rule: decision.rule,
        _pad: 0,
    };
    if tunnel & HAS_BREAKER != 0 && u32::from(arm) == ARM_GRAY {
        record.state |= breaker::watch(service.into()) as u16;
    }
    Some(Target { addr: instance.addr, port: instance.port })
}

/// What a socket is to remember of the service that it dials, a `ListenerValue`: `CALL_FULL` or nothing. Counts who was not read.
///
/// Exported: as `lane`.
#[unsafe(export_name = "gray_measured")]
#[inline(never)]
pub extern "C" fn measured(epoch: u64, listener: u32) -> u32 {
    let Some(k) = Kernel::at(epoch) else { return 0 };
    let Some(service) = ListenerValue(listener).service().and_then(|i| k.service(i)) else { return 0 };
    if service.flags & SERVICE_REQUEST != 0 {
        emit::count(Reason::RequestLocal);
    }
    if service.flags & SERVICE_MEASURE != 0 { u32::from(CALL_FULL) } else { 0 }
}

/// The record of a connected socket whose real peer is `actual`.
#[inline(always)]
pub fn peer(s: &Sock<'_>, actual: &Addr) -> Option<Peer> {
    let p = &s.stored(&maps::PEERS)?.peer;
    if p.instance == *actual && p.instance_port == s.port() { Some(*p) } else { None }
}
