//! What a release holds still while it is open: the tenants that it was planned with (B5), and what it is told of their layers (G4).

use crate::{
    agent::core::Inner,
    api::{ApiError, types::LayerStatus},
    model::{ClaimKind, CohortBody, Condition, Policy},
};

use super::Running;

impl Running {
    /// Whether the clients of a release are of a cohort, also by way of others; now or in a later stage.
    fn reaches(&self, policy: &Policy, cohort: &str) -> bool {
        let all = self.spec.cohorts(self.spec.stages.len());
        all.iter().any(|c| policy.asks(&Condition::Cohort((*c).to_owned()), cohort))
    }
}

impl Inner {
    /// A list of tenants that an open release makes gray stays as it is. Other lists are edited at any time.
    pub(in crate::agent) fn may_edit(&self, cohort: &str) -> Result<(), ApiError> {
        let body = self.policy.cohort(cohort).map(|c| &c.body);
        if !matches!(body, Some(CohortBody::List { of: ClaimKind::Tenant, .. })) {
            return Ok(());
        }
        let mut open = self.releases.all.iter().filter(|(_, r)| r.is_open());
        match open.find(|(_, r)| r.reaches(&self.policy, cohort)) {
            None => Ok(()),
            Some((name, r)) => Err(ApiError::conflict(
                format!("cohort {cohort} has the tenants of {name}, which is open: they stay as they are"),
                format!("{}; or choose for the next release into another cohort", r.way_out()),
            )),
        }
    }

    /// The same of a document that gives another list.
    pub(in crate::agent) fn may_relist(&self, policy: &Policy) -> Result<(), ApiError> {
        let other = |name: &str| policy.cohort(name).map(|c| &c.body);
        let mut changed = self.policy.cohorts.iter().filter(|c| other(&c.name) != Some(&c.body));
        changed.try_for_each(|c| self.may_edit(&c.name))
    }

    /// The gray layers of the tenants that a release makes gray.
    pub(super) fn layers_of(&self, r: &Running) -> Vec<LayerStatus> {
        let all = self.layer_status().into_iter();
        all.filter(|l| r.reaches(&self.policy, &l.cohort)).collect()
    }
}
