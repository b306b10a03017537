//! The control half of gray: one library and the `gray` binary.
#![deny(unsafe_code)]

pub mod api;
pub mod cli;
pub mod config;
pub mod model;
