//! Reads a service's `route-headers`: which `n-d-*` headers count, and against what. Must not look at routes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use gray_common::request::watch::WATCHES;

use super::{
    report::{Draft, Report, quoted},
    service::ServiceDraft,
    shape::{ROUTE_HEADERS, ROUTE_KEYS, ROUTE_KEYS_LATER, ROUTE_LISTENER, YES_NO},
    tree::Node,
    value,
    walk::{self, Fields},
};
use crate::model::{ClaimKind, MetaKey, MoreHeader, Nat, Place, Proto, RouteHeaders, Switches};

pub(super) fn read(node: &Node<'_>, draft: &mut ServiceDraft, report: &mut Report<'_>) {
    let Some(fields) = Fields::open(node, &ROUTE_HEADERS, node.span, report) else { return };
    let mut keys: BTreeSet<MetaKey> = BTreeSet::new();
    let mut more: BTreeSet<MoreHeader> = BTreeSet::new();
    if let Some(node) = fields.get("read")
        && let Some(items) = walk::list(node, "`read`", "keys of instances", report)
    {
        for item in items {
            let Some(i) = walk::word(item, "read", (ROUTE_KEYS, ROUTE_KEYS_LATER), report) else { continue };
            keys.extend(MetaKey::ALL.into_iter().find(|k| READ.contains(k) && k.name() == ROUTE_KEYS[i]));
            more.extend(MoreHeader::ALL.into_iter().find(|m| m.name() == ROUTE_KEYS[i]));
        }
        if items.is_empty() {
            report.error(Draft::new(node.span, "`read` is an empty list").expected("at least one entry"));
        }
    }
    keys.extend(more.iter().filter_map(|m| m.needs()));
    let usual = switches(&fields, Switches::default(), report);
    let at = listeners(&fields, usual, draft, report);
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
    let names = draft.claims.len() + usize::from(!more.is_empty());
    if names > WATCHES {
        let text = format!("{names} names to read of a request, with `claims`");
        report.error(Draft::new(node.span, text).expected(format!("at most {WATCHES}")));
    }
    draft.headers = Some(RouteHeaders { read: keys, more, switches: usual, at });
}

/// Keys of instances that have a header of their own.
const READ: [MetaKey; 3] = [MetaKey::Version, MetaKey::Region, MetaKey::Env];

/// What is not given is as it is elsewhere.
fn switches(fields: &Fields<'_, '_>, usual: Switches, report: &mut Report<'_>) -> Switches {
    let mut yes = |key: &str, usual: bool| {
        fields.get(key).map_or(usual, |node| walk::word(node, key, (YES_NO, &[]), report) == Some(0))
    };
    Switches {
        over_routes: yes("over-routes", usual.over_routes),
        without_route: yes("without-route", usual.without_route),
    }
}

fn listeners(
    fields: &Fields<'_, '_>,
    usual: Switches,
    draft: &ServiceDraft,
    report: &mut Report<'_>,
) -> BTreeMap<SocketAddr, Switches> {
    let mut out = BTreeMap::new();
    let Some(node) = fields.get("listeners") else { return out };
    let Some(items) = walk::list(node, "`listeners`", "listeners with their switches", report) else {
        return out;
    };
    for item in items {
        let Some(fields) = Fields::open(item, &ROUTE_LISTENER, item.span, report) else { continue };
        let own = switches(&fields, usual, report);
        let Some(at) = fields.get("address") else { continue };
        let Some(text) = walk::text(at, "`address`", "an address of `listen`", report) else { continue };
        let found = value::address(text).ok().and_then(|a| draft.listen.iter().find(|l| l.value.addr == a));
        let Some(listener) = found.map(|l| l.value.addr) else {
            let all: Vec<_> = draft.listen.iter().map(|l| l.value.addr.to_string()).collect();
            report.error(
                Draft::new(at.span, format!("{} is no address of this service's `listen`", quoted(text)))
                    .expected(all.join(", ")),
            );
            continue;
        };
        if out.insert(listener, own).is_some() {
            let text = format!("the switches of {listener} are given twice");
            report.error(Draft::new(item.span, text).help("remove one of them"));
        }
    }
    out
}
