//! Reads blacklists and failover. Must not know which instances exist.

use std::collections::BTreeSet;

use super::{
    report::{At, Draft, Report, Span},
    selector,
    shape::{BLACKLIST, FAILOVER, FAILOVER_BY, SELECTOR},
    tree::{Kind, Node},
    walk::{self, Fields},
};
use crate::model::{Blacklist, Failover, MetaKey};

/// What was read, each with its place.
#[derive(Default)]
pub(super) struct BlacklistDraft {
    pub ids: Vec<At<String>>,
    pub addresses: Vec<At<String>>,
}

pub(super) fn read(node: &Node<'_>, report: &mut Report<'_>) -> BlacklistDraft {
    let mut out = BlacklistDraft::default();
    let Some(fields) = Fields::open(node, &BLACKLIST, node.span, report) else { return out };
    for (key, of) in [("ids", &mut out.ids), ("addresses", &mut out.addresses)] {
        let Some(node) = fields.get(key) else { continue };
        let items = match &node.kind {
            Kind::List(items) => items.as_slice(),
            Kind::Text { .. } => std::slice::from_ref(node),
            _ => {
                let text = format!("`{key}` is {}", node.is());
                report.error(Draft::new(node.span, text).expected("a list, or text with `;` between"));
                continue;
            }
        };
        for item in items {
            entries(key, item, of, report);
        }
    }
    out
}

/// One entry, or several with `;` between.
fn entries(key: &str, node: &Node<'_>, out: &mut Vec<At<String>>, report: &mut Report<'_>) {
    let Kind::Text { text, .. } = &node.kind else {
        let what = format!("an entry of `{key}` is {}", node.is());
        report.error(Draft::new(node.span, what).expected("text"));
        return;
    };
    for part in text.split(';').map(str::trim).filter(|p| !p.is_empty()) {
        let one = Node { span: node.span, kind: Kind::Text { text: part.into(), plain: true } };
        let value = match key {
            "ids" => walk::meta(&one, key, report).map(|t| t.value),
            _ => selector::pattern(&one, report),
        };
        out.extend(value.map(|value| At { value, span: node.span }));
    }
}

impl BlacklistDraft {
    pub(super) fn finish(&self) -> Blacklist {
        let set = |all: &[At<String>]| all.iter().map(|e| e.value.clone()).collect::<BTreeSet<_>>();
        Blacklist { ids: set(&self.ids), addresses: set(&self.addresses) }
    }
}

/// `stable`, `any`, `deny`, or a selector.
pub(super) fn failover(node: &Node<'_>, report: &mut Report<'_>) -> Option<(Failover, Span)> {
    if matches!(node.kind, Kind::Map(_)) {
        return selector::read(node, &SELECTOR, report).map(|s| (Failover::To(s.value), s.span));
    }
    let value = match walk::word(node, "failover", (FAILOVER, &[]), report)? {
        1 => Failover::Any,
        2 => Failover::Deny,
        _ => Failover::Stable,
    };
    Some((value, node.span))
}

/// Of what is wanted of a subset, each as [`failover`].
pub(super) fn failover_by(node: &Node<'_>, report: &mut Report<'_>) -> Vec<(MetaKey, At<Failover>)> {
    let Some(fields) = Fields::open(node, &FAILOVER_BY, node.span, report) else { return Vec::new() };
    let read = |key: MetaKey| {
        let (value, span) = failover(fields.get(key.name())?, report)?;
        Some((key, At { value, span }))
    };
    MetaKey::ALL.into_iter().filter_map(read).collect()
}
