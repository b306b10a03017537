//! How long a message takes on a connection of loopback: a process that has both ends, and asks and answers itself. Nobody is waited for, so all of it is
//! the way through the kernel.

use std::io::{BufRead as _, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::core;
use crate::helper::Helper;
use crate::place::Place;
use crate::sys::monotonic_ns;

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct PingSpec {
    /// There and back, of a slice.
    pub rounds: u32,
    pub bytes: usize,
}

/// A process that measures slice after slice.
#[derive(Debug)]
pub struct Pinger {
    helper: Helper,
}

impl Pinger {
    pub fn start(place: &Place, spec: PingSpec) -> Result<Self> {
        Ok(Self { helper: Helper::start(place, "ping", &spec).context("start the pinger")? })
    }

    /// The mean time of a message, sent and read, on a connection that is made now, ns.
    pub fn slice(&mut self) -> Result<f64> {
        Ok(serde_json::from_value(self.helper.ask("go")?)?)
    }
}

pub fn main() -> Result<()> {
    let mut input = std::io::stdin().lock().lines();
    let spec = input.next().context("no spec on stdin")??;
    let spec: PingSpec = serde_json::from_str(&spec).context("read the spec")?;
    let _ = core::pin().context("stay on one core")?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "\"ready\"")?;
    out.flush()?;
    for line in input {
        let _ = line?;
        let ns = slice(spec)?;
        writeln!(out, "{ns}")?;
        out.flush()?;
    }
    Ok(())
}

fn slice(spec: PingSpec) -> Result<f64> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut near = TcpStream::connect(listener.local_addr()?)?;
    let (mut far, _) = listener.accept()?;
    for stream in [&near, &far] {
        stream.set_nodelay(true)?;
    }
    let mut bytes = vec![7; spec.bytes];
    let begun = monotonic_ns();
    for _ in 0..spec.rounds {
        near.write_all(&bytes)?;
        far.read_exact(&mut bytes)?;
        far.write_all(&bytes)?;
        near.read_exact(&mut bytes)?;
    }
    Ok((monotonic_ns() - begun) as f64 / (2.0 * f64::from(spec.rounds)))
}
