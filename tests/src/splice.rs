//! The real `gray splice` as a guard, beside an agent. It knows no policy.

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, ensure};

use crate::{
    agent::Agent,
    command::{Daemon, wait_for},
    place::Place,
};

/// A running listener; a drop kills it.
#[derive(Debug)]
pub struct Listener {
    daemon: Daemon,
    log: PathBuf,
}

impl Listener {
    /// At `place`, where the agent is, and said by its status when this returns. `name`: of its log.
    pub fn start(agent: &Agent, place: &Place, name: &str) -> Result<Self> {
        let before = said(agent)?;
        let listener = Self::spawn(agent, place, name)?;
        wait_for("the splice listener to say where it is", Duration::from_secs(30), || {
            let now = said(agent)?;
            Ok(!now.is_empty() && now != before)
        })?;
        Ok(listener)
    }

    /// The same, without waiting for it. With the one right that its unit file grants.
    pub fn spawn(agent: &Agent, place: &Place, name: &str) -> Result<Self> {
        let log = agent.log().with_file_name(format!("splice-{name}.log"));
        let mut command = place.command("setpriv");
        let _ = command.args(["--bounding-set=-all,+bpf", "--inh-caps=-all", "--no-new-privs"]);
        let _ = command.arg(agent.binary()).args(["splice", "--drain", "5", "--bpffs"]).arg(agent.bpffs());
        let daemon = Daemon::spawn("gray splice", &mut command, &log)?;
        Ok(Self { daemon, log })
    }

    pub fn pid(&self) -> Option<u32> {
        self.daemon.pid()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn kill9(&mut self) -> Result<()> {
        self.daemon.kill9()
    }

    /// SIGTERM; an error when it has not ended in time.
    pub fn stop(&mut self) -> Result<()> {
        ensure!(self.daemon.stop(Duration::from_secs(20))?, "the listener did not end:\n{}", self.log());
        Ok(())
    }
}

/// Where the agent says that a listener is.
pub fn said(agent: &Agent) -> Result<Vec<String>> {
    let status = agent.gray_json(&["status"])?;
    let at = status["splice"]["at"].as_array().cloned().unwrap_or_default();
    Ok(at.iter().filter_map(|a| a.as_str().map(str::to_owned)).collect())
}
