//! IPv6 in XDP: TCP and UDP without extension headers.

use core::hint::cold_path;

use aya_ebpf::bindings::{xdp_action::XDP_PASS, xdp_md};
use gray_common::{
    csum,
    packet::{TCP, TCP_SYN, UDP},
    wire::{FLOW_DSR, FLOW_FORWARD, FLOW_PASS, FLOW_SPLICE, FLOW_UNRESOLVED, Flow6, FlowKey6},
};

use super::{NEW, dsr, exit};
use crate::{
    ctx::{
        words::{key6, macs, tuple6},
        xdp::Frame,
    },
    hooks::{
        admit::Arrival,
        breaker::silence,
        dsr::{Inner, later6},
        life::{Known, account, follow, hop_is_old, set_hop_quietly},
        packet::WRAP,
        tags,
        times::{self, Moment},
        v6::{ADDRS, DADDR, FIRST, HOP_LIMIT, IP, LEN, NEXT_HEADER, answers_of},
    },
    maps,
    tables::Kernel,
};

/// Up to the end of the UDP header, and of the TCP header without options.
const UDP_END: usize = IP + 8;
const TCP_END: usize = IP + 20;

/// What the headers say.
struct Seen {
    key: FlowKey6,
    tcp_flags: u8,
    class: u8,
    hops: u8,
    len: u64,
    /// Of TCP: it carries bytes of the stream, and where they begin.
    says: bool,
    text: u32,
}

/// Sends a packet of a known flow; [`NEW`] describes one of no flow in `SCRATCH.arrival`.
#[inline(always)]
pub fn find(frame: &Frame) -> u32 {
    // Before the call, which costs more than this.
    let Some(h) = frame.head::<UDP_END>() else { return XDP_PASS };
    let Some(f) = maps::FILTER.get(0) else { return XDP_PASS };
    if !f.knows_end6(h.get::<[u64; 2], DADDR>(), h.get::<u16, { IP + 2 }>())
        && !f.knows_end6(h.get::<[u64; 2], ADDRS>(), h.get::<u16, IP>())
    {
        return XDP_PASS;
    }
    known(frame.raw())
}

/// The same of what the filter in front may know.
///
/// Exported, and so a function that the verifier checks once by itself. IPv4 does without: both families' stack frames in
/// one would be too much.
#[unsafe(export_name = "gray_xdp_v6_known")]
#[inline(never)]
pub extern "C" fn known(raw: *mut xdp_md) -> u32 {
    let Some(k) = Kernel::now() else { return XDP_PASS };
    let frame = Frame::from_raw(raw);
    let Some(seen) = parse(&frame) else { return XDP_PASS };
    if tags::may_have(seen.tcp_flags) {
        cold_path();
        return XDP_PASS;
    }
    let key = &seen.key;
    let mut again = 0;
    if let Some(f) = maps::FLOWS6.get_ptr_mut(key) {
        // SAFETY: the element stays readable for the run; concurrent packets of one flow may race on stamps only.
        let f = unsafe { &mut *f };
        if f.state.flags & (FLOW_PASS | FLOW_DSR | FLOW_SPLICE) != 0 {
            cold_path();
            if f.state.flags & (FLOW_PASS | FLOW_SPLICE) != 0 {
                return XDP_PASS;
            }
            let inner = Inner {
                headers: 0,
                l4: u32::from(seen.tcp_flags),
                ttl: u16::from(seen.hops),
                tos: u16::from(seen.class),
            };
            return if later6(key, inner) == WRAP { dsr::v6(raw) } else { XDP_PASS };
        }
        // In this order: a packet that is left to tc leaves no trace here, or its end would be seen twice.
        let to = way(&k, &frame, f, &seen);
        if to == 0 {
            return XDP_PASS;
        }
        let Flow6 { saddr, daddr, sport, dport, state } = &mut *f;
        let first = |m| match m {
            Moment::Asked => {
                answers_of((daddr, saddr), (*dport, *sport), key.proto);
                let _ = times::asked6(0);
            }
            Moment::Answered(counter) => {
                let _ = times::said_early(frame.raw(), counter.into(), seen.text);
            }
        };
        if follow(&k, state, key.proto as u8, (seen.tcp_flags, seen.says), first) == Known::Same {
            return send(&frame, f, &seen, to);
        }
        if f.state.flags & FLOW_FORWARD == 0 {
            return XDP_PASS;
        }
        again = silence(&f.state, key.proto as u8, k.control.hz);
        maps::FLOWS6.remove(key, false);
    }
    let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else { return XDP_PASS };
    // SAFETY: this CPU's own slot; packet programs of one CPU do not interrupt each other.
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
        mark: 0,
        attempt: 0,
        again,
    };
    NEW
}

/// `None`: not plain, or broken, which tc says.
#[inline(always)]
fn parse(frame: &Frame) -> Option<Seen> {
    let h = frame.head::<UDP_END>()?;
    let (first, proto) = (h.get::<u8, FIRST>(), h.get::<u8, NEXT_HEADER>());
    if first >> 4 != 6 {
        return None;
    }
    // Of what follows the IPv6 header.
    let (total, len) = (u64::from(u16::from_be(h.get::<u16, LEN>())), frame.len());
    let mut seen = Seen {
        key: key6(h.get::<[u64; 4], ADDRS>(), h.get::<u32, IP>(), proto),
        tcp_flags: 0,
        class: first << 4 | h.get::<u8, 15>() >> 4,
        hops: h.get::<u8, HOP_LIMIT>(),
        len,
        says: false,
        text: 0,
    };
    let least = match proto {
        TCP => {
            let t = frame.head::<TCP_END>()?;
            seen.tcp_flags = t.get::<u8, { IP + 13 }>();
            let doff = u64::from(t.get::<u8, { IP + 12 }>() >> 4) * 4;
            if doff < 20 {
                return None;
            }
            (seen.says, seen.text) = (total > doff, IP as u32 + doff as u32);
            doff
        }
        UDP if u16::from_be(h.get::<u16, { IP + 4 }>()) >= 8 => 8,
        _ => return None,
    };
    if total < least || total + IP as u64 > len { None } else { Some(seen) }
}

/// The interface that a packet of a known flow leaves by; 0: tc has to see to it.
#[inline(always)]
fn way(k: &Kernel, frame: &Frame, f: &mut Flow6, seen: &Seen) -> u32 {
    if seen.hops <= 1 {
        return 0;
    }
    if seen.tcp_flags & TCP_SYN != 0 || hop_is_old(k, &f.state) {
        cold_path();
        // Whether neighbour and answers are still there, tc looks.
        if f.state.flags & FLOW_UNRESOLVED == 0 {
            return 0;
        }
        let hop = frame.next_hop6(&f.saddr, &f.daddr);
        set_hop_quietly(k, &mut f.state, hop);
    }
    exit(&f.state, seen.len)
}

/// Rewrites a packet of a known flow and sends it on.
#[inline(always)]
fn send(frame: &Frame, f: &Flow6, seen: &Seen, to: u32) -> u32 {
    let Some(mut h) = frame.head::<UDP_END>() else { return XDP_PASS };
    let (addrs, ports) = tuple6(f);
    let l4 = csum::add(f.state.l4_addr, f.state.l4_port);
    if seen.key.proto == u32::from(TCP) {
        let Some(mut t) = frame.head::<TCP_END>() else { return XDP_PASS };
        t.set::<u16, { IP + 16 }>(csum::update(t.get::<u16, { IP + 16 }>(), l4));
    } else {
        // 0 is as wrong before as after (RFC 8200, 8.1).
        let check = h.get::<u16, { IP + 6 }>();
        if check != 0 {
            let check = csum::update(check, l4);
            h.set::<u16, { IP + 6 }>(if check == 0 { 0xffff } else { check });
        }
    }
    account(&f.state, seen.len as u32);
    h.set::<[u64; 4], ADDRS>(addrs);
    h.set::<u32, IP>(ports);
    h.set::<u8, HOP_LIMIT>(seen.hops - 1);
    let (first, rest) = macs(&f.state);
    h.set::<u64, 0>(first);
    h.set::<u32, 8>(rest);
    frame.leave(to)
}
