//! The packet path: what both address families share.

use core::hint::cold_path;

use aya_ebpf::{bindings::__sk_buff, programs::TcContext};
use gray_common::{
    Reason,
    decide::Tables as _,
    packet::{ETH_8021AD, ETH_8021Q, ETH_IPV4, ETH_IPV6, ETH_LEN, ETH_TYPE},
    wire::{FLOW_UNRESOLVED, FlowKey4, FlowKey6, FlowState},
};

use super::{
    admit::{ASKED, Admit, OLD, READ, UNREAD, admit, admit_at, report},
    direct, dsr,
    icmp::{self, too_big},
    life::how,
    links, request, tags, v4, v6, vlan,
};
use crate::{ctx::skb::Skb, emit, maps, tables::Kernel};

/// Goes on to the next program (`TCX_NEXT`; on clsact `TC_ACT_UNSPEC`, the same number).
pub const NEXT: i32 = -1;
/// `TC_ACT_SHOT`.
pub const DROP: i32 = 2;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Ingress,
    Egress,
}

/// `READS`: with the request path, for policies that read requests or refuse.
pub fn ingress<const READS: bool>(ctx: &TcContext) -> i32 {
    steer::<READS>(ctx, Side::Ingress)
}

pub fn egress<const READS: bool>(ctx: &TcContext) -> i32 {
    steer::<READS>(ctx, Side::Egress)
}

/// What the family's functions answer beside a verdict: no flow knows this packet; it is described in
/// `SCRATCH.arrival`.
pub const NEW: i32 = 1000;
/// ... and: it is ICMP, perhaps an error about a packet of ours, or an echo request.
pub const ERROR: i32 = 1001;
/// ... and: its headers are not the plain ones.
pub const ODD: i32 = 1002;
/// ... and: what is behind them is in `SCRATCH.behind`.
pub const MORE: i32 = 1003;
/// ... and: it goes in another packet; `SCRATCH.inner` and the family's key say the rest.
pub const WRAP: i32 = 1004;
/// ... and: it may be a packet with another one in it.
pub const TUNNEL: i32 = 1005;
/// ... and: its connection is translated; its key as the client sees it is in `SCRATCH`. A client's packet, and an instance's.
pub const SPLICED: i32 = 1006;
pub const SPLICED_REPLY: i32 = 1007;
/// ... or will be: its first bytes say where it goes. It is in `SCRATCH.arrival`.
pub const SPLICED_NEW: i32 = 1008;
/// ... and: it opens a connection, and may have a tag.
pub const SYN: i32 = 1009;
/// ... and, with an MTU added: it is larger than that, and its sender is to be told.
pub const TOO_BIG: i32 = 1 << 20;

/// A SYN that may say its lane once that is known.
const SAYS_NOTHING: u32 = 1;

/// Why a packet is none that can be steered, or not at once.
pub enum Odd {
    /// Another protocol: not ours to look at.
    Other,
    Icmp,
    /// Options, extension headers, a fragment.
    Shape,
    /// Another packet, by its number.
    Tunnel,
    /// Counted.
    Broken(Reason),
}

impl Odd {
    #[inline(always)]
    pub fn verdict(self) -> i32 {
        match self {
            Self::Other => NEXT,
            Self::Icmp => ERROR,
            Self::Shape => ODD,
            Self::Tunnel => TUNNEL,
            Self::Broken(reason) => {
                emit::count(reason);
                NEXT
            }
        }
    }
}

#[inline(always)]
fn steer<const READS: bool>(ctx: &TcContext, side: Side) -> i32 {
    let mut skb = Skb::new(ctx);
    if side == Side::Egress && skb.is_forwarded() && maps::is_edge(skb.ifindex()) {
        return NEXT;
    }
    // Done with: by the request path, on its way back in or out.
    if READS && skb.is_done(side == Side::Egress) {
        return NEXT;
    }
    let Some(head) = skb.head::<ETH_LEN>() else {
        emit::count(Reason::Malformed);
        return NEXT;
    };
    let (mut kind, mut outer) = (head.get::<u16, ETH_TYPE>(), 0);
    if kind == ETH_8021Q || kind == ETH_8021AD {
        cold_path();
        if side == Side::Ingress && skb.is_tagged() && !vlan::may_open() {
            return NEXT;
        }
        outer = vlan::open(skb.raw());
        if outer == 0 {
            return NEXT;
        }
        kind = skb.head::<ETH_LEN>().map_or(0, |head| head.get::<u16, ETH_TYPE>());
    }
    let mut verdict = match kind {
        ETH_IPV4 => family::<READS>(&skb, side, true),
        ETH_IPV6 => family::<READS>(&skb, side, false),
        _ => NEXT,
    };
    if (SPLICED..=SPLICED_NEW).contains(&verdict) {
        cold_path();
        verdict = if READS { spliced(verdict, skb.raw(), kind == ETH_IPV4, side) } else { NEXT };
    }
    if outer != 0 && verdict == NEXT {
        return vlan::close(skb.raw(), outer);
    }
    verdict
}

/// Three steps, each a function of its own with a stack frame of its own (the verifier grants 512 bytes in all): find
/// the flow and forward; else decide; record, and forward as a known flow.
#[inline(always)]
fn family<const READS: bool>(skb: &Skb, side: Side, v4: bool) -> i32 {
    let raw = skb.raw();
    let egress = u32::from(side == Side::Egress);
    let mut found = if v4 { v4::find(raw, side) } else { v6::find(raw, egress) };
    if found < NEW {
        return found;
    }
    let Some(k) = Kernel::now() else {
        // What instances of this node get needs no policy here.
        return if side == Side::Ingress { opened(raw, v4) } else { NEXT };
    };
    let epoch = k.epoch();
    let (mut tagged, mut says) = (0, 0);
    let l4 = if v4 { v4::PLAIN } else { v6::PLAIN };
    if found == SYN {
        cold_path();
        tagged = tags::syn::look(raw, l4);
        if tagged == 0 {
            says = if side == Side::Ingress && tags::forward::again(raw, l4) == 0 { SAYS_NOTHING } else { 0 };
        } else if links::are_there() {
            let _ = links::sockets::arrives(raw, l4);
        }
        found = again(raw, egress, v4, false);
        if found < NEW {
            return found;
        }
    }
    if found == ERROR {
        if side == Side::Ingress {
            let answered = if v4 { icmp::echo::v4(raw) } else { icmp::echo::v6(raw) };
            if answered != NEXT {
                return answered;
            }
        }
        let error = if v4 { icmp::v4::error(raw, egress) } else { icmp::v6::error(raw, egress) };
        return known(error, raw, v4);
    }
    if found == SPLICED || found == SPLICED_REPLY {
        return found;
    }
    if found == TUNNEL {
        return if side == Side::Ingress { opened(raw, v4) } else { NEXT };
    }
    let odd = found == ODD;
    if odd {
        // Nobody has looked for its tag.
        tags::syn::none();
        found = again(raw, egress, v4, true);
    }
    if found == NEW && maps::moving(v4) && maps::fetch(u32::from(v4)) != 0 {
        cold_path();
        found = again(raw, egress, v4, odd);
        if found == NEW {
            // Of an earlier connection, whose answer nobody shall find again.
            let _ = maps::forget(u32::from(v4));
        }
    }
    if found == NEW && maps::flooded() && maps::settle(u32::from(v4)) != 0 {
        cold_path();
        found = again(raw, egress, v4, odd);
    }
    if found == SPLICED || found == SPLICED_REPLY {
        return found;
    }
    if found != NEW {
        return known(found, raw, v4);
    }
    if side == Side::Egress {
        return NEXT;
    }
    let admitted = admit(epoch, tagged);
    if admitted == Admit::Request {
        return SPLICED_NEW;
    }
    if admitted == Admit::Leave {
        let _ = direct::dialled(u32::from(v4));
        // The filter in front knows addresses by a hash: what is not ours may have come here.
        return opened(raw, v4);
    }
    if admitted != Admit::Adopt {
        let _ = report(epoch);
    }
    if admitted == Admit::Deny {
        return if READS { request::refuse(raw, u32::from(v4)) } else { DROP };
    }
    let steered = admitted == Admit::Steer;
    if record(v4, if steered { how::STEERED } else { how::STAYS }) == 0 {
        return NEXT;
    }
    if steered {
        if says == SAYS_NOTHING {
            tagged = tags::forward::say(raw, l4);
        }
        if tagged != 0 && links::are_there() {
            let _ = links::sockets::goes(raw, l4, u32::from(v4));
        }
    }
    let found = again(raw, egress, v4, odd);
    if found == NEW || found == SPLICED || found == SPLICED_REPLY { NEXT } else { known(found, raw, v4) }
}

/// Finds the flow of a packet that was looked at before.
#[inline(always)]
pub fn again(raw: *mut __sk_buff, egress: u32, v4: bool, odd: bool) -> i32 {
    match (v4, odd) {
        (true, false) => v4::again(raw, egress),
        (true, true) => v4::odd(raw, egress),
        (false, false) => v6::again(raw, egress),
        (false, true) => match v6::odd(raw) {
            MORE => v6::behind(raw, egress),
            done => done,
        },
    }
}

/// A packet of a connection that is translated, or will be. The steps follow one another, each a function with a stack frame
/// of its own.
#[inline(always)]
fn spliced(found: i32, raw: *mut __sk_buff, v4: bool, side: Side) -> i32 {
    let family = u32::from(v4);
    let verdict = if side == Side::Ingress {
        stepped(request::find(raw, family, (found - SPLICED) as u32), found, raw, v4)
    } else if found == SPLICED_REPLY {
        acted(request::leaves(raw, family), raw, v4)
    } else {
        NEXT
    };
    let _ = request::leave();
    // It does not fit.
    if verdict >= TOO_BIG { known(verdict, raw, v4) } else { verdict }
}

#[inline(always)]
fn stepped(mut next: u32, found: i32, raw: *mut __sk_buff, v4: bool) -> i32 {
    let family = u32::from(v4);
    if next == request::LOST_FLOW {
        next = if request::rebuild() != 0 && record(v4, how::AGAIN) != 0 {
            request::GO
        } else {
            request::DROPPED
        };
    }
    let mut turns = 0;
    while next == request::GO && turns < request::TURNS {
        if request::prepare(raw) == request::ASK {
            let _ = request::kept(admit_at(request::epoch(), ASKED));
        }
        next = request::step(raw);
        turns += 1;
    }
    if next == request::DECIDE {
        let epoch = request::epoch();
        let _ = request::act(raw, family, 1);
        let code = if request::picked() != 0 {
            Admit::Steer as u32
        } else {
            let _ = request::ready();
            if request::is_untold() {
                let _ = request::told();
            }
            request::other(admit_at(epoch, if request::is_unread() { UNREAD } else { READ }))
        };
        if request::chosen(code) == 0 || record(v4, how::STEERED) == 0 {
            if code == Admit::Deny as u32 {
                let _ = report(epoch);
            }
            next = request::give_up(code);
        } else {
            let _ = report(epoch);
            if links::are_there() {
                let _ = request::leads(family);
            }
            next = request::ACT;
        }
    }
    if next == request::SETTLED {
        return settled(raw, v4);
    }
    if next == request::FOREIGN {
        // Of a packet that was not looked at as a new client's `SCRATCH.arrival` is another one's.
        if found == SPLICED_NEW && admit_at(request::epoch(), OLD) == Admit::Adopt as u32 {
            let _ = record(v4, how::STAYS);
            return NEXT;
        }
        next = request::stranger();
    }
    if next == request::LEFT && found == SPLICED_NEW || next == request::GONE {
        return NEXT;
    }
    acted(next, raw, v4)
}

/// A SYN of a service whose requests are read that has its instance without that: what is in `SCRATCH.arrival`.
#[inline(always)]
fn settled(raw: *mut __sk_buff, v4: bool) -> i32 {
    let epoch = request::epoch();
    let code = admit_at(epoch, UNREAD);
    if code == Admit::Leave as u32 {
        return NEXT;
    }
    let _ = report(epoch);
    if code == Admit::Deny as u32 {
        return request::refuse(raw, u32::from(v4));
    }
    if record(v4, if code == Admit::Steer as u32 { how::STEERED } else { how::STAYS }) == 0 {
        return NEXT;
    }
    let found = again(raw, 0, v4, false);
    if found == NEW || found == SPLICED || found == SPLICED_REPLY { NEXT } else { known(found, raw, v4) }
}

#[inline(always)]
fn acted(next: u32, raw: *mut __sk_buff, v4: bool) -> i32 {
    match next {
        request::ACT => request::act(raw, u32::from(v4), 0),
        request::WAITS => DROP,
        _ => {
            emit::count(Reason::RequestLost);
            DROP
        }
    }
}

#[inline(always)]
fn record(v4: bool, told: u32) -> u32 {
    if v4 { v4::record::record(told) } else { v6::record::record(told) }
}

/// The verdict on a packet of a known flow.
#[inline(always)]
fn known(found: i32, raw: *mut __sk_buff, v4: bool) -> i32 {
    if found < WRAP {
        return found;
    }
    let mut found = found;
    if found == WRAP {
        found = if v4 { dsr::v4::send(raw) } else { dsr::v6::send(raw) };
    }
    if found < TOO_BIG {
        return if found == TUNNEL { NEXT } else { found };
    }
    let mtu = (found - TOO_BIG) as u32;
    if v4 { too_big::v4(raw, mtu) } else { too_big::v6(raw, mtu) }
}

/// A packet with another one in it, for an instance of this node; any other goes on.
#[inline(always)]
fn opened(raw: *mut __sk_buff, v4: bool) -> i32 {
    if v4 { dsr::open::v4(raw) } else { dsr::open::v6(raw) }
}

/// Whether an end of the packet may be a service's or an instance's.
#[inline(always)]
pub fn knows4(key: &FlowKey4) -> bool {
    maps::FILTER.get(0).is_some_and(|f| f.knows4(key))
}

#[inline(always)]
pub fn knows6(key: &FlowKey6) -> bool {
    maps::FILTER.get(0).is_some_and(|f| f.knows6(key))
}

/// How a rewritten packet leaves. No enum with fields: what a variant does not have would be a slot on the stack that is
/// read without having been written, which verifiers before Linux 6.3 refuse.
#[derive(Clone, Copy)]
pub struct Exit {
    pub way: Way,
    /// Interface or MTU.
    pub to: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Redirect,
    Resolve,
    Stack,
    /// It must not go on; its sender is to be told the MTU.
    TooBig,
}

/// Chooses the exit for a packet of `len` bytes (frame) with `headers` bytes before its payload. `whole`: nobody may
/// fragment it.
#[inline(always)]
pub fn exit(skb: &Skb, f: &FlowState, side: Side, headers: u32, whole: bool) -> Exit {
    let stack = Exit { way: Way::Stack, to: 0 };
    if side == Side::Egress {
        return stack;
    }
    if f.ifindex == 0 {
        cold_path();
        emit::count(Reason::NoRoute);
        return stack;
    }
    if !fits(skb, f.mtu.into(), headers) {
        cold_path();
        if whole {
            return Exit { way: Way::TooBig, to: u32::from(f.mtu) };
        }
        emit::count(Reason::Oversize);
        return stack;
    }
    // A copy cannot go by the neighbour's entry.
    if f.flags & FLOW_UNRESOLVED != 0 && !(is_known(f) && clones()) {
        cold_path();
        if !is_known(f) {
            emit::count(Reason::NoNeighbour);
        }
        return Exit { way: Way::Resolve, to: f.ifindex };
    }
    Exit { way: Way::Redirect, to: f.ifindex }
}

/// Whether the next hop's address is there, though the packet goes by the neighbour's entry: see `life::set_hop`.
#[inline(always)]
pub fn is_known(f: &FlowState) -> bool {
    f.dmac != [0; 6]
}

/// Whether the packet, or each of its segments, is within the next hop's MTU.
#[inline(always)]
pub fn fits(skb: &Skb, mtu: u32, headers: u32) -> bool {
    let gso = skb.gso_size();
    let packet = if gso == 0 { skb.len() - ETH_LEN as u32 } else { gso + headers };
    mtu == 0 || packet <= mtu
}

/// Whether a copy is to be sent.
#[inline(always)]
fn clones() -> bool {
    // SAFETY: this CPU's own slot.
    maps::SCRATCH.get_ptr(0).is_some_and(|s| unsafe { (*s).clone != 0 })
}

/// Sends the packet off. `ok`: whether the checksum helpers took the rewrite.
#[inline(always)]
pub fn leave(k: &Kernel, skb: &mut Skb, exit: Exit, ok: bool) -> i32 {
    if !ok {
        cold_path();
        emit::passed(k, Reason::RewriteFailed);
        return DROP;
    }
    if skb.is_tagged() && exit.way != Way::Stack {
        cold_path();
        // The tag is of the side that the packet came from; the interface that it leaves by has its own, if any.
        if !skb.vlan_pop() {
            emit::passed(k, Reason::RewriteFailed);
            return DROP;
        }
    }
    match exit.way {
        Way::Redirect if clones() => skb.clone_to(exit.to),
        Way::Redirect => skb.redirect(exit.to),
        Way::Resolve => skb.redirect_neigh(exit.to),
        Way::Stack if clones() => skb.clone_home(),
        Way::Stack | Way::TooBig => NEXT,
    }
}
