//! Tags where something else is there, too: what containers say of themselves, sockets that dial again, programs of others, links
//! that are missing, no connect path, another ABI.

use std::time::Duration;

use gray_tests::{
    Place, World, WorldSpec,
    agent::{Agent, AgentSpec, binary},
    bpf::Foreign,
    client::LoadSpec,
    command::{output, wait_for},
    policy::PolicyText,
    scene::{servers, vip},
    skip,
};

use super::{Edge, LANE, ONE, SYNS, counted, dump, policy};

/// What a container chooses for itself, the node does not say: its mark, and the address that it has bound to. In the node's own
/// network namespace the same policy goes by them.
#[test]
fn a6_s4_nothing_is_said_of_what_a_container_says_of_itself() {
    let edge = Edge::start(&["--trust-tags", "c0"]);
    let place = edge.container();
    let key = edge.world.temp().join("fleet.key");
    let key = key.to_string_lossy();
    let _ = edge.agent.gray_ok(&["key", "export", "--file", &key]).unwrap();
    let near = |place: Place, name: &str| {
        let mut spec = AgentSpec::of(&edge.world);
        (spec.attach, spec.args) = (Vec::new(), vec!["--tags".into()]);
        spec.elsewhere = Some((place, name.into()));
        let near = Agent::start_with(&edge.world, spec).unwrap();
        let _ = near.gray_ok(&["key", "import", &key]).unwrap();
        near
    };
    let source = edge.world.clients[0].sources(false)[0];
    // Stable's instances are the lane's there: the connect path leaves the calls where they go.
    let policy = |when: &str| {
        PolicyText::own(&edge.world)
            .identify("mark, tag")
            .lane(LANE, "web: { version: \"1.0\" }, echo: { version: \"1.0\" }")
            .sources("here", [source])
            .cohort("marked", "marks: [7]")
            .route(&format!("when: {when}, lane: {LANE}"))
            .to_string()
    };
    let expect = |version: &str| {
        let load = LoadSpec::new(vip(false, 8080), ONE).count(4).sources(vec![source]).mark(7);
        let report = load.run(&place).unwrap();
        report.assert_all_ok();
        assert_eq!(report.of_version(version), 4, "{:?}", report.by_server);
    };
    // Elsewhere: for it, the client's namespace is a container's.
    let host = near(edge.world.backends[1].place(), "host");
    for when in ["marked", "here"] {
        let _ = host.apply(&policy(when)).unwrap();
        expect("1.0");
    }
    assert_eq!((counted(&host, "tag_said"), edge.counted("tag_taken")), (0, 0));
    host.uninstall().unwrap();
    let host = near(edge.world.clients[0].place(), "near");
    for when in ["marked", "here"] {
        let _ = host.apply(&policy(when)).unwrap();
        expect("2.0");
    }
    assert_eq!((counted(&host, "tag_said"), edge.counted("tag_taken")), (8, 8));
    host.uninstall().unwrap();
    edge.finish();
}

/// A socket says nothing to whom it dials after a service that has refused it.
#[test]
fn a6_s4_a_stranger_gets_no_tag_of_a_socket_that_dialled_a_service_before() {
    let edge = Edge::start(&["--tags", "--trust-tags", "c0"]);
    let web = PolicyText::own(&edge.world).service("closed", 7777, false);
    let _ = edge.agent.apply(&web.lane(LANE, "closed: { version: \"2.0\" }").to_string()).unwrap();
    edge.label(&edge.agent, LANE);
    for (v6, stranger) in
        [(false, edge.world.backends[1].v4.into()), (true, edge.world.backends[1].v6.into())]
    {
        let mut load = LoadSpec::new(std::net::SocketAddr::new(stranger, 8080), ONE).count(1).workers(1);
        load.refused_by = Some(vip(v6, 7777));
        let dial = || load.run(&edge.container()).unwrap().assert_all_ok();
        if v6 {
            dial();
            continue;
        }
        let syns = dump(&edge.container(), SYNS, 2, dial);
        let with: Vec<_> =
            syns.lines().filter(|l| l.contains("Flags [S]")).map(|l| l.contains("exp-6772")).collect();
        assert_eq!(with, [true, false], "{syns}");
    }
    assert_eq!(["tag_said", "tag_no_room"].map(|r| edge.counted(r)), [2, 0]);
    edge.expect_tags(0, 2);
    edge.finish();
}

/// A socket's options are asked for by one flag for all: who writes some of its own goes on for as long as it likes, with room for the
/// tag and without.
#[test]
fn a6_h4_somebody_elses_options_stay() {
    let foreign = |w: &World| Some(Foreign::options(&w.callers).unwrap());
    let edge = Edge::start_after(&["--tags", "--trust-tags", "c0"], foreign);
    let data = "tcp[tcpflags] & tcp-push != 0 and dst port 8080";
    let theirs = |version: &str| {
        let seen = dump(&edge.container(), data, 4, || edge.expect(&edge.container(), version));
        assert_eq!(seen.matches(Foreign::OPTION).count(), 4, "{seen}");
    };
    // To strangers, as it were: nothing to say.
    theirs("1.0");
    assert_eq!(edge.counted("tag_no_room"), 0);
    edge.label(&edge.agent, LANE);
    // Theirs is asked for first, and 20 bytes are not left.
    theirs("1.0");
    assert_eq!(["tag_no_room", "tag_said"].map(|r| edge.counted(r)), [24, 0]);
    edge.finish();
}

/// What the cgroup takes no program for: callers are steered, and say nothing until it does. A link that somebody removes comes back.
#[test]
fn a6_h2_a_fault_of_tags_is_one_of_tags_alone() {
    let foreign = |w: &World| Some(Foreign::alone(&w.callers).unwrap());
    let mut edge = Edge::start_after(&["--tags", "--trust-tags", "c0"], foreign);
    edge.label(&edge.agent, LANE);
    let connect = |edge: &Edge| edge.agent.gray_json(&["status"]).unwrap()["connect"].clone();
    let says = |edge: &Edge| {
        let now = connect(edge);
        assert_eq!(now["state"], "attached");
        now["programs"].to_string().contains("sockops")
    };
    assert!(!says(&edge));
    assert!(connect(&edge)["tags_error"].to_string().contains("gray_sockops"), "{}", connect(&edge));
    edge.expect(&edge.world.caller(), "2.0");
    edge.expect(&edge.container(), "1.0");
    edge.agent.restart().unwrap();
    assert!(!says(&edge));
    edge.expect(&edge.world.caller(), "2.0");
    edge.foreign = None;
    let soon = Duration::from_secs(20);
    wait_for("what writes tags to be attached", soon, || Ok(says(&edge))).unwrap();
    assert!(connect(&edge)["tags_error"].is_null());
    edge.expect(&edge.container(), "2.0");
    let pin = edge.agent.bpffs().join("abi1/links/cgroup-gray_sockops");
    std::fs::remove_file(&pin).unwrap();
    wait_for("the link to come back", soon, || Ok(pin.exists())).unwrap();
    edge.expect(&edge.container(), "2.0");
    edge.finish();
}

/// Whose file asks for tags, and who has no connect path: nobody of the node says anything, and nobody else gets through with it.
#[test]
fn a6_s4_without_a_connect_path_tags_are_overwritten_all_the_same() {
    let world = World::build(WorldSpec::default()).unwrap();
    let servers = servers(&world);
    let file = world.temp().join("agent.yaml");
    std::fs::write(&file, "tags: true\n").unwrap();
    let mut spec = AgentSpec::packets(&world);
    spec.args = vec!["--config".into(), file.display().to_string()];
    let agent = Agent::start_with(&world, spec).unwrap();
    let edge = Edge { agent, foreign: None, _servers: servers, world };
    let _ = edge.agent.apply(&policy(&edge.world, LANE, "web, echo, dns")).unwrap();
    let near = edge.near();
    let _ = near.apply(&policy(&edge.world, LANE, "dns")).unwrap();
    edge.label(&near, LANE);
    edge.expect(&edge.container(), "1.0");
    assert_eq!((counted(&near, "tag_said"), edge.counted("tag_overwritten")), (24, 24));
    near.uninstall().unwrap();
    edge.finish();
}

/// The programs of `gray migrate`, which stand in between two agents, overwrite tags as those before them did.
#[test]
fn a6_s4_between_two_abi_numbers_a_tag_ends_where_it_did() {
    if skip::without_tcx() {
        return;
    }
    let newer = binary().unwrap().with_file_name("gray-abi2");
    assert!(newer.is_file(), "{} is not built: cargo xtask build --abi-test", newer.display());
    let mut edge = Edge::start(&["--tags"]);
    edge.label(&edge.agent, LANE);
    edge.agent.use_binary(&newer);
    edge.agent.restart().unwrap();
    edge.agent.stop().unwrap();
    let mut migrate = edge.agent.command(&["migrate", "--to", "1", "--bpffs"]);
    let out = output(migrate.arg(edge.agent.bpffs())).unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let said = edge.seen(&edge.container(), "1.0");
    assert_eq!(said.matches("exp-6772").count(), 4, "{said}");
    let behind = edge.seen(&edge.world.backends[0].place(), "1.0");
    assert!(behind.matches("mss").count() == 4 && !behind.contains("exp"), "{behind}");
    edge.agent.use_binary(&binary().unwrap());
    edge.agent.restart().unwrap();
    edge.finish();
}
