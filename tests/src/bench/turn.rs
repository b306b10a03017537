//! Turns on a machine that is shared: files that are locked while something is measured.

use std::fs::File;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::sys;

static FILES: OnceLock<Vec<PathBuf>> = OnceLock::new();

/// Nobody is kept waiting for longer than this and a round.
const AT_MOST: Duration = Duration::from_secs(120);

/// The files to lock, in this order, while rounds run. None: the machine is ours.
pub fn take_turns_by(files: Vec<PathBuf>) {
    let _ = FILES.set(files);
}

/// The machine is ours until the drop.
#[derive(Debug)]
pub struct Turn {
    locks: Vec<File>,
    since: Instant,
}

impl Turn {
    pub fn wait() -> Result<Self> {
        let lock = |path: &PathBuf| {
            let file = File::options().create(true).append(true).open(path);
            let file = file.with_context(|| format!("open {}", path.display()))?;
            sys::lock(&file).with_context(|| format!("lock {}", path.display()))?;
            Ok(file)
        };
        let locks = FILES.get().into_iter().flatten().map(lock).collect::<Result<_>>()?;
        Ok(Self { locks, since: Instant::now() })
    }

    /// Others wait, and have done so for long enough.
    pub fn is_over(&self) -> bool {
        !self.locks.is_empty() && self.since.elapsed() > AT_MOST
    }
}
