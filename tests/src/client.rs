//! Clients: the load generators that check every answer, and thin wrappers of curl, iperf3 and wrk. No servers.

pub mod crowd;
pub mod curl;
mod engine;
mod exchange;
pub mod fetch;
mod histogram;
pub mod iperf;
pub mod messages;
pub mod process;
mod report;
pub mod slow;
pub mod talk;
mod tally;
pub mod wrk;

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::helper::Helper;
use crate::place::Place;

pub use histogram::Histogram;
pub use report::{Failure, Report, Sample};

/// What one request is. `per_connection` / `per_socket`: requests before a new one is made, 1 = one each,
/// 0 = never renewed.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub enum Mode {
    /// HTTP/1.1 GET; the last request of a connection says `Connection: close` and awaits the server's close.
    Http { per_connection: u32 },
    /// The TCP line echo.
    Tcp { per_connection: u32 },
    /// The UDP echo; connected (`connect`, `send`) or not (`sendto`, `recvfrom`).
    Udp { connected: bool, per_socket: u32 },
}

/// A load to generate. Every answer is checked: nonce, and the peer the application sees (`getpeername`, or
/// the source address of a datagram) is the address it dialled.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LoadSpec {
    pub target: SocketAddr,
    pub mode: Mode,
    /// Bound before connect, in turn for each new connection; empty: the kernel chooses.
    pub sources: Vec<IpAddr>,
    pub workers: usize,
    /// Requests in all; `None`: until stopped.
    pub count: Option<u64>,
    /// For connect and for each answer, ms.
    pub timeout_ms: u64,
    /// Between two requests of a worker, ms (`pace`: a slow machine has as much to do meanwhile). Closed loop only.
    pub pause_ms: u64,
    /// Requests that become due each second, evenly, whatever became of those before (an open loop). Latencies count
    /// from when a request was due, so what piled up behind a slow answer is seen. `workers` bounds how many are under
    /// way. `None`: a closed loop, each worker asks again when it was answered.
    pub rate: Option<f64>,
    /// `SO_MARK` of TCP sockets; 0: none.
    pub mark: u32,
    /// Each TCP socket dials this first, and is refused there.
    pub refused_by: Option<SocketAddr>,
    /// Dial IPv4 through an AF_INET6 socket (`::ffff:a.b.c.d`).
    pub v4_mapped: bool,
    /// Path of HTTP requests; `nonce=` is added to the query.
    pub path: String,
    pub headers: Vec<(String, String)>,
    /// Keep one `Sample` per request in the report.
    pub record: bool,
}

impl LoadSpec {
    pub fn new(target: SocketAddr, mode: Mode) -> Self {
        Self {
            target,
            mode,
            sources: Vec::new(),
            workers: 4,
            count: None,
            timeout_ms: 2000,
            pause_ms: 0,
            rate: None,
            mark: 0,
            refused_by: None,
            v4_mapped: false,
            path: "/".into(),
            headers: Vec::new(),
            record: false,
        }
    }

    /// `connections` that live until stopped, each with a ping every `interval_ms`; a failed one is dialled
    /// again, and counted.
    pub fn long_lived(target: SocketAddr, connections: usize, interval_ms: u64) -> Self {
        let mut spec = Self::new(target, Mode::Tcp { per_connection: 0 });
        (spec.workers, spec.pause_ms) = (connections, interval_ms);
        spec
    }

    pub fn count(mut self, count: u64) -> Self {
        self.count = Some(count);
        self
    }

    pub fn sources(mut self, sources: Vec<IpAddr>) -> Self {
        self.sources = sources;
        self
    }

    pub fn mark(mut self, mark: u32) -> Self {
        self.mark = mark;
        self
    }

    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// An open loop of `rate` requests a second.
    pub fn rate(mut self, rate: f64) -> Self {
        self.rate = Some(rate);
        self
    }

    /// Runs to the end; needs a count.
    pub fn run(&self, place: &Place) -> Result<Report> {
        let _ = self.count.context("a load without a count never ends: use start")?;
        self.start(place)?.wait()
    }

    /// Starts in a child process, so that namespace and cgroup are those of a real caller.
    pub fn start(&self, place: &Place) -> Result<Load> {
        let sound = self.rate.is_none_or(|r| r.is_finite() && r > 0.0);
        anyhow::ensure!(sound, "a rate of {:?} a second: say more than 0", self.rate);
        let helper = Helper::start(place, "load", self).context("start the load generator")?;
        Ok(Load { helper })
    }
}

/// A running load; a drop kills it.
#[derive(Debug)]
pub struct Load {
    helper: Helper,
}

impl Load {
    /// The counts so far; without percentiles, samples and elapsed time's end.
    pub fn snapshot(&mut self) -> Result<Report> {
        Ok(serde_json::from_value(self.helper.ask("snapshot")?)?)
    }

    /// Waits until the answered requests (good and bad) are at least `n`.
    pub fn wait_requests(&mut self, n: u64, patience: std::time::Duration) -> Result<Report> {
        let patience = crate::pace::patience(patience);
        let give_up = std::time::Instant::now() + patience;
        loop {
            let asked = std::time::Instant::now();
            let now = self.snapshot()?;
            if now.requests >= n {
                return Ok(now);
            }
            anyhow::ensure!(
                std::time::Instant::now() < give_up,
                "only {} of {n} requests in {patience:?}",
                now.requests
            );
            std::thread::sleep(crate::pace::between(asked.elapsed()));
        }
    }

    /// No new requests; those under way are awaited.
    pub fn stop(mut self) -> Result<Report> {
        self.finish("stop")
    }

    /// Until the count is reached.
    pub fn wait(mut self) -> Result<Report> {
        self.finish("wait")
    }

    fn finish(&mut self, how: &str) -> Result<Report> {
        Ok(serde_json::from_value(self.helper.ask(how)?)?)
    }
}
