//! Reads `when`: cohort names joined by all, any, not. Must not know which cohorts exist.

use super::{
    limits,
    report::{At, Draft, Report, quoted},
    shape::CONDITION,
    tree::{Kind, Node},
    walk::{self, Fields},
};
use crate::model::Condition;

const EXPECTED: &str = "a cohort's name, or one of all, any, not";

/// The condition; every cohort it names is added to `cohorts`.
pub(super) fn read(
    node: &Node<'_>,
    cohorts: &mut Vec<At<String>>,
    report: &mut Report<'_>,
) -> Option<At<Condition>> {
    let value = condition(node, 1, cohorts, report)?;
    Some(At { value, span: node.span })
}

fn condition(
    node: &Node<'_>,
    depth: usize,
    cohorts: &mut Vec<At<String>>,
    report: &mut Report<'_>,
) -> Option<Condition> {
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
        cohorts.push(name.clone());
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
                .expected("exactly one of all, any, not"),
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
        Some(items.iter().filter_map(|i| condition(i, depth + 1, cohorts, report)).collect::<Vec<_>>())
    };
    if let Some(all) = join("all") {
        return Some(Condition::All(all));
    }
    if let Some(any) = join("any") {
        return Some(Condition::Any(any));
    }
    let inner = condition(fields.get("not")?, depth + 1, cohorts, report)?;
    Some(Condition::Not(Box::new(inner)))
}

/// `early`, `all(early,not(office))`.
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
        Condition::All(items) => many("all", items),
        Condition::Any(items) => many("any", items),
        Condition::Not(item) => match &**item {
            Condition::Not(inner) => normal(inner),
            item => format!("not({})", normal(item)),
        },
    }
}
