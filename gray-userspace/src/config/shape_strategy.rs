//! The keys of strategy documents, a document of their own. See `shape`.

use super::{Object, Shape, optional, required};
use crate::config::limits;

pub(in crate::config) static STRATEGY: Object = Object {
    name: "a strategy",
    doc: "Which tenants a gray release chooses.",
    keys: &[
        required("name", "What the history calls it.", Shape::Name),
        required("choose", "Which tenants.", Shape::One(&CHOOSE)),
        optional("layer", "What the size of the gray metadata layer follows from.", Shape::One(&LAYER)),
    ],
    later: &[],
};

pub(in crate::config) static CHOOSE: Object = Object {
    name: "a choice",
    doc: "Exactly one of these keys.",
    keys: &[
        optional("active", "Tenants with a measure of at least so much.", Shape::One(&ACTIVE)),
        optional("fixes", "Tenants who reported one of these tickets.", Shape::List(&Shape::Text, 1, None)),
        optional(
            "potential",
            "Tenants who are expected to use one of these features.",
            Shape::List(&Shape::Text, 1, None),
        ),
        optional("all", "Every one of these.", Shape::List(&Shape::One(&CHOOSE), 1, None)),
        optional("any", "At least one of these.", Shape::List(&Shape::One(&CHOOSE), 1, None)),
        optional("not", "All others.", Shape::One(&CHOOSE)),
    ],
    later: &[],
};

pub(in crate::config) static ACTIVE: Object = Object {
    name: "a measure",
    doc: "An attribute of the table, and the least value.",
    keys: &[
        required("measure", "The attribute.", Shape::Text),
        required("at-least", "The least value.", Shape::Integer(0, u64::MAX)),
    ],
    later: &[],
};

pub(in crate::config) static LAYER: Object = Object {
    name: "a layer",
    doc: "The formal layer's keys, those of one tenant, and the damping; or the share itself.",
    keys: &[
        optional("keys", "Keys of the formal layer.", Shape::Integer(1, u32::MAX as u64)),
        optional("keys-per-tenant", "Keys of one tenant.", Shape::Integer(1, u32::MAX as u64)),
        optional(
            "damping",
            "How slowly the reserve for a few tenants shrinks.",
            Shape::Integer(1, limits::FULL as u64),
        ),
        optional(
            "percent",
            "The gray layer's share of the formal one, in place of the formula.",
            Shape::Percent,
        ),
    ],
    later: &[],
};
