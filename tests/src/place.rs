//! Where a process of the lab runs: a namespace and, if wanted, a cgroup. It starts nothing by itself.

use std::ffi::OsStr;
use std::process::Command;
use std::sync::Arc;

use crate::cgroup::Cgroup;
use crate::netns::Netns;

/// A namespace and perhaps a cgroup; cheap to clone.
#[derive(Debug, Clone)]
pub struct Place {
    pub ns: Arc<Netns>,
    /// `None`: the lab's own cgroup for processes, which is never one that gray is attached to.
    pub cgroup: Option<Arc<Cgroup>>,
}

impl Place {
    pub fn new(ns: &Arc<Netns>) -> Self {
        Self { ns: Arc::clone(ns), cgroup: None }
    }

    /// The same namespace, another cgroup.
    pub fn in_cgroup(&self, cgroup: &Arc<Cgroup>) -> Self {
        Self { ns: Arc::clone(&self.ns), cgroup: Some(Arc::clone(cgroup)) }
    }

    /// See `Netns::command`.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        match &self.cgroup {
            Some(cgroup) => self.ns.command_in(program, cgroup),
            None => self.ns.command(program),
        }
    }
}
