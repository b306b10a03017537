//! The keys of a service's `claims`.

use super::{Object, Shape, optional, required};

pub(in super::super) static READS: Object = Object {
    name: "a service's claims",
    doc: "What is read of a connection's first request, by claim.",
    keys: &[
        optional("app", "The application: whose values `apps` cohorts have.", Shape::One(&PLACE)),
        optional("user", "The user: its values are the members of `users` cohorts.", Shape::One(&PLACE)),
        optional("tenant", "The tenant: the values of `tenants` cohorts.", Shape::One(&PLACE)),
        optional("device", "The device: the values of `devices` cohorts.", Shape::One(&PLACE)),
        optional("platform", "What the client runs on: android, ios, web.", Shape::One(&PLACE)),
        optional("channel", "By what way the client was got.", Shape::One(&PLACE)),
    ],
    later: &[],
};

pub(in super::super) static PLACE: Object = Object {
    name: "a claim",
    doc: "Where a value stands, {} for the claim's usual header: in a request one of `header`, `cookie`, `query`; in a TLS ClientHello `sni` or `alpn`; or one of each.",
    keys: &[
        optional("header", "A header's name, in any case.", Shape::Text),
        optional("cookie", "A cookie's name.", Shape::Text),
        optional("query", "A query parameter's name, as it stands in the request.", Shape::Text),
        optional("sni", "Of TLS: the name of the server, in lower case.", Shape::True),
        optional(
            "proxy-tlv",
            "Of a PROXY header of `trusted-proxies`: a TLV by its type, 1 to 255, such as 0xE0. It goes before what the request says.",
            Shape::Value,
        ),
        optional("alpn", "Of TLS: the first protocol that is offered.", Shape::True),
    ],
    later: &["path", "json"],
};

pub(in super::super) static TAIL: Object = Object {
    name: "a tail",
    doc: "Clients of whom a claim ends with certain digits.",
    keys: &[
        required("of", "The claim: one of those that requests name.", Shape::Word(TAILS)),
        required(
            "digits",
            "What it ends with: one or two digits each, such as \"7\" and \"42\".",
            Shape::List(&Shape::Value, 1, Some(110)),
        ),
    ],
    later: &[],
};

const TAILS: &[&str] = &["app", "user", "tenant", "device", "platform", "channel"];
