//! A TCP socket at one of its moments (`BPF_PROG_TYPE_SOCK_OPS`): which moment, its storage, options of its segments.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{
        BPF_SK_STORAGE_GET_F_CREATE, BPF_SOCK_OPS_RTO_CB_FLAG, BPF_SOCK_OPS_STATE_CB_FLAG,
        BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG, bpf_sock_ops,
    },
    btf_maps::SkStorage,
    helpers::generated::{
        bpf_reserve_hdr_opt, bpf_sk_storage_get, bpf_sock_ops_cb_flags_set, bpf_store_hdr_opt,
    },
    programs::{BtfTracePointContext, SockOpsContext},
};
use gray_common::{
    decide::tag::{Encoded, LEN},
    wire::Addr,
};

/// `BPF_SOCK_OPS_*`.
pub const CONNECT: u32 = 3;
pub const ESTABLISHED: u32 = 4;
pub const ACCEPTED: u32 = 5;
pub const TIMEOUT: u32 = 8;
pub const STATE: u32 = 10;
pub const OPTION_LENGTH: u32 = 14;
pub const OPTION_WRITE: u32 = 15;

const AF_INET: u32 = 2;

/// Linux 5.10.
pub struct Ops {
    raw: *mut bpf_sock_ops,
}

/// The record of the socket that a tracepoint is of (its first argument), if it has one (Linux 5.11).
#[inline(always)]
#[expect(clippy::mut_from_ref, reason = "the kernel owns the record; a run takes it once")]
pub fn stored_with<T>(ctx: &BtfTracePointContext, map: &'static SkStorage<T>) -> Option<&'static mut T> {
    let sk: *const c_void = ctx.arg(0);
    let map = core::ptr::from_ref(map).cast_mut().cast::<c_void>();
    // SAFETY: the storage lives as long as the socket, which outlives the run.
    unsafe { bpf_sk_storage_get(map, sk.cast_mut(), core::ptr::null_mut(), 0).cast::<T>().as_mut() }
}

macro_rules! field {
    ($p:expr, $($f:tt)+) => {
        // SAFETY: a field of the hook's context; volatile keeps loads as wide as the verifier allows for it.
        unsafe { core::ptr::read_volatile(&raw const (*$p).$($f)+) }
    };
}

#[inline(always)]
fn address(w: [u32; 4]) -> Addr {
    Addr::from_words([u64::from(w[0]) | u64::from(w[1]) << 32, u64::from(w[2]) | u64::from(w[3]) << 32])
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

    /// Programs are told when this socket's state changes, from now on, and of its `timeouts`: one flag for all programs of all owners, which
    /// nobody takes back.
    #[inline(always)]
    pub fn ask_for_states(&mut self, timeouts: bool) -> bool {
        let more = if timeouts { BPF_SOCK_OPS_RTO_CB_FLAG } else { 0 };
        let wanted = field!(self.raw, bpf_sock_ops_cb_flags) | BPF_SOCK_OPS_STATE_CB_FLAG | more;
        // SAFETY: a helper on the hook's own context.
        unsafe { bpf_sock_ops_cb_flags_set(self.raw, wanted as i32) >= 0 }
    }

    /// The socket's state (`BPF_TCP_*`).
    #[inline(always)]
    pub fn state(&self) -> u32 {
        field!(self.raw, state)
    }

    /// Of a time-out: how often what is sent once more was so before.
    #[inline(always)]
    pub fn timeouts(&self) -> u32 {
        field!(self.raw, __bindgen_anon_1.args[0])
    }

    /// Of a change of state: from, and to (`BPF_TCP_*`).
    #[inline(always)]
    pub fn states(&self) -> (u32, u32) {
        (field!(self.raw, __bindgen_anon_1.args[0]), field!(self.raw, __bindgen_anon_1.args[1]))
    }

    /// The smoothed round-trip time, us; segments that were sent once more.
    #[inline(always)]
    pub fn path(&self) -> (u32, u32) {
        (field!(self.raw, srtt_us) >> 3, field!(self.raw, total_retrans))
    }

    /// Bytes of the stream: acknowledged by the peer, and received.
    #[inline(always)]
    pub fn bytes(&self) -> (u64, u64) {
        (field!(self.raw, bytes_acked), field!(self.raw, bytes_received))
    }

    /// This socket's record, if it has one.
    #[inline(always)]
    pub fn stored<T>(&self, map: &'static SkStorage<T>) -> Option<&'static mut T> {
        self.record(map, 0)
    }

    /// This socket's record, made of zeros when it has none. `None`: no memory.
    #[inline(always)]
    pub fn store_record<T>(&self, map: &'static SkStorage<T>) -> Option<&'static mut T> {
        self.record(map, BPF_SK_STORAGE_GET_F_CREATE.into())
    }

    #[inline(always)]
    #[expect(clippy::mut_from_ref, reason = "the kernel owns the record; a run takes it once")]
    fn record<T>(&self, map: &'static SkStorage<T>, flags: u64) -> Option<&'static mut T> {
        let sk = field!(self.raw, __bindgen_anon_2.sk);
        if sk.is_null() {
            return None;
        }
        let map = core::ptr::from_ref(map).cast_mut().cast::<c_void>();
        // SAFETY: the storage lives as long as the socket, which outlives the run, and whose lock is held; the records are wire types,
        // for which zeros are a value.
        unsafe { bpf_sk_storage_get(map, sk.cast(), core::ptr::null_mut(), flags).cast::<T>().as_mut() }
    }

    /// Its own end, the port in network order. Of an IPv4 one the address is mapped.
    #[inline(always)]
    pub fn local(&self) -> (Addr, u16) {
        let v6 = [
            field!(self.raw, local_ip6[0]),
            field!(self.raw, local_ip6[1]),
            field!(self.raw, local_ip6[2]),
            field!(self.raw, local_ip6[3]),
        ];
        let addr = self.of_family(field!(self.raw, local_ip4), v6);
        (addr, (field!(self.raw, local_port) as u16).to_be())
    }

    /// The same of its peer.
    #[inline(always)]
    pub fn remote(&self) -> (Addr, u16) {
        let v6 = [
            field!(self.raw, remote_ip6[0]),
            field!(self.raw, remote_ip6[1]),
            field!(self.raw, remote_ip6[2]),
            field!(self.raw, remote_ip6[3]),
        ];
        let addr = self.of_family(field!(self.raw, remote_ip4), v6);
        // The kernel has it in the upper half, in network order.
        (addr, (field!(self.raw, remote_port) >> 16) as u16)
    }

    /// Both were read: the verifier takes no pointer that is one or the other.
    #[inline(always)]
    fn of_family(&self, v4: u32, v6: [u32; 4]) -> Addr {
        if field!(self.raw, family) == AF_INET { Addr::v4(v4) } else { address(v6) }
    }

    /// The number of the byte that it awaits next, host order.
    #[inline(always)]
    pub fn awaited(&self) -> u32 {
        field!(self.raw, rcv_nxt)
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
