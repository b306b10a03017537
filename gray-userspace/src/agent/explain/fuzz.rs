//! Fuzz target of `explain`: any request, answered over a policy in memory.

use std::convert::Infallible;

use gray_common::decide::mem::MemTables;

use super::{Asked, Tables, answer};
use crate::{
    agent::{names::Names, testing},
    api::types::ExplainRequest,
    compile::{
        Compiled,
        have::Have,
        lists::Lists,
        plan::{Want, plan},
    },
    datapath::write_mem,
    fuzz::one_line,
    model::Policy,
};

const DOCUMENT: &str = "services:
  shop:
    listen: ['198.18.1.100:80', '[fd00:18::100]:80']
    identify: [workload, source]
    claims: { app: { header: X-App-Id }, user: { cookie: uid }, channel: { query: ch } }
    instances:
      - { address: '198.18.2.2:8080', version: '1.0' }
      - { address: '[fd00:18::2]:8080', version: '1.0' }
      - { address: '198.18.2.3:8080', version: '2.0' }
    stable: { version: '1.0' }
cohorts:
  jobs: { workloads: [nightly] }
  tenth: { percent: 10 }
lanes:
  blue: { shop: { version: '2.0' } }
routes:
  - { when: jobs, lane: blue }
  - { service: shop, when: { all: [tenth, { not: jobs }] }, to: { version: '2.0' } }
  - { service: shop, to: [{ version: '1.0', weight: 70 }, { version: '2.0', weight: 30 }] }
";

struct World {
    policy: Policy,
    compiled: Compiled,
    names: Names,
    tables: MemTables,
}

thread_local!(static WORLD: World = world());

fn world() -> World {
    let (policy, compiled) = testing::compiled(DOCUMENT);
    let mut tables = MemTables::default();
    let lists = Lists::default();
    let key = gray_common::hash::HashKey { k0: 3, k1: 4 };
    let want = Want::all(1, key, &compiled, &lists);
    let steps = plan(&mut Have::default(), &want).unwrap_or_else(|e| panic!("{e}"));
    steps.iter().for_each(|s| write_mem(&mut tables, s));
    let names = Names::new(&policy, &compiled.assigned);
    World { policy, compiled, names, tables }
}

/// A request as JSON.
pub fn explain(data: &[u8]) {
    let Ok(request) = serde_json::from_slice::<ExplainRequest>(data) else { return };
    WORLD.with(|w| {
        let asked = match Asked::read(&w.policy, &request, false) {
            Ok(asked) => asked.in_lane_of(None, &w.policy, &w.compiled.assigned.lanes),
            Err(e) => {
                one_line(&e.help);
                assert!(!e.error.is_empty());
                return;
            }
        };
        let tables =
            Tables { control: w.tables.control, now: w.tables.now, policy: &w.policy, compiled: &w.compiled };
        let all = |t: &mut MemTables, _| {
            w.tables.clone_into(t);
            Ok::<(), Infallible>(())
        };
        let Ok(reply) = answer(&tables, (&asked, None), &w.names, all);
        assert!(!reply.text.is_empty() && reply.reason != "table_hole", "{reply:?}");
        let _ = asked.tuple();
    });
}
