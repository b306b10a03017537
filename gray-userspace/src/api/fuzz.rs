//! Fuzz targets of the API: bodies, queries, lists of ids, and the files that tell who calls.

use axum::{extract::Query, http::Uri};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    ApiError,
    client::{path_segment, query},
    extract::{json, lines},
    types::*,
    who::{effective_uid, name_in},
};
use crate::fuzz::{choice, one_line, text};

const BODIES: &[fn(&[u8])] = &[
    body::<ApplyRequest>,
    body::<RollbackRequest>,
    body::<CohortEdit>,
    body::<ExplainRequest>,
    body::<WorkloadSet>,
    body::<InstanceRef>,
    body::<HashKey>,
    // What a client reads of an agent that it does not know.
    body::<ErrorReply>,
    body::<ApplyReply>,
    body::<EventLine>,
    body::<CohortShow>,
    body::<ReleaseStart>,
    body::<ReleaseCommand>,
    body::<ReleaseView>,
];

/// JSON: the first byte chooses the shape.
pub fn requests(data: &[u8]) {
    if let Some((which, data)) = choice(data, BODIES.len()) {
        BODIES[which](data);
    }
}

fn body<T: Serialize + DeserializeOwned + PartialEq>(data: &[u8]) {
    match json::<T>(data) {
        Ok(value) => {
            let printed = serde_json::to_vec(&value).unwrap_or_else(|e| panic!("cannot be printed: {e}"));
            assert!(json::<T>(&printed).is_ok_and(|again| again == value), "{}", text(&printed));
        }
        Err(e) => said(&e),
    }
}

/// What is wrong may quote the body; whoever prints it takes care.
fn said(e: &ApiError) {
    assert!(!e.error.is_empty());
    one_line(&e.help);
}

const QUERIES: &[fn(&Uri)] =
    &[asked::<FlowQuery>, asked::<Page>, asked::<CohortLinesQuery>, asked::<EventsQuery>];

fn asked<T: DeserializeOwned>(uri: &Uri) {
    drop(Query::<T>::try_from_uri(uri));
}

/// Query strings as they come, and what the client makes of any text.
pub fn queries(data: &[u8]) {
    let Some((which, data)) = choice(data, QUERIES.len() + 1) else { return };
    let text = text(data);
    if let Some(read) = QUERIES.get(which) {
        if let Ok(uri) = format!("/v1/x?{text}").parse() {
            read(&uri);
        }
        return;
    }
    let uri = format!("/v1/cohorts/{}{}", path_segment(&text), query(&[("service", Some(text.to_string()))]));
    let uri: Uri = uri.parse().unwrap_or_else(|e| panic!("{uri}: {e}"));
    let read = Query::<FlowQuery>::try_from_uri(&uri).unwrap_or_else(|e| panic!("{uri}: {e}"));
    assert_eq!(read.0.service.as_deref(), Some(&*text), "{uri}");
}

/// A list of ids, one per line.
pub fn lists(data: &[u8]) {
    match lines(data) {
        Ok(ids) => {
            // The first line is empty: an id may begin with the mark that is skipped there.
            let again = lines(format!("\n{}", ids.iter().collect::<Vec<_>>().join("\n")).as_bytes());
            assert_eq!(again.ok().as_ref(), Some(&ids));
            ids.iter().for_each(members);
        }
        Err(e) => said(&e),
    }
}

/// The canonical text of a member is a member, the same one, and its own canonical text.
fn members(id: &str) {
    use crate::model::{ClaimKind, canonical_member, parse_member};
    for of in ClaimKind::ALL {
        match canonical_member(of, id) {
            Ok(canonical) => {
                assert_eq!(parse_member(of, &canonical), parse_member(of, id), "{of:?} {id:?}");
                assert_eq!(canonical_member(of, &canonical).as_ref(), Ok(&canonical));
            }
            Err(e) => assert!(e.text.chars().count() <= 64),
        }
    }
}

/// /etc/passwd and /proc/self/status.
pub fn accounts(data: &[u8]) {
    let text = text(data);
    if let Some(uid) = effective_uid(&text) {
        let _ = name_in(&text, uid);
    }
    assert!(name_in(&text, 0).is_none_or(|name| !name.contains([':', '\n'])));
}
