//! A segment of an established connection in the other side's numbers.

use aya_ebpf::bindings::__sk_buff;
use gray_common::{
    csum,
    packet::{TCP_ACK, TCP_FIN},
    request::{
        machine::Segment,
        options::{HAS_TIME, Options, TWICE},
        translate::Fields,
    },
};

use crate::{
    ctx::{opaque, skb::Skb},
    maps::request::call,
};

/// What a word's difference is worth where it stands at an odd place.
#[inline(always)]
fn placed(diff: u16, at: u32) -> u16 {
    if at & 1 == 0 { diff } else { diff.swap_bytes() }
}

/// The segment's numbers, from number `seq` on.
#[inline(always)]
pub fn fields(f: &mut Fields, g: &Segment, o: &Options, seq: u32) {
    f.seq = seq;
    f.ack = g.ack;
    f.window = g.window;
    f.has_ack = u8::from(g.flags & TCP_ACK != 0);
    f.has_time = u8::from(o.has(HAS_TIME));
    f.time_value = o.time_value;
    f.time_echo = o.time_echo;
    f.sack_blocks = 0;
}

/// Translates the segment in `CALL` in place, as out `i` says; 0: it cannot be.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_request_translate")]
#[inline(never)]
pub extern "C" fn translate(raw: *mut __sk_buff, i: u32) -> u32 {
    let Some(c) = call() else { return 0 };
    let i = opaque(i) as usize;
    if c.options.has(TWICE) || i >= c.outs.out.len() {
        return 0;
    }
    let (seq, keeps_fin) = (c.outs.out[i].seq, c.outs.out[i].flags & TCP_FIN != 0);
    let shift = &c.bound.splice.shift;
    let skb = &mut Skb::from_raw(raw);
    let l4 = c.l4;
    fields(&mut c.fields, &c.seg, &c.options, seq);
    let f = &mut c.fields;
    if c.reply != 0 {
        shift.to_client(f)
    } else {
        shift.to_instance(f)
    }
    let mut diff = csum::diff32(c.seg.seq.to_be(), f.seq.to_be());
    diff = csum::add(diff, csum::diff32(c.seg.ack.to_be(), f.ack.to_be()));
    diff = csum::add(diff, csum::diff16(c.seg.window.to_be(), f.window.to_be()));
    let Some(mut t) = skb.window::<20>(l4) else { return 0 };
    t.set::<u32, 4>(f.seq.to_be());
    t.set::<u32, 8>(f.ack.to_be());
    t.set::<u16, 14>(f.window.to_be());
    if c.seg.flags & TCP_FIN != 0 && !keeps_fin {
        let a = t.get::<u16, 12>();
        let b = a & !u16::from(TCP_FIN).to_be();
        t.set::<u16, 12>(b);
        diff = csum::add(diff, csum::diff16(a, b));
    }
    if f.has_time != 0 {
        let at = u32::from(c.options.time_at);
        let Some(mut t) = skb.window::<8>(l4 + 20 + at) else { return 0 };
        t.set::<u32, 0>(f.time_value.to_be());
        t.set::<u32, 4>(f.time_echo.to_be());
        let time = csum::diff32(c.options.time_value.to_be(), f.time_value.to_be());
        let time = csum::add(time, csum::diff32(c.options.time_echo.to_be(), f.time_echo.to_be()));
        diff = csum::add(diff, placed(time, at));
    }
    if c.reply == 0 && c.options.sack_blocks != 0 {
        let at = u32::from(c.options.sack_at);
        let by = shift.seq;
        let drop = shift.no_sack != 0;
        let mut i = 0;
        while i < 4 {
            if i < u32::from(c.options.sack_blocks) {
                let at = opaque(at + i * 8);
                let Some(mut t) = skb.window::<8>(l4 + 20 + at) else { return 0 };
                let (a, b) = (t.get::<u32, 0>(), t.get::<u32, 4>());
                let moved = |x: u32| {
                    if drop { 0x0101_0101 } else { u32::from_be(x).wrapping_add(by).to_be() }
                };
                t.set::<u32, 0>(moved(a));
                t.set::<u32, 4>(moved(b));
                let d = csum::add(csum::diff32(a, moved(a)), csum::diff32(b, moved(b)));
                diff = csum::add(diff, placed(d, at));
            }
            i += 1;
        }
        if drop && at >= 2 {
            let at = opaque(at - 2);
            let Some(mut t) = skb.window::<2>(l4 + 20 + at) else { return 0 };
            let a = t.get::<u16, 0>();
            t.set::<u16, 0>(0x0101);
            diff = csum::add(diff, placed(csum::diff16(a, 0x0101), at));
        }
    }
    u32::from(csum::is_zero(diff) || skb.l4_csum_inside(l4 + 16, diff))
}
