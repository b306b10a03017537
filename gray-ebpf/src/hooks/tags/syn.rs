//! The tag of a SYN that comes in: believed where the interface is trusted, overwritten where it is not.

use aya_ebpf::bindings::__sk_buff;
use gray_common::{
    Reason,
    decide::tag::{self, LEN, Said, Tag, Walk},
    limits::XDP_OUT_SLOTS,
    request::{Bytes, options::OPTIONS_MAX},
    wire::{Addr, SynKey},
};

use crate::{
    ctx::{
        length, opaque, repeat,
        skb::{Skb, changed_sum},
    },
    emit,
    hooks::v4,
    maps,
    tables::Kernel,
};

/// A TCP header without options.
pub const TCP_LEN: u32 = 20;
const NOP: u8 = 1;

/// What a SYN with TCP at `l4` is known by; without IP options or extension headers.
#[inline(always)]
pub fn key(skb: &mut Skb, l4: u32) -> Option<SynKey> {
    let addr = if l4 == v4::PLAIN {
        Addr::v4(skb.window::<8>(l4.wrapping_sub(8))?.get::<u32, 0>())
    } else {
        skb.window::<32>(l4.wrapping_sub(32))?.get::<Addr, 0>()
    };
    let tcp = skb.window::<8>(l4)?;
    Some(SynKey { addr, number: u32::from_be(tcp.get::<u32, 4>()), port: tcp.get::<u16, 0>(), _pad: 0 })
}

/// A header's options before and after a change; 40 bytes are used.
pub struct Options {
    pub then: [u8; 64],
    pub now: [u8; 64],
}

/// Bytes whose bounds verifiers see without a branch.
struct Place<'a>(&'a [u8; 64]);

impl Bytes for Place<'_> {
    #[inline(always)]
    fn at(&self, i: u32) -> Option<u8> {
        Some(self.0[opaque(i) as usize & 63])
    }
}

/// `SCRATCH.tag` is no packet's.
#[inline(always)]
pub fn none() {
    if super::read()
        && let Some(scratch) = maps::SCRATCH.get_ptr_mut(0)
    {
        // SAFETY: this CPU's own slot; tc programs of one CPU do not interrupt each other.
        unsafe { (*scratch).tag = Tag::default() };
    }
}

/// Not 0: the tag of a SYN without IP options is a good one, and in `SCRATCH.tag`. On an interface that is not trusted there is no
/// tag behind this. Without a good one `SCRATCH.tag` is empty.
///
/// Exported, and so checked once by itself.
#[unsafe(export_name = "gray_syn_tag")]
#[inline(never)]
pub extern "C" fn look(raw: *mut __sk_buff, l4: u32) -> u32 {
    let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: this CPU's own slot; tc programs of one CPU do not interrupt each other.
    unsafe { (*scratch).tag = Tag::default() };
    let skb = &mut Skb::from_raw(raw);
    let Some(h) = skb.window::<{ TCP_LEN as usize + 4 }>(l4) else { return 0 };
    let (number, words) = (u32::from_be(h.get::<u32, 4>()), u32::from(h.get::<u8, 12>() >> 4));
    let len = words.wrapping_mul(4).wrapping_sub(TCP_LEN);
    // Most have as many bytes of options as a tag, and begin with another one.
    if len < LEN as u32 || len > OPTIONS_MAX || len == LEN as u32 && h.get::<u8, 20>() != tag::KIND {
        return 0;
    }
    let Some(options) = maps::OPTIONS.get_ptr_mut(0) else { return 0 };
    // SAFETY: this CPU's own slot; tc programs of one CPU do not interrupt each other.
    let options = unsafe { &mut *options };
    let Some(len) = length(len, OPTIONS_MAX) else { return 0 };
    if !skb.copy_to(l4 + TCP_LEN, options.then.as_mut_ptr(), len) {
        return 0;
    }
    let (mut walk, mut at) = (Walk::default(), OPTIONS_MAX);
    repeat(len, |i| {
        if walk.is_ours(&Place(&options.then), len, i) {
            at = i;
        }
        at == OPTIONS_MAX
    });
    if at >= OPTIONS_MAX {
        return 0;
    }
    if !trusted(skb.ifindex()) {
        let _ = overwrite(raw, l4, len);
        return 0;
    }
    let Some(k) = Kernel::now() else { return 0 };
    let check = |lane: u16| k.lane(u32::from(lane));
    let (said, tag) = tag::decode(k.key(), &Place(&options.then), at, number, check);
    if said != Said::Good {
        emit::count(Reason::TagRefused);
        return 0;
    }
    // SAFETY: as above.
    unsafe { (*scratch).tag = tag };
    emit::count(Reason::TagTaken);
    1
}

#[inline(always)]
fn trusted(ifindex: u32) -> bool {
    maps::TRUSTED.get(ifindex & (XDP_OUT_SLOTS - 1)).is_some_and(|i| *i == ifindex)
}

/// Every option of our experiment in `OPTIONS.then` becomes NOPs, in the packet too. Not 0: done.
///
/// Exported: see `look`.
#[unsafe(export_name = "gray_syn_overwrite")]
#[inline(never)]
pub extern "C" fn overwrite(raw: *mut __sk_buff, l4: u32, len: u32) -> u32 {
    let Some(options) = maps::OPTIONS.get_ptr_mut(0) else { return 0 };
    // SAFETY: as in `look`.
    let options = unsafe { &mut *options };
    let (then, now) = (&options.then, &mut options.now);
    let mut walk = Walk::default();
    repeat(len, |i| {
        let ours = walk.is_ours(&Place(then), len, i);
        let i = opaque(i) as usize & 63;
        now[i] = if ours { NOP } else { then[i] };
        true
    });
    let skb = &mut Skb::from_raw(raw);
    emit::count(Reason::TagOverwritten);
    let sum = changed_sum(options.then.as_ptr(), options.now.as_ptr(), len);
    // The packet's sum as a whole stays: what the options lose, the checksum gets.
    u32::from(skb.put(l4 + TCP_LEN, &options.now, len) && skb.l4_csum_inside(l4 + 16, sum))
}
