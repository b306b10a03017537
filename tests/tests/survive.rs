//! The data path outlives its agent (H2): killed, replaced, changed under load. No connection may notice.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use gray_tests::{
    bpf,
    client::{Load, LoadSpec, Mode, Report, talk::Talk},
    command::wait_for,
    pace::{many, rest_ms},
    policy::PolicyText,
    scene::{Scene, expect_split, vip},
    world::WorldSpec,
};

const ONE: Mode = Mode::Http { per_connection: 1 };
const PATIENCE: Duration = Duration::from_secs(10);

/// New connections without end from these sources, a few hundred a second.
fn new_connections(scene: &Scene, sources: &[IpAddr]) -> Load {
    let mut spec = LoadSpec::new(vip(false, 8080), ONE).sources(sources.to_vec());
    spec.pause_ms = rest_ms(5);
    spec.start(&scene.world.clients[0].place()).unwrap()
}

/// 60 connections that live until they are stopped.
fn long_lived(scene: &Scene, sources: &[IpAddr]) -> Load {
    let spec = LoadSpec::long_lived(vip(false, 9000), 60, rest_ms(50)).sources(sources.to_vec());
    let mut load = spec.start(&scene.world.clients[0].place()).unwrap();
    let _ = load.wait_requests(120, PATIENCE).unwrap();
    load
}

/// So many more answers from now on.
fn some_more(load: &mut Load, n: u64) {
    let now = load.snapshot().unwrap().requests;
    let _ = load.wait_requests(now + n, PATIENCE).unwrap();
}

/// No failure, no stall; and of long-lived ones: none had to be dialled again.
fn unharmed(report: &Report) {
    report.assert_all_ok();
    assert_eq!(report.stalls, 0, "slowest {} us", report.max_us);
}

fn lived_on(report: &Report) {
    unharmed(report);
    assert_eq!(report.opened, 60, "a connection was lost");
}

/// Sources 0..4 are gray.
fn four_are_gray(scene: &Scene) -> (Vec<IpAddr>, Vec<IpAddr>) {
    let all = scene.world.clients[0].sources(false);
    let gray = all[..4].to_vec();
    scene.apply(&PolicyText::own(&scene.world).sources("early", &gray).gray_when("early"));
    (all, gray)
}

#[test]
fn h2_killed_under_load_nothing_changes_and_the_next_agent_adopts() {
    let mut scene = Scene::packets(WorldSpec::default());
    let (all, gray) = four_are_gray(&scene);
    let mut long = long_lived(&scene, &all);
    let mut new = new_connections(&scene, &all);
    some_more(&mut new, 100);
    scene.agent.kill9().unwrap();
    some_more(&mut new, 300);
    some_more(&mut long, 120);
    // Dead, and steering still.
    scene.expect_gray(false, &gray);
    scene.agent.restart().unwrap();
    some_more(&mut new, 100);
    some_more(&mut long, 120);
    let new = new.stop().unwrap();
    unharmed(&new);
    expect_split(&new, &all, &gray);
    // Adopted: edits work, and the open connections stay where they are.
    let _ = scene.agent.gray_ok(&["cohort", "add", "early", &all[9].to_string()]).unwrap();
    scene.expect_gray(false, &[&gray[..], &all[9..10]].concat());
    let long = long.stop().unwrap();
    lived_on(&long);
    expect_split(&long, &all, &gray);
    scene.finish();
}

#[test]
fn h2_programs_are_replaced_under_load() {
    let mut scene = Scene::packets(WorldSpec::default());
    let (all, gray) = four_are_gray(&scene);
    let before = scene.agent.binary().to_owned();
    let mut long = long_lived(&scene, &all);
    let mut new = new_connections(&scene, &all);
    for round in 0..3 {
        let other = scene.world.temp().join(format!("gray-{round}"));
        let _ = std::fs::copy(&before, &other).unwrap();
        some_more(&mut new, 50);
        scene.agent.use_binary(&other);
        scene.agent.restart().unwrap();
        some_more(&mut new, 50);
    }
    let new = new.stop().unwrap();
    unharmed(&new);
    expect_split(&new, &all, &gray);
    some_more(&mut long, 120);
    lived_on(&long.stop().unwrap());
    scene.finish();
}

/// Programs with the request path come with the first policy that reads requests, and stay.
#[test]
fn a1_h2_the_first_policy_that_reads_requests_moves_nobody() {
    let mut scene = Scene::packets(WorldSpec::default());
    let (all, gray) = four_are_gray(&scene);
    let ids = |s: &Scene| bpf::on_interface(&s.world.edge, "c0", bpf::TCX_INGRESS).unwrap();
    let plain = ids(&scene);
    let mut long = long_lived(&scene, &all);
    let mut new = new_connections(&scene, &all);
    some_more(&mut new, 50);
    let text = PolicyText::own(&scene.world).claims("app: { header: X-App-Id }").identify("app, source");
    scene.apply(
        &text.sources("early", &gray).cohort("apps", "apps: [app7]").gray_when("{ any: [early, apps] }"),
    );
    assert_ne!(ids(&scene), plain, "other programs");
    some_more(&mut new, 50);
    some_more(&mut long, 120);
    let ask = |s: &Scene| {
        let mut talk = Talk::connect(&s.world.clients[0].ns, vip(false, 8080)).unwrap();
        talk.get("app7", "n").unwrap().version()
    };
    assert_eq!(ask(&scene), "2.0");
    // Who names no app is known by its source, as before.
    let new = new.stop().unwrap();
    unharmed(&new);
    expect_split(&new, &all, &gray);
    scene.agent.kill9().unwrap();
    scene.agent.restart().unwrap();
    assert_eq!(ask(&scene), "2.0");
    some_more(&mut long, 120);
    let long = long.stop().unwrap();
    lived_on(&long);
    expect_split(&long, &all, &gray);
    // Connections may live by what was read: a policy that reads nothing leaves the programs.
    let reading = ids(&scene);
    let _ = four_are_gray(&scene);
    assert_eq!(ids(&scene), reading);
    scene.finish();
}

/// Two policies that agree on who is gray always (1..3) and never (3..), and differ in how they say it; source 0 is
/// gray in the second only.
fn flip_side(scene: &Scene, all: &[IpAddr], second: bool) -> PolicyText {
    let base = PolicyText::own(&scene.world);
    match second {
        false => base.sources("a", &all[1..3]).sources("b", &all[3..5]).gray_when("{ all: [a, { not: b }] }"),
        true => base.sources("b", &all[0..3]).sources("c", &all[3..5]).gray_when("{ any: [b] }"),
    }
}

#[test]
fn d1_two_hundred_flips_under_load_show_the_old_or_the_new_policy_only() {
    let scene = Scene::packets(WorldSpec::default());
    let all = scene.world.clients[0].sources(false)[..5].to_vec();
    scene.apply(&flip_side(&scene, &all, false));
    let mut kept = LoadSpec::new(vip(false, 8080), Mode::Http { per_connection: 0 }).sources(all.clone());
    (kept.workers, kept.pause_ms, kept.record) = (10, 20, true);
    let mut kept = kept.start(&scene.world.clients[0].place()).unwrap();
    let _ = kept.wait_requests(20, PATIENCE).unwrap();
    let mut new = new_connections(&scene, &all);
    for i in 0..many("flips", 200, 30) {
        scene.apply(&flip_side(&scene, &all, i % 2 == 0));
    }
    some_more(&mut new, 20);
    let new = new.stop().unwrap();
    new.assert_all_ok();
    expect_split(&new, &all[1..], &all[1..3]);
    assert_eq!(new.versions_of(all[0]).len(), 2, "the flips were seen");
    let kept = kept.stop().unwrap();
    kept.assert_all_ok();
    let mut servers: BTreeMap<(String, u64), BTreeSet<String>> = BTreeMap::new();
    for s in kept.samples {
        let _ = servers.entry((s.source, s.opened_ns)).or_default().insert(s.result.unwrap());
    }
    assert_eq!((kept.opened, servers.len()), (10, 10));
    assert!(servers.values().all(|s| s.len() == 1), "an open connection keeps its server: {servers:?}");
    scene.finish();
}

#[test]
fn h2_an_interface_that_comes_back_is_attached_within_a_second() {
    let scene = Scene::packets(WorldSpec::default());
    let (all, gray) = four_are_gray(&scene);
    let w = &scene.world;
    for pair in [&w.clients[0].link, &w.backends[1].link] {
        scene.expect_gray(false, &gray);
        pair.delete().unwrap();
        let state = |want: &str, ifindex: Option<u32>| {
            let status = scene.agent.gray_json(&["status"]).unwrap();
            let found = status["attachments"].as_array().unwrap().iter().any(|a| {
                a["iface"] == pair.near.ifname.as_str()
                    && a["state"] == want
                    && a["ifindex"].as_u64() == ifindex.map(u64::from)
            });
            Ok(found)
        };
        wait_for("the agent to see it gone", Duration::from_secs(1), || state("waiting", None)).unwrap();
        pair.create_again().unwrap();
        let ifindex = pair.near_info().unwrap().ifindex;
        let seen = || state("attached", Some(ifindex));
        wait_for("the interface to be attached", Duration::from_secs(1), seen).unwrap();
    }
    scene.expect_gray(false, &gray);
    let report = scene.load(false, 9001, Mode::Udp { connected: false, per_socket: 1 }, 1);
    expect_split(&report, &all, &gray);
    scene.finish();
}
