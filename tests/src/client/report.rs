//! What a load saw: counts that add up, kinds of failure, latencies. Plain data, JSON both ways.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Histogram;
use crate::pace;

/// An answer that took longer than this is a stall.
pub fn stall() -> Duration {
    pace::patience(Duration::from_millis(200))
}

/// Why a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    Refused,
    /// RST, or a write to a closed connection.
    Reset,
    /// The server's end of stream where an answer was due.
    Closed,
    TimeOut,
    Unreachable,
    WrongNonce,
    /// `getpeername`, or the source of a datagram, is not the address that was dialled.
    WrongPeer,
    BadAnswer,
    /// The generator's own: no port, no descriptor.
    Local,
    Other,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// CLOCK_MONOTONIC, ns (`sys::monotonic_ns`).
    pub begun_ns: u64,
    pub ended_ns: u64,
    /// When it was due, ns: `begun_ns` in a closed loop, else the same or before it.
    pub due_ns: u64,
    /// When its connection or socket was opened, ns; equals `begun_ns` or lies before it.
    pub opened_ns: u64,
    pub source: String,
    /// `name/version`, or the failure.
    pub result: Result<String, Failure>,
}

/// The result; `requests == ok + failed()` always.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub requests: u64,
    pub ok: u64,
    /// Good answers by `name/version`.
    pub by_server: BTreeMap<String, u64>,
    /// Good answers by own source address, then by `name/version`.
    pub by_source: BTreeMap<String, BTreeMap<String, u64>>,
    pub failures: BTreeMap<Failure, u64>,
    /// The first few failures in words.
    pub details: Vec<String>,
    /// Connections or UDP sockets opened.
    pub opened: u64,
    /// Good answers whose server saw our own address (and, for TCP, port) as its peer.
    pub peer_kept: u64,
    /// Good answers later than `stall()`.
    pub stalls: u64,
    /// Requests of an open loop that began more than 1 ms after they were due: all workers were busy.
    pub late: u64,
    /// Good answers, ns; connection set-up included where a request made one.
    pub latency: Histogram,
    /// Of `latency`.
    pub p50_us: u64,
    pub p99_us: u64,
    pub max_us: u64,
    pub elapsed_ms: u64,
    pub samples: Vec<Sample>,
}

impl Report {
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    pub fn failed_with(&self, kind: Failure) -> u64 {
        self.failures.get(&kind).copied().unwrap_or(0)
    }

    /// Good answers of one version, whatever the server's name.
    pub fn of_version(&self, version: &str) -> u64 {
        let of = |(server, n): (&String, &u64)| (server.rsplit_once('/')?.1 == version).then_some(*n);
        self.by_server.iter().filter_map(of).sum()
    }

    /// Good answers of one version over all good answers; 0 when there is none.
    pub fn share(&self, version: &str) -> f64 {
        if self.ok == 0 { 0.0 } else { self.of_version(version) as f64 / self.ok as f64 }
    }

    /// Versions that this source address saw.
    pub fn versions_of(&self, source: std::net::IpAddr) -> Vec<&str> {
        let seen = self.by_source.get(&source.to_string());
        let servers = seen.into_iter().flat_map(BTreeMap::keys);
        servers.filter_map(|server| Some(server.rsplit_once('/')?.1)).collect()
    }

    pub fn per_second(&self) -> f64 {
        self.requests as f64 * 1000.0 / self.elapsed_ms.max(1) as f64
    }

    /// # Panics
    /// When there was no request, or a failed one.
    #[track_caller]
    pub fn assert_all_ok(&self) {
        assert!(self.requests > 0, "no request was made");
        assert_eq!(self.failed(), 0, "of {}: {:?} {:#?}", self.requests, self.failures, self.details);
        assert_eq!(self.ok, self.requests);
    }
}
