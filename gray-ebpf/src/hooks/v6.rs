//! IPv6 on the packet path.

mod headers;
pub mod record;

use core::hint::cold_path;

use aya_ebpf::bindings::__sk_buff;
use gray_common::{
    Reason, csum,
    packet::{GUE_PORT, ICMPV6, IPV6, TCP, TCP_SYN, UDP},
    wire::{
        Addr, FLOW_CLOSING, FLOW_DSR, FLOW_FORWARD, FLOW_PASS, FLOW_SPLICE, FLOW_UNRESOLVED, Flow6, FlowKey6,
    },
};

pub use headers::is_passed_over;
use headers::{OPAQUE, search};

use super::{
    admit::Arrival,
    breaker::silence,
    dsr::{self, Inner},
    fragment::{self, FragmentKey},
    life::{Known, account, follow, hop_is_old, set_hop},
    packet::{MORE, NEW, NEXT, Odd, SYN, Side, TOO_BIG, TUNNEL, Way, exit, knows6, leave},
    request::{self, inside, spliced6},
    tags,
    times::{self, Moment},
};
use crate::{
    ctx::{
        jiffies,
        skb::{Head, Skb},
        words::{key6, macs, tuple6},
    },
    emit, maps,
    tables::Kernel,
};

/// Ethernet and IPv6 header.
pub(super) const IP: usize = 14 + 40;
/// Where the transport header begins when there are no extension headers.
pub const PLAIN: u32 = IP as u32;
pub(super) const FIRST: usize = 14;
pub(super) const LEN: usize = 18;
pub(super) const NEXT_HEADER: usize = 20;
pub(super) const HOP_LIMIT: usize = 21;
/// Source and destination.
pub(super) const ADDRS: usize = 22;
pub(super) const DADDR: usize = 38;
/// Difference of the word that holds next header and hop limit when the limit falls by one (the high byte in memory
/// order on a little-endian machine).
pub const HOP_STEP: u16 = 0xfeff;
/// What the headers say.
struct Seen {
    key: FlowKey6,
    tcp_flags: u8,
    class: u8,
    hops: u8,
    /// Bytes of IP and transport header.
    headers: u32,
    /// Of TCP: it carries bytes of the stream.
    says: bool,
    /// Where the transport header begins; 0: a later fragment has none.
    l4: u32,
}

/// Forwards a packet of a known flow; [`NEW`] describes one of no flow in `SCRATCH.arrival`.
#[inline(always)]
pub fn find(raw: *mut __sk_buff, egress: u32) -> i32 {
    let skb = &mut Skb::from_raw(raw);
    // Before the call, which costs more than this.
    if let Some(h) = skb.head::<{ IP + 8 }>()
        && h.get::<u8, FIRST>() >> 4 == 6
        && matches!(h.get::<u8, NEXT_HEADER>(), TCP | UDP)
        && let Some(f) = maps::FILTER.get(0)
        && !f.knows_end6(h.get::<[u64; 2], DADDR>(), h.get::<u16, { IP + 2 }>())
        && !f.knows_end6(h.get::<[u64; 2], ADDRS>(), h.get::<u16, IP>())
    {
        return if h.get::<u16, { IP + 2 }>() == GUE_PORT { TUNNEL } else { NEXT };
    }
    known(raw, egress)
}

/// The same of what the filter in front may know.
///
/// Exported, and so a function that the verifier checks once by itself, not at each call. IPv4 does without: both
/// families' stack frames in one would be too much.
#[unsafe(export_name = "gray_v6_known")]
#[inline(never)]
extern "C" fn known(raw: *mut __sk_buff, egress: u32) -> i32 {
    find_at::<true, false>(raw, if egress == 0 { Side::Ingress } else { Side::Egress }, (PLAIN, 0))
}

/// The same for a flow that was recorded in this run, fetched from a table that is being moved, or apart.
///
/// Exported: see `known`.
#[unsafe(export_name = "gray_v6_again")]
#[inline(never)]
pub extern "C" fn again(raw: *mut __sk_buff, egress: u32) -> i32 {
    find_at::<true, true>(raw, if egress == 0 { Side::Ingress } else { Side::Egress }, (PLAIN, 0))
}

/// Looks behind extension headers, fragments among them (RFC 8200): [`MORE`] when `SCRATCH.behind` says what is there.
///
/// Exported: see `known`.
#[unsafe(export_name = "gray_v6_odd")]
#[inline(never)]
pub extern "C" fn odd(raw: *mut __sk_buff) -> i32 {
    let Some(k) = Kernel::now() else { return NEXT };
    let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else { return NEXT };
    // SAFETY: this CPU's own slot; tc programs of one CPU do not interrupt each other.
    let behind = unsafe { &mut (*scratch).behind };
    let skb = &mut Skb::from_raw(raw);
    let Some(h) = skb.head::<IP>() else { return NEXT };
    if h.get::<u8, FIRST>() >> 4 != 6 {
        return Odd::Broken(Reason::Malformed).verdict();
    }
    let Some(found) = search(skb) else {
        emit::count(Reason::HeaderUnsupported);
        return NEXT;
    };
    if found.proto != TCP && found.proto != UDP {
        return NEXT;
    }
    *behind = Behind { l4: found.l4, proto: found.proto, ports: 0 };
    let Some(offset) = found.offset else { return MORE };
    let Some(h) = skb.head::<IP>() else { return NEXT };
    let id = FragmentKey::v6(h.get::<[u64; 4], ADDRS>(), found.id, found.proto);
    if !fragment::maybe_ours(&id) {
        return NEXT;
    }
    if offset == 0 {
        let Some(t) = skb.window::<4>(found.l4) else { return NEXT };
        return if fragment::first(&k, &id, t.get::<u32, 0>()) { MORE } else { NEXT };
    }
    let Some(ports) = fragment::later(&k, &id) else { return NEXT };
    *behind = Behind { l4: 0, proto: found.proto, ports };
    MORE
}

/// What [`odd`] found.
pub struct Behind {
    /// 0: a later fragment, whose ports are noted.
    l4: u32,
    ports: u32,
    proto: u8,
}

/// `known` for what [`odd`] found.
///
/// Exported: see `known`.
#[unsafe(export_name = "gray_v6_behind")]
#[inline(never)]
pub extern "C" fn behind(raw: *mut __sk_buff, egress: u32) -> i32 {
    let side = if egress == 0 { Side::Ingress } else { Side::Egress };
    let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else { return NEXT };
    // SAFETY: as in `odd`.
    let Behind { l4, ports, proto } = unsafe { &(*scratch).behind };
    if *l4 != 0 {
        return find_at::<false, true>(raw, side, (*l4, *proto));
    }
    let Some(k) = Kernel::now() else { return NEXT };
    let skb = &mut Skb::from_raw(raw);
    let Some(h) = skb.head::<IP>() else { return NEXT };
    let (class, hops) = (class(&h), h.get::<u8, HOP_LIMIT>());
    let key = key6(h.get::<[u64; 4], ADDRS>(), *ports, *proto);
    let Some(f) = maps::FLOWS6.find(&key, maps::flooded()) else { return NEXT };
    // SAFETY: as in `find_at`.
    let f = unsafe { &mut *f };
    f.state.seen = jiffies() as u32;
    forward::<false>(
        &k,
        skb,
        f,
        &Seen { key, tcp_flags: 0, class, hops, headers: 0, says: false, l4: 0 },
        side,
    )
}

/// The traffic class, which is split over the first two bytes.
#[inline(always)]
fn class<const N: usize>(h: &Head<'_, N>) -> u8 {
    h.get::<u8, FIRST>() << 4 | h.get::<u8, 15>() >> 4
}

/// Where the transport header begins at `l4` and is of `proto`. Of anything but [`PLAIN`]: the caller has found them. `LATE`:
/// also among the flows that are apart.
#[inline(always)]
fn find_at<const PLAIN_HEADERS: bool, const LATE: bool>(
    raw: *mut __sk_buff,
    side: Side,
    (l4, proto): (u32, u8),
) -> i32 {
    let skb = &mut Skb::from_raw(raw);
    let (h, key) = match parse::<PLAIN_HEADERS>(skb, l4, proto) {
        Ok(found) => found,
        Err(odd) => {
            cold_path();
            return odd.verdict();
        }
    };
    if !PLAIN_HEADERS && !knows6(&key) {
        return if key.dport == GUE_PORT { TUNNEL } else { NEXT };
    }
    let (class, hops) = (class(&h), h.get::<u8, HOP_LIMIT>());
    let mut seen = Seen { key, tcp_flags: 0, class, hops, headers: 0, says: false, l4 };
    let total = u32::from(u16::from_be(h.get::<u16, LEN>()));
    if !transport(skb, &mut seen, total) {
        cold_path();
        return Odd::Broken(Reason::Malformed).verdict();
    }
    let Some(k) = &Kernel::now() else { return NEXT };
    if PLAIN_HEADERS && !LATE && side == Side::Ingress && tags::may_have(seen.tcp_flags) {
        cold_path();
        return SYN;
    }
    let key = &seen.key;
    let mut again = 0;
    if let Some(f) = maps::FLOWS6.any(key, LATE) {
        // SAFETY: the element stays readable for the run; concurrent packets of one flow may race on stamps only.
        let f = unsafe { &mut *f };
        if f.state.flags & FLOW_SPLICE != 0 && !(LATE && maps::translated()) {
            let found = spliced6(key, f);
            // As in `v4`.
            let closing = f.state.flags & FLOW_CLOSING != 0;
            if !PLAIN_HEADERS
                || LATE
                || closing
                || side == Side::Egress
                || request::steady(raw, 0, found, f.state.mtu.into()) == 0
            {
                cold_path();
                return found;
            }
        }
        let Flow6 { saddr, daddr, sport, dport, state } = &mut *f;
        let first = |m| match m {
            Moment::Asked => {
                answers_of((daddr, saddr), (*dport, *sport), key.proto);
                let _ = times::asked6(u32::from(LATE));
            }
            Moment::Answered(counter) => {
                let _ = times::said(skb.raw(), counter.into(), 14 + seen.headers);
            }
        };
        if follow(k, state, key.proto as u8, (seen.tcp_flags, seen.says), first) == Known::Same {
            return forward::<PLAIN_HEADERS>(k, skb, f, &seen, side);
        }
        let reply = f.state.flags & FLOW_FORWARD == 0;
        if !reply {
            again = silence(&f.state, key.proto as u8, k.control.hz);
        }
        // Also the client's: were the next decision to leave it alone, later segments must not find the old answer.
        maps::FLOWS6.remove(key, LATE);
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
        attempt: 0,
        again,
    };
    NEW
}

/// The IPv6 header, and the tuple.
#[inline(always)]
fn parse<const PLAIN_HEADERS: bool>(
    skb: &mut Skb,
    l4: u32,
    found: u8,
) -> Result<(Head<'_, { IP + 8 }>, FlowKey6), Odd> {
    let (mut ports, mut proto) = (0, found);
    if !PLAIN_HEADERS {
        let Some(t) = skb.window::<8>(l4) else { return Err(Odd::Other) };
        ports = t.get::<u32, 0>();
    }
    let Some(h) = skb.head::<{ IP + 8 }>() else {
        return Err(if PLAIN_HEADERS { Odd::Shape } else { Odd::Other });
    };
    if PLAIN_HEADERS {
        if h.get::<u8, FIRST>() >> 4 != 6 {
            return Err(Odd::Broken(Reason::Malformed));
        }
        proto = h.get::<u8, NEXT_HEADER>();
        if proto != TCP && proto != UDP {
            return Err(match proto {
                ICMPV6 => Odd::Icmp,
                IPV6 => Odd::Tunnel,
                p if is_passed_over(p) => Odd::Shape,
                p if OPAQUE.contains(&p) => Odd::Broken(Reason::HeaderUnsupported),
                _ => Odd::Other,
            });
        }
        ports = h.get::<u32, IP>();
    }
    let key = key6(h.get::<[u64; 4], ADDRS>(), ports, proto);
    Ok((h, key))
}

/// The rest of the transport header, and the lengths. `total`: of what follows the IPv6 header, as it says. False: they
/// cannot be.
#[inline(always)]
fn transport(skb: &mut Skb, seen: &mut Seen, total: u32) -> bool {
    let (len, before) = (skb.len(), seen.l4 - PLAIN);
    if seen.key.proto == u32::from(UDP) {
        let Some(t) = skb.window::<8>(seen.l4) else { return false };
        seen.headers = 40 + before + 8;
        let udp = u32::from(u16::from_be(t.get::<u16, 4>()));
        // A GSO packet's lengths may be of one segment or 0: only the lower bound can be held against it.
        return total >= before + 8 && total + PLAIN <= len && udp >= 8;
    }
    let Some(t) = skb.window::<20>(seen.l4) else { return false };
    seen.tcp_flags = t.get::<u8, 13>();
    let doff = u32::from(t.get::<u8, 12>() >> 4) * 4;
    seen.headers = 40 + before + doff;
    // Length 0 is a BIG TCP super-packet (Linux 5.19). What is behind the length is padding.
    seen.says = total == 0 || total > before + doff;
    doff >= 20 && (total == 0 || total >= before + doff && total + PLAIN <= len)
}

/// The key of a client's answers' entry, by the tuple that its packets get, into `SCRATCH.back6`.
#[inline(always)]
pub fn answers_of((to, from): (&Addr, &Addr), (to_port, from_port): (u16, u16), proto: u32) {
    let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else { return };
    // SAFETY: this CPU's own slot; tc programs of one CPU do not interrupt each other.
    unsafe {
        (*scratch).back6 = FlowKey6 { saddr: *to, daddr: *from, sport: to_port, dport: from_port, proto };
    }
}

/// Whether the answers of a client's flow have no entry any more, which pressure on the table may take alone: they would reach the
/// client as a stranger's for as long as it speaks. Asked as often as the next hop is looked up, but of no flow that was just made.
#[inline(always)]
fn is_half(f: &Flow6, seen: &Seen) -> bool {
    const ONE: u16 = FLOW_FORWARD | FLOW_PASS | FLOW_DSR;
    let new = f.state.flags & FLOW_UNRESOLVED != 0 && f.state.ifindex == 0;
    if f.state.flags & ONE != FLOW_FORWARD || new || seen.l4 == 0 {
        return false;
    }
    answers_of((&f.daddr, &f.saddr), (f.dport, f.sport), seen.key.proto);
    maps::answers(0) == 0
}

/// Its answers get their entry back as it was: decided again, it might go elsewhere (a tag in its SYN, a breaker, a lost agent). After
/// [`is_half`].
#[inline(always)]
fn mend(f: &Flow6, seen: &Seen) {
    let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else { return };
    // SAFETY: as in `is_half`.
    unsafe { ((*scratch).key6, (*scratch).flow6) = (seen.key, *f) };
    let _ = record::mend();
}

/// Rewrites a packet of a known flow and sends it on. `MENDS`: with room on the stack for it.
#[inline(always)]
fn forward<const MENDS: bool>(k: &Kernel, skb: &mut Skb, f: &mut Flow6, seen: &Seen, side: Side) -> i32 {
    // What opens a connection comes again because something was lost on its way.
    let old = side == Side::Ingress && (seen.tcp_flags & TCP_SYN != 0 || hop_is_old(k, &f.state));
    if old {
        cold_path();
        if MENDS && is_half(f, seen) {
            mend(f, seen);
        }
    }
    account(&f.state, skb.len());
    if f.state.flags & (FLOW_PASS | FLOW_DSR) != 0 {
        if f.state.flags & FLOW_PASS != 0 || side == Side::Egress {
            return NEXT;
        }
        cold_path();
        let inner = Inner {
            headers: seen.headers,
            l4: seen.l4,
            ttl: u16::from(seen.hops),
            tos: u16::from(seen.class),
        };
        return dsr::later6(&seen.key, inner);
    }
    if side == Side::Ingress {
        if seen.hops <= 1 {
            cold_path();
            emit::count(Reason::TtlExpired);
            return NEXT;
        }
        if old {
            cold_path();
            let hop = skb.next_hop6(&f.saddr, &f.daddr);
            set_hop(k, &mut f.state, hop);
        }
    }
    // What has extension headers is quoted by the stack.
    let out = exit(skb, &f.state, side, seen.headers, seen.l4 == PLAIN);
    if out.way == Way::TooBig {
        return TOO_BIG + out.to as i32;
    }
    let (addrs, ports) = tuple6(f);
    let Some(mut h) = skb.head::<IP>() else { return NEXT };
    h.set::<[u64; 4], ADDRS>(addrs);
    write(&mut h, f, seen.hops, out.way, side);
    let mut ok = true;
    if seen.l4 != 0 {
        let Some(mut t) = skb.window::<4>(seen.l4) else { return NEXT };
        t.set::<u32, 0>(ports);
        let tcp = seen.key.proto == u32::from(TCP);
        // UDP over IPv6 must have a checksum (RFC 8200, 8.1).
        let check = seen.l4 + if tcp { 16 } else { 6 };
        ok = skb.l4_csum(check, f.state.l4_addr, inside(&f.state), !tcp);
    }
    let step = if side == Side::Ingress { HOP_STEP } else { 0 };
    skb.complete_csum(csum::add(f.state.l4_addr, step));
    leave(k, skb, out, ok)
}

#[inline(always)]
fn write(h: &mut Head<'_, IP>, f: &Flow6, hops: u8, way: Way, side: Side) {
    if side == Side::Ingress {
        h.set::<u8, HOP_LIMIT>(hops - 1);
    }
    if way == Way::Redirect {
        let (first, rest) = macs(&f.state);
        h.set::<u64, 0>(first);
        h.set::<u32, 8>(rest);
    }
}
