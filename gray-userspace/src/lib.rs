//! The control half of gray: one library and the `gray` binary.
#![deny(unsafe_code)]

pub mod doctor;
pub mod model;
pub mod store;
pub mod sys;
