//! The segment, as numbers.

use aya_ebpf::bindings::__sk_buff;
use gray_common::request::{
    Bytes,
    options::{HAS_SACK_OK, HAS_TIME, OPTIONS_MAX, Options},
};

use gray_common::wire::Addr;

use crate::{
    ctx::{repeat, skb::Skb},
    maps::request::{Call, call},
};

/// The option area.
struct Area(*const Call);

impl Bytes for Area {
    #[inline(always)]
    fn at(&self, i: u32) -> Option<u8> {
        if i >= OPTIONS_MAX {
            return None;
        }
        // SAFETY: this CPU's own slot; below its length.
        Some(unsafe { *(&raw const (*self.0).area).cast::<u8>().add(i as usize) })
    }
}

/// Reads the TCP header at `CALL.l4` into `CALL.seg` and `.options`; 0: there is none.
///
/// Exported, and so a function that the verifier checks once by itself.
#[unsafe(export_name = "gray_request_parse")]
#[inline(never)]
pub extern "C" fn parse(raw: *mut __sk_buff) -> u32 {
    let Some(c) = call() else { return 0 };
    let skb = &mut Skb::from_raw(raw);
    let len = skb.len();
    (c.mark, c.ifindex) = (skb.mark(), skb.ifindex());
    let l4 = c.l4;
    let total = if c.v4 != 0 {
        let Some(h) = skb.head::<34>() else { return 0 };
        if h.get::<u8, 14>() != 0x45 {
            return 0;
        }
        (c.dscp, c.hops) = (h.get::<u8, 15>() >> 2, h.get::<u8, 22>());
        c.from = Addr::v4(h.get::<u32, 26>()).words();
        c.to = Addr::v4(h.get::<u32, 30>()).words();
        u32::from(u16::from_be(h.get::<u16, 16>())) + 14
    } else {
        let Some(h) = skb.head::<54>() else { return 0 };
        if h.get::<u8, 20>() != gray_common::packet::TCP {
            return 0;
        }
        c.dscp = (u16::from_be(h.get::<u16, 14>()) >> 6) as u8 & 0x3f;
        c.hops = h.get::<u8, 21>();
        c.from = h.get::<[u64; 2], 22>();
        c.to = h.get::<[u64; 2], 38>();
        u32::from(u16::from_be(h.get::<u16, 18>())) + 54
    };
    let Some(t) = skb.window::<20>(l4) else { return 0 };
    let doff = u32::from(t.get::<u8, 12>() >> 4) * 4;
    // A BIG TCP packet's length is 0.
    let total = if total == 14 || total == 54 { len } else { total };
    if doff < 20 || l4 + doff > total || total > len {
        return 0;
    }
    c.payload = l4 + doff;
    c.from_port = t.get::<u16, 0>();
    c.to_port = t.get::<u16, 2>();
    c.seg.seq = u32::from_be(t.get::<u32, 4>());
    c.seg.ack = u32::from_be(t.get::<u32, 8>());
    c.seg.flags = t.get::<u8, 13>() & 0x1f;
    c.seg.window = u16::from_be(t.get::<u16, 14>());
    c.seg.len = total - c.payload;
    c.options = Options::default();
    let n = doff - 20;
    if n > 0 && !skb.copy(l4 + 20, &mut c.area, n) {
        return 0;
    }
    let at: *mut Call = c;
    repeat(OPTIONS_MAX, |_| {
        // SAFETY: this CPU's own slot.
        unsafe { (*at).options.step(&Area(at), n) }
    });
    let o = &c.options;
    c.seg.time = u8::from(o.has(HAS_TIME));
    c.seg.time_value = o.time_value;
    c.seg.time_echo = o.time_echo;
    c.seg.mss = o.mss;
    c.seg.scale = o.scale;
    c.seg.sack = u8::from(o.has(HAS_SACK_OK));
    1
}
