//! Reads a service's `claims`: what is read of its requests. Must not look at other services, cohorts or routes.

use std::{collections::BTreeMap, net::IpAddr};

use gray_common::{
    limits::PROXIES,
    request::{
        proxy2::TLVS,
        watch::{RESERVED, Watches},
    },
};
use ipnet::IpNet;

use super::{
    report::{At, Draft, Report, Span, quoted},
    shape::{PLACE, READS},
    tree::{Kind, Node},
    walk::{self, Fields},
};
use crate::model::{ClaimKind, Listener, Place, Proto, Tls};

/// Longest name of a header, cookie or parameter.
const NAME_MAX: usize = 128;

/// Of requests, of TLS, and of PROXY headers: types of TLVs.
pub(super) type Reads = (BTreeMap<ClaimKind, Place>, BTreeMap<ClaimKind, Tls>, BTreeMap<ClaimKind, u8>);

pub(super) fn read(node: &Node<'_>, listen: &[At<Listener>], report: &mut Report<'_>) -> Reads {
    let mut out = Reads::default();
    let Some(fields) = Fields::open(node, &READS, node.span, report) else { return out };
    let mut names: Vec<(u64, ClaimKind, Span)> = Vec::new();
    for kind in ClaimKind::READ {
        let Some(node) = fields.get(kind.name()) else { continue };
        let Some(fields) = Fields::open(node, &PLACE, node.span, report) else { continue };
        let hello = hello(node, &fields, &out.1, report);
        let tlv = tlv(kind, &fields, &mut out.2, report);
        let place = place(kind, (node, &fields), hello.is_some() || tlv, report);
        if let Some(Some(tls)) = hello {
            let _ = out.1.insert(kind, tls);
        }
        let Some(place) = place else { continue };
        match names.iter().find(|(name, ..)| *name == place.watched()) {
            Some((_, first, span)) => report.error(
                Draft::new(node.span, format!("`{}` is read where `{}` is", kind.name(), first.name()))
                    .also(*span, "read here first")
                    .help("a value makes one claim: give each its own, or remove one of them"),
            ),
            None => names.push((place.watched(), kind, node.span)),
        }
        let _ = out.0.insert(kind, place);
    }
    for l in listen.iter().filter(|l| l.value.proto == Proto::Udp) {
        report.error(
            Draft::new(l.span, "`claims` and a UDP listener")
                .help("requests are read on TCP only: make a service of its own for UDP"),
        );
    }
    out
}

/// Whether a TLV is given, good or in the report.
fn tlv(
    kind: ClaimKind,
    fields: &Fields<'_, '_>,
    all: &mut BTreeMap<ClaimKind, u8>,
    report: &mut Report<'_>,
) -> bool {
    let Some(node) = fields.get("proxy-tlv") else { return false };
    let expected = "1 to 255, such as 0xE0";
    let Some(text) = walk::number(node, "`proxy-tlv`", expected, report) else { return true };
    let span = node.span;
    let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let read = hex.map_or_else(|| text.parse(), |digits| u8::from_str_radix(digits, 16));
    let Some(tlv) = read.ok().filter(|n| *n != 0) else {
        report.error(Draft::new(span, format!("{} is no type of a TLV", quoted(text))).expected(expected));
        return true;
    };
    if let Some((other, _)) = all.iter().find(|(_, t)| **t == tlv) {
        let text = format!("the TLV {tlv:#x} is read for the claim `{}`", other.name());
        report.error(Draft::new(span, text).help("a value makes one claim: remove one of them"));
        return true;
    }
    if all.len() >= TLVS {
        report.error(Draft::new(span, "one TLV too many").expected(format!("at most {TLVS}")));
        return true;
    }
    let _ = all.insert(kind, tlv);
    true
}

/// Whose PROXY headers are believed.
pub(super) fn proxies(node: &Node<'_>, report: &mut Report<'_>) -> Vec<IpNet> {
    let mut out: Vec<IpNet> = Vec::new();
    let Some(items) = walk::list(node, "`trusted-proxies`", "addresses and prefixes", report) else {
        return out;
    };
    if items.is_empty() || items.len() > PROXIES {
        report.error(
            Draft::new(node.span, format!("{} trusted proxies", items.len()))
                .expected(format!("1 to {PROXIES} addresses and prefixes")),
        );
    }
    for item in items {
        let expected = "198.18.1.3, 198.18.1.0/24 or fd00::/64";
        let Some(text) = walk::text(item, "a trusted proxy", expected, report) else { continue };
        let net = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        match net.filter(|n| n.prefix_len() > 0) {
            Some(net) => out.push(net.trunc()),
            None => report.error(
                Draft::new(item.span, format!("{} is no address and no prefix", quoted(text)))
                    .expected(expected),
            ),
        }
    }
    out
}

/// What is given of TLS; `Some(None)`: it is wrong, and in the report.
fn hello(
    node: &Node<'_>,
    fields: &Fields<'_, '_>,
    others: &BTreeMap<ClaimKind, Tls>,
    report: &mut Report<'_>,
) -> Option<Option<Tls>> {
    let given: Vec<_> = Tls::ALL.into_iter().filter_map(|t| Some((t, fields.get(t.name())?))).collect();
    let [(tls, value)] = given[..] else {
        if !given.is_empty() {
            report.error(
                Draft::new(node.span, "a claim is read in one place of TLS").expected("`sni` or `alpn`"),
            );
        }
        return (!given.is_empty()).then_some(None);
    };
    if walk::word(value, tls.name(), (&["true"], &[]), report).is_none() {
        return Some(None);
    }
    if let Some((kind, _)) = others.iter().find(|(_, t)| **t == tls) {
        let text = format!("`{}` is read for the claim `{}`", tls.name(), kind.name());
        report.error(Draft::new(value.span, text).help("a place makes one claim: remove one of them"));
        return Some(None);
    }
    Some(Some(tls))
}

/// Of nothing at all its usual header. `hello`: something is given of TLS, and that may be all.
fn place(
    of: ClaimKind,
    (node, fields): (&Node<'_>, &Fields<'_, '_>),
    hello: bool,
    report: &mut Report<'_>,
) -> Option<Place> {
    let given: Vec<_> = ["header", "cookie", "query"].into_iter().filter_map(|k| fields.pair(k)).collect();
    let [(key, value)] = given[..] else {
        if matches!(&node.kind, Kind::Map(pairs) if pairs.is_empty()) {
            return Some(Place::Header(of.usual_header().to_owned()));
        }
        if !hello || !given.is_empty() {
            report.error(
                Draft::new(node.span, "a claim is read in one place")
                    .expected("one of `header`, `cookie`, `query`; of TLS `sni` or `alpn`; `proxy-tlv`; or one of each")
                    .help(format!("{{}} is {{ header: {} }}", of.usual_header())),
            );
        }
        return None;
    };
    let name = walk::meta(value, &key.text, report)?;
    let ok = name.value.len() <= NAME_MAX
        && name.value.bytes().all(|b| b.is_ascii_graphic() && !b"=;&?#:".contains(&b));
    if !ok {
        report.error(
            Draft::new(name.span, format!("{} is no name of a {}", quoted(&name.value), key.text))
                .expected("visible ASCII without = ; & ? # :"),
        );
        return None;
    }
    let name = name.value;
    match &*key.text {
        "cookie" => Some(Place::Cookie(name)),
        "query" => Some(Place::Query(name)),
        _ if RESERVED.contains(&Watches::header(&name)) => {
            report.error(
                Draft::new(value.span, format!("{} cannot be a claim", quoted(&name)))
                    .help("it frames the request; for a cookie write `{ cookie: NAME }`"),
            );
            None
        }
        _ => Some(Place::Header(name)),
    }
}
