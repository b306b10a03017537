//! The keys of a service's `claims`.

use super::{Object, Shape, optional};

pub(in super::super) static READS: Object = Object {
    name: "a service's claims",
    doc: "What is read of a connection's first request, by claim.",
    keys: &[
        optional("app", "The application: whose values `apps` cohorts have.", Shape::One(&PLACE)),
        optional("user", "The user: its values are the members of `users` cohorts.", Shape::One(&PLACE)),
    ],
    later: &["platform", "channel", "tenant", "device", "proxy"],
};

pub(in super::super) static PLACE: Object = Object {
    name: "a claim",
    doc: "Where a value stands: in a request one of `header`, `cookie`, `query`; in a TLS ClientHello `sni` or `alpn`; or one of each.",
    keys: &[
        optional("header", "A header's name, in any case.", Shape::Text),
        optional("cookie", "A cookie's name.", Shape::Text),
        optional("query", "A query parameter's name, as it stands in the request.", Shape::Text),
        optional("sni", "Of TLS: the name of the server, in lower case.", Shape::True),
        optional("alpn", "Of TLS: the first protocol that is offered.", Shape::True),
    ],
    later: &["path", "json", "proxy"],
};
