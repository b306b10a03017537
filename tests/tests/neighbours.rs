//! Living beside others: a second agent, foreign programs, connections that were there before.

use std::time::Duration;

use gray_tests::{
    WorldSpec,
    agent::Agent,
    bpf::{self, Foreign},
    client::{LoadSpec, Mode},
    policy::PolicyText,
    residue,
    scene::{MODES, Scene, servers, vip},
    world::World,
};

const CONNECT4: u32 = 10;

#[test]
fn two_agents_side_by_side_do_not_disturb_each_other() {
    let (one, two) = (Scene::start(WorldSpec::default()), Scene::start(WorldSpec::default()));
    let sources = one.world.clients[0].sources(false);
    let policy = |s: &Scene, i: usize| {
        PolicyText::own(&s.world)
            .identify("workload, source")
            .sources("early", &sources[i..=i])
            .gray_when("early")
    };
    // Same addresses in both worlds, other clients are gray.
    one.apply(&policy(&one, 1));
    two.apply(&policy(&two, 2));
    let callers = |s: &Scene, wanted: &str| {
        let report = LoadSpec::new(vip(false, 8080), MODES[0].1).count(8).run(&s.world.caller()).unwrap();
        report.assert_all_ok();
        assert_eq!(report.of_version(wanted), 8);
    };
    one.expect_gray(false, &sources[1..2]);
    two.expect_gray(false, &sources[2..3]);
    one.apply(&PolicyText::own(&one.world).identify("workload").weights(100));
    callers(&one, "2.0");
    callers(&two, "1.0");
    one.finish();
    two.expect_gray(false, &sources[2..3]);
    let _ = two.agent.gray_ok(&["cohort", "add", "early", &sources[5].to_string()]).unwrap();
    two.expect_gray(false, &[sources[2], sources[5]]);
    two.finish();
}

#[test]
fn foreign_programs_stay_attached_and_in_order() {
    let world = World::build(WorldSpec::default()).unwrap();
    let interface = |w: &World| Foreign::interface(&w.edge, "c0", bpf::TCX_INGRESS, bpf::TCX_NEXT).unwrap();
    let cgroup = |w: &World| Foreign::cgroup(&w.callers, CONNECT4, bpf::ALLOW).unwrap();
    let before = [interface(&world), cgroup(&world)];
    let (stable, gray) = servers(&world);
    let agent = Agent::start(&world).unwrap();
    let after = [interface(&world), cgroup(&world)];
    let mut scene = Scene { agent, stable, gray, world };
    let ids = |w: &World| {
        [
            bpf::on_interface(&w.edge, "c0", bpf::TCX_INGRESS).unwrap(),
            bpf::on_cgroup(w.callers.path(), CONNECT4).unwrap(),
        ]
    };
    // Which place is ours; foreign ones are where they were.
    let places = |w: &World, ours: usize| {
        for (at, list) in ids(w).iter().enumerate() {
            let (b, a) = (before[at].id().unwrap(), after[at].id().unwrap());
            let foreign: Vec<u32> = list.iter().copied().filter(|id| [a, b].contains(id)).collect();
            assert_eq!((foreign, list.len()), (vec![b, a], 2 + ours), "{list:?}");
        }
        ids(w).map(|list| {
            list.iter()
                .position(|id| ![&before, &after].iter().any(|f| f.iter().any(|p| p.id().unwrap() == *id)))
        })
    };
    let ours = places(&scene.world, 1);
    assert!(ours.iter().all(Option::is_some));
    let sources = scene.world.clients[0].sources(false);
    scene.apply(&PolicyText::own(&scene.world).sources("early", &sources[..2]).gray_when("early"));
    scene.expect_gray(false, &sources[..2]);
    scene.agent.kill9().unwrap();
    assert_eq!(places(&scene.world, 1), ours);
    scene.agent.restart().unwrap();
    assert_eq!(places(&scene.world, 1), ours, "programs are replaced in their places");
    scene.expect_gray(false, &sources[..2]);
    let Scene { agent, world, .. } = scene;
    agent.uninstall().unwrap();
    assert_eq!(places(&world, 0), [None, None]);
    drop((before, after));
    assert_eq!(residue::find(&world).unwrap(), Vec::<String>::new());
}

#[test]
fn connections_from_before_the_agent_stay_with_stable() {
    let world = World::build(WorldSpec::default()).unwrap();
    let (stable, gray) = servers(&world);
    let all = world.clients[0].sources(false);
    let place = world.clients[0].place();
    let patience = Duration::from_secs(5);
    let mut http = LoadSpec::new(vip(false, 8080), Mode::Http { per_connection: 0 }).sources(all.clone());
    (http.workers, http.pause_ms) = (16, 20);
    let mut http = http.start(&place).unwrap();
    let mut lines = LoadSpec::long_lived(vip(true, 9000), 8, 20)
        .sources(world.clients[0].sources(true))
        .start(&place)
        .unwrap();
    let _ = http.wait_requests(50, patience).unwrap();
    let _ = lines.wait_requests(20, patience).unwrap();
    let agent = Agent::start(&world).unwrap();
    let scene = Scene { agent, stable, gray, world };
    let both = [all.clone(), scene.world.clients[0].sources(true)].concat();
    scene.apply(&PolicyText::own(&scene.world).sources("early", &both).gray_when("early"));
    scene.expect_gray(false, &both);
    scene.expect_gray(true, &both);
    for load in [&mut http, &mut lines] {
        let now = load.snapshot().unwrap().requests;
        let _ = load.wait_requests(now + 100, patience).unwrap();
    }
    for (load, opened) in [(http, 16), (lines, 8)] {
        let report = load.stop().unwrap();
        report.assert_all_ok();
        assert_eq!((report.opened, report.of_version("1.0")), (opened, report.ok));
    }
    scene.finish();
}

#[test]
fn older_connections_stay_with_stable_also_over_a_restart_of_the_agent() {
    let world = World::build(WorldSpec::default()).unwrap();
    let (stable, gray) = servers(&world);
    let all = world.clients[0].sources(false);
    let mut http = LoadSpec::new(vip(false, 8080), Mode::Http { per_connection: 0 }).sources(all.clone());
    // Silent while the agent starts, applies and starts again: their first segment meets the second agent.
    (http.workers, http.pause_ms) = (4, 10_000);
    let mut http = http.start(&world.clients[0].place()).unwrap();
    let _ = http.wait_requests(4, Duration::from_secs(5)).unwrap();
    let agent = Agent::start(&world).unwrap();
    let mut scene = Scene { agent, stable, gray, world };
    scene.apply(&PolicyText::own(&scene.world).sources("early", &all).gray_when("early"));
    scene.agent.kill9().unwrap();
    scene.agent.restart().unwrap();
    scene.expect_gray(false, &all);
    let _ = http.wait_requests(8, Duration::from_secs(20)).unwrap();
    let report = http.stop().unwrap();
    report.assert_all_ok();
    assert_eq!((report.opened, report.of_version("1.0")), (4, report.ok));
    scene.finish();
}
