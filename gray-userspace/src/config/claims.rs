//! Reads a service's `claims`: what is read of its requests. Must not look at other services, cohorts or routes.

use std::collections::BTreeMap;

use gray_common::request::watch::{RESERVED, Watches};

use super::{
    report::{At, Draft, Report, Span, quoted},
    shape::{PLACE, READS},
    tree::Node,
    walk::{self, Fields},
};
use crate::model::{ClaimKind, Listener, Place, Proto};

/// Longest name of a header, cookie or parameter.
const NAME_MAX: usize = 128;

pub(super) fn read(
    node: &Node<'_>,
    listen: &[At<Listener>],
    report: &mut Report<'_>,
) -> BTreeMap<ClaimKind, Place> {
    let mut out = BTreeMap::new();
    let Some(fields) = Fields::open(node, &READS, node.span, report) else { return out };
    let mut names: Vec<(u64, ClaimKind, Span)> = Vec::new();
    for kind in ClaimKind::READ {
        let Some(node) = fields.get(kind.name()) else { continue };
        let Some(place) = place(node, report) else { continue };
        match names.iter().find(|(name, ..)| *name == place.watched()) {
            Some((_, first, span)) => report.error(
                Draft::new(node.span, format!("`{}` is read where `{}` is", kind.name(), first.name()))
                    .also(*span, "read here first")
                    .help("a value makes one claim: give each its own, or remove one of them"),
            ),
            None => names.push((place.watched(), kind, node.span)),
        }
        let _ = out.insert(kind, place);
    }
    for l in listen.iter().filter(|l| l.value.proto == Proto::Udp) {
        report.error(
            Draft::new(l.span, "`claims` and a UDP listener")
                .help("requests are read on TCP only: make a service of its own for UDP"),
        );
    }
    out
}

fn place(node: &Node<'_>, report: &mut Report<'_>) -> Option<Place> {
    let fields = Fields::open(node, &PLACE, node.span, report)?;
    let given: Vec<_> = ["header", "cookie", "query"].into_iter().filter_map(|k| fields.pair(k)).collect();
    let [(key, value)] = given[..] else {
        report.error(
            Draft::new(node.span, "a claim is read in one place")
                .expected("exactly one of `header`, `cookie`, `query`"),
        );
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
