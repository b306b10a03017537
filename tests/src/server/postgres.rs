//! A real PostgreSQL with a cluster of its own, run by the user that Debian's package made. Nothing of the host's is used.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::command::{Daemon, run, wait_for};
use crate::place::Place;

const PORT: u16 = 5432;
const USER: &str = "postgres";

/// PostgreSQL on one address, port 5432, trusting everybody; a drop kills it.
#[derive(Debug)]
pub struct Postgres {
    daemon: Daemon,
    place: Place,
    bin: PathBuf,
    pub address: IpAddr,
}

impl Postgres {
    /// It answers when this returns. `temp` is the lab's directory.
    pub fn start(place: &Place, temp: &Path, address: IpAddr) -> Result<Self> {
        let bin = programs()?;
        let dir = temp.join("postgres");
        std::fs::create_dir_all(&dir).context("make PostgreSQL's directory")?;
        let _ = run(Command::new("chown").args([USER, &dir.to_string_lossy()]))?;
        let data = dir.join("data");
        let mut command = as_user(place, &bin.join("initdb"));
        let _ = command.current_dir("/").args(["-A", "trust", "-N", "--locale=C", "-D"]).arg(&data);
        let _ = run(&mut command)?;
        let mut command = as_user(place, &bin.join("postgres"));
        let _ = command.current_dir("/").arg("-D").arg(&data).arg("-k").arg(&dir);
        let _ = command.args(["-h", &address.to_string(), "-p", &PORT.to_string()]);
        let _ = command.args(["-c", "fsync=off", "-c", "shared_buffers=16MB", "-c", "max_connections=50"]);
        // What it may read without a password is everything: the world is its own.
        std::fs::write(data.join("pg_hba.conf"), "host all all all trust\nlocal all all trust\n")?;
        let daemon = Daemon::spawn("postgres", &mut command, &temp.join("postgres.log"))?;
        let mut postgres = Self { daemon, place: place.clone(), bin, address };
        wait_for("PostgreSQL to answer", Duration::from_secs(60), || {
            postgres.daemon.check_alive()?;
            Ok(postgres.sql("select 1").is_ok())
        })?;
        Ok(postgres)
    }

    /// One statement, beside it; its rows without decoration.
    pub fn sql(&self, statement: &str) -> Result<String> {
        let mut command = self.psql(&self.place);
        Ok(run(command.args(["-Atqc", statement]))?.trim_end().to_owned())
    }

    /// `psql` from anywhere, stopping at the first error.
    pub fn psql(&self, place: &Place) -> Command {
        let mut command = place.command("psql");
        let _ = command.args(["-X", "-v", "ON_ERROR_STOP=1"]).args(self.to());
        command
    }

    /// `pgbench` from anywhere, with a script of its own; it fails when a statement does.
    pub fn bench(&self, place: &Place, script: &Path) -> Command {
        let mut command = place.command(self.bin.join("pgbench"));
        let _ = command.args(["-n", "-c", "2"]).args(self.to()).arg("-f").arg(script).env("PGDATABASE", USER);
        command
    }

    /// Where it is, as its clients take it.
    pub fn to(&self) -> [String; 6] {
        let port = PORT.to_string();
        ["-h".into(), self.address.to_string(), "-p".into(), port, "-U".into(), USER.into()]
    }
}

fn as_user(place: &Place, program: &Path) -> Command {
    let mut command = place.command("setpriv");
    let _ = command.args(["--reuid", USER, "--regid", USER, "--clear-groups", "--"]).arg(program);
    command
}

/// Debian has them below the version; the newest.
fn programs() -> Result<PathBuf> {
    let dirs = std::fs::read_dir("/usr/lib/postgresql").context("PostgreSQL is not installed")?;
    let mut all: Vec<(u32, PathBuf)> = dirs
        .flatten()
        .filter_map(|d| Some((d.file_name().to_str()?.parse().ok()?, d.path().join("bin"))))
        .filter(|(_, bin)| bin.join("postgres").is_file())
        .collect();
    all.sort();
    Ok(all.pop().context("PostgreSQL is not installed: cargo xtask setup")?.1)
}
