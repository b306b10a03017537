//! The keys of a service's `breaker`.

use gray_common::wire::{MOST_FAILURES, MOST_RETRANSMITS};

use super::{Object, Shape, optional, required};

pub(in super::super) static BREAKER: Object = Object {
    name: "a breaker",
    doc: "So many failures of gray inside of a window, and nobody new goes to gray for a while; then one connection tries.",
    keys: &[
        required("failures", "How many are too many.", Shape::Integer(1, MOST_FAILURES as u64)),
        optional("window", "1s to 1h. Default: 10s.", Shape::Duration),
        optional(
            "open",
            "For how long it stays open before a connection tries. 1s to 1h. Default: 30s.",
            Shape::Duration,
        ),
        optional(
            "retransmits",
            "How often a SYN comes again, unanswered, before that is a failure. Default: 1.",
            Shape::Integer(1, MOST_RETRANSMITS as u64),
        ),
    ],
    later: &["percent", "latency", "probes"],
};
