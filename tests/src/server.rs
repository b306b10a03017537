//! Servers as guards: our own (HTTP, TCP echo, UDP echo, exact counts), nginx, PostgreSQL, Redis, Prometheus, systemd, iperf3, proxies, and services that call another one. No client code.

pub mod choice;
mod echo;
pub mod haproxy;
mod http;
pub mod iperf;
pub mod lua;
pub mod middle;
pub mod nginx;
pub mod postgres;
pub mod process;
pub mod prometheus;
pub mod proxy;
pub mod redis;
pub mod stream;
pub mod systemd;

use std::net::IpAddr;
use std::sync::Mutex;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::helper::Helper;
use crate::place::Place;
use crate::world::Backend;

pub use choice::Choice;
pub use haproxy::Haproxy;
pub use iperf::IperfServer;
pub use lua::NginxLua;
pub use middle::{How, Middle, MiddleSpec};
pub use nginx::{Nginx, Site};
pub use postgres::Postgres;
pub use prometheus::Prometheus;
pub use proxy::Route;
pub use redis::Redis;
pub use stream::NginxStream;
pub use systemd::Systemd;

/// What a server is and where it listens. UDP answers come from the address that was asked, so each address
/// is bound by itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ServerSpec {
    pub name: String,
    pub version: String,
    pub listen: Vec<IpAddr>,
    pub http: Option<u16>,
    pub tcp: Option<u16>,
    pub udp: Option<u16>,
    /// Every n-th answer carries a wrong nonce (0: never): proof that clients notice.
    pub wrong_nonce_every: u64,
}

impl ServerSpec {
    /// All three protocols on all addresses of a backend: HTTP 8080, TCP echo 9000, UDP echo 9001.
    pub fn on(backend: &Backend, name: &str, version: &str) -> Self {
        Self {
            name: name.into(),
            version: version.into(),
            listen: backend.addresses(),
            http: Some(8080),
            tcp: Some(9000),
            udp: Some(9001),
            wrong_nonce_every: 0,
        }
    }
}

/// Exact counts since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerStats {
    /// Accepted TCP connections, HTTP and echo.
    pub connections: u64,
    /// HTTP requests answered.
    pub requests: u64,
    /// Lines echoed.
    pub lines: u64,
    /// Datagrams answered.
    pub datagrams: u64,
}

/// A running server; a drop kills it.
#[derive(Debug)]
pub struct Server {
    helper: Mutex<Helper>,
    pub spec: ServerSpec,
}

impl Server {
    /// Listening when this returns.
    pub fn start(place: &Place, spec: ServerSpec) -> Result<Self> {
        let helper = Helper::start(place, "serve", &spec)
            .with_context(|| format!("start server {} {}", spec.name, spec.version))?;
        Ok(Self { helper: Mutex::new(helper), spec })
    }

    pub fn stats(&self) -> Result<ServerStats> {
        Ok(serde_json::from_value(self.lock().ask("stats")?)?)
    }

    pub fn pid(&self) -> u32 {
        self.lock().pid()
    }

    /// SIGKILL: what the kernel then answers is what clients see of a crashed instance.
    pub fn kill9(&self) -> Result<()> {
        self.lock().kill9()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Helper> {
        self.helper.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
