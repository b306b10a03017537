//! Rules of other systems -> our document, and a list of what has no counterpart. Pure: no files. What comes out names services
//! that a document beside it must have: a rule file does not say where they listen.

mod arms;
mod expression;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod properties;
mod routes;
mod rule;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::model::{ClaimKind, Policy};

/// What the file itself cannot say.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// Which claim a header, parameter or cookie of the rules' conditions is.
    pub claims: BTreeMap<String, ClaimKind>,
    /// The rules are this service's own: they are about its calls only.
    pub consumer: Option<String>,
}

/// Something of the file that the document does not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Left {
    /// `rule.xml:12`.
    pub place: String,
    pub what: String,
    pub why: String,
}

/// What was made of a file.
#[derive(Clone, Debug, Default)]
pub struct Imported {
    /// No services.
    pub policy: Policy,
    /// Where the services must read the claims that conditions name.
    pub claims: BTreeMap<ClaimKind, String>,
    pub left: Vec<Left>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}")]
pub struct NoRule {
    pub place: String,
    pub what: String,
    pub help: &'static str,
}

/// Elements, attributes and texts of one file.
const NODES: u32 = 1_000_000;

/// Reads a rule file of the Nepxion Discovery family: XML, or properties whose values are such rules.
///
/// # Errors
/// The file is no rule at all. What it has that we have not is no error: it is in [`Imported::left`].
pub fn discovery(name: &str, text: &str, wishes: &Wishes) -> Result<Imported, NoRule> {
    let text = text.trim_start_matches('\u{feff}');
    if let Some(Err(what)) = wishes.consumer.as_deref().map(routes::caller) {
        return Err(NoRule { place: name.to_owned(), what, help: "give --consumer the service's name" });
    }
    let mut to = routes::Routes::new(wishes);
    match text.trim_start().chars().next() {
        Some('<') => one(name, text, 0, &mut to)?,
        Some('{' | '[') => {
            return Err(NoRule {
                place: name.to_owned(),
                what: "a rule in JSON".to_owned(),
                help: "give the rule in XML, as the console exports it",
            });
        }
        _ => {
            let mut rules = 0;
            for p in properties::read(text) {
                let place = || format!("{name}:{}", p.line);
                if p.value.trim_start().starts_with('<') {
                    rules += 1;
                    one(name, &p.value, p.line - 1, &mut to)?;
                } else {
                    to.leave(place(), format!("the property {}", shown(&p.key)), properties::why(&p.key));
                }
            }
            if rules == 0 {
                return Err(NoRule {
                    place: name.to_owned(),
                    what: "no rule is in this file".to_owned(),
                    help: "give a rule.xml, or properties with the XML of rules as values",
                });
            }
        }
    }
    Ok(to.done())
}

fn one(name: &str, text: &str, before: usize, to: &mut routes::Routes<'_>) -> Result<(), NoRule> {
    let options = roxmltree::ParsingOptions { nodes_limit: NODES, ..roxmltree::ParsingOptions::default() };
    // What stands before the declaration is an error of XML, and of no interest.
    let skipped = text.len() - text.trim_start().len();
    let before = before + text[..skipped].matches('\n').count();
    let tree = roxmltree::Document::parse_with_options(&text[skipped..], options).map_err(|e| NoRule {
        place: format!("{name}:{}", before + e.pos().row as usize),
        what: match e {
            roxmltree::Error::DtdDetected => "a document type declaration: entities are not read".to_owned(),
            e => clean(&e.to_string()),
        },
        help: "correct the XML and import it again",
    })?;
    let root = tree.root_element();
    if root.tag_name().name() != "rule" {
        return Err(NoRule {
            place: format!("{name}:{}", before + 1),
            what: format!("the root is <{}>", shown(root.tag_name().name())),
            help: "a rule file has the root <rule>",
        });
    }
    rule::read(&rule::File { name, before, tree: &tree }, root, to);
    Ok(())
}

/// Text of the file as messages quote it: one short line that moves no cursor.
fn shown(text: &str) -> String {
    let mut out: String = clean(text).chars().take(60).collect();
    if text.chars().nth(60).is_some() {
        out.push('…');
    }
    out
}

fn clean(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace(char::is_control, "\u{fffd}")
}
