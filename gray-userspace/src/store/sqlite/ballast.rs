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
/// A change takes some pages more.
const LITTLE: u64 = 256 << 10;

/// A file of the size that is held back.
#[derive(Debug)]
pub(super) struct Ballast {
    path: PathBuf,
    /// There is none, or not all of it.
    lacking: bool,
}

impl Ballast {
    /// Of the store with this file. Without room for it the store works all the same.
    pub fn of(store: &Path) -> Self {
        let path = store.with_file_name(FILE);
        let mut ballast = Self { lacking: !is_whole(&path), path };
        if let Err(e) = ballast.fill() {
            tracing::warn!(error = %e, path = %ballast.path.display(), "no room is held back for a full disk");
        }
        ballast
    }

    /// Of a store that has no file.
    #[cfg(any(test, feature = "fuzz"))]
    pub fn none() -> Self {
        Self { path: PathBuf::new(), lacking: false }
    }

    pub fn is_lacking(&self) -> bool {
        self.lacking
    }

    /// Whether a write finds no room; `None` between little and plenty, where only a write can tell.
    pub fn is_full(&self) -> Option<bool> {
        let room = self.path.parent().and_then(|dir| statvfs(dir).ok())?;
        // What is kept for root is room for an agent that is.
        let (free, plenty) = (room.f_bfree.saturating_mul(room.f_frsize), 2 * BYTES);
        if free < LITTLE { Some(true) } else { (free >= plenty).then_some(false) }
    }

    /// Takes the room again as soon as there is plenty. That there is none was said.
    pub fn refill(&mut self) {
        if self.lacking && self.fill().is_ok() {
            tracing::info!(path = %self.path.display(), "room is held back for a full disk again");
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        if !self.lacking {
            return Ok(());
        }
        let taken = take(&self.path);
        // A file system that cannot hold room back is not short of it.
        self.lacking = taken.as_ref().is_err_and(|e| e.raw_os_error() != Some(libc::EOPNOTSUPP));
        if taken.is_err() {
            let _ = std::fs::remove_file(&self.path);
        }
        taken
    }

    /// Whether there was any to give.
    pub fn give(&mut self) -> bool {
        self.lacking = true;
        if std::fs::remove_file(&self.path).is_err() {
            return false;
        }
        tracing::error!(path = %self.path.display(), "the disk is full: the room that was held back is given up");
        true
    }
}

fn is_whole(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|m| m.len() == BYTES)
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

    fn empty(s: &Sqlite) {
        let _: u32 = s.db.query_row("PRAGMA max_page_count = 1000000", [], |r| r.get(0)).unwrap();
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
        let _ = s.on_the_way_back(true);
        fill(&s);
        let before = s.audit(9, None).unwrap().len();
        assert!(s.record(&note(&long)).is_err());
        assert!(!ballast.exists(), "given up");
        assert!(s.made_room() && !s.made_room());
        assert_eq!(s.audit(9, None).unwrap().len(), before, "all or nothing");
        // There is none left, and still an error is an error.
        assert!(s.record(&note(&long)).is_err());
        assert!(!s.made_room());
        // The first write that finds room holds it back again.
        empty(&s);
        let _ = s.record(&note(&long)).unwrap();
        assert!(ballast.exists() && s.trouble().is_none());
        drop(s);
        std::fs::remove_file(&ballast).unwrap();
        let _again = Sqlite::open(&dir).unwrap();
        assert!(ballast.exists(), "the next agent holds it back again");
    }

    #[test]
    fn f7_an_edit_does_not_take_what_is_held_back_for_a_way_back() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = StateDir::open(tmp.path()).unwrap();
        let mut s = Sqlite::open(&dir).unwrap();
        let ballast = tmp.path().join(BALLAST);
        let long = "x".repeat(1 << 20);
        fill(&s);
        let draft = Draft::new(crate::store::Kind::Apply, None, 1, "ann", long.clone());
        for e in [
            s.record(&Note { at: 1, who: "ann", action: "a", detail: &long }).unwrap_err(),
            s.begin(&draft).unwrap_err(),
            s.trouble().unwrap(),
        ] {
            let text = e.to_string();
            let told =
                text.contains(&*tmp.path().to_string_lossy()) && text.contains("full: make room there");
            assert!(told, "{text}");
        }
        assert!(ballast.exists() && !s.made_room());
        let _ = s.on_the_way_back(true);
        assert!(s.begin(&draft).is_err());
        assert!(!ballast.exists() && s.made_room(), "a way back takes it");
        let _ = s.on_the_way_back(false);
        empty(&s);
        let _ = s.begin(&draft).unwrap();
        // Nothing else is written: somebody looks now and then.
        assert!(matches!(s.trouble(), Some(Error::NoBallast { .. })), "{:?}", s.trouble());
        s.hold_back();
        assert!(ballast.exists() && s.trouble().is_none());
    }

    #[test]
    fn h2_a_directory_that_is_gone_keeps_nothing_and_says_so() {
        for replaced in [false, true] {
            let tmp = tempfile::tempdir().unwrap();
            let at = tmp.path().join("state");
            let dir = StateDir::open(&at).unwrap();
            let mut s = Sqlite::open(&dir).unwrap();
            let note = Note { at: 1, who: "ann", action: "a", detail: "" };
            let _ = s.record(&note).unwrap();
            std::fs::remove_dir_all(&at).unwrap();
            if replaced {
                let _other = Sqlite::open(&StateDir::open(&at).unwrap()).unwrap();
            }
            let draft = Draft::new(crate::store::Kind::Apply, None, 1, "ann", String::new());
            for e in [s.record(&note).unwrap_err(), s.begin(&draft).unwrap_err(), s.trouble().unwrap()] {
                assert!(matches!(e, Error::Gone { .. }), "{e}");
                assert!(e.to_string().contains("was removed or replaced"), "{e}");
            }
            // People are taken back all the same.
            let _ = s.on_the_way_back(true);
            let _ = s.record(&note).unwrap();
        }
    }
}
