//! Tags over the wire: callers whose own node cannot steer them say their lane in their SYNs, and the edge takes it from an
//! interface that it trusts.

mod faults;

use std::process::Stdio;
use std::time::Duration;

use gray_tests::{
    Place, World, WorldSpec,
    agent::{Agent, AgentSpec},
    bpf::Foreign,
    client::{LoadSpec, Mode},
    hostile::{Harm, Hostile, HostileSpec, Side},
    policy::PolicyText,
    residue,
    scene::{servers, vip},
    server::Server,
};

const ONE: Mode = Mode::Http { per_connection: 1 };
const LANE: &str = "gray-2.0";

/// The edge and its servers. Dropped in this order.
struct Edge {
    agent: Agent,
    foreign: Option<Foreign>,
    _servers: (Server, Server),
    world: World,
}

impl Edge {
    fn start(args: &[&str]) -> Self {
        Self::start_after(args, |_| None)
    }

    /// After somebody else.
    fn start_after(args: &[&str], foreign: impl FnOnce(&World) -> Option<Foreign>) -> Self {
        let world = World::build(WorldSpec::default()).unwrap();
        let foreign = foreign(&world);
        let servers = servers(&world);
        let mut spec = AgentSpec::of(&world);
        spec.args = args.iter().map(|a| (*a).to_owned()).collect();
        let agent = Agent::start_with(&world, spec).unwrap();
        let edge = Self { agent, foreign, _servers: servers, world };
        let _ = edge.agent.apply(&policy(&edge.world, LANE, "web, echo, dns")).unwrap();
        edge
    }

    /// In the cgroup that the edge's agent is attached to, in a network namespace of its own: as a container on the edge host.
    fn container(&self) -> Place {
        self.world.clients[0].place().in_cgroup(&self.world.callers)
    }

    /// Another node, in the client's namespace: it says tags, and takes no packets.
    fn near(&self) -> Agent {
        let mut spec = AgentSpec::of(&self.world);
        (spec.attach, spec.args) = (Vec::new(), vec!["--tags".into()]);
        spec.elsewhere = Some((self.world.clients[0].place(), "near".into()));
        Agent::start_with(&self.world, spec).unwrap()
    }

    fn label(&self, agent: &Agent, lane: &str) {
        let cgroup = self.world.callers.path().to_string_lossy().into_owned();
        let _ = agent.gray_ok(&["workload", "set", "batch", "--cgroup", &cgroup, "--lane", lane]).unwrap();
    }

    fn expect(&self, place: &Place, version: &str) {
        for v6 in [false, true] {
            for (port, mode) in [(8080, ONE), (9000, Mode::Tcp { per_connection: 2 })] {
                let report = LoadSpec::new(vip(v6, port), mode).count(8).workers(1).run(place).unwrap();
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

    /// Tags that were refused and taken.
    fn expect_tags(&self, refused: u64, taken: u64) {
        assert_eq!(["tag_refused", "tag_taken"].map(|r| self.counted(r)), [refused, taken]);
    }

    /// What the first four SYNs of some connections look like there; they go to this version.
    fn seen(&self, place: &Place, version: &str) -> String {
        dump(place, SYNS, 4, || self.expect(&self.container(), version))
    }

    fn counted(&self, reason: &str) -> u64 {
        counted(&self.agent, reason)
    }

    fn finish(self) {
        drop(self.foreign);
        residue::assert_none(&self.world, self.agent);
    }
}

/// Of IPv4.
const SYNS: &str = "tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn";

/// What the first `n` packets of this kind look like there, that come of what is done.
fn dump(place: &Place, filter: &str, n: u32, done: impl FnOnce()) -> String {
    let mut dump = place.command("tcpdump");
    let _ = dump.args(["-l", "-nn", "-v", "-c", &n.to_string(), "-i", "eth0", filter]);
    let child = dump.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(gray_tests::pace::patience(Duration::from_millis(1500)));
    done();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

fn counted(agent: &Agent, reason: &str) -> u64 {
    let status = agent.gray_json(&["status"]).unwrap();
    let counters = status["counters"].as_array().unwrap();
    counters.iter().find(|c| c["reason"] == reason).map_or(0, |c| c["count"].as_u64().unwrap())
}

/// A lane of these services.
fn policy(w: &World, lane: &str, services: &str) -> String {
    let gray: Vec<_> = services.split(", ").map(|s| format!("{s}: {{ version: \"2.0\" }}")).collect();
    PolicyText::own(w).lane(lane, &gray.join(", ")).to_string()
}

#[test]
fn a6_e2_a_container_with_a_network_of_its_own_is_in_its_lane() {
    let edge = Edge::start(&["--tags", "--trust-tags", "c0"]);
    edge.expect(&edge.container(), "1.0");
    assert_eq!(edge.counted("tag_taken"), 0, "nobody says anything yet");
    edge.label(&edge.agent, LANE);
    edge.expect(&edge.container(), "2.0");
    // 8 requests and 4 connections of two, for each family.
    edge.expect_tags(0, 24);
    // Outside of the cgroup; and UDP has no SYN.
    edge.expect(&edge.world.clients[0].place(), "1.0");
    let udp = Mode::Udp { connected: true, per_socket: 2 };
    let report = LoadSpec::new(vip(false, 9001), udp).count(8).run(&edge.container()).unwrap();
    report.assert_all_ok();
    assert_eq!(report.of_version("1.0"), 8);
    assert_eq!(["tag_refused", "tag_overwritten", "tag_no_room"].map(|r| edge.counted(r)), [0; 3]);
    // Its instance gets it as it was said: nothing that it covers is changed on the way.
    let behind = edge.seen(&edge.world.backends[1].place(), "2.0");
    assert_eq!(behind.matches("exp-6772").count(), 4, "{behind}");
    // What the lane says is the policy's business.
    let _ = edge.agent.apply(&policy(&edge.world, LANE, "dns")).unwrap();
    edge.expect(&edge.container(), "1.0");
    edge.finish();
}

/// Nobody behind an interface that is not trusted finds a tag.
/// Where requests are read what the SYN said is known beside them: its connection is in the lane, also one that says no HTTP.
#[test]
fn a6_a8_a_tag_is_known_where_requests_are_read() {
    let edge = Edge::start(&["--tags", "--trust-tags", "c0"]);
    let text = PolicyText::own(&edge.world).claims("app: { header: X-App-Id }").identify("tag, app");
    // The echo speaks first.
    let text = text.first_byte("200ms");
    let lane = "web: { version: \"2.0\" }, echo: { version: \"2.0\" }";
    let _ = edge.agent.apply(&text.lane(LANE, lane).to_string()).unwrap();
    edge.expect(&edge.container(), "1.0");
    edge.label(&edge.agent, LANE);
    edge.expect(&edge.container(), "2.0");
    edge.expect(&edge.world.clients[0].place(), "1.0");
    edge.finish();
}

#[test]
fn a6_s4_a_tag_by_an_interface_that_is_not_trusted_ends_there() {
    let edge = Edge::start(&["--tags"]);
    edge.label(&edge.agent, LANE);
    let before = edge.seen(&edge.container(), "1.0");
    assert_eq!(before.matches("exp-6772").count(), 4, "{before}");
    let behind = edge.seen(&edge.world.backends[0].place(), "1.0");
    assert!(behind.matches("mss").count() == 4 && !behind.contains("exp"), "{behind}");
    assert_eq!(["tag_overwritten", "tag_taken"].map(|r| edge.counted(r)), [48, 0]);
    edge.finish();
}

/// Two nodes, each with a store of its own: they understand each other with one key, and about lanes of one name.
#[test]
fn a6_s4_another_nodes_tags_count_with_the_fleets_key_and_the_lanes_name() {
    let edge = Edge::start(&["--trust-tags", "c0"]);
    let near = edge.near();
    // There the lane does not name these services: the node leaves them to stable, and says the lane.
    let _ = near.apply(&policy(&edge.world, LANE, "dns")).unwrap();
    edge.label(&near, LANE);
    edge.expect(&edge.container(), "1.0");
    edge.expect_tags(24, 0);
    let key = edge.world.temp().join("fleet.key");
    let key = key.to_string_lossy();
    let _ = edge.agent.gray_ok(&["key", "export", "--file", &key]).unwrap();
    let _ = near.gray_ok(&["key", "import", &key]).unwrap();
    edge.expect(&edge.container(), "2.0");
    edge.expect_tags(24, 24);
    // Number 2 there, and nobody's here; then number 2 here, too, by another name.
    let _ = near.apply(&policy(&edge.world, "blue", "dns")).unwrap();
    edge.label(&near, "blue");
    edge.expect(&edge.container(), "1.0");
    let _ = edge.agent.apply(&policy(&edge.world, "green", "web, echo")).unwrap();
    edge.expect(&edge.container(), "1.0");
    edge.expect_tags(72, 24);
    near.uninstall().unwrap();
    edge.finish();
}

/// What one node's policy leads a caller into, the next node takes it to be in.
#[test]
fn e2_a_route_of_one_node_is_the_next_nodes_lane() {
    let edge = Edge::start(&["--trust-tags", "c0"]);
    let key = edge.world.temp().join("fleet.key");
    let key = key.to_string_lossy();
    let _ = edge.agent.gray_ok(&["key", "export", "--file", &key]).unwrap();
    let near = edge.near();
    let _ = near.gray_ok(&["key", "import", &key]).unwrap();
    // There the lane has stable's instances: the call stays on the address that it dials.
    let stays = PolicyText::own(&edge.world)
        .lane(LANE, "web: { version: \"1.0\" }, echo: { version: \"1.0\" }")
        .route(&format!("when: {{ workload: batch }}, lane: {LANE}"));
    let _ = near.apply(&stays.to_string()).unwrap();
    edge.expect(&edge.container(), "1.0");
    edge.expect_tags(0, 0);
    let cgroup = edge.world.callers.path().to_string_lossy().into_owned();
    let _ = near.gray_ok(&["workload", "set", "batch", "--cgroup", &cgroup]).unwrap();
    edge.expect(&edge.container(), "2.0");
    edge.expect_tags(0, 24);
    assert_eq!(counted(&near, "tag_said"), 24);
    near.uninstall().unwrap();
    edge.finish();
}

/// A percentage of callers, whose packets look the same to whom they come.
#[test]
fn e2_a_tag_says_who_calls_where_the_policy_asks_for_it() {
    let edge = Edge::start(&["--tags", "--trust-tags", "c0"]);
    let half = |identify: &str| {
        PolicyText::own(&edge.world)
            .identify(identify)
            .cohort("half", "percent: 50")
            .gray_when("half")
            .to_string()
    };
    let cgroup = edge.world.callers.path().to_string_lossy().into_owned();
    let versions = || {
        let of = |i: u32| {
            let name = format!("batch-{i}");
            let _ = edge.agent.gray_ok(&["workload", "set", &name, "--cgroup", &cgroup]).unwrap();
            let report = LoadSpec::new(vip(i % 2 == 1, 8080), ONE).count(4).run(&edge.container()).unwrap();
            report.assert_all_ok();
            let gray = report.of_version("2.0");
            assert!(gray == 0 || gray == 4, "{name} is two callers: {gray} of 4");
            let _ = edge.agent.gray_ok(&["workload", "remove", &name]).unwrap();
            gray
        };
        (0..16).map(of).sum::<u64>()
    };
    let _ = edge.agent.apply(&half("workload, source")).unwrap();
    assert!([0, 32, 64].contains(&versions()), "by source: one client in each family");
    edge.expect_tags(0, 0);
    let _ = edge.agent.apply(&half("tag, workload, source")).unwrap();
    let gray = versions();
    assert!(gray > 0 && gray < 64, "{gray} of 64");
    edge.expect_tags(0, 64);
    edge.finish();
}

/// The edge loses every fourth packet before gray sees it.
#[test]
fn a6_h3_a_syn_that_is_sent_again_says_it_again() {
    let edge = Edge::start(&["--tags", "--trust-tags", "c0"]);
    edge.label(&edge.agent, LANE);
    let spec = HostileSpec {
        ingress: Harm { lose: 2500, ..Harm::default() },
        ..HostileSpec::both(3, Harm::default())
    };
    let hostile = Hostile::on(&edge.world.clients[0].link, Side::Near, spec).unwrap();
    let mut load = LoadSpec::new(vip(false, 8080), ONE).count(24).workers(4);
    load.timeout_ms = 60_000;
    let report = load.run(&edge.container()).unwrap();
    report.assert_all_ok();
    assert_eq!(report.of_version("2.0"), 24, "{:?}", report.by_server);
    let [said, taken] = ["tag_said", "tag_taken"].map(|r| edge.counted(r));
    assert!(said > 24 && taken >= 24 && taken <= said, "{said} said, {taken} taken");
    drop(hostile);
    edge.finish();
}

/// Nobody pays for what no policy can say.
#[test]
fn e2_what_writes_tags_is_attached_when_a_policy_has_something_to_say() {
    let edge = Edge::start(&["--tags", "--trust-tags", "c0"]);
    let says = |agent: &Agent| {
        let status = agent.gray_json(&["status"]).unwrap();
        status["connect"]["programs"].to_string().contains("sockops")
    };
    assert!(says(&edge.agent), "the policy has a lane");
    let mut edge = edge;
    let _ = edge.agent.apply(&PolicyText::own(&edge.world).to_string()).unwrap();
    assert!(says(&edge.agent), "what is attached once stays");
    edge.agent.restart().unwrap();
    assert!(!says(&edge.agent));
    let _ = edge.agent.apply(&policy(&edge.world, LANE, "web, echo")).unwrap();
    edge.label(&edge.agent, LANE);
    assert!(says(&edge.agent));
    edge.expect(&edge.container(), "2.0");
    edge.finish();
}

#[test]
fn a6_h2_a_new_agent_goes_on_where_the_dead_one_stopped() {
    let mut edge = Edge::start(&["--tags", "--trust-tags", "c0"]);
    edge.label(&edge.agent, LANE);
    let mut load = LoadSpec::new(vip(false, 8080), ONE).workers(2).start(&edge.container()).unwrap();
    let on = |load: &mut gray_tests::client::Load| {
        let n = load.snapshot().unwrap().requests;
        let _ = load.wait_requests(n + 50, Duration::from_secs(20)).unwrap();
    };
    on(&mut load);
    edge.agent.kill9().unwrap();
    on(&mut load);
    edge.agent.restart().unwrap();
    on(&mut load);
    let report = load.stop().unwrap();
    report.assert_all_ok();
    assert_eq!(report.of_version("2.0"), report.ok, "{:?}", report.by_server);
    // Without the option nothing is said, and the program is gone.
    edge.agent.use_args(&["--trust-tags", "c0"]);
    edge.agent.restart().unwrap();
    let programs = edge.agent.gray_json(&["status"]).unwrap()["connect"]["programs"].to_string();
    assert!(programs.contains("connect4") && !programs.contains("sockops"), "{programs}");
    edge.expect(&edge.container(), "1.0");
    edge.finish();
}
