//! Frames of this node's own making, sent by a program from any thread. Knows nothing of what they say.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use super::bpf;

/// Sends frames to the next hop of their destination, as if they had come in by one interface.
#[derive(Debug)]
pub struct Sender {
    program: OwnedFd,
    /// The start of `struct __sk_buff`, to `ifindex`; all else must be 0.
    context: [u8; 44],
}

impl Sender {
    pub(super) fn new(program: OwnedFd, ifindex: u32) -> Self {
        let mut context = [0; 44];
        context[40..].copy_from_slice(&ifindex.to_ne_bytes());
        Self { program, context }
    }

    /// False: there is no next hop whose address is known.
    ///
    /// # Errors
    /// The kernel's.
    pub fn send(&self, frame: &[u8]) -> io::Result<bool> {
        Ok(bpf::run(self.program.as_fd(), frame, &self.context)? == 1)
    }
}
