//! A packet in XDP: bounded reads and writes, redirects. All of what is looked at is in the first buffer, or the packet is
//! none for XDP.

use aya_ebpf::{
    bindings::{xdp_action::XDP_TX, xdp_md},
    helpers::generated::{bpf_redirect, bpf_xdp_adjust_head, bpf_xdp_load_bytes},
    programs::XdpContext,
};
use gray_common::wire::Addr;

use super::{
    fib::{self, Hop},
    head::Head,
};

/// The frame of one run.
pub struct Frame {
    raw: *mut xdp_md,
}

impl Frame {
    #[inline(always)]
    pub fn new(ctx: &XdpContext) -> Self {
        Self { raw: ctx.ctx }
    }

    /// In a function of its own, which gets the context as a plain pointer.
    #[inline(always)]
    pub fn from_raw(raw: *mut xdp_md) -> Self {
        Self { raw }
    }

    #[inline(always)]
    pub fn raw(&self) -> *mut xdp_md {
        self.raw
    }

    /// Start and end. Volatile: of a value that is loaded once and used twice the compiler makes a 32-bit copy, which to the
    /// verifier is no pointer any more.
    #[inline(always)]
    fn bounds(&self) -> (usize, usize) {
        // SAFETY: fields of the context.
        unsafe {
            (
                core::ptr::read_volatile(&raw const (*self.raw).data) as usize,
                core::ptr::read_volatile(&raw const (*self.raw).data_end) as usize,
            )
        }
    }

    /// The first `N` bytes. `None`: the frame is shorter.
    #[inline(always)]
    pub fn head<const N: usize>(&self) -> Option<Head<'_, N>> {
        let (data, end) = self.bounds();
        if data + N > end { None } else { Some(Head::new(data as *mut u8)) }
    }

    /// The 16 bytes from `at` on, as they are; zeros where it has fewer (Linux 5.18).
    #[inline(always)]
    pub fn text(&self, at: u32) -> [u64; 2] {
        let mut text = [0u64; 2];
        // SAFETY: a helper on the run's own context, and a buffer of that length.
        let done = unsafe { bpf_xdp_load_bytes(self.raw, at, (&raw mut text).cast(), 16) };
        if done == 0 { text } else { [0; 2] }
    }

    /// Whole length in bytes, link header included. In 64 bits to the last: the verifier knows no 32-bit difference of
    /// pointers.
    #[inline(always)]
    pub fn len(&self) -> u64 {
        let (data, end) = self.bounds();
        (end - data) as u64
    }

    #[inline(always)]
    pub fn ifindex(&self) -> u32 {
        // SAFETY: a field of the context.
        unsafe { (*self.raw).ingress_ifindex }
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

    /// Makes `len` bytes of room in front of the frame. False: its buffer has none, and nothing was changed.
    #[inline(always)]
    pub fn grow(&mut self, len: u32) -> bool {
        // SAFETY: a helper on the run's own context.
        unsafe { bpf_xdp_adjust_head(self.raw, -(len as i32)) == 0 }
    }

    /// Takes that room away again.
    #[inline(always)]
    pub fn shrink(&mut self, len: u32) -> bool {
        // SAFETY: a helper on the run's own context.
        unsafe { bpf_xdp_adjust_head(self.raw, len as i32) == 0 }
    }

    /// Sends the frame out of an interface as it is.
    #[inline(always)]
    pub fn leave(&self, ifindex: u32) -> u32 {
        if ifindex == self.ifindex() {
            return XDP_TX;
        }
        // SAFETY: a helper without pointers.
        unsafe { bpf_redirect(ifindex, 0) as u32 }
    }
}
