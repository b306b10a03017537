//! A lock on a directory that cannot hold a lock file (bpffs holds only pins), and who has it. Never waits.

use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// flock on the directory itself, as long as this lives.
#[derive(Debug)]
pub struct DirLock {
    _dir: File,
}

#[derive(Debug, thiserror::Error)]
pub enum DirLockError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path} is in use by {}; give this agent a directory of its own", owner(.holder))]
    Held { path: PathBuf, holder: Option<u32> },
}

fn owner(pid: &Option<u32>) -> String {
    pid.map_or_else(|| "another process".into(), |p| format!("process {p}"))
}

impl DirLock {
    /// # Errors
    /// [`DirLockError::Held`] with the pid when it is visible from here.
    pub fn take(path: &Path) -> Result<Self, DirLockError> {
        let io = |source| DirLockError::Io { path: path.to_owned(), source };
        let dir = File::open(path).map_err(io)?;
        match dir.try_lock() {
            Ok(()) => Ok(Self { _dir: dir }),
            Err(TryLockError::WouldBlock) => {
                Err(DirLockError::Held { path: path.to_owned(), holder: holder(path) })
            }
            Err(TryLockError::Error(e)) => Err(io(e)),
        }
    }
}

/// The process that holds the flock on `path`, without touching the lock. `None`: nobody, or nobody visible.
pub fn holder(path: &Path) -> Option<u32> {
    let meta = fs::metadata(path).ok()?;
    find(&fs::read_to_string("/proc/locks").ok()?, meta.dev(), meta.ino())
}

/// Reads the form of `/proc/locks`: `1: FLOCK  ADVISORY  WRITE 1234 00:1f:12345 0 EOF` (device numbers in hex).
fn find(locks: &str, dev: u64, ino: u64) -> Option<u32> {
    let device = (u64::from(libc::major(dev)), u64::from(libc::minor(dev)));
    locks.lines().find_map(|line| {
        // A waiter's line has an arrow more: `1: -> FLOCK ..`.
        let mut fields = line.split_whitespace().skip(1);
        if fields.next()? != "FLOCK" {
            return None;
        }
        let pid = fields.nth(2)?.parse().ok().filter(|p| *p > 0)?;
        let mut at = fields.next()?.split(':');
        let mut hex = || u64::from_str_radix(at.next()?, 16).ok();
        let found = (hex()?, hex()?);
        (found == device && at.next()?.parse() == Ok(ino)).then_some(pid)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_taker_is_told_who() {
        let tmp = tempfile::tempdir().unwrap();
        assert_eq!(holder(tmp.path()), None);
        let first = DirLock::take(tmp.path()).unwrap();
        let e = DirLock::take(tmp.path()).unwrap_err();
        assert!(matches!(e, DirLockError::Held { holder: Some(p), .. } if p == std::process::id()), "{e}");
        assert_eq!(holder(tmp.path()), Some(std::process::id()));
        drop(first);
        let _again = DirLock::take(tmp.path()).unwrap();
    }

    #[test]
    fn reads_proc_locks() {
        let text = "1: POSIX  ADVISORY  WRITE 7 fe:00:9 0 EOF\n2: FLOCK  ADVISORY  WRITE 12 00:1f:9 0 EOF\n\
                    2: -> FLOCK  ADVISORY  WRITE 13 00:1f:9 0 EOF\n3: FLOCK  ADVISORY  WRITE -1 00:1f:10 0 EOF\nx\n";
        assert_eq!(find(text, libc::makedev(0, 0x1f), 9), Some(12));
        assert_eq!(find(text, libc::makedev(0xfe, 0), 9), None, "another kind of lock");
        assert_eq!(find(text, libc::makedev(0, 0x1f), 10), None, "a holder in another PID namespace");
    }
}
