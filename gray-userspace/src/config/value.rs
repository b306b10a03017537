//! Scalars of the document: names, addresses, exact decimals, words. Must know nothing of maps and lists.
//! Each reader says what was expected; the caller knows where it stood.

use std::net::{IpAddr, SocketAddr};

use super::limits;
use crate::model::{Listener, Proto};

pub(super) const NAME: &str = "a name: 1 to 63 of a-z 0-9 . _ -, beginning with a letter or digit";
pub const META: &str = "text of 1 to 64 characters without spaces, commas, equals signs, bars";
pub(super) const ADDRESS: &str = "an address and port like 198.18.2.2:8080 or [fd00::2]:8080";
pub(super) const LISTENER: &str =
    "an address and port like 198.18.1.100:80, [fd00::100]:80 or 198.18.1.100:53/udp";
pub(super) const PERCENT: &str = "a number from 0 to 100 with at most two decimals";

pub fn is_name(text: &str) -> bool {
    let ok = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b"._-".contains(&c);
    let first = text.bytes().next().is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    first && text.len() <= limits::NAME_CHARS && text.bytes().all(ok)
}

/// Spaces, `,`, `=` and `|` are kept out: a selector is written `version=2.0,zone=z1|z2` in names and tables.
pub fn is_meta(text: &str) -> bool {
    let bad = |c: char| c.is_whitespace() || c.is_control() || [',', '=', '|', '\u{feff}'].contains(&c);
    !text.is_empty() && text.chars().count() <= limits::META_CHARS && !text.contains(bad)
}

/// Why an address is refused, and what to do.
pub(super) struct BadAddress {
    pub why: &'static str,
    pub help: Option<String>,
}

pub(super) fn address(text: &str) -> Result<SocketAddr, BadAddress> {
    let Ok(addr) = text.parse::<SocketAddr>() else {
        return Err(BadAddress { why: "is not an address with a port", help: address_help(text) });
    };
    let why = match addr.ip() {
        _ if addr.port() == 0 => "has port 0",
        ip if ip.is_unspecified() => "is the unspecified address",
        ip if ip.is_multicast() => "is a multicast address",
        IpAddr::V4(ip) if ip.is_broadcast() => "is the broadcast address",
        IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => "is an IPv4 address in IPv6 clothes",
        IpAddr::V6(_) if text.contains('%') => "has a zone index",
        _ => return Ok(addr),
    };
    let help = match addr.ip().to_canonical() {
        IpAddr::V4(ip) if addr.is_ipv6() && addr.port() != 0 => Some(format!("write {ip}:{}", addr.port())),
        _ => None,
    };
    Err(BadAddress { why, help })
}

fn address_help(text: &str) -> Option<String> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        let shown = if ip.is_ipv6() { format!("[{ip}]:80") } else { format!("{ip}:80") };
        return Some(format!("the port is missing: write it like {shown}"));
    }
    if let Some((host, port)) = text.rsplit_once(':') {
        if host.contains(':') && !host.starts_with('[') {
            return Some(format!("an IPv6 address needs brackets: [{}]:{port}", shorten(host)));
        }
        if host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
            return Some("the port is a number from 1 to 65535".to_owned());
        }
        if host.contains(|c: char| c.is_ascii_alphabetic()) && !host.contains(':') {
            return Some("host names are not resolved: write the address".to_owned());
        }
    }
    None
}

fn shorten(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(45).collect()
}

pub(super) fn listener(text: &str) -> Result<Listener, BadAddress> {
    let (addr, proto) = match text.rsplit_once('/') {
        None => (text, Proto::Tcp),
        Some((addr, "tcp")) => (addr, Proto::Tcp),
        Some((addr, "udp")) => (addr, Proto::Udp),
        Some(_) => {
            let help = Some("the protocol is /tcp or /udp".to_owned());
            return Err(BadAddress { why: "names no known protocol", help });
        }
    };
    Ok(Listener { addr: address(addr)?, proto })
}

/// `500ms`, `2s`, `5m`, `1h` -> milliseconds.
pub fn millis(text: &str) -> Option<u32> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(end);
    let unit = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.parse::<u32>().ok()?.checked_mul(unit)
}

/// `200` or `200-399` -> first and last.
pub(super) fn statuses(text: &str) -> Option<(u16, u16)> {
    let one = |t: &str| t.parse::<u16>().ok().filter(|n| t.len() == 3 && (100..=599).contains(n));
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (one(first)?, one(last)?);
    (first <= last).then_some((first, last))
}

/// Percent with at most two decimals -> basis points, exactly: `12.34` is 1234. At most 100.
pub(super) fn basis_points(text: &str) -> Result<u16, &'static str> {
    if text.starts_with('-') {
        return Err("is below 0");
    }
    if text.ends_with('%') {
        return Err("has a percent sign");
    }
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|c| c.is_ascii_digit());
    if !digits(whole) || !digits(part) {
        return Err("is not a number");
    }
    let part = part.trim_end_matches('0');
    if part.len() > 2 {
        return Err("has more than two decimals");
    }
    let whole: u32 = whole.parse().unwrap_or(u32::MAX).min(1_000);
    let part: u32 = format!("{part:0<2}").parse().unwrap_or(0);
    let value = whole * 100 + part;
    if value > limits::FULL {
        return Err("is above 100");
    }
    u16::try_from(value).map_err(|_| "is above 100")
}

/// Basis points as the document writes them: `10`, `0.25`, `12.5`.
pub fn percent_text(basis_points: u32) -> String {
    let (whole, part) = (basis_points / 100, basis_points % 100);
    if part == 0 {
        return whole.to_string();
    }
    format!("{whole}.{part:02}").trim_end_matches('0').to_owned()
}
