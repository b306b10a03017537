//! The keys of the schema and the keys that the reader reads are the same: every one is checked by giving it nonsense.

use gray_userspace::config::{Source, load, schema_json};
use serde_json::Value;

/// A document in which the map of one kind has only `KEY: [[[]]]`, which no key accepts.
const PLACES: [(&str, &str); 22] = [
    ("failover-by-keys", "services: { s: { failover-by: { KEY: NONSENSE } } }"),
    ("workload", "workloads: { w: { KEY: NONSENSE } }"),
    ("caller", "routes: [{ when: { caller: { KEY: NONSENSE } } }]"),
    ("listener's-switches", "services: { s: { route-headers: { listeners: [{ KEY: NONSENSE }] } } }"),
    ("route-headers", "services: { s: { route-headers: { KEY: NONSENSE } } }"),
    ("entry-of-accept", "services: { s: { accept: [{ KEY: NONSENSE }] } }"),
    ("blacklist", "blacklist: { KEY: NONSENSE }"),
    ("", "KEY: NONSENSE"),
    ("service", "services: { s: { KEY: NONSENSE } }"),
    ("service's-claims", "services: { s: { claims: { KEY: NONSENSE } } }"),
    ("claim", "services: { s: { claims: { app: { KEY: NONSENSE } } } }"),
    ("breaker", "services: { s: { breaker: { KEY: NONSENSE } } }"),
    ("alarm", "services: { s: { missing-alarm: { KEY: NONSENSE } } }"),
    ("health-check", "services: { s: { health: { KEY: NONSENSE } } }"),
    ("damping", "services: { s: { health: { damping: { KEY: NONSENSE } } } }"),
    ("instance", "services: { s: { instances: [{ KEY: NONSENSE }] } }"),
    ("selector", "services: { s: { stable: { KEY: NONSENSE } } }"),
    ("weighted-subset", "routes: [{ to: { KEY: NONSENSE } }]"),
    ("cohort", "cohorts: { c: { KEY: NONSENSE } }"),
    ("tail", "cohorts: { c: { tail: { KEY: NONSENSE } } }"),
    ("route", "routes: [{ KEY: NONSENSE }]"),
    ("condition", "routes: [{ when: { KEY: NONSENSE } }]"),
];

fn properties<'s>(schema: &'s Value, place: &str) -> &'s Value {
    match place {
        "" => &schema["properties"],
        "condition" => &schema["$defs"]["condition"]["anyOf"][1]["properties"],
        _ => &schema["$defs"][place]["properties"],
    }
}

#[test]
fn d4_every_key_of_the_schema_is_read_and_no_other() {
    let schema: Value = serde_json::from_str(&schema_json()).unwrap();
    let mut seen = 0;
    for (place, template) in PLACES {
        for key in properties(&schema, place).as_object().unwrap().keys() {
            // `of` and `salt` are read beside `percent` only.
            let beside = if place == "cohort" && ["of", "salt"].contains(&key.as_str()) {
                "percent: 1, KEY"
            } else {
                "KEY"
            };
            let nonsense =
                if ["stable", "to", "health", "damping", "tail", "blacklist"].contains(&key.as_str()) {
                    "{ x: [[[]]] }"
                } else {
                    "[[[]]]"
                };
            let text = template.replace("KEY", beside).replace("KEY", key).replace("NONSENSE", nonsense);
            let start = text.find(nonsense).unwrap() + 1;
            let found = load(&[Source::new("p", text.as_str())]).expect_err(&text);
            let range = start..=start + nonsense.len();
            let blamed = found.errors.iter().any(|p| range.contains(&(p.column as usize)));
            assert!(blamed, "nobody reads `{key}` of `{place}`:\n{text}\n{found}");
            assert!(
                !found.errors.iter().any(|p| p.message.contains(&format!("`{key}` of"))),
                "unknown: {found}"
            );
            seen += 1;
        }
        let unknown = template.replace("KEY", "surely-unknown").replace("NONSENSE", "1");
        let found = load(&[Source::new("p", unknown.as_str())]).unwrap_err();
        assert!(
            found.errors.iter().any(|p| p.message.starts_with("unknown key `surely-unknown`")),
            "{found}"
        );
    }
    let all = 1 + schema["$defs"].as_object().unwrap().len();
    assert_eq!(
        (PLACES.len(), seen),
        (all, 166),
        "a kind of map without a place here, or another number of keys"
    );
}
