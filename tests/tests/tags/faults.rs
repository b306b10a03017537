//! Tags where something else is there, too: what containers say of themselves, sockets that dial again, programs of others.

use gray_tests::{
    Place, World,
    agent::{Agent, AgentSpec},
    bpf::Foreign,
    client::LoadSpec,
    policy::PolicyText,
    scene::vip,
};

use super::{Edge, LANE, ONE, SYNS, counted, dump};

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
