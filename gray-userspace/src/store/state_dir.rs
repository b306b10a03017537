//! The state directory: made 0700, locked by one process. Knows nothing of what is stored inside.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::{Error, Result};

const LOCK: &str = "lock";

/// Holds the lock as long as it lives; a process that dies gives it back.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: File,
}

impl StateDir {
    /// Makes the directory when it is missing (parents too) and locks it (flock on `lock`).
    ///
    /// # Errors
    /// [`Error::Locked`] names the pid that holds it.
    pub fn open(path: &Path) -> Result<Self> {
        let dir = |source| Error::Dir { path: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(dir)?;
        // Without links in it, so that SQLite may refuse links.
        let path = path.canonicalize().map_err(dir)?;
        let lock = lock(&path)
            .map_err(dir)?
            .ok_or_else(|| Error::Locked { holder: holder(&path), path: path.clone() })?;
        Ok(Self { path, _lock: lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// `None`: another process (or another handle of this one) holds it.
fn lock(dir: &Path) -> io::Result<Option<File>> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(dir.join(LOCK))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => return Ok(None),
        Err(std::fs::TryLockError::Error(e)) => return Err(e),
    }
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())?;
    Ok(Some(file))
}

fn holder(dir: &Path) -> String {
    let mut text = String::new();
    let read = File::open(dir.join(LOCK)).and_then(|f| f.take(32).read_to_string(&mut text));
    match (read, text.trim().parse::<u32>()) {
        (Ok(_), Ok(pid)) => format!("process {pid}"),
        _ => "another process".into(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn second_holder_is_refused_and_told_the_pid() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("a/state");
        let first = StateDir::open(&path).unwrap();
        let Err(Error::Locked { holder, .. }) = StateDir::open(&path) else { panic!("two holders") };
        assert_eq!(holder, format!("process {}", std::process::id()));
        drop(first);
        let _again = StateDir::open(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn lock_file_that_is_a_link_is_refused() {
        let tmp = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/null", tmp.path().join(LOCK)).unwrap();
        assert!(matches!(StateDir::open(tmp.path()), Err(Error::Dir { .. })));
    }
}
