//! A tracepoint with a socket as its first argument, and the task that runs.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::BPF_SK_STORAGE_GET_F_CREATE,
    btf_maps::SkStorage,
    helpers::generated::{bpf_get_current_task, bpf_sk_storage_get, bpf_skc_to_tcp_sock},
    programs::BtfTracePointContext,
};

/// Where the task that runs is: no two have one place at a time. Another one may come to have it.
#[inline(always)]
pub fn task() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_get_current_task() }
}

/// Of a message that a socket took or gave, or of a socket alone.
pub struct Trace {
    sk: *mut c_void,
}

impl Trace {
    /// `None`: there is no socket.
    #[inline(always)]
    pub fn new(ctx: &BtfTracePointContext) -> Option<Self> {
        let sk: *mut c_void = ctx.arg(0);
        if sk.is_null() { None } else { Some(Self { sk }) }
    }

    #[inline(always)]
    pub fn is_tcp(&self) -> bool {
        // SAFETY: a helper on a socket of the kernel's.
        unsafe { !bpf_skc_to_tcp_sock(self.sk).is_null() }
    }

    /// This socket's record, if it has one.
    #[inline(always)]
    pub fn stored<T>(&self, map: &'static SkStorage<T>) -> Option<&'static mut T> {
        self.get(map, 0)
    }

    /// This socket's record, made of zeros when it has none. `None`: no memory.
    #[inline(always)]
    pub fn store<T>(&self, map: &'static SkStorage<T>) -> Option<&'static mut T> {
        self.get(map, BPF_SK_STORAGE_GET_F_CREATE.into())
    }

    #[inline(always)]
    #[expect(clippy::mut_from_ref, reason = "the kernel owns the record; a run takes it once")]
    fn get<T>(&self, map: &'static SkStorage<T>, flags: u64) -> Option<&'static mut T> {
        let map = core::ptr::from_ref(map).cast_mut().cast::<c_void>();
        // SAFETY: the storage lives as long as the socket, which outlives the run; records are wire types, for which zeros are a value.
        unsafe { bpf_sk_storage_get(map, self.sk, core::ptr::null_mut(), flags).cast::<T>().as_mut() }
    }
}
