//! Nodes that run for long (H1): every table has been full for a while, most of what is in it has ended, and clients use their ports
//! again. `GRAY_ROUNDS=N`: so many tables full of connections.

use gray_tests::{
    WorldSpec,
    agent::{Agent, AgentSpec},
    client::{LoadSpec, Mode, Report},
    netstat, pace,
    policy::PolicyText,
    scene::{Scene, servers, vip},
    world::World,
};

/// Entries of each flow table; connections that are translated are half as many.
const FLOWS: u64 = 32_768;
/// Requests a second, of each of two.
const RATE: f64 = 1500.0;
const ONE: Mode = Mode::Http { per_connection: 1 };

fn stage(policy: impl FnOnce(&World) -> PolicyText) -> Scene {
    let world = World::build(WorldSpec { sources4: 200, ..WorldSpec::default() }).unwrap();
    let (stable, gray) = servers(&world);
    let mut spec = AgentSpec::packets(&world);
    spec.args.extend(["--flows".to_owned(), FLOWS.to_string()]);
    let agent = Agent::start_with(&world, spec).unwrap();
    let scene = Scene { agent, stable, gray, world };
    scene.apply(&policy(&scene.world));
    scene
}

/// So many connections, half of them with each of two headers; what their requests were answered.
fn soak(scene: &Scene, mode: Mode, apps: [&str; 2]) -> [Report; 2] {
    let per = match mode {
        Mode::Http { per_connection: n } => u64::from(n),
        _ => 1,
    };
    let tables = pace::asked("GRAY_ROUNDS", "tables full of connections", 2, 1) as u64;
    let client = &scene.world.clients[0];
    let loads = apps.map(|app| {
        let mut spec = LoadSpec::new(vip(false, 8080), mode).count(per * tables * FLOWS / 4).workers(8);
        // More would be a flood.
        spec = spec.rate(RATE);
        spec.headers.push(("X-App-Id".into(), app.into()));
        spec.sources(client.sources(false)).start(&client.place()).unwrap()
    });
    let reports = loads.map(|l| l.wait().unwrap());
    for r in &reports {
        r.assert_all_ok();
    }
    // A SYN or its answer that is lost comes again after a second, and nothing fails of it.
    let again = netstat::counter(&client.ns, "TcpExt TCPSynRetrans").unwrap();
    assert!(again < 8, "{again} connections were answered at the second attempt");
    assert_eq!(scene.agent.counted("flood"), 0, "what is apart fills no table");
    reports
}

#[test]
fn h1_packets_over_tables_that_have_been_full_for_long() {
    let scene = stage(|w| {
        let early = w.clients[0].sources(false);
        PolicyText::moved(w).sources("early", early.iter().step_by(2)).gray_when("early")
    });
    let sources = scene.world.clients[0].sources(false);
    for report in soak(&scene, ONE, ["a", "b"]) {
        for (i, source) in sources.iter().enumerate() {
            let want = if i % 2 == 0 { "2.0" } else { "1.0" };
            assert_eq!(report.versions_of(*source), [want], "{source}");
        }
    }
    scene.finish();
}

#[test]
fn h1_requests_over_tables_that_have_been_full_for_long() {
    let scene = stage(|w| {
        let text = PolicyText::moved(w).claims("app: { header: X-App-Id }").identify("app, source");
        text.cohort("early", "apps: [app7]").gray_when("early")
    });
    let [gray, stable] = soak(&scene, ONE, ["app7", "app8"]);
    assert_eq!((gray.of_version("2.0"), stable.of_version("1.0")), (gray.ok, stable.ok));
    scene.finish();
}

#[test]
fn h1_each_request_over_tables_that_have_been_full_for_long() {
    let scene = stage(|w| {
        let text =
            PolicyText::moved(w).claims("app: { header: X-App-Id }").identify("app, source").per_request();
        text.cohort("early", "apps: [app7]").gray_when("early")
    });
    let [gray, stable] = soak(&scene, Mode::Http { per_connection: 2 }, ["app7", "app8"]);
    assert_eq!((gray.of_version("2.0"), stable.of_version("1.0")), (gray.ok, stable.ok));
    scene.finish();
}
