//! The breakers' state, mapped into memory: what the splice listener sees fail is counted beside what programs see, while they count.

use std::{
    io,
    os::fd::BorrowedFd,
    sync::atomic::{AtomicU64, Ordering::SeqCst},
};

use gray_common::{
    limits,
    wire::{Breaker, Trip, trip_is_open},
};

use super::mapped::Mapped;

#[derive(Debug)]
pub struct Trips {
    at: Mapped<Trip>,
}

// SAFETY: CPUs change it side by side, and so may threads; see `failed`.
unsafe impl Sync for Trips {}

impl Trips {
    /// # Errors
    /// The kernel's: the map of an older agent cannot be mapped.
    pub fn map(map: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self { at: Mapped::new(map, limits::SERVICES as usize)? })
    }

    /// A connection of the service has failed at a gray instance: as `gray_breaker_hears` hears it, of one that does not try.
    pub fn failed(&self, service: u16, rule: Breaker, now: u64, hz: u32) {
        if u32::from(service) >= limits::SERVICES {
            return;
        }
        // SAFETY: within the mapping, which lives as long as self. What is raced on is changed by atomic instructions, or is the same
        // whoever writes it.
        let (trip, count, opened, opens) = unsafe {
            let at = self.at.as_ptr().add(service.into());
            let word = |of: *mut u64| AtomicU64::from_ptr(of);
            (&mut *at, word(&raw mut (*at).count), word(&raw mut (*at).opened), word(&raw mut (*at).opens))
        };
        if trip.rule != rule {
            trip.rule = rule;
        }
        let was = opened.load(SeqCst);
        let n = count.fetch_add(1, SeqCst) + 1;
        let many = trip.fails(n, now, hz);
        if many
            && !trip_is_open(was, now, hz, rule.open_ms, false)
            && opened.compare_exchange(was, now, SeqCst, SeqCst).is_ok()
        {
            let _ = opens.fetch_add(1, SeqCst);
        }
    }
}
