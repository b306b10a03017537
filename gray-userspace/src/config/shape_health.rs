//! The keys of a service's `health`.

use super::{CHECKS, EMPTY, Object, Shape, limits, optional, required};

pub(in super::super) static HEALTH: Object = Object {
    name: "a health check",
    doc: "Probes every instance from the agent's node; those that fail get no new connections.",
    keys: &[
        required(
            "check",
            "tcp: a connection is accepted. http: a GET is answered. command: a program of the agent's --health-commands directory ends with 0.",
            Shape::Word(CHECKS),
        ),
        optional("path", "http: what is asked for. Default: /.", Shape::Words),
        optional(
            "status",
            "http: the answers that are right: 200, 200-399. Default: 200-399.",
            Shape::Statuses,
        ),
        optional("host", "http: the Host header. Default: the instance's address.", Shape::Words),
        optional(
            "command",
            "command: the program's name, then its arguments.",
            Shape::List(&Shape::Words, 1, Some(limits::COMMAND_WORDS)),
        ),
        optional("port", "Where the probe goes. Default: the instance's port.", Shape::Integer(1, 65_535)),
        optional("interval", "From probe to probe, 100ms to 1h. Default: 2s.", Shape::Duration),
        optional(
            "timeout",
            "A probe that takes longer failed. At most the interval. Default: 1s, or the interval.",
            Shape::Duration,
        ),
        optional(
            "rise",
            "So many successes in a row bring an instance back. Default: 2.",
            Shape::Integer(1, 100),
        ),
        optional("fall", "So many failures in a row take it out. Default: 3.", Shape::Integer(1, 100)),
        optional(
            "jitter",
            "Per cent of the interval by which probes are earlier or later. Default: 10.",
            Shape::Integer(0, 50),
        ),
        optional(
            "slow-start",
            "Its weight grows for so long after an instance came up. Default: 0s.",
            Shape::Duration,
        ),
        optional("damping", "Holds down an instance that comes and goes.", Shape::One(&DAMPING)),
        optional(
            "empty",
            "Where clients of a subset go whose instances are all down: to stable, or on as before. Stable itself is always kept. Default: stable.",
            Shape::Word(EMPTY),
        ),
    ],
    later: &["method", "body", "headers", "tls", "user", "env", "passive"],
};

pub(in super::super) static DAMPING: Object = Object {
    name: "damping",
    doc: "An instance that was taken out more than `flips` times stays out for `hold`, then twice as long each time, up to `max`; one that was up for `max` begins anew.",
    keys: &[
        optional("flips", "So many times without a hold. Default: 3.", Shape::Integer(1, 100)),
        optional("hold", "The first hold; 0s: no damping. Default: 10s.", Shape::Duration),
        optional("max", "The longest hold. Default: 5m.", Shape::Duration),
    ],
    later: &[],
};
