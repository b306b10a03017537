//! A caller that does nothing but dial: one datagram socket, `connect(2)` again and again on one core.

use std::io::Write;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::bench::core;
use crate::helper::Helper;
use crate::place::Place;

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Spec {
    to: SocketAddr,
    /// Between two calls; 0: none, and the core is kept busy.
    pause_us: u64,
}

/// Starts it; it ends with the guard.
pub fn start(place: &Place, to: SocketAddr, pause: Duration) -> Result<Helper> {
    let spec = Spec { to, pause_us: pause.as_micros() as u64 };
    Helper::start(place, "redial", &spec).context("start the dialler")
}

pub fn main() -> Result<()> {
    let mut spec = String::new();
    let _ = std::io::stdin().read_line(&mut spec)?;
    let spec: Spec = serde_json::from_str(&spec).context("read the spec")?;
    let _ = core::pin().context("stay on one core")?;
    let socket = Socket::new(Domain::for_address(spec.to), Type::DGRAM, Some(Protocol::UDP))?;
    let address = SockAddr::from(spec.to);
    socket.connect(&address).with_context(|| format!("dial {}", spec.to))?;
    writeln!(std::io::stdout(), "\"ready\"")?;
    std::io::stdout().flush()?;
    let pause = Duration::from_micros(spec.pause_us);
    while !ended()? {
        for _ in 0..if pause.is_zero() { 10_000 } else { 100 } {
            socket.connect(&address)?;
            if !pause.is_zero() {
                std::thread::sleep(pause);
            }
        }
    }
    Ok(())
}

/// Whether our end of stdin was closed.
fn ended() -> Result<bool> {
    let mut fd = libc::pollfd { fd: std::io::stdin().as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one descriptor, no waiting.
    let n = unsafe { libc::poll(&raw mut fd, 1, 0) };
    Ok(n > 0 && fd.revents & libc::POLLHUP != 0)
}
