//! Room on the disk that is given up when there is no other: what takes a release back must be written down, too.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rusqlite::{ErrorCode, ffi};
use rustix::fs::{FallocateFlags, fallocate, statvfs};

use super::Fail;

pub const FILE: &str = "ballast";
/// A way back of a release takes some dozen pages.
const BYTES: u64 = 4 << 20;

/// None: nothing is held back.
#[derive(Debug, Default)]
pub(super) struct Ballast(Option<PathBuf>);

impl Ballast {
    /// Of the store with this file. Without room for it the store works all the same.
    pub fn of(store: &Path) -> Self {
        let ballast = Self(Some(store.with_file_name(FILE)));
        ballast.fill();
        ballast
    }

    /// Takes the room where there is plenty.
    pub fn fill(&self) {
        let Some(path) = &self.0 else { return };
        if std::fs::metadata(path).is_ok_and(|m| m.len() == BYTES) {
            return;
        }
        if let Err(e) = take(path) {
            tracing::warn!(error = %e, path = %path.display(), "no room is held back for a full disk");
            let _ = std::fs::remove_file(path);
        }
    }

    /// Whether there was any to give.
    pub fn give(&self) -> bool {
        let Some(path) = self.0.as_ref().filter(|p| std::fs::remove_file(p).is_ok()) else { return false };
        tracing::error!(path = %path.display(), "the disk is full: the room that was held back is given up");
        true
    }
}

fn take(path: &Path) -> io::Result<()> {
    let room = path.parent().map(statvfs).transpose()?;
    if room.is_some_and(|r| r.f_bavail.saturating_mul(r.f_frsize) < 2 * BYTES) {
        return Err(io::Error::other("the disk is nearly full"));
    }
    let file: File = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)?;
    Ok(fallocate(&file, FallocateFlags::empty(), 0, BYTES)?)
}

/// There was no room for it.
pub(super) fn is_full(fail: &Fail) -> bool {
    let Fail::Sql(e) = fail else { return false };
    let shared = e.sqlite_error().is_some_and(|e| e.extended_code == ffi::SQLITE_IOERR_SHMSIZE);
    shared || e.sqlite_error_code() == Some(ErrorCode::DiskFull)
}

#[cfg(test)]
mod tests {
    use super::{super::*, BYTES};

    /// As a full disk does: not one page more.
    fn fill(s: &Sqlite) {
        let pages: u32 = s.db.query_row("PRAGMA page_count", [], |r| r.get(0)).unwrap();
        let _: u32 = s.db.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |r| r.get(0)).unwrap();
    }

    #[test]
    fn f7_a_full_disk_gives_up_what_was_held_back() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = StateDir::open(tmp.path()).unwrap();
        let mut s = Sqlite::open(&dir).unwrap();
        let ballast = tmp.path().join(BALLAST);
        assert_eq!(std::fs::metadata(&ballast).unwrap().len(), BYTES);
        let long = "x".repeat(1 << 20);
        let note = |detail| Note { at: 1, who: "ann", action: "a", detail };
        fill(&s);
        let before = s.audit(9, None).unwrap().len();
        assert!(s.record(&note(&long)).is_err());
        assert!(!ballast.exists(), "given up");
        assert!(s.made_room() && !s.made_room());
        assert_eq!(s.audit(9, None).unwrap().len(), before, "all or nothing");
        let _: u32 = s.db.query_row("PRAGMA max_page_count = 1000000", [], |r| r.get(0)).unwrap();
        let _ = s.record(&note(&long)).unwrap();
        // There is none left, and still an error is an error.
        fill(&s);
        assert!(s.record(&note(&long)).is_err());
        assert!(!s.made_room());
        drop(s);
        let _again = Sqlite::open(&dir).unwrap();
        assert!(ballast.exists(), "the next agent holds it back again");
    }
}
