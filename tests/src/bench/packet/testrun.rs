//! One program behind BPF_PROG_TEST_RUN: verdict and the kernel's own duration. Loads nothing of gray.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use crate::bpf;

pub const PROG_TEST_RUN: i32 = 10;
const SCHED_CLS: u32 = 3;
const XDP: u32 = 6;
/// `enum bpf_attach_type`.
const BPF_XDP: u32 = 37;
/// `XDP_PASS`.
pub const PASS: i32 = 2;
/// `XDP_REDIRECT`.
pub const SENT: i32 = 4;

/// By how much a frame may grow.
const GROWN: usize = 2048;

/// `union bpf_attr`, the part for BPF_PROG_TEST_RUN.
#[repr(C)]
#[derive(Default)]
pub struct TestRun {
    pub prog_fd: u32,
    pub retval: u32,
    pub data_size_in: u32,
    pub data_size_out: u32,
    pub data_in: u64,
    pub data_out: u64,
    pub repeat: u32,
    pub duration: u32,
    pub ctx_size_in: u32,
    pub ctx_size_out: u32,
    pub ctx_in: u64,
    pub ctx_out: u64,
    pub flags: u32,
    pub cpu: u32,
    pub batch_size: u32,
    pub pad: u32,
}

/// What one run took and answered.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    pub verdict: i32,
    /// Nanoseconds between two readings of the clock, divided by the runs between them and cut to a whole number.
    pub ns: u32,
}

/// What the kernel says of a loaded program: the same on every machine of this kernel and architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Instructions after the verifier's rewrites, 8 bytes each.
    pub insns: u32,
    /// Bytes of machine code.
    pub machine_bytes: u32,
    /// Instructions that the verifier walked.
    pub verified: u32,
}

/// A tc or XDP program.
#[derive(Debug)]
pub struct Program {
    fd: OwnedFd,
}

impl Program {
    pub fn new(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// `r0 = TCX_NEXT; exit`
    pub fn empty() -> io::Result<Self> {
        bpf::load(SCHED_CLS, 0, bpf::TCX_NEXT).map(Self::new)
    }

    /// `r0 = XDP_PASS; exit`
    pub fn empty_xdp() -> io::Result<Self> {
        bpf::load(XDP, 0, PASS).map(Self::new)
    }

    /// Attaches an XDP program to an interface where nothing arrives. An XDP program that is nowhere attached is put into the
    /// kernel's dispatcher for each call, and taken out: code is patched and a grace period awaited, and the first runs of
    /// the call pay for caches that are cold.
    pub fn hold(&self, ifindex: u32) -> io::Result<OwnedFd> {
        bpf::attach(&self.fd, ifindex, BPF_XDP)
    }

    /// Runs it so many times on one copy of the frame: a run sees what the ones before it in the same call wrote.
    pub fn run(&self, frame: &[u8], repeat: u32) -> io::Result<Run> {
        self.call(frame, &mut Vec::new(), repeat)
    }

    /// The same, with the frame that comes out.
    pub fn run_out(&self, frame: &[u8], repeat: u32) -> io::Result<(Run, Vec<u8>)> {
        let mut out = vec![0; frame.len() + GROWN];
        let run = self.call(frame, &mut out, repeat)?;
        Ok((run, out))
    }

    fn call(&self, frame: &[u8], out: &mut Vec<u8>, repeat: u32) -> io::Result<Run> {
        let mut attr = TestRun {
            prog_fd: self.fd.as_raw_fd() as u32,
            data_size_in: frame.len() as u32,
            data_in: frame.as_ptr() as u64,
            repeat,
            ..TestRun::default()
        };
        if !out.is_empty() {
            (attr.data_out, attr.data_size_out) = (out.as_mut_ptr() as u64, out.len() as u32);
        }
        let _ = bpf::bpf(PROG_TEST_RUN, &mut attr)?;
        out.truncate(attr.data_size_out as usize);
        Ok(Run { verdict: attr.retval as i32, ns: attr.duration })
    }

    pub fn size(&self) -> io::Result<Size> {
        let words = bpf::prog_info(&self.fd)?;
        // struct bpf_prog_info: jited_prog_len, xlated_prog_len; verified_insns since Linux 5.16.
        Ok(Size { insns: words[5] / 8, machine_bytes: words[4], verified: words[54] })
    }
}
