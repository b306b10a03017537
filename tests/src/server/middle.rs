//! A service in the middle of a chain, which knows nothing of lanes: for each request it asks the next one, and answers what that says.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::iperf::listeners;
use super::proxy::directory;
use crate::command::{Daemon, wait_for};
use crate::place::Place;

const PYTHON: &str = include_str!("middle/serve.py");
const NODE: &str = include_str!("middle/serve.js");

/// How its program serves and calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// A thread for each connection, which calls.
    Threads,
    /// A thread for each connection, which lets another one call.
    Helpers,
    /// A process for each connection, which lets another one call.
    Forks,
    /// One thread, on which requests wait beside each other before they call.
    Loop,
    /// node, which calls as soon as it has read: `agent: false`.
    Node,
    /// The same by an agent with `keepAlive: false`.
    NodeAgent,
    /// node, whose requests wait beside each other before they call.
    NodeWaits,
    /// nginx with so many idle connections to the next one.
    Nginx { keepalive: u32 },
}

/// What it is, and whom it asks.
#[derive(Debug, Clone, Copy)]
pub struct MiddleSpec<'a> {
    pub how: How,
    /// On all addresses.
    pub port: u16,
    pub to: SocketAddr,
    /// `cart 1.0`: what the answer says that the request came by, in `via`. Of `Threads`, `Helpers` and `Forks`, as the header.
    pub name: Option<&'a str>,
    /// The header that goes on with the call; none of its own accord.
    pub passes: Option<&'a str>,
}

impl MiddleSpec<'_> {
    pub fn new(how: How, port: u16, to: SocketAddr) -> Self {
        Self { how, port, to, name: None, passes: None }
    }
}

/// It runs; a drop ends it.
#[derive(Debug)]
pub struct Middle {
    daemon: Daemon,
}

impl Middle {
    /// Listening when this returns.
    pub fn start(place: &Place, temp: &Path, spec: MiddleSpec<'_>) -> Result<Self> {
        let dir = directory(temp, "middle", place)?;
        let mut command = spec.command(place, &dir)?;
        let mut daemon = Daemon::spawn("the middle of the chain", &mut command, &dir.join("log"))?;
        wait_for("the middle of the chain to listen", Duration::from_secs(10), || {
            daemon.check_alive()?;
            Ok(listeners(place, spec.port) != 0)
        })?;
        Ok(Self { daemon })
    }

    pub fn pid(&self) -> Option<u32> {
        self.daemon.pid()
    }
}

impl MiddleSpec<'_> {
    fn command(&self, place: &Place, dir: &Path) -> Result<Command> {
        let (program, script, how) = match self.how {
            How::Threads => ("python3", PYTHON, "threads"),
            How::Helpers => ("python3", PYTHON, "helpers"),
            How::Forks => ("python3", PYTHON, "forks"),
            How::Loop => ("python3", PYTHON, "loop"),
            How::Node => ("node", NODE, "node"),
            How::NodeAgent => ("node", NODE, "node-agent"),
            How::NodeWaits => ("node", NODE, "node-waits"),
            How::Nginx { keepalive } => return self.nginx(place, dir, keepalive),
        };
        let file = dir.join("serve");
        fs::write(&file, script).with_context(|| format!("write {}", file.display()))?;
        let (port, to) = (self.port.to_string(), self.to.ip().to_string());
        let mut command = place.command(program);
        let _ = command.arg(&file).args([how, &port, &to, &self.to.port().to_string()]);
        let _ = command.args([self.name.unwrap_or_default(), self.passes.unwrap_or_default()]);
        Ok(command)
    }

    fn nginx(&self, place: &Place, dir: &Path, keepalive: u32) -> Result<Command> {
        let (to, port, at) = (self.to, self.port, dir.display());
        let keep = if keepalive == 0 { String::new() } else { format!(" keepalive {keepalive};") };
        let connection = if keepalive == 0 { "close" } else { "\"\"" };
        let text = format!(
            "daemon off;\nmaster_process off;\nworker_processes 1;\nuser root;\npid {at}/pid;\nerror_log stderr warn;\n\
             events {{ worker_connections 4096; }}\nhttp {{\n  access_log off;\n  client_body_temp_path {at}/t;\n  \
             proxy_temp_path {at}/t;\n  fastcgi_temp_path {at}/t;\n  uwsgi_temp_path {at}/t;\n  scgi_temp_path {at}/t;\n  \
             upstream c {{ server {to};{keep} }}\n  server {{\n    listen [::]:{port} ipv6only=off backlog=4096;\n    location / {{ \
             proxy_pass http://c; proxy_http_version 1.1; proxy_set_header Connection {connection}; }}\n  }}\n}}\n"
        );
        let conf = dir.join("nginx.conf");
        fs::write(&conf, text).with_context(|| format!("write {}", conf.display()))?;
        let mut command = place.command("nginx");
        let _ = command.arg("-c").arg(&conf).args(["-e", "stderr"]);
        Ok(command)
    }
}
