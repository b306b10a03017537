//! IPv6 on the packet path.

use aya_ebpf::bindings::__sk_buff;
use gray_common::{
    Reason, csum,
    decide::Decision,
    packet::{ICMPV6, TCP, UDP},
    wire::{Addr, FLOW_CLOSING, FLOW_FORWARD, FLOW_PASS, FLOW_UNRESOLVED, Flow6, FlowKey6, FlowState},
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

/// Ethernet and IPv6 header and the part of the transport header that UDP has.
const MIN: usize = 14 + 40 + 8;
/// ... and that TCP has.
const MIN_TCP: usize = 14 + 40 + 20;
const FIRST: usize = 14;
const LEN: usize = 18;
const NEXT_HEADER: usize = 20;
const HOP_LIMIT: usize = 21;
const SADDR: usize = 22;
const DADDR: usize = 38;
const SPORT: usize = 54;
const DPORT: usize = 56;
const TCP_DOFF: usize = 66;
const TCP_FLAGS: usize = 67;
const TCP_CHECK: usize = 70;
const UDP_LEN: usize = 58;
const UDP_CHECK: usize = 60;
/// Difference of the word that holds next header and hop limit when the limit falls by one (the high byte in memory
/// order on a little-endian machine).
pub const HOP_STEP: u16 = 0xfeff;
/// Extension headers (IANA): hop-by-hop, routing, fragment, ESP, AH, destination options, mobility, HIP, shim6.
const EXTENSIONS: [u8; 8] = [0, 43, 50, 51, 60, 135, 139, 140];
const FRAGMENT: u8 = 44;

/// What the headers say.
struct Seen {
    key: FlowKey6,
    tcp_flags: u8,
    class: u8,
    hops: u8,
    /// Bytes of IP and transport header.
    headers: u32,
}

/// Forwards a packet of a known flow; [`NEW`] describes one of no flow in `SCRATCH.arrival`.
///
/// Exported, and so a function that the verifier checks once by itself, not at each call.
#[unsafe(export_name = "gray_v6_known")]
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
    if !maybe_ours(key.daddr.words(), key.dport) && !maybe_ours(key.saddr.words(), key.sport) {
        return NEXT;
    }
    if let Some(f) = maps::FLOWS6.get_ptr_mut(key) {
        // SAFETY: the element stays readable for the run; concurrent packets of one flow may race on stamps only.
        let f = unsafe { &mut *f };
        if follow(&k, &mut f.state, key.proto as u8, seen.tcp_flags) == Known::Same {
            return forward(&k, skb, f, &seen, side);
        }
        let reply = f.state.flags & FLOW_FORWARD == 0;
        // Also the client's: were the next decision to leave it alone, later segments must not find the old answer.
        let _ = maps::FLOWS6.remove(key);
        if reply {
            return NEXT;
        }
    }
    let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else { return NEXT };
    // SAFETY: this CPU's own slot; tc programs of one CPU do not interrupt each other.
    let a = unsafe { &mut (*scratch).arrival };
    *a = Arrival {
        saddr: key.saddr,
        daddr: key.daddr,
        sport: key.sport,
        dport: key.dport,
        proto: key.proto as u8,
        tcp_flags: seen.tcp_flags,
        dscp: seen.class >> 2,
        is_v4: 0,
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
    if h.get::<u8, FIRST>() >> 4 != 6 {
        return Err(Odd::Broken(Reason::Malformed));
    }
    let proto: u8 = h.get::<u8, NEXT_HEADER>();
    if proto != TCP && proto != UDP {
        return Err(match proto {
            ICMPV6 => Odd::Icmp,
            FRAGMENT => Odd::Broken(Reason::Fragment),
            p if EXTENSIONS.contains(&p) => Odd::Broken(Reason::HeaderUnsupported),
            _ => Odd::Other,
        });
    }
    let total = u32::from(u16::from_be(h.get::<u16, LEN>()));
    let mut seen = Seen {
        key: FlowKey6 {
            saddr: h.get::<Addr, SADDR>(),
            daddr: h.get::<Addr, DADDR>(),
            sport: h.get::<u16, SPORT>(),
            dport: h.get::<u16, DPORT>(),
            proto: u32::from(proto),
        },
        tcp_flags: 0,
        // The traffic class is split over the first two bytes.
        class: h.get::<u8, FIRST>() << 4 | h.get::<u8, 15>() >> 4,
        hops: h.get::<u8, HOP_LIMIT>(),
        headers: 48,
    };
    if proto == UDP {
        let udp = u32::from(u16::from_be(h.get::<u16, UDP_LEN>()));
        // A GSO packet's lengths may be of one segment or 0: only the lower bound can be held against it.
        if total < 8 || total + 54 > len || udp < 8 {
            return Err(Odd::Broken(Reason::Malformed));
        }
        return Ok(seen);
    }
    let Some(h) = skb.head::<MIN_TCP>() else { return Err(Odd::Broken(Reason::Malformed)) };
    seen.tcp_flags = h.get::<u8, TCP_FLAGS>();
    let doff = u32::from(h.get::<u8, TCP_DOFF>() >> 4) * 4;
    seen.headers = 40 + doff;
    // Length 0 is a BIG TCP super-packet (Linux 5.19).
    if doff < 20 || (total != 0 && (total < doff || total + 54 > len)) {
        return Err(Odd::Broken(Reason::Malformed));
    }
    Ok(seen)
}

/// Rewrites a packet of a known flow and sends it on.
#[inline(always)]
fn forward(k: &Kernel, skb: &mut Skb, f: &mut Flow6, seen: &Seen, side: Side) -> i32 {
    account(&f.state, skb.len());
    if f.state.flags & FLOW_PASS != 0 {
        return NEXT;
    }
    if side == Side::Ingress {
        if seen.hops <= 1 {
            emit::count(Reason::TtlExpired);
            return NEXT;
        }
        if hop_is_old(k, &f.state) {
            let hop = skb.next_hop6(&f.saddr, &f.daddr);
            set_hop(&mut f.state, hop);
        }
    }
    let out = exit(skb, &f.state, side, seen.headers, true);
    if out.way == Way::TooBig {
        return too_big::v6(skb.raw(), out.to);
    }
    let Some(mut h) = skb.head::<MIN>() else { return NEXT };
    write(&mut h, f, seen.hops, out.way, side);
    let (addr, port) = (f.state.l4_addr, f.state.l4_port);
    let ok = if seen.key.proto == u32::from(TCP) {
        skb.l4_csum::<MIN_TCP, TCP_CHECK>(addr, port, false)
    } else {
        // UDP over IPv6 must have a checksum (RFC 8200, 8.1).
        skb.l4_csum::<MIN, UDP_CHECK>(addr, port, true)
    };
    let step = if side == Side::Ingress { HOP_STEP } else { 0 };
    skb.complete_csum(csum::add(addr, step));
    leave(k, skb, out, ok)
}

#[inline(always)]
fn write(h: &mut Head<'_, MIN>, f: &Flow6, hops: u8, way: Way, side: Side) {
    if side == Side::Ingress {
        h.set::<u8, HOP_LIMIT>(hops - 1);
    }
    h.set::<Addr, SADDR>(f.saddr);
    h.set::<Addr, DADDR>(f.daddr);
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
#[unsafe(export_name = "gray_v6_record")]
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
    let key = &mut scratch.key6;
    *key = FlowKey6 {
        saddr: a.saddr,
        daddr: a.daddr,
        sport: a.sport,
        dport: a.dport,
        proto: u32::from(a.proto),
    };
    let key = &*key;
    let d = &scratch.decision;
    let f = &mut scratch.flow6;
    if stay {
        let state = FlowState { flags: FLOW_FORWARD | FLOW_PASS, ..state(d) };
        *f = Flow6 { saddr: key.saddr, daddr: key.daddr, sport: key.sport, dport: key.dport, state };
        return insert(key, f);
    }
    let (server, port) = (d.instance.addr, d.instance.port);
    let back = &mut scratch.back6;
    *back = FlowKey6 { saddr: server, daddr: key.saddr, sport: port, dport: key.sport, proto: key.proto };
    if let Some(other) = maps::FLOWS6.get_ptr_mut(&*back) {
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
fn insert(key: &FlowKey6, f: &Flow6) -> bool {
    if maps::FLOWS6.insert(key, f, 0).is_err() {
        emit::count(Reason::FlowInsert);
        return false;
    }
    true
}

/// Fills in the entry that turns the tuple of `key` into the new one.
#[inline(always)]
fn fill(f: &mut Flow6, key: &FlowKey6, addrs: [Addr; 2], ports: [u16; 2], direction: u16, d: &Decision) {
    let addr = csum::add(
        csum::diff128(key.saddr.words(), addrs[0].words()),
        csum::diff128(key.daddr.words(), addrs[1].words()),
    );
    let port = csum::add(csum::diff16(key.sport, ports[0]), csum::diff16(key.dport, ports[1]));
    let state = FlowState { l4_addr: addr, l4_port: port, flags: direction | FLOW_UNRESOLVED, ..state(d) };
    *f = Flow6 { saddr: addrs[0], daddr: addrs[1], sport: ports[0], dport: ports[1], state };
}

#[inline(always)]
fn state(d: &Decision) -> FlowState {
    FlowState { seen: jiffies() as u32, rule: d.rule, counter: emit::counter(d), ..FlowState::default() }
}
