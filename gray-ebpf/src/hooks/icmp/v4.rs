//! ICMP (RFC 792) errors; what a translator does to them is RFC 5508, section 4.2.

use aya_ebpf::bindings::__sk_buff;
use gray_common::{
    Reason, csum,
    packet::{IPIP, TCP, UDP, V4_FRAGMENT, V4_OFFSET},
    wire::{FLOW_DSR, FLOW_FORWARD, FLOW_PASS, FLOW_SPLICE, Flow4, FlowKey4},
};

use super::super::{
    breaker::unreached,
    dsr::{self, Inner},
    life::{hop_is_old, set_hop},
    packet::{NEXT, Side, Way, exit, leave},
    request::{UNKNOWN, shift_of},
};
use crate::{
    ctx::{
        skb::{Head, Skb},
        words::macs,
    },
    emit, maps,
    tables::Kernel,
};

/// Ethernet, IPv4 and ICMP header; the quoted IPv4 header and the eight bytes after it that every error has.
const MIN: usize = 14 + 20 + 8 + 20 + 8;
const FIRST: usize = 14;
const TOS: usize = 15;
const FRAG: usize = 20;
const TTL: usize = 22;
const CHECK: usize = 24;
const SADDR: usize = 26;
const DADDR: usize = 30;
const TYPE: usize = 34;
const ICMP_CHECK: usize = 36;
const Q_FIRST: usize = 42;
const Q_FRAG: usize = 48;
const Q_PROTO: usize = 51;
const Q_CHECK: usize = 52;
const Q_SADDR: usize = 54;
const Q_DADDR: usize = 58;
const Q_SPORT: usize = 62;
const Q_DPORT: usize = 64;
const Q_SEQ: usize = 66;

/// Destination unreachable (and fragmentation needed), time exceeded, parameter problem.
const ERRORS: [u8; 3] = [3, 11, 12];
const UNREACHABLE: u8 = 3;
/// A code of it: fragmentation needed.
const TOO_LARGE: u8 = 4;
/// Difference of the word that holds TTL and protocol when the TTL falls by one.
const TTL_STEP: u16 = 0xfffe;

/// Translates an error about a packet of a known flow and sends it on; any other goes on unchanged.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_v4_error")]
#[inline(never)]
pub extern "C" fn error(raw: *mut __sk_buff, egress: u32) -> i32 {
    let Some(k) = Kernel::now() else { return NEXT };
    let side = if egress == 0 { Side::Ingress } else { Side::Egress };
    let skb = &mut Skb::from_raw(raw);
    let Some(h) = skb.head::<MIN>() else { return NEXT };
    if h.get::<u8, FIRST>() != 0x45 || h.get::<u16, FRAG>() & V4_FRAGMENT != 0 {
        return NEXT;
    }
    // A quoted first fragment has the ports, too.
    if !ERRORS.contains(&h.get::<u8, TYPE>())
        || h.get::<u8, Q_FIRST>() != 0x45
        || h.get::<u16, Q_FRAG>() & V4_OFFSET != 0
    {
        return NEXT;
    }
    let proto: u8 = h.get::<u8, Q_PROTO>();
    let quoted = dsr::told::about(proto, h.get::<u16, Q_DPORT>(), IPIP);
    if quoted && side == Side::Ingress && dsr::told::v4(raw) != 0 {
        return NEXT;
    }
    if proto != TCP && proto != UDP {
        return NEXT;
    }
    // An instance may have that port, too.
    let Some(h) = skb.head::<MIN>() else { return NEXT };
    let (client, ttl, tos) = (h.get::<u32, DADDR>(), h.get::<u8, TTL>(), h.get::<u8, TOS>());
    let unreachable = h.get::<u8, TYPE>() == UNREACHABLE && h.get::<u8, { TYPE + 1 }>() != TOO_LARGE;
    let back = FlowKey4 {
        saddr: h.get::<u32, Q_DADDR>(),
        daddr: h.get::<u32, Q_SADDR>(),
        sport: h.get::<u16, Q_DPORT>(),
        dport: h.get::<u16, Q_SPORT>(),
        proto: u32::from(proto),
    };
    let Some(f) = maps::FLOWS4.find(&back, maps::flooded()) else { return NEXT };
    // SAFETY: the element stays readable for the run; concurrent packets of one flow may race on the next hop only.
    let f = unsafe { &mut *f };
    // An error goes to the sender of what it quotes; another one is not for us to translate.
    if f.state.flags & FLOW_PASS != 0 || client != back.daddr {
        return NEXT;
    }
    if f.state.flags & FLOW_DSR != 0 {
        // About an answer of an instance, which sent it from the service's address: it gets the error like any packet to there.
        if side == Side::Egress {
            return NEXT;
        }
        let inner = Inner { headers: 0, l4: 0, ttl: u16::from(ttl), tos: u16::from(tos) };
        return dsr::later4(&back, inner);
    }
    if side == Side::Ingress {
        if ttl <= 1 {
            emit::count(Reason::TtlExpired);
            return NEXT;
        }
        if hop_is_old(&k, &f.state) {
            let hop = skb.next_hop4(f.saddr, f.daddr, tos);
            set_hop(&k, &mut f.state, hop);
        }
    }
    // About an answer of an instance, in the numbers that its client sees. Its client's own are the same on both sides.
    let mut shift = 0;
    if f.state.flags & (FLOW_SPLICE | FLOW_FORWARD) == FLOW_SPLICE | FLOW_FORWARD {
        let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else { return NEXT };
        // SAFETY: this CPU's own slot; tc programs of one CPU do not interrupt each other.
        unsafe { (*scratch).key4 = back };
        shift = shift_of(1);
        if shift == UNKNOWN {
            return NEXT;
        }
    }
    if unreachable {
        unreached(&mut f.state, proto);
    }
    let out = exit(skb, &f.state, side, 0, false);
    let Some(mut h) = skb.head::<MIN>() else { return NEXT };
    write(&mut h, &back, f, out.way, side);
    if shift != 0 {
        renumber(&mut h, shift as u32);
    }
    emit::count(Reason::IcmpError);
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
fn write(h: &mut Head<'_, MIN>, back: &FlowKey4, f: &Flow4, way: Way, side: Side) {
    // The outer header: from the instance itself, or from some router.
    let (from, to) = (h.get::<u32, SADDR>(), h.get::<u32, DADDR>());
    let source = if from == back.saddr { f.saddr } else { from };
    let mut l3 = csum::add(csum::diff32(from, source), csum::diff32(to, f.daddr));
    if side == Side::Ingress {
        l3 = csum::add(l3, TTL_STEP);
        let ttl: u8 = h.get::<u8, TTL>();
        h.set::<u8, TTL>(ttl.wrapping_sub(1));
    }
    h.set::<u16, CHECK>(csum::update(h.get::<u16, CHECK>(), l3));
    h.set::<u32, SADDR>(source);
    h.set::<u32, DADDR>(f.daddr);
    // The quotation, turned round. Its addresses and its own header checksum cancel each other in ICMP's checksum, which
    // covers both; the ports remain.
    let addr = csum::add(csum::diff32(back.daddr, f.daddr), csum::diff32(back.saddr, f.saddr));
    let port = csum::add(csum::diff16(back.dport, f.dport), csum::diff16(back.sport, f.sport));
    h.set::<u16, Q_CHECK>(csum::update(h.get::<u16, Q_CHECK>(), addr));
    h.set::<u32, Q_SADDR>(f.daddr);
    h.set::<u32, Q_DADDR>(f.saddr);
    h.set::<u16, Q_SPORT>(f.dport);
    h.set::<u16, Q_DPORT>(f.sport);
    h.set::<u16, ICMP_CHECK>(csum::update(h.get::<u16, ICMP_CHECK>(), port));
    if way == Way::Redirect {
        let (first, rest) = macs(&f.state);
        h.set::<u64, 0>(first);
        h.set::<u32, 8>(rest);
    }
}
