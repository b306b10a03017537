//! `listen` on stable's own address: traffic flows when nothing of ours is attached, before the agent, after the uninstall
//! and after a reboot, and whose client is stable's notices neither.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use gray_tests::{
    WorldSpec,
    agent::Agent,
    client::{LoadSpec, Mode},
    policy::PolicyText,
    residue,
    scene::{MODES, Scene, expect_split, servers, vip},
    skip,
    world::World,
};

use super::{lived_on, long_lived, new_connections, some_more};

/// Every protocol and family, all clients: stable answers.
fn nobody_is_steered(w: &World) {
    let place = w.clients[0].place();
    for v6 in [false, true] {
        let all = w.clients[0].sources(v6);
        for (port, mode) in MODES {
            let n = 2 * all.len() as u64;
            let report =
                LoadSpec::new(vip(v6, port), mode).count(n).sources(all.clone()).run(&place).unwrap();
            report.assert_all_ok();
            assert_eq!(report.of_version("1.0"), report.ok, "{mode:?} {:?}", report.by_server);
        }
    }
}

#[test]
fn h2_from_before_the_agent_until_after_the_uninstall_stable_serves() {
    let world = World::build(WorldSpec::default()).unwrap();
    let (stable, gray) = servers(&world);
    nobody_is_steered(&world);
    let all = world.clients[0].sources(false);
    let (early, plain) = all.split_at(4);
    let place = world.clients[0].place();
    let mut long = long_lived(&place, vip(false, 9000), plain);
    let mut udp = LoadSpec::new(vip(false, 9001), Mode::Udp { connected: true, per_socket: 0 });
    (udp.workers, udp.pause_ms, udp.sources) = (8, 20, plain.to_vec());
    let mut udp = udp.start(&place).unwrap();
    let mut new = new_connections(&place, plain);
    let agent = Agent::start(&world).unwrap();
    let scene = Scene { agent, stable, gray, world };
    // Attached, and no policy.
    nobody_is_steered(&scene.world);
    scene.apply(&PolicyText::own(&scene.world).sources("early", early).gray_when("early"));
    scene.expect_gray(false, early);
    let mut steered = new_connections(&place, early);
    [&mut long, &mut new, &mut udp, &mut steered].into_iter().for_each(|load| some_more(load, 50));
    let report = steered.stop().unwrap();
    report.assert_all_ok();
    assert_eq!(report.of_version("2.0"), report.ok);
    let Scene { agent, stable: _stable, gray: _gray, world } = scene;
    residue::assert_none(&world, agent);
    [&mut long, &mut new, &mut udp].into_iter().for_each(|load| some_more(load, 50));
    nobody_is_steered(&world);
    for (report, opened) in [(new.stop().unwrap(), 0), (udp.stop().unwrap(), 8)] {
        report.assert_all_ok();
        assert_eq!(report.of_version("1.0"), report.ok);
        assert!(opened == 0 || report.opened == opened);
    }
    lived_on(&long.stop().unwrap());
}

/// Links and maps are gone with their pins, as they are after a reboot. (Filters of clsact stay.)
fn unpin(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            unpin(&path);
            fs::remove_dir(&path).unwrap();
        } else {
            fs::remove_file(&path).unwrap();
        }
    }
}

#[test]
fn h2_after_a_reboot_stable_serves_until_the_agent_starts_and_then_the_policy_is_in_force() {
    if skip::without_tcx() {
        return;
    }
    let mut scene = Scene::start(WorldSpec::default());
    let (all, gray): (Vec<IpAddr>, Vec<IpAddr>) = super::four_are_gray(&scene);
    scene.expect_gray(false, &gray);
    scene.agent.kill9().unwrap();
    unpin(scene.agent.bpffs());
    nobody_is_steered(&scene.world);
    let mut new = new_connections(&scene.world.clients[0].place(), &all);
    some_more(&mut new, 50);
    scene.agent.restart().unwrap();
    scene.expect_gray(false, &gray);
    some_more(&mut new, 50);
    let report = new.stop().unwrap();
    report.assert_all_ok();
    expect_split(&report, &all[4..], &[]);
    scene.finish();
}
