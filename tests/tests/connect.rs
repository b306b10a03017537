//! The connect path with a real agent: callers on the edge host, decided before a packet exists.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use gray_tests::{
    Place, WorldSpec,
    agent::{Agent, AgentSpec},
    bpf,
    client::{LoadSpec, Mode, Report},
    command::wait_for,
    link,
    policy::PolicyText,
    scene::{MODES, Scene, expect_split, servers, vip},
    world::World,
};

/// `BPF_CGROUP_INET4_CONNECT`.
const CONNECT4: u32 = 10;

const ONE: Mode = Mode::Http { per_connection: 1 };

/// A few requests of every protocol and family from a place. The application's view of its peer is checked by
/// the generator (`WrongPeer`), so no failure means that `getpeername` and datagram sources name the service.
fn every_protocol(place: &Place, version: &str) {
    for v6 in [false, true] {
        for (port, mode) in MODES {
            let report = LoadSpec::new(vip(v6, port), mode).count(16).workers(2).run(place).unwrap();
            report.assert_all_ok();
            assert_eq!(report.of_version(version), report.ok, "v6 {v6}, {mode:?}: {:?}", report.by_server);
        }
    }
}

fn web_is_gray(scene: &Scene, base: PolicyText) {
    let policy = base.identify("workload, source").cohort("jobs", "workloads: [web]");
    scene.apply(&policy.gray_when("jobs"));
    let cgroup = scene.world.callers.path().to_string_lossy().into_owned();
    let _ = scene.agent.gray_ok(&["workload", "set", "web", "--cgroup", &cgroup]).unwrap();
}

#[test]
fn a7_a_named_workload_reaches_gray_and_sees_the_service_as_its_peer() {
    let scene = Scene::start(WorldSpec::default());
    every_protocol(&scene.world.caller(), "1.0");
    web_is_gray(&scene, PolicyText::own(&scene.world));
    every_protocol(&scene.world.caller(), "2.0");
    let listed = scene.agent.gray_json(&["workload", "list"]).unwrap();
    assert_eq!((&listed[0]["name"], &listed[0]["state"]), (&"web".into(), &"active".into()));
    let _ = scene.agent.gray_ok(&["workload", "remove", "web"]).unwrap();
    every_protocol(&scene.world.caller(), "1.0");
    scene.finish();
}

#[test]
fn a7_with_an_address_that_nobody_has_both_arms_are_rewritten() {
    let scene = Scene::start(WorldSpec { vips: vec![None], ..WorldSpec::default() });
    // Reachable from nowhere but by the connect path.
    scene.apply(&PolicyText::moved(&scene.world).weights(0));
    every_protocol(&scene.world.caller(), "1.0");
    web_is_gray(&scene, PolicyText::moved(&scene.world));
    every_protocol(&scene.world.caller(), "2.0");
    scene.finish();
}

#[test]
fn h3_ipv4_dialled_through_ipv6_sockets() {
    let scene = Scene::start(WorldSpec::default());
    web_is_gray(&scene, PolicyText::own(&scene.world));
    for (port, mode) in MODES {
        let mut spec = LoadSpec::new(vip(false, port), mode).count(16);
        spec.v4_mapped = true;
        let report = spec.run(&scene.world.caller()).unwrap();
        report.assert_all_ok();
        assert_eq!(report.of_version("2.0"), report.ok, "{mode:?}: {:?}", report.by_server);
    }
    scene.finish();
}

#[test]
fn c3_weights_without_an_identity_are_drawn_per_connection() {
    let scene = Scene::start(WorldSpec::default());
    // An unbound caller without a workload has no claim at all.
    let run = |mode, count| -> Report {
        let report = LoadSpec::new(vip(false, 8080), mode).count(count).run(&scene.world.caller()).unwrap();
        report.assert_all_ok();
        report
    };
    let weigh = |gray| scene.apply(&PolicyText::own(&scene.world).identify("workload").weights(gray));
    weigh(50);
    let half = run(ONE, 400).of_version("2.0");
    // 400 draws of 0.5: 200, deviation 10.
    assert!((140..=260).contains(&half), "{half} of 400");
    weigh(0);
    assert_eq!(run(ONE, 200).of_version("2.0"), 0, "weight 0 is nobody");
    weigh(100);
    assert_eq!(run(ONE, 200).of_version("2.0"), 200, "weight 100 is everybody");
    scene.finish();
}

/// A reason's count in `gray status`.
fn counted(scene: &Scene, reason: &str) -> u64 {
    let status = scene.agent.gray_json(&["status"]).unwrap();
    let counters = status["counters"].as_array().unwrap();
    counters.iter().find(|c| c["reason"] == reason).map_or(0, |c| c["count"].as_u64().unwrap())
}

#[test]
fn h1_callers_elsewhere_are_left_alone() {
    let scene = Scene::start(WorldSpec::default());
    let w = &scene.world;
    scene.apply(&PolicyText::own(w).identify("workload, source").weights(100));
    every_protocol(&w.caller(), "2.0");
    // Outside the agent's cgroup.
    every_protocol(&w.edge_place(), "1.0");
    // In its cgroup, in another network namespace: the service address here is stable's own, on this very host.
    let skipped = || counted(&scene, "other_namespace");
    assert_eq!(skipped(), 0);
    every_protocol(&w.backends[0].place().in_cgroup(&w.callers), "1.0");
    assert!(skipped() > 0, "the programs ran there and left it alone");
    scene.finish();
}

#[test]
fn a13_a_bound_caller_is_who_the_packet_path_says_it_is() {
    let scene = Scene::start(WorldSpec::default());
    let w = &scene.world;
    // More addresses of the edge host; backends answer them by their default route.
    let ours: Vec<IpAddr> = (1..=40).map(|k| IpAddr::V4(Ipv4Addr::new(198, 18, 90, k))).collect();
    let add: String = ours.iter().map(|a| format!("addr add {a}/32 dev lo\n")).collect();
    link::ip_batch(&w.edge, &add).unwrap();
    let check = |policy: PolicyText| {
        scene.apply(&policy);
        let gray = |ip: &&IpAddr| {
            let src = ip.to_string();
            scene.agent.gray_json(&["explain", "--service", "web", "--src", &src]).unwrap()["arm"] == "gray"
        };
        let gray: Vec<IpAddr> = ours.iter().filter(gray).copied().collect();
        let report = scene.load_from(&w.caller(), false, 8080, ONE, ours.clone(), 80);
        report.assert_all_ok();
        expect_split(&report, &ours, &gray);
        gray
    };
    let own = || PolicyText::own(w);
    assert_eq!(check(own().sources("early", ["198.18.90.2", "198.18.90.8/31"]).gray_when("early")).len(), 3);
    let half = check(own().cohort("half", "percent: 50").gray_when("half")).len();
    // 40 draws of 0.5: 20, deviation 3.2.
    assert!((4..=36).contains(&half), "{half}");
    scene.finish();
}

/// The cgroup comes after the agent, goes, and is made again under its name: whoever calls from there is steered.
#[test]
fn h2_the_connect_path_follows_its_cgroup() {
    let world = World::build(WorldSpec { vips: vec![None], ..WorldSpec::default() }).unwrap();
    let path = world.callers.path().join("app");
    let (stable, gray) = servers(&world);
    let spec = AgentSpec { cgroup: Some(path.clone()), ..AgentSpec::of(&world) };
    let agent = Agent::start_with(&world, spec).unwrap();
    let mut scene = Scene { agent, stable, gray, world };
    // Reachable from nowhere but by the connect path.
    scene.apply(&PolicyText::moved(&scene.world).weights(0));
    let wait = |scene: &Scene, state: &str| {
        let what = format!("the connect path to be {state}");
        wait_for(&what, Duration::from_secs(6), || {
            let status = scene.agent.gray_json(&["status"])?;
            Ok(status["connect"]["state"] == state)
        })
        .unwrap();
    };
    let attached = |path: &Path| bpf::on_cgroup(path, CONNECT4).is_ok_and(|ids| !ids.is_empty());
    wait(&scene, "waiting");
    let status = scene.agent.gray_json(&["status"]).unwrap();
    let error = status["connect"]["error"].as_str().unwrap();
    assert!(error.contains("app does not exist"), "{error}");
    for round in 0..3 {
        let app = Arc::new(scene.world.callers.child("app").unwrap());
        wait_for("the programs", Duration::from_secs(6), || Ok(attached(&path))).unwrap();
        wait(&scene, "attached");
        every_protocol(&scene.world.edge_place().in_cgroup(&app), "1.0");
        if round == 1 {
            // The next one finds the links of a cgroup that is no more.
            scene.agent.kill9().unwrap();
            drop(app);
            scene.agent.restart().unwrap();
        } else {
            drop(app);
        }
        wait(&scene, "waiting");
    }
    scene.finish();
}
