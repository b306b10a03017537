//! cgroup v2 directories as guards, and how a child process joins one. It enables no controllers.

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{pace, sys};

/// A cgroup v2 directory. A drop kills what runs in it and removes it with everything below.
///
/// Only whole processes join (v2 moves single threads inside one threaded domain only), so in-lab callers
/// of a cgroup are child processes; see `client::Load`.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    procs: Arc<File>,
}

/// Where cgroup2 is mounted, from `/proc/mounts`.
pub fn mount_point() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").context("read /proc/mounts")?;
    let found = mounts.lines().find_map(|line| {
        let mut words = line.split(' ');
        let (_, at, kind) = (words.next()?, words.next()?, words.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(at))
    });
    found.context("no cgroup2 file system is mounted")
}

impl Cgroup {
    pub fn create(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("make cgroup {}", path.display()))?;
        let file = path.join("cgroup.procs");
        let procs = OpenOptions::new().write(true).open(&file);
        let procs = procs.with_context(|| format!("open {}", file.display()))?;
        Ok(Self { path: path.to_path_buf(), procs: Arc::new(procs) })
    }

    /// A cgroup below this one.
    pub fn child(&self, name: &str) -> Result<Self> {
        Self::create(&self.path.join(name))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The id that `bpf_get_current_cgroup_id` gives: the directory's inode number.
    pub fn id(&self) -> Result<u64> {
        Ok(fs::metadata(&self.path)?.ino())
    }

    /// The child joins before it runs its program.
    pub fn join(&self, command: &mut Command) {
        let procs = Arc::clone(&self.procs);
        let hook = move || sys::write_once(procs.as_fd(), b"0");
        // SAFETY: the hook makes one write(2), which is async-signal-safe, and allocates nothing.
        let _ = unsafe { command.pre_exec(hook) };
    }

    /// Processes in this cgroup (not below it).
    pub fn pids(&self) -> Result<Vec<u32>> {
        let text = fs::read_to_string(self.path.join("cgroup.procs"))?;
        Ok(text.lines().filter_map(|l| l.parse().ok()).collect())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Err(e) = remove_tree(&self.path) {
            crate::command::note(&format!("cgroup {}: could not remove: {e:#}", self.path.display()));
        }
    }
}

/// Kills everything at and below `path`, waits for it to be empty and removes it. Fine when it is gone.
pub fn remove_tree(path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if own.lines().any(|l| l.starts_with("0::") && l.split('/').any(|part| part == name)) {
        bail!("this process is inside {}", path.display());
    }
    fs::write(path.join("cgroup.kill"), "1").with_context(|| format!("kill all in {}", path.display()))?;
    let give_up = Instant::now() + pace::patience(Duration::from_secs(5));
    loop {
        match remove_dirs(path) {
            Ok(()) => return Ok(()),
            Err(e) if Instant::now() > give_up => {
                return Err(e).with_context(|| format!("remove cgroup {}", path.display()));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

fn remove_dirs(path: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_dirs(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}
