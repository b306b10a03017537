//! The least that must work on every kernel: everything loads and attaches, and each path steers, in both families.
//! `cargo xtask test` runs it here and on the oldest kernel that gray supports.

use gray_tests::{
    WorldSpec,
    client::{LoadSpec, Mode},
    policy::PolicyText,
    scene::{Scene, vip},
    skip,
};

const HTTP: (u16, Mode) = (8080, Mode::Http { per_connection: 1 });
const UDP: (u16, Mode) = (9001, Mode::Udp { connected: false, per_socket: 2 });

#[test]
fn h1_h3_everything_attaches_and_each_path_steers() {
    let scene = Scene::start(WorldSpec { sources4: 2, sources6: 2, ..WorldSpec::default() });
    let status = scene.agent.gray_json(&["status"]).unwrap();
    let hook = if skip::tcx() { "tcx" } else { "clsact" };
    let attachments = status["attachments"].as_array().unwrap();
    assert!(attachments.len() == 3, "{status}");
    assert!(attachments.iter().all(|a| a["state"] == "attached" && a["hook"] == hook), "{hook}: {status}");
    assert_eq!(status["connect"]["state"], "attached", "{status}");

    let (v4, v6) = (scene.world.clients[0].sources(false), scene.world.clients[0].sources(true));
    let policy = PolicyText::own(&scene.world).sources("early", [v4[0], v6[0]]);
    let policy = policy.cohort("jobs", "workloads: [web]").gray_when("{ any: [early, jobs] }");
    scene.apply(&policy);
    let cgroup = scene.world.callers.path().to_string_lossy().into_owned();
    let _ = scene.agent.gray_ok(&["workload", "set", "web", "--cgroup", &cgroup]).unwrap();
    for family in [false, true] {
        let gray = [if family { v6[0] } else { v4[0] }];
        scene.expect_gray(family, &gray);
        for (port, mode) in [HTTP, UDP] {
            let report = LoadSpec::new(vip(family, port), mode).count(4).run(&scene.world.caller()).unwrap();
            report.assert_all_ok();
            assert_eq!(report.of_version("2.0"), report.ok, "v6 {family}, {mode:?}: {:?}", report.by_server);
        }
    }
    scene.finish();
}
