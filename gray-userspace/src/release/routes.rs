//! The documents of a release: what of the traffic it takes, in the words of the policy, beside the user's own documents.

use std::{collections::BTreeSet, fmt::Write as _};

use super::{Spec, Traffic};
use crate::{
    config::percent_text,
    model::{MetaKey, Selector},
};

/// Documents that begin so are the engine's.
pub const SOURCE: &str = "release/";

pub fn source_name(release: &str) -> String {
    format!("{SOURCE}{release}")
}

/// Whether a route of this name is one that `source` makes for the release. Names of releases may hold dashes and digits, too.
pub fn owns(release: &str, route: &str) -> bool {
    let rest = route.strip_prefix("release-").and_then(|r| r.strip_prefix(release)?.strip_prefix('-'));
    let Some((service, kind)) = rest.and_then(|r| r.split_once('-')) else { return false };
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    number(service) && (matches!(kind, "percent" | "all") || kind.strip_prefix('c').is_some_and(number))
}

/// The document for this share; `None`: no route.
pub fn source(spec: &Spec, traffic: Traffic) -> Option<String> {
    let (cohorts, basis_points, all): (Vec<&str>, u16, bool) = match traffic {
        Traffic::None => return None,
        Traffic::Testers => (spec.testers.as_deref().into_iter().collect(), 0, false),
        Traffic::Stage(n) => {
            let bp = spec.stages.get(n)?.basis_points;
            (spec.cohorts(n), bp, bp >= 10_000)
        }
        Traffic::All => (spec.cohorts(spec.stages.len()), 10_000, true),
    };
    if cohorts.is_empty() && basis_points == 0 {
        return None;
    }
    let name = &spec.name;
    let mut out = format!("# Made by the release {name}; `gray release` changes it.\n");
    // Writing to a String cannot fail.
    if basis_points > 0 {
        let _ = write!(
            out,
            "cohorts:\n  release-{name}: {{ percent: {}, salt: {} }}\n",
            percent_text(u32::from(basis_points)),
            text(&spec.salt)
        );
    }
    let _ = writeln!(out, "routes:");
    for (i, s) in spec.services.iter().enumerate() {
        let mut route = |kind: &str, when: Option<&str>| {
            let when = when.map(|w| format!(", when: {}", text(w))).unwrap_or_default();
            let _ = writeln!(
                out,
                "  - {{ name: release-{name}-{i}-{kind}, service: {}{when}, to: {} }}",
                text(&s.name),
                selector(&s.gray)
            );
        };
        for (n, cohort) in cohorts.iter().enumerate() {
            route(&format!("c{n}"), Some(cohort));
        }
        if basis_points > 0 {
            route("percent", Some(&format!("release-{name}")));
        }
        // Those without an identity, too.
        if all {
            route("all", None);
        }
    }
    Some(out)
}

fn selector(s: &Selector) -> String {
    let pair = |(key, any): (&MetaKey, &BTreeSet<String>)| {
        let values: Vec<_> = any.iter().map(|v| text(v)).collect();
        match values.as_slice() {
            [one] => format!("{}: {one}", key.name()),
            many => format!("{}: [{}]", key.name(), many.join(", ")),
        }
    };
    let pairs: Vec<_> = s.0.iter().map(pair).collect();
    format!("{{ {} }}", pairs.join(", "))
}

/// Names and metadata have neither quotes nor control characters to escape but these.
fn text(t: &str) -> String {
    format!("\"{}\"", t.replace('\\', "\\\\").replace('"', "\\\""))
}
