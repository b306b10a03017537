//! The splice listener ([ADR 24](../../../docs/adr/0024-the-splice-listener.md)): what programs cannot read of a client's first bytes is
//! read here, decided on by the tables in force, and copied to its instance. Writes no table of the policy.

pub mod counters;
pub mod decide;
pub mod first;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod hpack;
pub mod http2;
pub mod listen;
mod node;
mod process;
mod relay;
#[cfg(test)]
mod route_headers_tests;
pub mod value;

pub use decide::{Goes, Served, Tables, Whose};
pub use first::{First, Protocol, Said, Why};
pub use listen::{Node, Splice};
pub use process::run;
