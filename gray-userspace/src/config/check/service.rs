//! Whether the parts of one service fit together. Must not look at other services and routes.

use super::super::{
    blacklist::BlacklistDraft,
    report::{At, Draft, Report, quoted},
    selector,
    service::ServiceDraft,
};
use crate::model::{Failover, Instance, Listener, MetaKey, Nat, Probe, Proto, ZoneAffinity, address};

pub(super) fn family(v6: bool) -> &'static str {
    if v6 { "IPv6" } else { "IPv4" }
}

/// Translation keeps the address family, so each side needs the other.
pub(super) fn families(service: &ServiceDraft, report: &mut Report<'_>) {
    let ServiceDraft { listen, instances, stable, whole, .. } = service;
    let matches = |i: &Instance| stable.as_ref().is_some_and(|s| s.value.matches(i));
    if !listen.is_empty() {
        for i in instances {
            let v6 = i.value.address.is_ipv6();
            if *whole && !listen.iter().any(|l| l.value.addr.is_ipv6() == v6) {
                let (mine, theirs) = (family(v6), family(!v6));
                report.error(
                    Draft::new(
                        i.span,
                        format!("an {mine} instance of a service that listens on {theirs} only"),
                    )
                    .expected(format!("an {theirs} address"))
                    .help(format!(
                        "add an {mine} address to `listen`, or give the instance's {theirs} address"
                    )),
                );
            }
        }
    }
    let mut told = [false; 2];
    for l in listen.iter().filter(|_| *whole) {
        let v6 = l.value.addr.is_ipv6();
        let served = instances.iter().any(|i| i.value.address.is_ipv6() == v6 && matches(&i.value));
        let any_stable = instances.iter().any(|i| matches(&i.value));
        if any_stable && !served && !std::mem::replace(&mut told[usize::from(v6)], true) {
            report
                .error(Draft::new(l.span, format!("no stable instance has an {} address", family(v6))).help(
                "stable must serve every family that is listened on: add an instance, or remove this address",
            ));
        }
        for i in instances.iter().filter(|i| i.value.address == l.value.addr && !matches(&i.value)) {
            report.error(
                Draft::new(i.span, format!("`{}` is listened on, and is an instance that is not stable", i.value.address))
                    .also(l.span, "listened on here")
                    .help("only stable's own address may be dialled by clients: give stable's address, or another one"),
            );
        }
    }
}

pub(super) fn stable(service: &ServiceDraft, report: &mut Report<'_>) {
    let Some(stable) = service.stable.as_ref().filter(|_| service.whole) else { return };
    let instances = || service.instances.iter().map(|i| &i.value);
    if !instances().any(|i| stable.value.matches(i)) {
        let help = selector::seen(&stable.value, instances());
        let whose = quoted(&service.name.value);
        report.error(selector::matches_nothing(stable.span, &stable.value, &whose, help));
    }
}

/// Somebody must be there to fail over to.
pub(super) fn failover(service: &ServiceDraft, report: &mut Report<'_>) {
    let instances = || service.instances.iter().map(|i| &i.value);
    let by = service.failover_by.iter().map(|(_, f)| f);
    for At { value, span } in service.failover.iter().chain(by).filter(|_| service.whole) {
        if let Failover::To(subset) = value
            && !instances().any(|i| subset.matches(i))
        {
            let help = selector::seen(subset, instances());
            report.error(selector::matches_nothing(*span, subset, &quoted(&service.name.value), help));
        }
    }
}

/// Affinity to a zone that nobody is in.
pub(super) fn zones(service: &ServiceDraft, report: &mut Report<'_>) {
    let Some(At { value, span }) = service.zone_affinity.as_ref().filter(|_| service.whole) else { return };
    let zoned = |i: &At<Instance>| i.value.meta.contains_key(&MetaKey::Zone);
    if *value != ZoneAffinity::Off && !service.instances.iter().any(zoned) {
        report.warning(
            Draft::new(*span, format!("`zone-affinity: {}`, and no instance has a zone", value.name()))
                .help("give instances theirs: zone: z1; and agents: --zone z1"),
        );
    }
}

/// Stable is never emptied, in no family that is listened on.
pub(super) fn blacklisted(service: &ServiceDraft, all: &BlacklistDraft, report: &mut Report<'_>) {
    let Some(stable) = service.stable.as_ref().filter(|_| service.whole) else { return };
    let lists = [all.finish(), service.blacklist.finish()];
    let out = |i: &Instance| lists.iter().any(|l| l.names(i));
    for v6 in [false, true] {
        let of = |i: &&At<Instance>| stable.value.matches(&i.value) && i.value.address.is_ipv6() == v6;
        let mut stable = service.instances.iter().filter(of).peekable();
        let dialled = service.listen.iter().any(|l| l.value.addr.is_ipv6() == v6);
        if !dialled || stable.peek().is_none() || !stable.all(|i| out(&i.value)) {
            continue;
        }
        let by = |i: &Instance, b: &BlacklistDraft| {
            let id = b.ids.iter().find(|e| e.value == i.id).map(|e| e.span);
            id.or_else(|| b.addresses.iter().find(|e| address::matches(&e.value, i.address)).map(|e| e.span))
        };
        let last = service.instances.iter().rfind(of).map(|i| &i.value);
        let at = last.and_then(|i| by(i, &service.blacklist).or_else(|| by(i, all)));
        let whose = quoted(&service.name.value);
        let text = format!("the blacklist leaves no stable {} instance of {whose}", family(v6));
        report.error(Draft::new(at.unwrap_or(service.name.span), text).help("leave one of them in service"));
    }
}

/// A connection can only be made to what listens on TCP.
pub(super) fn probes(service: &ServiceDraft, report: &mut Report<'_>) {
    let Some(health) = service.health.as_ref().filter(|_| service.whole) else { return };
    let tcp = service.listen.iter().any(|l| l.value.proto == Proto::Tcp);
    if !tcp && health.value.port.is_none() && !matches!(health.value.probe, Probe::Command(_)) {
        report.error(
            Draft::new(health.span, "a check by TCP of instances that listen on UDP only")
                .help("give the `port` where they listen on TCP, or check them by a command"),
        );
    }
}

/// With `nat: dsr` the instance gets the packet as the client sent it, its port included.
pub(super) fn untouched(service: &ServiceDraft, report: &mut Report<'_>) {
    if service.nat != Nat::Dsr || !service.whole {
        return;
    }
    for i in &service.instances {
        let at = i.value.address;
        let other =
            |l: &&At<Listener>| l.value.addr.is_ipv4() == at.is_ipv4() && l.value.addr.port() != at.port();
        if let Some(l) = service.listen.iter().find(other) {
            let (has, wants) = (at.port(), l.value.addr.port());
            report.error(
                Draft::new(
                    i.span,
                    format!("with `nat: dsr`, an instance at port {has} of a service at port {wants}"),
                )
                .also(l.span, "listened on here")
                .help("the packet's port is not changed: give both the same one, or say `nat: dnat`"),
            );
        }
    }
}
