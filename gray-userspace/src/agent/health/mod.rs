//! Health of instances: probes, what they say over time, and the kernel's tables that follow. `machine` and `tables` are
//! pure; `board` holds what is known; `driver` probes.

pub mod board;
pub mod command;
pub mod driver;
mod http;
pub mod machine;
mod probe;
mod tables;
mod targets;
#[cfg(test)]
mod tests;
mod view;

pub use board::Board;
pub use driver::{Driver, Shared, lock, now};
pub use probe::Means;
pub(in crate::agent) use probe::{plain, program, unchanged};
pub use targets::{Probed, Target};
