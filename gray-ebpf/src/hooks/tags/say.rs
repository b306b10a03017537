//! What this node's sockets say: noted when they dial a service, by programs beside those of the connect path, and written into
//! their SYNs. Nothing here steers.

use aya_ebpf::{
    bindings::bpf_sock_addr,
    programs::{SockAddrContext, SockOpsContext},
};
use gray_common::{
    Reason,
    decide::{
        Local, Request, Tables as _, Verdict,
        claims::TAG,
        decide,
        tag::{self, Tag},
    },
    hash::mix,
    limits,
    packet::{MPTCP, TCP, opens},
    wire::{
        Addr, CONTROL_WORKLOADS, ListenerKey, ListenerValue, SAYING_ASKED, SAYING_SAID, SERVICE_LEADS,
        SERVICE_REQUEST, Saying,
    },
};

use crate::{
    ctx::{
        ops::{CONNECT, ESTABLISHED, OPTION_LENGTH, OPTION_WRITE, Ops},
        sock::{Sock, workload},
        unknown_zero,
    },
    emit,
    hooks::{
        connect::{peer, wire_protocol},
        links,
    },
    maps,
    tables::Kernel,
};

pub fn say4(ctx: &SockAddrContext) {
    let (s, Some(k)) = (Sock::new(ctx), Kernel::now()) else { return };
    let listener = dialled4(s.raw(), k.epoch());
    note(&s, k, (listener, true), || s.bound4());
}

pub fn say6(ctx: &SockAddrContext) {
    let (s, Some(k)) = (Sock::new(ctx), Kernel::now()) else { return };
    let (listener, is_v4) = (dialled6(s.raw(), k.epoch()), s.addr6().is_v4());
    note(&s, k, (listener, is_v4), || if is_v4 { s.bound4() } else { s.bound6() });
}

/// Notes what the SYN of a socket that dials is to say: to a service its caller's lane, or the one that a route leads it into, and its
/// identity. Not only in this network namespace: the packets of another one come to an interface of this node, where nobody
/// knows their cgroup. That is all that is known of their caller: address and mark are its own to choose there, and nothing that
/// follows from them is said.
#[inline(always)]
fn note(s: &Sock<'_>, mut k: Kernel, (listener, is_v4): (u32, bool), bound: impl FnOnce() -> Option<Addr>) {
    // The connection is decided on elsewhere.
    k.asks = true;
    if listener == 0 {
        let _ = keep(s.raw(), k.epoch(), 0, 0, 0);
        return;
    }
    let mut claims = Local::none(unknown_zero());
    if k.control.flags & CONTROL_WORKLOADS != 0
        && let Some(w) = workload()
    {
        claims.set_workload(k.epoch(), w);
        claims.lane = known(k.epoch(), links::lane(w.lane, w.link, 0));
    }
    if depends(k.epoch(), listener, claims.lane as u32) == 0 {
        let _ = keep(s.raw(), k.epoch(), listener, 0, claims.lane << 32);
        return;
    }
    let key = k.key();
    let ours = k.control.netns_cookie == 0 || s.netns_cookie() == k.control.netns_cookie;
    let source = if ours { bound() } else { None };
    if let Some(a) = &source {
        claims.set_source(key, a);
    }
    claims.set_mark(key, if ours { s.mark() } else { 0 });
    let request = Request {
        listener: ListenerValue(listener),
        claims: &claims,
        source: source.as_ref(),
        is_v4,
        seed: mix(key.k0 ^ s.cookie()),
        spares: SERVICE_REQUEST,
    };
    let (identity, led) = match decide(&k, &request) {
        Verdict::Steer(d) | Verdict::Stay(d) => (d.identity, d.led()),
        Verdict::Deny(_) | Verdict::Pass(_) => (0, 0),
    };
    let _ = keep(s.raw(), k.epoch(), listener, identity, claims.lane << 32 | u64::from(led));
}

/// Not 0: what is said depends on what is decided, which costs more than all else here: the service is told who calls, or some route
/// leads callers into a lane that are in none.
#[unsafe(export_name = "gray_say_depends")]
#[inline(never)]
pub extern "C" fn depends(epoch: u64, listener: u32, lane: u32) -> u32 {
    let Some(k) = Kernel::at(epoch) else { return 0 };
    let Some(service) = ListenerValue(listener).service().and_then(|i| k.service(i)) else { return 0 };
    let leads = lane == 0 && service.flags & SERVICE_LEADS != 0;
    u32::from(leads || asks(&k, ListenerValue(listener)))
}

/// Exported, and so checked once by itself, as those below. Two: a program may read the address of its own family only.
#[unsafe(export_name = "gray_dialled4")]
#[inline(never)]
pub extern "C" fn dialled4(raw: *mut bpf_sock_addr, epoch: u64) -> u32 {
    let ctx = &SockAddrContext::new(raw);
    let s = Sock::new(ctx);
    dialled(&s, epoch, s.addr4())
}

#[unsafe(export_name = "gray_dialled6")]
#[inline(never)]
pub extern "C" fn dialled6(raw: *mut bpf_sock_addr, epoch: u64) -> u32 {
    let ctx = &SockAddrContext::new(raw);
    let s = Sock::new(ctx);
    dialled(&s, epoch, s.addr6())
}

/// The service that a TCP socket dials, as a `ListenerValue`; 0: none. The connect path's program may have put an instance in its place
/// before. A probe of health dials an instance.
#[inline(always)]
fn dialled(s: &Sock<'_>, epoch: u64, addr: Addr) -> u32 {
    let Some(k) = Kernel::at(epoch) else { return 0 };
    if wire_protocol(s.protocol()) != TCP || s.stored(&maps::PEERS).is_some_and(|c| c.peer.is_probe()) {
        return 0;
    }
    let (addr, port) = match peer(s, &addr) {
        Some(p) => (p.service, p.service_port),
        None => (addr, s.port()),
    };
    let found = k.listener(&ListenerKey { addr, port, proto: TCP, _pad: 0 });
    if found.service().is_some() { found.0 } else { 0 }
}

/// The lane of that number, if the policy knows it.
#[unsafe(export_name = "gray_known_lane")]
#[inline(never)]
pub extern "C" fn known(epoch: u64, number: u32) -> u64 {
    let known = Kernel::at(epoch).is_some_and(|k| k.lane(number) != 0);
    if known { u64::from(number) } else { 0 }
}

/// Keeps it with the socket. `lanes`: the caller's own in the upper half, the one that it is led into in the lower.
#[unsafe(export_name = "gray_keep_saying")]
#[inline(never)]
pub extern "C" fn keep(raw: *mut bpf_sock_addr, epoch: u64, listener: u32, identity: u64, lanes: u64) -> u32 {
    let Some(k) = Kernel::at(epoch) else { return 0 };
    let ctx = &SockAddrContext::new(raw);
    let s = Sock::new(ctx);
    let own = (lanes >> 32) as u32;
    let lane = if own == 0 { lanes as u32 } else { own };
    let check = k.lane(lane);
    let identity = if asks(&k, ListenerValue(listener)) { identity } else { 0 };
    if check == 0 && identity == 0 {
        // It may have said something when it dialled before.
        if let Some(old) = s.stored(&maps::SAYINGS) {
            old.hush();
        }
        return 0;
    }
    // Its SYN is made by another socket, and has an option that leaves too little room.
    if s.protocol() == MPTCP {
        emit::count(Reason::TagNoRoom);
        return 0;
    }
    let Some(place) = s.store(&maps::SAYINGS) else {
        emit::count(Reason::TagNoRoom);
        return 0;
    };
    let lane = if check == 0 { 0 } else { lane as u16 };
    *place = Saying { identity, lane, state: place.state & SAYING_ASKED, check };
    1
}

/// Whether tags are one of the claims that a service tells its clients apart by: nobody else is told who calls.
#[inline(always)]
fn asks(k: &Kernel, listener: ListenerValue) -> bool {
    let Some(service) = listener.service().and_then(|i| k.service(i)) else { return false };
    let (mut i, mut found) = (0, false);
    while i < limits::IDENTIFY {
        found |= service.identify[i] == TAG;
        i += 1;
    }
    found
}

/// A socket's SYN gets its tag. All else is left as it is: flag and moments are shared with the programs of others, and without a
/// record of ours none of them is ours.
pub fn ops(ctx: &SockOpsContext) {
    let mut o = Ops::new(ctx);
    let op = o.op();
    if op != CONNECT && op != OPTION_LENGTH && op != OPTION_WRITE && op != ESTABLISHED {
        return;
    }
    let Some(said) = o.stored(&maps::SAYINGS) else { return };
    if said.says_nothing() {
        // It may have said something when it dialled before.
        end(&mut o, said);
        return;
    }
    match op {
        CONNECT => {
            if o.ask_for_options(true) {
                said.state |= SAYING_ASKED;
            }
        }
        OPTION_LENGTH => {
            if opens(o.tcp_flags()) && !o.reserve(tag::LEN as u32) {
                no_room(said);
                end(&mut o, said);
            }
        }
        OPTION_WRITE => {
            if opens(o.tcp_flags()) {
                write(&mut o, said);
            }
        }
        _ => {
            // Where all room is taken, nobody is asked.
            if said.state & SAYING_SAID == 0 {
                no_room(said);
            }
            end(&mut o, said);
        }
    }
}

/// Once for each connection.
#[inline(always)]
fn no_room(said: &mut Saying) {
    emit::count(Reason::TagNoRoom);
    said.hush();
}

/// Nobody is asked for options any more, if that was our doing.
#[inline(always)]
fn end(o: &mut Ops, said: &mut Saying) {
    if said.state & SAYING_ASKED != 0 {
        said.state &= !SAYING_ASKED;
        let _ = o.ask_for_options(false);
    }
}

#[inline(always)]
fn write(o: &mut Ops, said: &mut Saying) {
    let (Some(k), Some(number)) = (Kernel::now(), o.number()) else { return };
    let tag = Tag { identity: said.identity, lane: said.lane };
    let option = tag::encode(k.key(), &tag, said.check, number);
    if o.store(&option) {
        said.state |= SAYING_SAID;
        emit::count(Reason::TagSaid);
        links::sockets::says(o, said.lane, number);
    } else {
        no_room(said);
    }
}
