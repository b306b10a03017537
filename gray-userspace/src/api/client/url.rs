//! Percent-encoding of what goes into a path or a query (RFC 3986).

use std::fmt::Write;

/// One segment of a path: a name that may hold any character.
pub fn path_segment(text: &str) -> String {
    encode(text)
}

/// `?k=v&k2=v2` of the values that are there; empty when none is.
pub fn query(values: &[(&str, Option<String>)]) -> String {
    let mut out = String::new();
    for (key, value) in values {
        if let Some(value) = value {
            out.push(if out.is_empty() { '?' } else { '&' });
            out.push_str(key);
            out.push('=');
            out.push_str(&encode(value));
        }
    }
    out
}

fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
            // Unwrap is not needed: writing to a String cannot fail.
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_what_a_url_may_not_hold() {
        assert_eq!(path_segment("a/b ü"), "a%2Fb%20%C3%BC");
        assert_eq!(query(&[("a", None), ("b", Some("1&2".into())), ("c", Some("x".into()))]), "?b=1%262&c=x");
        assert_eq!(query(&[("a", None)]), "");
    }
}
