//! The JSON Schema of the document, made from `shape`: for editors and for CI of the people who write policies.
//! Must hold no key of its own.

use serde_json::{Map, Value, json};

use super::{
    limits,
    shape::{self, Object, Shape},
};

/// JSON Schema (draft 2020-12) of one document, ending with a line break. Checked in as `docs/policy.schema.json`.
pub fn schema_json() -> String {
    let mut defs = Map::new();
    let mut root = object(&shape::DOCUMENT, &mut defs);
    let condition = json!({
        "description": shape::CONDITION.doc,
        "anyOf": [name(), object(&shape::CONDITION, &mut defs)],
    });
    let _ = defs.insert("condition".into(), condition);
    let targets = ["to", "lane"].map(|key| json!({ "required": [key] }));
    let alone = json!({ "required": ["same"], "not": { "anyOf": targets } });
    defs[&id(&shape::ROUTE)]["oneOf"] = targets.into_iter().chain([alone]).collect();
    if let Value::Object(root) = &mut root {
        let _ = root.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
        let _ = root.insert("title".into(), json!("gray policy"));
        let _ = root.insert("$defs".into(), Value::Object(defs));
    }
    // `{:#}` of a `Value` cannot fail: no maps with other keys than text.
    format!("{root:#}\n")
}

/// `a weighted subset` -> `weighted-subset`.
fn id(object: &Object) -> String {
    object
        .name
        .trim_start_matches("an ")
        .trim_start_matches("a ")
        .trim_start_matches("the ")
        .replace(' ', "-")
}

fn one(object: &'static Object, defs: &mut Map<String, Value>) -> Value {
    let id = id(object);
    if !defs.contains_key(&id) {
        let _ = defs.insert(id.clone(), Value::Null); // taken: the description may come back to itself
        let made = self::object(object, defs);
        let _ = defs.insert(id.clone(), made);
    }
    json!({ "$ref": format!("#/$defs/{id}") })
}

fn object(object: &'static Object, defs: &mut Map<String, Value>) -> Value {
    let mut properties = Map::new();
    for key in object.keys {
        let mut value = shape(&key.shape, defs);
        if let Value::Object(value) = &mut value {
            let _ = value.insert("description".into(), json!(key.doc));
        }
        let _ = properties.insert(key.name.into(), value);
    }
    let required: Vec<_> = object.keys.iter().filter(|k| k.required).map(|k| k.name).collect();
    let mut out = json!({
        "type": "object",
        "description": object.doc,
        "properties": properties,
        "additionalProperties": false,
    });
    if !required.is_empty() {
        out["required"] = json!(required);
    }
    out
}

fn name() -> Value {
    json!({ "type": "string", "pattern": format!("^[a-z0-9][a-z0-9._-]{{0,{}}}$", limits::NAME_CHARS - 1) })
}

fn shape(shape: &Shape, defs: &mut Map<String, Value>) -> Value {
    match shape {
        Shape::Name => name(),
        // Unquoted numbers and booleans are text, as written.
        Shape::Text => json!({
            "type": ["string", "number", "boolean"],
            "pattern": "^[^\\s,=|]+$", "minLength": 1, "maxLength": limits::META_CHARS,
        }),
        Shape::Address { udp } => {
            let end = if *udp { "(/tcp|/udp)?" } else { "" };
            json!({ "type": "string", "pattern": format!("^([0-9.]+|\\[[0-9a-fA-F:.]+\\]):[0-9]+{end}$") })
        }
        Shape::AddressPattern => json!({
            "type": ["string", "integer"], "pattern": "^[0-9a-fA-F:.*\\[\\]]+$", "minLength": 1, "maxLength": 64,
        }),
        Shape::Percent => json!({ "type": "number", "minimum": 0, "maximum": 100 }),
        Shape::Integer(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Shape::Duration => json!({ "type": "string", "pattern": "^[0-9]+(ms|s|m|h)$" }),
        Shape::Words => json!({ "type": "string", "minLength": 1, "maxLength": limits::WORD_CHARS }),
        Shape::Statuses => {
            json!({ "type": ["string", "integer"], "pattern": "^[1-5][0-9]{2}(-[1-5][0-9]{2})?$" })
        }
        Shape::True => json!({ "const": true }),
        Shape::YesNo => json!({ "type": "boolean" }),
        Shape::Word(words) => json!({ "enum": words }),
        Shape::List(of, least, most) => {
            let mut out = json!({ "type": "array", "items": self::shape(of, defs) });
            if *least > 0 {
                out["minItems"] = json!(least);
            }
            if let Some(most) = most {
                out["maxItems"] = json!(most);
            }
            out
        }
        Shape::Members => json!({ "type": ["array", "null"], "items": { "type": ["string", "integer"] } }),
        Shape::Value => json!({ "type": ["string", "number", "boolean"] }),
        Shape::Map(of) => json!({
            "type": ["object", "null"],
            "propertyNames": name(),
            "additionalProperties": one(of, defs),
        }),
        Shape::Maps(of) => {
            let inner = self::shape(&Shape::Map(of), defs);
            json!({ "type": ["object", "null"], "propertyNames": name(), "additionalProperties": inner })
        }
        Shape::One(of) => one(of, defs),
        Shape::Condition => json!({ "$ref": "#/$defs/condition" }),
        Shape::Either(a, b) => json!({ "anyOf": [self::shape(a, defs), self::shape(b, defs)] }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The file in `docs` is this schema; `BLESS=1` writes it.
    #[test]
    fn d4_checked_in_schema_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/policy.schema.json");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(path, schema_json()).unwrap();
        }
        // As values: the order of keys depends on a feature of serde_json that other crates may turn on.
        let stored: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let made: Value = serde_json::from_str(&schema_json()).unwrap();
        assert!(stored == made, "docs/policy.schema.json is old: run this test with BLESS=1");
    }

    #[test]
    fn every_described_key_is_in_the_schema() {
        let schema: Value = serde_json::from_str(&schema_json()).unwrap();
        for object in shape::OBJECTS {
            let place = match object.name {
                "the document" => &schema,
                "a condition" => &schema["$defs"]["condition"]["anyOf"][1],
                _ => &schema["$defs"][id(object)],
            };
            let have: Vec<_> = place["properties"].as_object().unwrap().keys().cloned().collect();
            let mut want: Vec<_> = object.names().map(str::to_owned).collect();
            let mut have_sorted = have.clone();
            want.sort();
            have_sorted.sort();
            assert_eq!(have_sorted, want, "{}", object.name);
            assert!(
                object.later.iter().all(|l| object.key(l).is_none()),
                "{}: both known and later",
                object.name
            );
        }
    }
}
