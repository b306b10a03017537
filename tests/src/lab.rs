//! The identity of one lab and what it may leave on the machine. It writes the record that lets another
//! process sweep it, before anything else is made, and removes it last.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};

use crate::cgroup::{self, Cgroup};
use crate::netns::Netns;
use crate::sweep::{self, Footprint};
use crate::sys;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// One lab: a temporary directory, a cgroup, a bpffs directory name and namespaces, all named after this
/// process. Several labs in one process and in several processes do not disturb each other.
pub struct Lab {
    procs: Arc<Cgroup>,
    root: Option<Cgroup>,
    footprint: Footprint,
}

impl Lab {
    /// Sweeps what dead labs left, then makes the record, the temporary directory and the cgroups.
    pub fn new() -> Result<Self> {
        if !sys::is_root() {
            bail!("the lab needs root (network namespaces, bpffs, cgroups): run it with sudo");
        }
        let _ = sweep::sweep().context("sweep the leftovers of dead labs")?;
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let footprint = Footprint::new(n, &cgroup::mount_point()?)?;
        footprint.record()?;
        fs::create_dir_all(&footprint.temp).with_context(|| format!("make {}", footprint.temp.display()))?;
        let root = Cgroup::create(&footprint.cgroup)?;
        let procs = Arc::new(root.child("procs")?);
        Ok(Self { procs, root: Some(root), footprint })
    }

    /// A new named network namespace `gl<pid>-<n>-<role>`; its loopback is down.
    pub fn netns(&self, role: &str) -> Result<Arc<Netns>> {
        let name = format!("{}{role}", self.footprint.netns_prefix());
        Ok(Arc::new(Netns::create(&name, Arc::clone(&self.procs))?))
    }

    /// The lab's own cgroup; the ones below it are made with `Cgroup::child`.
    pub fn cgroup(&self) -> &Cgroup {
        // Unwrap: it is taken in drop only.
        self.root.as_ref().unwrap()
    }

    /// Temporary directory of this lab, removed with it.
    pub fn temp(&self) -> &Path {
        &self.footprint.temp
    }

    /// `/sys/fs/bpf/gray-lab-<pid>-<n>`: named here, made by the agent, removed with the lab.
    pub fn bpffs(&self) -> PathBuf {
        self.footprint.bpffs.clone()
    }

    /// Process id and number in this process, as in all names of this lab.
    pub fn id(&self) -> (u32, u32) {
        (self.footprint.pid, self.footprint.n)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        drop(self.root.take());
        if let Err(e) = self.footprint.erase() {
            crate::command::note(&format!("lab {}: could not clean up: {e:#}", self.footprint.stem()));
        }
    }
}
