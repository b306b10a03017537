//! What the tables have no room for: each refusal, and what it is about.

use super::{About, Assigned, Circumstances, CompileError, check, compile};
use crate::{
    config::{self, Source},
    model::Policy,
};

fn policy(text: &str) -> Policy {
    config::load(&[Source::new("test", text)]).unwrap_or_else(|e| panic!("{e}")).policy
}

/// So many services, each with what it is given beside its addresses; then the rest of the document.
fn many(services: usize, rest: impl Fn(usize) -> String) -> String {
    let mut out = String::from("services:\n");
    for s in 0..services {
        let (hi, lo) = (s / 250, s % 250 + 1);
        out.push_str(&format!(
            "  s{s}:\n    listen: [\"10.{hi}.0.{lo}:80\"]\n    identify: [source]\n    instances:\n"
        ));
        for v in 1..=2 {
            out.push_str(&format!("      - {{ address: \"10.{hi}.{v}.{lo}:80\", version: \"{v}\" }}\n"));
        }
        out.push_str("    stable: { version: \"1\" }\n");
    }
    out.push_str("routes:\n");
    (0..services).for_each(|s| out.push_str(&rest(s)));
    out
}

#[test]
fn what_all_services_share_is_refused_once_where_it_is_too_much_d4() {
    let half = "to: [{ version: \"1\", weight: 50 }, { version: \"2\", weight: 50 }]";
    let text = |n| many(n, |s| format!("  - {{ service: s{s}, {half} }}\n"));
    assert_eq!(check(&policy(&text(256))), Ok(()));
    let errors = check(&policy(&text(260))).unwrap_err();
    let full = CompileError::Full { service: "s256".into(), what: "weighted routes", limit: 256 };
    assert_eq!(errors, [full]);
    assert_eq!(errors[0].about(), Some(About::Service("s256")));
}

#[test]
fn every_service_with_too_many_rules_is_refused_d4() {
    // 7 x 7 pairs are 49 rules, and twice that too many.
    let any = |from: usize| {
        (from..from + 7).map(|c| format!("{{ source: \"172.16.0.{c}\" }}")).collect::<Vec<_>>().join(", ")
    };
    let when = |from| format!("{{ all: [{{ any: [{}] }}, {{ any: [{}] }}] }}", any(from), any(from + 7));
    let one = |s: usize, from| {
        format!(
            "  - {{ name: r{s}-{from}, service: s{s}, when: {}, to: {{ version: \"2\" }} }}\n",
            when(from)
        )
    };
    let text = many(3, |s| if s == 1 { one(s, 0) } else { one(s, 0) + &one(s, 20) });
    let errors = check(&policy(&text)).unwrap_err();
    let many = |service: &str| CompileError::TooManyRules { service: service.into() };
    assert_eq!(errors, [many("s0"), many("s2")]);
    let first = compile(&policy(&text), &Assigned::default(), &Circumstances::default());
    assert_eq!(first.err(), Some(many("s0")));
}
