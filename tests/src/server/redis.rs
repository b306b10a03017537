//! A real Redis, with nothing of the host's: no configuration, no disk. A cache, or a broker of lists and streams.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::command::{Daemon, run, wait_for};
use crate::place::Place;

pub const PORT: u16 = 6379;

/// Redis on one address, port 6379; a drop kills it.
#[derive(Debug)]
pub struct Redis {
    daemon: Daemon,
    place: Place,
    pub address: IpAddr,
}

impl Redis {
    /// It answers when this returns. `temp` is the lab's directory.
    pub fn start(place: &Place, temp: &Path, name: &str, address: IpAddr) -> Result<Self> {
        let dir = temp.join(format!("redis-{name}"));
        std::fs::create_dir_all(&dir).context("make Redis's directory")?;
        let mut command = place.command("redis-server");
        let _ = command
            .args(["--bind", &address.to_string(), "--port", &PORT.to_string(), "--protected-mode", "no"])
            .args(["--save", "", "--appendonly", "no", "--daemonize", "no", "--dir"])
            .arg(&dir);
        let daemon = Daemon::spawn("redis-server", &mut command, &dir.join("log"))?;
        let mut redis = Self { daemon, place: place.clone(), address };
        wait_for("Redis to answer", Duration::from_secs(20), || {
            redis.daemon.check_alive()?;
            Ok(redis.cli(&["PING"]).is_ok_and(|said| said == "PONG"))
        })?;
        Ok(redis)
    }

    /// `redis-cli` beside it, at its own address: an administrator, whom nothing steers.
    pub fn cli(&self, args: &[&str]) -> Result<String> {
        cli(&self.place, self.address, args)
    }

    /// How often each command was called since the start, but for those that ask this.
    pub fn calls(&self) -> Result<BTreeMap<String, u64>> {
        let text = self.cli(&["INFO", "commandstats"])?;
        let one = |line: &str| {
            let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            let calls = rest.split(',').next()?.parse().ok()?;
            (!matches!(name, "info" | "ping")).then(|| (name.to_owned(), calls))
        };
        Ok(text.lines().filter_map(one).collect())
    }
}

/// `redis-cli` from anywhere to any address; what it printed, without the last line break.
pub fn cli(place: &Place, address: IpAddr, args: &[&str]) -> Result<String> {
    let mut command = place.command("redis-cli");
    let _ = command.args(["-e", "-h", &address.to_string(), "-p", &PORT.to_string()]).args(args);
    Ok(run(&mut command)?.trim_end().to_owned())
}
