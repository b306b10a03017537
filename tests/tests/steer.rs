//! The packet path with a real agent: who reaches which version, by every protocol and in both families.

use std::net::IpAddr;

use gray_tests::{
    client::Mode,
    policy::PolicyText,
    scene::{MODES, Scene, expect_split},
    world::WorldSpec,
};

const ONE: Mode = Mode::Http { per_connection: 1 };

/// Every protocol, v4 and v6: exactly `gray` reaches 2.0, and servers see the clients' own addresses.
fn all_protocols(scene: &Scene, gray: &[IpAddr]) {
    for v6 in [false, true] {
        let all = scene.world.clients[0].sources(v6);
        for (port, mode) in MODES {
            let report = scene.load(v6, port, mode, 2);
            expect_split(&report, &all, gray);
            assert_eq!(report.peer_kept, report.ok, "{mode:?}: dnat keeps the client's address");
        }
    }
}

fn first_by_address_and_prefix(scene: &Scene, base: PolicyText) {
    let c = &scene.world.clients[0];
    // 198.18.10.4/30 is four of the client's addresses, ::4/127 is two.
    let (v4, v6) = (c.sources(false), c.sources(true));
    let policy =
        base.sources("early", ["198.18.10.2", "198.18.10.4/30", "fd00:18:10::2", "fd00:18:10::4/127"]);
    scene.apply(&policy.gray_when("early"));
    let mut gray = vec![v4[0], v6[0], v6[2], v6[3]];
    gray.extend(&v4[2..6]);
    all_protocols(scene, &gray);
}

#[test]
fn h1_h3_a5_listen_on_stables_own_address() {
    let scene = Scene::packets(WorldSpec::default());
    first_by_address_and_prefix(&scene, PolicyText::own(&scene.world));
    scene.finish();
}

#[test]
fn h1_h3_a5_listen_on_an_address_that_nobody_has() {
    let scene = Scene::packets(WorldSpec { vips: vec![None], ..WorldSpec::default() });
    first_by_address_and_prefix(&scene, PolicyText::moved(&scene.world));
    scene.finish();
}

#[test]
fn h1_h3_a5_listen_on_another_address_of_stables_host() {
    let scene = Scene::packets(WorldSpec::default());
    first_by_address_and_prefix(&scene, PolicyText::moved(&scene.world));
    scene.finish();
}

#[test]
fn b1_d1_a_live_edit_counts_for_the_next_connection_and_moves_no_open_one() {
    let scene = Scene::packets(WorldSpec::default());
    let all = scene.world.clients[0].sources(false);
    scene.apply(&PolicyText::own(&scene.world).cohort("early", "sources: []").gray_when("early"));
    scene.expect_gray(false, &[]);
    let kept = gray_tests::client::LoadSpec::new(
        gray_tests::scene::vip(false, 8080),
        Mode::Http { per_connection: 0 },
    );
    let mut kept = kept.workers(2).sources(vec![all[3]]).start(&scene.world.clients[0].place()).unwrap();
    let patience = std::time::Duration::from_secs(5);
    let _ = kept.wait_requests(10, patience).unwrap();
    let (three, five) = (all[3].to_string(), all[5].to_string());
    for _ in 0..3 {
        let _ = scene.agent.gray_ok(&["cohort", "add", "early", &three, &five]).unwrap();
        scene.expect_gray(false, &[all[3], all[5]]);
        let _ = scene.agent.gray_ok(&["cohort", "remove", "early", &three]).unwrap();
        scene.expect_gray(false, &[all[5]]);
        let _ = scene.agent.gray_ok(&["cohort", "remove", "early", &five]).unwrap();
        scene.expect_gray(false, &[]);
    }
    let _ = scene.agent.gray_ok(&["cohort", "add", "early", &three]).unwrap();
    let so_far = kept.snapshot().unwrap().requests;
    let _ = kept.wait_requests(so_far + 50, patience).unwrap();
    let kept = kept.stop().unwrap();
    kept.assert_all_ok();
    assert_eq!((kept.opened, kept.of_version("1.0")), (2, kept.ok), "open connections stay where they are");
    scene.finish();
}

/// The sources that `gray explain` says are gray; the arm of each answer agrees with its instance.
fn explained(scene: &Scene, service: &str, all: &[IpAddr]) -> Vec<IpAddr> {
    let ask = |source: &IpAddr| {
        let src = source.to_string();
        let reply = scene.agent.gray_json(&["explain", "--service", service, "--src", &src]).unwrap();
        reply["arm"] == "gray"
    };
    all.iter().copied().filter(ask).collect()
}

#[test]
fn b2_c15_a13_percentages_are_what_explain_says_and_only_grow() {
    let scene = Scene::packets(WorldSpec { sources4: 200, ..WorldSpec::default() });
    let all = scene.world.clients[0].sources(false);
    let apply = |percent: u32| {
        let base = PolicyText::own(&scene.world);
        scene.apply(&base.cohort("part", &format!("percent: {percent}")).gray_when("part"));
    };
    apply(0);
    scene.expect_gray(false, &[]);
    apply(30);
    let thirty = explained(&scene, "web", &all);
    // 200 draws of 0.3: 60, deviation 6.5.
    assert!((20..=100).contains(&thirty.len()), "{}", thirty.len());
    scene.expect_gray(false, &thirty);
    // The same identity gets the same answer on every service and protocol.
    for (port, mode) in MODES {
        expect_split(&scene.load(false, port, mode, 1), &all, &thirty);
    }
    apply(60);
    let report = scene.load(false, 8080, ONE, 1);
    let sixty: Vec<IpAddr> = all.iter().copied().filter(|s| report.versions_of(*s) == ["2.0"]).collect();
    assert!(
        sixty.len() > thirty.len() && thirty.iter().all(|s| sixty.contains(s)),
        "growth moves nobody out"
    );
    apply(100);
    scene.expect_gray(false, &all);
    scene.finish();
}

#[test]
fn c3_weights_by_source_are_sticky_and_only_grow() {
    let scene = Scene::packets(WorldSpec { sources4: 200, ..WorldSpec::default() });
    let all = scene.world.clients[0].sources(false);
    let measure = |gray: u32| {
        scene.apply(&PolicyText::own(&scene.world).weights(gray));
        let report = scene.load(false, 8080, ONE, 3);
        let gray: Vec<IpAddr> = all.iter().copied().filter(|s| report.versions_of(*s) == ["2.0"]).collect();
        // One version each, and the other one for the rest.
        expect_split(&report, &all, &gray);
        gray
    };
    let half = measure(50);
    // 200 draws of 0.5: 100, deviation 7.
    assert!((55..=145).contains(&half.len()), "{}", half.len());
    assert_eq!(
        explained(&scene, "web", &all[..40]),
        all[..40].iter().copied().filter(|s| half.contains(s)).collect::<Vec<_>>()
    );
    let most = measure(80);
    assert!(most.len() > half.len() && half.iter().all(|s| most.contains(s)), "growth moves nobody out");
    assert!(measure(0).is_empty(), "weight 0 is nobody");
    scene.finish();
}
