//! Reads selectors: the pairs that instances must have. Must not know which instances exist.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    limits,
    report::{At, Draft, Report, Span, quoted},
    shape::Object,
    tree::{Kind, Node},
    walk::{self, Fields},
};
use crate::model::{MetaKey, Selector, address, has};

/// A selector by its description (`SELECTOR`, or `ARM`, whose weight the caller reads).
pub(super) fn read(
    node: &Node<'_>,
    object: &'static Object,
    report: &mut Report<'_>,
) -> Option<At<Selector>> {
    let before = report.errors();
    let fields = Fields::open(node, object, node.span, report)?;
    let pairs = pairs(&fields, report);
    if report.errors() > before {
        return None;
    }
    if pairs.is_empty() {
        let keys = MetaKey::ALL.map(MetaKey::name).join(", ");
        report.error(
            Draft::new(node.span, format!("{} names no instances", object.name))
                .expected(format!("one or more of {keys}")),
        );
        return None;
    }
    Some(At { value: Selector(pairs), span: node.span })
}

fn pairs(fields: &Fields<'_, '_>, report: &mut Report<'_>) -> BTreeMap<MetaKey, BTreeSet<String>> {
    let mut out = BTreeMap::new();
    for key in MetaKey::ALL {
        let Some(node) = fields.get(key.name()) else { continue };
        let Kind::List(items) = &node.kind else {
            if let Some(value) = value(key, node, report) {
                let _ = out.insert(key, BTreeSet::from([value]));
            }
            continue;
        };
        if items.is_empty() || items.len() > limits::SELECTOR_VALUES {
            report.error(
                Draft::new(node.span, format!("{} values of `{}`", items.len(), key.name()))
                    .expected(format!("1 to {}", limits::SELECTOR_VALUES)),
            );
            continue;
        }
        let _ = out.insert(key, items.iter().filter_map(|item| value(key, item, report)).collect());
    }
    out
}

fn value(key: MetaKey, node: &Node<'_>, report: &mut Report<'_>) -> Option<String> {
    if key == MetaKey::Address {
        pattern(node, report)
    } else {
        walk::meta(node, key.name(), report).map(|t| t.value)
    }
}

/// A pattern of addresses, in its canonical text.
pub(super) fn pattern(node: &Node<'_>, report: &mut Report<'_>) -> Option<String> {
    let text = walk::text(node, "`address`", address::EXPECTED, report)?;
    let found = address::canonical(text);
    if found.is_none() {
        report.error(
            Draft::new(node.span, format!("{} is no pattern of addresses", quoted(text)))
                .expected(address::EXPECTED),
        );
    }
    found
}

/// Help for a selector that matches nothing: what the instances do have.
pub(super) fn seen<'i>(
    selector: &Selector,
    instances: impl IntoIterator<Item = &'i crate::model::Instance>,
) -> Option<String> {
    let instances: Vec<_> = instances.into_iter().collect();
    for (key, want) in &selector.0 {
        if instances.iter().any(|i| has(i, *key, want)) {
            continue;
        }
        let given = |i: &crate::model::Instance| match key {
            MetaKey::Id => Some(i.id.clone()),
            MetaKey::Address => Some(i.address.to_string()),
            key => i.meta.get(key).cloned(),
        };
        let mut have: Vec<String> = instances.iter().filter_map(|i| given(i)).collect();
        have.sort_unstable();
        have.dedup();
        if have.is_empty() {
            return Some(format!("no instance has a `{}`", key.name()));
        }
        if have.len() > 8 {
            let near = |w: &String| super::report::nearest(w, have.iter().map(String::as_str));
            if let Some(near) = want.iter().find_map(near) {
                return Some(format!("did you mean `{}: \"{near}\"`?", key.name()));
            }
            have.truncate(8);
            have.push("...".to_owned());
        }
        return Some(format!("instances have `{}` {}", key.name(), have.join(", ")));
    }
    Some("each pair is found, but on no single instance".to_owned())
}

/// Where a problem of the selector is shown.
pub(super) fn matches_nothing(span: Span, selector: &Selector, whose: &str, help: Option<String>) -> Draft {
    Draft::new(span, format!("no instance of {whose} matches `{selector}`")).help_if(help)
}
