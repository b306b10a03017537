//! docs/openapi.json is what the code says, and it leaves out no path. `BLESS=1 cargo test` rewrites it.

use std::collections::BTreeSet;

use gray_userspace::api::openapi;
use serde_json::Value;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");

#[test]
fn the_checked_in_description_is_current() {
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs")).unwrap();
        std::fs::write(FILE, openapi::json()).unwrap();
    }
    let kept = std::fs::read_to_string(FILE).unwrap_or_default();
    assert!(
        kept == openapi::json(),
        "docs/openapi.json is out of date: run with BLESS=1 and look at the difference"
    );
}

#[test]
fn every_operation_is_described_and_no_other() {
    let doc: Value = serde_json::from_str(openapi::json()).unwrap();
    let described: BTreeSet<(String, String)> = doc["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, ops)| {
            ops.as_object().unwrap().keys().map(move |m| (m.to_uppercase(), path.clone()))
        })
        .collect();
    let served: BTreeSet<(String, String)> =
        openapi::operations().into_iter().map(|(m, p, _)| (m.to_string(), p.to_string())).collect();
    assert_eq!(described, served);
}

#[test]
fn every_operation_says_its_role_its_errors_and_what_it_does() {
    let doc: Value = serde_json::from_str(openapi::json()).unwrap();
    for (method, path, role) in openapi::operations() {
        let op = &doc["paths"][path][method.to_lowercase()];
        assert_eq!(op["x-gray-role"], role.name(), "{method} {path}");
        assert!(op["responses"]["default"].is_object(), "{method} {path}");
        assert!(op["summary"].as_str().is_some_and(|s| !s.is_empty()), "{method} {path}");
    }
}

/// A reference to a schema that is not there makes generators fail.
#[test]
fn every_reference_leads_somewhere() {
    fn walk(v: &Value, refs: &mut BTreeSet<String>) {
        match v {
            Value::Object(o) => o.iter().for_each(|(k, v)| match (k.as_str(), v) {
                ("$ref", Value::String(s)) => drop(refs.insert(s.clone())),
                _ => walk(v, refs),
            }),
            Value::Array(a) => a.iter().for_each(|v| walk(v, refs)),
            _ => {}
        }
    }
    let doc: Value = serde_json::from_str(openapi::json()).unwrap();
    let mut refs = BTreeSet::new();
    walk(&doc, &mut refs);
    assert!(refs.len() > 20);
    for r in refs {
        assert!(doc.pointer(r.trim_start_matches('#')).is_some(), "{r} is missing");
    }
}
