//! Reads `when`: cohort names and claims, joined by all, any, not. Must not know which cohorts exist.

use std::collections::BTreeSet;

use super::{
    cohort, limits,
    report::{At, Draft, Report, quoted},
    shape::CONDITION,
    tree::{Kind, Node},
    walk::{self, Fields},
    workload,
};
use crate::model::{Caller, ClaimKind, Condition, beginnings, claim_text};

const EXPECTED: &str = "a cohort's name, or one of all, any, not, lane, caller, or a claim";

/// What conditions ask about. Of claims also how many first bytes their wildcards ask for.
#[derive(Clone, Default)]
pub(super) struct Asked {
    pub cohorts: Vec<At<String>>,
    pub lanes: Vec<At<String>>,
    pub claims: Vec<At<(ClaimKind, BTreeSet<u8>)>>,
    pub callers: Vec<At<Caller>>,
    /// The texts of conditions on claims and callers: each is a list.
    pub lists: Vec<At<String>>,
}

/// The condition; what it asks about is added to `asked`.
pub(super) fn read(node: &Node<'_>, asked: &mut Asked, report: &mut Report<'_>) -> Option<At<Condition>> {
    let value = condition(node, 1, asked, report)?;
    Some(At { value, span: node.span })
}

fn condition(node: &Node<'_>, depth: usize, asked: &mut Asked, report: &mut Report<'_>) -> Option<Condition> {
    let Kind::Map(pairs) = &node.kind else {
        let help = matches!(node.kind, Kind::List(_))
            .then_some("say how they are joined: { all: [..] } or { any: [..] }");
        let Kind::Text { text, .. } = &node.kind else {
            report.error(
                Draft::new(node.span, format!("a condition is {}", node.is()))
                    .expected(EXPECTED)
                    .help_if(help),
            );
            return None;
        };
        let name = walk::name(text, node.span, report)?;
        asked.cohorts.push(name.clone());
        return Some(Condition::Cohort(name.value));
    };
    if depth > limits::CONDITION_DEPTH {
        report.error(
            Draft::new(node.span, format!("a condition deeper than {}", limits::CONDITION_DEPTH))
                .help("all, any and not of the same things can be joined"),
        );
        return None;
    }
    let before = report.errors();
    let fields = Fields::open(node, &CONDITION, node.span, report)?;
    if pairs.len() != 1 && report.errors() == before {
        let given: Vec<_> = pairs.iter().map(|(k, _)| quoted(&k.text)).collect();
        let text = if given.is_empty() { "no key".to_owned() } else { given.join(" and ") };
        report.error(
            Draft::new(node.span, format!("a condition with {text}"))
                .expected("exactly one of all, any, not, lane, caller, or a claim")
                .help_if((pairs.len() > 1).then_some("join them: { all: [ { .. }, { .. } ] }")),
        );
        return None;
    }
    let mut join = |key: &str| {
        let node = fields.get(key)?;
        let items = walk::list(node, &format!("`{key}`"), "conditions", report)?;
        if items.is_empty() {
            let draft = Draft::new(node.span, format!("`{key}` of nothing"));
            report.error(draft.expected("at least one condition"));
            return None;
        }
        Some(items.iter().filter_map(|i| condition(i, depth + 1, asked, report)).collect::<Vec<_>>())
    };
    if let Some(all) = join("all") {
        return Some(Condition::All(all));
    }
    if let Some(any) = join("any") {
        return Some(Condition::Any(any));
    }
    if let Some(node) = fields.get("not") {
        return Some(Condition::Not(Box::new(condition(node, depth + 1, asked, report)?)));
    }
    if let Some(node) = fields.get("lane") {
        let name = walk::name(walk::text(node, "`lane`", "a lane's name", report)?, node.span, report)?;
        asked.lanes.push(name.clone());
        return Some(Condition::Lane(name.value));
    }
    if let Some(node) = fields.get("caller") {
        let caller = workload::caller(node, report)?;
        asked.lists.push(At { value: caller.value.to_string(), span: node.span });
        asked.callers.push(caller.clone());
        return Some(Condition::Caller(caller.value));
    }
    let (of, node) = ClaimKind::ALL.into_iter().find_map(|of| Some((of, fields.get(of.name())?)))?;
    claim(of, node, asked, report)
}

/// `{ platform: android }`, `{ platform: [android, ios] }`.
fn claim(of: ClaimKind, node: &Node<'_>, asked: &mut Asked, report: &mut Report<'_>) -> Option<Condition> {
    let items = match &node.kind {
        Kind::List(items) => items.as_slice(),
        Kind::Text { .. } => std::slice::from_ref(node),
        _ => {
            report.error(
                Draft::new(node.span, format!("`{}` is {}", of.name(), node.is()))
                    .expected("a value, or a list of values"),
            );
            return None;
        }
    };
    if items.is_empty() || items.len() > limits::CONDITION_VALUES {
        report.error(
            Draft::new(node.span, format!("a condition on {} values of `{}`", items.len(), of.name()))
                .expected(format!("1 to {}", limits::CONDITION_VALUES))
                .help_if((!items.is_empty()).then(|| format!("make a cohort: {{ {}: [..] }}", of.plural()))),
        );
        return None;
    }
    let before = report.errors();
    let values = cohort::values(of.name(), of, items, report);
    if report.errors() > before {
        return None;
    }
    asked.claims.push(At { value: (of, beginnings(of, &values)), span: node.span });
    asked.lists.push(At { value: claim_text(of, &values), span: node.span });
    Some(Condition::Claim { of, values })
}

/// `early`, `all(early,not(office))`, `platform=android|ios`.
pub(super) fn write(when: &Condition, out: &mut String) {
    let many = |word: &str, items: &[Condition], out: &mut String| {
        out.push_str(word);
        for (i, item) in items.iter().enumerate() {
            out.push(if i == 0 { '(' } else { ',' });
            write(item, out);
        }
        out.push(')');
    };
    match when {
        Condition::Cohort(name) => out.push_str(name),
        Condition::Lane(name) => out.push_str(&format!("lane={name}")),
        Condition::Caller(caller) => out.push_str(&caller.to_string()),
        Condition::Claim { of, values } => out.push_str(&claim_text(*of, values)),
        Condition::All(items) => many("all", items, out),
        Condition::Any(items) => many("any", items, out),
        Condition::Not(item) => many("not", std::slice::from_ref(item), out),
    }
}

/// A condition as text: `all(early,not(office))`.
pub fn condition_text(when: &Condition) -> String {
    let mut out = String::new();
    write(when, &mut out);
    out
}

/// The same condition whatever the order and repetition of its parts: equal texts match the same clients.
pub(super) fn normal(when: &Condition) -> String {
    let many = |word: &str, items: &[Condition]| {
        let mut parts: Vec<_> = items.iter().map(normal).collect();
        parts.sort_unstable();
        parts.dedup();
        if parts.len() == 1 { parts.remove(0) } else { format!("{word}({})", parts.join(",")) }
    };
    match when {
        Condition::Cohort(name) => name.clone(),
        Condition::Lane(name) => format!("lane={name}"),
        Condition::Caller(caller) => caller.to_string(),
        Condition::Claim { of, values } => claim_text(*of, values),
        Condition::All(items) => many("all", items),
        Condition::Any(items) => many("any", items),
        Condition::Not(item) => match &**item {
            Condition::Not(inner) => normal(inner),
            item => format!("not({})", normal(item)),
        },
    }
}
