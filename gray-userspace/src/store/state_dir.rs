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
    if let Err(error) = sign(&mut file) {
        // The lock is what counts. A disk that is full keeps nobody from starting.
        tracing::warn!(dir = %dir.display(), %error, "cannot note who has the state directory");
    }
    Ok(Some(file))
}

/// Who holds it, for who comes second.
fn sign(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
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

    const CHILD: &str = "GRAY_TEST_STATE_DIR_ON_A_FULL_DISK";

    /// In a process that may not write to any file, which fails as a full disk does.
    #[test]
    fn h2_a_full_disk_keeps_nobody_from_the_lock() {
        if let Some(path) = std::env::var_os(CHILD) {
            let dir = StateDir::open(Path::new(&path)).unwrap();
            assert!(std::fs::write(dir.path().join("any"), "text").is_err(), "the disk is not full");
            let Err(Error::Locked { holder, .. }) = StateDir::open(dir.path()) else { panic!("two holders") };
            assert_eq!(holder, "another process");
            return;
        }
        let tmp = tempfile::tempdir().unwrap();
        let name = "store::state_dir::tests::h2_a_full_disk_keeps_nobody_from_the_lock";
        let child = std::process::Command::new("sh")
            .args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$@\"", "sh"])
            .arg(std::env::current_exe().unwrap())
            .args([name, "--exact", "--nocapture", "--test-threads=1"])
            .env(CHILD, tmp.path())
            .output()
            .unwrap();
        assert!(String::from_utf8_lossy(&child.stdout).contains("1 passed"), "{child:?}");
    }

    #[test]
    fn lock_file_that_is_a_link_is_refused() {
        let tmp = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/null", tmp.path().join(LOCK)).unwrap();
        assert!(matches!(StateDir::open(tmp.path()), Err(Error::Dir { .. })));
    }
}
