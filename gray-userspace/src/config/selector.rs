//! Reads selectors: the pairs that instances must have. Must not know which instances exist.

use std::collections::BTreeMap;

use super::{
    report::{At, Draft, Report, Span},
    shape::Object,
    tree::Node,
    walk::{self, Fields},
};
use crate::model::{MetaKey, Selector};

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

fn pairs(fields: &Fields<'_, '_>, report: &mut Report<'_>) -> BTreeMap<MetaKey, String> {
    let mut out = BTreeMap::new();
    for key in MetaKey::ALL {
        if let Some(text) = fields.get(key.name()).and_then(|node| walk::meta(node, key.name(), report)) {
            let _ = out.insert(key, text.value);
        }
    }
    out
}

/// Help for a selector that matches nothing: what the instances do have.
pub(super) fn seen<'i>(
    selector: &Selector,
    instances: impl IntoIterator<Item = &'i crate::model::Instance>,
) -> Option<String> {
    let instances: Vec<_> = instances.into_iter().collect();
    for (key, want) in &selector.0 {
        let mut have: Vec<&str> = instances
            .iter()
            .filter_map(|i| if *key == MetaKey::Id { Some(&i.id) } else { i.meta.get(key) })
            .map(String::as_str)
            .collect();
        have.sort_unstable();
        have.dedup();
        if have.contains(&want.as_str()) {
            continue;
        }
        if have.is_empty() {
            return Some(format!("no instance has a `{}`", key.name()));
        }
        if have.len() > 8 {
            let near = super::report::nearest(want, have.iter().copied());
            if let Some(near) = near {
                return Some(format!("did you mean `{}: \"{near}\"`?", key.name()));
            }
            have.truncate(8);
            have.push("...");
        }
        return Some(format!("instances have `{}` {}", key.name(), have.join(", ")));
    }
    Some("each pair is found, but on no single instance".to_owned())
}

/// Where a problem of the selector is shown.
pub(super) fn matches_nothing(span: Span, selector: &Selector, whose: &str, help: Option<String>) -> Draft {
    Draft::new(span, format!("no instance of {whose} matches `{selector}`")).help_if(help)
}
