//! The contract between gray's data path and its control half: wire types, reasons, limits, names, and the
//! decision itself. Knows nobody; compiled for the host and for BPF. No I/O, no allocation without `user`.
#![cfg_attr(not(any(test, feature = "user")), no_std)]

#[cfg(any(test, feature = "user"))]
pub mod abi;
pub mod csum;
pub mod decide;
pub mod filter;
pub mod hash;
pub mod layouts;
pub mod limits;
#[cfg(any(test, feature = "user"))]
pub mod maglev;
pub mod names;
pub mod nets;
pub mod packet;
pub mod reason;
pub mod request;
pub mod slots;
#[cfg(any(test, feature = "user"))]
pub mod turns;
pub mod wire;

pub use reason::Reason;
