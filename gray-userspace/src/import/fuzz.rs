//! Fuzz target: any bytes become a document and a list, or one sentence.

use std::collections::BTreeMap;

use super::{Wishes, discovery};
use crate::{
    config::{Source, load, to_yaml},
    fuzz::{one_line, text},
    model::ClaimKind,
};

pub fn rule(data: &[u8]) {
    let wishes = Wishes { claims: BTreeMap::from([("a".to_owned(), ClaimKind::User)]), consumer: None };
    match discovery("rule.xml", &text(data), &wishes) {
        Ok(found) => {
            // Nothing is wrong with the document but that its services are elsewhere, or that it is too large.
            let document = to_yaml(&found.policy);
            for e in load(&[Source::new("made", document.as_str())]).err().map_or(Vec::new(), |p| p.errors) {
                let expected = e.message.contains("service") || e.message.contains("lists");
                assert!(expected, "{}\n{document}", e.message);
            }
            for left in found.left {
                [left.place, left.what, left.why].iter().for_each(|t| one_line(t));
            }
        }
        Err(e) => one_line(&e.to_string()),
    }
}
