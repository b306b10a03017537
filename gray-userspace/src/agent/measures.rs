//! `measure: full`: what times the first words of callers on the node is on the connect path's cgroup while a policy asks for it.

use super::{
    connect::Connect,
    core::{AttachState, Inner},
};
use crate::{api::ApiError, model::Policy};

/// Whether a service asks for it.
pub fn needed(policy: &Policy) -> bool {
    policy.services.iter().any(|s| s.measure_full)
}

impl Inner {
    /// Attaches it before the first policy that asks for it is in force, and takes it off when the first that does not is (`after`): it
    /// costs each packet of the cgroup's sockets.
    pub(super) fn need_measures(&mut self, policy: &Policy, after: bool) -> Result<(), ApiError> {
        let wanted = needed(policy);
        let due = |c: &&mut Connect| c.measures != wanted && wanted != after;
        let Some(c) = self.connect.as_mut().filter(due) else { return Ok(()) };
        if wanted {
            self.live.need_measures().map_err(|e| ApiError::internal(&e))?;
        }
        c.measures = wanted;
        // A cgroup that is not there gets it when it comes. Steering needs none of it.
        if c.state == AttachState::Attached {
            let done = self.live.attach_measures(&c.cgroup, wanted);
            c.measures_are(done.err().map(|e| e.to_string()));
        }
        Ok(())
    }
}
