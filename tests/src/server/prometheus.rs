//! A real Prometheus that scrapes one address, with nothing of the host's: a configuration of its own, its data in the lab's directory.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::command::{Daemon, run, wait_for};
use crate::place::Place;

/// A drop kills it.
#[derive(Debug)]
pub struct Prometheus {
    daemon: Daemon,
    pub address: SocketAddr,
}

impl Prometheus {
    /// It has scraped `target` when this returns. `temp` is the lab's directory; what an earlier one kept there is read again.
    pub fn start(place: &Place, temp: &Path, address: SocketAddr, target: SocketAddr) -> Result<Self> {
        let dir = temp.join("prometheus");
        std::fs::create_dir_all(&dir).context("make Prometheus's directory")?;
        let config = dir.join("prometheus.yml");
        std::fs::write(
            &config,
            format!(
                "global: {{ scrape_interval: 500ms, scrape_timeout: 500ms }}\nscrape_configs:\n  - job_name: gray\n    static_configs: [{{ targets: ['{target}'] }}]\n"
            ),
        )?;
        // What it had scraped before it was started again does not count.
        let began = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
        let mut command = place.command("prometheus");
        let _ = command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
            .arg(format!("--web.listen-address={address}"));
        let daemon = Daemon::spawn("prometheus", &mut command, &dir.join("log"))?;
        let mut prometheus = Self { daemon, address };
        wait_for("Prometheus to have scraped", Duration::from_secs(60), || {
            prometheus.daemon.check_alive()?;
            let mut curl = place.command("curl");
            let _ = curl.args([
                "-sS",
                "--noproxy",
                "*",
                "-G",
                "--data-urlencode",
                &format!("query=up == 1 and timestamp(up) > {began}"),
            ]);
            let said = run(curl.arg(format!("http://{address}/api/v1/query")));
            Ok(said.is_ok_and(|s| s.contains("\"value\"")))
        })?;
        Ok(prometheus)
    }
}
