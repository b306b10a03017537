//! One thing that the machine wants done: a segment of ours, made of the packet that is at hand; or that packet, translated.

use aya_ebpf::bindings::__sk_buff;
use gray_common::{
    Reason, csum,
    packet::{TCP, TCP_RST, TCP_SYN},
    request::{
        machine::{CLIENT, FORWARD, HOLD, INSTANCE, PART, SEND},
        options::{Offer, time_words},
    },
    wire::Addr,
};

use super::{
    held,
    intact::intact,
    lock,
    translate::{fields, translate},
};
use crate::{
    ctx::{
        length, opaque,
        skb::{Hop, Skb, sum_of},
    },
    emit,
    hooks::{packet::DROP, tags},
    maps::{
        self,
        request::{Call, SPARE, call},
    },
};

/// No instance's number: of one that had the connection before.
pub const STRANGER: u32 = 0;
/// There is no such thing to do.
pub const OVER: i32 = 2000;
/// The packet is one for the instance, or the client, along its flow.
pub const ON: i32 = 2001;
/// ... of an instance of this node, on its way out; for such an instance.
pub const OUT: i32 = 2002;
pub const HOME: i32 = 2003;

/// Does the next of `CALL.outs`. Of all but the last a copy goes. With `early` not 0 only resets that a SYN follows.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_request_send")]
#[inline(never)]
pub extern "C" fn one(raw: *mut __sk_buff, early: u32) -> i32 {
    let Some(c) = call() else { return DROP };
    let n = c.outs.n;
    let turn = opaque(c.done);
    if turn as usize >= c.outs.out.len() || turn >= n {
        return OVER;
    }
    // What arrived is gone once a segment of ours was made of it: it goes first.
    let late = opaque(n - 1) as usize;
    let arrived = late < c.outs.out.len() && matches!(c.outs.out[late].kind, FORWARD | PART);
    let i = opaque(if !arrived {
        turn
    } else if turn == 0 {
        n - 1
    } else {
        turn - 1
    }) as usize;
    if i >= c.outs.out.len() {
        return OVER;
    }
    let (kind, to, flags) = (c.outs.out[i].kind, c.outs.out[i].to, c.outs.out[i].flags);
    if early != 0 && (kind != SEND || to == CLIENT || flags & TCP_RST == 0 || turn + 1 == n) {
        return OVER;
    }
    c.done = turn + 1;
    // Not to be met again on its way out. What is over keeps the mark that it has.
    Skb::from_raw(raw).mark_sent();
    let last = turn + 1 == n;
    if early == 0 && to == INSTANCE && !is_current(c, c.outs.out[i].instance) {
        // The way of the connection leads to another one by now, which would hear what is not its own.
        if c.reply == 0 || c.outs.out[i].instance != STRANGER || make(raw, i as u32) == 0 {
            return DROP;
        }
        return if c.egress != 0 { HOME } else { back(raw, c, u32::from(last), 1) };
    }
    let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else { return DROP };
    // SAFETY: this CPU's own slot.
    unsafe {
        (*scratch).translated = 1;
        (*scratch).clone = u32::from(!last);
    }
    if kind == FORWARD && c.outs.out[i].len == c.seg.len {
        return if translate(raw, i as u32) == 0 {
            DROP
        } else if c.egress != 0 {
            OUT
        } else {
            ON
        };
    }
    // Not called by `part`: their frames would lie on one another.
    if kind == FORWARD && c.outs.out[i].len != 0 && intact(raw) == 0 {
        emit::count(Reason::RequestDamaged);
        return DROP;
    }
    if kind == FORWARD && part(raw, i as u32) == 0 || make(raw, i as u32) == 0 {
        return DROP;
    }
    if to == INSTANCE && flags & TCP_SYN != 0 && tags::read() && c.bound.decision.lane != 0 {
        let _ = tags::forward::stamp(raw, c.l4, c.bound.decision.lane);
    }
    match to {
        CLIENT => back(raw, c, u32::from(last), 1 - c.reply),
        _ if c.egress != 0 => HOME,
        _ => ON,
    }
}

/// Most of a segment that goes on without its end.
const MOST: u32 = 1460;

/// Makes of out `i`, which forwards a part of what arrived whole from a client, a segment of ours; 0: it cannot be.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_request_part")]
#[inline(never)]
pub extern "C" fn part(raw: *mut __sk_buff, i: u32) -> u32 {
    let Some(c) = call() else { return 0 };
    let Some(spare) = SPARE.get_ptr_mut(0) else { return 0 };
    let i = opaque(i) as usize;
    if i >= c.outs.out.len() || c.reply != 0 {
        return 0;
    }
    // No longer than the instance's way takes; the client sends the rest again.
    let len = c.outs.out[i].len.min(c.bound.splice.payload()).min(MOST);
    if len != 0 {
        let Some(n) = length(len, MOST) else { return 0 };
        let spare = spare.cast::<u8>();
        if !Skb::from_raw(raw).copy_to(c.payload, spare, n) {
            return 0;
        }
        let mut k = 0;
        while k < 4 {
            let end = opaque(len + k);
            if end < HOLD {
                // SAFETY: below the element's length; sums are of whole words.
                unsafe { *spare.add(end as usize) = 0 };
            }
            k += 1;
        }
    }
    fields(&mut c.fields, &c.seg, &c.options, c.outs.out[i].seq);
    c.bound.splice.shift.to_instance(&mut c.fields);
    let (f, o) = (&c.fields, &mut c.outs.out[i]);
    (o.kind, o.held_at, o.len) = (PART, 0, len);
    (o.seq, o.ack, o.window) = (f.seq, f.ack, f.window);
    (o.time, o.time_value, o.time_echo) = (f.has_time, f.time_value, f.time_echo);
    1
}

/// What was made for an instance of this node at egress goes back in.
#[inline(always)]
pub fn home(raw: *mut __sk_buff) -> i32 {
    let skb = &mut Skb::from_raw(raw);
    skb.address_home();
    // SAFETY: this CPU's own slot.
    let clones = maps::SCRATCH.get_ptr(0).is_some_and(|s| unsafe { (*s).clone != 0 });
    if clones { skb.clone_home() } else { skb.home() }
}

#[inline(always)]
fn is_current(c: &Call, instance: u32) -> bool {
    c.has != lock::NONE && c.bound.splice.instance == instance
}

/// With `same` not 0 back where the packet came from, or else to the client by the route.
#[inline(always)]
fn back(raw: *mut __sk_buff, c: &Call, last: u32, same: u32) -> i32 {
    let skb = &mut Skb::from_raw(raw);
    let mut to = skb.ifindex();
    if same != 0 {
        let Some(mut h) = skb.head::<14>() else { return DROP };
        let (d, s) = (h.get::<[u8; 6], 0>(), h.get::<[u8; 6], 6>());
        h.set::<[u8; 6], 0>(s);
        h.set::<[u8; 6], 6>(d);
    } else {
        let (client, service) = (Addr::from_words(c.key.client), Addr::from_words(c.key.service));
        let hop = if c.v4 != 0 {
            skb.next_hop4(service.as_v4(), client.as_v4(), 0)
        } else {
            skb.next_hop6(&service, &client)
        };
        match hop {
            Hop::Direct { ifindex, dmac, smac, .. } => {
                to = ifindex;
                let Some(mut h) = skb.head::<14>() else { return DROP };
                h.set::<[u8; 6], 0>(dmac);
                h.set::<[u8; 6], 6>(smac);
            }
            _ => return DROP,
        }
    }
    if last == 0 { skb.clone_to(to) } else { skb.redirect(to) }
}

/// Turns the packet into segment `i` of ours; 0: there was no room.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_request_make")]
#[inline(never)]
pub extern "C" fn make(raw: *mut __sk_buff, i: u32) -> u32 {
    let Some(c) = call() else { return 0 };
    let i = opaque(i) as usize;
    if i >= c.outs.out.len() {
        return 0;
    }
    let (o, l4) = (&c.outs.out[i], c.l4);
    let skb = &mut Skb::from_raw(raw);
    let syn = o.flags & TCP_SYN != 0;
    let room = if syn {
        20
    } else if o.time != 0 {
        12
    } else {
        0
    };
    let head = l4 + 20 + room;
    let len = o.len;
    if len > 1460 || skb.resize(head + len) == 0 {
        return 0;
    }
    let to_client = o.to == CLIENT;
    let (mut src, mut dst) = (c.key.client, c.key.service);
    let (mut sport, mut dport) = (c.key.client_port, c.key.service_port);
    if to_client {
        (src, dst, sport, dport) = (dst, src, dport, sport);
    } else if o.instance == STRANGER {
        (src, dst, sport, dport) = (c.to, c.from, c.to_port, c.from_port);
    }
    let tcp = 20 + room + len;
    // What goes to the instance looks as if its client had sent it; not ECN's bits, of which nothing was agreed.
    let (mut tos, mut hops) = (0, 64);
    if !to_client && o.instance != STRANGER && c.bound.hops > 1 {
        (tos, hops) = (c.bound.dscp << 2, c.bound.hops);
    }
    if c.v4 != 0 {
        let Some(mut h) = skb.head::<34>() else { return 0 };
        h.set::<u16, 14>(u16::from_ne_bytes([0x45, tos]));
        h.set::<u16, 16>(((20 + tcp) as u16).to_be());
        h.set::<u16, 20>(gray_common::packet::V4_DF);
        h.set::<u16, 22>(u16::from_ne_bytes([hops, TCP]));
        h.set::<u16, 24>(0);
        h.set::<u32, 26>(Addr::from_words(src).as_v4());
        h.set::<u32, 30>(Addr::from_words(dst).as_v4());
        let sum = crate::hooks::icmp::too_big::sum5(h.get::<[u32; 5], 14>());
        h.set::<u16, 24>(!sum);
    } else {
        let Some(mut h) = skb.head::<54>() else { return 0 };
        h.set::<u32, 14>((0x6000_0000 | u32::from(tos) << 20).to_be());
        h.set::<u16, 18>((tcp as u16).to_be());
        h.set::<[u8; 2], 20>([TCP, hops]);
        h.set::<[u64; 2], 22>(src);
        h.set::<[u64; 2], 38>(dst);
    }
    let addrs = csum::add(csum::diff128([!0; 2], src), csum::diff128([!0; 2], dst));
    // Mapped addresses have 0xffff in front, which sums up to nothing.
    let pseudo = csum::add(addrs, csum::add((tcp as u16).to_be(), u16::from(TCP).to_be()));
    let partial = skb.is_partial(l4 + 16);
    let Some(mut t) = skb.window::<20>(l4) else { return 0 };
    t.set::<u16, 0>(sport);
    t.set::<u16, 2>(dport);
    t.set::<u32, 4>(o.seq.to_be());
    t.set::<u32, 8>(o.ack.to_be());
    t.set::<[u8; 2], 12>([((20 + room) << 2) as u8, o.flags]);
    t.set::<u16, 14>(o.window.to_be());
    t.set::<u32, 16>(0);
    let mut sum = csum::fold(halves5(t.get::<[u32; 5], 0>()));
    if syn {
        let offer = Offer {
            time_value: o.time_value,
            time_echo: o.time_echo,
            mss: o.mss,
            scale: o.scale,
            sack: o.sack,
            time: o.time,
            _pad: [0; 3],
        };
        let [a, b, x, y, z] = offer.words();
        let words = [a.to_be(), b.to_be(), x.to_be(), y.to_be(), z.to_be()];
        let Some(mut t) = skb.window::<20>(l4 + 20) else { return 0 };
        t.set::<[u32; 5], 0>(words);
        sum = csum::add(sum, csum::fold(halves5(words)));
    } else if room != 0 {
        let [a, b, x] = time_words(o.time_value, o.time_echo);
        let words = [a.to_be(), b.to_be(), x.to_be()];
        let Some(mut t) = skb.window::<12>(l4 + 20) else { return 0 };
        t.set::<[u32; 3], 0>(words);
        sum = csum::add(sum, csum::fold(halves5([words[0], words[1], words[2], 0, 0])));
    }
    if len != 0 {
        let part = o.kind == PART;
        let held = if part { SPARE.get_ptr_mut(0).map(|at| at.cast::<u8>()) } else { held::text(c) };
        let Some(held) = held else { return 0 };
        let from = opaque(o.held_at);
        let Some(n) = length(len, 1460) else { return 0 };
        if from > HOLD {
            return 0;
        }
        // SAFETY: `from + n` is less than the element's length.
        let at = unsafe { held.add(from as usize) };
        // Afterwards the place must still be its own: else it may be somebody else's bytes.
        if !skb.store(head, at, n) || !part && held::text(c).is_none() {
            return 0;
        }
        if !partial {
            sum = csum::add(sum, sum_of(at, n));
        }
    }
    let check = if partial { pseudo } else { !csum::add(sum, pseudo) };
    let Some(mut t) = skb.window::<20>(l4) else { return 0 };
    t.set::<u16, 16>(check);
    1
}

#[inline(always)]
fn halves5(w: [u32; 5]) -> u32 {
    csum::halves(w[0]) + csum::halves(w[1]) + csum::halves(w[2]) + csum::halves(w[3]) + csum::halves(w[4])
}
