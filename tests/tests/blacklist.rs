//! C5, C6: a blacklist takes effect at once and loses no connection; who serves a subset that has nobody left is what the service
//! says.

use std::time::Duration;

use gray_tests::{
    client::{LoadSpec, Mode},
    policy::PolicyText,
    scene::{Scene, vip},
    world::WorldSpec,
};

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn c5_c6_a_blacklist_ends_no_connection_and_failover_is_as_configured() {
    let scene = Scene::start(WorldSpec::default());
    let all = scene.world.clients[0].sources(false);
    let client = scene.world.clients[0].place();
    let policy = |each: &str| {
        PolicyText::moved(&scene.world).each(each).sources("all", ["0.0.0.0/0"]).gray_when("all").to_string()
    };
    let fresh = || {
        let spec = LoadSpec::new(vip(false, 9000), Mode::Tcp { per_connection: 1 }).count(40);
        let report = spec.sources(all.clone()).run(&client).unwrap();
        report.assert_all_ok();
        report
    };
    let _ = scene.agent.apply(&policy("")).unwrap();
    let mut open =
        LoadSpec::long_lived(vip(false, 9000), 40, 50).sources(all.clone()).start(&client).unwrap();
    let _ = open.wait_requests(80, PATIENCE).unwrap();
    assert_eq!(fresh().of_version("2.0"), 40);

    // By id, of all services, at one instant.
    let without = format!("{}blacklist: {{ ids: \"g4;g6\" }}\n", policy(""));
    let before = scene.agent.counted("failover");
    let _ = scene.agent.apply(&without).unwrap();
    assert_eq!(fresh().of_version("1.0"), 40);
    assert_eq!(scene.agent.counted("failover") - before, 40);
    let shown = scene.agent.gray_json(&["get", "instances", "echo/g4"]).unwrap();
    assert_eq!(shown[0]["state"], "blacklisted", "{shown}");
    let now = open.snapshot().unwrap();
    let _ = open.wait_requests(now.requests + 120, PATIENCE).unwrap();
    let now = open.snapshot().unwrap();
    now.assert_all_ok();
    assert_eq!((now.of_version("1.0"), now.opened), (0, 40), "what is open stays where it is");

    // Somebody else serves the subset: here the only one that is left.
    let before = scene.agent.counted("failover");
    let _ =
        scene.agent.apply(&format!("{}blacklist: {{ ids: [g4, g6] }}\n", policy("failover: any"))).unwrap();
    assert_eq!(fresh().of_version("1.0"), 40);
    assert_eq!(scene.agent.counted("failover") - before, 40);

    // Taken off the list: it serves again.
    let _ = scene.agent.apply(&policy("failover: any")).unwrap();
    assert_eq!(fresh().of_version("2.0"), 40);
    let report = open.stop().unwrap();
    report.assert_all_ok();
    assert_eq!(report.of_version("1.0"), 0);
    scene.finish();
}
