//! F9: what the kernel times and counts of connections, on both paths, held against what clients and instances did.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use gray_tests::{
    client::{LoadSpec, Mode, talk::Talk},
    command::wait_for,
    place::Place,
    policy::PolicyText,
    scene::{Scene, vip},
    world::WorldSpec,
};

const PATIENCE: Duration = Duration::from_secs(30);
const COUNT: u64 = 8;
const HTTP: Mode = Mode::Http { per_connection: 1 };

/// What an instance does with a connection.
#[derive(Clone, Copy)]
enum Does {
    /// Answers a request, after a while.
    Answers(&'static str, Duration),
    /// Says something at once.
    Greets,
    /// Resets it after a byte was read.
    Resets,
}

/// Instead of the lab's server, at the gray instance's address.
fn instance(scene: &Scene, v6: bool, does: Does) {
    let b = &scene.world.backends[1];
    let at = SocketAddr::new(if v6 { b.v6.into() } else { b.v4.into() }, 8080);
    let listener = b.place().ns.enter(|| TcpListener::bind(at)).unwrap();
    let _ = std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            let _ = std::thread::spawn(move || serve(stream, does));
        }
    });
}

fn serve(mut stream: TcpStream, does: Does) {
    let mut text = [0; 4096];
    if let Does::Greets = does {
        let _ = stream.write_all(b"220 ready when you are\r\n");
    }
    // What is left unread makes an end a reset.
    let room = if let Does::Resets = does { 1 } else { text.len() };
    while let Ok(n) = stream.read(&mut text[..room]) {
        match does {
            Does::Answers(answer, after) if n != 0 => {
                std::thread::sleep(after);
                let _ = stream.write_all(answer.as_bytes());
            }
            Does::Greets if n != 0 => {}
            _ => return,
        }
    }
}

/// A histogram of one arm: counts by bucket, with the seconds at which each ends.
fn histogram(metrics: &str, name: &str, service: &str, arm: &str) -> Vec<(f64, u64)> {
    let (line, of) =
        (format!("gray_{name}_bucket{{le=\""), format!("\",service=\"{service}\",arm=\"{arm}\"}} "));
    let mut below = 0;
    let parse = |l: &str| {
        let (bound, n) = l.strip_prefix(&line)?.split_once(&of)?;
        Some((if bound == "+Inf" { f64::INFINITY } else { bound.parse().ok()? }, n.parse::<u64>().ok()?))
    };
    let all = metrics.lines().filter_map(parse);
    all.map(|(bound, n)| (bound, n - std::mem::replace(&mut below, n))).collect()
}

fn counted(all: &[(f64, u64)]) -> u64 {
    all.iter().map(|(_, n)| n).sum()
}

/// None was shorter than this bucket's beginning, or longer than that one's end. A bucket's end is twice its beginning.
fn all_within(all: &[(f64, u64)], least: f64, most: f64) {
    for (end, n) in all.iter().filter(|(_, n)| *n != 0) {
        assert!(end / 2.0 >= least && *end <= most, "{n} of {end}: {all:?}");
    }
}

fn counter(metrics: &str, name: &str, labels: &str) -> u64 {
    let line = format!("gray_{name}_total{{{labels}}} ");
    metrics.lines().find_map(|l| l.strip_prefix(&line)).map_or(0, |n| n.parse().unwrap())
}

fn of_gray(kind: &str) -> String {
    format!("service=\"web\",arm=\"gray\",{kind}")
}

fn everybody(scene: &Scene) -> PolicyText {
    PolicyText::moved(&scene.world).route("to: { version: \"2.0\" }")
}

/// Connects, waits, asks, reads, waits, and closes: `COUNT` at once.
fn talk_all(place: &Place, to: SocketAddr, idle: Duration) {
    std::thread::scope(|s| {
        for i in 0..COUNT {
            let _ = s.spawn(move || {
                let mut talk = Talk::connect(&place.ns, to).unwrap();
                std::thread::sleep(idle);
                let _ = talk.get("app-1", &format!("n{i}")).unwrap();
            });
        }
    });
}

const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\nno";

#[test]
fn f9_handshakes_first_bytes_lives_and_answers_on_the_packet_path() {
    for v6 in [false, true] {
        let scene = Scene::packets(WorldSpec::default());
        scene.apply(&everybody(&scene));
        scene.gray.kill9().unwrap();
        instance(&scene, v6, Does::Answers(BUSY, Duration::from_millis(300)));
        let client = scene.world.clients[0].place();
        // What a client waits before it asks is no fault of the instance.
        talk_all(&client, vip(v6, 8080), Duration::from_secs(5));
        let of = |m: &str, name| histogram(m, name, "web", "gray");
        wait_for("their ends", PATIENCE, || {
            Ok(counted(&of(&scene.agent.metrics()?, "connection_seconds")) == COUNT)
        })
        .unwrap();
        let m = scene.agent.metrics().unwrap();
        let (took, said) = (of(&m, "handshake_seconds"), of(&m, "first_byte_seconds"));
        assert_eq!((counted(&took), counted(&said)), (COUNT, COUNT), "{m}");
        all_within(&said, 0.25, 4.5);
        all_within(&took, 0.0, 4.5);
        all_within(&of(&m, "connection_seconds"), 4.2, 100.0);
        assert_eq!(counter(&m, "answers", &of_gray("status=\"5xx\"")), COUNT, "{m}");
        assert_eq!(counter(&m, "answers", &of_gray("status=\"other\"")), 0);
        assert_eq!(counted(&histogram(&m, "handshake_seconds", "web", "stable")), 0);
        scene.finish();
    }
}

/// An instance that speaks first is timed from its answer to the SYN.
#[test]
fn f9_a_greeting_is_a_first_byte() {
    let scene = Scene::packets(WorldSpec::default());
    scene.apply(&everybody(&scene));
    scene.gray.kill9().unwrap();
    instance(&scene, false, Does::Greets);
    let client = scene.world.clients[0].place();
    for _ in 0..COUNT {
        let mut stream = client.ns.enter(|| TcpStream::connect(vip(false, 8080))).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        let _ = stream.write_all(b"HELO\r\n");
        assert!(stream.read(&mut [0; 64]).unwrap() > 4);
    }
    let m = scene.agent.metrics().unwrap();
    assert_eq!(counted(&histogram(&m, "first_byte_seconds", "web", "gray")), COUNT, "{m}");
    assert_eq!(counter(&m, "answers", &of_gray("status=\"other\"")), COUNT, "{m}");
    scene.finish();
}

/// Where stable keeps its own address, its connections are not translated, and timed all the same.
#[test]
fn f9_stable_on_its_own_address_is_timed_too() {
    let scene = Scene::packets(WorldSpec::default());
    scene.apply(&PolicyText::own(&scene.world));
    let client = scene.world.clients[0].place();
    talk_all(&client, vip(false, 8080), Duration::ZERO);
    wait_for("their ends", PATIENCE, || {
        let m = scene.agent.metrics()?;
        Ok(counted(&histogram(&m, "connection_seconds", "web", "stable")) == COUNT)
    })
    .unwrap();
    let m = scene.agent.metrics().unwrap();
    for name in ["handshake_seconds", "first_byte_seconds"] {
        assert_eq!(counted(&histogram(&m, name, "web", "stable")), COUNT, "{name}: {m}");
    }
    assert_eq!(counter(&m, "answers", "service=\"web\",arm=\"stable\",status=\"2xx\""), COUNT, "{m}");
    scene.finish();
}

/// Where requests are read, the instance is dialled when the request is there.
#[test]
fn f9_instances_of_connections_that_are_read_are_timed() {
    for v6 in [false, true] {
        let scene = Scene::packets(WorldSpec::default());
        scene.apply(&everybody(&scene).claims("app: { header: X-App-Id }"));
        scene.gray.kill9().unwrap();
        instance(&scene, v6, Does::Answers(BUSY, Duration::from_millis(300)));
        let client = scene.world.clients[0].place();
        talk_all(&client, vip(v6, 8080), Duration::from_secs(5));
        let m = scene.agent.metrics().unwrap();
        let (took, said) = (
            histogram(&m, "handshake_seconds", "web", "gray"),
            histogram(&m, "first_byte_seconds", "web", "gray"),
        );
        assert_eq!((counted(&took), counted(&said)), (COUNT, COUNT), "{m}");
        all_within(&took, 0.0, 4.5);
        all_within(&said, 0.25, 4.5);
        assert_eq!(counter(&m, "answers", &of_gray("status=\"5xx\"")), COUNT, "{m}");
        scene.finish();
    }
}

/// Of callers on the node: handshake, life and round trips by their sockets; who is refused, reset, or resets.
#[test]
fn f9_callers_of_the_node_are_heard() {
    for v6 in [false, true] {
        let scene = Scene::start(WorldSpec::default());
        scene.apply(&everybody(&scene));
        let (caller, to) = (scene.world.caller(), vip(v6, 8080));
        let ask = || LoadSpec::new(to, HTTP).count(COUNT).workers(1).run(&caller).unwrap();
        ask().assert_all_ok();
        let failures = |m: &str, kind: &str| counter(m, "failures", &of_gray(&format!("kind=\"{kind}\"")));
        wait_for("their ends", PATIENCE, || {
            let m = scene.agent.metrics()?;
            Ok(counted(&histogram(&m, "connection_seconds", "web", "gray")) == COUNT)
        })
        .unwrap();
        let m = scene.agent.metrics().unwrap();
        for name in ["handshake_seconds", "rtt_seconds"] {
            assert_eq!(counted(&histogram(&m, name, "web", "gray")), COUNT, "{name}: {m}");
        }
        assert_eq!(failures(&m, "refused") + failures(&m, "reset") + failures(&m, "client-reset"), 0, "{m}");
        scene.gray.kill9().unwrap();
        assert_eq!(ask().failed(), COUNT);
        assert_eq!(failures(&scene.agent.metrics().unwrap(), "refused"), COUNT);
        instance(&scene, v6, Does::Resets);
        assert_eq!(ask().failed(), COUNT);
        let m = scene.agent.metrics().unwrap();
        assert_eq!((failures(&m, "refused"), failures(&m, "reset")), (COUNT, COUNT), "{m}");
        scene.finish();
    }
}

/// Gray that answers everybody, and slowly, is taken back by what the kernel has timed.
#[test]
fn f9_a_release_whose_gray_is_slow_is_taken_back() {
    let scene = Scene::packets(WorldSpec::default());
    scene.apply(&PolicyText::moved(&scene.world));
    scene.gray.kill9().unwrap();
    instance(&scene, false, Does::Answers(OK, Duration::from_millis(200)));
    let file = scene.world.temp().join("slow.yaml");
    std::fs::write(&file, SLOW).unwrap();
    let release = |args: &[&str]| scene.agent.gray_json(&[&["release"], args].concat()).unwrap();
    let _ = release(&["start", "-f", &file.to_string_lossy()]);
    let sources = scene.world.clients[0].sources(false);
    let load = LoadSpec::new(vip(false, 8080), HTTP).sources(sources).workers(8);
    // What it answers has no nonce: to the load it is a fault, to the kernel an answer.
    let load = load.start(&scene.world.clients[0].place()).unwrap();
    let state = || Ok::<_, anyhow::Error>(release(&["status", "slow"])["state"].to_string());
    wait_for("the way back", PATIENCE * 4, || Ok(state()?.contains("abnormal"))).unwrap();
    let _ = load.stop().unwrap();
    let told = release(&["status", "slow"]);
    let why = told["reason"].as_str().unwrap_or_default();
    assert!(why.contains("first_byte"), "{told:#}");
    let history = scene.agent.gray_ok(&["release", "history", "slow"]).unwrap();
    assert!(!history.contains("refused"), "{history}");
    let _ = release(&["close", "slow"]);
    scene.finish();
}

const SLOW: &str = "release: slow
version: 2.0.0-gray.1
services: { web: { gray: { version: '2.0' } } }
stages: [{ percent: 50, samples: 100000 }, { percent: 100 }]
";

/// `measure: full`: when callers ask and instances answer, and what; it comes and goes with the policy.
#[test]
fn f9_first_bytes_of_callers_are_measured_where_a_service_asks_for_it() {
    for v6 in [false, true] {
        let scene = Scene::start(WorldSpec::default());
        let full = || everybody(&scene).each("measure: full");
        scene.apply(&full());
        let (caller, to) = (scene.world.caller(), vip(v6, 8080));
        scene.gray.kill9().unwrap();
        instance(&scene, v6, Does::Answers(OK, Duration::from_millis(300)));
        let ask = || LoadSpec::new(to, HTTP).count(COUNT).workers(COUNT as usize).run(&caller).unwrap();
        let _ = ask();
        let m = scene.agent.metrics().unwrap();
        let said = histogram(&m, "first_byte_seconds", "web", "gray");
        assert_eq!(counted(&said), COUNT, "{m}");
        all_within(&said, 0.25, 4.5);
        assert_eq!(counter(&m, "answers", &of_gray("status=\"2xx\"")), COUNT, "{m}");
        let programs = |scene: &Scene| scene.agent.gray_json(&["status"]).unwrap()["connect"].to_string();
        assert!(programs(&scene).contains("\"hears\""), "{}", programs(&scene));
        scene.apply(&everybody(&scene));
        assert!(!programs(&scene).contains("\"hears\""), "{}", programs(&scene));
        let _ = ask();
        let m = scene.agent.metrics().unwrap();
        assert_eq!(counted(&histogram(&m, "first_byte_seconds", "web", "gray")), COUNT, "{m}");
        scene.apply(&full());
        let _ = ask();
        let m = scene.agent.metrics().unwrap();
        assert_eq!(counted(&histogram(&m, "first_byte_seconds", "web", "gray")), 2 * COUNT, "{m}");
        scene.finish();
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Callers that stay with stable on its own address, where nothing is rewritten, are heard as well: without them gray's callers have nobody
/// to be compared with.
#[test]
fn f9_callers_that_stay_where_they_dial_are_heard() {
    for v6 in [false, true] {
        let scene = Scene::start(WorldSpec::default());
        scene.apply(&PolicyText::own(&scene.world));
        let (caller, to) = (scene.world.caller(), vip(v6, 8080));
        let ask = || LoadSpec::new(to, HTTP).count(COUNT).workers(1).run(&caller).unwrap();
        ask().assert_all_ok();
        wait_for("their ends", PATIENCE, || {
            let m = scene.agent.metrics()?;
            Ok(counted(&histogram(&m, "connection_seconds", "web", "stable")) == COUNT)
        })
        .unwrap();
        let m = scene.agent.metrics().unwrap();
        assert_eq!(counted(&histogram(&m, "handshake_seconds", "web", "stable")), COUNT, "{m}");
        scene.stable.kill9().unwrap();
        assert_eq!(ask().failed(), COUNT);
        let refused = "service=\"web\",arm=\"stable\",kind=\"refused\"";
        assert_eq!(counter(&scene.agent.metrics().unwrap(), "failures", refused), COUNT);
        scene.finish();
    }
}
