//! The keys of a service's `missing-alarm`.

use super::{Object, Shape, limits, optional};

pub(in super::super) static ALARM: Object = Object {
    name: "an alarm",
    doc: "Raised when a window has more requests that name none of `claims` than `percent` of all or `per-second`.",
    keys: &[
        optional("percent", "Share of a window's requests.", Shape::Percent),
        optional("per-second", "So many a second, over a whole window.", Shape::Integer(1, 1_000_000)),
        optional(
            "clear",
            "It is over when a window has no more than this, in the unit of what raises it. Default: the half.",
            Shape::Either(&Shape::Percent, &Shape::Integer(0, 1_000_000)),
        ),
        optional("window", "1s to 1h. Default: 30s.", Shape::Duration),
        optional(
            "least",
            "Of `percent`: a window with fewer requests raises nothing. Default: 20.",
            Shape::Integer(1, 1_000_000),
        ),
        optional("webhook", "Where a JSON object is POSTed: http://HOST:PORT/PATH.", Shape::Words),
        optional(
            "command",
            "A program of the agent's --health-commands directory: its name, then its arguments.",
            Shape::List(&Shape::Words, 1, Some(limits::COMMAND_WORDS)),
        ),
    ],
    later: &["mail", "headers", "method"],
};
