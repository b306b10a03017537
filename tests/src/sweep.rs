//! Records of labs and the removal of everything a lab made. It touches only what bears a lab's own name.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::{cgroup, netns, sys};

const RECORDS: &str = "/run/gray-lab";

/// What one lab may leave on the machine, with its owner: process id and start time, because ids are reused.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Footprint {
    pub pid: u32,
    /// Clock ticks after boot (`/proc/PID/stat`, field 22).
    pub started: u64,
    pub n: u32,
    pub temp: PathBuf,
    pub cgroup: PathBuf,
    pub bpffs: PathBuf,
}

impl Footprint {
    pub fn new(n: u32, cgroup_mount: &Path) -> Result<Self> {
        let pid = std::process::id();
        let started = start_time(pid).context("read the start time of this process")?;
        let stem = format!("gray-lab-{pid}-{n}");
        Ok(Self {
            pid,
            started,
            n,
            temp: std::env::temp_dir().join(&stem),
            cgroup: cgroup_mount.join(&stem),
            bpffs: Path::new("/sys/fs/bpf").join(&stem),
        })
    }

    pub fn stem(&self) -> String {
        format!("gray-lab-{}-{}", self.pid, self.n)
    }

    pub fn netns_prefix(&self) -> String {
        format!("gl{}-{}-", self.pid, self.n)
    }

    fn file(&self) -> PathBuf {
        Path::new(RECORDS).join(format!("{}.json", self.stem()))
    }

    /// Written by rename, so that a reader never sees half a record.
    pub fn record(&self) -> Result<()> {
        fs::create_dir_all(RECORDS).with_context(|| format!("make {RECORDS}"))?;
        let half = self.file().with_extension("new");
        fs::write(&half, serde_json::to_vec(self)?).with_context(|| format!("write {}", half.display()))?;
        fs::rename(&half, self.file()).with_context(|| format!("write {}", self.file().display()))
    }

    /// Of the agents: the first one's bears the stem, those of further ones have `-NAME` after it.
    fn bpffs_dirs(&self) -> Vec<PathBuf> {
        let ours = |p: &PathBuf| {
            let name = p.file_name().map(|n| n.to_string_lossy()).unwrap_or_default();
            name.strip_prefix(&self.stem()).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        };
        let all = self.bpffs.parent().and_then(|d| fs::read_dir(d).ok());
        all.into_iter().flatten().flatten().map(|e| e.path()).filter(ours).collect()
    }

    fn owner_lives(&self) -> bool {
        start_time(self.pid) == Some(self.started)
    }

    /// Kills what still runs in the lab's cgroup and removes all of it; the record goes last. Safe to repeat.
    pub fn erase(&self) -> Result<()> {
        let named = |p: &Path| p.file_name().is_some_and(|f| f.to_string_lossy() == self.stem());
        if named(&self.cgroup) {
            cgroup::remove_tree(&self.cgroup)?;
        }
        netns::remove_all(&self.netns_prefix())?;
        let temp = Some(self.temp.clone()).filter(|t| named(t) && t.exists());
        for dir in self.bpffs_dirs().into_iter().chain(temp) {
            fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
        }
        match fs::remove_file(self.file()) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(e).with_context(|| format!("remove {}", self.file().display()))
            }
            _ => Ok(()),
        }
    }
}

/// Removes the leftovers of labs whose process is dead; returns their names. Runs at every lab's start.
pub fn sweep() -> Result<Vec<String>> {
    fs::create_dir_all(RECORDS).with_context(|| format!("make {RECORDS}"))?;
    let lock = File::create(Path::new(RECORDS).join("lock")).context("open the lock of lab records")?;
    sys::lock(&lock).context("lock the lab records")?;
    let mut swept = Vec::new();
    for entry in fs::read_dir(RECORDS)? {
        let path = entry?.path();
        if path.extension().is_none_or(|e| e != "json") {
            continue;
        }
        // A lab may end, and remove its record, while we look.
        let Ok(text) = fs::read(&path) else { continue };
        let record: Footprint = serde_json::from_slice(&text)
            .with_context(|| format!("read the lab record {}", path.display()))?;
        if !record.owner_lives() {
            record.erase()?;
            swept.push(record.stem());
        }
    }
    Ok(swept)
}

/// Start time of a process in clock ticks; `None` for one that is gone or a zombie.
pub fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name may hold spaces and parentheses: fields are counted after the last one.
    let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}
