//! C14: in shadow everything is decided and counted, and nobody is redirected: packets, local callers, requests.

use gray_tests::{
    client::{LoadSpec, Mode, Report, talk::Talk},
    place::Place,
    policy::PolicyText,
    scene::{Scene, expect_split, vip},
    world::WorldSpec,
};

/// GRAY, STABLE and IN SHADOW of a service.
fn counts(scene: &Scene, service: &str) -> [Option<u64>; 3] {
    let status = scene.agent.gray_json(&["status"]).unwrap();
    let of =
        status["services"].as_array().unwrap().iter().find(|s| s["service"] == service).cloned().unwrap();
    ["gray", "stable", "shadow"].map(|key| of[key].as_u64())
}

fn run(place: &Place, port: u16, mode: Mode, n: u64) -> Report {
    let report = LoadSpec::new(vip(false, port), mode).count(n).run(place).unwrap();
    report.assert_all_ok();
    report
}

#[test]
fn c14_packets_and_calls_stay_with_stable_and_are_counted() {
    let scene = Scene::start(WorldSpec::default());
    let w = &scene.world;
    let all = w.clients[0].sources(false);
    let listed = &all[..2];
    let policy = |each: &str| {
        let text = PolicyText::own(w).identify("workload, source").each(each).sources("early", listed);
        text.cohort("jobs", "workloads: [web]").gray_when("early").gray_when("jobs")
    };
    let cgroup = w.callers.path().to_string_lossy().into_owned();
    let _ = scene.agent.gray_ok(&["workload", "set", "web", "--cgroup", &cgroup]).unwrap();
    let ask = || {
        let n = all.len() as u64;
        let spec = LoadSpec::new(vip(false, 9000), Mode::Tcp { per_connection: 1 }).count(n);
        let report = spec.sources(all.clone()).run(&w.clients[0].place()).unwrap();
        report.assert_all_ok();
        report
    };
    scene.apply(&policy("shadow: true"));
    expect_split(&ask(), &all, &[]);
    let n = all.len() as u64;
    assert_eq!(counts(&scene, "echo"), [0, n, 2].map(Some));
    for (port, mode) in
        [(9000, Mode::Tcp { per_connection: 1 }), (9001, Mode::Udp { connected: false, per_socket: 1 })]
    {
        let report = run(&w.caller(), port, mode, 10);
        assert_eq!(report.of_version("1.0"), report.ok);
    }
    assert_eq!(counts(&scene, "echo"), [0, (n + 10), 12].map(Some));
    assert_eq!(counts(&scene, "dns"), [0, 10, 10].map(Some));
    assert_eq!(scene.agent.counted("shadow"), 22);

    // Events and `explain` say what would have been.
    let events = scene.agent.gray_ok(&["events", "--recent", "1024", "-o", "json"]).unwrap();
    let shadowed =
        |l: &&str| l.contains("\"shadow\"") && l.contains("early/version=2.0") && l.contains("\"stable\"");
    assert!(events.lines().any(|l| shadowed(&l)), "{events}");
    let source = listed[0].to_string();
    let why = scene.agent.gray_json(&["explain", "--service", "echo", "--src", &source]).unwrap();
    assert_eq!((&why["arm"], &why["reason"]), (&"stable".into(), &"shadow".into()), "{why}");
    assert!(why["text"].as_str().unwrap().contains("would have sent it to version=2.0"), "{why}");

    // Out of it the same routes redirect, and what was counted stays.
    scene.apply(&policy("shadow: false"));
    expect_split(&ask(), &all, listed);
    assert_eq!(counts(&scene, "echo"), [2, (2 * n + 8), 12].map(Some));
    scene.finish();
}

/// Requests are read and counted; with `per: request` none changes its instance.
#[test]
fn c14_requests_stay_with_stable_and_are_counted() {
    for per_request in [false, true] {
        let scene = Scene::start(WorldSpec::default());
        let text =
            PolicyText::moved(&scene.world).claims("app: { header: X-App-Id }").identify("app, source");
        let text = text.each("shadow: true").cohort("early", "apps: [app7]").gray_when("early");
        scene.apply(&if per_request { text.per_request() } else { text });
        for v6 in [false, true] {
            let before = scene.agent.counted("shadow");
            for app in ["app7", "app1"] {
                let mut talk = Talk::connect(&scene.world.clients[0].ns, vip(v6, 8080)).unwrap();
                for (nonce, named) in [("a", app), ("b", "app2"), ("c", "app7")] {
                    assert_eq!(
                        talk.get(named, nonce).unwrap().version(),
                        "1.0",
                        "{app}, v6: {v6}, {per_request}"
                    );
                }
            }
            // A connection is counted when its instance is chosen, and no request changes that.
            assert_eq!(scene.agent.counted("shadow"), before + 1);
            assert_eq!(scene.agent.counted("request_switched"), 0);
        }
        scene.finish();
    }
}
