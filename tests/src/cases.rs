//! The tables of cases, decided by the kernel: `tests/tests/policy_cases.rs`.

pub mod kernel;
#[path = "../../gray-userspace/tests/policy_cases/reader/mod.rs"]
pub mod reader;

pub use kernel::Kernel;
