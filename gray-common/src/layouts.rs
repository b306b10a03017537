//! Layouts of other ABI numbers that this gray reads and writes: what they keep of connections, frozen, and pure functions between
//! theirs and ours. Whoever raises `ABI` freezes here what the old number had (docs/adr/0017-layouts-of-other-numbers.md).
//!
//! ABI 1 is the only one that ever was, so there is nothing to freeze. The feature `abi-test` makes an ABI 2 whose flows are larger
//! and of another order, and ABI 1 the older one: for the test of all this, never in what is shipped.

use crate::wire::Wire;
#[cfg(not(feature = "abi-test"))]
use crate::wire::{Flow4, Flow6};

/// An entry of the flow table as another ABI has it.
pub trait Other<Ours>: Wire {
    fn read(&self, into: &mut Ours);
    fn write(&mut self, from: &Ours);
}

#[cfg(feature = "abi-test")]
pub mod abi1;

/// The numbers beside our own.
#[cfg(feature = "abi-test")]
pub const KNOWN: &[u32] = &[1];
#[cfg(not(feature = "abi-test"))]
pub const KNOWN: &[u32] = &[];

#[cfg(feature = "abi-test")]
pub type OtherFlow4 = abi1::Flow4;
#[cfg(feature = "abi-test")]
pub type OtherFlow6 = abi1::Flow6;
/// Nobody else's: there is no other number.
#[cfg(not(feature = "abi-test"))]
pub type OtherFlow4 = Flow4;
#[cfg(not(feature = "abi-test"))]
pub type OtherFlow6 = Flow6;

#[cfg(not(feature = "abi-test"))]
impl Other<Self> for Flow4 {
    fn read(&self, into: &mut Self) {
        *into = *self;
    }

    fn write(&mut self, from: &Self) {
        *self = *from;
    }
}

#[cfg(not(feature = "abi-test"))]
impl Other<Self> for Flow6 {
    fn read(&self, into: &mut Self) {
        *into = *self;
    }

    fn write(&mut self, from: &Self) {
        *self = *from;
    }
}

/// Maps of another ABI that are ours, too: of the same layout and meaning. They are shared, not copied. The policy's tables turn
/// together (`Control::epoch`): all of them are in here, or none.
pub fn is_shared(map: &str) -> bool {
    use crate::names::{FLOWS4, FLOWS6, OPENING4, OPENING6};
    // What opens during a flood is not worth a copy.
    ![FLOWS4, FLOWS6, OPENING4, OPENING6].contains(&map)
}
