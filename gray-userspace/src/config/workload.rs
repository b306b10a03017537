//! Reads what the document says of workloads, conditions on callers, and `same` of routes. Must not know which cgroups are whose.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    check::Drafts,
    limits,
    report::{At, Draft, Report, quoted},
    route::RouteDraft,
    shape::{CALLER, SAME, WORKLOAD},
    tree::{Kind, Node},
    walk::{self, Fields},
};
use crate::model::{Arm, Caller, CallerKey, Condition, Selector, Workload};

pub(super) struct WorkloadDraft {
    pub name: At<String>,
    /// What is wrong is left out (and reported).
    pub meta: BTreeMap<CallerKey, String>,
}

pub(super) fn read(name: At<String>, node: &Node<'_>, report: &mut Report<'_>) -> WorkloadDraft {
    let mut draft = WorkloadDraft { name, meta: BTreeMap::new() };
    let before = report.errors();
    let Some(fields) = Fields::open(node, &WORKLOAD, draft.name.span, report) else { return draft };
    for key in CallerKey::ALL {
        let Some(node) = fields.get(key.name()) else { continue };
        let value = walk::meta(node, key.name(), report).map(|t| t.value);
        draft.meta.extend(value.map(|v| (key, v)));
    }
    if draft.meta.is_empty() && report.errors() == before {
        let text = format!("nothing is said of the workload {}", quoted(&draft.name.value));
        report.error(Draft::new(draft.name.span, text).expected(keys("one or more of")));
    }
    draft
}

pub(super) fn finish(draft: WorkloadDraft) -> Workload {
    Workload { name: draft.name.value, meta: draft.meta }
}

fn keys(before: &str) -> String {
    format!("{before} {}", CallerKey::ALL.map(CallerKey::name).join(", "))
}

/// `{ version: "2.0", zone: [z1, z2] }`.
pub(super) fn caller(node: &Node<'_>, report: &mut Report<'_>) -> Option<At<Caller>> {
    let before = report.errors();
    let fields = Fields::open(node, &CALLER, node.span, report)?;
    let mut out = BTreeMap::new();
    for key in CallerKey::ALL {
        let Some(node) = fields.get(key.name()) else { continue };
        let items = match &node.kind {
            Kind::List(items) => items.as_slice(),
            _ => std::slice::from_ref(node),
        };
        if items.is_empty() || items.len() > limits::SELECTOR_VALUES {
            report.error(
                Draft::new(node.span, format!("{} values of `{}`", items.len(), key.name()))
                    .expected(format!("1 to {}", limits::SELECTOR_VALUES)),
            );
            continue;
        }
        let values = items.iter().filter_map(|item| walk::meta(item, key.name(), report)).map(|t| t.value);
        let _ = out.insert(key, values.collect::<BTreeSet<_>>());
    }
    if out.is_empty() && report.errors() == before {
        report.error(Draft::new(node.span, "`caller` says nothing").expected(keys("one or more of")));
    }
    (report.errors() == before).then_some(At { value: Caller(out), span: node.span })
}

/// `same: version`, `same: [version, env]`.
pub(super) fn same(node: &Node<'_>, report: &mut Report<'_>) -> Vec<CallerKey> {
    let items = match &node.kind {
        Kind::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    let mut out = Vec::new();
    for item in items {
        let Some(n) = walk::word(item, "same", (SAME, &[]), report) else { continue };
        let Some(key) = CallerKey::ALL.into_iter().find(|k| Some(&k.name()) == SAME.get(n)) else { continue };
        if out.contains(&key) {
            report.error(
                Draft::new(item.span, format!("`{}` is in `same` twice", key.name()))
                    .help("remove one of them"),
            );
        } else {
            out.push(key);
        }
    }
    if items.is_empty() {
        report.error(Draft::new(node.span, "`same` is an empty list").expected("at least one entry"));
    }
    out
}

/// Somebody must be whom a condition asks for.
pub(super) fn check(asked: &[At<Caller>], drafts: &Drafts, report: &mut Report<'_>) {
    if report.incomplete {
        return;
    }
    for At { value: caller, span } in asked {
        let is = |w: &WorkloadDraft| caller.matches(&Workload { name: String::new(), meta: w.meta.clone() });
        if !drafts.workloads.iter().any(is) {
            let help = if drafts.workloads.is_empty() {
                "say what callers are: workloads: { shop-2: { service: shop, version: \"2.0\" } }".to_owned()
            } else {
                "see what is said under `workloads:`".to_owned()
            };
            report.error(Draft::new(*span, format!("no workload is a `{caller}`")).help(help));
        }
    }
}

/// Of each combination of values that workloads have of these keys: the condition that a caller has them, and the arms with them. What no
/// service has an instance for is left out.
pub(super) fn spread(route: &RouteDraft, drafts: &Drafts) -> Vec<(Condition, Vec<Arm>)> {
    let keys = &route.same;
    let of = |w: &WorkloadDraft| keys.iter().map(|k| w.meta.get(k).cloned()).collect::<Option<Vec<_>>>();
    let all: BTreeSet<Vec<String>> = drafts.workloads.iter().filter_map(of).collect();
    let one = |values: Vec<String>| {
        let pairs = keys.iter().zip(&values);
        let caller = pairs.clone().map(|(k, v)| (*k, BTreeSet::from([v.clone()]))).collect();
        let wanted = pairs.filter_map(|(k, v)| Some((k.meta()?, BTreeSet::from([v.clone()]))));
        let wanted: Vec<_> = wanted.collect();
        let with = |subset: &Selector| {
            let mut subset = subset.clone();
            subset.0.extend(wanted.iter().cloned());
            subset
        };
        let mut arms: Vec<Arm> = route.to.iter().map(|a| a.value.clone()).collect();
        if arms.is_empty() {
            arms.push(Arm { subset: Selector(BTreeMap::new()), basis_points: 10_000 });
        }
        arms.iter_mut().for_each(|a| a.subset = with(&a.subset));
        let whose = |name: &String| route.service.as_ref().is_none_or(|n| n.value == *name);
        let services: Vec<_> = drafts.services.iter().filter(|s| whose(&s.name.value)).collect();
        let has = |a: &Arm| services.iter().any(|s| s.instances.iter().any(|i| a.subset.matches(&i.value)));
        arms.iter().all(has).then_some((Condition::Caller(Caller(caller)), arms))
    };
    all.into_iter().filter_map(one).collect()
}
