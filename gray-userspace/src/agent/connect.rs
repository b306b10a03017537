//! The connect path's cgroup. It may come after the agent, go, and be made again under its name: what has the name now is attached to.

use std::path::PathBuf;

use super::core::{AttachState, Inner};
use crate::sys::workload::{CgroupMount, WorkloadError};

/// The connect path's attachment.
#[derive(Clone, Debug)]
pub struct Connect {
    pub cgroup: PathBuf,
    pub state: AttachState,
    pub error: Option<String>,
    /// The agent was asked for tags.
    pub tags: bool,
    /// Sockets say their lane: a policy needs it.
    pub says: bool,
}

impl Connect {
    /// Nothing is attached yet. `path`: as the option has it; none: the root of the mount.
    ///
    /// # Errors
    /// The path is none that a cgroup can ever have.
    pub fn to(path: Option<&PathBuf>, mount: &CgroupMount) -> Result<Self, WorkloadError> {
        let found = path.map_or_else(|| mount.root(), |p| mount.cgroup(&p.display().to_string()));
        let cgroup = match found {
            Ok(cgroup) => cgroup.dir,
            Err(WorkloadError::Missing { path }) => path,
            Err(e) => return Err(e),
        };
        Ok(Self { cgroup, state: AttachState::Waiting, error: None, tags: false, says: false })
    }

    /// Says what became of it, once.
    fn is_now(&mut self, state: AttachState, error: Option<String>) {
        if self.state == state && self.error == error && state != AttachState::Attached {
            return;
        }
        let cgroup = self.cgroup.display();
        match (state, &error) {
            (AttachState::Attached, _) => tracing::info!(%cgroup, "connect path attached"),
            (AttachState::Waiting, _) => {
                tracing::warn!(%cgroup, "the connect path waits for its cgroup; nobody is steered at connect")
            }
            (AttachState::Failed, error) => tracing::error!(%cgroup, error, "cannot attach the connect path"),
        }
        (self.state, self.error) = (state, error);
    }
}

impl Inner {
    /// Whether the connect path's cgroup is there.
    pub(super) fn connect_can(&self) -> bool {
        let (Some(c), Some(mount)) = (&self.connect, &self.mount) else { return false };
        mount.cgroup(&c.cgroup.display().to_string()).is_ok()
    }

    /// Attaches the connect path to what its cgroup is now. Cheap while that is the same.
    pub(super) fn follow_connect(&mut self) {
        let (Some(c), Some(mount)) = (&mut self.connect, &self.mount) else { return };
        let (state, error) = match mount.cgroup(&c.cgroup.display().to_string()) {
            Err(e @ WorkloadError::Missing { .. }) => (AttachState::Waiting, Some(e.to_string())),
            Err(e) => (AttachState::Failed, Some(e.to_string())),
            Ok(now) if c.state == AttachState::Attached && self.live.is_cgroup_attached(now.id) => return,
            Ok(now) => {
                match self.live.attach_tags(&now.dir, c.says).and_then(|()| self.live.attach_cgroup(&now.dir))
                {
                    Ok(()) => (AttachState::Attached, None),
                    Err(e) => (AttachState::Failed, Some(e.to_string())),
                }
            }
        };
        c.is_now(state, error);
    }
}
