//! C12: a drain with a deadline. What is open lives to it and is closed then, on both paths; UDP is left as it is.

use std::net::IpAddr;

use std::time::Duration;

use gray_tests::{
    client::{Load, LoadSpec, Mode},
    command::wait_for,
    pace::patience,
    place::Place,
    policy::PolicyText,
    scene::{Scene, vip},
    world::WorldSpec,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// Connections that live until they are closed.
fn long_lived(scene: &Scene, place: &Place, n: usize, sources: &[IpAddr]) -> Load {
    let spec = LoadSpec::long_lived(vip(false, 9000), n, 50).sources(sources.to_vec());
    let mut load = spec.start(place).unwrap();
    let _ = load.wait_requests(2 * n as u64, PATIENCE).unwrap();
    assert!(scene.agent.pid().is_some());
    load
}

fn some_more(load: &mut Load, n: u64) {
    let now = load.snapshot().unwrap().requests;
    let _ = load.wait_requests(now + n, PATIENCE).unwrap();
}

/// TCP flows to gray's instance of `echo`.
fn open_to_gray(scene: &Scene) -> usize {
    let flows = scene.agent.gray_json(&["flows", "--service", "echo"]).unwrap();
    let all = flows["flows"].as_array().unwrap();
    all.iter().filter(|f| f["instance"] == "g4" && f["state"] == "established").count()
}

#[test]
fn c12_what_is_open_lives_to_the_deadline_and_is_closed_then() {
    let mut scene = Scene::start(WorldSpec::default());
    let all = scene.world.clients[0].sources(false);
    scene.apply(&PolicyText::own(&scene.world).sources("all", ["0.0.0.0/0"]).gray_when("all").weights(100));
    let client = scene.world.clients[0].place();
    let mut forwarded = long_lived(&scene, &client, 40, &all);
    let mut local = long_lived(&scene, &scene.world.caller(), 10, &[]);
    let mut udp = LoadSpec::new(vip(false, 9001), Mode::Udp { connected: false, per_socket: 0 });
    (udp.sources, udp.workers, udp.pause_ms) = (all.clone(), 4, 50);
    let mut udp = udp.start(&client).unwrap();
    some_more(&mut udp, 20);
    assert_eq!(open_to_gray(&scene), 40);
    assert_eq!(local.snapshot().unwrap().of_version("1.0"), 0, "the callers are on gray");

    let deadline = format!("{}s", patience(Duration::from_secs(12)).as_secs());
    let said = scene.agent.gray_ok(&["instance", "drain", "echo/g4", "--deadline", &deadline]).unwrap();
    assert!(said.contains("established ones live to 20"), "{said}");
    let _ = scene.agent.gray_ok(&["instance", "drain", "dns/g4", "--deadline", &deadline]).unwrap();
    let shown = scene.agent.gray_json(&["get", "instances", "echo/g4"]).unwrap();
    assert!(shown[0]["deadline"].is_string() && shown[0]["state"] == "draining", "{shown}");
    // Another agent meets it: the first one is killed.
    scene.agent.kill9().unwrap();
    scene.agent.restart().unwrap();
    some_more(&mut forwarded, 40);
    some_more(&mut local, 10);
    for load in [&mut forwarded, &mut local] {
        let now = load.snapshot().unwrap();
        now.assert_all_ok();
        assert_eq!(now.of_version("1.0"), 0, "nobody moved before the deadline");
    }

    wait_for("the connections to be closed", PATIENCE, || {
        let closed = |load: &mut Load, n: u64| anyhow::Ok(load.snapshot()?.failed() >= n);
        Ok(closed(&mut forwarded, 40)? && closed(&mut local, 10)?)
    })
    .unwrap();
    some_more(&mut forwarded, 80);
    some_more(&mut local, 20);
    assert_eq!(open_to_gray(&scene), 0);
    let forwarded = forwarded.stop().unwrap();
    assert_eq!((forwarded.failed(), forwarded.opened), (40, 80), "each was closed once and dialled again");
    let local = local.stop().unwrap();
    assert_eq!((local.failed(), local.opened), (10, 20), "callers of this node, too");
    assert!(local.of_version("1.0") > 0 && forwarded.of_version("1.0") > 0, "stable serves them now");
    let shown = scene.agent.gray_json(&["get", "instances", "echo/g4"]).unwrap();
    assert!(shown[0]["deadline"].is_null(), "it was met: {shown}");
    some_more(&mut udp, 40);
    let udp = udp.stop().unwrap();
    udp.assert_all_ok();
    assert_eq!(udp.of_version("1.0"), 0, "UDP stays where it was");
    let _ = scene.agent.gray_ok(&["instance", "restore", "echo/g4"]).unwrap();
    let report =
        LoadSpec::new(vip(false, 9000), Mode::Tcp { per_connection: 1 }).count(50).sources(all).run(&client);
    assert_eq!(report.unwrap().of_version("2.0"), 50, "it serves again");
    scene.finish();
}
