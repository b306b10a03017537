//! Reads a strategy document: which tenants a gray release chooses. Must not know tables of tenants.

use std::collections::BTreeSet;

use super::{
    Problems, Source, limits,
    report::{Draft, Report, Span, quoted},
    shape::{ACTIVE, CHOOSE, LAYER, STRATEGY},
    tree::{self, Kind, Node},
    walk::{self, Fields},
};
use crate::model::tenant::{Choose, Layer, Strategy};

/// Reads a strategy.
///
/// # Errors
/// All problems of the document at once.
pub fn load_strategy(source: &Source) -> Result<Strategy, Problems> {
    let sources = std::slice::from_ref(source);
    let mut report = Report::new(sources);
    let roots = tree::parse(0, &source.text, &mut report).unwrap_or_default();
    let at = Span { line: 1, column: 1, ..Span::default() };
    let found = match roots.as_slice() {
        [root] => strategy(root, &mut report),
        _ => {
            if report.errors() == 0 {
                report.error(
                    Draft::new(at, format!("{} documents in one file", roots.len())).expected("one strategy"),
                );
            }
            None
        }
    };
    if found.is_none() && report.errors() == 0 {
        report.error(Draft::new(at, "no strategy"));
    }
    match (report.finish(), found) {
        (Ok(_), Some(strategy)) => Ok(strategy),
        (Err(problems), _) => Err(problems),
        (Ok(warnings), None) => Err(Problems { errors: Vec::new(), warnings, omitted: 0 }),
    }
}

fn strategy(root: &Node<'_>, report: &mut Report<'_>) -> Option<Strategy> {
    let fields = Fields::open(root, &STRATEGY, root.span, report)?;
    let name = fields.get("name").and_then(|n| {
        let text = walk::text(n, "`name`", super::value::NAME, report)?;
        walk::name(text, n.span, report)
    });
    let choose = fields.get("choose").and_then(|n| choose(n, 1, report));
    let layer = fields.get("layer").map(|n| layer(n, report));
    Some(Strategy { name: name?.value, choose: choose?, layer: layer.map_or(Some(None), |l| l.map(Some))? })
}

fn choose(node: &Node<'_>, depth: usize, report: &mut Report<'_>) -> Option<Choose> {
    if depth > limits::CONDITION_DEPTH {
        report.error(Draft::new(node.span, format!("a choice deeper than {}", limits::CONDITION_DEPTH)));
        return None;
    }
    let before = report.errors();
    let fields = Fields::open(node, &CHOOSE, node.span, report)?;
    let Kind::Map(pairs) = &node.kind else { return None };
    if pairs.len() != 1 {
        if report.errors() == before {
            report.error(
                Draft::new(node.span, format!("a choice with {} keys", pairs.len()))
                    .expected("exactly one of active, fixes, potential, all, any, not")
                    .help_if((pairs.len() > 1).then_some("join them: { all: [ { .. }, { .. } ] }")),
            );
        }
        return None;
    }
    if let Some(n) = fields.get("active") {
        return active(n, report);
    }
    for (key, made) in
        [("fixes", Choose::Fixes as fn(BTreeSet<String>) -> Choose), ("potential", Choose::Potential)]
    {
        if let Some(n) = fields.get(key) {
            return words(n, key, report).map(made);
        }
    }
    for (key, made) in [("all", Choose::All as fn(Vec<Choose>) -> Choose), ("any", Choose::Any)] {
        let Some(n) = fields.get(key) else { continue };
        let items = walk::list(n, &format!("`{key}`"), "choices", report)?;
        if items.is_empty() {
            report.error(Draft::new(n.span, format!("`{key}` of nothing")).expected("at least one choice"));
            return None;
        }
        let parts: Vec<_> = items.iter().filter_map(|i| choose(i, depth + 1, report)).collect();
        return (parts.len() == items.len()).then(|| made(parts));
    }
    Some(Choose::Not(Box::new(choose(fields.get("not")?, depth + 1, report)?)))
}

fn active(node: &Node<'_>, report: &mut Report<'_>) -> Option<Choose> {
    let fields = Fields::open(node, &ACTIVE, node.span, report)?;
    let measure = fields.get("measure").and_then(|n| walk::meta(n, "measure", report));
    let at_least = fields.get("at-least").and_then(|n| decimal(n, "at-least", report));
    Some(Choose::Active { measure: measure?.value, at_least: at_least? })
}

fn words(node: &Node<'_>, key: &str, report: &mut Report<'_>) -> Option<BTreeSet<String>> {
    let items = walk::list(node, &format!("`{key}`"), "words", report)?;
    if items.is_empty() {
        report
            .error(Draft::new(node.span, format!("`{key}` is an empty list")).expected("at least one entry"));
        return None;
    }
    let all: Vec<_> = items.iter().filter_map(|i| walk::meta(i, key, report)).collect();
    (all.len() == items.len()).then(|| all.into_iter().map(|t| t.value).collect())
}

fn decimal(node: &Node<'_>, key: &str, report: &mut Report<'_>) -> Option<f64> {
    const EXPECTED: &str = "a number such as 100 or 2.5";
    let text = walk::number(node, &format!("`{key}`"), EXPECTED, report)?;
    let plain = !text.is_empty() && text.len() <= 18 && text.bytes().all(|c| c.is_ascii_digit() || c == b'.');
    let found = text.parse::<f64>().ok().filter(|n| plain && n.is_finite());
    if found.is_none() {
        report.error(Draft::new(node.span, format!("`{key}` is {}", quoted(text))).expected(EXPECTED));
    }
    found
}

fn layer(node: &Node<'_>, report: &mut Report<'_>) -> Option<Layer> {
    let before = report.errors();
    let fields = Fields::open(node, &LAYER, node.span, report)?;
    let whole = |key: &str, report: &mut Report<'_>| {
        let n = fields.get(key)?;
        walk::integer(n, key, 1..=u32::MAX, report).map(u64::from)
    };
    let (keys, keys_per_tenant) = (whole("keys", report), whole("keys-per-tenant", report));
    let damping = fields.get("damping").and_then(|n| {
        let d = decimal(n, "damping", report)?;
        if d <= 0.0 {
            report.error(Draft::new(n.span, "`damping` is 0").expected("more than 0"));
        }
        Some(d)
    });
    let basis_points = fields.get("percent").and_then(|n| walk::percent(n, "percent", report));
    let whole = keys.is_some() && keys_per_tenant.is_some() && damping.is_some();
    if !whole && basis_points.is_none() && report.errors() == before {
        report.error(
            Draft::new(node.span, "a layer of no known size")
                .expected("`keys`, `keys-per-tenant` and `damping`, or `percent`"),
        );
    }
    (report.errors() == before).then_some(Layer { keys, keys_per_tenant, damping, basis_points })
}
