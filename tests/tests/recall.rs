//! F8: a recall and those who call from the node itself.

use std::time::Duration;

use gray_tests::{
    client::{LoadSpec, Mode},
    command::wait_for,
    policy::PolicyText,
    scene::{Scene, vip},
    world::WorldSpec,
};

const PATIENCE: Duration = Duration::from_secs(60);
const ECHO: &str = "release: echo
version: 2.0.0-gray.1
services: { echo: { gray: { version: '2.0' } }, dns: { gray: { version: '2.0' } } }
stages: [{ cohort: beta, samples: 0, approval: true, unmeasured: allow }, { percent: 100, unmeasured: allow }]
";

/// Sockets of the connect path that the release has sent to gray are closed, and dial stable; whoever is there by another route stays, and
/// so does who was never gray. Sockets of UDP that are connected to nobody are not touched.
#[test]
fn f8_a_recall_closes_calls_that_the_release_has_sent_to_gray_and_no_others() {
    let scene = Scene::start(WorldSpec::default());
    let edge = scene.world.edge_addresses();
    let (mine, beta) = (edge[0], edge[1]);
    let policy = PolicyText::moved(&scene.world).sources("mine", [mine]).sources("beta", [beta]);
    scene.apply(&policy.route("name: own, service: echo, when: mine, to: { version: \"2.0\" }"));
    let file = scene.world.temp().join("echo.yaml");
    std::fs::write(&file, ECHO).unwrap();
    let release = |args: &[&str]| scene.agent.gray_json(&[&["release"], args].concat()).unwrap();
    let _ = release(&["start", "-f", &file.to_string_lossy()]);
    wait_for("the first stage", PATIENCE, || Ok(release(&["status", "echo"])["state"] == "ramp 1")).unwrap();
    let caller = scene.world.caller();
    let calls = |sources| {
        let spec = LoadSpec::long_lived(vip(false, 9000), 5, 20).sources(sources);
        let mut load = spec.start(&caller).unwrap();
        let _ = load.wait_requests(20, PATIENCE).unwrap();
        load
    };
    let mut udp = LoadSpec::new(vip(false, 9001), Mode::Udp { connected: false, per_socket: 0 });
    (udp.sources, udp.workers, udp.pause_ms) = (vec![beta], 2, 50);
    let mut udp = udp.start(&caller).unwrap();
    let _ = udp.wait_requests(20, PATIENCE).unwrap();
    assert!(udp.snapshot().unwrap().of_version("2.0") > 0, "UDP of the release is on gray");
    let (mine, mut gray, stable) = (calls(vec![mine]), calls(vec![beta]), calls(Vec::new()));
    assert_eq!(gray.snapshot().unwrap().of_version("1.0"), 0, "the release has them on gray");
    let told = scene.agent.gray_json(&["recall", "--release", "echo", "--mode", "reset"]).unwrap();
    assert_eq!(told[0]["state"], "abnormal", "{told:#}");
    let at = gray.snapshot().unwrap();
    let report = gray.wait_requests(at.requests + 50, PATIENCE).unwrap();
    assert!(report.of_version("1.0") > 0, "they dialled again: stable");
    assert_eq!(gray.stop().unwrap().failed(), 5, "each was closed once");
    let at = udp.snapshot().unwrap().requests;
    let _ = udp.wait_requests(at + 20, PATIENCE).unwrap();
    udp.stop().unwrap().assert_all_ok();
    let (mine, stable) = (mine.stop().unwrap(), stable.stop().unwrap());
    mine.assert_all_ok();
    stable.assert_all_ok();
    assert_eq!((mine.of_version("1.0"), stable.of_version("2.0")), (0, 0));
    let history = scene.agent.gray_ok(&["release", "history", "echo"]).unwrap();
    assert!(history.contains("5 closed"), "{history}");
    let _ = release(&["close", "echo"]);
    scene.finish();
}
