//! Patterns of instances' addresses: `198.18.2.2:8080`, an address alone, a port alone, with `*` for any digits. Must not
//! know selectors.

use std::net::{Ipv6Addr, SocketAddr};

/// How a pattern may look.
pub const EXPECTED: &str = "an address, a port, or both: 198.18.2.2:8080, 198.18.*.2, 8080, [fd00::2]:8080; `*` stands for any digits";

/// The canonical text of a pattern: four parts of an IPv4 address, IPv6 as it prints, no zeros in front.
pub fn canonical(text: &str) -> Option<String> {
    let (host, port) = parts(text)?;
    let port = port.map(|p| number(p, 65_535)).map_or(Some(None), |p| p.map(Some))?;
    let host = host.map(canonical_host).map_or(Some(None), |h| h.map(Some))?;
    match (host, port) {
        // Every instance is no pattern.
        (None, Some(port)) if port != "*" => Some(port),
        (Some(host), None) if host != ANY => Some(host),
        (Some(host), Some(port)) if host.contains(':') => Some(format!("[{host}]:{port}")),
        (Some(host), Some(port)) if host != ANY || port != "*" => Some(format!("{host}:{port}")),
        _ => None,
    }
}

/// Whether an address is meant by a canonical pattern.
pub fn matches(pattern: &str, at: SocketAddr) -> bool {
    let Some((host, port)) = parts(pattern) else { return false };
    let ip = at.ip().to_canonical();
    host.is_none_or(|h| is_host(h, &ip.to_string()))
        && port.is_none_or(|p| glob(p.as_bytes(), at.port().to_string().as_bytes()))
}

const ANY: &str = "*.*.*.*";

/// Host and port, one of them at least. A bare number is a port, as `8*0` is.
fn parts(text: &str) -> Option<(Option<&str>, Option<&str>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        return match port.strip_prefix(':') {
            Some(port) => Some((Some(host), Some(port))),
            None => port.is_empty().then_some((Some(host), None)),
        };
    }
    match text.split_once(':') {
        Some((host, port)) if !port.contains(':') => Some((Some(host), Some(port))),
        Some(_) => Some((Some(text), None)),
        None if text.contains('.') => Some((Some(text), None)),
        None => Some((None, Some(text))),
    }
}

fn canonical_host(host: &str) -> Option<String> {
    if host.contains(':') {
        let ip: Ipv6Addr = host.parse().ok()?;
        return Some(ip.to_canonical().to_string());
    }
    if host == "*" {
        return Some(ANY.to_owned());
    }
    let mut all: Vec<String> = host.split('.').map(|p| number(p, 255)).collect::<Option<_>>()?;
    // `10.10.*` is all that begins so.
    if all.len() < 4 && all.last().is_some_and(|p| p == "*") {
        all.resize(4, "*".to_owned());
    }
    (all.len() == 4).then(|| all.join("."))
}

/// Digits, at most so large, or digits and `*`.
fn number(text: &str, most: u32) -> Option<String> {
    let known = |c: u8| c.is_ascii_digit() || c == b'*';
    if text.is_empty() || text.len() > 8 || !text.bytes().all(known) {
        return None;
    }
    if !text.contains('*') {
        return text.parse::<u32>().ok().filter(|n| *n <= most).map(|n| n.to_string());
    }
    let mut out = text.to_owned();
    while out.contains("**") {
        out = out.replace("**", "*");
    }
    Some(out)
}

fn is_host(pattern: &str, ip: &str) -> bool {
    if pattern.contains(':') || ip.contains(':') {
        return pattern == ip;
    }
    let pairs = || pattern.split('.').zip(ip.split('.'));
    pairs().count() == 4 && pairs().all(|(p, n)| glob(p.as_bytes(), n.as_bytes()))
}

/// `*` is any run of bytes, also none.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => (0..=text.len()).any(|n| glob(rest, &text[n..])),
        (Some((p, rest)), Some((t, more))) => p == t && glob(rest, more),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c2_patterns_have_one_spelling() {
        for (text, want) in [
            ("198.18.2.2:8080", "198.18.2.2:8080"),
            ("192.168.*.102", "192.168.*.102"),
            ("10.10.*", "10.10.*.*"),
            ("01301", "1301"),
            ("4*1", "4*1"),
            ("*:80", "*.*.*.*:80"),
            ("198.18.2.2:*", "198.18.2.2:*"),
            ("[fd00:0::2]:80", "[fd00::2]:80"),
            ("fd00:0::2", "fd00::2"),
            ("[fd00::2]", "fd00::2"),
            ("[::ffff:198.18.2.2]:80", "198.18.2.2:80"),
            ("198.18.2.1**:80", "198.18.2.1*:80"),
        ] {
            assert_eq!(canonical(text).as_deref(), Some(want), "{text}");
            assert_eq!(canonical(want).as_deref(), Some(want), "{want} is canonical");
        }
    }

    #[test]
    fn c2_what_is_no_pattern_is_refused() {
        for text in [
            "",
            "*",
            "*.*",
            "*:*",
            ":",
            ":80",
            "198.18.2.2:",
            "198.18.2",
            "198.18.2.256",
            "65536",
            "shop:80",
            "198.18.2.2.2",
            "[fd00::2",
            "[fd00::2]80",
            "fd00::*",
            "1-2",
            "123456789*",
            "[198.18.2.2]x",
        ] {
            assert_eq!(canonical(text), None, "{text}");
        }
    }

    #[test]
    fn c2_a_pattern_means_these_addresses_and_no_others() {
        for (pattern, yes, no) in [
            ("198.18.2.2:8080", "198.18.2.2:8080", "198.18.2.2:8081"),
            ("198.18.2.2", "198.18.2.2:1", "198.18.2.22:1"),
            ("198.18.*.2", "198.18.77.2:1", "198.19.7.2:1"),
            ("10.10.*", "10.10.0.9:1", "10.101.0.9:1"),
            ("4*1", "198.18.2.2:4001", "198.18.2.2:4010"),
            ("8080", "[fd00::2]:8080", "[fd00::2]:80"),
            ("fd00::2", "[fd00::2]:80", "[fd00::3]:80"),
            ("*:80", "198.18.2.2:80", "[fd00::2]:80"),
        ] {
            let pattern = canonical(pattern).unwrap();
            assert!(matches(&pattern, yes.parse().unwrap()), "{pattern} {yes}");
            assert!(!matches(&pattern, no.parse().unwrap()), "{pattern} {no}");
        }
    }
}
