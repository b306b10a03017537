//! One slice of load on one path: what it found, and the CPU time the whole machine spent on it.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::Options;
use super::compare::{Load, Sample};
use super::cpu::Busy;
use crate::client::crowd::{CrowdReport, CrowdSpec};
use crate::client::fetch::FetchSpec;
use crate::client::{iperf, wrk};
use crate::place::Place;

/// Connections of wrk.
pub const CONNECTIONS: usize = 64;

pub const KEEP_ALIVE: Load = Load {
    title: "Keep-alive",
    rate: "requests/s",
    cpu: "CPU us per request",
    rate_key: "requests_per_second",
    cpu_key: "cpu_us_per_request",
    decimals: 0,
    latency: true,
};

pub const PER_REQUEST: Load = Load { title: "A connection per request", ..KEEP_ALIVE };

pub const BULK: Load = Load {
    title: "Bulk",
    rate: "Gbit/s",
    cpu: "CPU s per GB",
    rate_key: "gbit_per_second",
    cpu_key: "cpu_s_per_gb",
    decimals: 2,
    latency: false,
};

/// HTTP requests by wrk, each on a connection of its own with `close`.
pub fn requests(o: &Options, place: &Place, temp: &Path, url: &str, close: bool) -> Result<Sample> {
    let time = Duration::from_millis(if o.quick { 200 } else { 1000 });
    let busy = Busy::start()?;
    let r = wrk::run(place, temp, url, CONNECTIONS, time, close)?;
    let cpu = busy.seconds()? * 1e6 / r.requests as f64;
    Ok(Sample { rate: r.per_second(), cpu, p50_us: r.p50_us, p99_us: r.p99_us })
}

/// One connection of iperf3 on which the server sends.
pub fn bulk(o: &Options, place: &Place, server: SocketAddr) -> Result<Sample> {
    let amount: &[&str] = if o.quick { &["-R", "-n", "100M"] } else { &["-R", "-t", "1"] };
    let busy = Busy::start()?;
    let r = iperf::run(place, server.ip(), server.port(), amount)?;
    let cpu = busy.seconds()? * 1e9 / r.bytes_received as f64;
    Ok(Sample { rate: r.bits_per_second / 1e9, cpu, p50_us: f64::NAN, p99_us: f64::NAN })
}

/// Requests of a crowd, and what they cost the whole machine, or one core of it.
pub fn crowd(spec: &CrowdSpec, place: &Place, core: Option<usize>) -> Result<(Sample, CrowdReport)> {
    let crowd = spec.prepare(place)?;
    let busy = core.map_or_else(Busy::start, Busy::on)?;
    let r = crowd.run()?;
    let cpu = busy.seconds()? * 1e6 / r.answered as f64;
    let us = |percent| r.answer.percentile(percent) as f64 / 1e3;
    Ok((Sample { rate: r.per_second(), cpu, p50_us: us(50.0), p99_us: us(99.0) }, r))
}

/// One download, every byte of it compared.
pub fn download(spec: &FetchSpec, place: &Place) -> Result<Sample> {
    let fetch = spec.prepare(place)?;
    let busy = Busy::start()?;
    let found = fetch.run()?;
    let (cpu, bytes) = (busy.seconds()?, spec.bytes as f64);
    let rate = bytes * 8.0 / 1e9 / found.seconds;
    Ok(Sample { rate, cpu: cpu * 1e9 / bytes, p50_us: f64::NAN, p99_us: f64::NAN })
}
