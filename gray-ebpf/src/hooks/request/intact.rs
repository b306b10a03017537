//! Whether a client's segment is as it was sent. The stack has not looked at it yet, and what is held of it goes on in a segment
//! of ours, with a checksum of ours: what was damaged would be whole for its instance.

use aya_ebpf::bindings::__sk_buff;
use gray_common::{
    csum,
    packet::{TCP, V4_FRAGMENT},
};

use crate::{
    ctx::{
        length, repeat,
        skb::{Skb, sum_of},
    },
    maps::request::{SPARE, call},
};

/// Bytes that are summed up at once, and how often: frames of 9 000 bytes. What is longer was put together by the kernel, which has
/// looked at each of its segments before.
const PART: u32 = 1460;
const PARTS: u32 = 7;

/// 0: its checksum is wrong. Of a first fragment nobody can say.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_request_intact")]
#[inline(never)]
pub extern "C" fn intact(raw: *mut __sk_buff) -> u32 {
    let (Some(c), Some(spare)) = (call(), SPARE.get_ptr_mut(0)) else { return 1 };
    let skb = &mut Skb::from_raw(raw);
    let len = c.payload.wrapping_sub(c.l4).wrapping_add(c.seg.len);
    if skb.is_checked() || len > PART * PARTS || skb.is_partial(c.l4 + 16) {
        return 1;
    }
    if c.v4 != 0 && skb.head::<34>().is_some_and(|h| h.get::<u16, 20>() & V4_FRAGMENT != 0) {
        return 1;
    }
    let addrs = csum::add(csum::diff128([!0; 2], c.from), csum::diff128([!0; 2], c.to));
    // Mapped addresses have 0xffff in front, which sums up to nothing.
    let mut sum = csum::add(addrs, csum::add((len as u16).to_be(), u16::from(TCP).to_be()));
    let (l4, spare, mut done) = (c.l4, spare.cast::<u8>(), 0);
    repeat(PARTS, |_| {
        let Some(n) = length(len.wrapping_sub(done).min(PART), PART) else { return false };
        if !skb.copy_to(l4 + done, spare, n) {
            return false;
        }
        // An odd number of bytes is the last one.
        sum = csum::add(sum, sum_of(spare, n));
        done += PART;
        done < len
    });
    u32::from(csum::is_zero(!sum))
}
