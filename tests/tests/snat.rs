//! `nat: snat`: instances whose replies go elsewhere than to the client's side see the node, and everything comes back. H1, H3.

use std::net::IpAddr;

use gray_tests::{
    World, WorldSpec,
    agent::{Agent, AgentSpec},
    client::Mode,
    link::ip_batch,
    policy::PolicyText,
    residue,
    scene::{MODES, Scene, servers},
    server::Server,
};

/// Instances know no way to the clients: one to the node's address only, which is of another link for the second.
fn astray(w: &World) -> [IpAddr; 2] {
    let gateway = |j: usize, v6: bool| -> IpAddr {
        let b = &w.backends[j];
        let own = if v6 { IpAddr::V6(b.v6) } else { IpAddr::V4(b.v4) };
        let text = own.to_string();
        let (net, _) = text.rsplit_once(if v6 { ':' } else { '.' }).unwrap();
        format!("{net}{}1", if v6 { ":" } else { "." }).parse().unwrap()
    };
    let node = [false, true].map(|v6| gateway(0, v6));
    for (j, b) in w.backends.iter().enumerate() {
        ip_batch(&b.ns, "route del default\nroute del ::/0\n").unwrap();
        for (at, v6) in node.iter().zip([false, true]) {
            if j > 0 {
                let bits = if v6 { 128 } else { 32 };
                ip_batch(&b.ns, &format!("route add {at}/{bits} via {}\n", gateway(j, v6))).unwrap();
            }
        }
    }
    node
}

fn scene() -> (Scene, [IpAddr; 2]) {
    let world = World::build(WorldSpec { vips: vec![None], sources6: 16, ..WorldSpec::default() }).unwrap();
    let node = astray(&world);
    let (stable, gray): (Server, Server) = servers(&world);
    let mut spec = AgentSpec::packets(&world);
    spec.args.extend(node.iter().flat_map(|a| ["--snat".to_owned(), a.to_string()]));
    let agent = Agent::start_with(&world, spec).unwrap();
    (Scene { agent, stable, gray, world }, node)
}

fn policy(w: &World, nat: &str) -> String {
    let text = PolicyText::moved(w).cohort("half", "percent: 50").gray_when("half").to_string();
    let with = text.replace("    instances:", &format!("    nat: {nat}\n    instances:"));
    assert_ne!(text, with);
    with
}

/// TCP and UDP of both families, bulk beside it; without `snat` nothing comes back.
#[test]
fn h1_h3_snat_brings_replies_back_wherever_they_are_routed() {
    let (s, node) = scene();
    let _ = s.agent.apply(&policy(&s.world, "snat")).unwrap();
    for v6 in [false, true] {
        for (port, mode) in MODES {
            let report = s.load(v6, port, mode, 4);
            let versions = [report.of_version("1.0"), report.of_version("2.0")];
            assert!(versions.iter().all(|n| *n > 0), "v6 {v6}, {mode:?}: {versions:?}");
        }
    }
    let flows = s.agent.gray_json(&["flows"]).unwrap();
    let seen: Vec<String> = flows["flows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["seen_as"].as_str().unwrap_or_else(|| panic!("{f}")).to_owned())
        .collect();
    assert!(!seen.is_empty());
    for text in seen {
        let at: std::net::SocketAddr = text.parse().unwrap();
        assert!(node.contains(&at.ip()) && (16_384..32_768).contains(&at.port()), "{at}");
    }
    let _ = s.agent.apply(&policy(&s.world, "dnat")).unwrap();
    let sources = s.world.clients[0].sources(false);
    let mode = Mode::Http { per_connection: 1 };
    let lost = s.load_from(&s.world.clients[0].place(), false, 8080, mode, sources, 4);
    assert_eq!(lost.ok, 0, "the test would not have needed snat");
    s.finish();
}

/// What the agent cannot do it refuses, and says what is missing.
#[test]
fn d4_snat_without_an_address_of_the_node_is_refused() {
    let world = World::build(WorldSpec::default()).unwrap();
    let agent = Agent::start_with(&world, AgentSpec::packets(&world)).unwrap();
    let refused = agent.apply(&policy(&world, "snat")).unwrap_err().to_string();
    assert!(refused.contains("no IPv4 address") && refused.contains("--snat"), "{refused}");
    let _ = agent.apply(&policy(&world, "dnat")).unwrap();
    residue::assert_none(&world, agent);
}
