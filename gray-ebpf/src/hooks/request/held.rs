//! What is held of a client: places in an array, because of a hash table the kernel copies the whole element. None of
//! it was acknowledged: who loses its place is sent it again.

use core::mem::offset_of;

use gray_common::{
    decide::bucket::flow_seed,
    limits,
    packet::TCP,
    wire::{Addr, Held},
};

use crate::{
    ctx::{exchange, ktime_ns, opaque},
    maps::request::{Call, HELD},
    tables::Kernel,
};

/// The connection's bytes, if its place is still its own.
#[inline(always)]
pub fn text(c: &Call) -> Option<*mut u8> {
    let at = HELD.get_ptr_mut(c.bound.place.into())?;
    (c.bound.since != 0 && since(at) == c.bound.since).then(|| bytes(at))
}

/// Takes a place that nobody has, or else the one that was taken first; of two CPUs that want it one gets it.
#[inline(always)]
pub fn take(c: &mut Call) -> Option<*mut u8> {
    let k = Kernel::at(c.epoch)?;
    let (client, service) = (Addr::from_words(c.key.client), Addr::from_words(c.key.service));
    let seed = flow_seed(k.key().k0, &client, &service, c.key.client_port, c.key.service_port, TCP) as u32;
    let now = ktime_ns();
    let (mut best, mut oldest, mut i) = (0, u64::MAX, 0);
    while i < limits::HELD_TRIES {
        let n = opaque(seed.wrapping_add(i)) & (limits::HELD - 1);
        let was = since(HELD.get_ptr_mut(n)?);
        if was < oldest {
            (best, oldest) = (n, was);
        }
        i += if was == 0 { limits::HELD_TRIES } else { 1 };
    }
    let at = HELD.get_ptr_mut(best)?;
    if exchange(at.cast(), oldest, now) != oldest {
        return None;
    }
    (c.bound.place, c.bound.since) = (best as u16, now);
    Some(bytes(at))
}

/// Somebody else may have the place.
#[inline(always)]
pub fn release(c: &mut Call) {
    if c.bound.since != 0
        && let Some(at) = HELD.get_ptr_mut(c.bound.place.into())
    {
        let _ = exchange(at.cast(), c.bound.since, 0);
        c.bound.since = 0;
    }
}

#[inline(always)]
fn since(at: *mut Held) -> u64 {
    // SAFETY: an aligned word of a map's element.
    unsafe { (&raw const (*at).since).read_volatile() }
}

#[inline(always)]
fn bytes(at: *mut Held) -> *mut u8 {
    // SAFETY: within the element.
    unsafe { (&raw mut (*at).bytes).cast() }
}

const _: () =
    assert!(offset_of!(Held, since) == 0 && limits::HELD.is_power_of_two() && limits::HELD <= 1 << 16);
