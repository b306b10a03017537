//! The control half of gray: one library and the `gray` binary.
#![deny(unsafe_code)]

pub mod api;
pub mod cli;
pub mod config;
pub mod doctor;
pub mod model;
pub mod store;
pub mod sys;
