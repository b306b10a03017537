//! How long `connect(2)` takes: a process that dials in several cgroups in turn and times each call. It sends
//! no data.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::core;
use super::rounds::{Rounds, abba};
use crate::helper::Helper;
use crate::place::Place;
use crate::sys::monotonic_ns;

/// What is dialled, and in which cgroup.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Target {
    pub cgroup: PathBuf,
    pub address: SocketAddr,
}

/// Dialling in rounds, as the benches do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DialSpec {
    pub targets: Vec<Target>,
    /// A datagram socket: `connect` only makes a note of the address.
    pub udp: bool,
    pub rounds: usize,
    /// Calls of a slice; a target has two in a round.
    pub calls: u32,
    /// Between two slices: servers get rid of what was dialled.
    pub pause_ms: u64,
}

impl DialSpec {
    /// The mean time of a call in each slice, ns. One process dials all targets, moving from cgroup to
    /// cgroup: a socket belongs to the cgroup that it was made in.
    pub fn run(&self, place: &Place) -> Result<Rounds<f64>> {
        let mut helper = Helper::start(place, "dial", self).context("start the dialler")?;
        Ok(serde_json::from_value(helper.ask("go")?)?)
    }
}

pub fn main() -> Result<()> {
    let mut input = std::io::stdin().lines();
    let spec = input.next().context("no spec on stdin")??;
    let spec: DialSpec = serde_json::from_str(&spec).context("read the spec")?;
    let _ = core::pin().context("stay on one core")?;
    say("\"ready\"")?;
    for line in input {
        if line? == "slice" {
            let target = spec.targets.first().context("nobody is dialled")?;
            say(&slice(&spec, target)?.to_string())?;
            continue;
        }
        let found = abba(spec.rounds, spec.targets.len(), |t| slice(&spec, &spec.targets[t]))?;
        say(&serde_json::to_string(&found)?)?;
    }
    Ok(())
}

fn slice(spec: &DialSpec, target: &Target) -> Result<f64> {
    let procs = target.cgroup.join("cgroup.procs");
    fs::write(&procs, "0").with_context(|| format!("write {}", procs.display()))?;
    std::thread::sleep(Duration::from_millis(spec.pause_ms));
    let address = SockAddr::from(target.address);
    let mut total = 0;
    for _ in 0..spec.calls {
        let socket = open(spec.udp, target.address)?;
        let begun = monotonic_ns();
        let dialled = socket.connect(&address);
        total += monotonic_ns() - begun;
        dialled.with_context(|| format!("dial {}", target.address))?;
    }
    Ok(total as f64 / f64::from(spec.calls))
}

/// Closing it resets the connection, so that neither side keeps its ports.
fn open(udp: bool, to: SocketAddr) -> Result<Socket> {
    let domain = Domain::for_address(to);
    if udp {
        return Ok(Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?);
    }
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_linger(Some(Duration::ZERO))?;
    Ok(socket)
}

fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
