//! Links of workloads: what makes a call follow the request that is served (docs/adr/0028-links.md). Attached while a label asks for
//! it, beside the connect path.

use gray_common::wire::{LINK_RUN_TO_COMPLETION, LINK_STRICT, LINK_THREAD};

use super::{
    core::{AttachState, Inner, Label},
    time,
};
use crate::{
    api::{ApiError, types::LinkStatus},
    kernel::KernelError,
    store::Link,
    sys::kernel::{KernelVersion, MESSAGES},
};

/// As programs know it; 0: none.
pub fn number(link: Option<Link>) -> u32 {
    match link {
        None => 0,
        Some(Link::Thread) => LINK_THREAD,
        Some(Link::RunToCompletion) => LINK_RUN_TO_COMPLETION,
        Some(Link::Strict) => LINK_STRICT,
    }
}

/// Of so many calls in a hundred at least people hear when they were in another lane than their request.
const TOLD: u64 = 1;

/// What is said of a workload whose calls do not follow.
fn text(workload: &str, calls: u64, others: u64) -> Option<String> {
    let percent = others.saturating_mul(100).checked_div(calls)?;
    (percent >= TOLD).then(|| {
        format!(
            "workload {workload} does not propagate: {percent} % of its calls had another lane than their request; use headers"
        )
    })
}

impl Inner {
    /// Whether a link can be made here; then all that it needs is loaded.
    pub(super) fn may_link(&mut self) -> Result<(), ApiError> {
        let version = KernelVersion::running().map_err(|e| ApiError::internal(&e))?;
        if let Some(why) = version.needs(MESSAGES, "a link") {
            let fix = "leave --link out, and let the workload pass its lane on in headers";
            return Err(ApiError::conflict(why, fix));
        }
        if self.connect.is_none() {
            return Err(ApiError::conflict(
                "a link needs the connect path, and this agent has none",
                "start the agent without --no-connect",
            ));
        }
        if !self.hears_tags() {
            return Err(ApiError::conflict(
                "a link needs tags: nothing else says which lane a request is in",
                "start the agent with --tags for callers on this node, with --trust-tags for those of others",
            ));
        }
        self.live.need_links().map_err(|e| ApiError::internal(&e))
    }

    /// Whether anything says which lane a request is in.
    pub(super) fn hears_tags(&self) -> bool {
        self.connect.as_ref().is_some_and(|c| c.tags) || self.attachments.iter().any(|a| a.trusts_tags)
    }

    /// After a label changed: programs hear which workloads have a link, and are attached while one has.
    pub(super) fn follow_links(&mut self) -> Result<(), KernelError> {
        let linked = self.labels.values().filter(|l| l.link.is_some());
        let linked: Vec<u64> = linked.map(|l| l.cgroup.id).collect();
        let wanted = !linked.is_empty();
        // At a start: what runs goes on until what takes its place is there.
        let Some(c) = &mut self.connect else { return Ok(()) };
        self.live.count_link_calls(&linked)?;
        let changed = c.links != wanted;
        c.links = wanted;
        if changed && c.state == AttachState::Attached {
            if !wanted {
                self.live.set_links(0)?;
            }
            let done = self.live.attach_links(&c.cgroup, wanted);
            c.links_are(done.err().map(|e| e.to_string()));
        }
        self.tell_links()
    }

    /// What programs remember of cgroups is old from here on.
    pub(super) fn tell_links(&mut self) -> Result<(), KernelError> {
        let on = self.connect.as_ref().is_some_and(|c| c.links && c.links_error.is_none());
        self.live.set_links(if on { time::monotonic_ns() } else { 0 })
    }

    /// How well a workload's calls follow; none: it has no link.
    pub(super) fn link_status(&self, workload: &str) -> Result<Option<LinkStatus>, KernelError> {
        let Some(Label { cgroup, link: Some(link), .. }) = self.labels.get(workload) else { return Ok(None) };
        let n = self.live.link_calls(cgroup.id)?;
        Ok(Some(LinkStatus {
            workload: workload.into(),
            mode: link.name().into(),
            calls: n.calls,
            other_lane: n.others,
            text: text(workload, n.calls, n.others),
        }))
    }

    /// Of all that have one.
    pub(super) fn links_status(&self) -> Result<Vec<LinkStatus>, KernelError> {
        self.labels.keys().filter_map(|name| self.link_status(name).transpose()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c10_what_does_not_follow_is_said() {
        assert_eq!(text("b", 0, 0), None);
        assert_eq!(text("b", 1000, 9), None);
        assert_eq!(
            text("b", 400, 84).unwrap(),
            "workload b does not propagate: 21 % of its calls had another lane than their request; use headers"
        );
    }
}
