//! Running programs: output with a useful error, guarded children, waiting for a condition. No lab knowledge.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::pace;

/// Runs to the end; an error holds the command line and what it wrote to stderr.
pub fn run(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    if !output.status.success() {
        let (err, out) = (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
        bail!("{command:?}: {}\n{err}{out}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs to the end, whatever the exit code.
pub fn output(command: &mut Command) -> Result<Output> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.output().with_context(|| format!("start {program} (is it installed?)"))
}

/// Runs with `input` on stdin.
pub fn run_with_input(command: &mut Command, input: &str) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {program} (is it installed?)"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).with_context(|| format!("write to {program}"))?;
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("{program}: {}\n{}\ninput:\n{input}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A running child with a log file; a drop kills it (SIGKILL) and shows the log's tail while panicking.
#[derive(Debug)]
pub struct Daemon {
    what: String,
    child: Option<Child>,
    log: PathBuf,
}

impl Daemon {
    /// stdout and stderr are appended to `log`.
    pub fn spawn(what: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(log);
        let file = file.with_context(|| format!("open {}", log.display()))?;
        let child = command
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("start {what}: {:?} (is it installed?)", command.get_program()))?;
        Ok(Self { what: what.to_owned(), child: Some(child), log: log.to_path_buf() })
    }

    /// `None` after it was stopped.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    pub fn log(&self) -> &Path {
        &self.log
    }

    /// An error, with the log's tail, when the process has ended by itself.
    pub fn check_alive(&mut self) -> Result<()> {
        let Some(child) = &mut self.child else { bail!("{} is not running", self.what) };
        match child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended: {status}\n{}", self.what, tail(&self.log, 40)),
        }
    }

    /// True when a SIGKILL has ended the process; an error, with the log's tail, when anything else has.
    pub fn was_killed(&mut self) -> Result<bool> {
        let Some(child) = &mut self.child else { return Ok(true) };
        match child.try_wait()? {
            None => Ok(false),
            Some(status) if status.signal() == Some(libc::SIGKILL) => {
                self.child = None;
                Ok(true)
            }
            Some(status) => bail!("{} ended: {status}\n{}", self.what, tail(&self.log, 40)),
        }
    }

    /// SIGKILL, and the process is gone when this returns.
    pub fn kill9(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        child.kill().with_context(|| format!("kill {}", self.what))?;
        let _ = child.wait()?;
        Ok(())
    }

    /// SIGTERM, and SIGKILL after `patience`; true when it ended by itself.
    pub fn stop(&mut self, patience: Duration) -> Result<bool> {
        let Some(mut child) = self.child.take() else { return Ok(true) };
        let _ = crate::sys::kill(child.id(), libc::SIGTERM);
        let give_up = Instant::now() + pace::patience(patience);
        while Instant::now() < give_up {
            if child.try_wait()?.is_some() {
                return Ok(true);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill()?;
        let _ = child.wait()?;
        Ok(false)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.kill9();
        if std::thread::panicking() {
            note(&format!(
                "--- last lines of {} ({})\n{}",
                self.what,
                self.log.display(),
                tail(&self.log, 40)
            ));
        }
    }
}

/// The last `lines` lines of a file.
pub fn tail(path: &Path, lines: usize) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Polls (`pace::between`) until `ready` says true; `what` completes "timed out waiting for ...".
pub fn wait_for(what: &str, patience: Duration, mut ready: impl FnMut() -> Result<bool>) -> Result<()> {
    let patience = pace::patience(patience);
    let give_up = Instant::now() + patience;
    loop {
        let asked = Instant::now();
        if ready()? {
            return Ok(());
        }
        if Instant::now() > give_up {
            bail!("timed out after {patience:?} waiting for {what}");
        }
        std::thread::sleep(pace::between(asked.elapsed()));
    }
}

/// One line for the person who watches; drops have nobody else to tell.
pub fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
