//! Local callers of a service whose requests are read: what they say comes after the call, so the splice listener of this node has the
//! connection (docs/adr/0024-the-splice-listener.md). Where none is there, the connect path decides without it.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{BPF_F_CURRENT_NETNS, bpf_sock_addr},
    helpers::generated::{bpf_sk_release, bpf_skc_lookup_tcp},
    programs::SockAddrContext,
};
use gray_common::{
    Reason,
    decide::Tables as _,
    packet::TCP,
    wire::{Addr, CALL_HANDED, CONTROL_READS, Call, Caller, ListenerKey, Listening, Peer, SERVICE_REQUEST},
};

use crate::{
    ctx::{
        jiffies, ktime_ns, opaque,
        sock::{Sock, labelled},
    },
    emit,
    hooks::links,
    maps::{
        self,
        request::{CALLERS, LISTENER},
    },
    tables::Kernel,
};

/// Not 0: the listener has the connection, and knows whose it is; its caller goes on seeing the service. Two: a program may read the
/// address of its own family only.
///
/// Exported, and so checked once by itself, as the other one.
#[unsafe(export_name = "gray_hand4")]
#[inline(never)]
pub extern "C" fn hand4(raw: *mut bpf_sock_addr) -> u32 {
    let Some(k) = reads() else { return 0 };
    let ctx = &SockAddrContext::new(raw);
    let mut s = Sock::new(ctx);
    let Some(at) = hand(&k, &s, s.addr4(), s.bound4()) else { return 0 };
    s.set4(&at.addr, at.port);
    1
}

#[unsafe(export_name = "gray_hand6")]
#[inline(never)]
pub extern "C" fn hand6(raw: *mut bpf_sock_addr) -> u32 {
    let Some(k) = reads() else { return 0 };
    let ctx = &SockAddrContext::new(raw);
    let mut s = Sock::new(ctx);
    let addr = s.addr6();
    let bound = if addr.is_v4() { s.bound4() } else { s.bound6() };
    let Some(at) = hand(&k, &s, addr, bound) else { return 0 };
    s.set6(&at.addr, at.port);
    1
}

/// Most policies read nothing.
#[inline(always)]
fn reads() -> Option<Kernel> {
    Kernel::now().filter(|k| k.control.flags & CONTROL_READS != 0)
}

#[inline(always)]
fn hand(k: &Kernel, s: &Sock<'_>, addr: Addr, bound: Option<Addr>) -> Option<&'static Listening> {
    let family = opaque(u32::from(!addr.is_v4()));
    let at = LISTENER.get(family).filter(|l| l.until_ns > ktime_ns())?;
    // Of MPTCP the listener would find a subflow's socket; and who is bound to an interface does not hear this node's own address.
    if at.callers == 0 || s.protocol() != u32::from(TCP) || s.is_bound_to_interface() {
        return None;
    }
    if s.stored(&maps::PEERS).is_some_and(|c| c.peer.is_probe()) {
        return None;
    }
    if k.control.netns_cookie != 0 && s.netns_cookie() != k.control.netns_cookie {
        return None;
    }
    let port = s.port();
    let listener = k.listener(&ListenerKey { addr, port, proto: TCP, _pad: 0 });
    let reads = listener.service().and_then(|i| k.service(i)).is_some_and(|s| s.flags & SERVICE_REQUEST != 0);
    if !reads || !is_open(s.raw(), at, family) {
        return None;
    }
    let mut caller = Caller {
        service: addr,
        source: bound.unwrap_or(Addr([0; 16])),
        label: 0,
        lane: 0,
        mark: s.mark(),
        service_port: port.into(),
        _pad: 0,
    };
    if let Some((label, w)) = labelled() {
        caller.label = label;
        let lane = links::lane(w.lane, w.link, 1);
        caller.lane = if k.lane(lane) != 0 { lane } else { 0 };
    }
    let record = s.store(&maps::PEERS)?;
    maps::keep(&CALLERS, &s.cookie(), &caller, 0).ok()?;
    let peer = Peer {
        service: addr,
        instance: at.addr,
        service_port: port,
        instance_port: at.port,
        seen: jiffies() as u32,
    };
    *record = Call { peer, state: CALL_HANDED, ..Call::default() };
    emit::count(Reason::RequestCaller);
    Some(at)
}

/// Whether its socket is there: a listener that was killed is taken for there for seconds.
#[inline(always)]
fn is_open(raw: *mut bpf_sock_addr, at: &Listening, family: u32) -> bool {
    let port = at.port;
    let [a, b] = at.addr.words();
    // `struct bpf_sock_tuple`: addresses, then ports; from nobody, whom a socket that listens does not mind.
    let mut tuple = [0u32; 9];
    let len = if family == 0 {
        (tuple[1], tuple[2]) = (at.addr.as_v4(), u32::from(port) << 16);
        12
    } else {
        (tuple[4], tuple[5], tuple[6], tuple[7]) = (a as u32, (a >> 32) as u32, b as u32, (b >> 32) as u32);
        tuple[8] = u32::from(port) << 16;
        36
    };
    // SAFETY: helpers on the hook's own context; what is found is given back at once.
    unsafe {
        let tuple = (&raw mut tuple).cast();
        let sk = bpf_skc_lookup_tcp(raw.cast::<c_void>(), tuple, len, BPF_F_CURRENT_NETNS as u64, 0);
        if sk.is_null() {
            return false;
        }
        let _ = bpf_sk_release(sk.cast());
    }
    true
}
