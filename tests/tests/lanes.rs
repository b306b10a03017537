//! Lanes through a chain: clients -> edge -> A -> C. A is a real proxy on its own node, where an agent labels it; nothing is passed
//! on in the requests.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use gray_tests::{
    Place, World, WorldSpec,
    agent::{Agent, AgentSpec},
    cgroup::Cgroup,
    client::{Load, LoadSpec, Mode, Report},
    residue,
    scene::expect_split,
    server::{NginxStream, Route, Server, ServerSpec},
    world::{vip4, vip6},
};

const ONE: Mode = Mode::Http { per_connection: 1 };
/// What is asked of C directly.
const CALLS: [(u16, Mode); 4] = [
    (8080, ONE),
    (9000, Mode::Tcp { per_connection: 2 }),
    (9001, Mode::Udp { connected: true, per_socket: 2 }),
    (9001, Mode::Udp { connected: false, per_socket: 2 }),
];
const LANE: &str = "lanes:
  gray-2.0: { a-http: { version: \"2.0\" }, a-tcp: { version: \"2.0\" }, c-http: { version: \"2.0\" }, \
     c-tcp: { version: \"2.0\" }, c-udp: { version: \"2.0\" } }
";

fn service(k: usize, v6: bool, port: u16) -> SocketAddr {
    SocketAddr::new(if v6 { IpAddr::V6(vip6(k)) } else { IpAddr::V4(vip4(k)) }, port)
}

/// A on backends 0 (stable, with the first service address) and 1 (gray), C on 2 (the second one) and 3. Dropped in this order.
struct Chain {
    edge: Agent,
    /// On the nodes of A's instances.
    near: [Agent; 2],
    _a: [NginxStream; 2],
    _c: [Server; 2],
    a_cgroups: [Arc<Cgroup>; 2],
    world: World,
}

impl Chain {
    fn start() -> Self {
        let spec = WorldSpec { backends: 4, vips: vec![Some(0), Some(2)], ..WorldSpec::default() };
        let world = World::build(spec).unwrap();
        let c = |j: usize, name, version| {
            let b = &world.backends[j];
            Server::start(&b.place(), ServerSpec::on(b, name, version)).unwrap()
        };
        let servers = [c(2, "c-stable", "1.0"), c(3, "c-gray", "2.0")];
        let a_cgroups = ["a-stable", "a-gray"].map(|name| Arc::new(world.callers.child(name).unwrap()));
        let proxies = [0, 1].map(|j| {
            let place = world.backends[j].place().in_cgroup(&a_cgroups[j]);
            let listen = world.backends[j].addresses().into_iter();
            let routes = listen.flat_map(|ip| [8080, 9000].map(|port| (SocketAddr::new(ip, port), port)));
            let routes: Vec<_> =
                routes.map(|(at, port)| Route::new(at, service(1, at.is_ipv6(), port))).collect();
            NginxStream::start(&place, world.temp(), &routes).unwrap()
        });
        let near = [0, 1].map(|j| {
            let mut spec = AgentSpec::of(&world);
            spec.attach = Vec::new();
            spec.elsewhere = Some((world.backends[j].place(), format!("a{j}")));
            Agent::start_with(&world, spec).unwrap()
        });
        let edge = Agent::start(&world).unwrap();
        Self { edge, near, _a: proxies, _c: servers, a_cgroups, world }
    }

    fn agents(&self) -> [&Agent; 3] {
        [&self.edge, &self.near[0], &self.near[1]]
    }

    fn apply(&self, more: &str) {
        let text = self.services() + more;
        self.agents().into_iter().for_each(|a| drop(a.apply(&text).unwrap()));
    }

    fn services(&self) -> String {
        let mut out = String::from("services:\n");
        let all = [
            ("a-http", 0, 8080, ""),
            ("a-tcp", 0, 9000, ""),
            ("c-http", 1, 8080, ""),
            ("c-tcp", 1, 9000, ""),
            ("c-udp", 1, 9001, "/udp"),
        ];
        for (name, k, port, proto) in all {
            let gray = &self.world.backends[2 * k + 1];
            let [v4, v6] = [false, true].map(|v6| service(k, v6, port));
            let [gray4, gray6] = [gray.v4.into(), gray.v6.into()].map(|ip: IpAddr| SocketAddr::new(ip, port));
            out += &format!(
                "  {name}:\n    listen: [\"{v4}{proto}\", \"{v6}{proto}\"]\n    identify: [source, workload]\n    instances:\n"
            );
            for (address, version) in [(v4, "1.0"), (v6, "1.0"), (gray4, "2.0"), (gray6, "2.0")] {
                out += &format!("      - {{ address: \"{address}\", version: \"{version}\" }}\n");
            }
            out += "    stable: { version: \"1.0\" }\n";
        }
        out
    }

    /// Two clients of each family.
    fn testers(&self, v6: bool) -> Vec<IpAddr> {
        self.world.clients[0].sources(v6)[1..3].to_vec()
    }

    /// The lane, and the testers in it.
    fn lane(&self) -> String {
        let ids = [false, true].map(|v6| self.testers(v6)).concat();
        let ids: Vec<_> = ids.iter().map(|ip| format!("\"{ip}\"")).collect();
        format!(
            "cohorts:\n  testers: {{ sources: [{}] }}\n{LANE}routes:\n  - {{ when: testers, lane: gray-2.0 }}\n",
            ids.join(", ")
        )
    }

    fn label(&self, j: usize, name: &str, lane: &[&str]) -> serde_json::Value {
        let cgroup = self.a_cgroups[j].path().to_string_lossy().into_owned();
        let args = ["workload", "set", name, "--cgroup", &cgroup];
        self.near[j].gray_json(&[&args[..], lane].concat()).unwrap()
    }

    /// One request from each of the client's addresses through the chain.
    fn through(&self, v6: bool, port: u16, mode: Mode) -> Report {
        let all = self.world.clients[0].sources(v6);
        let n = all.len() as u64 * 2;
        let spec = LoadSpec::new(service(0, v6, port), mode).count(n).sources(all);
        let report = spec.run(&self.world.clients[0].place()).unwrap();
        report.assert_all_ok();
        report
    }

    /// The testers are served by A's and C's 2.0, everybody else by both 1.0; or nobody is gray.
    fn expect(&self, gray: bool) {
        for v6 in [false, true] {
            let testers = if gray { self.testers(v6) } else { Vec::new() };
            for (port, mode) in [(8080, ONE), (9000, Mode::Tcp { per_connection: 1 })] {
                expect_split(&self.through(v6, port, mode), &self.world.clients[0].sources(v6), &testers);
            }
        }
    }

    /// What a caller at A's node j gets of C, over every protocol and family.
    fn expect_calls(&self, place: &Place, version: &str) {
        for v6 in [false, true] {
            for (port, mode) in CALLS {
                let report =
                    LoadSpec::new(service(1, v6, port), mode).count(8).workers(2).run(place).unwrap();
                report.assert_all_ok();
                assert_eq!(
                    report.of_version(version),
                    report.ok,
                    "v6 {v6}, {mode:?}: {:?}",
                    report.by_server
                );
            }
        }
    }

    fn caller(&self, j: usize) -> Place {
        self.world.backends[j].place().in_cgroup(&self.a_cgroups[j])
    }

    fn counted(&self, agent: &Agent, reason: &str) -> u64 {
        let status = agent.gray_json(&["status"]).unwrap();
        let counters = status["counters"].as_array().unwrap();
        counters.iter().find(|c| c["reason"] == reason).map_or(0, |c| c["count"].as_u64().unwrap())
    }

    /// Connections through the chain that stay, by testers only.
    fn long_lived(&self, v6: bool) -> Load {
        let spec = LoadSpec::long_lived(service(0, v6, 9000), 4, 20).sources(self.testers(v6));
        spec.start(&self.world.clients[0].place()).unwrap()
    }

    fn finish(self) {
        let Self { edge, near, _a, _c, a_cgroups, world } = self;
        near.into_iter().for_each(|a| a.uninstall().unwrap());
        drop((_a, _c));
        residue::assert_none(&world, edge);
        drop(a_cgroups);
    }
}

#[test]
fn e1_e2_c10_b8_a_chain_stays_in_its_lane_from_the_edge_to_the_last_service() {
    let chain = Chain::start();
    chain.apply(&chain.lane());
    let _ = chain.label(0, "a-1", &[]);
    // The edge alone: A is gray for testers, and what it calls is stable, because its calls are in no lane yet.
    let half = chain.through(false, 8080, ONE);
    assert_eq!(half.by_server.keys().collect::<Vec<_>>(), ["c-stable/1.0"]);
    let told = chain.label(1, "a-2", &["--lane", "gray-2.0"]);
    assert_eq!((&told["lane"], &told["lane_known"]), (&"gray-2.0".into(), &true.into()));
    chain.expect(true);
    chain.expect_calls(&chain.caller(1), "2.0");
    chain.expect_calls(&chain.caller(0), "1.0");
    // On the gray node, but no process of the workload.
    chain.expect_calls(&chain.world.backends[1].place().in_cgroup(&chain.world.callers), "1.0");
    let lanes = chain.near[1].gray_json(&["get", "lanes"]).unwrap();
    assert!(lanes[0]["decisions"].as_u64().unwrap() > 0, "{lanes}");
    assert_eq!(lanes[0]["workloads"], serde_json::json!(["a-2"]));
    let why = chain.near[1].gray_json(&["explain", "--service", "c-http", "--workload", "a-2"]).unwrap();
    assert_eq!(
        (&why["reason"], &why["route"], &why["arm"]),
        (&"lane".into(), &"lane/gray-2.0".into(), &"gray".into())
    );
    chain.finish();
}

/// A service that a lane does not name serves it from stable; new connections leave a lane that is gone, old ones stay.
#[test]
fn e1_d1_a_lane_that_is_taken_away_keeps_what_is_open_and_gets_nothing_new() {
    let chain = Chain::start();
    chain.apply(&chain.lane());
    let _ = chain.label(1, "a-2", &["--lane", "gray-2.0"]);
    let number = |c: &Chain| c.near[1].gray_json(&["get", "lanes"]).unwrap()[0]["number"].clone();
    let first = number(&chain);
    let mut open = [false, true].map(|v6| chain.long_lived(v6));
    for load in &mut open {
        let _ = load.wait_requests(20, Duration::from_secs(20)).unwrap();
    }
    assert_eq!(chain.counted(&chain.near[1], "lane_unknown"), 0);
    chain.apply("");
    chain.expect(false);
    chain.expect_calls(&chain.caller(1), "1.0");
    assert!(chain.counted(&chain.near[1], "lane_unknown") > 0);
    let listed = chain.near[1].gray_json(&["workload", "list"]).unwrap();
    assert_eq!((&listed[0]["lane"], &listed[0]["lane_known"]), (&"gray-2.0".into(), &false.into()));
    // Only a part of the chain: A is no service of this lane, and C's are.
    chain.apply(
        "lanes:\n  other: { a-http: { version: \"2.0\" } }\n  gray-2.0: { c-http: { version: \"2.0\" } }\n",
    );
    assert_eq!(chain.near[1].gray_json(&["get", "lanes", "gray-2.0"]).unwrap()[0]["number"], first);
    chain.expect(false);
    let calls =
        |port, mode| LoadSpec::new(service(1, false, port), mode).count(8).run(&chain.caller(1)).unwrap();
    assert_eq!(calls(8080, ONE).of_version("2.0"), 8);
    assert_eq!(calls(9000, Mode::Tcp { per_connection: 1 }).of_version("1.0"), 8);
    for load in open {
        let report = load.stop().unwrap();
        report.assert_all_ok();
        assert_eq!((report.opened, report.of_version("2.0")), (4, report.ok), "{:?}", report.by_server);
    }
    chain.finish();
}

/// A label may name a lane that no policy has had; the policy that brings it turns the workload's calls with all else, and they stay
/// there while the agent is killed and comes back.
#[test]
fn e2_h2_a_label_waits_for_its_lane_and_outlives_the_agent() {
    let mut chain = Chain::start();
    chain.apply("");
    let told = chain.label(1, "a-2", &["--lane", "gray-2.0"]);
    assert_eq!((&told["lane"], &told["lane_known"]), (&"gray-2.0".into(), &false.into()));
    chain.expect_calls(&chain.caller(1), "1.0");
    assert!(chain.counted(&chain.near[1], "lane_unknown") > 0);
    let refused =
        chain.near[1].gray(&["workload", "set", "a-2", "--cgroup", "/", "--lane", "Not A Name"]).unwrap();
    assert_eq!(refused.status.code(), Some(1));
    chain.apply(LANE);
    chain.expect_calls(&chain.caller(1), "2.0");
    let mut load = LoadSpec::new(service(1, true, 8080), ONE).workers(2).start(&chain.caller(1)).unwrap();
    let _ = load.wait_requests(50, Duration::from_secs(20)).unwrap();
    chain.near[1].kill9().unwrap();
    let dead = load.snapshot().unwrap().requests;
    let _ = load.wait_requests(dead + 50, Duration::from_secs(20)).unwrap();
    chain.near[1].restart().unwrap();
    let back = load.snapshot().unwrap().requests;
    let _ = load.wait_requests(back + 50, Duration::from_secs(20)).unwrap();
    let report = load.stop().unwrap();
    report.assert_all_ok();
    assert_eq!(report.of_version("2.0"), report.ok, "{:?}", report.by_server);
    // Without the lane again, by a label that says none.
    let _ = chain.label(1, "a-2", &[]);
    chain.expect_calls(&chain.caller(1), "1.0");
    chain.finish();
}
