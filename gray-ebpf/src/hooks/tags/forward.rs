//! What this node says of connections that it sends on, or makes for a client whose request it has read: the lane that a route led
//! them into. Who calls, nobody is told: their instance does not ask.

use aya_ebpf::bindings::__sk_buff;
use gray_common::{
    Reason, csum,
    decide::tag::{self, Encoded, LEN, Tag},
    request::options::OPTIONS_MAX,
    wire::CONTROL_SAYS,
};

use super::syn::{TCP_LEN, key};
use crate::{
    ctx::{length, skb::Skb},
    emit,
    hooks::{links, v4},
    maps,
    tables::Kernel,
};

/// A TCP header that leaves room for a tag.
const MOST: u32 = 60 - LEN as u32;
/// What [`stamp`] answers beside 0, nothing was done: done; there is no room.
const DONE: u32 = 1;
const NO_ROOM: u32 = 2;

#[inline(always)]
fn says(k: &Kernel) -> bool {
    k.control.flags & CONTROL_SAYS != 0
}

/// A SYN without a tag that comes again says what it said before. Not 0: it does.
///
/// Exported, and so checked once by itself, as those below.
#[unsafe(export_name = "gray_syn_again")]
#[inline(never)]
pub extern "C" fn again(raw: *mut __sk_buff, l4: u32) -> u32 {
    if !Kernel::now().is_some_and(|k| says(&k)) {
        return 0;
    }
    let Some(key) = key(&mut Skb::from_raw(raw), l4) else { return 0 };
    // SAFETY: the value is copied out at once.
    let Some(lane) = (unsafe { maps::STAMPS.get(&key) }).copied() else { return 0 };
    u32::from(stamp(raw, l4, lane) == DONE)
}

/// The SYN of the connection in `SCRATCH.decision` says its lane, if it is in one. Not 0: it does, and `SCRATCH.tag` is it.
#[unsafe(export_name = "gray_syn_say")]
#[inline(never)]
pub extern "C" fn say(raw: *mut __sk_buff, l4: u32) -> u32 {
    let (Some(k), Some(scratch)) = (Kernel::now(), maps::SCRATCH.get_ptr_mut(0)) else { return 0 };
    // SAFETY: this CPU's own slot; tc programs of one CPU do not interrupt each other.
    let scratch = unsafe { &mut *scratch };
    let lane = scratch.decision.led();
    if lane == 0 {
        return 0;
    }
    // Whoever accepts it may be here, too.
    scratch.tag = Tag { identity: 0, lane: lane as u16 };
    if !says(&k) {
        return u32::from(links::are_there());
    }
    let Some(key) = key(&mut Skb::from_raw(raw), l4) else { return 0 };
    match stamp(raw, l4, lane) {
        DONE => {
            let _ = maps::keep(&maps::STAMPS, &key, &lane, 0);
        }
        NO_ROOM => emit::count(Reason::TagNoRoom),
        _ => {}
    }
    1
}

/// Writes the tag of a lane in front of the options of a SYN that carries nothing else, with TCP at `l4`: many systems end their
/// options with one that ends them (RFC 9293, section 3.2), behind which nobody looks.
#[unsafe(export_name = "gray_syn_stamp")]
#[inline(never)]
pub extern "C" fn stamp(raw: *mut __sk_buff, l4: u32, lane: u32) -> u32 {
    let Some(k) = Kernel::now() else { return 0 };
    let check = k.lane(lane);
    let skb = &mut Skb::from_raw(raw);
    let is_v4 = l4 == v4::PLAIN;
    // Where the packet's length stands, and what of the frame it does not count.
    let (length, before) = if is_v4 { (16, 14) } else { (18, 54) };
    let Some(l) = skb.window::<2>(length) else { return 0 };
    let total = u32::from(u16::from_be(l.get::<u16, 0>()));
    let Some(t) = skb.window::<14>(l4) else { return 0 };
    let (number, offset) = (u32::from_be(t.get::<u32, 4>()), t.get::<[u8; 2], 12>());
    let header = u32::from(offset[0] >> 4) * 4;
    if check == 0 || !says(&k) {
        return 0;
    }
    let end = l4 + header;
    // TCP Fast Open (RFC 7413) has bytes behind it.
    if !(TCP_LEN..=MOST).contains(&header) || total + before != end {
        return NO_ROOM;
    }
    let option = tag::encode(k.key(), &Tag { identity: 0, lane: lane as u16 }, check, number);
    // What is behind the end is padding.
    if skb.resize(end + LEN as u32) == 0 || !in_front(skb, l4 + TCP_LEN, header - TCP_LEN, &option) {
        return 0;
    }
    let Some(mut l) = skb.window::<2>(length) else { return 0 };
    let (was, now) = ((total as u16).to_be(), ((total + LEN as u32) as u16).to_be());
    l.set::<u16, 0>(now);
    let longer = csum::diff16(was, now);
    if is_v4 {
        let Some(mut h) = skb.window::<2>(24) else { return 0 };
        h.set::<u16, 0>(csum::update(h.get::<u16, 0>(), longer));
    } else {
        // Nothing in this header makes up for it.
        skb.complete_csum(longer);
    }
    let Some(mut t) = skb.window::<2>(l4 + 12) else { return 0 };
    let wider = [offset[0] + ((LEN as u8 / 4) << 4), offset[1]];
    t.set::<[u8; 2], 0>(wider);
    let inside = csum::diff16(u16::from_ne_bytes(offset), u16::from_ne_bytes(wider));
    // The pseudo-header counts the segment's length.
    if !skb.l4_csum(l4 + 16, longer, csum::add(inside, option.sum()), false) {
        return 0;
    }
    emit::count(Reason::TagSaid);
    DONE
}

/// Moves the `len` bytes at `at` and puts the tag there: by as many as keep every checksum.
#[inline(always)]
fn in_front(skb: &mut Skb, at: u32, len: u32, option: &Encoded) -> bool {
    if let Some(n) = length(len, OPTIONS_MAX) {
        let Some(options) = maps::OPTIONS.get_ptr_mut(0) else { return false };
        // SAFETY: this CPU's own slot; tc programs of one CPU do not interrupt each other.
        let then = unsafe { &mut (*options).then };
        if !skb.copy_to(at, then.as_mut_ptr(), n) || !skb.put(at + LEN as u32, then, n) {
            return false;
        }
    }
    skb.store(at, option.as_ptr(), LEN as u32)
}
