//! IPv4 on the packet path.

use aya_ebpf::bindings::__sk_buff;
use gray_common::{
    Reason, csum,
    decide::Decision,
    packet::{ICMP, TCP, UDP, V4_DF, V4_FRAGMENT},
    wire::{Addr, FLOW_CLOSING, FLOW_FORWARD, FLOW_PASS, FLOW_UNRESOLVED, Flow4, FlowKey4, FlowState},
};

use super::{
    admit::Arrival,
    icmp::too_big,
    packet::{
        ERROR, Known, NEW, NEXT, Odd, Side, Way, account, exit, follow, hop_is_old, leave, maybe_ours,
        set_hop,
    },
};
use crate::{
    ctx::{
        jiffies,
        skb::{Head, Skb},
    },
    emit,
    maps::{self, Scratch},
    tables::Kernel,
};

/// Ethernet and IPv4 header and the part of the transport header that UDP has.
const MIN: usize = 14 + 20 + 8;
/// ... and that TCP has.
const MIN_TCP: usize = 14 + 20 + 20;
const TOS: usize = 15;
const LEN: usize = 16;
const FRAG: usize = 20;
const TTL: usize = 22;
const PROTO: usize = 23;
const CHECK: usize = 24;
const SADDR: usize = 26;
const DADDR: usize = 30;
const SPORT: usize = 34;
const DPORT: usize = 36;
const TCP_DOFF: usize = 46;
const TCP_FLAGS: usize = 47;
const TCP_CHECK: usize = 50;
const UDP_LEN: usize = 38;
const UDP_CHECK: usize = 40;
/// Difference of the word that holds TTL and protocol when the TTL falls by one.
const TTL_STEP: u16 = 0xfffe;

/// What the headers say.
struct Seen {
    key: FlowKey4,
    tcp_flags: u8,
    tos: u8,
    ttl: u8,
    /// Bytes of IP and transport header.
    headers: u32,
    /// Not to be fragmented.
    whole: bool,
}

/// Forwards a packet of a known flow; [`NEW`] describes one of no flow in `SCRATCH.arrival`.
///
/// Exported, and so a function that the verifier checks once by itself, not at each call.
#[unsafe(export_name = "gray_v4_known")]
#[inline(never)]
pub extern "C" fn known(raw: *mut __sk_buff, epoch: u64, egress: u32) -> i32 {
    let Some(k) = Kernel::at(epoch) else { return NEXT };
    let side = if egress == 0 { Side::Ingress } else { Side::Egress };
    let skb = &mut Skb::from_raw(raw);
    let len = skb.len();
    let seen = match parse(skb, len) {
        Ok(s) => s,
        Err(Odd::Other) => return NEXT,
        Err(Odd::Icmp) => return ERROR,
        Err(Odd::Broken(reason)) => {
            emit::count(reason);
            return NEXT;
        }
    };
    let key = &seen.key;
    if !maybe_ours(Addr::v4(key.daddr).words(), key.dport)
        && !maybe_ours(Addr::v4(key.saddr).words(), key.sport)
    {
        return NEXT;
    }
    if let Some(f) = maps::FLOWS4.get_ptr_mut(key) {
        // SAFETY: the element stays readable for the run; concurrent packets of one flow may race on stamps only.
        let f = unsafe { &mut *f };
        if follow(&k, &mut f.state, key.proto as u8, seen.tcp_flags) == Known::Same {
            return forward(&k, skb, f, &seen, side);
        }
        let reply = f.state.flags & FLOW_FORWARD == 0;
        // Also the client's: were the next decision to leave it alone, later segments must not find the old answer.
        let _ = maps::FLOWS4.remove(key);
        if reply {
            return NEXT;
        }
    }
    let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else { return NEXT };
    // SAFETY: this CPU's own slot; tc programs of one CPU do not interrupt each other.
    let a = unsafe { &mut (*scratch).arrival };
    *a = Arrival {
        saddr: Addr::v4(key.saddr),
        daddr: Addr::v4(key.daddr),
        sport: key.sport,
        dport: key.dport,
        proto: key.proto as u8,
        tcp_flags: seen.tcp_flags,
        dscp: seen.tos >> 2,
        is_v4: 1,
        mark: skb.mark(),
    };
    NEW
}

#[inline(always)]
fn parse(skb: &mut Skb, len: u32) -> Result<Seen, Odd> {
    let Some(h) = skb.head::<MIN>() else {
        // Short frames of other protocols (an echo request without data) are no fault.
        return Err(Odd::Other);
    };
    let ihl: u8 = h.get::<u8, 14>();
    if ihl != 0x45 {
        return Err(Odd::Broken(if ihl >> 4 == 4 && ihl & 15 > 5 {
            Reason::HeaderUnsupported
        } else {
            Reason::Malformed
        }));
    }
    let proto: u8 = h.get::<u8, PROTO>();
    if proto != TCP && proto != UDP {
        return Err(if proto == ICMP { Odd::Icmp } else { Odd::Other });
    }
    if h.get::<u16, FRAG>() & V4_FRAGMENT != 0 {
        return Err(Odd::Broken(Reason::Fragment));
    }
    let total = u32::from(u16::from_be(h.get::<u16, LEN>()));
    let mut seen = Seen {
        key: FlowKey4 {
            saddr: h.get::<u32, SADDR>(),
            daddr: h.get::<u32, DADDR>(),
            sport: h.get::<u16, SPORT>(),
            dport: h.get::<u16, DPORT>(),
            proto: u32::from(proto),
        },
        tcp_flags: 0,
        tos: h.get::<u8, TOS>(),
        ttl: h.get::<u8, TTL>(),
        headers: 28,
        whole: h.get::<u16, FRAG>() & V4_DF != 0,
    };
    if proto == UDP {
        let udp = u32::from(u16::from_be(h.get::<u16, UDP_LEN>()));
        // A GSO packet's lengths may be of one segment or 0: only the lower bound can be held against it.
        if total < 28 || total + 14 > len || udp < 8 {
            return Err(Odd::Broken(Reason::Malformed));
        }
        return Ok(seen);
    }
    let Some(h) = skb.head::<MIN_TCP>() else { return Err(Odd::Broken(Reason::Malformed)) };
    seen.tcp_flags = h.get::<u8, TCP_FLAGS>();
    let doff = u32::from(h.get::<u8, TCP_DOFF>() >> 4) * 4;
    seen.headers = 20 + doff;
    // Length 0 is a BIG TCP super-packet (Linux 6.3).
    if doff < 20 || (total != 0 && (total < 20 + doff || total + 14 > len)) {
        return Err(Odd::Broken(Reason::Malformed));
    }
    Ok(seen)
}

/// Rewrites a packet of a known flow and sends it on.
#[inline(always)]
fn forward(k: &Kernel, skb: &mut Skb, f: &mut Flow4, seen: &Seen, side: Side) -> i32 {
    account(&f.state, skb.len());
    if f.state.flags & FLOW_PASS != 0 {
        return NEXT;
    }
    if side == Side::Ingress {
        if seen.ttl <= 1 {
            emit::count(Reason::TtlExpired);
            return NEXT;
        }
        if hop_is_old(k, &f.state) {
            let hop = skb.next_hop4(f.saddr, f.daddr, seen.tos);
            set_hop(&mut f.state, hop);
        }
    }
    let out = exit(skb, &f.state, side, seen.headers, seen.whole);
    if out.way == Way::TooBig {
        return too_big::v4(skb.raw(), out.to);
    }
    let Some(mut h) = skb.head::<MIN>() else { return NEXT };
    write(&mut h, f, seen.ttl, out.way, side);
    let (addr, port) = (f.state.l4_addr, f.state.l4_port);
    let ok = if seen.key.proto == u32::from(TCP) {
        skb.l4_csum::<MIN_TCP, TCP_CHECK>(addr, port, false)
    } else {
        skb.l4_csum::<MIN, UDP_CHECK>(addr, port, true)
    };
    leave(k, skb, out, ok)
}

#[inline(always)]
fn write(h: &mut Head<'_, MIN>, f: &Flow4, ttl: u8, way: Way, side: Side) {
    let mut l3 = f.state.l3;
    if side == Side::Ingress {
        h.set::<u8, TTL>(ttl - 1);
    } else {
        // The stored difference includes a TTL step that is not made here.
        l3 = csum::add(l3, !TTL_STEP);
    }
    h.set::<u16, CHECK>(csum::update(h.get::<u16, CHECK>(), l3));
    h.set::<u32, SADDR>(f.saddr);
    h.set::<u32, DADDR>(f.daddr);
    h.set::<u16, SPORT>(f.sport);
    h.set::<u16, DPORT>(f.dport);
    if way == Way::Redirect {
        h.set::<[u8; 6], 0>(f.state.dmac);
        h.set::<[u8; 6], 6>(f.state.smac);
    }
}

/// Records both directions of a decided flow. 1: done.
///
/// Exported: see `known`.
#[unsafe(export_name = "gray_v4_record")]
#[inline(never)]
pub extern "C" fn record(stay: u32) -> u32 {
    let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: as in `known`.
    let scratch = unsafe { &mut *scratch };
    u32::from(both_ways(scratch, stay != 0))
}

#[inline(always)]
fn both_ways(scratch: &mut Scratch, stay: bool) -> bool {
    let a = &scratch.arrival;
    let key = &mut scratch.key4;
    *key = FlowKey4 {
        saddr: a.saddr.as_v4(),
        daddr: a.daddr.as_v4(),
        sport: a.sport,
        dport: a.dport,
        proto: u32::from(a.proto),
    };
    let key = &*key;
    let d = &scratch.decision;
    let f = &mut scratch.flow4;
    if stay {
        let state = FlowState { flags: FLOW_FORWARD | FLOW_PASS, ..state(d) };
        *f = Flow4 { saddr: key.saddr, daddr: key.daddr, sport: key.sport, dport: key.dport, state };
        return insert(key, f);
    }
    let (server, port) = (d.instance.addr.as_v4(), d.instance.port);
    let back = &mut scratch.back4;
    *back = FlowKey4 { saddr: server, daddr: key.saddr, sport: port, dport: key.sport, proto: key.proto };
    if let Some(other) = maps::FLOWS4.get_ptr_mut(&*back) {
        // SAFETY: as in `known`.
        let other = unsafe { &*other };
        let same = other.saddr == key.daddr && other.sport == key.dport;
        if !same && other.state.flags & FLOW_CLOSING == 0 {
            emit::count(Reason::TupleClash);
            return false;
        }
    }
    fill(f, back, [key.daddr, key.saddr], [key.dport, key.sport], 0, d);
    if !insert(back, f) {
        return false;
    }
    fill(f, key, [key.saddr, server], [key.sport, port], FLOW_FORWARD, d);
    insert(key, f)
}

#[inline(always)]
fn insert(key: &FlowKey4, f: &Flow4) -> bool {
    if maps::FLOWS4.insert(key, f, 0).is_err() {
        emit::count(Reason::FlowInsert);
        return false;
    }
    true
}

/// Fills in the entry that turns the tuple of `key` into the new one.
#[inline(always)]
fn fill(f: &mut Flow4, key: &FlowKey4, addrs: [u32; 2], ports: [u16; 2], direction: u16, d: &Decision) {
    let addr = csum::add(csum::diff32(key.saddr, addrs[0]), csum::diff32(key.daddr, addrs[1]));
    let port = csum::add(csum::diff16(key.sport, ports[0]), csum::diff16(key.dport, ports[1]));
    let state = FlowState {
        l3: csum::add(addr, TTL_STEP),
        l4_addr: addr,
        l4_port: port,
        flags: direction | FLOW_UNRESOLVED,
        ..state(d)
    };
    *f = Flow4 { saddr: addrs[0], daddr: addrs[1], sport: ports[0], dport: ports[1], state };
}

#[inline(always)]
fn state(d: &Decision) -> FlowState {
    FlowState { seen: jiffies() as u32, rule: d.rule, counter: emit::counter(d), ..FlowState::default() }
}
