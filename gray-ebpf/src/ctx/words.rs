//! Tuples and link addresses as machine words, between packet and flow table. Field by field the compiler would move them
//! in units of their alignment: link addresses byte by byte.

use gray_common::wire::{Flow4, Flow6, FlowKey4, FlowKey6, FlowState};

/// From the packet's eight bytes of addresses and four of ports.
#[inline(always)]
pub fn key4(addrs: u64, ports: u32, proto: u8) -> FlowKey4 {
    // SAFETY: both are sixteen plain bytes; the fields lie in this order, without padding (`wire!` checks it).
    unsafe { core::mem::transmute([addrs, u64::from(ports) | u64::from(proto) << 32]) }
}

/// From the packet's thirty-two bytes of addresses and four of ports.
#[inline(always)]
pub fn key6(addrs: [u64; 4], ports: u32, proto: u8) -> FlowKey6 {
    let [a, b, c, d] = addrs;
    // SAFETY: both are forty plain bytes; the fields lie in this order, without padding (`wire!` checks it).
    unsafe { core::mem::transmute([a, b, c, d, u64::from(ports) | u64::from(proto) << 32]) }
}

/// The new addresses and ports, as they stand in the packet.
#[inline(always)]
pub fn tuple4(f: &Flow4) -> (u64, u32) {
    let at = core::ptr::from_ref(f).cast::<u8>();
    // SAFETY: the first twelve bytes of the flow.
    unsafe { (at.cast::<u64>().read_unaligned(), at.add(8).cast::<u32>().read_unaligned()) }
}

/// The new addresses and ports, as they stand in the packet.
#[inline(always)]
pub fn tuple6(f: &Flow6) -> ([u64; 4], u32) {
    let at = core::ptr::from_ref(f).cast::<u8>();
    // SAFETY: the first thirty-six bytes of the flow.
    unsafe { (at.cast::<[u64; 4]>().read_unaligned(), at.add(32).cast::<u32>().read_unaligned()) }
}

/// Destination and source link address, as they stand in the frame.
#[inline(always)]
pub fn macs(s: &FlowState) -> (u64, u32) {
    let at = core::ptr::from_ref(s).cast::<u8>();
    // SAFETY: the first twelve bytes of the state.
    unsafe { (at.cast::<u64>().read_unaligned(), at.add(8).cast::<u32>().read_unaligned()) }
}
