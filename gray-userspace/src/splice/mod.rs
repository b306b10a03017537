//! The splice listener ([ADR 24](../../../docs/adr/0024-the-splice-listener.md)): what programs cannot read of a client's first bytes is
//! read here.

pub mod first;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod hpack;
pub mod http2;
mod value;

pub use first::{First, Protocol, Said, Why};
