//! The control half of gray: one library and the `gray` binary.
#![deny(unsafe_code)]

pub mod agent;
pub mod api;
pub mod asks;
pub mod cli;
pub mod compile;
pub mod config;
pub mod datapath;
pub mod doctor;
pub mod fail;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
pub mod ids;
pub mod import;
#[expect(unsafe_code, reason = "talks to bpf(2) and maps its memory")]
pub mod kernel;
pub mod lint_sql;
pub mod model;
pub mod paging;
pub mod release;
pub mod splice;
pub mod store;
pub mod sys;
pub mod tenants;
pub mod verdict;
