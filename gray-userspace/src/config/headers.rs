//! Reads a service's `route-headers`: which `n-d-*` headers count, and against what. Must not look at routes.

use std::collections::BTreeSet;

use gray_common::request::watch::WATCHES;

use super::{
    report::{Draft, Report, quoted},
    service::ServiceDraft,
    shape::{ROUTE_HEADERS, ROUTE_KEYS, ROUTE_KEYS_LATER, YES_NO},
    tree::Node,
    walk::{self, Fields},
};
use crate::model::{ClaimKind, MetaKey, Nat, Place, Proto, RouteHeaders};

pub(super) fn read(node: &Node<'_>, draft: &mut ServiceDraft, report: &mut Report<'_>) {
    let Some(fields) = Fields::open(node, &ROUTE_HEADERS, node.span, report) else { return };
    let mut keys: BTreeSet<MetaKey> = BTreeSet::new();
    if let Some(node) = fields.get("read")
        && let Some(items) = walk::list(node, "`read`", "keys of instances", report)
    {
        for item in items {
            let Some(i) = walk::word(item, "read", (ROUTE_KEYS, ROUTE_KEYS_LATER), report) else { continue };
            keys.extend(MetaKey::ALL.into_iter().find(|k| k.name() == ROUTE_KEYS[i]));
        }
        if items.is_empty() {
            report.error(Draft::new(node.span, "`read` is an empty list").expected("at least one entry"));
        }
    }
    let mut yes = |key: &str| {
        fields.get(key).is_some_and(|node| walk::word(node, key, (YES_NO, &[]), report) == Some(0))
    };
    let (over_routes, without_route) = (yes("over-routes"), yes("without-route"));
    if draft.nat == Nat::Dsr {
        report.error(
            Draft::new(node.span, "`route-headers` and `nat: dsr`")
                .help("what a client says first is read by answering it: use `nat: dnat` or `snat`"),
        );
    }
    if draft.claims.is_empty() {
        for l in draft.listen.iter().filter(|l| l.value.proto == Proto::Udp) {
            report.error(
                Draft::new(l.span, "`route-headers` and a UDP listener")
                    .help("requests are read on TCP only: make a service of its own for UDP"),
            );
        }
    }
    for of in keys.iter().filter_map(|k| ClaimKind::of_header(*k)) {
        let place = Place::Header(of.name().to_owned());
        if let Some((other, _)) = draft.claims.iter().find(|(_, p)| p.watched() == place.watched()) {
            let text =
                format!("the header {} is read for the claim {}", quoted(of.name()), quoted(other.name()));
            report.error(Draft::new(node.span, text).help("a value makes one claim: remove one of them"));
        }
        let _ = draft.claims.insert(of, place);
    }
    if draft.claims.len() > WATCHES {
        let text = format!("{} names to read of a request, with `claims`", draft.claims.len());
        report.error(Draft::new(node.span, text).expected(format!("at most {WATCHES}")));
    }
    draft.headers = Some(RouteHeaders { read: keys, over_routes, without_route });
}
