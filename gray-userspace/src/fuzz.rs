//! What fuzzing feeds: one function per parser, which takes any bytes and panics when a promise is broken. The bodies
//! stand beside the parsers, as their tests do. No part of the product: built for tests and with the feature `fuzz`.

mod compiled;
mod first_bytes;
#[cfg(test)]
mod replay;

use std::borrow::Cow;

pub use crate::{
    agent::fuzz::{events, explain},
    api::fuzz::{accounts, lists, queries, requests},
    cli::fuzz::{agent_file, arguments},
    config::fuzz::{policy, policy_values},
    config::release::fuzz::release,
    doctor::fuzz::{firewall, proc},
    import::fuzz::rule,
    lint_sql::fuzz::sql,
    splice::fuzz::first,
    store::fuzz::{audit, key},
    sys::fuzz::{host, netlink},
    tenants::fuzz::tenants,
};
pub use compiled::assignments;
pub(crate) use compiled::no_hole;
pub use first_bytes::{frames, head, hello, proxy2, tag, tcp_options};

/// A parser's name, which is also that of its fuzz target and its corpus, and what is called with each input.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: &[Target] = &[
    ("accounts", accounts),
    ("agent_file", agent_file),
    ("arguments", arguments),
    ("assignments", assignments),
    ("audit", audit),
    ("events", events),
    ("explain", explain),
    ("firewall", firewall),
    ("first", first),
    ("frames", frames),
    ("head", head),
    ("hello", hello),
    ("host", host),
    ("key", key),
    ("lists", lists),
    ("netlink", netlink),
    ("policy", policy),
    ("policy_values", policy_values),
    ("proc", proc),
    ("proxy2", proxy2),
    ("queries", queries),
    ("release", release),
    ("requests", requests),
    ("rule", rule),
    ("sql", sql),
    ("tag", tag),
    ("tcp_options", tcp_options),
    ("tenants", tenants),
];

/// Parsers of text get text: what is no UTF-8 is refused before them.
pub(crate) fn text(data: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(data)
}

/// The first byte chooses one of `n`, the rest is the input.
pub(crate) fn choice(data: &[u8], n: usize) -> Option<(usize, &[u8])> {
    let (first, rest) = data.split_first()?;
    Some((usize::from(*first) % n, rest))
}

/// What is said to a person is one line, and moves no cursor.
pub(crate) fn one_line(said: &str) {
    assert!(!said.is_empty(), "nothing is said");
    assert!(!said.contains(char::is_control), "more than a line: {said:?}");
}
