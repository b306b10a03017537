//! Reads one cohort of the document. Must not look at routes or services.

use std::collections::BTreeSet;

use super::{
    condition::{self, Asked},
    report::{At, Draft, Report, did_you_mean, nearest, quoted},
    service::claim,
    shape::{COHORT, KINDS, TAIL},
    tree::{Kind, Node},
    walk::{self, Fields},
};
use crate::model::{ClaimKind, CohortBody, canonical_member};

pub(super) struct CohortDraft {
    pub name: At<String>,
    /// `None`: something is wrong with it (and reported); routes may name it all the same.
    pub body: Option<CohortBody>,
    /// Of one that is made of others.
    pub asked: Asked,
}

impl CohortDraft {
    /// The one claim that it is about.
    pub(super) fn of(&self) -> Option<ClaimKind> {
        match self.body.as_ref()? {
            CohortBody::List { of, .. } => Some(*of),
            CohortBody::Percent { of, .. } => *of,
            CohortBody::Tail { of, .. } => Some(*of),
            CohortBody::Joined(_) => None,
        }
    }
}

pub(super) fn read(name: At<String>, node: &Node<'_>, report: &mut Report<'_>) -> CohortDraft {
    let before = report.errors();
    let mut asked = Asked::default();
    let body = body(&name, node, &mut asked, report).filter(|_| report.errors() == before);
    CohortDraft { name, body, asked }
}

fn body(
    name: &At<String>,
    node: &Node<'_>,
    asked: &mut Asked,
    report: &mut Report<'_>,
) -> Option<CohortBody> {
    let before = report.errors();
    let fields = Fields::open(node, &COHORT, name.span, report)?;
    let given: Vec<_> = KINDS.iter().filter_map(|kind| fields.pair(kind)).collect();
    if given.len() > 1 {
        let names: Vec<_> = given.iter().map(|(k, _)| format!("`{}`", k.text)).collect();
        report.error(
            Draft::new(
                given[1].0.span,
                format!("cohort {} has {}", quoted(&name.value), names.join(" and ")),
            )
            .expected(format!("exactly one of {}", KINDS.join(", ")))
            .help("make two cohorts, and a third one of them: { any: [ .., .. ] }"),
        );
    }
    if given.is_empty() && report.errors() == before {
        report.error(
            Draft::new(name.span, format!("cohort {} names no clients", quoted(&name.value)))
                .expected(format!("exactly one of {}", KINDS.join(", "))),
        );
    }
    let percent = fields.get("percent");
    for key in ["of", "salt"] {
        if let (Some((k, _)), None, false) = (fields.pair(key), percent, given.is_empty()) {
            report.error(
                Draft::new(k.span, format!("`{key}` without `percent`"))
                    .help(format!("`{key}` only says how a percentage is taken: remove it")),
            );
        }
    }
    let (key, value) = *given.first()?;
    if ["all", "any", "not"].contains(&&*key.text) {
        if report.errors() > before {
            return None;
        }
        return condition::read(node, asked, report).map(|c| CohortBody::Joined(c.value));
    }
    if key.text == "tail" {
        return tail(value, report);
    }
    let Some(of) = ClaimKind::ALL.into_iter().find(|of| of.plural() == key.text) else {
        return percentage(name, &fields, value, report);
    };
    Some(CohortBody::List { of, ids: members(&key.text, of, value, report) })
}

fn percentage(
    name: &At<String>,
    fields: &Fields<'_, '_>,
    node: &Node<'_>,
    report: &mut Report<'_>,
) -> Option<CohortBody> {
    let basis_points = walk::percent(node, "percent", report);
    let of = fields.get("of").and_then(|node| claim(node, "of", report));
    let salt = fields.get("salt").and_then(|node| walk::meta(node, "salt", report));
    let salt = salt.map_or_else(|| name.value.clone(), |s| s.value);
    Some(CohortBody::Percent { of, basis_points: basis_points?, salt })
}

/// `{ of: user, digits: ["7", "42"] }`.
fn tail(node: &Node<'_>, report: &mut Report<'_>) -> Option<CohortBody> {
    let fields = Fields::open(node, &TAIL, node.span, report)?;
    let of = fields.get("of").and_then(|node| {
        let of = claim(node, "of", report)?;
        if !of.is_read() {
            let can: Vec<_> = ClaimKind::READ.iter().map(|k| k.name()).collect();
            report.error(
                Draft::new(node.span, format!("a tail of `{}`", of.name()))
                    .expected(format!("one of {}", can.join(", ")))
                    .help("last digits are those of a text that requests name"),
            );
        }
        of.is_read().then_some(of)
    });
    let node = fields.get("digits")?;
    let items = walk::list(node, "`digits`", "endings", report)?;
    if items.is_empty() {
        let draft = Draft::new(node.span, "`digits` is an empty list");
        report.error(draft.expected("at least one ending, such as \"7\""));
    }
    const EXPECTED: &str = "one or two digits, such as \"7\" or \"42\"";
    let mut digits = BTreeSet::new();
    for item in items {
        let Some(text) = walk::text(item, "an entry of `digits`", EXPECTED, report) else { continue };
        if matches!(text.len(), 1 | 2) && text.bytes().all(|c| c.is_ascii_digit()) {
            let _ = digits.insert(text.to_owned());
        } else {
            let draft = Draft::new(item.span, format!("{} cannot be in `digits`", quoted(text)));
            report.error(draft.expected(EXPECTED));
        }
    }
    Some(CohortBody::Tail { of: of?, digits })
}

/// The entries in their canonical texts. Empty and null lists are fine: they are filled live.
fn members(key: &str, of: ClaimKind, node: &Node<'_>, report: &mut Report<'_>) -> BTreeSet<String> {
    if matches!(node.kind, Kind::Null) {
        return BTreeSet::new();
    }
    let Some(items) = walk::list(node, &format!("`{key}`"), "entries", report) else {
        return BTreeSet::new();
    };
    values(key, of, items, report)
}

/// Values of a claim in their canonical texts; `key` is what names them.
pub(super) fn values(
    key: &str,
    of: ClaimKind,
    items: &[Node<'_>],
    report: &mut Report<'_>,
) -> BTreeSet<String> {
    let mut out = Vec::with_capacity(items.len());
    for item in items {
        let Some(text) = walk::text(item, &format!("an entry of `{key}`"), "one entry", report) else {
            continue;
        };
        match canonical_member(of, text) {
            Ok(id) => {
                if of == ClaimKind::Source {
                    host_bits(item, text, &id, report);
                }
                out.push(id.into_owned());
            }
            Err(bad) => report.error(
                Draft::new(item.span, format!("{} cannot be in `{key}`", quoted(text)))
                    .expected(bad.expected),
            ),
        }
    }
    // From a vector in one go: faster than a million single inserts.
    out.into_iter().collect()
}

fn host_bits(item: &Node<'_>, text: &str, id: &str, report: &mut Report<'_>) {
    let cut = |text: &str| text.parse::<ipnet::IpNet>().is_ok_and(|n| n.addr() != n.network());
    if text.contains('/') && cut(text) {
        report.warning(
            Draft::new(item.span, format!("{} has host bits", quoted(text)))
                .help(format!("it is read as {id}")),
        );
    }
}

/// The draft for a cohort that is not there.
pub(super) fn unknown<'c>(at: &At<String>, names: impl Iterator<Item = &'c str> + Clone) -> Draft {
    let draft = Draft::new(at.span, format!("unknown cohort {}", quoted(&at.value)));
    if nearest(&at.value, names.clone()).is_some() {
        return draft.help_if(did_you_mean(&at.value, names));
    }
    let mut known: Vec<_> = names.take(9).collect();
    if known.is_empty() {
        return draft.help("the document has no cohorts; add it under `cohorts:`");
    }
    if known.len() == 9 {
        known[8] = "...";
    }
    draft.help(format!("cohorts are {}", known.join(", ")))
}
