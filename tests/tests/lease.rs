//! F14: what becomes of new connections when no agent is able to act. Agents are killed, stopped and held up.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use gray_tests::{
    agent::Agent,
    client::{LoadSpec, Mode, Report, talk::Talk},
    command::wait_for,
    pace,
    place::Place,
    policy::PolicyText,
    scene::{Scene, expect_split, vip},
    world::WorldSpec,
};

const LEASE: Duration = Duration::from_secs(5);
/// It is renewed each second.
const RENEWED: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(30);
const HTTP: Mode = Mode::Http { per_connection: 1 };

/// Everybody is gray; `web` and `dns` want stable when the agent is lost, `echo` keeps.
fn policy(scene: &Scene) -> String {
    let text = PolicyText::moved(&scene.world).route("to: { version: \"2.0\" }").to_string();
    ["  web:\n", "  dns:\n"].iter().fold(text, |text, name| {
        text.replacen(name, &format!("{name}    on-agent-lost: stable\n    agent-lease: 5s\n"), 1)
    })
}

fn ask(place: &Place, port: u16, mode: Mode, count: u64) -> Report {
    let report = LoadSpec::new(vip(false, port), mode).count(count).run(place).unwrap();
    report.assert_all_ok();
    report
}

fn version(place: &Place) -> String {
    let report = ask(place, 8080, HTTP, 1);
    if report.of_version("2.0") == 1 { "2.0".into() } else { "1.0".into() }
}

/// Waits for the lease's end; it must not come before its time, counted from `since`.
fn wait_lost(place: &Place, since: Instant) {
    wait_for("the lease's end", PATIENCE, || Ok(version(place) == "1.0")).unwrap();
    let after = since.elapsed();
    assert!(after + RENEWED * 2 * pace::factor() >= LEASE, "{after:?}");
}

fn lost(agent: &Agent, service: &str) -> Option<u64> {
    let status = agent.gray_json(&["status"]).unwrap();
    let all = status["services"].as_array().unwrap();
    all.iter().find(|s| s["service"] == service).unwrap()["agent_lost"].as_u64()
}

fn signal(agent: &Agent, what: &str) {
    let done = Command::new("kill").args([what, &agent.pid().unwrap().to_string()]).status().unwrap();
    assert!(done.success());
}

/// Killed: new connections and datagrams of services that want it go to stable, on both paths, until there is an agent again;
/// established ones stay, and so do those of other services.
#[test]
fn f14_a_killed_agent_loses_gray_its_new_connections() {
    let mut scene = Scene::start(WorldSpec::default());
    let text = policy(&scene);
    let _ = scene.agent.apply(&text).unwrap();
    let (client, caller) = (scene.world.clients[0].place(), scene.world.caller());
    assert_eq!([version(&client), version(&caller)], ["2.0", "2.0"]);
    assert_eq!([lost(&scene.agent, "web"), lost(&scene.agent, "echo")], [Some(0), None]);
    let mut open = Talk::connect(&scene.world.clients[0].ns, vip(false, 8080)).unwrap();
    assert_eq!(open.get("a", "n1").unwrap().version(), "2.0");

    scene.agent.kill9().unwrap();
    let killed = Instant::now();
    assert_eq!(version(&client), "2.0", "the lease runs on");
    wait_lost(&client, killed);
    let udp = Mode::Udp { connected: false, per_socket: 1 };
    for place in [&client, &caller] {
        assert_eq!(ask(place, 8080, HTTP, 20).of_version("1.0"), 20);
        assert_eq!(ask(place, 9001, udp, 20).of_version("1.0"), 20);
        let tcp = Mode::Tcp { per_connection: 1 };
        assert_eq!(ask(place, 9000, tcp, 20).of_version("2.0"), 20, "echo keeps");
    }
    assert_eq!(open.get("a", "n2").unwrap().version(), "2.0", "established");

    scene.agent.restart().unwrap();
    assert_eq!([version(&client), version(&caller)], ["2.0", "2.0"]);
    assert_eq!(open.get("a", "n3").unwrap().version(), "2.0");
    assert!(lost(&scene.agent, "web").unwrap() >= 41, "{:?}", lost(&scene.agent, "web"));
    assert_eq!(lost(&scene.agent, "dns"), Some(40));
    let log = std::fs::read_to_string(scene.agent.log()).unwrap();
    assert!(log.contains("no agent was able to act for longer than the service allows"), "{log}");
    let status = scene.agent.gray_ok(&["status"]).unwrap();
    assert!(status.contains("AGENT LOST") && status.contains("agent_lost"), "{status}");
    let metrics = scene.agent.metrics().unwrap();
    assert!(metrics.contains("gray_agent_lost_total{service=\"dns\"} 40"), "{metrics}");
    scene.finish();
}

/// An agent that lives and is not able to act is as good as gone; and one that was stopped in all form. What it missed is said by
/// itself, or by the next one.
#[test]
fn f14_an_agent_that_hangs_or_was_stopped_is_as_good_as_gone() {
    let mut scene = Scene::packets(WorldSpec::default());
    let all = scene.world.clients[0].sources(false);
    let text = PolicyText::own(&scene.world).sources("early", &all[..2]).gray_when("early");
    scene.apply(&text.each("on-agent-lost: stable").each("agent-lease: 5s"));
    let client = scene.world.clients[0].place();
    let split = |gray: usize| {
        let spec = LoadSpec::new(vip(false, 8080), HTTP).count(all.len() as u64);
        let report = spec.sources(all.clone()).run(&client).unwrap();
        report.assert_all_ok();
        let found = report.of_version("2.0");
        if found == gray as u64 {
            expect_split(&report, &all, &all[..gray]);
        }
        found
    };
    assert_eq!(split(2), 2);
    for stop in [false, true] {
        if stop {
            scene.agent.stop().unwrap();
        } else {
            signal(&scene.agent, "-STOP");
        }
        let since = Instant::now();
        assert_eq!(split(2), 2, "the lease runs on");
        wait_for("the lease's end", PATIENCE, || Ok(split(0) == 0)).unwrap();
        assert!(since.elapsed() + RENEWED * 2 * pace::factor() >= LEASE);
        if stop {
            scene.agent.restart().unwrap();
        } else {
            signal(&scene.agent, "-CONT");
            wait_for("the lease", PATIENCE, || Ok(split(2) == 2)).unwrap();
        }
        assert_eq!(split(2), 2);
    }
    let source = all[0].to_string();
    let why = scene.agent.gray_json(&["explain", "--service", "web", "--src", &source]).unwrap();
    assert_eq!((&why["arm"], &why["reason"]), (&"gray".into(), &"explicit".into()), "{why}");
    let log = std::fs::read_to_string(scene.agent.log()).unwrap();
    assert_eq!(log.matches("longer than the service allows").count(), 6, "three services, twice: {log}");
    scene.finish();
}
