//! The agent: starts, holds the state, runs the loops, serves the API. Killing it changes nothing for traffic.

pub mod core;
pub mod doctor;
pub mod events;
pub mod explain;
pub mod flows;
pub mod metrics;
mod names;
pub mod status;
#[cfg(test)]
mod testing;
pub mod time;
pub mod views;
