//! Notices that something in one directory changed (inotify), and when it is over. Does not say what: who asks reads the directory again.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs, io,
    mem::MaybeUninit,
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStringExt as _, fs::MetadataExt as _},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags},
    io::Errno,
};
use tokio::{io::unix::AsyncFd, time::timeout};

/// Written and closed, moved in or out (also a link that is replaced), removed; and the directory itself.
const CHANGES: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// Nothing happens for so long: who wrote is done; whoever has a file open all the same has forgotten it.
const QUIET: Duration = Duration::from_millis(200);
const FORGOTTEN: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct DirEvents {
    fd: AsyncFd<OwnedFd>,
    dir: PathBuf,
    /// Files that somebody writes: what is there of them may be a half.
    written: BTreeSet<OsString>,
    forgotten: Duration,
}

impl DirEvents {
    /// Watches a directory as it is now: one that takes its place later is another one.
    ///
    /// # Errors
    /// The kernel's. Must be called inside a tokio runtime with I/O enabled.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let _ = inotify::add_watch(&fd, dir, CHANGES)?;
        Ok(Self { fd: register(fd)?, dir: dir.to_owned(), written: BTreeSet::new(), forgotten: FORGOTTEN })
    }

    /// Returns when there was a change since the last call. Cancel safe.
    pub async fn changed(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.fd.readable().await?;
            let (dir, written) = (&self.dir, &mut self.written);
            let taken = ready.try_io(|fd| take(fd.get_ref(), dir, written));
            match taken {
                Ok(Ok(true)) => return Ok(()),
                Ok(Ok(false)) | Err(_) => {}
                Ok(Err(e)) => return Err(e),
            }
        }
    }

    /// Returns when whoever changes something is done with it. Cancel safe.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn settled(&mut self) -> io::Result<()> {
        loop {
            let quiet = if self.written.is_empty() { QUIET } else { self.forgotten };
            match timeout(quiet, self.changed()).await {
                Ok(changed) => changed?,
                Err(_) => {
                    self.written.clear();
                    return Ok(());
                }
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
fn take(fd: &OwnedFd, dir: &Path, written: &mut BTreeSet<OsString>) -> io::Result<bool> {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(fd, &mut buffer);
    let mut any = false;
    loop {
        match events.next() {
            Ok(event) => {
                any = true;
                let Some(name) = event.file_name() else { continue };
                let name = OsString::from_vec(name.to_bytes().to_vec());
                let how = event.events();
                if how.contains(ReadFlags::MODIFY) || how.contains(ReadFlags::CREATE) && opens(dir, &name) {
                    let _ = written.insert(name);
                } else if !how.intersects(ReadFlags::CREATE | ReadFlags::ATTRIB) {
                    let _ = written.remove(&name);
                }
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if !any => return Err(io::ErrorKind::WouldBlock.into()),
            Err(Errno::AGAIN) => return Ok(any),
            Err(e) => return Err(e.into()),
        }
    }
}

/// Whether what was made is written now: a link, or another name of a file, is whole.
fn opens(dir: &Path, name: &OsString) -> bool {
    fs::symlink_metadata(dir.join(name)).is_ok_and(|m| m.is_file() && m.nlink() == 1)
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use super::*;

    async fn comes(events: &mut DirEvents) -> bool {
        timeout(Duration::from_secs(5), events.changed()).await.is_ok_and(|r| r.is_ok())
    }

    async fn silent(events: &mut DirEvents) -> bool {
        timeout(Duration::from_millis(50), events.changed()).await.is_err()
    }

    /// D3: a half of a file may well be a document.
    #[tokio::test]
    async fn d3_who_writes_slowly_is_waited_for() {
        use std::io::Write as _;
        let tmp = tempfile::tempdir().unwrap();
        let at = |name: &str| tmp.path().join(name);
        let mut events = DirEvents::open(tmp.path()).unwrap();
        let settles = async |events: &mut DirEvents| {
            timeout(QUIET * 5, events.settled()).await.is_ok_and(|r| r.is_ok())
        };
        let mut new = fs::File::create(at("a.yaml")).unwrap();
        assert!(comes(&mut events).await && !settles(&mut events).await, "made, and open");
        new.write_all(b"half").unwrap();
        assert!(!settles(&mut events).await, "written, and open");
        drop(new);
        assert!(settles(&mut events).await, "closed");
        let mut old = fs::File::options().append(true).open(at("a.yaml")).unwrap();
        old.write_all(b", and more").unwrap();
        assert!(!settles(&mut events).await);
        fs::remove_file(at("a.yaml")).unwrap();
        assert!(settles(&mut events).await, "removed under its writer");
        std::os::unix::fs::symlink("elsewhere", at("b.yaml")).unwrap();
        fs::write(at("c"), "x").unwrap();
        fs::hard_link(at("c"), at("c.yaml")).unwrap();
        assert!(settles(&mut events).await, "links are whole");
    }

    /// ... but not for ever.
    #[tokio::test]
    async fn d3_who_has_forgotten_a_file_is_not_waited_for() {
        let tmp = tempfile::tempdir().unwrap();
        let mut events = DirEvents::open(tmp.path()).unwrap();
        events.forgotten = QUIET * 3;
        let _open = fs::File::create(tmp.path().join("a.yaml")).unwrap();
        events.changed().await.unwrap();
        assert!(timeout(QUIET * 2, events.settled()).await.is_err());
        timeout(FORGOTTEN, events.settled()).await.unwrap().unwrap();
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
