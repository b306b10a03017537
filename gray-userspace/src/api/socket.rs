//! The unix socket as a file: made with its mode in place, replaced only when nobody listens, removed only while it is ours.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::{
        fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt},
        net::{UnixListener as StdListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use tokio::net::UnixListener;

use super::ServerError;

/// Owner and group may connect.
const MODE: u32 = 0o660;

/// Tells apart the servers of one process.
static SERIAL: AtomicU32 = AtomicU32::new(0);

/// The file of a bound socket. Dropping it removes the file, if it is still the same one.
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    id: Option<(u64, u64)>,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.id.is_some() && identity(&self.path) == self.id {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|m| (m.dev(), m.ino()))
}

/// Binds `path`. Needs a runtime.
pub(super) fn bind(path: &Path) -> Result<(UnixListener, SocketFile), ServerError> {
    let failed = |source| ServerError::Socket { path: path.to_path_buf(), source };
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !parent.exists() {
        DirBuilder::new().recursive(true).create(parent).map_err(failed)?;
        fs::set_permissions(parent, Permissions::from_mode(0o755)).map_err(failed)?;
    }
    refuse_if_taken(path)?;

    // Bound in a private directory and moved: nobody can connect before the mode is right, and a stale file is replaced at once.
    let private = parent.join(format!(".{}-{}", std::process::id(), SERIAL.fetch_add(1, Ordering::Relaxed)));
    let _ = fs::remove_dir_all(&private);
    DirBuilder::new().mode(0o700).create(&private).map_err(failed)?;
    let made = make(&private.join("s"), path);
    let _ = fs::remove_dir_all(&private);
    made.map_err(failed)
}

fn make(fresh: &Path, path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    let listener = StdListener::bind(fresh)?;
    fs::set_permissions(fresh, Permissions::from_mode(MODE))?;
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    fs::rename(fresh, path)?;
    Ok((listener, SocketFile { path: path.to_path_buf(), id: identity(path) }))
}

fn refuse_if_taken(path: &Path) -> Result<(), ServerError> {
    let Ok(meta) = fs::symlink_metadata(path) else { return Ok(()) };
    if !meta.file_type().is_socket() {
        return Err(ServerError::NotASocket { path: path.to_path_buf() });
    }
    match UnixStream::connect(path) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(ServerError::Socket { path: path.to_path_buf(), source }),
        Ok(_) => Err(ServerError::InUse { path: path.to_path_buf() }),
    }
}
