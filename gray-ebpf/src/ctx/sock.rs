//! A socket address in the cgroup hooks: reading and rewriting the destination, the socket's own facts, its storage.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{__sk_buff, bpf_sock_addr},
    btf_maps::SkStorage,
    helpers::generated::{
        bpf_get_current_ancestor_cgroup_id, bpf_get_current_cgroup_id, bpf_get_netns_cookie,
        bpf_get_socket_cookie, bpf_sk_fullsock, bpf_sk_storage_get,
    },
    programs::SockAddrContext,
};
use gray_common::{
    limits,
    wire::{Addr, Workload},
};

use crate::maps;

/// The record of the full socket that a packet is of, if it has one.
#[inline(always)]
#[expect(clippy::mut_from_ref, reason = "the kernel owns the record; a run takes it once")]
pub fn stored_of<T>(raw: *mut __sk_buff, map: &'static SkStorage<T>) -> Option<&'static mut T> {
    // SAFETY: a field of the context; the helpers take what is no null pointer; the storage lives as long as the socket, which outlives
    // the run.
    unsafe {
        let sk = core::ptr::read_volatile(&raw const (*raw).__bindgen_anon_2.sk);
        if sk.is_null() {
            return None;
        }
        let sk = bpf_sk_fullsock(sk);
        if sk.is_null() {
            return None;
        }
        let map = core::ptr::from_ref(map).cast_mut().cast();
        bpf_sk_storage_get(map, sk.cast(), core::ptr::null_mut(), 0).cast::<T>().as_mut()
    }
}

/// One hook run's socket address.
pub struct Sock<'a> {
    ctx: &'a SockAddrContext,
    raw: *mut bpf_sock_addr,
}

/// `::ffff:0:0/96` as the third word of an IPv6 address in memory order.
const MAPPED: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);

macro_rules! field {
    ($p:expr, $($f:tt)+) => {
        // SAFETY: a field of the hook's context; volatile keeps loads as wide as the verifier allows for it.
        unsafe { core::ptr::read_volatile(&raw const (*$p).$($f)+) }
    };
}

impl<'a> Sock<'a> {
    #[inline(always)]
    pub fn new(ctx: &'a SockAddrContext) -> Self {
        Self { ctx, raw: ctx.sock_addr }
    }

    /// For a function of its own.
    #[inline(always)]
    pub fn raw(&self) -> *mut bpf_sock_addr {
        self.raw
    }

    /// The IPv4 destination (or, in receiving hooks, the peer), mapped.
    #[inline(always)]
    pub fn addr4(&self) -> Addr {
        Addr::v4(field!(self.raw, user_ip4))
    }

    /// The IPv6 destination or peer.
    #[inline(always)]
    pub fn addr6(&self) -> Addr {
        let w = [
            field!(self.raw, user_ip6[0]),
            field!(self.raw, user_ip6[1]),
            field!(self.raw, user_ip6[2]),
            field!(self.raw, user_ip6[3]),
        ];
        let mut a = [0; 16];
        a[..4].copy_from_slice(&w[0].to_ne_bytes());
        a[4..8].copy_from_slice(&w[1].to_ne_bytes());
        a[8..12].copy_from_slice(&w[2].to_ne_bytes());
        a[12..].copy_from_slice(&w[3].to_ne_bytes());
        Addr(a)
    }

    /// Network order.
    #[inline(always)]
    pub fn port(&self) -> u16 {
        field!(self.raw, user_port) as u16
    }

    #[inline(always)]
    pub fn protocol(&self) -> u32 {
        field!(self.raw, protocol)
    }

    #[inline(always)]
    pub fn set4(&mut self, addr: &Addr, port: u16) {
        // SAFETY: writable fields of the context in these hooks.
        unsafe {
            core::ptr::write_volatile(&raw mut (*self.raw).user_ip4, addr.as_v4());
            core::ptr::write_volatile(&raw mut (*self.raw).user_port, u32::from(port));
        }
    }

    /// Writes an IPv6 address; a mapped IPv4 one changes the last word only, the rest already says so.
    #[inline(always)]
    pub fn set6(&mut self, addr: &Addr, port: u16) {
        let [lo, hi] = addr.words();
        // SAFETY: writable fields of the context in these hooks.
        unsafe {
            core::ptr::write_volatile(&raw mut (*self.raw).user_ip6[0], lo as u32);
            core::ptr::write_volatile(&raw mut (*self.raw).user_ip6[1], (lo >> 32) as u32);
            core::ptr::write_volatile(&raw mut (*self.raw).user_ip6[2], hi as u32);
            core::ptr::write_volatile(&raw mut (*self.raw).user_ip6[3], (hi >> 32) as u32);
            core::ptr::write_volatile(&raw mut (*self.raw).user_port, u32::from(port));
        }
    }

    /// The address that the socket is bound to, mapped; all zero in the last words when it is not bound.
    #[inline(always)]
    pub fn bound4(&self) -> Option<Addr> {
        let sk = field!(self.raw, __bindgen_anon_1.sk);
        if sk.is_null() {
            return None;
        }
        let a = field!(sk, src_ip4);
        if a == 0 { None } else { Some(Addr::v4(a)) }
    }

    #[inline(always)]
    pub fn bound6(&self) -> Option<Addr> {
        let sk = field!(self.raw, __bindgen_anon_1.sk);
        if sk.is_null() {
            return None;
        }
        let w =
            [field!(sk, src_ip6[0]), field!(sk, src_ip6[1]), field!(sk, src_ip6[2]), field!(sk, src_ip6[3])];
        if w[0] | w[1] | w[2] | w[3] == 0 || (w[2] == MAPPED && w[0] | w[1] | w[3] == 0) {
            return None;
        }
        let mut a = [0; 16];
        a[..4].copy_from_slice(&w[0].to_ne_bytes());
        a[4..8].copy_from_slice(&w[1].to_ne_bytes());
        a[8..12].copy_from_slice(&w[2].to_ne_bytes());
        a[12..].copy_from_slice(&w[3].to_ne_bytes());
        Some(Addr(a))
    }

    #[inline(always)]
    pub fn mark(&self) -> u32 {
        let sk = field!(self.raw, __bindgen_anon_1.sk);
        if sk.is_null() { 0 } else { field!(sk, mark) }
    }

    /// Whether it speaks by one interface alone (SO_BINDTODEVICE, a VRF).
    #[inline(always)]
    pub fn is_bound_to_interface(&self) -> bool {
        let sk = field!(self.raw, __bindgen_anon_1.sk);
        !sk.is_null() && field!(sk, bound_dev_if) != 0
    }

    #[inline(always)]
    pub fn cookie(&self) -> u64 {
        // SAFETY: a helper on the hook's context.
        unsafe { bpf_get_socket_cookie(self.ctx.as_ptr()) }
    }

    /// Linux 5.7.
    #[inline(always)]
    pub fn netns_cookie(&self) -> u64 {
        // SAFETY: a helper on the hook's context.
        unsafe { bpf_get_netns_cookie(self.ctx.as_ptr()) }
    }

    /// This socket's record, if it has one.
    #[expect(clippy::mut_from_ref, reason = "the kernel owns the record; a run takes it once")]
    #[inline(always)]
    pub fn stored<T>(&self, map: &'static SkStorage<T>) -> Option<&'static mut T> {
        // SAFETY: the storage lives as long as the socket, which outlives the run.
        unsafe { map.get_ptr_mut(self.ctx).as_mut() }
    }

    /// This socket's record, made of zeros when it has none. `None`: no memory.
    #[expect(clippy::mut_from_ref, reason = "the kernel owns the record; a run takes it once")]
    #[inline(always)]
    pub fn store<T>(&self, map: &'static SkStorage<T>) -> Option<&'static mut T> {
        // SAFETY: as in `stored`; the records are wire types, for which zeros are a value.
        unsafe { map.get_or_insert_ptr_mut(self.ctx, None).as_mut() }
    }
}

/// The label of the calling task's cgroup, or of its nearest labelled ancestor.
#[inline(always)]
pub fn workload() -> Option<&'static Workload> {
    labelled().map(|(_, w)| w)
}

/// The calling task's cgroup.
#[inline(always)]
pub fn cgroup() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_get_current_cgroup_id() }
}

/// The same with the labelled cgroup itself.
#[inline(always)]
pub fn labelled() -> Option<(u64, &'static Workload)> {
    // SAFETY: helpers without pointers; map values stay valid for the run.
    unsafe {
        let own = bpf_get_current_cgroup_id();
        if let Some(w) = maps::WORKLOADS.get(&own) {
            return Some((own, w));
        }
        let mut found = None;
        let mut level = 1;
        while level <= limits::CGROUP_LEVELS {
            let id = bpf_get_current_ancestor_cgroup_id(level);
            if id == 0 || id == own {
                break;
            }
            if let Some(w) = maps::WORKLOADS.get(&id) {
                found = Some((id, w));
            }
            level += 1;
        }
        found
    }
}
