//! Reads maps by their description in `shape`, and scalars with one kind of error text.
//! Must not know a particular object.

use super::{
    report::{At, Draft, Report, Span, did_you_mean, nearest, quoted},
    shape::Object,
    tree::{Key, Kind, Node},
    value,
};
use crate::model::Millis;

/// An opened map: all its keys are known, wrong ones are in the report.
pub(super) struct Fields<'n, 't> {
    object: &'static Object,
    pairs: &'n [(Key<'t>, Node<'t>)],
}

impl<'n, 't> Fields<'n, 't> {
    /// Refuses what is no map, unknown and planned keys, and missing ones (at `owner`: the name or the map itself).
    pub(super) fn open(
        node: &'n Node<'t>,
        object: &'static Object,
        owner: Span,
        report: &mut Report<'_>,
    ) -> Option<Self> {
        let Kind::Map(pairs) = &node.kind else {
            let at = if matches!(node.kind, Kind::Null) { owner } else { node.span };
            let keys = object.names().collect::<Vec<_>>().join(", ");
            report.error(
                Draft::new(at, format!("{} is {}", object.name, node.is()))
                    .expected(format!("a map with {keys}")),
            );
            return None;
        };
        let mut meant = Vec::new();
        for (key, _) in pairs {
            meant.extend(unknown(key, object, report));
        }
        for key in object.keys.iter().filter(|k| k.required && !meant.contains(&k.name)) {
            if !pairs.iter().any(|(k, _)| k.text == key.name) {
                report.error(
                    Draft::new(owner, format!("{} needs `{}`", object.name, key.name))
                        .help(format!("`{}`: {}", key.name, key.doc)),
                );
            }
        }
        Some(Self { object, pairs })
    }

    /// The value of a key that `shape` lists.
    pub(super) fn get(&self, name: &str) -> Option<&'n Node<'t>> {
        self.pair(name).map(|(_, node)| node)
    }

    pub(super) fn pair(&self, name: &str) -> Option<&'n (Key<'t>, Node<'t>)> {
        debug_assert!(self.object.key(name).is_some(), "`{name}` is not described for {}", self.object.name);
        self.pairs.iter().find(|(k, _)| k.text == name)
    }
}

/// Reports a key that the object does not have; the known key that was probably meant.
fn unknown(key: &Key<'_>, object: &'static Object, report: &mut Report<'_>) -> Option<&'static str> {
    let text = &*key.text;
    if object.key(text).is_some() {
        return None;
    }
    if object.later.contains(&text) {
        report.error(not_yet(key.span, text));
        return None;
    }
    let names = || object.names();
    let near = nearest(text, names());
    let expected = names().collect::<Vec<_>>().join(", ");
    report.error(
        Draft::new(key.span, format!("unknown key {} of {}", quoted(text), object.name))
            .expected(expected)
            .help_if(near.map(|n| format!("did you mean `{n}`?"))),
    );
    near
}

pub(super) fn not_yet(at: Span, text: &str) -> Draft {
    Draft::new(at, format!("{} is not supported yet", quoted(text)))
        .help("remove it; this version cannot do it")
}

/// The text of a scalar as written. `name`: what it is called in the error.
pub(super) fn text<'n>(
    node: &'n Node<'_>,
    name: &str,
    expected: &str,
    report: &mut Report<'_>,
) -> Option<&'n str> {
    match &node.kind {
        Kind::Text { text, .. } => Some(text),
        _ => {
            report.error(Draft::new(node.span, format!("{name} is {}", node.is())).expected(expected));
            None
        }
    }
}

/// A number's text: a scalar without quotes.
pub(super) fn number<'n>(
    node: &'n Node<'_>,
    name: &str,
    expected: &str,
    report: &mut Report<'_>,
) -> Option<&'n str> {
    let text = text(node, name, expected, report)?;
    if matches!(node.kind, Kind::Text { plain: false, .. }) {
        report.error(
            Draft::new(node.span, format!("{name} is text in quotes"))
                .expected(expected)
                .help("remove the quotes"),
        );
        return None;
    }
    Some(text)
}

/// The items of a list. `None` (and an error) for anything else.
pub(super) fn list<'n, 't>(
    node: &'n Node<'t>,
    name: &str,
    of: &str,
    report: &mut Report<'_>,
) -> Option<&'n [Node<'t>]> {
    match &node.kind {
        Kind::List(items) => Some(items),
        _ => {
            let help = matches!(node.kind, Kind::Text { .. } | Kind::Map(_))
                .then_some("write it as a list: [ ... ]");
            report.error(
                Draft::new(node.span, format!("{name} is {}", node.is()))
                    .expected(format!("a list of {of}"))
                    .help_if(help),
            );
            None
        }
    }
}

/// A name of a service, cohort or route.
pub(super) fn name(text: &str, span: Span, report: &mut Report<'_>) -> Option<At<String>> {
    if value::is_name(text) {
        return Some(At { value: text.to_owned(), span });
    }
    let lower = text.to_lowercase().replace(' ', "-");
    let help = value::is_name(&lower).then(|| format!("write it as `{lower}`"));
    report.error(
        Draft::new(span, format!("{} is not a name", quoted(text))).expected(value::NAME).help_if(help),
    );
    None
}

/// Metadata, ids, salts.
pub(super) fn meta(node: &Node<'_>, key: &str, report: &mut Report<'_>) -> Option<At<String>> {
    let text = text(node, &format!("`{key}`"), value::META, report)?;
    if value::is_meta(text) {
        return Some(At { value: text.to_owned(), span: node.span });
    }
    report.error(
        Draft::new(node.span, format!("{} cannot be a value of `{key}`", quoted(text))).expected(value::META),
    );
    None
}

/// One of `known`, by index; `later` are refused as planned.
pub(super) fn word(
    node: &Node<'_>,
    key: &str,
    (known, later): (&'static [&'static str], &[&str]),
    report: &mut Report<'_>,
) -> Option<usize> {
    let expected = if known.len() == 1 { known.join("") } else { format!("one of {}", known.join(", ")) };
    let text = text(node, &format!("`{key}`"), &expected, report)?;
    let found = known.iter().position(|k| *k == text);
    if found.is_some() {
        return found;
    }
    if later.contains(&text) {
        report.error(not_yet(node.span, text).help(format!("use {expected}")));
        return None;
    }
    report.error(
        Draft::new(node.span, format!("{} is no value of `{key}`", quoted(text)))
            .expected(expected)
            .help_if(did_you_mean(text, known.iter().copied())),
    );
    None
}

/// A percentage in basis points.
pub(super) fn percent(node: &Node<'_>, key: &str, report: &mut Report<'_>) -> Option<u16> {
    let text = number(node, &format!("`{key}`"), value::PERCENT, report)?;
    match value::basis_points(text) {
        Ok(value) => Some(value),
        Err(why) => {
            let draft = Draft::new(node.span, format!("`{key}` {} {why}", quoted(text).trim_matches('`')))
                .expected(value::PERCENT);
            let help = text.strip_suffix('%').map(|n| format!("write {}", quoted(n).trim_matches('`')));
            report.error(draft.help_if(help));
            None
        }
    }
}

/// A whole number in a range.
pub(super) fn integer(
    node: &Node<'_>,
    key: &str,
    range: std::ops::RangeInclusive<u32>,
    report: &mut Report<'_>,
) -> Option<u32> {
    let expected = format!("a whole number from {} to {}", range.start(), range.end());
    let text = number(node, &format!("`{key}`"), &expected, report)?;
    let found = text.parse().ok().filter(|n| range.contains(n));
    if found.is_none() {
        report.error(Draft::new(node.span, format!("`{key}` is {}", quoted(text))).expected(expected));
    }
    found
}

/// A time in milliseconds.
pub(super) fn duration(
    node: &Node<'_>,
    key: &str,
    range: std::ops::RangeInclusive<u32>,
    report: &mut Report<'_>,
) -> Option<u32> {
    let (least, most) = (Millis(*range.start()), Millis(*range.end()));
    let expected = format!("a time from {least} to {most}, such as 500ms, 2s, 5m or 1h");
    let text = text(node, &format!("`{key}`"), &expected, report)?;
    let found = value::millis(text).filter(|n| range.contains(n));
    if found.is_none() {
        let bare =
            text.bytes().all(|c| c.is_ascii_digit()).then(|| format!("with its unit: {text}s or {text}ms"));
        report.error(
            Draft::new(node.span, format!("`{key}` is {}", quoted(text))).expected(expected).help_if(bare),
        );
    }
    found
}
