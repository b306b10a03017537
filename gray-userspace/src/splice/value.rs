//! What an `n-d-*` header says of one service (C8): its value, or a JSON object with a value for each service.

use std::fmt;

use gray_common::hash::salt;
use serde::de::{Deserializer as _, Error as _, IgnoredAny, MapAccess, Visitor};

/// `service`: the [`salt`] of its name. `None`: nothing that counts, as if the header were not there. So is JSON that cannot be read, and an object that names the service
/// twice: two readers could read it differently.
pub fn of(value: &[u8], service: u64) -> Option<Vec<u8>> {
    if value.first() != Some(&b'{') {
        return Some(value.to_vec());
    }
    let mut json = serde_json::Deserializer::from_slice(value);
    let said = json.deserialize_map(Of(service)).ok()?;
    json.end().ok()?;
    said.map(String::into_bytes).filter(|v| !v.is_empty())
}

struct Of(u64);

impl<'de> Visitor<'de> for Of {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of services")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut said = None;
        while let Some(name) = map.next_key::<String>()? {
            if salt(&name) != self.0 {
                let IgnoredAny = map.next_value()?;
            } else if said.is_some() {
                return Err(A::Error::custom("named twice"));
            } else {
                said = Some(map.next_value::<String>()?);
            }
        }
        Ok(said)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn c8_values_as_a_table() {
        for (value, want) in [
            ("2.0", Some("2.0")),
            (r#"{"shop":"2.0"}"#, Some("2.0")),
            (r#"{"cart":"1","shop":"2.0","till":{"a":[1]}}"#, Some("2.0")),
            (r#"{ "sh\u006fp" : "2\u002e0" }"#, Some("2.0")),
            (r#"{"cart":"1"}"#, None),
            ("{}", None),
            (r#"{"shop":""}"#, None),
            (r#"{"shop":2.0}"#, None),
            (r#"{"shop":["2.0"]}"#, None),
            (r#"{"shop":"2.0","shop":"1.0"}"#, None),
            (r#"{"shop":"2.0"} x"#, None),
            (r#"{"shop":"2.0""#, None),
            (r#"{"cart":{"shop":"2.0"}}"#, None),
            ("[\"2.0\"]", Some("[\"2.0\"]")),
        ] {
            assert_eq!(of(value.as_bytes(), salt("shop")), want.map(|w| w.as_bytes().to_vec()), "{value}");
        }
    }

    /// What is of other services is passed over without a stack of its depth.
    #[test]
    fn c8_depth_is_no_matter() {
        let deep = format!("{{\"cart\":{}1{},\"shop\":\"2\"}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(of(deep.as_bytes(), salt("shop")), Some(b"2".to_vec()));
    }

    proptest! {
        #[test]
        fn c8_any_bytes_are_taken_well(tail in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = of(&[b"{", &tail[..]].concat(), salt("shop"));
        }
    }
}
