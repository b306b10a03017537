//! F15: gray instances are broken, in each way that a breaker counts, and nobody but the kernel sends new connections to stable.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use gray_tests::{
    agent::Agent,
    client::{LoadSpec, Mode, Report},
    command::wait_for,
    place::Place,
    policy::PolicyText,
    scene::{Scene, vip},
    server::{Server, ServerSpec},
    world::WorldSpec,
};
use serde_json::Value;

const HTTP: Mode = Mode::Http { per_connection: 1 };
const PATIENCE: Duration = Duration::from_secs(30);
const FAILURES: u64 = 5;

/// Everybody is gray; each service has a breaker.
fn policy(scene: &Scene, open: &str) -> PolicyText {
    let text = PolicyText::moved(&scene.world).route("to: { version: \"2.0\" }");
    text.each(&format!("breaker: {{ failures: {FAILURES}, window: 30s, open: {open} }}"))
}

/// New connections, one after the other.
fn ask(place: &Place, port: u16, mode: Mode, count: u64) -> Report {
    LoadSpec::new(vip(false, port), mode).count(count).workers(1).run(place).unwrap()
}

fn all_of(version: &str, place: &Place, count: u64) {
    let report = ask(place, 8080, HTTP, count);
    report.assert_all_ok();
    assert_eq!(report.of_version(version), count, "{:?}", report.by_server);
}

fn breaker(agent: &Agent, service: &str) -> Value {
    let status = agent.gray_json(&["status"]).unwrap();
    let all = status["breakers"].as_array().unwrap();
    all.iter().find(|b| b["service"] == service).unwrap().clone()
}

/// What opened it and was kept from gray, nobody but stable has served.
fn trips(place: &Place, port: u16, mode: Mode) {
    let report = ask(place, port, mode, 40);
    assert_eq!((report.failed(), report.ok), (FAILURES, 40 - FAILURES), "{:?}", report.details);
    assert_eq!(report.of_version("1.0"), report.ok);
}

/// Refused, with no agent alive: the next one is stable's; after a while one tries, alone, and again, until gray works.
#[test]
fn f15_refusals_open_it_and_an_answer_closes_it() {
    let mut scene = Scene::packets(WorldSpec::default());
    scene.apply(&policy(&scene, "3s"));
    let client = scene.world.clients[0].place();
    all_of("2.0", &client, 20);
    scene.gray.kill9().unwrap();
    scene.agent.kill9().unwrap();
    trips(&client, 8080, HTTP);
    all_of("1.0", &client, 20);
    for _ in 0..2 {
        wait_for("one that tries", PATIENCE, || Ok(ask(&client, 8080, HTTP, 1).failed() == 1)).unwrap();
        all_of("1.0", &client, 40);
    }
    let b = &scene.world.backends[1];
    scene.gray = Server::start(&b.place(), ServerSpec::on(b, "gray", "2.0")).unwrap();
    wait_for("one that is answered", PATIENCE, || {
        let report = ask(&client, 8080, HTTP, 1);
        report.assert_all_ok();
        Ok(report.of_version("2.0") == 1)
    })
    .unwrap();
    all_of("2.0", &client, 40);
    scene.agent.restart().unwrap();
    let b = breaker(&scene.agent, "web");
    assert_eq!((&b["state"], &b["opens"]), (&"closed".into(), &1.into()), "{b}");
    assert_eq!(b["failures"], FAILURES + 2, "{b}");
    assert!(b["kept"].as_u64().unwrap() >= 135, "{b}");
    // What failed before it closed does not open it.
    scene.gray.kill9().unwrap();
    trips(&client, 8080, HTTP);
    scene.finish();
}

/// Told by the agent; on the connect path, too; other services do not mind; without the key it is over.
#[test]
fn f15_an_open_breaker_is_told_of() {
    let scene = Scene::start(WorldSpec::default());
    scene.apply(&policy(&scene, "10m"));
    let (client, caller) = (scene.world.clients[0].place(), scene.world.caller());
    scene.gray.kill9().unwrap();
    trips(&client, 8080, HTTP);
    all_of("1.0", &caller, 20);
    let tcp = Mode::Tcp { per_connection: 1 };
    assert_eq!(ask(&client, 9000, tcp, 2).failed(), 2, "echo's is another one");
    let agent = &scene.agent;
    wait_for("the event", PATIENCE, || {
        let events = agent.gray_ok(&["events", "--recent", "1024", "--service", "web"])?;
        Ok(events.lines().any(|l| l.contains("breaker") && l.contains("open")))
    })
    .unwrap();
    let b = breaker(agent, "web");
    assert_eq!(
        (&b["state"], &b["failures"], &b["opens"]),
        (&"open".into(), &FAILURES.into(), &1.into()),
        "{b}"
    );
    assert_eq!(breaker(agent, "echo")["state"], "closed");
    let source = scene.world.clients[0].sources(false)[0].to_string();
    let why = agent.gray_json(&["explain", "--service", "web", "--src", &source]).unwrap();
    assert_eq!((&why["arm"], &why["reason"]), (&"stable".into(), &"broken".into()), "{why}");
    let status = agent.gray_ok(&["status"]).unwrap();
    assert!(status.contains("5 failures in 30s, open for 10m") && status.contains("broken"), "{status}");
    let log = std::fs::read_to_string(agent.log()).unwrap();
    assert!(log.contains("gray failed too often"), "{log}");
    let plain = PolicyText::moved(&scene.world).route("to: { version: \"2.0\" }");
    scene.apply(&plain);
    assert_eq!(ask(&client, 8080, HTTP, 3).failed(), 3);
    // Nobody asks for it any more: it is forgotten.
    std::thread::sleep(Duration::from_secs(3));
    scene.apply(&policy(&scene, "10m"));
    trips(&client, 8080, HTTP);
    scene.finish();
}

/// Callers on the node alone, whose sockets tell what became of their connections: they open it, and once gray works, they close it.
#[test]
fn f15_callers_of_the_node_open_it_and_close_it() {
    let mut scene = Scene::start(WorldSpec::default());
    scene.apply(&policy(&scene, "2s"));
    let caller = scene.world.caller();
    all_of("2.0", &caller, 20);
    scene.gray.kill9().unwrap();
    trips(&caller, 8080, HTTP);
    assert_eq!(breaker(&scene.agent, "web")["state"], "open");
    all_of("1.0", &caller, 20);
    let b = &scene.world.backends[1];
    scene.gray = Server::start(&b.place(), ServerSpec::on(b, "gray", "2.0")).unwrap();
    wait_for("one that is answered", PATIENCE, || {
        ask(&caller, 8080, HTTP, 1).assert_all_ok();
        Ok(breaker(&scene.agent, "web")["state"] == "closed")
    })
    .unwrap();
    all_of("2.0", &caller, 40);
    scene.finish();
}

/// A server that takes connections, waits for a request, and resets them; `first`: after a part of an answer.
fn resetting(scene: &Scene, first: Arc<AtomicBool>) {
    let at = SocketAddr::new(scene.world.backends[1].v4.into(), 8080);
    let listener = scene.world.backends[1].place().ns.enter(|| TcpListener::bind(at)).unwrap();
    let _ = std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            // What is left unread makes its end a reset.
            let _ = stream.read(&mut [0; 1]);
            if first.load(SeqCst) {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    });
}

/// Resets count before the first byte, and not after it.
#[test]
fn f15_resets_before_the_first_byte_open_it() {
    let scene = Scene::packets(WorldSpec::default());
    scene.apply(&policy(&scene, "10m"));
    let client = scene.world.clients[0].place();
    scene.gray.kill9().unwrap();
    let first = Arc::new(AtomicBool::new(true));
    resetting(&scene, first.clone());
    assert_eq!(ask(&client, 8080, HTTP, 20).failed(), 20, "they had their first byte");
    assert_eq!(breaker(&scene.agent, "web")["failures"], 0);
    first.store(false, SeqCst);
    trips(&client, 8080, HTTP);
    scene.finish();
}

/// What these send reaches gray, and its answers get nowhere.
fn gray_answers_nobody(scene: &Scene, sources: &[IpAddr]) {
    let ns = &scene.world.backends[1].place().ns;
    for source in sources {
        let done =
            ns.command("ip").args(["route", "add", "blackhole", &source.to_string()]).status().unwrap();
        assert!(done.success());
    }
}

/// ... with `retransmits: 3`, when each SYN has come again three times and not before: the timers of clients run for a second each, or
/// longer. Of local callers, too, while they still wait.
#[test]
fn f15_silence_opens_it_after_so_many_retransmits() {
    for local in [false, true] {
        let scene =
            if local { Scene::start(WorldSpec::default()) } else { Scene::packets(WorldSpec::default()) };
        let (place, sources) = match local {
            true => (scene.world.caller(), scene.world.edge_addresses()),
            false => (scene.world.clients[0].place(), scene.world.clients[0].sources(false)),
        };
        let text = PolicyText::moved(&scene.world).route("to: { version: \"2.0\" }");
        scene.apply(&text.each("breaker: { failures: 4, window: 60s, open: 10m, retransmits: 3 }"));
        all_of("2.0", &place, 10);
        gray_answers_nobody(&scene, &sources);
        let began = Instant::now();
        let mut spec = LoadSpec::new(vip(false, 8080), HTTP).count(4).workers(4);
        spec.timeout_ms = 60_000;
        let waiting = spec.start(&place).unwrap();
        wait_for("the breaker", PATIENCE, || Ok(breaker(&scene.agent, "web")["state"] == "open")).unwrap();
        assert!(began.elapsed() >= Duration::from_millis(2900), "after {:?}", began.elapsed());
        all_of("1.0", &place, 20);
        // Each is one failure, however long it goes on.
        std::thread::sleep(Duration::from_secs(2));
        let b = breaker(&scene.agent, "web");
        assert_eq!((&b["failures"], &b["opens"]), (&4.into(), &1.into()), "{b}");
        let status = scene.agent.gray_ok(&["status"]).unwrap();
        assert!(status.contains("silent after 3 retransmits"), "{status}");
        drop(waiting);
        scene.finish();
    }
}

/// Connection attempts that are not answered within a second.
#[test]
fn f15_silence_opens_it() {
    let scene = Scene::packets(WorldSpec::default());
    scene.apply(&policy(&scene, "10m"));
    let client = scene.world.clients[0].place();
    all_of("2.0", &client, 10);
    gray_answers_nobody(&scene, &scene.world.clients[0].sources(false));
    let waiting = LoadSpec::new(vip(false, 8080), HTTP).count(8).workers(8).start(&client).unwrap();
    wait_for("the breaker", PATIENCE, || Ok(breaker(&scene.agent, "web")["state"] == "open")).unwrap();
    all_of("1.0", &client, 40);
    drop(waiting);
    scene.finish();
}

/// Datagrams that the instance's host answers with ICMP; another service's connections do not mind.
#[test]
fn f15_unreachable_ports_open_it() {
    for v6 in [false, true] {
        let scene = Scene::packets(WorldSpec::default());
        scene.apply(&policy(&scene, "10m"));
        let client = scene.world.clients[0].place();
        scene.gray.kill9().unwrap();
        let udp = Mode::Udp { connected: true, per_socket: 1 };
        let spec = LoadSpec::new(vip(v6, 9001), udp).count(40).workers(1);
        let report = spec.run(&client).unwrap();
        assert_eq!(
            (report.failed(), report.of_version("1.0")),
            (FAILURES, 40 - FAILURES),
            "{:?}",
            report.details
        );
        scene.finish();
    }
}

/// Where requests are read, instances are tried behind the client's back, and each attempt counts: it opens with the first client.
#[test]
fn f15_refusals_of_connections_that_are_read_open_it() {
    let scene = Scene::packets(WorldSpec::default());
    scene.apply(&policy(&scene, "10m").claims("app: { header: X-App-Id }"));
    let client = scene.world.clients[0].place();
    all_of("2.0", &client, 10);
    scene.gray.kill9().unwrap();
    let report = ask(&client, 8080, HTTP, 40);
    assert!(report.failed() <= 2 && report.of_version("1.0") == report.ok, "{:?}", report.details);
    all_of("1.0", &client, 20);
    let b = breaker(&scene.agent, "web");
    assert_eq!(b["state"], "open", "{b}");
    assert!(b["kept"].as_u64().unwrap() > 20, "{b}");
    scene.finish();
}
