//! The keys of a service's `accept`.

use super::{Object, SELECTOR, Shape, required};

pub(in super::super) static ACCEPT: Object = Object {
    name: "an entry of accept",
    doc: "Instances, and from whom they take connections.",
    keys: &[
        required("instances", "Which ones; none of stable's.", Shape::One(&SELECTOR)),
        required(
            "from",
            "From whom. Who dials an instance by its own address is known by source, mark, DSCP, workload and lane.",
            Shape::Condition,
        ),
    ],
    later: &[],
};
