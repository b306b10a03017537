//! What nearly all packets of a translated connection need: the other side's numbers, and nothing more. The machine is not
//! asked, and nothing of the connection changes, so that nobody has to have it alone.

use aya_ebpf::bindings::__sk_buff;
use gray_common::{
    csum,
    packet::{TCP_ACK, TCP_PSH},
    request::{machine::Splice, options::TIME_FIRST, translate::Fields},
    wire::{Addr, Bound, FLOW_SPLICE, FlowState},
};

use crate::{
    ctx::skb::Skb,
    hooks::packet::{SPLICED_REPLY, fits},
    maps::{
        self,
        request::{SPLICES, call},
    },
};

/// Translates a plain segment of a connection that is [steady](gray_common::request::machine::Splice::steady), which is in
/// `SCRATCH.key4` or `.key6` as its client sees it, in place, but for its checksum: that difference is in `SCRATCH.inside`. 0: it
/// was left as it is.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_request_steady")]
#[inline(never)]
pub extern "C" fn steady(raw: *mut __sk_buff, v4: u32, found: i32, mtu: u32) -> u32 {
    let (Some(c), Some(scratch)) = (call(), maps::SCRATCH.get_ptr_mut(0)) else { return 0 };
    // SAFETY: this CPU's own slot; tc programs of one CPU do not interrupt each other.
    let scratch = unsafe { &mut *scratch };
    if v4 != 0 {
        let at = &scratch.key4;
        super::key(c, (&Addr::v4(at.saddr), &Addr::v4(at.daddr)), (at.sport, at.dport));
    } else {
        let at = &scratch.key6;
        super::key(c, (&at.saddr, &at.daddr), (at.sport, at.dport));
    }
    let Some(b) = SPLICES.get_ptr(&c.key) else { return 0 };
    // SAFETY: the element stays readable for the run. Another CPU may write to it: what is read here has one value for as long
    // as the connection is steady.
    let b = unsafe { &*b };
    if !b.splice.steady() {
        return 0;
    }
    let skb = &mut Skb::from_raw(raw);
    let Some(h) = skb.head::<24>() else { return 0 };
    let hops = if v4 != 0 { h.get::<u8, 22>() } else { h.get::<u8, 21>() };
    if hops <= 1 {
        return 0;
    }
    let reply = found == SPLICED_REPLY;
    if reply && !is_of(skb, v4 != 0, b) {
        return 0;
    }
    segment(skb, (if v4 != 0 { 34 } else { 54 }, mtu), (&b.splice, reply), &mut scratch.inside)
}

/// Whether the packet is of the connection's instance: another one may have had it before.
#[inline(always)]
fn is_of(skb: &mut Skb, v4: bool, b: &Bound) -> bool {
    let at = &b.decision.instance;
    if v4 {
        skb.head::<36>()
            .is_some_and(|h| h.get::<u32, 26>() == at.addr.as_v4() && h.get::<u16, 34>() == at.port)
    } else {
        skb.head::<56>()
            .is_some_and(|h| h.get::<[u64; 2], 22>() == at.addr.words() && h.get::<u16, 54>() == at.port)
    }
}

/// The transport header begins at `l4`. What its sender would be told of is left: what does not fit, and what has come too far.
#[inline(always)]
fn segment(skb: &mut Skb, (l4, mtu): (u32, u32), (s, reply): (&Splice, bool), inside: &mut u16) -> u32 {
    let Some(t) = skb.window::<20>(l4) else { return 0 };
    let (doff, flags) = (t.get::<u8, 12>() >> 4, t.get::<u8, 13>() & 0x1f);
    let timed = doff == 8;
    let (seq, ack, window) = (t.get::<u32, 4>(), t.get::<u32, 8>(), t.get::<u16, 14>());
    if flags & !TCP_PSH != TCP_ACK || !timed && doff != 5 || !fits(skb, mtu, l4 - 14 + u32::from(doff) * 4) {
        return 0;
    }
    if reply && !s.heard(u32::from_be(ack)) {
        return 0;
    }
    let (mut value, mut echo) = (0, 0);
    if timed {
        // Two of no operation, and timestamps: what every system sends (RFC 7323, appendix A).
        let Some(o) = skb.window::<12>(l4 + 20) else { return 0 };
        if o.get::<u32, 0>() != TIME_FIRST.to_be() {
            return 0;
        }
        (value, echo) = (o.get::<u32, 4>(), o.get::<u32, 8>());
    }
    let mut f = Fields {
        seq: u32::from_be(seq),
        ack: u32::from_be(ack),
        time_value: u32::from_be(value),
        time_echo: u32::from_be(echo),
        window: u16::from_be(window),
        has_ack: 1,
        has_time: u8::from(timed),
        ..Fields::default()
    };
    if reply {
        s.shift.to_client(&mut f)
    } else {
        s.shift.to_instance(&mut f)
    }
    let mut diff = if reply { csum::diff32(seq, f.seq.to_be()) } else { csum::diff32(ack, f.ack.to_be()) };
    diff = csum::add(diff, csum::diff16(window, f.window.to_be()));
    if timed {
        let Some(mut o) = skb.window::<12>(l4 + 20) else { return 0 };
        if reply {
            o.set::<u32, 4>(f.time_value.to_be());
            diff = csum::add(diff, csum::diff32(value, f.time_value.to_be()));
        } else {
            o.set::<u32, 8>(f.time_echo.to_be());
            diff = csum::add(diff, csum::diff32(echo, f.time_echo.to_be()));
        }
    }
    let Some(mut t) = skb.window::<20>(l4) else { return 0 };
    if reply {
        t.set::<u32, 4>(f.seq.to_be());
    } else {
        t.set::<u32, 8>(f.ack.to_be());
    }
    t.set::<u16, 14>(f.window.to_be());
    *inside = diff;
    1
}

/// What the checksum changes by behind the addresses: with the ports, and with what [`steady`] did.
#[inline(always)]
pub fn inside(f: &FlowState) -> u16 {
    if f.flags & FLOW_SPLICE == 0 {
        return f.l4_port;
    }
    // SAFETY: this CPU's own slot.
    maps::SCRATCH.get_ptr(0).map_or(f.l4_port, |s| csum::add(f.l4_port, unsafe { (*s).inside }))
}
