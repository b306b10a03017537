//! Many clients over HTTP/1.1 by one thread, as cheap as wrk: each names an APP ID of its own, and every answer is checked
//! for the version that belongs to it, byte by byte.

mod answer;
pub(crate) mod poll;
pub mod process;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::Histogram;
use crate::helper::Helper;
use crate::place::Place;

/// One of them, and what its answers must say.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Member {
    pub dial: SocketAddr,
    /// What its `X-App-Id` says.
    pub app: String,
    /// Of the instance that must answer, as `Nginx` has them.
    pub name: String,
    pub version: String,
    pub server: IpAddr,
}

/// A closed loop: every connection asks again when it was answered.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CrowdSpec {
    /// A connection's requests are all of one of them; the next connection is of the next one.
    pub members: Vec<Member>,
    pub connections: usize,
    /// A connection for each request (`Connection: close`).
    pub close: bool,
    pub time_ms: u64,
    /// An answer that is later is lost.
    pub patience_ms: u64,
    /// The cores that it may use; none: all.
    pub cores: Vec<usize>,
}

/// What came of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct CrowdReport {
    /// Requests that were answered, also those that were under way when the time was over.
    pub answered: u64,
    /// ... within the time.
    pub in_time: u64,
    /// Answered by an instance of another version.
    pub misrouted: u64,
    /// Answered by bytes that are not those of the answer.
    pub corrupted: u64,
    /// Not answered: refused, reset, ended, or too late.
    pub lost: u64,
    /// From a request to its answer, ns.
    pub answer: Histogram,
    /// From the dialling of its connection to its answer, ns: where each has a connection of its own.
    pub whole: Histogram,
    pub time_ms: u64,
    /// Of the first faults.
    pub faults: Vec<String>,
}

impl CrowdReport {
    pub fn per_second(&self) -> f64 {
        self.in_time as f64 * 1e3 / self.time_ms as f64
    }
}

impl CrowdSpec {
    /// Ready to ask: what the run costs does not include the start of a process.
    pub fn prepare(&self, place: &Place) -> Result<Crowd> {
        let helper = Helper::start(place, "crowd", self).context("start the crowd")?;
        Ok(Crowd { helper, time: Duration::from_millis(self.time_ms) })
    }
}

/// Waits for its start; a drop ends it.
#[derive(Debug)]
pub struct Crowd {
    helper: Helper,
    time: Duration,
}

impl Crowd {
    pub fn run(mut self) -> Result<CrowdReport> {
        let found = self.helper.ask("go");
        let found = found.with_context(|| format!("requests for {:?}", self.time))?;
        Ok(serde_json::from_value(found)?)
    }
}
