//! The fleet's hash key: 16 random bytes in `hash.key`, made once, replaced as a whole. Never printed but by `to_hex`.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use super::StateDir;
use crate::fail::{self, Point};

const FILE: &str = "hash.key";
/// A key on its way to become the node's.
const STAGED: &str = ".hash.key.new";

/// Every percentage and list hash of the fleet hangs on this: another key reshuffles everybody.
#[derive(Clone, PartialEq, Eq)]
pub struct HashKey([u8; 16]);

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("hash key {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "hash key {path}: readable by others (mode {mode:o}); chmod 600 it, and replace the key if it may have leaked"
    )]
    Open { path: PathBuf, mode: u32 },
    #[error("a hash key is 32 hex digits")]
    Text,
    #[error("hash key {path}: not 32 hex digits")]
    Damaged { path: PathBuf },
}

impl HashKey {
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub fn bytes(&self) -> [u8; 16] {
        self.0
    }

    /// 32 lowercase hex digits: what `gray key export` prints.
    pub fn to_hex(&self) -> String {
        self.0.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// # Errors
    /// [`KeyError::Text`]; white space around is allowed, nothing else.
    pub fn from_hex(text: &str) -> Result<Self, KeyError> {
        let text = text.trim().as_bytes();
        let mut key = [0; 16];
        if text.len() != 32 {
            return Err(KeyError::Text);
        }
        for (byte, pair) in key.iter_mut().zip(text.chunks_exact(2)) {
            let digit = |c: u8| (c as char).to_digit(16).ok_or(KeyError::Text);
            // Two hex digits fit a byte.
            *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
        }
        Ok(Self(key))
    }

    /// Where a node has its key.
    pub fn path(dir: &StateDir) -> PathBuf {
        dir.path().join(FILE)
    }

    /// The node's key, if it has one.
    pub fn load(dir: &StateDir) -> Result<Option<Self>, KeyError> {
        read(&Self::path(dir))
    }

    /// Another one each time.
    pub fn random() -> io::Result<Self> {
        let mut random = [0; 16];
        File::open("/dev/urandom")?.read_exact(&mut random)?;
        Ok(Self(random))
    }

    /// Makes this the key of a node that has none; the one that it has then. Two makers end up with one key.
    pub fn create(&self, dir: &StateDir) -> Result<Self, KeyError> {
        let path = Self::path(dir);
        let io = |source| KeyError::Io { path: path.clone(), source };
        let temp = write_temp(dir.path(), self).map_err(io)?;
        // A link fails where a rename would replace: the key of a faster maker stays.
        let linked = fs::hard_link(&temp, &path);
        fs::remove_file(&temp).map_err(io)?;
        match linked {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(io(e)),
            _ => sync(dir.path()).map_err(io)?,
        }
        read(&path)?.ok_or_else(|| io(io::ErrorKind::NotFound.into()))
    }

    /// Replaces the node's key; afterwards it is durable, and a crash leaves the old or the new one.
    pub fn import(&self, dir: &StateDir) -> Result<(), KeyError> {
        self.stage(dir)?;
        Self::take_staged(dir)
    }

    /// Puts the key, durable, beside the node's own, which stays the one in use until [`Self::take_staged`].
    pub fn stage(&self, dir: &StateDir) -> Result<(), KeyError> {
        write_temp(dir.path(), self)
            .and_then(|_| sync(dir.path()))
            .map_err(|source| KeyError::Io { path: dir.path().join(STAGED), source })
    }

    /// The key that was staged and not taken; `None` also when the last maker died while writing it.
    pub fn staged(dir: &StateDir) -> Option<Self> {
        read(&dir.path().join(STAGED)).ok().flatten()
    }

    /// The staged key replaces the node's.
    pub fn take_staged(dir: &StateDir) -> Result<(), KeyError> {
        let path = dir.path().join(FILE);
        fs::rename(dir.path().join(STAGED), &path)
            .and_then(|()| sync(dir.path()))
            .map_err(|source| KeyError::Io { path, source })
    }

    /// Forgets what is staged, if anything is.
    pub fn drop_staged(dir: &StateDir) -> Result<(), KeyError> {
        let path = dir.path().join(STAGED);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(KeyError::Io { path, source: e }),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey(..)")
    }
}

fn read(path: &Path) -> Result<Option<HashKey>, KeyError> {
    let io = |source| KeyError::Io { path: path.to_owned(), source };
    let file = match OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path) {
        Ok(f) => f,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io(e)),
    };
    let mode = file.metadata().map_err(io)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Open { path: path.to_owned(), mode });
    }
    let mut text = Vec::new();
    let _ = file.take(64).read_to_end(&mut text).map_err(io)?;
    let damaged = || KeyError::Damaged { path: path.to_owned() };
    let text = String::from_utf8(text).map_err(|_| damaged())?;
    HashKey::from_hex(&text).map(Some).map_err(|_| damaged())
}

fn write_temp(dir: &Path, key: &HashKey) -> io::Result<PathBuf> {
    // The directory is locked: only a crashed maker can have left this name behind.
    let temp = dir.join(STAGED);
    match fs::remove_file(&temp) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temp)?;
    writeln!(file, "{}", key.to_hex())?;
    file.sync_all()?;
    fail::point(Point::KeyWritten)?;
    Ok(temp)
}

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir() -> (tempfile::TempDir, StateDir) {
        let tmp = tempfile::tempdir().unwrap();
        let dir = StateDir::open(tmp.path()).unwrap();
        (tmp, dir)
    }

    fn load_or_create(dir: &StateDir) -> Result<HashKey, KeyError> {
        match HashKey::load(dir)? {
            Some(key) => Ok(key),
            None => HashKey::random().unwrap().create(dir),
        }
    }

    #[test]
    fn made_once_then_the_same_and_0600() {
        let (_tmp, dir) = dir();
        let key = load_or_create(&dir).unwrap();
        assert_eq!(load_or_create(&dir).unwrap(), key);
        assert_ne!(key.bytes(), [0; 16]);
        let mode = fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "lock and key, no leftovers");
    }

    #[test]
    fn import_replaces_and_round_trips() {
        let (_tmp, dir) = dir();
        let old = load_or_create(&dir).unwrap();
        let new = HashKey::from_hex("  00112233445566778899AABBCCDDEEFF\n").unwrap();
        assert_ne!(old, new);
        new.import(&dir).unwrap();
        assert_eq!(load_or_create(&dir).unwrap(), new);
        assert_eq!(new.to_hex(), "00112233445566778899aabbccddeeff");
        assert_eq!(format!("{new:?}"), "HashKey(..)");
    }

    #[test]
    fn a_staged_key_is_not_in_use_until_it_is_taken() {
        let (_tmp, dir) = dir();
        let old = load_or_create(&dir).unwrap();
        let new = HashKey::from_bytes([7; 16]);
        assert_eq!(HashKey::staged(&dir), None);
        new.stage(&dir).unwrap();
        assert_eq!(load_or_create(&dir).unwrap(), old);
        assert_eq!(HashKey::staged(&dir), Some(new.clone()));
        HashKey::take_staged(&dir).unwrap();
        assert_eq!(load_or_create(&dir).unwrap(), new);
        assert_eq!(HashKey::staged(&dir), None);
        old.stage(&dir).unwrap();
        HashKey::drop_staged(&dir).unwrap();
        HashKey::drop_staged(&dir).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "lock and key, no leftovers");
    }

    #[test]
    fn damaged_open_or_linked_key_is_refused_not_replaced() {
        let (_tmp, dir) = dir();
        let path = dir.path().join(FILE);
        let _ = load_or_create(&dir).unwrap();
        for bad in ["", "00", "zz112233445566778899aabbccddeeff", "00112233445566778899aabbccddeeff00"] {
            fs::write(&path, bad).unwrap();
            assert!(matches!(load_or_create(&dir), Err(KeyError::Damaged { .. })), "{bad:?}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(load_or_create(&dir), Err(KeyError::Open { mode: 0o644, .. })));
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", &path).unwrap();
        assert!(matches!(load_or_create(&dir), Err(KeyError::Io { .. })));
    }
}
