//! Notices that something in one directory changed (inotify). Does not say what: who asks reads the directory again.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
};

use rustix::{
    fs::inotify::{self, CreateFlags, WatchFlags},
    io::Errno,
};
use tokio::io::unix::AsyncFd;

/// Written and closed, moved in or out (also a link that is replaced), removed; and the directory itself.
const CHANGES: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::MOVE)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

#[derive(Debug)]
pub struct DirEvents {
    fd: AsyncFd<OwnedFd>,
}

impl DirEvents {
    /// Watches a directory as it is now: one that takes its place later is another one.
    ///
    /// # Errors
    /// The kernel's. Must be called inside a tokio runtime with I/O enabled.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let _ = inotify::add_watch(&fd, dir, CHANGES)?;
        Ok(Self { fd: register(fd)? })
    }

    /// Returns when there was a change since the last call. Cancel safe.
    pub async fn changed(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.fd.readable().await?;
            let taken = ready.try_io(|fd| take(fd.get_ref()));
            match taken {
                Ok(Ok(true)) => return Ok(()),
                Ok(Ok(false)) | Err(_) => {}
                Ok(Err(e)) => return Err(e),
            }
        }
    }
}

#[expect(unsafe_code, reason = "AsyncFd asks for a promise about the descriptor")]
fn register(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // Outside of a runtime tokio would panic.
    let _runtime = tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
    // SAFETY: an `OwnedFd` always names the same descriptor, and closes it only when it is dropped, which `AsyncFd` does after it has
    // left the reactor.
    unsafe { AsyncFd::register(fd) }.map_err(Into::into)
}

/// All that waits; true: something did.
fn take(fd: &OwnedFd) -> io::Result<bool> {
    let mut buffer = [0; 4096];
    let mut any = false;
    loop {
        match rustix::io::read(fd.as_fd(), &mut buffer) {
            Ok(n) if n > 0 => any = true,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if !any => return Err(io::ErrorKind::WouldBlock.into()),
            Ok(_) | Err(Errno::AGAIN) => return Ok(any),
            Err(e) => return Err(e.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use super::*;

    async fn comes(events: &mut DirEvents) -> bool {
        tokio::time::timeout(Duration::from_secs(5), events.changed()).await.is_ok_and(|r| r.is_ok())
    }

    async fn silent(events: &mut DirEvents) -> bool {
        tokio::time::timeout(Duration::from_millis(50), events.changed()).await.is_err()
    }

    #[tokio::test]
    async fn d3_every_way_in_which_a_file_changes_is_noticed() {
        let tmp = tempfile::tempdir().unwrap();
        let at = |name: &str| tmp.path().join(name);
        let elsewhere = tempfile::tempdir().unwrap();
        let mut events = DirEvents::open(tmp.path()).unwrap();
        assert!(silent(&mut events).await);
        fs::write(at("a.yaml"), "x").unwrap();
        assert!(comes(&mut events).await, "written");
        assert!(silent(&mut events).await, "many changes are one");
        fs::write(elsewhere.path().join("b"), "y").unwrap();
        let _ = fs::copy(elsewhere.path().join("b"), at("b.next")).unwrap();
        assert!(comes(&mut events).await);
        fs::rename(at("b.next"), at("a.yaml")).unwrap();
        assert!(comes(&mut events).await, "replaced");
        std::os::unix::fs::symlink(elsewhere.path().join("b"), at("..data")).unwrap();
        assert!(comes(&mut events).await, "a link");
        fs::remove_file(at("a.yaml")).unwrap();
        assert!(comes(&mut events).await, "removed");
        assert!(DirEvents::open(&at("none")).is_err());
        fs::write(at("file"), "").unwrap();
        assert!(DirEvents::open(&at("file")).is_err(), "a file is no directory");
    }
}
