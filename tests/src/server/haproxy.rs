//! HAProxy in tcp mode, one thread, with a configuration of its own, as a guard.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result};

use super::proxy::{self, Route};
use crate::command::Daemon;
use crate::place::Place;

/// HAProxy between the addresses of its routes.
#[derive(Debug)]
pub struct Haproxy {
    daemon: Daemon,
}

impl Haproxy {
    /// Listening when this returns; `temp` is the lab's directory.
    pub fn start(place: &Place, temp: &Path, routes: &[Route]) -> Result<Self> {
        let dir = proxy::directory(temp, "haproxy", place)?;
        let conf = dir.join("haproxy.cfg");
        fs::write(&conf, configuration(routes)).context("write haproxy.cfg")?;
        let mut command = place.command("haproxy");
        // In the foreground, without a master: killing it leaves no worker behind.
        let _ = command.arg("-db").arg("-f").arg(&conf);
        let daemon = proxy::listen("haproxy", &mut command, &dir.join("log"), place, routes)?;
        Ok(Self { daemon })
    }

    pub fn pid(&self) -> Option<u32> {
        self.daemon.pid()
    }

    pub fn kill9(&mut self) -> Result<()> {
        self.daemon.kill9()
    }
}

fn configuration(routes: &[Route]) -> String {
    let mut text = "\
global
    nbthread 1
    maxconn 4000
defaults
    mode tcp
    balance roundrobin
    option splice-auto
    timeout connect 5s
    timeout client 1h
    timeout server 1h
"
    .to_owned();
    for (i, Route { listen, to }) in routes.iter().enumerate() {
        text += &format!("listen route{i}\n    bind {}\n", address(listen));
        for (j, server) in to.iter().enumerate() {
            text += &format!("    server s{j} {}\n", address(server));
        }
    }
    text
}

/// HAProxy takes what follows the last colon for the port; the prefix says the family.
fn address(a: &SocketAddr) -> String {
    format!("{}@{}:{}", if a.is_ipv4() { "ipv4" } else { "ipv6" }, a.ip(), a.port())
}
