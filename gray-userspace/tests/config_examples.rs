//! The examples are valid, say nothing odd, use only keys of the schema, and survive being written and read again.

use std::path::Path;

use gray_userspace::config::{Source, load, schema_json, to_yaml};
use serde_json::Value;

fn examples() -> Vec<Source> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");
    let mut out = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "yaml") {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            out.push(Source::new(name, std::fs::read_to_string(&path).unwrap()));
        }
    }
    assert!(out.len() >= 3, "examples are gone");
    out
}

#[test]
fn examples_load_without_a_warning_and_round_trip() {
    for source in examples() {
        let loaded = load(std::slice::from_ref(&source)).unwrap_or_else(|p| panic!("{p}"));
        assert!(loaded.warnings.is_empty(), "{}: {:?}", source.name, loaded.warnings);
        let text = to_yaml(&loaded.policy);
        let again = load(&[Source::new("again", &*text)]).unwrap_or_else(|p| panic!("{p}\n{text}"));
        assert_eq!(again.policy, loaded.policy, "{}", source.name);
    }
}

/// The line by which editors find the schema (yaml-language-server); it leads from every example to the page that is checked in.
#[test]
fn d4_editors_find_the_schema_of_every_example() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let schema = examples.join("../docs/policy.schema.json").canonicalize().unwrap();
    let mut found = 0;
    for (dir, names) in
        [("", None), ("releases", Some("demo-policy.yaml")), ("messages", Some("policy.yaml"))]
    {
        for entry in std::fs::read_dir(examples.join(dir)).unwrap() {
            let path = entry.unwrap().path();
            let wanted = names.is_none_or(|n| path.ends_with(n));
            if !wanted || path.extension().is_none_or(|e| e != "yaml") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let first = text.lines().next().unwrap_or_default();
            let Some(to) = first.strip_prefix("# yaml-language-server: $schema=") else {
                panic!("{}: the first line names no schema: {first}", path.display());
            };
            let led = path.parent().unwrap().join(to).canonicalize();
            assert_eq!(led.ok().as_ref(), Some(&schema), "{}: {first}", path.display());
            found += 1;
        }
    }
    assert!(found >= 9, "{found} examples");
}

#[test]
fn d4_examples_fit_the_schema() {
    let schema: Value = serde_json::from_str(&schema_json()).unwrap();
    for source in examples() {
        let document: Value = serde_saphyr::from_str(&source.text).unwrap();
        fits(&document, &schema, &schema).unwrap_or_else(|e| panic!("{}: {e}", source.name));
    }
}

#[test]
fn d4_the_schema_refuses_what_load_refuses() {
    let schema: Value = serde_json::from_str(&schema_json()).unwrap();
    for bad in [
        "releases: {}",
        "services: { shop: {} }",
        "routes: [{ to: { version: '1', weight: 101 } }]",
        "routes: [{ when: early }]",
        "routes: [{ lane: a, to: { version: '1' } }]",
        "lanes: { a: { shop: '2.0' } }",
        "lanes: { a: { version: '2.0' } }",
    ] {
        let document: Value = serde_saphyr::from_str(bad).unwrap();
        assert!(fits(&document, &schema, &schema).is_err(), "{bad}");
        assert!(load(&[Source::new("bad", bad)]).is_err(), "{bad}");
    }
}

/// The part of JSON Schema that `schema_json` uses, patterns left out.
fn fits(value: &Value, schema: &Value, root: &Value) -> Result<(), String> {
    let fail = |why: &str| Err(format!("{value}: {why} of {schema}"));
    if let Some(path) = schema["$ref"].as_str() {
        return fits(value, root.pointer(path.trim_start_matches('#')).ok_or("dangling $ref")?, root);
    }
    if let Some(targets) = schema["oneOf"].as_array() {
        let have = targets.iter().filter(|t| value.get(t["required"][0].as_str().unwrap()).is_some()).count();
        if have != 1 {
            return fail("oneOf");
        }
    }
    if let Some(any) = schema["anyOf"].as_array() {
        let ok = any.iter().any(|s| fits(value, s, root).is_ok());
        return if ok { Ok(()) } else { fail("anyOf") };
    }
    if schema["enum"].as_array().is_some_and(|words| !words.contains(value)) {
        return fail("enum");
    }
    let is = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.is_u64(),
        "null" => value.is_null(),
        other => panic!("unknown type {other}"),
    };
    let typed = match &schema["type"] {
        Value::String(name) => is(name),
        Value::Array(names) => names.iter().any(|n| is(n.as_str().unwrap())),
        _ => true,
    };
    if !typed {
        return fail("type");
    }
    let number = value.as_f64().unwrap_or(1.0);
    if number < schema["minimum"].as_f64().unwrap_or(f64::MIN)
        || number > schema["maximum"].as_f64().unwrap_or(f64::MAX)
    {
        return fail("range");
    }
    if let Value::Array(items) = value {
        if (items.len() as u64) < schema["minItems"].as_u64().unwrap_or(0) {
            return fail("minItems");
        }
        items.iter().try_for_each(|i| fits(i, &schema["items"], root))?;
    }
    if let Value::Object(map) = value {
        for name in schema["required"].as_array().into_iter().flatten() {
            if !map.contains_key(name.as_str().unwrap()) {
                return fail("required");
            }
        }
        for (key, value) in map {
            match schema["properties"].get(key) {
                Some(s) => fits(value, s, root)?,
                None if schema["additionalProperties"].is_object() => {
                    fits(value, &schema["additionalProperties"], root)?
                }
                None => return fail(&format!("unknown key {key}")),
            }
        }
    }
    Ok(())
}
