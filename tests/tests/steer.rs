//! Steering real traffic with a real agent: both paths, both families.

use std::net::{IpAddr, SocketAddr};

use gray_tests::{
    agent::Agent,
    client::{LoadSpec, Mode},
    residue,
    server::{Server, ServerSpec},
    world::{World, WorldSpec, vip4, vip6},
};

/// Stable on backend 0 (which owns the service address), gray on backend 1.
fn policy(w: &World, cohorts: &str, routes: &str) -> String {
    let (s, g) = (&w.backends[0], &w.backends[1]);
    format!(
        "services:\n  shop:\n    listen: [\"{v4}:8080\", \"[{v6}]:8080\", \"{v4}:9001/udp\", \"[{v6}]:9001/udp\"]\n    \
         identify: [workload, source]\n    instances:\n      \
         - {{ address: \"{s4}:8080\", version: \"1.0\", id: s4 }}\n      - {{ address: \"[{s6}]:8080\", version: \"1.0\", id: s6 }}\n      \
         - {{ address: \"{g4}:8080\", version: \"2.0\", id: g4 }}\n      - {{ address: \"[{g6}]:8080\", version: \"2.0\", id: g6 }}\n    \
         stable: {{ version: \"1.0\" }}\n{cohorts}{routes}",
        v4 = vip4(0), v6 = vip6(0), s4 = s.v4, s6 = s.v6, g4 = g.v4, g6 = g.v6,
    )
}

#[test]
fn h1_a5_chosen_sources_reach_gray_others_stable() {
    let w = World::build(WorldSpec::default()).unwrap();
    let _stable = Server::start(&w.backends[0].place(), ServerSpec::on(&w.backends[0], "stable", "1.0")).unwrap();
    let _gray = Server::start(&w.backends[1].place(), ServerSpec::on(&w.backends[1], "gray", "2.0")).unwrap();
    let agent = Agent::start(&w).unwrap();
    let c = &w.clients[0];
    let chosen = c.sources(false)[1];
    let cohorts = format!("cohorts:\n  early: {{ sources: [\"{chosen}\"] }}\n");
    let routes = "routes:\n  - { service: shop, when: early, to: { version: \"2.0\" } }\n";
    println!("{}", agent.apply(&policy(&w, &cohorts, routes)).unwrap());
    let target = SocketAddr::new(IpAddr::V4(vip4(0)), 8080);
    let report = LoadSpec::new(target, Mode::Http { per_connection: 1 })
        .count(200)
        .sources(c.sources(false))
        .run(&c.place())
        .unwrap();
    println!("{report:?}");
    println!("{}", agent.gray_ok(&["status"]).unwrap());
    report.assert_all_ok();
    residue::assert_none(&w, agent);
}
