//! One probe: what is asked, and what counts as an answer. Decides nothing.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use super::{command, http, targets::Probed};
use crate::{
    kernel::Unsteered,
    model::{Health, Millis, Probe},
};

/// Characters of what a probe has to say.
const TEXT: usize = 160;

/// What one probe needs to know.
#[derive(Clone, Debug)]
pub struct Spec {
    pub service: String,
    pub instance: String,
    /// With the port of the check.
    pub address: SocketAddr,
    pub check: Arc<Health>,
}

/// What all probes share.
pub struct Means {
    /// Keeps the connect path from steering a probe: it goes to the instance that it asks about.
    pub unsteered: Unsteered,
    /// The programs that checks may run; none: no check by command.
    pub commands: Option<PathBuf>,
    /// What tells this agent's programs from others', over its lives.
    pub mark: String,
}

/// Why a probe did not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The instance's: it counts.
    Instance(String),
    /// The agent's own, or its machine's.
    Own(String),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Instance(text) | Self::Own(text) => f.write_str(text),
        }
    }
}

impl From<String> for Fault {
    fn from(text: String) -> Self {
        Self::Instance(text)
    }
}

/// Ends after the check's time-out at the latest.
pub async fn probe(spec: &Spec, means: &Means) -> Probed {
    let began = Instant::now();
    let within = Duration::from_millis(u64::from(spec.check.timeout_ms));
    let done = match &spec.check.probe {
        // It ends its program by itself.
        Probe::Command(words) => match &means.commands {
            Some(dir) => command::run(dir, words, (spec, &means.mark), within).await,
            None => Err(Fault::Own("not asked: this agent has no --health-commands directory".into())),
        },
        asked => match timeout(within, over_tcp(spec, asked, means)).await {
            Ok(done) => done,
            Err(_) => Err(format!("no answer within {}", Millis(spec.check.timeout_ms)).into()),
        },
    };
    let took_us = began.elapsed().as_micros() as u64;
    let (passed, text) = match done {
        Ok(text) => (Some(true), text),
        Err(Fault::Instance(text)) => (Some(false), text),
        Err(Fault::Own(text)) => (None, text),
    };
    Probed { passed, text: short(&text), took_us }
}

async fn over_tcp(spec: &Spec, asked: &Probe, means: &Means) -> Result<String, Fault> {
    let stream = connect(spec.address, means).await.map_err(|e| {
        let text = format!("connect: {}", plain(&e));
        if is_own(&e) { Fault::Own(text) } else { Fault::Instance(text) }
    })?;
    match asked {
        Probe::Http { path, status, host } => {
            let host = host.clone().unwrap_or_else(|| spec.address.to_string());
            Ok(http::get(stream, &host, path, *status).await?)
        }
        _ => Ok("accepted".into()),
    }
}

/// No descriptors, memory or ports, or not the right to ask.
fn is_own(e: &std::io::Error) -> bool {
    let own = [
        libc::EMFILE,
        libc::ENFILE,
        libc::ENOMEM,
        libc::ENOBUFS,
        libc::EADDRNOTAVAIL,
        libc::EAGAIN,
        libc::EPERM,
        libc::EACCES,
    ];
    e.raw_os_error().is_some_and(|code| own.contains(&code))
}

/// In the agent's network namespace, which is that of its threads.
async fn connect(to: SocketAddr, means: &Means) -> std::io::Result<TcpStream> {
    let socket = match to.ip() {
        IpAddr::V4(_) => TcpSocket::new_v4()?,
        IpAddr::V6(_) => TcpSocket::new_v6()?,
    };
    means.unsteered.pass(&socket)?;
    socket.connect(to).await
}

/// `Connection refused`, without the number that the standard library adds.
pub(in crate::agent) fn plain(e: &std::io::Error) -> String {
    let text = e.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

/// One line of a length that fits a table.
pub(super) fn short(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|l| !l.is_empty()).unwrap_or_default();
    let clean = line.chars().map(|c| if c.is_control() { '?' } else { c });
    let mut out: String = clean.take(TEXT + 1).collect();
    if out.chars().count() > TEXT {
        out = out.chars().take(TEXT - 3).collect::<String>() + "...";
    }
    out
}

/// A program of the directory, which only its owner may change: a policy names it, the machine's administrator put it there.
pub(in crate::agent) fn program(dir: &Path, name: &str) -> Result<PathBuf, String> {
    use std::os::unix::fs::PermissionsExt as _;
    let path = dir.join(name);
    let meta = unchanged(dir, &path)?;
    match meta.is_file() && meta.permissions().mode() & 0o111 != 0 {
        true => Ok(path),
        false => Err(format!("{} is no program", path.display())),
    }
}

/// What this file of the directory is, if nobody but root and the agent's user can change or replace it: the directory, the name in it,
/// and where that is a link, what it leads to.
pub(in crate::agent) fn unchanged(dir: &Path, path: &Path) -> Result<std::fs::Metadata, String> {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let told = |path: &Path, e: &std::io::Error| format!("{}: {}", path.display(), plain(e));
    let user = rustix::process::geteuid().as_raw();
    let ours = |meta: &std::fs::Metadata| meta.uid() == 0 || meta.uid() == user;
    let held = |path: &Path| {
        let meta = std::fs::metadata(path).map_err(|e| told(path, &e))?;
        match meta.permissions().mode() & 0o022 != 0 || !ours(&meta) {
            true => Err(format!("{} may be changed by others", path.display())),
            false => Ok(meta),
        }
    };
    let _ = held(dir)?;
    let link = std::fs::symlink_metadata(path).map_err(|e| told(path, &e))?;
    if !link.is_symlink() {
        return held(path);
    }
    if !ours(&link) {
        return Err(format!("{} may be changed by others", path.display()));
    }
    let real = path.canonicalize().map_err(|e| told(path, &e))?;
    let _ = real.parent().map(held).transpose()?;
    held(&real)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_want_of_descriptors_is_not_the_instances_fault() {
        let of = |code| is_own(&std::io::Error::from_raw_os_error(code));
        assert!(of(libc::EMFILE) && of(libc::EADDRNOTAVAIL));
        assert!(!of(libc::ECONNREFUSED) && !of(libc::EHOSTUNREACH) && !of(libc::ECONNRESET));
    }

    #[test]
    fn what_a_probe_says_is_one_short_line() {
        assert_eq!(short("\n  disk\tfull \nmore"), "disk?full");
        assert_eq!(short(""), "");
        let long = short(&"x".repeat(500));
        assert_eq!((long.len(), long.ends_with("...")), (TEXT, true));
        assert_eq!(short(&"é".repeat(TEXT)), "é".repeat(TEXT));
    }

    #[test]
    fn only_programs_that_others_cannot_change_are_run() {
        use std::{fs, os::unix::fs::PermissionsExt as _};
        let dir = tempfile::tempdir().unwrap();
        for (name, mode, why) in [
            ("good", 0o755, None),
            ("own", 0o700, None),
            ("data", 0o644, Some("is no program")),
            ("open", 0o777, Some("changed by others")),
            ("group", 0o775, Some("changed by others")),
        ] {
            let path = dir.path().join(name);
            fs::write(&path, "#!/bin/sh\n").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let found = program(dir.path(), name);
            match why {
                None => assert_eq!(found, Ok(path)),
                Some(why) => assert!(found.as_ref().is_err_and(|e| e.contains(why)), "{name}: {found:?}"),
            }
        }
        assert!(program(dir.path(), "none").unwrap_err().contains("no such file"));
    }

    #[test]
    fn a_directory_that_others_can_change_has_no_programs() {
        use std::{fs, os::unix::fs::PermissionsExt as _};
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (path, real) = (dir.path().join("check"), other.path().join("real"));
        for path in [&path, &real] {
            fs::write(path, "#!/bin/sh\n").unwrap();
            mode(path, 0o755);
        }
        assert!(program(dir.path(), "check").is_ok());
        // Whoever may write to the directory may put another file there.
        mode(dir.path(), 0o777);
        assert!(program(dir.path(), "check").unwrap_err().ends_with("may be changed by others"));
        mode(dir.path(), 0o755);
        // A link: what it leads to, and where that is.
        std::os::unix::fs::symlink(&real, dir.path().join("link")).unwrap();
        assert_eq!(program(dir.path(), "link"), Ok(dir.path().join("link")));
        mode(other.path(), 0o777);
        assert!(program(dir.path(), "link").unwrap_err().contains("may be changed by others"));
        mode(other.path(), 0o755);
        mode(&real, 0o775);
        assert!(program(dir.path(), "link").unwrap_err().contains("may be changed by others"));
    }
}
