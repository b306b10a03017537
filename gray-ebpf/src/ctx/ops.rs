//! A TCP socket at one of its moments (`BPF_PROG_TYPE_SOCK_OPS`): which moment, its storage, options of its segments.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG, bpf_sock_ops},
    btf_maps::SkStorage,
    helpers::generated::{
        bpf_reserve_hdr_opt, bpf_sk_storage_get, bpf_sock_ops_cb_flags_set, bpf_store_hdr_opt,
    },
    programs::SockOpsContext,
};
use gray_common::decide::tag::{Encoded, LEN};

/// `BPF_SOCK_OPS_*`.
pub const CONNECT: u32 = 3;
pub const ESTABLISHED: u32 = 4;
pub const OPTION_LENGTH: u32 = 14;
pub const OPTION_WRITE: u32 = 15;

/// Linux 5.10.
pub struct Ops {
    raw: *mut bpf_sock_ops,
}

macro_rules! field {
    ($p:expr, $($f:tt)+) => {
        // SAFETY: a field of the hook's context; volatile keeps loads as wide as the verifier allows for it.
        unsafe { core::ptr::read_volatile(&raw const (*$p).$($f)+) }
    };
}

impl Ops {
    #[inline(always)]
    pub fn new(ctx: &SockOpsContext) -> Self {
        Self { raw: ctx.ops }
    }

    #[inline(always)]
    pub fn op(&self) -> u32 {
        field!(self.raw, op)
    }

    /// Of the segment that is being made, where options are asked for.
    #[inline(always)]
    pub fn tcp_flags(&self) -> u8 {
        field!(self.raw, skb_tcp_flags) as u8
    }

    /// Programs are asked for options of this socket's segments, or are not, from now on: one flag for all programs of all
    /// owners. False: it was so.
    #[inline(always)]
    pub fn ask_for_options(&mut self, on: bool) -> bool {
        let now = field!(self.raw, bpf_sock_ops_cb_flags);
        let wanted = if on {
            now | BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG
        } else {
            now & !BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG
        };
        // SAFETY: a helper on the hook's own context.
        now != wanted && unsafe { bpf_sock_ops_cb_flags_set(self.raw, wanted as i32) >= 0 }
    }

    /// This socket's record, if it has one.
    #[inline(always)]
    #[expect(clippy::mut_from_ref, reason = "the kernel owns the record; a run takes it once")]
    pub fn stored<T>(&self, map: &'static SkStorage<T>) -> Option<&'static mut T> {
        let sk = field!(self.raw, __bindgen_anon_2.sk);
        if sk.is_null() {
            return None;
        }
        let map = core::ptr::from_ref(map).cast_mut().cast::<c_void>();
        // SAFETY: the storage lives as long as the socket, which outlives the run, and whose lock is held.
        unsafe { bpf_sk_storage_get(map, sk.cast(), core::ptr::null_mut(), 0).cast::<T>().as_mut() }
    }

    /// Room for an option. False: there is none.
    #[inline(always)]
    pub fn reserve(&mut self, bytes: u32) -> bool {
        // SAFETY: a helper on the hook's own context.
        unsafe { bpf_reserve_hdr_opt(self.raw, bytes, 0) == 0 }
    }

    /// The sequence number of the segment that is being made, host order.
    #[inline(always)]
    pub fn number(&self) -> Option<u32> {
        let at = field!(self.raw, __bindgen_anon_3.skb_data) as usize;
        let end = field!(self.raw, __bindgen_anon_4.skb_data_end) as usize;
        if at + 8 > end {
            return None;
        }
        // SAFETY: inside the header, compared above.
        Some(u32::from_be(unsafe { core::ptr::read_volatile((at + 4) as *const u32) }))
    }

    /// Writes an option into the room that was asked for.
    #[inline(always)]
    pub fn store(&mut self, option: &Encoded) -> bool {
        // SAFETY: a helper on the hook's own context; the option is as long.
        unsafe { bpf_store_hdr_opt(self.raw, option.as_ptr().cast(), LEN as u32, 0) == 0 }
    }
}
