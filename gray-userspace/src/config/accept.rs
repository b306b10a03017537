//! Reads a service's `accept`: whom some of its instances take connections from.

use super::{
    check::Drafts,
    condition, limits,
    report::{At, Draft, Report, quoted},
    selector,
    service::ServiceDraft,
    shape::{ACCEPT, SELECTOR},
    tree::Node,
    walk::{self, Fields},
};
use crate::model::{Accept, ClaimKind, Condition, Instance, Selector};

pub(super) struct AcceptDraft {
    pub instances: At<Selector>,
    pub from: At<Condition>,
    /// What the condition asks about.
    pub asked: condition::Asked,
}

pub(super) fn read(node: &Node<'_>, report: &mut Report<'_>) -> Vec<AcceptDraft> {
    let Some(items) = walk::list(node, "`accept`", "entries with `instances` and `from`", report) else {
        return Vec::new();
    };
    if items.is_empty() || items.len() > limits::ACCEPTS {
        report.error(
            Draft::new(node.span, format!("`accept` of {} entries", items.len()))
                .expected(format!("1 to {}", limits::ACCEPTS)),
        );
        return Vec::new();
    }
    items.iter().filter_map(|item| entry(item, report)).collect()
}

fn entry(node: &Node<'_>, report: &mut Report<'_>) -> Option<AcceptDraft> {
    let fields = Fields::open(node, &ACCEPT, node.span, report)?;
    let mut asked = condition::Asked::default();
    let instances = fields.get("instances").and_then(|node| selector::read(node, &SELECTOR, report));
    let from = fields.get("from").and_then(|node| condition::read(node, &mut asked, report));
    Some(AcceptDraft { instances: instances?, from: from?, asked })
}

impl AcceptDraft {
    pub(super) fn finish(self) -> Accept {
        Accept { instances: self.instances.value, from: self.from.value }
    }
}

/// Only instances that are nobody's default, each in one entry, and at addresses that are no service's.
pub(super) fn check(service: &ServiceDraft, drafts: &Drafts, report: &mut Report<'_>) {
    if !service.whole {
        return;
    }
    let whose = quoted(&service.name.value);
    let instances = || service.instances.iter().map(|i| &i.value);
    for (n, entry) in service.accept.iter().enumerate() {
        let of = |i: &&Instance| entry.instances.value.matches(i);
        let at = entry.instances.span;
        if !instances().any(|i| of(&i)) {
            let help = selector::seen(&entry.instances.value, instances());
            report.error(selector::matches_nothing(at, &entry.instances.value, &whose, help));
        }
        let stable = |i: &&Instance| service.stable.as_ref().is_some_and(|s| s.value.matches(i));
        if let Some(i) = instances().filter(of).find(stable) {
            report.error(
                Draft::new(at, format!("`accept` of the stable instance {}", quoted(&i.id)))
                    .help("stable serves everybody: name instances that are not of it"),
            );
        }
        let earlier = |i: &&Instance| service.accept[..n].iter().any(|a| a.instances.value.matches(i));
        if let Some(i) = instances().filter(of).find(earlier) {
            report.error(
                Draft::new(at, format!("two entries of `accept` name the instance {}", quoted(&i.id)))
                    .help("join them: from: { any: [ .., .. ] }"),
            );
        }
        let unread = |of: ClaimKind| of.is_read() && !service.claims.contains_key(&of);
        for At { value: (of, _), span } in entry.asked.claims.iter().filter(|c| unread(c.value.0)) {
            let text = format!("service {whose} does not read the claim `{}`", of.name());
            let help = format!(
                "say where it is read: claims: {{ {}: {{ header: {} }} }}",
                of.name(),
                of.usual_header()
            );
            report.error(Draft::new(*span, text).help(help));
        }
        for i in instances().filter(of) {
            elsewhere(service, (i, at), drafts, report);
        }
    }
}

/// An address has one meaning when it is dialled.
fn elsewhere(
    service: &ServiceDraft,
    (i, at): (&Instance, super::report::Span),
    drafts: &Drafts,
    report: &mut Report<'_>,
) {
    let mine = &service.name.value;
    if let Some(other) = drafts.services.iter().find(|s| s.listen.iter().any(|l| l.value.addr == i.address)) {
        let whose = quoted(&other.name.value);
        report.error(
            Draft::new(at, format!("`accept` of `{}`, which service {whose} listens on", i.address))
                .help("who dials it is the service's client: give the instance another address"),
        );
    }
    let also = |s: &&ServiceDraft| {
        let named = |o: &Instance| s.accept.iter().any(|a| a.instances.value.matches(o));
        s.instances.iter().any(|o| o.value.address == i.address && named(&o.value))
    };
    // Told once, at the later of the two.
    let before = drafts.services.iter().take_while(|s| s.name.value != *mine);
    if let Some(first) = { before }.find(also) {
        report.error(
            Draft::new(
                at,
                format!("`{}` has an `accept` of service {}, too", i.address, quoted(&first.name.value)),
            )
            .help("say in one place from whom it takes connections"),
        );
    }
}
