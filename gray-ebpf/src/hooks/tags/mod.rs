//! Tags (docs/adr/0021-tags.md): read or overwritten where a SYN comes in, written where a socket of this node makes one, or where this
//! node sends one on that a route leads into a lane.

pub mod forward;
pub mod say;
pub mod syn;

use gray_common::packet::{TCP_ACK, TCP_SYN, opens};

/// Not 0: tags of SYNs that come in are read or overwritten. Set by the loader; the verifier knows its value and cuts off what it
/// excludes.
#[unsafe(no_mangle)]
static TAGS: u32 = 0;

/// Whether a TCP segment with these flags opens a connection, and tags matter here. One number and no branch: the verifier would go
/// on for each, with what it has learned of the flags.
#[inline(always)]
pub fn may_have(tcp_flags: u8) -> bool {
    let opens = (tcp_flags / TCP_SYN) & !(tcp_flags / TCP_ACK) & 1;
    read() && opens != 0
}

/// Whether tags of SYNs are read.
#[inline(always)]
pub fn read() -> bool {
    // SAFETY: a read of our own static; volatile, because the loader writes another value into the object.
    let tags = unsafe { core::ptr::read_volatile(&raw const TAGS) };
    tags != 0
}

const _: () = assert!(opens(TCP_SYN) && !opens(TCP_SYN | TCP_ACK) && !opens(TCP_ACK));
