//! XDP in front of tc: which interfaces have it, and which take its frames.

use gray_common::limits::XDP_OUT_SLOTS;

use super::{Live, failed};
use crate::kernel::{
    KernelError,
    bpf::{self, Map},
    xdp,
};

impl Live {
    /// True: newly attached; false: an existing link was brought to our program.
    pub fn attach_xdp(&mut self, iface: &str, ifindex: u32) -> Result<bool, KernelError> {
        xdp::attach(&self.pins, &mut self.loaded, iface, ifindex)
    }

    pub fn is_xdp_attached(&self, iface: &str, ifindex: u32) -> bool {
        xdp::is_attached(&self.pins, iface, ifindex)
    }

    /// Interfaces whose links are pinned.
    pub fn xdp_pinned(&self) -> Vec<String> {
        xdp::pinned(&self.pins)
    }

    /// Takes XDP off an interface that [`Live::set_xdp_out`] no longer names.
    pub fn detach_xdp(&self, iface: &str) -> Result<(), KernelError> {
        // A run that began before may still send there.
        bpf::wait_for_runs().map_err(failed("the end of runs"))?;
        xdp::detach(&self.pins, iface)
    }

    /// These interfaces, and no others, are sent to by XDP. No two may have the same place.
    pub fn set_xdp_out(&self, interfaces: &[u32]) -> Result<(), KernelError> {
        place(&self.maps.xdp_out, interfaces).map_err(failed("the interfaces of XDP"))
    }

    /// The tags of SYNs that come in by these interfaces, and by no others, are believed. Of two with the same place, one is not.
    pub fn set_trusted(&self, interfaces: &[u32]) -> Result<(), KernelError> {
        place(&self.maps.trusted, interfaces).map_err(failed("the interfaces of trusted tags"))
    }

    /// By these interfaces, and no others, connections that come may be handed over to a splice listener: what it answers is met there. Of
    /// two with the same place, by one only.
    pub fn set_edges(&self, interfaces: &[u32]) -> Result<(), KernelError> {
        place(&self.maps.edges, interfaces).map_err(failed("the interfaces where clients are"))
    }

    /// Runs the XDP program once on a frame (BPF_PROG_TEST_RUN), as if it came in on this interface (0: loopback). Returns
    /// the verdict and the frame after it. For tests and benchmarks.
    pub fn run_xdp(&mut self, frame: &[u8], ingress: u32) -> Result<(i32, Vec<u8>), KernelError> {
        self.loaded.run_xdp(frame, ingress)
    }

    /// A descriptor of the XDP program. For benchmarks.
    pub fn xdp_program(&mut self) -> Result<std::os::fd::OwnedFd, KernelError> {
        self.loaded.program(gray_common::names::XDP)
    }
}

/// Each interface at its number modulo the slots, and nothing else.
fn place(map: &Map<u32, u32>, interfaces: &[u32]) -> std::io::Result<()> {
    let mut want = [0; XDP_OUT_SLOTS as usize];
    // A bit at the top is no part of its number.
    for i in interfaces {
        want[(i % XDP_OUT_SLOTS) as usize] = *i;
    }
    (0..XDP_OUT_SLOTS).zip(want).try_for_each(|(slot, ifindex)| {
        if map.lookup(&slot)?.unwrap_or_default() == ifindex {
            return Ok(());
        }
        map.update(&slot, &ifindex)
    })
}
