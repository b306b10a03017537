//! The policy document: text -> [`Policy`], or every problem at once. Pure: no files, no clock.
//! Must not know kernel tables; `compile` goes on from the policy.

mod accept;
mod alarm;
mod blacklist;
mod breaker;
mod check;
mod claims;
mod cohort;
mod condition;
mod diff;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod headers;
mod health;
mod joined;
mod lane;
pub mod limits;
mod places;
mod problem;
pub(crate) mod release;
mod report;
mod route;
mod schema;
mod selector;
mod service;
mod shape;
mod strategy;
mod tree;
mod value;
mod walk;
mod workload;
mod yaml;

use std::collections::HashMap;

pub use condition::condition_text;
pub use diff::{Change, Kind as ChangeKind, What, diff};
pub use places::{Places, Spot};
pub use problem::{Place, Problem, Problems, Severity};
pub use release::load_release;
pub use route::default_name as default_route_name;
pub use schema::schema_json;
pub use strategy::load_strategy;
pub use value::{META, is_meta, is_name, millis, percent_text};
pub use yaml::to_yaml;

use self::{
    check::Drafts,
    report::{At, Draft, Report, Span},
    tree::{Kind, Node},
    walk::Fields,
};
use crate::model::{Cohort, Policy, Route};

/// One document: `name` is how errors call it (a path, `-`, `api`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub name: String,
    pub text: String,
}

impl Source {
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into() }
    }
}

/// A valid policy, what is odd about it, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    pub policy: Policy,
    pub warnings: Vec<Problem>,
    pub places: Places,
}

/// Reads documents as one policy: services, cohorts, lanes and routes of all files together, routes in the order of files.
///
/// # Errors
/// All problems of all documents at once (of a file that is no YAML: that one), sorted by place.
pub fn load(sources: &[Source]) -> Result<Loaded, Problems> {
    let mut report = Report::new(sources);
    let (mut policy, mut places) = (Policy::default(), Places::default());
    if sources.iter().map(|s| s.text.len()).sum::<usize>() > limits::TEXT_BYTES {
        let at = Span { line: 1, column: 1, ..Span::default() };
        let text = format!("the documents are larger than {} MiB", limits::TEXT_BYTES >> 20);
        report.error(Draft::new(at, text).help("give long lists with `gray cohort load`"));
    } else {
        let drafts = read(sources, &mut report);
        check::all(&drafts, &mut report);
        let routes = routes(&drafts, &mut report);
        check::odd(&drafts, &mut report);
        if report.errors() == 0 {
            places = Places::of(&drafts, &routes, &report);
        }
        policy.routes = routes.into_iter().map(|(route, _)| route).collect();
        finish(drafts, &mut policy);
    }
    report.finish().map(|warnings| Loaded { policy, warnings, places })
}

/// Whether documents have nothing in them: what is left of a pipe whose first program failed. Not even `services: {}`, which says that
/// there shall be none.
pub fn say_nothing(sources: &[Source]) -> bool {
    let nothing = |line: &str| {
        let line = line.trim();
        line.starts_with('#') || matches!(line, "" | "---" | "..." | "{}" | "null" | "~")
    };
    sources.iter().all(|s| s.text.lines().all(nothing))
}

fn read(sources: &[Source], report: &mut Report<'_>) -> Drafts {
    let mut drafts = Drafts::default();
    for (file, source) in (0..).zip(sources) {
        for root in tree::parse(file, &source.text, report).unwrap_or_default() {
            // A file with nothing but comments is an empty document.
            if !matches!(root.kind, Kind::Null) {
                document(&root, &mut drafts, report);
            }
        }
    }
    drafts
}

fn document(root: &Node<'_>, drafts: &mut Drafts, report: &mut Report<'_>) {
    let Some(fields) = Fields::open(root, &shape::DOCUMENT, root.span, report) else { return };
    for (name, node) in section(&fields, "services", report) {
        drafts.services.push(service::read(name, node, report));
    }
    if let Some(node) = fields.get("blacklist").filter(|n| !matches!(n.kind, Kind::Null)) {
        let more = blacklist::read(node, report);
        drafts.blacklist.ids.extend(more.ids);
        drafts.blacklist.addresses.extend(more.addresses);
    }
    for (name, node) in section(&fields, "cohorts", report) {
        drafts.cohorts.push(cohort::read(name, node, report));
    }
    for (name, node) in section(&fields, "lanes", report) {
        drafts.lanes.push(lane::read(name, node, report));
    }
    for (name, node) in section(&fields, "workloads", report) {
        drafts.workloads.push(workload::read(name, node, report));
    }
    let Some(node) = fields.get("routes").filter(|n| !matches!(n.kind, Kind::Null)) else { return };
    for item in walk::list(node, "`routes`", "routes", report).unwrap_or_default() {
        drafts.routes.extend(route::read(item, report));
    }
}

/// The named entries of `services`, `cohorts`, `lanes` or `workloads`; a section whose entries are all commented out is fine.
/// An entry with a bad name is read all the same, for its other problems.
fn section<'n, 't>(
    fields: &Fields<'n, 't>,
    key: &str,
    report: &mut Report<'_>,
) -> Vec<(At<String>, &'n Node<'t>)> {
    let Some(node) = fields.get(key) else { return Vec::new() };
    let pairs = match &node.kind {
        Kind::Map(pairs) => pairs,
        Kind::Null => return Vec::new(),
        _ => {
            let draft = Draft::new(node.span, format!("`{key}` is {}", node.is()));
            report.error(draft.expected(format!("a map from names to {key}")));
            return Vec::new();
        }
    };
    let mut out = Vec::with_capacity(pairs.len());
    for (key, node) in pairs {
        let name = walk::name(&key.text, key.span, report);
        out.push((name.unwrap_or_else(|| At { value: key.text.to_string(), span: key.span }), node));
    }
    out
}

/// The finished routes. What is not whole is left out: there is an error then, and the policy is dropped.
fn routes(drafts: &Drafts, report: &mut Report<'_>) -> Vec<(Route, Span)> {
    let mut names: HashMap<String, Span> = HashMap::new();
    let mut routes = Vec::new();
    for draft in &drafts.routes {
        for At { value, span } in draft.finish(drafts, report) {
            if let Some(first) = check::earlier(names.entry(value.name.clone()), span) {
                report.error(route::same_name(span, first, &value.name, draft.name.is_some()));
            }
            routes.push((value, span));
        }
    }
    routes
}

fn finish(drafts: Drafts, policy: &mut Policy) {
    policy.blacklist = drafts.blacklist.finish();
    let cohort = |c: cohort::CohortDraft| Some(Cohort { name: c.name.value, body: c.body? });
    policy.services.extend(drafts.services.into_iter().filter_map(service::ServiceDraft::finish));
    policy.cohorts.extend(drafts.cohorts.into_iter().filter_map(cohort));
    policy.lanes.extend(drafts.lanes.into_iter().map(lane::finish));
    policy.workloads.extend(drafts.workloads.into_iter().map(workload::finish));
}
