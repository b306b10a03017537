//! Tags: what programs are to do about them, whether a policy has anything to say by them, and which interfaces are believed.

use std::collections::BTreeMap;

use gray_common::{limits::XDP_OUT_SLOTS, wire::EDGE_WHOLE};

use super::core::{AttachState, Attachment, Inner};
use crate::{
    api::ApiError,
    cli::{AgentOptions, AttachRole},
    model::{ClaimKind, Policy},
};

/// Where tags matter, those that come in are read or overwritten: also where no socket says any, without a connect path.
pub fn read(o: &AgentOptions) -> bool {
    o.tags || !o.trust_tags.is_empty()
}

/// Whether sockets can have anything to say: a lane, or who calls a service that asks for it.
pub fn needed(policy: &Policy) -> bool {
    !policy.lanes.is_empty() || policy.services.iter().any(|s| s.identify.contains(&ClaimKind::Tag))
}

impl Inner {
    /// Attaches what writes tags before anything of the first policy is written that needs it. What is attached once stays until
    /// the agent starts anew.
    pub(super) fn need_tags(&mut self, policy: &Policy) -> Result<(), ApiError> {
        let Some(c) = self.connect.as_mut().filter(|c| c.tags && !c.says && needed(policy)) else {
            return Ok(());
        };
        self.live.need_tags().map_err(|e| ApiError::internal(&e))?;
        c.says = true;
        // A cgroup that is not there gets them when it comes. One that takes none is asked again and again: steering needs no tags.
        if c.state == AttachState::Attached {
            let done = self.live.attach_tags(&c.cgroup, true);
            c.tags_are(done.err().map(|e| e.to_string()));
        }
        tracing::info!("sockets say their lane from now on");
        Ok(())
    }

    /// After an interface came or went. A number that is another interface's now is trusted no more before that is attached.
    pub(super) fn follow_trust(&mut self) {
        let mut trusted = trusted(&self.attachments);
        if let Err(e) = self.live.set_trusted(&trusted) {
            tracing::error!(error = %e, "cannot say which interfaces' tags are believed");
            trusted.clear();
        }
        let met = |a: &Attachment| match a.role {
            AttachRole::Edge => a.ifindex,
            AttachRole::Host => Some(a.ifindex? | EDGE_WHOLE),
            AttachRole::Backend => None,
        };
        let there = |a: &&Attachment| self.splice && a.state == AttachState::Attached;
        let edges: Vec<u32> = self.attachments.iter().filter(there).filter_map(met).collect();
        if let Err(e) = self.live.set_edges(&edges) {
            tracing::error!(error = %e, "cannot say where the splice listener's answers are met");
        }
        for a in &mut self.attachments {
            a.is_trusted = a.ifindex.is_some_and(|i| trusted.contains(&i));
        }
    }
}

/// The numbers of the interfaces that are there and trusted. Of two with the same place in the kernel's table the first: the tags by the
/// other one are overwritten.
fn trusted(all: &[Attachment]) -> Vec<u32> {
    let there = |a: &&Attachment| a.trusts_tags && a.state == AttachState::Attached;
    let mut places = BTreeMap::new();
    for a in all.iter().filter(there) {
        let Some(ifindex) = a.ifindex else { continue };
        let first = *places.entry(ifindex % XDP_OUT_SLOTS).or_insert(ifindex);
        if first != ifindex {
            tracing::error!(
                iface = a.iface,
                ifindex,
                first,
                "tags by this interface are not believed: its number and that of another one differ by a multiple of {XDP_OUT_SLOTS}"
            );
        }
    }
    places.into_values().collect()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::{
        agent::front::Front,
        cli::{AttachRole, XdpWish},
    };

    fn at(iface: &str, ifindex: u32, trusts_tags: bool, state: AttachState) -> Attachment {
        Attachment {
            iface: iface.into(),
            role: AttachRole::Edge,
            xdp: XdpWish::default(),
            trusts_tags,
            is_trusted: false,
            ifindex: Some(ifindex),
            state,
            since: SystemTime::UNIX_EPOCH,
            error: None,
            front: Front::default(),
        }
    }

    /// Of two with one place the first, and nobody who was not named or is not there.
    #[test]
    fn a6_s4_who_is_trusted() {
        let there = AttachState::Attached;
        let all = [
            at("a", 3, true, there),
            at("b", 3 + XDP_OUT_SLOTS, true, there),
            at("c", 4, false, there),
            at("d", 5, true, AttachState::Failed),
            at("e", 6, true, there),
        ];
        assert_eq!(trusted(&all), [3, 6]);
    }
}
