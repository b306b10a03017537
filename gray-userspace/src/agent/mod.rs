//! The agent: starts, holds the state, runs the loops, serves the API. Killing it changes nothing for traffic.

pub mod core;
