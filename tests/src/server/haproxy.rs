//! HAProxy with one thread and a configuration of its own, as a guard: passing TCP on, or choosing a server by a header.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result};

use super::choice::{self, Choice};
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
        let daemon =
            proxy::listen("haproxy", &mut foreground(place, &conf), &dir.join("log"), place, routes)?;
        Ok(Self { daemon })
    }

    /// The same in http mode, with the header's values in a map file.
    pub fn choosing(place: &Place, temp: &Path, choice: &Choice) -> Result<Self> {
        let dir = proxy::directory(temp, "haproxy", place)?;
        let map = choice::list(&dir, &choice.values, " listed")?;
        let conf = dir.join("haproxy.cfg");
        fs::write(&conf, by_header(choice, &map)).context("write haproxy.cfg")?;
        let daemon =
            choice::listen("haproxy", &mut foreground(place, &conf), &dir.join("log"), place, choice)?;
        Ok(Self { daemon })
    }

    pub fn pid(&self) -> Option<u32> {
        self.daemon.pid()
    }

    pub fn kill9(&mut self) -> Result<()> {
        self.daemon.kill9()
    }
}

/// Without a master: killing it leaves no worker behind.
fn foreground(place: &Place, conf: &Path) -> std::process::Command {
    let mut command = place.command("haproxy");
    let _ = command.arg("-db").arg("-f").arg(conf);
    command
}

fn configuration(routes: &[Route]) -> String {
    let mut text = defaults("mode tcp\n    balance roundrobin\n");
    for (i, Route { listen, to }) in routes.iter().enumerate() {
        text += &format!("listen route{i}\n    bind {}\n", address(listen));
        for (j, server) in to.iter().enumerate() {
            text += &format!("    server s{j} {}\n", address(server));
        }
    }
    text
}

/// What its manual has to make this fast: connections to servers are shared by all clients and kept (`http-reuse always`), bodies
/// are spliced, one lookup for the header (`map_str`: a tree of whole strings), nothing is logged.
fn by_header(choice: &Choice, map: &Path) -> String {
    let Choice { listen, header, listed, other, .. } = choice;
    let text = defaults("mode http\n    http-reuse always\n    timeout http-keep-alive 1h\n");
    format!(
        "{text}frontend edge
    bind {}
    use_backend listed if {{ req.fhdr({header}),map_str({}) -m found }}
    default_backend other
backend listed
    server s0 {}
backend other
    server s0 {}
",
        address(listen),
        map.display(),
        address(listed),
        address(other),
    )
}

fn defaults(mode: &str) -> String {
    format!(
        "\
global
    nbthread 1
    maxconn 4000
defaults
    {mode}    option splice-auto
    timeout connect 5s
    timeout client 1h
    timeout server 1h
"
    )
}

/// HAProxy takes what follows the last colon for the port; the prefix says the family.
fn address(a: &SocketAddr) -> String {
    format!("{}@{}:{}", if a.is_ipv4() { "ipv4" } else { "ipv6" }, a.ip(), a.port())
}
