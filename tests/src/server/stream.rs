//! nginx as a tcp proxy (its stream module), one worker, with a configuration of its own, as a guard.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::proxy::{self, Route};
use crate::command::Daemon;
use crate::place::Place;

/// Debian's package libnginx-mod-stream.
const MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// nginx stream between the addresses of its routes.
#[derive(Debug)]
pub struct NginxStream {
    daemon: Daemon,
}

impl NginxStream {
    /// Listening when this returns; `temp` is the lab's directory.
    pub fn start(place: &Place, temp: &Path, routes: &[Route]) -> Result<Self> {
        let dir = proxy::directory(temp, "stream", place)?;
        let conf = dir.join("nginx.conf");
        fs::write(&conf, configuration(&dir, routes)).context("write nginx.conf")?;
        let mut command = place.command("nginx");
        let _ = command.arg("-p").arg(&dir).arg("-c").arg(&conf).args(["-e", "stderr"]);
        let daemon = proxy::listen("nginx stream", &mut command, &dir.join("log"), place, routes)?;
        Ok(Self { daemon })
    }

    pub fn pid(&self) -> Option<u32> {
        self.daemon.pid()
    }

    pub fn kill9(&mut self) -> Result<()> {
        self.daemon.kill9()
    }
}

/// One process does it all, so that killing it leaves no worker behind.
fn configuration(dir: &Path, routes: &[Route]) -> String {
    let mut servers = String::new();
    for (i, Route { listen, to }) in routes.iter().enumerate() {
        let to: String = to.iter().map(|s| format!(" server {s};")).collect();
        servers += &format!("    upstream route{i} {{{to} }}\n");
        servers += &format!("    server {{ listen {listen} backlog=4096; proxy_pass route{i}; }}\n");
    }
    format!(
        "load_module {MODULE};
daemon off;
master_process off;
worker_processes 1;
user root;
pid {}/pid;
error_log stderr warn;
events {{ worker_connections 16000; }}
stream {{
    proxy_connect_timeout 5s;
    proxy_timeout 1h;
    tcp_nodelay on;
{servers}}}
",
        dir.display()
    )
}
