//! Reads one lane of the document: of which service which instances. Must not know which services exist.

use super::{
    report::{At, Draft, Report, quoted},
    selector,
    shape::SELECTOR,
    tree::{Kind, Node},
    walk,
};
use crate::model::{Lane, Selector};

pub(super) struct LaneDraft {
    pub name: At<String>,
    /// By service. One that is wrong is left out (and reported); routes may name the lane all the same.
    pub subsets: Vec<(At<String>, At<Selector>)>,
}

pub(super) fn read(name: At<String>, node: &Node<'_>, report: &mut Report<'_>) -> LaneDraft {
    let mut draft = LaneDraft { name, subsets: Vec::new() };
    const EXPECTED: &str = "a map from services to selectors, such as { shop: { version: \"2.0\" } }";
    let Kind::Map(pairs) = &node.kind else {
        let at = if matches!(node.kind, Kind::Null) { draft.name.span } else { node.span };
        let text = format!("the lane {} is {}", quoted(&draft.name.value), node.is());
        report.error(Draft::new(at, text).expected(EXPECTED));
        return draft;
    };
    if pairs.is_empty() {
        let text = format!("the lane {} names no service", quoted(&draft.name.value));
        report.error(Draft::new(node.span, text).expected(EXPECTED));
    }
    for (key, node) in pairs {
        let service = walk::name(&key.text, key.span, report);
        let subset = selector::read(node, &SELECTOR, report);
        draft.subsets.extend(service.zip(subset));
    }
    draft
}

/// The finished lane.
pub(super) fn finish(draft: LaneDraft) -> Lane {
    let subsets = draft.subsets.into_iter().map(|(service, subset)| (service.value, subset.value));
    Lane { name: draft.name.value, subsets: subsets.collect() }
}
