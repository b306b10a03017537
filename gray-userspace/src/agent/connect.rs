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
    /// Why they do not. Nothing else suffers from it.
    pub tags_error: Option<String>,
    /// Why what becomes of calls is not counted.
    pub calls_error: Option<String>,
    /// First words are timed: a policy asks for it.
    pub measures: bool,
    /// Why they are not.
    pub measures_error: Option<String>,
    /// Calls follow requests: a label asks for it.
    pub links: bool,
    /// Why they do not.
    pub links_error: Option<String>,
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
        Ok(Self {
            cgroup,
            state: AttachState::Waiting,
            error: None,
            tags: false,
            says: false,
            tags_error: None,
            calls_error: None,
            measures: false,
            measures_error: None,
            links: false,
            links_error: None,
        })
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

    /// The same of the tags.
    pub(super) fn tags_are(&mut self, error: Option<String>) {
        if self.tags_error == error {
            return;
        }
        let cgroup = self.cgroup.display();
        match &error {
            Some(error) => tracing::error!(%cgroup, error, "cannot attach or take off what writes tags"),
            None => tracing::info!(%cgroup, "what writes tags is as it shall be"),
        }
        self.tags_error = error;
    }
}

impl Connect {
    /// The same of what counts calls.
    fn calls_are(&mut self, error: Option<String>) {
        if let Some(error) = error.as_ref().filter(|_| self.calls_error != error) {
            tracing::error!(cgroup = %self.cgroup.display(), error, "what becomes of callers' connections is not counted");
        }
        self.calls_error = error;
    }

    /// The same of what times first words.
    pub(super) fn measures_are(&mut self, error: Option<String>) {
        if let Some(error) = error.as_ref().filter(|_| self.measures_error != error) {
            tracing::error!(cgroup = %self.cgroup.display(), error, "first words of callers are not timed");
        }
        self.measures_error = error;
    }

    /// The same of links.
    pub(super) fn links_are(&mut self, error: Option<String>) {
        if let Some(error) = error.as_ref().filter(|_| self.links_error != error) {
            tracing::error!(cgroup = %self.cgroup.display(), error, "calls of workloads with a link are in no lane");
        }
        self.links_error = error;
    }
}

impl Inner {
    /// Whether the connect path's cgroup is there.
    pub(super) fn connect_can(&self) -> bool {
        let (Some(c), Some(mount)) = (&self.connect, &self.mount) else { return false };
        mount.cgroup(&c.cgroup.display().to_string()).is_ok()
    }

    /// Attaches the connect path to what its cgroup is now, then what writes tags. Cheap while both are there.
    pub(super) fn follow_connect(&mut self) {
        let (Some(c), Some(mount)) = (&mut self.connect, &self.mount) else { return };
        let now = match mount.cgroup(&c.cgroup.display().to_string()) {
            Ok(now) => now,
            Err(e @ WorkloadError::Missing { .. }) => {
                return c.is_now(AttachState::Waiting, Some(e.to_string()));
            }
            Err(e) => return c.is_now(AttachState::Failed, Some(e.to_string())),
        };
        let new = c.state != AttachState::Attached || !self.live.is_cgroup_attached(now.id);
        if new {
            if let Err(e) = self.live.attach_cgroup(&now.dir) {
                return c.is_now(AttachState::Failed, Some(e.to_string()));
            }
            c.is_now(AttachState::Attached, None);
        }
        // Whoever cannot be counted is steered all the same.
        if new || c.calls_error.is_some() || !self.live.are_calls_attached(now.id) {
            let done = self.live.attach_calls(&now.dir);
            c.calls_are(done.err().map(|e| e.to_string()));
        }
        // Apart: whoever cannot be told apart by the next node is steered by this one.
        if new || c.tags_error.is_some() || c.says && !self.live.are_tags_attached(now.id) {
            let done = self.live.attach_tags(&now.dir, c.says);
            c.tags_are(done.err().map(|e| e.to_string()));
        }
        if new || c.measures_error.is_some() || c.measures && !self.live.are_measures_attached(now.id) {
            let done = self.live.attach_measures(&now.dir, c.measures);
            c.measures_are(done.err().map(|e| e.to_string()));
        }
        if new || c.links_error.is_some() || c.links && !self.live.are_links_attached(now.id) {
            let done = self.live.attach_links(&now.dir, c.links);
            c.links_are(done.err().map(|e| e.to_string()));
            if let Err(e) = self.tell_links() {
                tracing::error!(error = %e, "cannot say which workloads have a link");
            }
        }
    }
}
