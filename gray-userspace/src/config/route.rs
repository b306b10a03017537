//! Reads one route: target, weights, and its made-up name. Must not know which services and cohorts exist.

use std::fmt::Write as _;

use super::{
    check::Drafts,
    condition, limits,
    report::{At, Draft, Report, Span, quoted},
    selector,
    shape::{ARM, ROUTE},
    tree::{Kind, Node},
    value, walk,
    walk::Fields,
    workload,
};
use crate::model::{Arm, CallerKey, Condition, Route, Target};

pub(super) struct RouteDraft {
    /// The whole route.
    pub span: Span,
    pub name: Option<At<String>>,
    pub service: Option<At<String>>,
    pub when: Option<At<Condition>>,
    /// What the condition asks about.
    pub asked: condition::Asked,
    /// Empty where a lane is named.
    pub to: Vec<At<Arm>>,
    pub lane: Option<At<String>>,
    /// What the caller and the instances have in common.
    pub same: Vec<CallerKey>,
    pub whole: bool,
}

pub(super) fn read(node: &Node<'_>, report: &mut Report<'_>) -> Option<RouteDraft> {
    let before = report.errors();
    let fields = Fields::open(node, &ROUTE, node.span, report)?;
    let mut given = |key: &str| {
        let node = fields.get(key)?;
        let text = walk::text(node, &format!("`{key}`"), value::NAME, report)?;
        walk::name(text, node.span, report)
    };
    let (name, service, lane) = (given("name"), given("service"), given("lane"));
    let mut asked = condition::Asked::default();
    let when = fields.get("when").and_then(|node| condition::read(node, &mut asked, report));
    let to = fields.get("to").map(|node| target(node, report)).unwrap_or_default();
    let same = fields.get("same").map(|node| workload::same(node, report)).unwrap_or_default();
    if let Some((key, _)) = fields.pair("same") {
        apart(key.span, &fields, (&to, &same), report);
    }
    match (fields.pair("to"), fields.pair("lane")) {
        (Some(_), Some((key, _))) => report.error(
            Draft::new(key.span, "`to` and `lane` in one route")
                .help("remove one of them: a lane says itself which instances serve it"),
        ),
        (None, None) if report.errors() == before && same.is_empty() => report.error(
            Draft::new(node.span, "a route needs `to`, `lane` or `same`")
                .help("`to`: a selector like { version: \"2.0\" }; `lane`: a lane's name"),
        ),
        _ => {}
    }
    if let (Some(service), Some((key, _))) = (&service, fields.pair("lane")) {
        report.error(
            Draft::new(service.span, "`service` and `lane` in one route")
                .also(key.span, "the lane's services are those of the route")
                .help("remove `service`, or send the clients of this service `to:` some instances"),
        );
    }
    let whole = report.errors() == before;
    Some(RouteDraft { span: node.span, name, service, when, asked, to, lane, same, whole })
}

/// What does not go with `same`.
fn apart(at: Span, fields: &Fields<'_, '_>, (to, same): (&[At<Arm>], &[CallerKey]), report: &mut Report<'_>) {
    for (key, why) in [
        ("lane", "remove one of them: a lane says itself which instances serve it"),
        ("name", "remove the name: it becomes a route for each value that workloads have"),
    ] {
        if let Some((other, _)) = fields.pair(key) {
            let text = format!("`{key}` and `same` in one route");
            report.error(Draft::new(other.span, text).also(at, "`same` is here").help(why));
        }
    }
    let says = |k: &CallerKey| k.meta().filter(|m| to.iter().any(|a| a.value.subset.0.contains_key(m)));
    for key in same.iter().filter_map(says) {
        report.error(
            Draft::new(at, format!("`to` names a `{0}`, and `same` the caller's `{0}`", key.name()))
                .help("leave it out of one of them"),
        );
    }
}

/// The arms of `to`. Empty when something is wrong with it (and reported).
fn target(node: &Node<'_>, report: &mut Report<'_>) -> Vec<At<Arm>> {
    let items = match &node.kind {
        Kind::List(items) => items.as_slice(),
        Kind::Map(_) => std::slice::from_ref(node),
        _ => {
            report.error(
                Draft::new(node.span, format!("`to` is {}", node.is()))
                    .expected("a selector like { version: \"2.0\" }, or a list of them with `weight`"),
            );
            return Vec::new();
        }
    };
    if items.is_empty() || items.len() > limits::ARMS_PER_ROUTE {
        report.error(
            Draft::new(node.span, format!("a route to {} subsets", items.len()))
                .expected(format!("1 to {}", limits::ARMS_PER_ROUTE)),
        );
        return Vec::new();
    }
    let before = report.errors();
    let arms: Vec<_> = items.iter().filter_map(|item| arm(item, items.len() == 1, report)).collect();
    if report.errors() > before {
        return Vec::new();
    }
    check_arms(node.span, &arms, report);
    arms
}

fn arm(node: &Node<'_>, alone: bool, report: &mut Report<'_>) -> Option<At<Arm>> {
    let subset = selector::read(node, &ARM, report);
    let Kind::Map(pairs) = &node.kind else { return None };
    let basis_points = match pairs.iter().find(|(k, _)| k.text == "weight") {
        Some((_, node)) => walk::percent(node, "weight", report),
        None if alone => u16::try_from(limits::FULL).ok(),
        None => {
            report.error(
                Draft::new(node.span, "a subset without `weight` among several")
                    .help("give each of them a weight; the weights sum to 100"),
            );
            None
        }
    };
    let subset = subset?;
    Some(At { value: Arm { subset: subset.value, basis_points: basis_points? }, span: subset.span })
}

fn check_arms(at: Span, arms: &[At<Arm>], report: &mut Report<'_>) {
    for (i, arm) in arms.iter().enumerate() {
        if let Some(first) = arms[..i].iter().find(|a| a.value.subset == arm.value.subset) {
            report.error(
                Draft::new(arm.span, format!("the subset `{}` is in this route twice", arm.value.subset))
                    .also(first.span, "first given here")
                    .help("add their weights up in one of them"),
            );
        }
    }
    let sum: u32 = arms.iter().map(|a| u32::from(a.value.basis_points)).sum();
    if sum != limits::FULL {
        let help = match limits::FULL.checked_sub(sum) {
            Some(missing) => format!("add {} to one of them", value::percent_text(missing)),
            None => format!("take {} away", value::percent_text(sum.saturating_sub(limits::FULL))),
        };
        report.error(
            Draft::new(at, format!("the weights sum to {}", value::percent_text(sum)))
                .expected("a sum of 100")
                .help(help),
        );
    }
}

impl RouteDraft {
    /// The finished route, or those that one with `same` becomes. None when it is not whole or a made-up name is too long (and reported).
    pub(super) fn finish(&self, drafts: &Drafts, report: &mut Report<'_>) -> Vec<At<Route>> {
        if !self.whole {
            return Vec::new();
        }
        let when = self.when.as_ref().map(|w| w.value.clone());
        if self.same.is_empty() {
            let to = match &self.lane {
                Some(lane) => Target::Lane(lane.value.clone()),
                None => Target::Arms(self.to.iter().map(|a| a.value.clone()).collect()),
            };
            return self.one(when, to, report).into_iter().collect();
        }
        let all = workload::spread(self, drafts);
        if all.is_empty() && !report.incomplete {
            let keys: Vec<_> = self.same.iter().map(|k| k.name()).collect();
            let text = format!("no workload and instance have the same {}", keys.join(" and "));
            let help = "say what callers are: workloads: { shop-2: { service: shop, version: \"2.0\" } }";
            report.warning(Draft::new(self.span, text).help(help));
        }
        let one = |(caller, arms): (Condition, Vec<Arm>)| {
            let when = match &when {
                Some(when) => Condition::All(vec![caller, when.clone()]),
                None => caller,
            };
            self.one(Some(when), Target::Arms(arms), report)
        };
        all.into_iter().filter_map(one).collect()
    }

    fn one(&self, when: Option<Condition>, to: Target, report: &mut Report<'_>) -> Option<At<Route>> {
        let service = self.service.as_ref().map(|s| s.value.clone());
        let (name, span) = match &self.name {
            Some(name) => (name.value.clone(), name.span),
            None => (default_name(service.as_deref(), when.as_ref(), &to), self.span),
        };
        if name.len() > limits::ROUTE_NAME_CHARS {
            report.error(
                Draft::new(span, format!("the made-up name of this route has {} characters", name.len()))
                    .expected(format!("at most {}", limits::ROUTE_NAME_CHARS))
                    .help("give it a short `name:`"),
            );
            return None;
        }
        Some(At { value: Route { name, service, when, to }, span })
    }
}

/// The name of a route that gives none: `shop/early/version=2.0`, `*/all(a,not(b))/version=1.0+version=2.0`,
/// `*/early/lane=gray-2.0`. Weights are left out: counters follow the name while a weight grows.
pub fn default_name(service: Option<&str>, when: Option<&Condition>, to: &Target) -> String {
    let mut out = String::from(service.unwrap_or("*"));
    out.push('/');
    match when {
        Some(when) => condition::write(when, &mut out),
        None => out.push('*'),
    }
    for (i, arm) in to.arms().iter().enumerate() {
        let _ = write!(out, "{}{}", if i == 0 { "/" } else { "+" }, arm.subset);
    }
    if let Some(lane) = to.lane() {
        let _ = write!(out, "/lane={lane}");
    }
    out
}

/// The error for two routes of one name.
pub(super) fn same_name(at: Span, first: Span, name: &str, given: bool) -> Draft {
    let text = if given { "two routes are named" } else { "two routes without `name` are both called" };
    Draft::new(at, format!("{text} {}", quoted(name))).also(first, "the first one").help(if given {
        "counters follow the name: give each its own"
    } else {
        "give one of them a `name:`"
    })
}
