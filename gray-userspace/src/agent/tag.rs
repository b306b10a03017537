//! Message tags (E4): which lane the calls of a process are in, found as the connect path finds it: by its cgroup, or the nearest one
//! above it that has a label. Changes nothing.

use super::core::Inner;
use crate::api::{
    ApiError, Who,
    types::{Tag, TagQuery},
};

/// Of whoever is in no lane.
const STABLE: &str = "stable";

impl Inner {
    pub fn tag(&self, who: &Who, query: TagQuery) -> Result<Tag, ApiError> {
        let workload = match (query.workload, query.pid) {
            (Some(_), Some(_)) => {
                return Err(ApiError::unusable(
                    "the tag of a workload and of a process",
                    "ask for one of them",
                ));
            }
            (Some(name), None) => Some(self.label_of(name)?),
            (None, pid) => {
                let own = who.pid.and_then(|pid| u32::try_from(pid).ok());
                let pid = pid.or(own).ok_or_else(|| {
                    ApiError::unusable(
                        "the kernel did not say which process asks",
                        "give a pid or a workload",
                    )
                })?;
                self.label_over(pid)?
            }
        };
        let lane = workload.as_ref().and_then(|name| self.labels.get(name)?.lane.clone());
        let lane_known = lane.as_ref().map(|l| self.policy.lane(l).is_some());
        let tag = lane.as_ref().filter(|_| lane_known == Some(true));
        Ok(Tag { tag: tag.map_or(STABLE, String::as_str).to_owned(), workload, lane_known, lane })
    }

    fn label_of(&self, name: String) -> Result<String, ApiError> {
        if self.labels.contains_key(&name) {
            return Ok(name);
        }
        let near =
            self.labels.keys().max_by(|a, b| strsim::jaro(a, &name).total_cmp(&strsim::jaro(b, &name)));
        let near = near.filter(|n| strsim::jaro(n, &name) > 0.7);
        let help = near.map_or_else(|| "see `gray workload list`".into(), |n| format!("did you mean {n}?"));
        Err(ApiError::not_found(format!("there is no running workload {name}"), help))
    }

    /// The nearest label; none: the process is of no workload.
    fn label_over(&self, pid: u32) -> Result<Option<String>, ApiError> {
        let Some(mount) = &self.mount else { return Ok(None) };
        let above = mount
            .above(pid)
            .map_err(|e| ApiError::unusable(e.to_string(), "give a process of this node, or a workload"))?;
        let named =
            |id: &u64| self.labels.iter().find(|(_, l)| l.cgroup.id == *id).map(|(name, _)| name.clone());
        Ok(above.iter().find_map(named))
    }
}
