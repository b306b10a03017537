//! The lab's generator at work: frames out of one interface as fast as one core makes and handles them.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};

use anyhow::{Context, Result};
use aya::programs::Xdp;

use crate::bench::packet::testrun::{PROG_TEST_RUN, TestRun};
use crate::bpf;
use crate::packets::{frame::ETH, frame::Packet, frame::TCP};

#[path = "../../../ebpf/src/frame_plan.rs"]
pub mod frame_plan;

use frame_plan::{Arrived, FramePlan, HEADERS};

// SAFETY: repr(C) of integers and byte arrays whose sizes leave no padding.
unsafe impl aya::Pod for FramePlan {}
// SAFETY: as above.
unsafe impl aya::Pod for Arrived {}

const LIVE_FRAMES: u32 = 1 << 1;
/// Frames that the kernel makes before it hands them on; what NAPI takes at once.
const BATCH: u32 = 64;

/// The start of `struct xdp_md`.
#[repr(C)]
#[derive(Default)]
struct XdpMd {
    data: u32,
    data_end: u32,
    data_meta: u32,
    ingress_ifindex: u32,
    rx_queue_index: u32,
    egress_ifindex: u32,
}

/// Runs the generator on so many frames, which leave by an interface of the calling thread's namespace. Nanoseconds a
/// frame, by the kernel's own count; it includes everything that happens to the frames in the same breath.
pub fn shoot(generator: &Xdp, ifindex: u32, frame: &[u8], frames: u32) -> Result<u32> {
    let context = XdpMd { data_end: frame.len() as u32, ingress_ifindex: ifindex, ..XdpMd::default() };
    let mut attr = TestRun {
        prog_fd: generator.fd()?.as_fd().as_raw_fd() as u32,
        data_size_in: frame.len() as u32,
        data_in: frame.as_ptr() as u64,
        repeat: frames,
        ctx_size_in: size_of::<XdpMd>() as u32,
        ctx_in: &raw const context as u64,
        flags: LIVE_FRAMES,
        batch_size: BATCH,
        ..TestRun::default()
    };
    loop {
        match bpf::bpf(PROG_TEST_RUN, &mut attr) {
            Ok(_) => return Ok(attr.duration),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e).context("run the generator (live frames, Linux 5.18)"),
        }
    }
}

/// Words as they stand in memory.
fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|w| u32::from(u16::from_ne_bytes([w[0], w.get(1).copied().unwrap_or(0)]))).sum()
}

/// What the generator needs for packets like this one, whose source is all zero, from so many flows.
pub fn plan(like: &Packet, first: u32, hosts: u32, flows: u32) -> FramePlan {
    let mut frame = like.frame();
    for at in [ETH + 10, ETH + 36] {
        frame[at..at + 2].fill(0);
    }
    let mut headers = [0; 56];
    headers[..HEADERS].copy_from_slice(&frame[..HEADERS]);
    let (ip, segment) = (&frame[ETH..ETH + 20], &frame[ETH + 20..]);
    let pseudo =
        sum(&ip[12..20]) + u32::from(u16::from(TCP).to_be()) + u32::from((segment.len() as u16).to_be());
    FramePlan {
        headers,
        ip_sum: sum(ip),
        tcp_sum: pseudo + sum(segment),
        first,
        hosts_mask: hosts - 1,
        hosts_shift: hosts.trailing_zeros(),
        flows_mask: flows - 1,
        stride: crate::bench::packet::STRIDE,
        next: 0,
        daddr: 0,
        dport: 0,
        redirect: 0,
        pad: 0,
    }
}
