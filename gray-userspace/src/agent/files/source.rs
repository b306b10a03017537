//! Where a policy's documents come from when nobody applies them by hand: a directory. Config centres are to be another one.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::read::{self, Found};
use crate::sys::watch_dir::DirEvents;

/// A place of documents, and how it is noticed that they changed. What becomes of them is not its matter.
pub trait PolicySource: Clone + Send + Sync + 'static {
    type Notices: Send;

    /// As status and events name it.
    fn place(&self) -> &Path;

    /// All of its documents, in their order, and a digest of them. May block.
    ///
    /// # Errors
    /// What keeps them from being read; the last good policy stays in force.
    fn read(&self) -> io::Result<Found>;

    /// Of changes from now on; `None`: there are none to be had now, and it is only looked at now and then.
    fn notices(&self) -> Option<Self::Notices>;

    /// Returns when there was a change since the last call. Cancel safe.
    fn changed(notices: &mut Self::Notices) -> impl Future<Output = io::Result<()>> + Send;

    /// Returns when whoever changes something is done with it. Cancel safe.
    fn settled(notices: &mut Self::Notices) -> impl Future<Output = io::Result<()>> + Send;
}

#[derive(Clone, Debug)]
pub struct Directory(pub PathBuf);

impl PolicySource for Directory {
    type Notices = DirEvents;

    fn place(&self) -> &Path {
        &self.0
    }

    fn read(&self) -> io::Result<Found> {
        read::read(&self.0)
    }

    /// Of the directory that has this name now.
    fn notices(&self) -> Option<DirEvents> {
        DirEvents::open(&self.0).ok()
    }

    fn changed(notices: &mut DirEvents) -> impl Future<Output = io::Result<()>> + Send {
        notices.changed()
    }

    fn settled(notices: &mut DirEvents) -> impl Future<Output = io::Result<()>> + Send {
        notices.settled()
    }
}
