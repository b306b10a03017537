//! iperf3 in server mode as a guard, and the check that something listens (without connecting to it).

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::command::{Daemon, wait_for};
use crate::place::Place;

/// `iperf3 -s`: one test at a time, v4 and v6.
#[derive(Debug)]
pub struct IperfServer {
    daemon: Daemon,
    pub port: u16,
}

impl IperfServer {
    pub fn start(place: &Place, temp: &Path, port: u16) -> Result<Self> {
        let log = temp.join(format!("iperf3-{}-{port}.log", place.ns.name()));
        let mut command = place.command("iperf3");
        let _ = command.args(["--server", "--port", &port.to_string()]);
        let mut daemon = Daemon::spawn("iperf3", &mut command, &log)?;
        wait_for("iperf3 to listen", Duration::from_secs(10), || {
            daemon.check_alive()?;
            Ok(listeners(place, port) > 0)
        })?;
        Ok(Self { daemon, port })
    }

    pub fn pid(&self) -> Option<u32> {
        self.daemon.pid()
    }
}

/// TCP sockets of the namespace that listen on the port: a probe connection would count as a client.
pub fn listeners(place: &Place, port: u16) -> usize {
    let tables = place.ns.enter(|| {
        ["tcp", "tcp6"].map(|t| fs::read_to_string(format!("/proc/thread-self/net/{t}")).unwrap_or_default())
    });
    let wanted = format!(":{port:04X}");
    let listening = |line: &&str| {
        let mut words = line.split_whitespace().skip(1);
        let (local, state) = (words.next(), words.nth(1));
        state == Some("0A") && local.is_some_and(|l| l.ends_with(&wanted))
    };
    tables.iter().flat_map(|t| t.lines()).filter(listening).count()
}
