//! A policy of 1 000 services and 10 000 routes compiles, and a small change of it is a small plan. Says how long things took.
#![expect(clippy::print_stdout, reason = "shown with --nocapture")]

use std::{collections::BTreeSet, fmt::Write as _, time::Instant};

use gray_common::{
    decide::{Claims, Request, Verdict, decide},
    hash::HashKey,
    wire::{Addr, ListenerKey},
};

use super::{
    Assigned, Circumstances, compile,
    have::Have,
    lists::of_policy,
    plan::{Want, plan},
};
use crate::{
    config::{self, Source},
    datapath::{Datapath as _, Fake},
    model::Policy,
};

const KEY: HashKey = HashKey { k0: 3, k1: 4 };
const SERVICES: usize = 1_000;
/// Of each service.
const ROUTES: usize = 10;
const LISTS: usize = 200;
const SHARES: usize = 100;

fn document() -> String {
    let mut out = String::from("services:\n");
    for s in 0..SERVICES {
        let (hi, lo) = (s / 250, s % 250 + 1);
        let _ = writeln!(
            out,
            "  s{s}:\n    listen: [\"10.{hi}.0.{lo}:80\"]\n    identify: [source]\n    instances:"
        );
        for v in 1..=3 {
            let _ = writeln!(out, "      - {{ address: \"10.{hi}.{v}.{lo}:80\", version: \"{v}\" }}");
        }
        out.push_str("    stable: { version: \"1\" }\n");
    }
    out.push_str("cohorts:\n");
    for c in 0..LISTS {
        let _ = writeln!(out, "  list{c}: {{ sources: [\"172.16.{c}.0/24\", \"192.168.{c}.1\"] }}");
    }
    for c in 0..SHARES {
        let _ = writeln!(out, "  share{c}: {{ percent: {}.5 }}", c % 100);
    }
    out.push_str("routes:\n");
    for s in 0..SERVICES {
        for r in 0..ROUTES {
            let (n, version) = (s * ROUTES + r, r % 2 + 2);
            let when = match r % 3 {
                0 => format!("list{}", n % LISTS),
                1 => format!("share{}", n % SHARES),
                _ => format!("{{ all: [list{}, {{ not: share{} }}] }}", n % LISTS, n % SHARES),
            };
            let _ = writeln!(out, "  - {{ service: s{s}, when: {when}, to: {{ version: \"{version}\" }} }}");
        }
    }
    out
}

fn load(text: &str) -> Policy {
    config::load(&[Source::new("large", text)]).unwrap_or_else(|e| panic!("{e}")).policy
}

#[test]
fn c7_d1_a_thousand_services_and_ten_thousand_routes() {
    let mut at = Instant::now();
    let mut took = |what: &str| {
        println!("{what}: {} ms", at.elapsed().as_millis());
        at = Instant::now();
    };
    let text = document();
    let policy = load(&text);
    took("read");
    assert_eq!((policy.services.len(), policy.routes.len()), (SERVICES, SERVICES * ROUTES));
    let first = compile(&policy, &Assigned::default(), &Circumstances::default()).unwrap();
    took("compiled");
    assert!(first.rules.len() >= SERVICES * ROUTES);
    let lists = of_policy(&policy, &first.assigned.lists, KEY);
    let (mut have, mut path) = (Have::default(), Fake::default());
    let steps = plan(&mut have, &Want::all(1, KEY, &first, &lists)).unwrap();
    took("planned");
    steps.iter().for_each(|s| path.write(s).unwrap());

    // One weight more; what is of no bank is not written again.
    let changed = load(&text.replacen("percent: 1.5", "percent: 2.5", 1));
    took("read again");
    let said = config::diff(&policy, &changed);
    took("compared");
    assert_eq!(said.iter().map(ToString::to_string).collect::<Vec<_>>(), ["~ cohort share1: 1.5% -> 2.5%"]);
    let second = compile(&changed, &first.assigned, &Circumstances::default()).unwrap();
    took("compiled again");
    assert_eq!(second.assigned, first.assigned, "numbers stay");
    let steps = plan(&mut have, &Want::all(2, KEY, &second, &lists)).unwrap();
    took("planned again");
    steps.iter().for_each(|s| path.write(s).unwrap());
    let kinds: BTreeSet<String> =
        steps.iter().map(|s| format!("{s:?}").chars().take_while(|c| c.is_alphabetic()).collect()).collect();
    for untouched in ["Arena", "Instance", "Class", "Listeners", "Identities"] {
        assert!(!kinds.contains(untouched), "{untouched} is written: {kinds:?}");
    }

    // The last route of the last service decides.
    let view = path.tables.view();
    let source = Addr::from("172.16.199.9".parse::<std::net::IpAddr>().unwrap());
    let mut claims = Claims::none(0);
    claims.set_source(KEY, &source);
    let key = ListenerKey {
        addr: Addr::from("10.3.0.250".parse::<std::net::IpAddr>().unwrap()),
        port: 80_u16.to_be(),
        proto: 6,
        _pad: 0,
    };
    let listener = view.listener(&key);
    let asked = Request { listener, claims: &claims, source: Some(&source), is_v4: true, seed: 1, spares: 0 };
    let Verdict::Steer(d) = decide(&view, &asked) else { panic!("not steered") };
    let rule = second.assigned.rules.name(u32::from(d.rule)).unwrap();
    assert_eq!(rule, "s999/list199/version=3");
}
