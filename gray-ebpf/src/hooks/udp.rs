//! UDP sockets that are not connected: every datagram names its destination, every answer its source.

use aya_ebpf::programs::SockAddrContext;
use gray_common::{
    Reason, limits,
    packet::UDP,
    wire::{Addr, Peer},
};

use super::connect::{ALLOWED, Dialled, Target, choose, peer};
use crate::{
    ctx::{jiffies, opaque, sock::Sock},
    emit, maps,
    tables::Kernel,
};

pub fn sendmsg4(ctx: &SockAddrContext) -> i32 {
    let mut s = Sock::new(ctx);
    let dialled = Dialled { addr: s.addr4(), port: s.port(), proto: UDP };
    let mut answer = ALLOWED;
    if let Some(i) = send(&s, &dialled, s.bound4(), &mut answer) {
        s.set4(&i.addr, i.port);
    }
    answer
}

pub fn sendmsg6(ctx: &SockAddrContext) -> i32 {
    let mut s = Sock::new(ctx);
    let dialled = Dialled { addr: s.addr6(), port: s.port(), proto: UDP };
    let bound = if dialled.addr.is_v4() { s.bound4() } else { s.bound6() };
    let mut answer = ALLOWED;
    if let Some(i) = send(&s, &dialled, bound, &mut answer) {
        s.set6(&i.addr, i.port);
    }
    answer
}

pub fn recvmsg4(ctx: &SockAddrContext) {
    let mut s = Sock::new(ctx);
    if let Some((addr, port)) = service_of(&s, &s.addr4()) {
        s.set4(&addr, port);
    }
}

pub fn recvmsg6(ctx: &SockAddrContext) {
    let mut s = Sock::new(ctx);
    if let Some((addr, port)) = service_of(&s, &s.addr6()) {
        s.set6(&addr, port);
    }
}

/// A socket keeps its instance while it keeps talking, also over a policy change; after a pause it is decided anew.
#[inline(always)]
fn send(s: &Sock<'_>, d: &Dialled, source: Option<Addr>, answer: &mut i32) -> Option<Target> {
    let k = Kernel::now()?;
    let now = jiffies() as u32;
    if let Some(peers) = s.stored(&maps::UDP_PEERS) {
        let idle = limits::UDP_IDLE_S.wrapping_mul(k.control.hz);
        let mut i = 0;
        while i < limits::UDP_PEERS {
            let p = &mut peers.peers[i];
            if p.service == d.addr && p.service_port == d.port && now.wrapping_sub(p.seen) < idle {
                p.seen = now;
                return Some(Target { addr: p.instance, port: p.instance_port });
            }
            i += 1;
        }
    }
    let decision = choose(&k, s, d, source, answer)?;
    let instance = decision.instance;
    let p = Peer {
        service: d.addr,
        instance: instance.addr,
        service_port: d.port,
        instance_port: instance.port,
        seen: now,
    };
    if !remember(s, p) {
        emit::passed(&k, Reason::StorageFull);
        return None;
    }
    Some(Target { addr: instance.addr, port: instance.port })
}

/// Puts a pair into the socket's record, over the pair of the same service or else the oldest.
#[inline(always)]
fn remember(s: &Sock<'_>, p: Peer) -> bool {
    let Some(r) = s.store(&maps::UDP_PEERS) else { return false };
    let mut at = opaque(r.next) as usize;
    r.next = (r.next + 1) % limits::UDP_PEERS as u32;
    let mut i = 0;
    while i < limits::UDP_PEERS {
        if r.peers[i].service == p.service && r.peers[i].service_port == p.service_port {
            at = i;
        }
        i += 1;
    }
    // A mask, not a comparison: where the value was spilled before it is compared, verifiers before Linux 6.3 do not learn
    // the bound of the copy on the stack.
    const { assert!(limits::UDP_PEERS.is_power_of_two()) };
    r.peers[opaque(at as u32) as usize % limits::UDP_PEERS] = p;
    true
}

/// The service address for an answer from `actual`.
#[inline(always)]
fn service_of(s: &Sock<'_>, actual: &Addr) -> Option<(Addr, u16)> {
    if let Some(p) = peer(s, actual) {
        return Some((p.service, p.service_port));
    }
    let peers = s.stored(&maps::UDP_PEERS)?;
    let port = s.port();
    let mut i = 0;
    while i < limits::UDP_PEERS {
        let p = &peers.peers[i];
        if p.instance == *actual && p.instance_port == port {
            return Some((p.service, p.service_port));
        }
        i += 1;
    }
    None
}
