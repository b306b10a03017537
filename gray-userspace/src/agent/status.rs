//! `gray status`: the agent at a glance. Reads only.

use std::net::SocketAddr;

use gray_common::{
    Reason, abi,
    names::{CALLS_PROGRAM, CONNECT_PROGRAMS, LINK_PROGRAM, MEASURE_PROGRAMS, TAG_PROGRAMS},
    wire::{ARM_GRAY, ARM_STABLE},
};

use super::{
    alarm,
    connect::Connect,
    core::{AttachState, Attachment, Core, Inner},
    health, time,
};
use crate::{
    api::{
        ApiError,
        types::{
            AttachmentStatus, ConnectStatus, Counter, FlowTable, PolicySize, ServiceCounts, SpliceStatus,
            Status,
        },
    },
    kernel::{Hook, KernelError},
};

pub fn status(core: &Core) -> Result<Status, ApiError> {
    let internal = |e: KernelError| ApiError::internal(&e);
    let flows = core.flow_entries().map_err(internal)?;
    core.lock().status(core.started.elapsed().as_secs(), flows).map_err(internal)
}

impl Inner {
    fn status(&self, uptime_s: u64, flows: [u64; 2]) -> Result<Status, KernelError> {
        let reasons = self.live.reasons()?;
        let lost = reasons.iter().find(|(r, _)| *r == Reason::EventLost).map_or(0, |(_, n)| *n);
        // Once: a guard in a field below would live to the end of the statement.
        let (health, health_error) = {
            let board = health::lock(&self.board);
            (board.services(health::now()), board.error.clone())
        };
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").into(),
            abi: abi::ABI,
            kernel: kernel_release(),
            pid: std::process::id(),
            uptime_s,
            epoch: self.live.control().epoch,
            revision: (self.revision != 0).then_some(self.revision),
            attachments: self.attachments.iter().map(|a| attachment(a, self.live.hook())).collect(),
            connect: self.connect.as_ref().map(connect),
            zone: self.zone.clone(),
            splice: if self.splice { Some(self.splice_status()?) } else { None },
            policy: PolicySize {
                services: self.policy.services.len() as u64,
                cohorts: self.policy.cohorts.len() as u64,
                routes: self.policy.routes.len() as u64,
                identities: self.have.identities.len() as u64,
                prefixes: self.prefixes.len() as u64,
                rules: self.compiled.rules.len() as u64,
            },
            flows: self.flow_table(flows),
            counters: counters(reasons),
            events_lost: lost,
            services: self.service_counts()?,
            alarms: {
                let alarms = alarm::lock(&self.alarms);
                alarms.iter().filter(|(_, a)| a.is_up()).map(|(service, a)| a.status(service)).collect()
            },
            breakers: self.breaker_status()?,
            health,
            health_error,
            policy_dir: self.policy_dir.clone(),
            layers: self.layer_status(),
            links: self.links_status()?,
            state_dir_error: self.store.trouble().map(|e| e.to_string()),
        })
    }

    fn splice_status(&self) -> Result<SpliceStatus, KernelError> {
        let at = self.live.listeners()?.into_iter().flatten();
        let at = at.map(|l| SocketAddr::new(l.addr.into(), u16::from_be(l.port)).to_string());
        Ok(SpliceStatus { at: at.collect() })
    }

    pub(super) fn flow_table(&self, [v4, v6]: [u64; 2]) -> FlowTable {
        FlowTable { v4, v6, capacity: u64::from(self.live.flow_capacity()) }
    }

    fn service_counts(&self) -> Result<Vec<ServiceCounts>, KernelError> {
        let mut out = Vec::new();
        for s in &self.policy.services {
            let Some(id) = self.compiled.assigned.services.get(&s.name) else { continue };
            let (gray, stable) = (self.live.arm(id, ARM_GRAY)?, self.live.arm(id, ARM_STABLE)?);
            out.push(ServiceCounts {
                service: s.name.clone(),
                gray: gray.packet_flows + gray.connects,
                stable: stable.packet_flows + stable.connects,
                shadow: (s.shadow || stable.shadowed != 0).then_some(stable.shadowed),
                agent_lost: (s.agent_lease.is_some() || stable.lost != 0).then_some(stable.lost),
            });
        }
        Ok(out)
    }
}

fn kernel_release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().into()
}

fn counters(reasons: Vec<(Reason, u64)>) -> Vec<Counter> {
    let mut seen: Vec<_> = reasons.into_iter().filter(|(_, n)| *n != 0).collect();
    seen.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    seen.into_iter()
        .map(|(r, count)| Counter { reason: r.label().into(), count, doc: r.doc().into() })
        .collect()
}

fn attachment(a: &Attachment, hook: Hook) -> AttachmentStatus {
    let hook = match hook {
        Hook::Tcx => "tcx",
        Hook::Clsact => "clsact",
    };
    AttachmentStatus {
        iface: a.iface.clone(),
        ifindex: a.ifindex,
        role: a.role.name().into(),
        hook: (a.state == AttachState::Attached).then(|| hook.into()),
        xdp: a.front.on.then(|| "native".into()),
        xdp_note: (!a.front.why.is_empty()).then(|| a.front.why.clone()),
        trusts_tags: a.is_trusted,
        state: state(a.state).into(),
        since: time::rfc3339_of(a.since),
        error: a.error.clone(),
    }
}

fn state(state: AttachState) -> &'static str {
    match state {
        AttachState::Attached => "attached",
        AttachState::Waiting => "waiting",
        AttachState::Failed => "failed",
    }
}

fn connect(c: &Connect) -> ConnectStatus {
    let attached = c.state == AttachState::Attached;
    let tags = if c.says && c.tags_error.is_none() { TAG_PROGRAMS } else { &[] };
    let measures = if c.measures && c.measures_error.is_none() { MEASURE_PROGRAMS } else { &[] };
    let calls = if c.calls_error.is_none() { &[CALLS_PROGRAM][..] } else { &[] };
    let links = if c.links && c.links_error.is_none() { &[LINK_PROGRAM][..] } else { &[] };
    let programs = CONNECT_PROGRAMS
        .iter()
        .chain(calls)
        .chain(tags)
        .chain(measures)
        .chain(links)
        .map(|p| p.strip_prefix("gray_").unwrap_or(p).to_string());
    ConnectStatus {
        cgroup: c.cgroup.clone(),
        state: state(c.state).into(),
        programs: if attached { programs.collect() } else { Vec::new() },
        error: c.error.clone(),
        tags_error: c.tags_error.clone(),
        links_error: c.links_error.clone(),
        uncounted: c.calls_error.clone().or_else(|| c.measures_error.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_show_what_happened_largest_first() {
        let shown = counters(vec![(Reason::Explicit, 2), (Reason::Weight, 0), (Reason::Default, 9)]);
        let labels: Vec<_> = shown.iter().map(|c| (c.reason.as_str(), c.count)).collect();
        assert_eq!(labels, [("default", 9), ("explicit", 2)]);
    }
}
