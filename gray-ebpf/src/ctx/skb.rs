//! A packet in tcx: bounded reads and writes, checksum helpers, redirects.

use core::hint::cold_path;

use aya_ebpf::{
    bindings::{__sk_buff, BPF_CSUM_LEVEL_QUERY, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR},
    helpers::generated::{
        bpf_clone_redirect, bpf_csum_diff, bpf_csum_level, bpf_csum_update, bpf_l4_csum_replace,
        bpf_redirect, bpf_redirect_neigh, bpf_skb_adjust_room, bpf_skb_change_tail, bpf_skb_load_bytes,
        bpf_skb_pull_data, bpf_skb_store_bytes,
    },
    programs::TcContext,
};
use gray_common::{csum, wire::Addr};

use super::fib;
pub use super::{fib::Hop, head::Head};

/// `BPF_F_INGRESS`.
const BPF_F_INGRESS: u64 = 1;
/// `tc_index` of what the request path is done with: on its way back in, and out.
const HOME: u32 = 0x6772;
const SENT: u32 = 0x6773;
/// `BPF_ADJ_ROOM_MAC`.
const BPF_ADJ_ROOM_MAC: u32 = 1;
/// `BPF_F_ADJ_ROOM_*`. Fixed: segments keep their size, what does not fit was refused before.
const FIXED_GSO: u64 = 1;
const ENCAP_L3_IPV4: u64 = 1 << 1;
const ENCAP_L3_IPV6: u64 = 1 << 2;
const ENCAP_L4_UDP: u64 = 1 << 4;

/// The packet of one run.
pub struct Skb {
    raw: *mut __sk_buff,
}

impl Skb {
    #[inline(always)]
    pub fn new(ctx: &TcContext) -> Self {
        Self { raw: ctx.skb.skb }
    }

    /// In a function of its own, which gets the context as a plain pointer.
    #[inline(always)]
    pub fn from_raw(raw: *mut __sk_buff) -> Self {
        Self { raw }
    }

    #[inline(always)]
    pub fn raw(&self) -> *mut __sk_buff {
        self.raw
    }

    /// The first `N` bytes, pulled into the linear part when they are not there yet. `None`: the packet is shorter.
    #[inline(always)]
    pub fn head<const N: usize>(&mut self) -> Option<Head<'_, N>> {
        self.window::<N>(0)
    }

    /// `N` bytes from `at` on, which is below 2048.
    #[inline(always)]
    pub fn window<const N: usize>(&mut self, at: u32) -> Option<Head<'_, N>> {
        // What the verifier is to know of an offset that is no constant.
        let at = at & 0x7ff;
        if let Some(at) = self.linear(at as usize, N) {
            return Some(Head::new(at));
        }
        cold_path();
        // SAFETY: a helper on the run's own context.
        if unsafe { bpf_skb_pull_data(self.raw, at + N as u32) } != 0 {
            return None;
        }
        self.linear(at as usize, N).map(Head::new)
    }

    /// The 16 bytes from `at` on, as they are; zeros where it has fewer.
    #[inline(always)]
    pub fn text(&self, at: u32) -> [u64; 2] {
        let mut text = [0u64; 2];
        // SAFETY: a helper on the run's own context, and a buffer of that length, which it clears where it fails.
        let _ = unsafe { bpf_skb_load_bytes(self.raw.cast(), at, (&raw mut text).cast(), 16) };
        text
    }

    /// The byte at `at`; 0 where there is none.
    #[inline(always)]
    pub fn byte(&self, at: u32) -> u8 {
        let mut byte = 0u8;
        // SAFETY: as in `text`.
        let _ = unsafe { bpf_skb_load_bytes(self.raw.cast(), at, (&raw mut byte).cast(), 1) };
        byte
    }

    /// Where byte `at` is, if `n` bytes from there are in the linear part.
    #[inline(always)]
    fn linear(&self, at: usize, n: usize) -> Option<*mut u8> {
        // SAFETY: fields of the context. Volatile: of a value that is loaded once and used twice the compiler makes a 32-bit
        // copy, which to the verifier is no pointer any more.
        let (data, end) = unsafe {
            (
                core::ptr::read_volatile(&raw const (*self.raw).data) as usize,
                core::ptr::read_volatile(&raw const (*self.raw).data_end) as usize,
            )
        };
        let from = data + at;
        // The verifier wants the comparison with the very pointer that is used.
        if from + n > end { None } else { Some(from as *mut u8) }
    }

    /// Whole length in bytes, link header included.
    #[inline(always)]
    pub fn len(&self) -> u32 {
        // SAFETY: a field of the context.
        unsafe { (*self.raw).len }
    }

    #[inline(always)]
    pub fn mark(&self) -> u32 {
        // SAFETY: a field of the context.
        unsafe { (*self.raw).mark }
    }

    #[inline(always)]
    pub fn ifindex(&self) -> u32 {
        // SAFETY: a field of the context.
        unsafe { (*self.raw).ifindex }
    }

    /// Whether it came in by some interface, and is none of this node's own sockets.
    #[inline(always)]
    pub fn is_forwarded(&self) -> bool {
        // SAFETY: a field of the context.
        unsafe { (*self.raw).ingress_ifindex != 0 }
    }

    /// Whether the request path is done with it: it was sent [`home`](Self::home), or is on its way out.
    #[inline(always)]
    pub fn is_done(&mut self, egress: bool) -> bool {
        // SAFETY: a field of the context that programs may write.
        unsafe {
            let index = (*self.raw).tc_index;
            if index == SENT {
                // Another namespace of this machine must not take it for its own.
                (*self.raw).tc_index = 0;
            }
            index == if egress { SENT } else { HOME }
        }
    }

    /// What goes out from here on is ours.
    #[inline(always)]
    pub fn mark_sent(&mut self) {
        // SAFETY: a field of the context that programs may write.
        unsafe { (*self.raw).tc_index = SENT };
    }

    /// At egress: back in by the interface that it was about to leave, for this node.
    #[inline(always)]
    pub fn home(&mut self) -> i32 {
        let to = self.go_home();
        // SAFETY: a helper without pointers.
        unsafe { bpf_redirect(to, BPF_F_INGRESS) as i32 }
    }

    /// A copy, for this node: in by the same interface once more. The packet stays.
    #[inline(always)]
    pub fn clone_home(&mut self) -> i32 {
        let to = self.go_home();
        // SAFETY: a helper on the run's own context.
        unsafe { bpf_clone_redirect(self.raw, to, BPF_F_INGRESS) as i32 }
    }

    #[inline(always)]
    fn go_home(&mut self) -> u32 {
        // SAFETY: a field of the context that programs may write.
        unsafe { (*self.raw).tc_index = HOME };
        self.ifindex()
    }

    /// At egress: it would leave with our own address as its source, and is for us.
    #[inline(always)]
    pub fn address_home(&mut self) {
        if let Some(mut h) = self.head::<14>() {
            let own = h.get::<[u8; 6], 6>();
            h.set::<[u8; 6], 0>(own);
        }
    }

    /// Payload bytes per segment of a GSO packet; 0: not one.
    #[inline(always)]
    pub fn gso_size(&self) -> u32 {
        // SAFETY: a field of the context.
        unsafe { (*self.raw).gso_size }
    }

    /// Applies an address difference and a port difference (folded, one's complement) to the transport checksum at byte
    /// `at` of the frame. `zero_is_none`: UDP, where 0 means no checksum.
    ///
    /// One combined difference would corrupt CHECKSUM_PARTIAL packets, whose field holds the pseudo-header's sum only, and
    /// no program can ask which kind of packet it has. But the helper treats the two kinds differently, adding the
    /// difference to one and subtracting it from the other: so what it did to the address tells what is to be done for the
    /// ports, and that is plain arithmetic.
    #[inline(always)]
    pub fn l4_csum(&mut self, at: u32, addr: u16, port: u16, zero_is_none: bool) -> bool {
        let Some(h) = self.window::<2>(at) else { return false };
        let before = h.get::<u16, 0>();
        if zero_is_none && before == 0 {
            return true;
        }
        if !self.csum_replace(at, addr, u64::from(BPF_F_PSEUDO_HDR), zero_is_none) {
            return false;
        }
        if csum::is_zero(port) {
            return true;
        }
        if csum::is_zero(addr) {
            cold_path();
            // Added or subtracted, it is the same: ask the helper.
            return self.csum_replace(at, port, 0, zero_is_none);
        }
        let Some(mut h) = self.window::<2>(at) else { return false };
        let after = h.get::<u16, 0>();
        if !added(before, after, addr) {
            let check = csum::update(after, port);
            h.set::<u16, 0>(if check == 0 && zero_is_none { 0xffff } else { check });
        }
        true
    }

    /// The sum of 20 bytes from `AT` on, of a transport header whose checksum is at `CHECK`, as it will be when the packet
    /// is on the wire. Of a CHECKSUM_PARTIAL packet that ends there it is what cancels the pseudo-header's sum that the
    /// field holds until then; of any other, just the sum.
    #[inline(always)]
    pub fn settled_sum<const N: usize, const AT: usize, const CHECK: usize>(&mut self) -> Option<u16> {
        const TRY: u16 = 1;
        let before = self.head::<N>()?.get::<u16, CHECK>();
        if !self.csum_replace(CHECK as u32, TRY, u64::from(BPF_F_PSEUDO_HDR), false) {
            return None;
        }
        let after = self.head::<N>()?.get::<u16, CHECK>();
        if !self.csum_replace(CHECK as u32, !TRY, u64::from(BPF_F_PSEUDO_HDR), false) {
            return None;
        }
        if added(before, after, TRY) {
            return Some(!before);
        }
        let w = self.head::<N>()?.get::<[u32; 5], AT>();
        Some(csum::fold(
            csum::halves(w[0])
                + csum::halves(w[1])
                + csum::halves(w[2])
                + csum::halves(w[3])
                + csum::halves(w[4]),
        ))
    }

    /// Copies `n` bytes, 1 to 40, from `at` on.
    #[inline(always)]
    pub fn copy(&self, at: u32, to: &mut [u8; 40], n: u32) -> bool {
        let Some(n) = super::length(n, 40) else { return false };
        self.copy_to(at, to.as_mut_ptr(), n)
    }

    /// Copies `n` bytes from `at` on to a place that has room for them.
    #[inline(always)]
    pub fn copy_to(&self, at: u32, to: *mut u8, n: u32) -> bool {
        // SAFETY: a helper on the run's own context; the caller's place is as long.
        unsafe { bpf_skb_load_bytes(self.raw.cast(), at, to.cast(), n) == 0 }
    }

    /// Writes `n` bytes, 1 to 40, to `at`. The checksum is the caller's matter.
    #[inline(always)]
    pub fn put(&mut self, at: u32, from: &[u8; 64], n: u32) -> bool {
        let Some(n) = super::length(n, 40) else { return false };
        self.store(at, from.as_ptr(), n)
    }

    /// Writes `n` bytes to `at`. The checksum is the caller's matter.
    #[inline(always)]
    pub fn store(&mut self, at: u32, from: *const u8, n: u32) -> bool {
        // SAFETY: a helper on the run's own context; the caller's place is as long.
        unsafe { bpf_skb_store_bytes(self.raw, at, from.cast(), n, 0) == 0 }
    }

    /// Makes the frame `len` bytes long. Not 0: done. A GSO packet is none any more.
    #[inline(always)]
    pub fn resize(&mut self, len: u32) -> u32 {
        // SAFETY: a helper on the run's own context.
        u32::from(unsafe { bpf_skb_change_tail(self.raw, len, 0) == 0 })
    }

    /// Whether the network card has found the checksum right (CHECKSUM_UNNECESSARY).
    #[inline(always)]
    pub fn is_checked(&mut self) -> bool {
        // SAFETY: a helper on the run's own context (Linux 5.8), which only asks.
        unsafe { bpf_csum_level(self.raw, u64::from(BPF_CSUM_LEVEL_QUERY)) >= 0 }
    }

    /// Whether the checksum at `at` is yet to be made by whoever sends the packet (CHECKSUM_PARTIAL).
    #[inline(always)]
    pub fn is_partial(&mut self, at: u32) -> bool {
        const TRY: u16 = 1;
        let Some(h) = self.window::<2>(at) else { return false };
        let before = h.get::<u16, 0>();
        let _ = self.csum_replace(at, TRY, u64::from(BPF_F_PSEUDO_HDR), false);
        let Some(h) = self.window::<2>(at) else { return false };
        let after = h.get::<u16, 0>();
        let _ = self.csum_replace(at, !TRY, u64::from(BPF_F_PSEUDO_HDR), false);
        added(before, after, TRY)
    }

    /// Corrects the transport checksum at `at` by a difference of what it covers beside the pseudo-header.
    #[inline(always)]
    pub fn l4_csum_inside(&mut self, at: u32, diff: u16) -> bool {
        self.csum_replace(at, diff, 0, false)
    }

    /// Sends a copy out of an interface; the packet stays (Linux 4.1).
    #[inline(always)]
    pub fn clone_to(&mut self, ifindex: u32) -> i32 {
        // SAFETY: a helper on the run's own context.
        unsafe { bpf_clone_redirect(self.raw, ifindex, 0) as i32 }
    }

    /// Cuts the frame to `len` bytes. A GSO packet is none any more.
    #[inline(always)]
    pub fn cut(&mut self, len: usize) -> bool {
        // SAFETY: a helper on the run's own context.
        unsafe { bpf_skb_change_tail(self.raw, len as u32, 0) == 0 }
    }

    /// Makes `len` bytes of room between the link header and the rest.
    #[inline(always)]
    pub fn push(&mut self, len: usize) -> bool {
        // SAFETY: a helper on the run's own context.
        unsafe { bpf_skb_adjust_room(self.raw, len as i32, BPF_ADJ_ROOM_MAC, 0) == 0 }
    }

    /// Makes `len` bytes of room for an outer IP header (and UDP's and what is behind it). The new bytes are zero. False:
    /// nothing was changed (an encapsulated packet already).
    #[inline(always)]
    pub fn wrap(&mut self, len: u32, v4: bool, udp: bool) -> bool {
        let l3 = if v4 { ENCAP_L3_IPV4 } else { ENCAP_L3_IPV6 };
        let flags = FIXED_GSO | l3 | if udp { ENCAP_L4_UDP } else { 0 };
        // SAFETY: a helper on the run's own context.
        unsafe { bpf_skb_adjust_room(self.raw, len as i32, BPF_ADJ_ROOM_MAC, flags) == 0 }
    }

    /// Takes `len` bytes behind the link header away.
    #[inline(always)]
    pub fn unwrap(&mut self, len: u32) -> bool {
        // SAFETY: a helper on the run's own context.
        unsafe { bpf_skb_adjust_room(self.raw, -(len as i32), BPF_ADJ_ROOM_MAC, FIXED_GSO) == 0 }
    }

    /// Whether the frame is addressed to this interface (`PACKET_HOST`).
    #[inline(always)]
    fn is_here(&self) -> bool {
        // SAFETY: a field of the context.
        unsafe { (*self.raw).pkt_type == 0 }
    }

    /// Whether the stack keeps an IPv4 packet to this address, or drops it.
    #[inline(always)]
    pub fn stays4(&self, saddr: u32, daddr: u32) -> bool {
        fib::stays4(self.raw.cast(), self.ifindex(), saddr, daddr, self.is_here())
    }

    /// Whether the stack keeps an IPv6 packet to this address, or drops it.
    #[inline(always)]
    pub fn stays6(&self, saddr: &Addr, daddr: &Addr) -> bool {
        fib::stays6(self.raw.cast(), self.ifindex(), saddr, daddr, self.is_here())
    }

    #[inline(always)]
    fn csum_replace(&mut self, at: u32, diff: u16, flags: u64, zero_is_none: bool) -> bool {
        let udp = if zero_is_none { u64::from(BPF_F_MARK_MANGLED_0) } else { 0 };
        // SAFETY: a helper on the run's own context; it checks the offset.
        unsafe { bpf_l4_csum_replace(self.raw, at, 0, u64::from(diff), flags | udp) == 0 }
    }

    /// Corrects `skb->csum` of a CHECKSUM_COMPLETE packet by a difference; does nothing to others. IPv6 needs it:
    /// the pseudo-header form of `bpf_l4_csum_replace` assumes that an IP header checksum cancels the address
    /// change, which IPv6 has not (kernel commit ead7f9b8de65).
    #[inline(always)]
    pub fn complete_csum(&mut self, diff: u16) {
        // SAFETY: a helper on the run's own context; it fails harmlessly where there is no complete checksum.
        let _ = unsafe { bpf_csum_update(self.raw, u32::from(diff)) };
    }

    /// The next hop of an IPv4 packet with these addresses.
    #[inline(always)]
    pub fn next_hop4(&self, saddr: u32, daddr: u32, tos: u8) -> Hop {
        fib::next_hop4(self.raw.cast(), self.ifindex(), saddr, daddr, tos)
    }

    /// The next hop of an IPv6 packet with these addresses.
    #[inline(always)]
    pub fn next_hop6(&self, saddr: &Addr, daddr: &Addr) -> Hop {
        fib::next_hop6(self.raw.cast(), self.ifindex(), saddr, daddr)
    }

    /// Sends the packet out of an interface as it is.
    #[inline(always)]
    pub fn redirect(&mut self, ifindex: u32) -> i32 {
        // SAFETY: a helper without pointers.
        unsafe { bpf_redirect(ifindex, 0) as i32 }
    }

    /// Sends the packet out of an interface, the kernel finds the link address (5.10).
    #[inline(always)]
    pub fn redirect_neigh(&mut self, ifindex: u32) -> i32 {
        // SAFETY: no parameters are given, with length 0.
        unsafe { bpf_redirect_neigh(ifindex, core::ptr::null_mut(), 0, 0) as i32 }
    }
}

/// The sum of `n` bytes, at most 1460, of a place that is longer by a word.
#[inline(always)]
pub fn sum_of(at: *const u8, n: u32) -> u16 {
    // More at once is refused before Linux 6.13.
    const PART: u32 = 512;
    let words = n & !3;
    let (mut sum, mut i) = (0u32, 0);
    while i < 3 {
        let done = i * PART;
        if words > done {
            let n = super::opaque(words - done);
            let n = if n >= PART { PART } else { n & 0x1fc };
            // SAFETY: the caller's place is as long.
            sum = unsafe {
                bpf_csum_diff(core::ptr::null_mut(), 0, at.add(done as usize).cast_mut().cast(), n, sum)
                    as u32
            };
        }
        i += 1;
    }
    let end = super::opaque(words);
    if end > 1460 {
        return csum::fold(sum);
    }
    // SAFETY: the caller's place is longer.
    let last = unsafe { at.add(end as usize).cast::<u32>().read_unaligned() };
    // Bytes as they stand in memory, the first one lowest.
    let last = last & (1u32 << (8 * (n & 3))).wrapping_sub(1);
    csum::add(csum::fold(sum), csum::fold(csum::halves(last)))
}

/// The difference of a sum over `n` bytes, a multiple of 4 up to 40, of places of 64.
#[inline(always)]
pub fn changed_sum(then: *const u8, now: *const u8, n: u32) -> u16 {
    let n = super::opaque(n) & 0x3c;
    // SAFETY: the caller's places are as long.
    csum::fold(unsafe { bpf_csum_diff(then.cast_mut().cast(), n, now.cast_mut().cast(), n, 0) } as u32)
}

/// Whether a checksum helper added a difference (CHECKSUM_PARTIAL) and did not subtract it, in one's complement.
#[inline(always)]
fn added(before: u16, after: u16, diff: u16) -> bool {
    csum::is_zero(csum::add(csum::diff16(before, after), !diff))
}
