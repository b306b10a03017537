//! The lab's own programs, as a list. Nothing here is shipped.
#![no_std]
#![no_main]
// Programs on several CPUs draw from one sequence of random numbers: they need an atomic addition that returns a value.
#![allow(internal_features)]
#![feature(core_intrinsics)]

mod empty;
mod frame_plan;
mod frames;
mod hostile;
mod wire;
mod witness;

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
