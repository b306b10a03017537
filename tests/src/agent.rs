//! The real `gray agent` as a guard, driven by its command line only. It knows no policy.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::command::{Daemon, note, output, tail, wait_for};
use crate::place::Place;
use crate::rights::{THREE, only};
use crate::world::World;

/// How an agent is started.
#[derive(Debug, Clone)]
pub struct AgentSpec {
    /// `IFACE=edge|backend|host|lo`, one `--attach` each.
    pub attach: Vec<String>,
    /// `--cgroup`, or `--no-connect`.
    pub cgroup: Option<PathBuf>,
    /// More arguments of `gray agent`.
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    /// Instead of `binary()`.
    pub binary: Option<PathBuf>,
    /// What starts the agent and its commands: `setpriv` and its arguments, so that they may do what the unit file grants. It must
    /// become what it starts.
    pub by: Vec<String>,
    /// Not on the edge but here, and what its things are called after.
    pub elsewhere: Option<(Place, String)>,
}

impl AgentSpec {
    /// All interfaces of the edge, and the callers' cgroup.
    pub fn of(world: &World) -> Self {
        let edges = world.client_ifs().into_iter().map(|i| format!("{i}=edge"));
        let backends = world.backend_ifs().into_iter().map(|i| format!("{i}=backend"));
        Self {
            attach: edges.chain(backends).collect(),
            cgroup: Some(world.callers.path().to_path_buf()),
            args: Vec::new(),
            env: Vec::new(),
            binary: None,
            by: only(&THREE, None),
            elsewhere: None,
        }
    }

    /// With all of root's rights: for steps of releases that start servers in other network namespaces.
    pub fn as_root(self) -> Self {
        Self { by: Vec::new(), ..self }
    }

    /// The same without the connect path, whose programs the verifier need not look at then.
    pub fn packets(world: &World) -> Self {
        Self { cgroup: None, ..Self::of(world) }
    }
}

/// A running (or killed) agent, in the edge namespace if its spec does not say where. A drop uninstalls and kills it.
#[derive(Debug)]
pub struct Agent {
    spec: AgentSpec,
    place: Place,
    binary: PathBuf,
    state_dir: PathBuf,
    bpffs: PathBuf,
    socket: PathBuf,
    log: PathBuf,
    daemon: Option<Daemon>,
    installed: bool,
}

impl Agent {
    /// Starts with the standard spec; the API answers when this returns.
    pub fn start(world: &World) -> Result<Self> {
        Self::start_with(world, AgentSpec::of(world))
    }

    pub fn start_with(world: &World, spec: AgentSpec) -> Result<Self> {
        let mut agent = Self::not_started(world, spec)?;
        agent.launch()?;
        Ok(agent)
    }

    /// For `spawn`.
    pub fn not_started(world: &World, spec: AgentSpec) -> Result<Self> {
        let dir = world.temp();
        let binary = spec.binary.clone().map_or_else(binary, Ok)?;
        let (place, suffix) = match &spec.elsewhere {
            Some((place, name)) => (place.clone(), format!("-{name}")),
            None => (world.edge_place(), String::new()),
        };
        let mut bpffs = world.lab().bpffs().into_os_string();
        bpffs.push(&suffix);
        Ok(Self {
            spec,
            place,
            binary,
            state_dir: dir.join(format!("state{suffix}")),
            bpffs: bpffs.into(),
            socket: dir.join(format!("gray{suffix}.sock")),
            log: dir.join(format!("agent{suffix}.log")),
            daemon: None,
            installed: true,
        })
    }

    fn launch(&mut self) -> Result<()> {
        self.spawn(&[])?;
        if self.wait_ready()? {
            return Ok(());
        }
        bail!("the agent was killed while it started; its log ends with\n{}", tail(&self.log, 40))
    }

    /// Starts the process, with more environment, and does not wait for it. It must not be running.
    pub fn spawn(&mut self, env: &[(&str, &str)]) -> Result<()> {
        ensure!(self.pid().is_none(), "the agent is running already");
        let mut command = self.program();
        let _ = command.arg("agent").args(self.where_it_lives());
        let _ = match &self.spec.cgroup {
            Some(cgroup) => command.arg("--cgroup").arg(cgroup),
            None => command.arg("--no-connect"),
        };
        for attach in &self.spec.attach {
            let _ = command.args(["--attach", attach]);
        }
        let _ = command.args(&self.spec.args).envs(self.spec.env.iter().cloned());
        let _ = command.envs(env.iter().copied());
        self.daemon = Some(Daemon::spawn("gray agent", &mut command, &self.log)?);
        Ok(())
    }

    /// True when the API answers; false when a SIGKILL came first. Any other end is an error.
    pub fn wait_ready(&mut self) -> Result<bool> {
        let mut killed = false;
        // The verifier needs a second of one core, and tests may share few of them.
        let ready = wait_for("the agent's API to answer", Duration::from_secs(60), || {
            killed = self.was_killed()?;
            // Nobody listens while the verifier is at work: a command each time would take its CPU.
            let listens = || UnixStream::connect(&self.socket).is_ok();
            Ok(killed || listens() && self.gray(&["status", "-o", "json"])?.status.success())
        });
        ready.with_context(|| format!("start the agent; its log ends with\n{}", tail(&self.log, 40)))?;
        Ok(!killed)
    }

    /// Whether a SIGKILL has ended it (it may start again then); an error when anything else has.
    pub fn was_killed(&mut self) -> Result<bool> {
        let Some(daemon) = &mut self.daemon else { return Ok(true) };
        let killed = daemon.was_killed()?;
        if killed {
            self.daemon = None;
        }
        Ok(killed)
    }

    fn where_it_lives(&self) -> Vec<&std::ffi::OsStr> {
        let flags = [("--state-dir", &self.state_dir), ("--bpffs", &self.bpffs), ("--socket", &self.socket)];
        flags.into_iter().flat_map(|(flag, path)| [flag.as_ref(), path.as_os_str()]).collect()
    }

    fn program(&self) -> Command {
        let Some((first, rest)) = self.spec.by.split_first() else { return self.place.command(&self.binary) };
        let mut command = self.place.command(first);
        let _ = command.args(rest).arg(&self.binary);
        command
    }

    /// A `gray` command on the edge host (outside the callers' cgroup) that talks to this agent
    /// (`GRAY_SOCKET`); for what needs stdin or runs long.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.program();
        let _ = command.args(args).env("GRAY_SOCKET", &self.socket).env("NO_COLOR", "1");
        let _ = command.envs(self.spec.env.iter().cloned());
        command
    }

    /// Runs a `gray` command to its end, whatever its exit code.
    pub fn gray(&self, args: &[&str]) -> Result<Output> {
        output(&mut self.command(args))
    }

    /// stdout; an error with stderr and the agent's log when the exit code is not 0.
    pub fn gray_ok(&self, args: &[&str]) -> Result<String> {
        let out = self.gray(args)?;
        if !out.status.success() {
            let (err, text) = (String::from_utf8_lossy(&out.stderr), String::from_utf8_lossy(&out.stdout));
            let log = tail(&self.log, 20);
            bail!("gray {}: {}\n{err}{text}--- agent log\n{log}", args.join(" "), out.status);
        }
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }

    /// Adds `-o json` and reads the answer.
    pub fn gray_json(&self, args: &[&str]) -> Result<Value> {
        let text = self.gray_ok(&[args, &["-o", "json"]].concat())?;
        serde_json::from_str(&text).with_context(|| format!("gray {} wrote no JSON: {text}", args.join(" ")))
    }

    /// How often a reason was counted; 0 where it never was.
    ///
    /// # Panics
    /// Where the agent does not say.
    pub fn counted(&self, reason: &str) -> u64 {
        let status = self.gray_json(&["status"]).expect("the agent's status");
        let all = status["counters"].as_array().expect("counters by reason");
        all.iter().find(|c| c["reason"] == reason).and_then(|c| c["count"].as_u64()).unwrap_or(0)
    }

    /// What `/metrics` says, by curl over the agent's socket.
    pub fn metrics(&self) -> Result<String> {
        let mut curl = Command::new("curl");
        let _ = curl.args(["-sS", "--noproxy", "*", "--unix-socket"]).arg(&self.socket);
        crate::command::run(curl.arg("http://gray/metrics"))
    }

    /// `gray apply -f` of this document; returns what it printed.
    pub fn apply(&self, yaml: &str) -> Result<String> {
        let file = self.state_dir.with_file_name("policy.yaml");
        std::fs::write(&file, yaml).with_context(|| format!("write {}", file.display()))?;
        self.gray_ok(&["apply", "-f", &file.to_string_lossy()])
    }

    pub fn pid(&self) -> Option<u32> {
        self.daemon.as_ref().and_then(Daemon::pid)
    }

    /// SIGKILL; the agent is gone when this returns, the data path must not care.
    pub fn kill9(&mut self) -> Result<()> {
        let daemon = self.daemon.as_mut().context("the agent is not running")?;
        ensure!(daemon.pid().is_some(), "the agent is not running");
        daemon.check_alive()?;
        daemon.kill9()
    }

    /// SIGTERM; an error when it does not end by itself within 5 s.
    pub fn stop(&mut self) -> Result<()> {
        let daemon = self.daemon.as_mut().context("the agent is not running")?;
        daemon.check_alive()?;
        ensure!(daemon.stop(Duration::from_secs(5))?, "the agent did not end within 5 s of SIGTERM");
        Ok(())
    }

    /// Starts again with the same directories, after `kill9` or `stop` (else it is stopped first).
    pub fn restart(&mut self) -> Result<()> {
        if self.pid().is_some() {
            self.stop()?;
        }
        self.launch()
    }

    /// The binary of the next `restart` and of all commands from now on: upgrades and downgrades.
    pub fn use_binary(&mut self, binary: &Path) {
        self.binary = binary.to_path_buf();
    }

    /// It ended by itself, as it was expected to: it may be started again.
    pub fn has_ended(&mut self) {
        self.daemon = None;
    }

    /// More arguments of the next `restart`, in the place of those it had.
    pub fn use_args(&mut self, args: &[&str]) {
        self.spec.args = args.iter().map(|a| (*a).to_owned()).collect();
    }

    /// What the next `restart` attaches to.
    pub fn use_attach(&mut self, attach: &[String]) {
        self.spec.attach = attach.to_vec();
    }

    /// `gray uninstall` with this agent's directories, and the agent is gone when this returns.
    pub fn uninstall(mut self) -> Result<()> {
        self.remove()
    }

    fn remove(&mut self) -> Result<()> {
        self.installed = false;
        // `gray uninstall` refuses while an agent runs.
        if let Some(daemon) = &mut self.daemon {
            daemon.kill9()?;
        }
        crate::command::run(&mut self.uninstall_command()).map(drop)
    }

    /// `gray uninstall` of this agent's directories.
    pub fn uninstall_command(&self) -> Command {
        let mut command = self.command(&["uninstall"]);
        let _ = command.args(self.where_it_lives());
        command
    }

    pub fn binary(&self) -> &Path {
        &self.binary
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    pub fn bpffs(&self) -> &Path {
        &self.bpffs
    }

    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    pub fn log(&self) -> &Path {
        &self.log
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if self.installed
            && let Err(e) = self.remove()
        {
            note(&format!("gray uninstall: {e:#}"));
        }
    }
}

/// `GRAY_BIN`, else `debug/gray` of the target directory this executable lies in.
pub fn binary() -> Result<PathBuf> {
    let path = match std::env::var_os("GRAY_BIN") {
        Some(path) => PathBuf::from(path),
        None => {
            let own = std::env::current_exe().context("find this executable")?;
            let found = own.ancestors().skip(1).map(|dir| dir.join("debug/gray")).find(|p| p.is_file());
            found.context("gray is not built: cargo xtask build, or set GRAY_BIN")?
        }
    };
    path.canonicalize().with_context(|| format!("no gray binary at {}", path.display()))
}
