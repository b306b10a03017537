//! `gray doctor` with what this agent really uses. The checks are in `crate::doctor`.

use super::core::{AttachState, Core, Inner};
use crate::{
    api::types::DoctorReport,
    cli::agent::AttachRole,
    doctor::{self, DoctorInput, Interface, Linked, Links, Role},
};

/// Takes milliseconds to seconds; the agent's lock is not held meanwhile.
pub fn report(core: &Core) -> DoctorReport {
    let input = {
        let inner = core.lock();
        let role = |r| match r {
            AttachRole::Edge => Role::Edge,
            AttachRole::Backend => Role::Backend,
            AttachRole::Host => Role::Host,
        };
        DoctorInput {
            bpffs: inner.bpffs.clone(),
            cgroup: inner.connect.as_ref().map(|c| c.cgroup.clone()),
            interfaces: inner
                .attachments
                .iter()
                .map(|a| Interface {
                    name: a.iface.clone(),
                    role: role(a.role),
                    error: a.error.clone().filter(|_| a.state == AttachState::Failed),
                })
                .collect(),
            // The others are there already, whole.
            map_bytes: doctor::flow_bytes(inner.live.flow_capacity()),
            agent: Some(std::process::id()),
            links: links(&inner),
        }
    };
    doctor::run(&input).into()
}

fn links(inner: &Inner) -> Links {
    let c = inner.connect.as_ref();
    let (workloads, unread) = match inner.links_status() {
        Ok(all) => (all, None),
        Err(e) => (Vec::new(), Some(e.to_string())),
    };
    let linked = workloads.into_iter().map(|l| Linked {
        workload: l.workload,
        calls: l.calls,
        others: l.other_lane,
        text: l.text,
    });
    Links {
        connect: c.is_some(),
        tags: inner.hears_tags(),
        error: c.and_then(|c| c.links_error.clone()).or(unread),
        workloads: linked.collect(),
    }
}
