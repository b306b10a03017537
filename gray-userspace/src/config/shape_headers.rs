//! The keys of a service's `route-headers`.

use super::{Object, Shape, limits, optional, required};

pub(in super::super) const ROUTE_KEYS: &[&str] = &[
    "version",
    "region",
    "env",
    "address",
    "version-weight",
    "region-weight",
    "id-blacklist",
    "address-blacklist",
];
pub(in super::super) const ROUTE_KEYS_LATER: &[&str] = &["group", "zone"];

const OVER_DOC: &str = "Where a header leaves nobody of those that a route chose: true, it chooses among all; false, it is ignored. Default: false.";
const WITHOUT_DOC: &str = "Where no route applies: true, headers choose among all instances; false, they are ignored. Default: false.";

pub(in super::super) static ROUTE_HEADERS: Object = Object {
    name: "route headers",
    doc: "Headers by which a request asks for instances: `n-d-version` and others, a value or JSON with one for each service. What routes say comes first.",
    keys: &[
        required(
            "read",
            "The headers that count, without `n-d-`.",
            Shape::List(&Shape::Word(ROUTE_KEYS), 1, Some(8)),
        ),
        optional("over-routes", OVER_DOC, Shape::YesNo),
        optional("without-route", WITHOUT_DOC, Shape::YesNo),
        optional(
            "listeners",
            "Addresses of `listen` that have other switches.",
            Shape::List(&Shape::One(&ROUTE_LISTENER), 1, Some(limits::LISTENERS_PER_SERVICE)),
        ),
    ],
    later: &[],
};

pub(in super::super) static ROUTE_LISTENER: Object = Object {
    name: "a listener's switches",
    doc: "What of `n-d-*` headers counts at one address of `listen`.",
    keys: &[
        required("address", "The address, as in `listen`.", Shape::Address { udp: false }),
        optional("over-routes", OVER_DOC, Shape::YesNo),
        optional("without-route", WITHOUT_DOC, Shape::YesNo),
    ],
    later: &[],
};
