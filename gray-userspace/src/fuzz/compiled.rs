//! What must hold of every policy that was let in: it compiles or is refused, and its tables have no hole.

use gray_common::{
    Reason,
    decide::{Claims, Request, Verdict, decide, mem::MemTables},
    hash::HashKey,
    wire::Addr,
};

use crate::{
    compile::{
        Assigned, Circumstances, Compiled, compile,
        have::Have,
        lists::{Lists, of_policy},
        plan::{Want, plan},
    },
    config::{self, Source},
    datapath::write_mem,
    model::{Policy, parse_member},
};

const KEY: HashKey = HashKey { k0: 1, k1: 2 };
/// A Maglev table per subset: more of them only cost time.
const SERVICES: usize = 16;

const DOCUMENT: &str = "services:
  shop:
    listen: ['198.18.1.100:80']
    instances: [{ address: '198.18.2.2:80', version: '1' }, { address: '198.18.2.3:80', version: '2' }]
    stable: { version: '1' }
cohorts:
  early: { sources: ['198.18.1.9'] }
lanes:
  blue: { shop: { version: '2' } }
  green: { shop: { version: '1' } }
routes:
  - { when: early, lane: blue }
  - { name: listed, service: shop, when: early, to: { version: '2' } }
  - { name: share, service: shop, to: [{ version: '1', weight: 70 }, { version: '2', weight: 30 }] }
";

thread_local!(static POLICY: Policy = match config::load(&[Source::new("document", DOCUMENT)]) {
    Ok(loaded) => loaded.policy,
    Err(e) => panic!("{e}"),
});

/// The numbers that a revision hands down, as the store has them (JSON).
pub fn assignments(data: &[u8]) {
    let Ok(before) = serde_json::from_slice::<Assigned>(data) else { return };
    POLICY.with(|policy| after(policy, &before));
}

/// Decides for a few clients at every listener; none may meet a missing entry.
pub(crate) fn no_hole(policy: &Policy) {
    if policy.services.len() <= SERVICES {
        after(policy, &Assigned::default());
    }
}

fn after(policy: &Policy, before: &Assigned) {
    let Ok(compiled) = compile(policy, before, &Circumstances::default()) else { return };
    let lists = lists(policy, &compiled);
    let want = Want::all(1, KEY, &compiled, &lists);
    let Ok(steps) = plan(&mut Have::default(), &want) else { return };
    let mut tables = MemTables::default();
    steps.iter().for_each(|s| write_mem(&mut tables, s));
    let view = tables.view();
    for key in compiled.listeners.keys() {
        for n in 0..4u8 {
            let source = Addr::from(std::net::IpAddr::from([198, 18, n, 9]));
            let mut claims = Claims::none(0);
            claims.set_source(KEY, &source);
            claims.set_mark(KEY, u32::from(n));
            claims.set_dscp(KEY, n);
            claims.lane = u64::from(n);
            let request = Request {
                listener: view.listener(key),
                claims: &claims,
                source: Some(&source),
                is_v4: key.addr.is_v4(),
                seed: u64::from(n),
                spares: 0,
            };
            let verdict = decide(&view, &request);
            let hole = [Reason::TableHole, Reason::NotManaged].map(Verdict::Pass).contains(&verdict);
            assert!(!hole, "{key:?}: {verdict:?}");
        }
    }
}

fn lists(policy: &Policy, c: &Compiled) -> Lists {
    for list in policy.lists() {
        assert!(c.assigned.lists.get(&list.name).is_some(), "{} has no number", list.name);
        for id in list.ids.iter() {
            let _ = parse_member(list.of, id).unwrap_or_else(|e| panic!("let in and no member: {e}"));
        }
    }
    of_policy(policy, &c.assigned.lists, KEY)
}
