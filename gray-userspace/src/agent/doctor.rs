//! `gray doctor` with what this agent really uses. The checks are in `crate::doctor`.

use super::core::Core;
use crate::{
    api::types::DoctorReport,
    cli::agent::AttachRole,
    doctor::{self, DoctorInput, Interface, Role},
};

/// Bytes that the kernel accounts for one entry in each flow table; the other tables are small beside them.
const FLOW_BYTES: u64 = 2 * 152;

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
                .map(|a| Interface { name: a.iface.clone(), role: role(a.role) })
                .collect(),
            map_bytes: FLOW_BYTES * u64::from(inner.live.flow_capacity()),
            agent: Some(std::process::id()),
        }
    };
    doctor::run(&input).into()
}
