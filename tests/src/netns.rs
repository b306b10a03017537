//! Named network namespaces as guards, compatible with `ip netns`. It makes no interface.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, bail};

use crate::cgroup::Cgroup;
use crate::sys;

const DIR: &str = "/run/netns";

/// A namespace under `/run/netns`; a person reaches it with `ip netns exec NAME` or `nsenter --net=PATH`.
#[derive(Debug)]
pub struct Netns {
    name: String,
    file: Arc<File>,
    procs: Arc<Cgroup>,
}

impl Netns {
    /// `procs` is the cgroup of processes started here that name no other.
    pub fn create(name: &str, procs: Arc<Cgroup>) -> Result<Self> {
        prepare_dir().with_context(|| format!("prepare {DIR}"))?;
        let path = Path::new(DIR).join(name);
        let made = OpenOptions::new().write(true).create_new(true).open(&path);
        drop(made.with_context(|| format!("make {}", path.display()))?);
        match mount_new(&path) {
            Ok(file) => Ok(Self { name: name.to_owned(), file: Arc::new(file), procs }),
            Err(e) => {
                let _ = fs::remove_file(&path);
                Err(e).with_context(|| format!("make the network namespace {name}"))
            }
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn path(&self) -> PathBuf {
        Path::new(DIR).join(&self.name)
    }

    /// Runs `f` on a fresh thread inside the namespace. Do not start child processes that shall live longer
    /// than `f` in it: they die with their thread.
    ///
    /// # Panics
    /// When the thread cannot enter, and with the panic of `f`.
    pub fn enter<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        let inside = || {
            // Unwrap: the descriptor is an open namespace; it fails only without privileges, as creation would.
            sys::setns_net(self.file.as_fd()).unwrap();
            f()
        };
        match std::thread::scope(|s| s.spawn(inside).join()) {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// A command whose process runs in this namespace and in the lab's own cgroup, has no stdin, and is
    /// killed when the thread that spawns it ends: spawn from the thread that holds the lab.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        self.command_in(program, &self.procs)
    }

    /// The same in a cgroup of your choice.
    pub fn command_in(&self, program: impl AsRef<std::ffi::OsStr>, cgroup: &Cgroup) -> Command {
        let mut command = Command::new(program);
        cgroup.join(&mut command);
        let (ns, parent) = (Arc::clone(&self.file), std::process::id());
        let hook = move || {
            sys::setns_net(ns.as_fd())?;
            sys::die_with_parent(parent)
        };
        // SAFETY: setns, prctl and getppid are plain system calls; nothing is allocated or locked.
        let _ = unsafe { command.pre_exec(hook) }.stdin(Stdio::null());
        command
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        if let Err(e) = remove(&self.name) {
            crate::command::note(&format!("namespace {}: could not remove: {e:#}", self.name));
        }
    }
}

/// Removes every namespace whose name starts with `prefix` (which must name a lab).
pub fn remove_all(prefix: &str) -> Result<()> {
    if !prefix.starts_with("gl") || !prefix.ends_with('-') {
        bail!("{prefix} is no prefix of a lab's namespaces");
    }
    let Ok(entries) = fs::read_dir(DIR) else { return Ok(()) };
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with(prefix) {
            remove(&name)?;
        }
    }
    Ok(())
}

fn remove(name: &str) -> Result<()> {
    let path = Path::new(DIR).join(name);
    match sys::unmount(&path) {
        // Not mounted: creation did not get that far, or it is gone.
        Err(e) if !matches!(e.raw_os_error(), Some(libc::EINVAL | libc::ENOENT)) => {
            return Err(e).with_context(|| format!("unmount {}", path.display()));
        }
        _ => {}
    }
    match fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// As `ip netns add` does: a shared mount, so that a namespace removed here is gone in every mount namespace.
fn prepare_dir() -> io::Result<()> {
    let dir = Path::new(DIR);
    fs::create_dir_all(dir)?;
    let lock = File::open(dir)?;
    sys::lock(&lock)?;
    match sys::make_shared(dir) {
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {
            sys::bind_mount(dir, dir, true)?;
            sys::make_shared(dir)
        }
        other => other,
    }
}

fn mount_new(path: &Path) -> io::Result<File> {
    let made = std::thread::scope(|s| {
        let make = || {
            sys::unshare_net()?;
            sys::bind_mount(Path::new("/proc/thread-self/ns/net"), path, false)
        };
        s.spawn(make).join()
    });
    match made {
        Ok(result) => result?,
        Err(panic) => std::panic::resume_unwind(panic),
    }
    File::open(path)
}
