//! The programs, as a list. Each is: read the context, decide, write, report, return.
#![no_std]
#![no_main]
// One instruction that the compiler has no name for on this target: see `ctx::taken`.
#![feature(asm_experimental_arch)]

mod ctx;
mod emit;
mod hooks;
mod maps;
mod tables;

use aya_ebpf::{
    macros::{btf_tracepoint, cgroup_skb, cgroup_sock_addr, classifier, sock_ops, xdp},
    programs::{BtfTracePointContext, SkBuffContext, SockAddrContext, SockOpsContext, TcContext, XdpContext},
};

/// tcx or clsact ingress of an edge, backend or host interface. May rewrite and redirect; on doubt passes unchanged.
#[classifier]
pub fn gray_tc_ingress(ctx: TcContext) -> i32 {
    hooks::packet::ingress::<false>(&ctx)
}

/// The same with the request path, which is half of it.
#[classifier]
pub fn gray_tc_ingress_reads(ctx: TcContext) -> i32 {
    hooks::packet::ingress::<true>(&ctx)
}

/// tcx or clsact egress of a host interface: replies of instances on this node get the service address back.
#[classifier]
pub fn gray_tc_egress(ctx: TcContext) -> i32 {
    hooks::packet::egress::<false>(&ctx)
}

/// The same with the request path.
#[classifier]
pub fn gray_tc_egress_reads(ctx: TcContext) -> i32 {
    hooks::packet::egress::<true>(&ctx)
}

/// In front of `gray_tc_ingress` on the same interface. Sends on what it can; leaves the rest to it, unchanged.
#[xdp]
pub fn gray_xdp(ctx: XdpContext) -> u32 {
    hooks::xdp::ingress(&ctx)
}

/// Run by the agent only (BPF_PROG_TEST_RUN): notes ticks and nanoseconds side by side.
#[classifier]
pub fn gray_clock(_ctx: TcContext) -> i32 {
    hooks::clock::note()
}

/// Run by the agent only (BPF_PROG_TEST_RUN): sends the frame that it is given.
#[classifier]
pub fn gray_probe(ctx: TcContext) -> i32 {
    hooks::probe::send(&ctx)
}

macro_rules! sock_addr {
    ($($name:ident = $point:ident, $hook:path;)+) => {
        $(
            /// Cgroup hook of the same name. Never refuses: the kernel lets it not.
            #[cgroup_sock_addr($point)]
            pub fn $name(ctx: SockAddrContext) -> i32 {
                $hook(&ctx);
                1
            }
        )+
    };
}

macro_rules! calls {
    ($($name:ident = $point:ident, $hook:path;)+) => {
        $(
            /// Cgroup hook of the same name. Refuses only whom the policy denies: a steering fault must not break an
            /// application's call.
            #[cgroup_sock_addr($point)]
            pub fn $name(ctx: SockAddrContext) -> i32 {
                $hook(&ctx)
            }
        )+
    };
}

calls! {
    gray_connect4 = connect4, hooks::connect::connect4;
    gray_connect6 = connect6, hooks::connect::connect6;
    gray_connect4_hands = connect4, hooks::connect::connect4_hands;
    gray_connect6_hands = connect6, hooks::connect::connect6_hands;
    gray_sendmsg4 = sendmsg4, hooks::udp::sendmsg4;
    gray_sendmsg6 = sendmsg6, hooks::udp::sendmsg6;
}

sock_addr! {
    gray_recvmsg4 = recvmsg4, hooks::udp::recvmsg4;
    gray_recvmsg6 = recvmsg6, hooks::udp::recvmsg6;
    gray_getpeername4 = getpeername4, hooks::connect::getpeername4;
    gray_getpeername6 = getpeername6, hooks::connect::getpeername6;
}

sock_addr! {
    gray_say4 = connect4, hooks::tags::say::say4;
    gray_say6 = connect6, hooks::tags::say::say6;
}

/// Sockets of a cgroup: a SYN towards a service says its lane. Never refuses anything.
#[sock_ops]
pub fn gray_sockops(ctx: SockOpsContext) -> u32 {
    hooks::tags::say::ops(&ctx);
    1
}

/// Sockets of a cgroup: what becomes of the connections that the connect path has steered. Never refuses anything.
#[sock_ops]
pub fn gray_calls(ctx: SockOpsContext) -> u32 {
    hooks::calls::ops(&ctx);
    1
}

/// Cgroup hooks: packets of its sockets, on their way out and in, where a service is measured in full. Never drop anything.
#[cgroup_skb]
pub fn gray_speaks(ctx: SkBuffContext) -> i32 {
    hooks::spoken::asks(ctx.skb.skb);
    1
}

#[cgroup_skb]
pub fn gray_hears(ctx: SkBuffContext) -> i32 {
    hooks::spoken::answers(ctx.skb.skb);
    1
}

/// A reset has come for a socket of this machine.
#[btf_tracepoint(function = "tcp_receive_reset")]
pub fn gray_reset(ctx: BtfTracePointContext) -> i32 {
    hooks::calls::reset(&ctx);
    0
}

/// Sockets of a cgroup, where a workload has a link: which were accepted in a lane, and which dialled. Never refuses anything.
#[sock_ops]
pub fn gray_links(ctx: SockOpsContext) -> u32 {
    hooks::links::sockets::ops(&ctx);
    1
}

macro_rules! traces {
    ($($name:ident = $point:literal, $hook:path;)+) => {
        $(
            /// Where a workload has a link.
            #[btf_tracepoint(function = $point)]
            pub fn $name(ctx: BtfTracePointContext) -> i32 {
                $hook(&ctx);
                0
            }
        )+
    };
}

traces! {
    gray_link_read = "sock_recv_length", hooks::links::threads::reads;
    gray_link_send = "sock_send_length", hooks::links::threads::sends;
    gray_link_close = "tcp_destroy_sock", hooks::links::threads::closes;
    gray_link_fork = "sched_process_fork", hooks::links::threads::forks;
}

/// The same: a thread ends.
#[btf_tracepoint(function = "sched_process_exit")]
pub fn gray_link_exit(_ctx: BtfTracePointContext) -> i32 {
    hooks::links::threads::exits();
    0
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
