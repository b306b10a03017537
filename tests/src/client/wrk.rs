//! wrk as a client: one run, its counts and its percentiles. It checks no bodies.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::place::Place;
use crate::sys;

/// wrk calls `done` at its end only: the script costs the run nothing.
const SCRIPT: &str = r#"
function done(s, l, r)
  io.stderr:write(string.format(
    '{"requests":%d,"duration_us":%d,"bytes":%d,"p50_us":%.1f,"p99_us":%.1f,"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}\n',
    s.requests, s.duration, s.bytes, l:percentile(50), l:percentile(99),
    s.errors.connect, s.errors.read, s.errors.write, s.errors.status, s.errors.timeout))
end
"#;

/// What one run found. Latencies are of requests; with a connection per request they begin when it is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
pub struct WrkResult {
    pub requests: u64,
    pub duration_us: u64,
    pub bytes: u64,
    pub p50_us: f64,
    pub p99_us: f64,
    connect: u64,
    read: u64,
    write: u64,
    status: u64,
    timeout: u64,
}

impl WrkResult {
    pub fn per_second(&self) -> f64 {
        self.requests as f64 * 1e6 / self.duration_us as f64
    }

    /// Failures of every kind, and answers other than 2xx and 3xx.
    pub fn errors(&self) -> u64 {
        self.connect + self.read + self.write + self.status + self.timeout
    }
}

/// `wrk -t1` with so many connections for so long (in steps of 0.1 s); `close` asks for a new connection each
/// request. An error when a request failed.
pub fn run(
    place: &Place,
    temp: &Path,
    url: &str,
    connections: usize,
    time: Duration,
    close: bool,
) -> Result<WrkResult> {
    let script = temp.join("wrk.lua");
    fs::write(&script, SCRIPT).context("write wrk's script")?;
    let mut command = place.command("wrk");
    let _ = command.args(["-t", "1", "-d", "1h", "-c", &connections.to_string(), "-s"]).arg(&script);
    if close {
        let _ = command.args(["-H", "Connection: close"]);
    }
    let _ = command.arg(url).stdout(Stdio::null()).stderr(Stdio::piped());
    let child = command.spawn().context("start wrk (is it installed?)")?;
    std::thread::sleep(time);
    // It knows whole seconds only; interrupted, it ends as it does when its time is over.
    let _ = sys::kill(child.id(), libc::SIGINT);
    let out = child.wait_with_output()?;
    let err = String::from_utf8_lossy(&out.stderr);
    let line = err.lines().rfind(|l| l.starts_with('{'));
    let line = line.with_context(|| format!("wrk {url}: {}: {err}", out.status))?;
    let result: WrkResult =
        serde_json::from_str(line).with_context(|| format!("read wrk's report {line}"))?;
    ensure!(result.requests > 0 && result.errors() == 0, "wrk {url}: requests failed: {result:?}");
    Ok(result)
}
