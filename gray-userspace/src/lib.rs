//! The control half of gray: one library and the `gray` binary.
#![deny(unsafe_code)]

#[expect(unsafe_code, reason = "talks to bpf(2) and maps its memory")]
pub mod kernel;
pub mod model;
