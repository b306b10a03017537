//! `gray doctor` with what this agent really uses. The checks are in `crate::doctor`.

use super::core::{AttachState, Core, Inner};
use crate::{
    api::types::DoctorReport,
    cli::agent::AttachRole,
    doctor::{self, DoctorInput, Interface, Linked, Links, Role},
    store,
};

/// Takes milliseconds to seconds; the agent's lock is not held meanwhile.
pub fn report(core: &Core) -> DoctorReport {
    let (input, trouble) = {
        let inner = core.lock();
        let role = |r| match r {
            AttachRole::Edge => Role::Edge,
            AttachRole::Backend => Role::Backend,
            AttachRole::Host => Role::Host,
        };
        let trouble = inner.store.trouble();
        let input = DoctorInput {
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
        };
        (input, trouble)
    };
    let mut checks = doctor::run(&input);
    checks.extend(trouble.as_ref().map(state_dir));
    checks.into()
}

/// Only a running agent has one.
fn state_dir(e: &store::Error) -> doctor::Check {
    let text = e.to_string();
    // What is wrong, and what to do.
    let (detail, fix) = text.split_once(": ").unwrap_or((&text, "see the agent's log"));
    doctor::Check {
        name: "state-directory".into(),
        status: doctor::Status::Fail,
        detail: detail.into(),
        fix: Some(fix.into()),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h4_a_state_directory_that_keeps_nothing_fails() {
        let dir = || "/var/lib/gray".into();
        for e in [
            store::Error::Full { dir: dir() },
            store::Error::NoBallast { dir: dir() },
            store::Error::Gone { dir: dir() },
        ] {
            let check = state_dir(&e);
            assert!(check.detail.contains("/var/lib/gray"), "{check:?}");
            assert!(check.fix.is_some_and(|f| f.contains("make room") || f.contains("restart the agent")));
        }
    }
}
