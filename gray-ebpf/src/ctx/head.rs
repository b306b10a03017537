//! A window of bytes that were checked against the packet's end.

use core::marker::PhantomData;

/// `N` bytes of the frame. Invalid after any helper that may move the packet: it borrows the packet, and such helpers take
/// that mutably.
pub struct Head<'a, const N: usize> {
    at: *mut u8,
    _packet: PhantomData<&'a ()>,
}

impl<const N: usize> Head<'_, N> {
    /// Of bytes that the caller has checked and whose lifetime is its own.
    #[inline(always)]
    pub(super) fn new(at: *mut u8) -> Self {
        Self { at, _packet: PhantomData }
    }

    /// Reads at a constant offset, in memory order.
    #[inline(always)]
    pub fn get<T: Copy, const AT: usize>(&self) -> T {
        const { assert!(AT + size_of::<T>() <= N) };
        // SAFETY: `AT + size_of::<T>() <= N` bytes were checked against the packet's end, and no helper that can
        // move the packet ran since: those borrow the packet mutably.
        unsafe { self.at.add(AT).cast::<T>().read_unaligned() }
    }

    /// Writes at a constant offset, in memory order.
    #[inline(always)]
    pub fn set<T: Copy, const AT: usize>(&mut self, value: T) {
        const { assert!(AT + size_of::<T>() <= N) };
        // SAFETY: as in `get`.
        unsafe { self.at.add(AT).cast::<T>().write_unaligned(value) }
    }
}
