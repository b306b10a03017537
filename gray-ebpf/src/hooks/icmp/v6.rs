//! ICMPv6 (RFC 4443) errors.

use aya_ebpf::bindings::__sk_buff;
use gray_common::{
    Reason, csum,
    packet::{IPV6, TCP, UDP},
    wire::{Addr, FLOW_DSR, FLOW_FORWARD, FLOW_PASS, FLOW_SPLICE, Flow6, FlowKey6},
};

use super::super::{
    breaker::unreached,
    dsr::{self, Inner},
    life::{hop_is_old, set_hop},
    packet::{NEXT, Side, Way, exit, leave},
    request::{UNKNOWN, shift_of},
    v6::HOP_STEP,
};
use crate::{
    ctx::{
        skb::{Head, Skb},
        words::macs,
    },
    emit, maps,
    tables::Kernel,
};

/// Ethernet, IPv6 and ICMPv6 header; the quoted IPv6 header and eight bytes after it.
const MIN: usize = 14 + 40 + 8 + 40 + 8;
const HOP_LIMIT: usize = 21;
const SADDR: usize = 22;
const DADDR: usize = 38;
const TYPE: usize = 54;
const ICMP_CHECK: usize = 56;
const Q_FIRST: usize = 62;
const Q_NEXT_HEADER: usize = 68;
const Q_SADDR: usize = 70;
const Q_DADDR: usize = 86;
const Q_SPORT: usize = 102;
const Q_DPORT: usize = 104;
const Q_SEQ: usize = 106;

const UNREACHABLE: u8 = 1;
/// Destination unreachable, packet too big, time exceeded, parameter problem.
const ERRORS: core::ops::RangeInclusive<u8> = 1..=4;

/// Translates an error about a packet of a known flow and sends it on; any other goes on unchanged.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_v6_error")]
#[inline(never)]
pub extern "C" fn error(raw: *mut __sk_buff, egress: u32) -> i32 {
    let Some(k) = Kernel::now() else { return NEXT };
    let side = if egress == 0 { Side::Ingress } else { Side::Egress };
    let skb = &mut Skb::from_raw(raw);
    let Some(h) = skb.head::<MIN>() else { return NEXT };
    if !ERRORS.contains(&h.get::<u8, TYPE>()) || h.get::<u8, Q_FIRST>() >> 4 != 6 {
        return NEXT;
    }
    let proto: u8 = h.get::<u8, Q_NEXT_HEADER>();
    let quoted = dsr::told::about(proto, h.get::<u16, Q_DPORT>(), IPV6);
    if quoted && side == Side::Ingress && dsr::told::v6(raw) != 0 {
        return NEXT;
    }
    if proto != TCP && proto != UDP {
        return NEXT;
    }
    // An instance may have that port, too.
    let Some(h) = skb.head::<MIN>() else { return NEXT };
    let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else { return NEXT };
    // SAFETY: this CPU's own slot; tc programs of one CPU do not interrupt each other.
    let back = unsafe { &mut (*scratch).back6 };
    *back = FlowKey6 {
        saddr: h.get::<Addr, Q_DADDR>(),
        daddr: h.get::<Addr, Q_SADDR>(),
        sport: h.get::<u16, Q_DPORT>(),
        dport: h.get::<u16, Q_SPORT>(),
        proto: u32::from(proto),
    };
    let (client, hops) = (h.get::<[u64; 2], DADDR>(), h.get::<u8, HOP_LIMIT>());
    let unreachable = h.get::<u8, TYPE>() == UNREACHABLE;
    let class = h.get::<u8, 14>() << 4 | h.get::<u8, 15>() >> 4;
    let Some(f) = maps::FLOWS6.find(&*back, maps::flooded()) else { return NEXT };
    // SAFETY: the element stays readable for the run; concurrent packets of one flow may race on the next hop only.
    let f = unsafe { &mut *f };
    // An error goes to the sender of what it quotes; another one is not for us to translate.
    if f.state.flags & FLOW_PASS != 0 || client != back.daddr.words() {
        return NEXT;
    }
    if f.state.flags & FLOW_DSR != 0 {
        // About an answer of an instance, which sent it from the service's address: it gets the error like any packet to there.
        if side == Side::Egress {
            return NEXT;
        }
        let inner = Inner { headers: 0, l4: 0, ttl: u16::from(hops), tos: u16::from(class) };
        return dsr::later6(back, inner);
    }
    if side == Side::Ingress {
        if hops <= 1 {
            emit::count(Reason::TtlExpired);
            return NEXT;
        }
        if hop_is_old(&k, &f.state) {
            let hop = skb.next_hop6(&f.saddr, &f.daddr);
            set_hop(&k, &mut f.state, hop);
        }
    }
    // About an answer of an instance, in the numbers that its client sees. Its client's own are the same on both sides.
    let mut shift = 0;
    if f.state.flags & (FLOW_SPLICE | FLOW_FORWARD) == FLOW_SPLICE | FLOW_FORWARD {
        // SAFETY: as above.
        unsafe { (*scratch).key6 = *back };
        shift = shift_of(0);
        if shift == UNKNOWN {
            return NEXT;
        }
    }
    if unreachable {
        unreached(&mut f.state, proto);
    }
    let out = exit(skb, &f.state, side, 0, false);
    let Some(mut h) = skb.head::<MIN>() else { return NEXT };
    write(&mut h, back, f, out.way, side);
    if shift != 0 {
        renumber(&mut h, shift as u32);
    }
    emit::count(Reason::IcmpError);
    if side == Side::Ingress {
        // ICMPv6's checksum covers the outer addresses, too, so only the hop limit changes the packet's whole sum.
        skb.complete_csum(HOP_STEP);
    }
    leave(&k, skb, out, true)
}

/// The sequence number in the quotation, and ICMP's checksum, which covers it.
#[inline(always)]
fn renumber(h: &mut Head<'_, MIN>, shift: u32) {
    let seq = h.get::<u32, Q_SEQ>();
    let own = u32::from_be(seq).wrapping_add(shift).to_be();
    h.set::<u32, Q_SEQ>(own);
    h.set::<u16, ICMP_CHECK>(csum::update(h.get::<u16, ICMP_CHECK>(), csum::diff32(seq, own)));
}

#[inline(always)]
fn write(h: &mut Head<'_, MIN>, back: &FlowKey6, f: &Flow6, way: Way, side: Side) {
    if side == Side::Ingress {
        let hops: u8 = h.get::<u8, HOP_LIMIT>();
        h.set::<u8, HOP_LIMIT>(hops.wrapping_sub(1));
    }
    let to = csum::diff128(back.daddr.words(), f.daddr.words());
    // The outer header: from the instance itself, or from some router.
    let mut all = to;
    if h.get::<[u64; 2], SADDR>() == back.saddr.words() {
        let from = csum::diff128(back.saddr.words(), f.saddr.words());
        // There and, below, in the quotation.
        all = csum::add(all, from);
        h.set::<[u64; 2], SADDR>(f.saddr.words());
    }
    h.set::<[u64; 2], DADDR>(f.daddr.words());
    // The quotation, turned round.
    all = csum::add(all, csum::add(to, csum::diff128(back.saddr.words(), f.saddr.words())));
    all = csum::add(all, csum::add(csum::diff16(back.dport, f.dport), csum::diff16(back.sport, f.sport)));
    h.set::<[u64; 2], Q_SADDR>(f.daddr.words());
    h.set::<[u64; 2], Q_DADDR>(f.saddr.words());
    h.set::<u16, Q_SPORT>(f.dport);
    h.set::<u16, Q_DPORT>(f.sport);
    h.set::<u16, ICMP_CHECK>(csum::update(h.get::<u16, ICMP_CHECK>(), all));
    if way == Way::Redirect {
        let (first, rest) = macs(&f.state);
        h.set::<u64, 0>(first);
        h.set::<u32, 8>(rest);
    }
}
