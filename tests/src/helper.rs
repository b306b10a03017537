//! A child of the hidden binary `gray-lab-server`, spoken to in lines over its stdin and stdout.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::Value;

use crate::place::Place;

/// The running child; it ends when its stdin closes, and a drop kills it.
#[derive(Debug)]
pub struct Helper {
    mode: &'static str,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Helper {
    /// Starts `gray-lab-server MODE`, hands it `spec` as one line of JSON and waits for its first line.
    pub fn start(place: &Place, mode: &'static str, spec: &impl Serialize) -> Result<Self> {
        let binary = binary()?;
        let mut child = place
            .command(&binary)
            .arg(mode)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}", binary.display()))?;
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().context("the helper has no stdout")?);
        let mut helper = Self { mode, child, stdin, stdout };
        let first = helper.ask(&serde_json::to_string(spec)?)?;
        if first != "ready" {
            bail!("helper {mode}: {first}");
        }
        Ok(helper)
    }

    /// Sends a line, waits for the line that answers it.
    pub fn ask(&mut self, line: &str) -> Result<Value> {
        self.tell(line)?;
        let mut answer = String::new();
        let n =
            self.stdout.read_line(&mut answer).with_context(|| format!("read from helper {}", self.mode))?;
        if n == 0 {
            bail!("helper {} ended: {:?} (see its stderr above)", self.mode, self.child.wait()?);
        }
        serde_json::from_str(&answer).with_context(|| format!("helper {} said {answer:?}", self.mode))
    }

    /// Sends a line that has no answer.
    pub fn tell(&mut self, line: &str) -> Result<()> {
        let stdin = self.stdin.as_mut().context("the helper's stdin is closed")?;
        writeln!(stdin, "{line}").with_context(|| format!("write to helper {}", self.mode))
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL; gone when this returns. Without effect on one that is gone.
    pub fn kill9(&mut self) -> Result<()> {
        self.child.kill()?;
        let _ = self.child.wait()?;
        Ok(())
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.kill9();
    }
}

/// `GRAY_LAB_SERVER`, else `beside`.
pub fn binary() -> Result<PathBuf> {
    match std::env::var_os("GRAY_LAB_SERVER") {
        Some(path) => Ok(path.into()),
        None => beside("gray-lab-server").context("or set GRAY_LAB_SERVER"),
    }
}

/// A program of this crate, beside the running executable (a test's lies one directory below).
pub fn beside(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("find this executable")?;
    let found = own.ancestors().skip(1).take(2).map(|dir| dir.join(name)).find(|p| p.is_file());
    found.with_context(|| format!("{name} is not built: cargo build -p gray-tests"))
}
