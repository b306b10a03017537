//! Sees what a service address became at `connect(2)`: attached behind gray's own program, it notes when each
//! destination was last dialled.

use aya_ebpf::{
    helpers::generated::bpf_ktime_get_ns,
    macros::{cgroup_sock_addr, map},
    maps::Array,
    programs::SockAddrContext,
};

/// One destination. Times are of the kernel's monotonic clock; all zero: not dialled.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Seen {
    pub first_ns: u64,
    pub last_ns: u64,
    pub count: u64,
}

/// By the third number of the destination's IPv4 address, which is one backend's in the lab.
#[map]
pub static WITNESS: Array<Seen> = Array::with_max_entries(256, 0);

/// cgroup connect4. Changes nothing.
#[cgroup_sock_addr(connect4)]
pub fn lab_witness(ctx: SockAddrContext) -> i32 {
    // SAFETY: the context is valid while the program runs.
    let to = unsafe { (*ctx.sock_addr).user_ip4 };
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    if let Some(seen) = WITNESS.get_ptr_mut(to >> 16 & 0xff) {
        // SAFETY: a live map value; one process dials.
        unsafe {
            if (*seen).first_ns == 0 {
                (*seen).first_ns = now;
            }
            (*seen).last_ns = now;
            (*seen).count += 1;
        }
    }
    1
}
