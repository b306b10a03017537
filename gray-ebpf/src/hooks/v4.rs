//! IPv4 on the packet path.

pub mod record;

use core::hint::cold_path;

use aya_ebpf::bindings::__sk_buff;
use gray_common::{
    Reason, csum,
    packet::{GUE_PORT, ICMP, IPIP, TCP, TCP_SYN, UDP, V4_DF, V4_FRAGMENT, V4_OFFSET},
    wire::{
        Addr, FLOW_CLOSING, FLOW_DSR, FLOW_FORWARD, FLOW_PASS, FLOW_SPLICE, FLOW_UNRESOLVED, Flow4, FlowKey4,
    },
};

use super::{
    admit::Arrival,
    breaker::silence,
    dsr::{self, Inner},
    fragment::{self, FragmentKey},
    life::{Known, account, follow, hop_is_old, set_hop},
    packet::{NEW, NEXT, Odd, SYN, Side, TOO_BIG, TUNNEL, Way, exit, knows4, leave},
    request::{self, inside, spliced4},
    tags,
    times::{self, Moment},
};
use crate::{
    ctx::{
        jiffies,
        skb::{Head, Skb},
        words::{key4, macs, tuple4},
    },
    emit, maps,
    tables::Kernel,
};

/// Ethernet header, and IPv4 header without options.
pub(super) const IP: usize = 14 + 20;
/// Where the transport header begins when there are no options.
pub const PLAIN: u32 = IP as u32;
pub(super) const TOS: usize = 15;
pub(super) const LEN: usize = 16;
const ID: usize = 18;
pub(super) const FRAG: usize = 20;
pub(super) const TTL: usize = 22;
pub(super) const PROTO: usize = 23;
pub(super) const CHECK: usize = 24;
/// Source and destination.
pub(super) const ADDRS: usize = 26;
const SADDR: usize = 26;
const DADDR: usize = 30;
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
    /// Of TCP: it carries bytes of the stream.
    says: bool,
    /// Not to be fragmented.
    whole: bool,
    /// Where the transport header begins; 0: a later fragment has none.
    l4: u32,
}

/// Forwards a packet of a known flow; [`NEW`] describes one of no flow in `SCRATCH.arrival`.
#[inline(always)]
pub fn find(raw: *mut __sk_buff, side: Side) -> i32 {
    find_at::<true, false>(raw, side, PLAIN)
}

/// The same where the transport header begins at `l4`. Of anything but a constant: the caller has looked at options and
/// fragments. `LATE`: also among the flows that are apart.
#[inline(always)]
fn find_at<const PLAIN_HEADERS: bool, const LATE: bool>(raw: *mut __sk_buff, side: Side, l4: u32) -> i32 {
    let skb = &mut Skb::from_raw(raw);
    let (h, key) = match parse::<PLAIN_HEADERS>(skb, l4) {
        Ok(found) => found,
        Err(odd) => {
            cold_path();
            return odd.verdict();
        }
    };
    // What is not ours pays for what is above, and no more.
    if !knows4(&key) {
        return if key.dport == GUE_PORT { TUNNEL } else { NEXT };
    }
    let mut seen = Seen {
        key,
        tcp_flags: 0,
        tos: h.get::<u8, TOS>(),
        ttl: h.get::<u8, TTL>(),
        headers: 0,
        says: false,
        whole: h.get::<u16, FRAG>() & V4_DF != 0,
        l4,
    };
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
    if let Some(f) = maps::FLOWS4.any(key, LATE) {
        // SAFETY: the element stays readable for the run; concurrent packets of one flow may race on stamps only.
        let f = unsafe { &mut *f };
        if f.state.flags & FLOW_SPLICE != 0 && !(LATE && maps::translated()) {
            let found = spliced4(key, f);
            // What is closing may be over: its packet must not be changed before that is known.
            let closing = f.state.flags & FLOW_CLOSING != 0;
            if LATE
                || closing
                || side == Side::Egress
                || request::steady(raw, 1, found, f.state.mtu.into()) == 0
            {
                cold_path();
                return found;
            }
        }
        let Flow4 { saddr, daddr, sport, dport, state } = &mut *f;
        let first = |m| match m {
            Moment::Asked => {
                answers_of((*daddr, *saddr), (*dport, *sport), key.proto);
                let _ = times::asked4(u32::from(LATE));
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
        maps::FLOWS4.remove(key, LATE);
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
        attempt: 0,
        again,
    };
    NEW
}

/// The same for a flow that was recorded in this run, fetched from a table that is being moved, or apart.
///
/// Exported, and so a function that the verifier checks once by itself. Not what every packet goes through: a call and its
/// return cost some 10 ns.
#[unsafe(export_name = "gray_v4_again")]
#[inline(never)]
pub extern "C" fn again(raw: *mut __sk_buff, egress: u32) -> i32 {
    find_at::<true, true>(raw, if egress == 0 { Side::Ingress } else { Side::Egress }, PLAIN)
}

/// The same for a packet with options, a fragment (RFC 791), and what is too short to be any other.
///
/// Exported: see `again`.
#[unsafe(export_name = "gray_v4_odd")]
#[inline(never)]
pub extern "C" fn odd(raw: *mut __sk_buff, egress: u32) -> i32 {
    let Some(k) = Kernel::now() else { return NEXT };
    let side = if egress == 0 { Side::Ingress } else { Side::Egress };
    let skb = &mut Skb::from_raw(raw);
    let Some(h) = skb.head::<IP>() else { return NEXT };
    let ihl = h.get::<u8, 14>();
    if ihl >> 4 != 4 || ihl & 15 < 5 {
        return Odd::Broken(Reason::Malformed).verdict();
    }
    let l4 = 14 + u32::from(ihl & 15) * 4;
    let (frag, proto) = (h.get::<u16, FRAG>(), h.get::<u8, PROTO>());
    if proto != TCP && proto != UDP {
        return NEXT;
    }
    if frag & V4_FRAGMENT == 0 {
        return find_at::<false, true>(raw, side, l4);
    }
    let id = FragmentKey::v4(h.get::<u32, SADDR>(), h.get::<u32, DADDR>(), h.get::<u16, ID>(), proto);
    let (addrs, tos, ttl) = (h.get::<u64, ADDRS>(), h.get::<u8, TOS>(), h.get::<u8, TTL>());
    if !fragment::maybe_ours(&id) {
        return NEXT;
    }
    if frag & V4_OFFSET == 0 {
        let Some(t) = skb.window::<4>(l4) else { return NEXT };
        let ports = t.get::<u32, 0>();
        return if fragment::first(&k, &id, ports) { find_at::<false, true>(raw, side, l4) } else { NEXT };
    }
    let Some(ports) = fragment::later(&k, &id) else { return NEXT };
    let key = key4(addrs, ports, proto);
    let Some(f) = maps::FLOWS4.find(&key, maps::flooded()) else { return NEXT };
    // SAFETY: as in `find_at`.
    let f = unsafe { &mut *f };
    f.state.seen = jiffies() as u32;
    forward::<false>(
        &k,
        skb,
        f,
        &Seen { key, tcp_flags: 0, tos, ttl, headers: 0, says: false, whole: false, l4: 0 },
        side,
    )
}

/// The IP header, and the tuple.
#[inline(always)]
fn parse<const PLAIN_HEADERS: bool>(skb: &mut Skb, l4: u32) -> Result<(Head<'_, { IP + 8 }>, FlowKey4), Odd> {
    let mut ports = 0;
    if !PLAIN_HEADERS {
        let Some(t) = skb.window::<8>(l4) else { return Err(Odd::Other) };
        ports = t.get::<u32, 0>();
    }
    let Some(h) = skb.head::<{ IP + 8 }>() else {
        // A last fragment may be as short, and short frames of other protocols are no fault.
        return Err(if PLAIN_HEADERS { Odd::Shape } else { Odd::Other });
    };
    let proto = h.get::<u8, PROTO>();
    if PLAIN_HEADERS {
        let ihl = h.get::<u8, 14>();
        if ihl != 0x45 {
            return Err(if ihl >> 4 == 4 && ihl & 15 > 5 {
                Odd::Shape
            } else {
                Odd::Broken(Reason::Malformed)
            });
        }
        if proto != TCP && proto != UDP {
            return Err(match proto {
                ICMP => Odd::Icmp,
                IPIP => Odd::Tunnel,
                _ => Odd::Other,
            });
        }
        if h.get::<u16, FRAG>() & V4_FRAGMENT != 0 {
            return Err(Odd::Shape);
        }
        ports = h.get::<u32, IP>();
    }
    let key = key4(h.get::<u64, ADDRS>(), ports, proto);
    Ok((h, key))
}

/// The rest of the transport header, and the lengths. `total`: of the packet, as it says. False: they cannot be.
#[inline(always)]
fn transport(skb: &mut Skb, seen: &mut Seen, total: u32) -> bool {
    let (len, ip) = (skb.len(), seen.l4 - 14);
    if seen.key.proto == u32::from(UDP) {
        let Some(t) = skb.window::<8>(seen.l4) else { return false };
        seen.headers = ip + 8;
        let udp = u32::from(u16::from_be(t.get::<u16, 4>()));
        // A GSO packet's lengths may be of one segment or 0: only the lower bound can be held against it.
        return total >= ip + 8 && total + 14 <= len && udp >= 8;
    }
    let Some(t) = skb.window::<20>(seen.l4) else { return false };
    seen.tcp_flags = t.get::<u8, 13>();
    let doff = u32::from(t.get::<u8, 12>() >> 4) * 4;
    seen.headers = ip + doff;
    // Length 0 is a BIG TCP super-packet (Linux 6.3). What is behind the length is padding.
    seen.says = total == 0 || total > seen.headers;
    doff >= 20 && (total == 0 || total >= ip + doff && total + 14 <= len)
}

/// The key of a client's answers' entry, by the tuple that its packets get, into `SCRATCH.back4`.
#[inline(always)]
pub fn answers_of((to, from): (u32, u32), (to_port, from_port): (u16, u16), proto: u32) {
    let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else { return };
    // SAFETY: this CPU's own slot; tc programs of one CPU do not interrupt each other.
    unsafe {
        (*scratch).back4 = FlowKey4 { saddr: to, daddr: from, sport: to_port, dport: from_port, proto };
    }
}

/// Whether the answers of a client's flow have no entry any more, which pressure on the table may take alone: they would reach the
/// client as a stranger's for as long as it speaks. Asked as often as the next hop is looked up, but of no flow that was just made.
#[inline(always)]
fn is_half(f: &Flow4, seen: &Seen) -> bool {
    const ONE: u16 = FLOW_FORWARD | FLOW_PASS | FLOW_DSR;
    let new = f.state.flags & FLOW_UNRESOLVED != 0 && f.state.ifindex == 0;
    if f.state.flags & ONE != FLOW_FORWARD || new || seen.l4 == 0 {
        return false;
    }
    answers_of((f.daddr, f.saddr), (f.dport, f.sport), seen.key.proto);
    maps::answers(1) == 0
}

/// Its answers get their entry back as it was: decided again, it might go elsewhere (a tag in its SYN, a breaker, a lost agent). After
/// [`is_half`].
#[inline(always)]
fn mend(f: &Flow4, seen: &Seen) {
    let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else { return };
    // SAFETY: as in `is_half`.
    unsafe { ((*scratch).key4, (*scratch).flow4) = (seen.key, *f) };
    let _ = record::mend();
}

/// Rewrites a packet of a known flow and sends it on. `MENDS`: with room on the stack for it.
#[inline(always)]
fn forward<const MENDS: bool>(k: &Kernel, skb: &mut Skb, f: &mut Flow4, seen: &Seen, side: Side) -> i32 {
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
        let inner =
            Inner { headers: seen.headers, l4: seen.l4, ttl: u16::from(seen.ttl), tos: u16::from(seen.tos) };
        return dsr::later4(&seen.key, inner);
    }
    if side == Side::Ingress {
        if seen.ttl <= 1 {
            cold_path();
            emit::count(Reason::TtlExpired);
            return NEXT;
        }
        if old {
            cold_path();
            let hop = skb.next_hop4(f.saddr, f.daddr, seen.tos);
            set_hop(k, &mut f.state, hop);
        }
    }
    // What has options is quoted by the stack.
    let out = exit(skb, &f.state, side, seen.headers, seen.whole && seen.l4 == PLAIN);
    if out.way == Way::TooBig {
        return TOO_BIG + out.to as i32;
    }
    let (addrs, ports) = tuple4(f);
    let Some(mut h) = skb.head::<IP>() else { return NEXT };
    h.set::<u64, ADDRS>(addrs);
    write(&mut h, f, seen.ttl, out.way, side);
    let mut ok = true;
    if seen.l4 != 0 {
        let Some(mut t) = skb.window::<4>(seen.l4) else { return NEXT };
        t.set::<u32, 0>(ports);
        let tcp = seen.key.proto == u32::from(TCP);
        let check = seen.l4 + if tcp { 16 } else { 6 };
        ok = skb.l4_csum(check, f.state.l4_addr, inside(&f.state), !tcp);
    }
    leave(k, skb, out, ok)
}

#[inline(always)]
fn write(h: &mut Head<'_, IP>, f: &Flow4, ttl: u8, way: Way, side: Side) {
    let mut l3 = f.state.l3;
    if side == Side::Ingress {
        h.set::<u8, TTL>(ttl - 1);
    } else {
        // The stored difference includes a TTL step that is not made here.
        l3 = csum::add(l3, !TTL_STEP);
    }
    h.set::<u16, CHECK>(csum::update(h.get::<u16, CHECK>(), l3));
    if way == Way::Redirect {
        let (first, rest) = macs(&f.state);
        h.set::<u64, 0>(first);
        h.set::<u32, 8>(rest);
    }
}
