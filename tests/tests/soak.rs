//! Nodes that run for long (H1): every table has been full for a while, most of what is in it has ended, and clients use their ports
//! again. `GRAY_ROUNDS=N`: so many tables full of connections.

use std::time::Duration;

use gray_tests::{
    WorldSpec,
    agent::{Agent, AgentSpec},
    client::{LoadSpec, Mode, Report},
    command::wait_for,
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

/// Of a table that is filled with connections that have ended, and of those that stay open meanwhile.
const FEW_FLOWS: u64 = 4096;
const IDLE: usize = 4;

fn stage(policy: impl FnOnce(&World) -> PolicyText) -> Scene {
    stage_of(FLOWS, policy)
}

fn stage_of(flows: u64, policy: impl FnOnce(&World) -> PolicyText) -> Scene {
    let world = World::build(WorldSpec { sources4: 200, ..WorldSpec::default() }).unwrap();
    let (stable, gray) = servers(&world);
    let mut spec = AgentSpec::packets(&world);
    spec.args.extend(["--flows".to_owned(), flows.to_string()]);
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

/// Who is idle keeps its place while others come and go: what has ended leaves, and is not waited for until it is the oldest.
#[test]
fn h1_an_idle_connection_outlives_more_that_have_ended_than_there_is_room_for() {
    let scene = stage_of(FEW_FLOWS, |w| {
        let text = PolicyText::moved(w).claims("app: { header: X-App-Id }").identify("app, source");
        text.cohort("early", "apps: [app7]").gray_when("early")
    });
    let client = &scene.world.clients[0];
    let spec = |mode, app: &str, count| {
        let mut spec = LoadSpec::new(vip(false, 8080), mode).count(count).sources(client.sources(false));
        spec.headers.push(("X-App-Id".into(), app.into()));
        spec
    };
    let mut twice = spec(Mode::Http { per_connection: 2 }, "app7", 2 * IDLE as u64).workers(IDLE);
    // For as long as the others take.
    twice.pause_ms = 24_000;
    let mut idle = twice.start(&client.place()).unwrap();
    let _ = idle.wait_requests(IDLE as u64, Duration::from_secs(5)).unwrap();
    // In fifteen seconds, after which the first of them have left, not as many as there is room for; in all more.
    let others = spec(ONE, "app8", FEW_FLOWS / 2 + 300).rate(100.0).run(&client.place()).unwrap();
    others.assert_all_ok();
    let entries = || scene.agent.gray_json(&["status"]).unwrap()["flows"]["v4"].as_u64().unwrap();
    wait_for("what has ended to leave", Duration::from_secs(30), || Ok(entries() < FEW_FLOWS / 8)).unwrap();
    let _ = idle.wait_requests(2 * IDLE as u64, Duration::from_secs(30)).unwrap();
    let report = idle.snapshot().unwrap();
    report.assert_all_ok();
    assert_eq!((report.opened, report.of_version("2.0")), (IDLE as u64, report.ok));
    scene.finish();
}
