//! Child processes: one way to start them, and errors that name the command. Knows nothing of the project's verbs.

use std::{
    env,
    ffi::OsStr,
    io::{Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

/// The same cargo that started xtask, in `dir`.
pub fn cargo(dir: &Path) -> Command {
    let mut cmd = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let _ = cmd.current_dir(dir);
    // `cargo run` tells xtask about xtask; that is nobody else's business.
    for (key, _) in env::vars_os() {
        let name = key.to_string_lossy();
        if name.starts_with("CARGO_PKG_")
            || name.starts_with("CARGO_MANIFEST_")
            || name.starts_with("CARGO_BIN_")
        {
            let _ = cmd.env_remove(&key);
        }
    }
    cmd
}

/// Takes everything out of a cargo command that changes how or where it compiles: flags, wrappers, profiles, target
/// directories. What says where crates come from (home, network, registries) stays.
pub fn without_build_settings(cmd: &mut Command) -> &mut Command {
    const KEEP: [&str; 6] =
        ["CARGO_HOME", "CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTR", "CARGO_SOURCE_", "CARGO_TERM_"];
    const DROP: [&str; 6] = [
        "RUSTFLAGS",
        "RUSTDOCFLAGS",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_BOOTSTRAP",
        "LD_LIBRARY_PATH",
    ];
    for (key, _) in env::vars_os() {
        let name = key.to_string_lossy();
        let cargos = name.starts_with("CARGO_") && !KEEP.iter().any(|k| name.starts_with(k));
        if cargos || DROP.contains(&name.as_ref()) {
            let _ = cmd.env_remove(&key);
        }
    }
    cmd
}

/// Runs with our own stdin, stdout and stderr.
pub fn show(cmd: &mut Command) -> Result<()> {
    let status = cmd.status().with_context(|| format!("cannot start `{}`", line(cmd)))?;
    if !status.success() {
        bail!("`{}` failed ({status})", line(cmd));
    }
    Ok(())
}

/// Runs silently; its stdout, or an error with the last lines of its stderr.
pub fn capture(cmd: &mut Command) -> Result<String> {
    let out = cmd.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{}`", line(cmd)))?;
    if !out.status.success() {
        let text = String::from_utf8_lossy(&out.stderr);
        let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
        let tail = lines[lines.len().saturating_sub(8)..].join("\n  ");
        bail!("`{}` failed ({}):\n  {tail}", line(cmd), out.status);
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// Runs silently for at most `limit`, then kills it. For things that hang on a closed network.
pub fn capture_within(cmd: &mut Command, limit: Duration) -> Result<()> {
    let mut log = tempfile::tempfile().context("a temporary file")?;
    let mut child = cmd
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log.try_clone()?)
        .spawn()
        .with_context(|| format!("cannot start `{}`", line(cmd)))?;
    let end = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if Instant::now() >= end {
            child.kill()?;
            let _ = child.wait()?;
            break None;
        }
        thread::sleep(Duration::from_millis(50));
    };
    let mut text = String::new();
    let _ = log.rewind().and_then(|()| log.read_to_string(&mut text));
    match status {
        Some(s) if s.success() => Ok(()),
        Some(_) => bail!("`{}`: {}", line(cmd), reason(&text)),
        None => bail!("`{}`: no end after {} s", line(cmd), limit.as_secs()),
    }
}

/// The line of a log that says why: the last that names an error, else the last.
fn reason(log: &str) -> &str {
    let lines = || log.lines().map(str::trim).filter(|l| !l.is_empty());
    lines()
        .rfind(|l| l.contains("error") || l.contains("fatal"))
        .or_else(|| lines().next_back())
        .unwrap_or("no reason given")
}

/// Where `name` is on the path of this process or in the directories of system tools.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    // A user's PATH often lacks sbin, where ip, nginx and bpftool are.
    let dirs = env::split_paths(&path).chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from));
    dirs.map(|d| d.join(name)).find(|p| p.is_file())
}

/// One line to stderr.
pub fn complain(text: &str) {
    // A closed stderr is no reason to fail.
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn line(cmd: &Command) -> String {
    let name = Path::new(cmd.get_program()).file_name().unwrap_or(cmd.get_program());
    let words: Vec<_> = std::iter::once(name).chain(cmd.get_args()).map(OsStr::to_string_lossy).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_command_and_its_reason() {
        let e = capture(Command::new("sh").args(["-c", "echo why >&2; exit 3"])).unwrap_err().to_string();
        assert!(e.contains("sh -c") && e.contains("why") && e.contains('3'), "{e}");
        let e = capture_within(
            Command::new("sh").args(["-c", "echo error: no route >&2; echo x >&2; exit 1"]),
            Duration::from_secs(9),
        );
        assert!(e.unwrap_err().to_string().ends_with("error: no route"));
    }

    #[test]
    fn a_hanging_command_is_ended() {
        let start = Instant::now();
        let e = capture_within(Command::new("sleep").arg("60"), Duration::from_millis(200)).unwrap_err();
        assert!(e.to_string().contains("no end"), "{e}");
        assert!(start.elapsed() < Duration::from_secs(20));
    }
}
