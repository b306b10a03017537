//! The keys of a service's `route-headers`.

use super::{Object, Shape, optional, required};

pub(in super::super) const ROUTE_KEYS: &[&str] = &["version", "region", "env"];
pub(in super::super) const ROUTE_KEYS_LATER: &[&str] =
    &["address", "group", "zone", "version-weight", "region-weight", "id-blacklist", "address-blacklist"];

pub(in super::super) static ROUTE_HEADERS: Object = Object {
    name: "route headers",
    doc: "Headers by which a request asks for instances: `n-d-version`, `n-d-region`, `n-d-env`, one value each. What routes say comes first.",
    keys: &[
        required(
            "read",
            "The headers that count, without `n-d-`.",
            Shape::List(&Shape::Word(ROUTE_KEYS), 1, Some(3)),
        ),
        optional(
            "over-routes",
            "Where a header leaves nobody of those that a route chose: true, it chooses among all; false, it is ignored. Default: false.",
            Shape::YesNo,
        ),
        optional(
            "without-route",
            "Where no route applies: true, headers choose among all instances; false, they are ignored. Default: false.",
            Shape::YesNo,
        ),
    ],
    later: &[],
};
