//! Decisions by themselves, for tests alone (BPF_PROG_TEST_RUN): `decide` over the maps of the data path, as a frame asks. Most programs
//! that decide cannot be run so. An object of its own: what is shipped has none of it.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
// Of the data path it needs the tables.
#![allow(dead_code)]

mod ctx;
mod emit;
mod hooks;
mod maps;
mod tables;

use aya_ebpf::{
    helpers::generated::{bpf_skb_load_bytes, bpf_skb_store_bytes},
    macros::{classifier, map},
    maps::PerCpuArray,
    programs::TcContext,
};
use gray_common::{
    decide::{
        Local, Request, Tables as _, Verdict,
        ask::{Ask, Said},
        decide,
    },
    packet::ETH_LEN,
    wire::Workload,
};

use crate::{ctx::unknown_zero, tables::Kernel};

/// What is asked and said: the stack is short.
pub struct Desk {
    ask: Ask,
    said: Said,
}

#[map]
pub static DESK: PerCpuArray<Desk> = PerCpuArray::with_max_entries(1, 0);

/// By all that can be known of a client.
#[classifier]
pub fn lab_decide(ctx: TcContext) -> i32 {
    answer(&ctx, |k, ask| {
        let request = Request {
            listener: k.listener(&ask.key),
            claims: &ask.claims,
            source: if ask.has_source == 0 { None } else { Some(&ask.source) },
            is_v4: ask.is_v4 != 0,
            seed: ask.seed,
            spares: ask.spares,
        };
        decide(k, &request)
    })
}

/// By what is known of a caller on this node, as the connect path decides.
#[classifier]
pub fn lab_decide_local(ctx: TcContext) -> i32 {
    answer(&ctx, |k, ask| {
        let key = k.key();
        let mut claims = Local::none(unknown_zero());
        if ask.has_source != 0 {
            claims.set_source(key, &ask.source);
        }
        claims.set_mark(key, ask.mark);
        if ask.workload != 0 {
            claims.set_workload(k.epoch(), &Workload { hash: [ask.workload; 2], lane: 0, link: 0 });
        }
        claims.lane = ask.claims.lane;
        let request = Request {
            listener: k.listener(&ask.key),
            claims: &claims,
            source: if ask.has_source == 0 { None } else { Some(&ask.source) },
            is_v4: ask.is_v4 != 0,
            seed: ask.seed,
            spares: ask.spares,
        };
        decide(k, &request)
    })
}

/// 1: the frame has the answer where the question was.
#[inline(always)]
fn answer(ctx: &TcContext, by: impl FnOnce(&Kernel, &Ask) -> Verdict) -> i32 {
    let (Some(desk), Some(mut k)) = (DESK.get_ptr_mut(0), Kernel::now()) else { return 0 };
    k.seen = true;
    // SAFETY: this CPU's own element, which no other program has; the helper fills `ask`, of which every bit pattern is one.
    let loaded = unsafe {
        let ask = (&raw mut (*desk).ask).cast();
        bpf_skb_load_bytes(ctx.skb.skb.cast(), ETH_LEN as u32, ask, size_of::<Ask>() as u32)
    };
    if loaded != 0 {
        return 0;
    }
    // SAFETY: as above; two fields.
    let (ask, said) = unsafe { (&(*desk).ask, &mut (*desk).said) };
    said.say(by(&k, ask));
    // SAFETY: the helper reads a whole `Said`.
    let stored = unsafe {
        let said = (&raw const (*desk).said).cast();
        bpf_skb_store_bytes(ctx.skb.skb, ETH_LEN as u32, said, size_of::<Said>() as u32, 0)
    };
    i32::from(stored == 0)
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
