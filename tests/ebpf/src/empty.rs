//! Programs that do nothing: the floor that other programs are compared with.

use aya_ebpf::{
    bindings::xdp_action::XDP_PASS,
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};

/// TC_ACT_UNSPEC (TCX_NEXT): the next program decides.
const NEXT: i32 = -1;

#[classifier]
pub fn lab_empty_tc(_ctx: TcContext) -> i32 {
    NEXT
}

#[xdp]
pub fn lab_empty_xdp(_ctx: XdpContext) -> u32 {
    XDP_PASS
}
