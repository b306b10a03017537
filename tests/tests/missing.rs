//! Clients of whom nothing is known: told of (A2), too many of them (A3), refused where the policy says so (A4).

use std::{
    fs,
    io::{ErrorKind, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::unix::fs::PermissionsExt as _,
    sync::mpsc,
    time::{Duration, Instant},
};

use gray_tests::{
    agent::{Agent, AgentSpec},
    client::{
        LoadSpec, Mode, curl,
        talk::{Talk, get},
    },
    command::wait_for,
    policy::PolicyText,
    residue,
    scene::{Scene, servers, vip},
    world::{World, WorldSpec},
};
use gray_userspace::kernel::{Hook, Live, Pins};
use socket2::{Domain, Protocol, Socket, Type};

fn counted(agent: &Agent, reason: &str) -> u64 {
    let status = agent.gray_json(&["status"]).unwrap();
    let counters = status["counters"].as_array().unwrap();
    counters.iter().find(|c| c["reason"] == reason).map_or(0, |c| c["count"].as_u64().unwrap())
}

fn deny(text: PolicyText, identify: &str) -> PolicyText {
    text.identify(identify).each("on-missing-identity: deny")
}

/// Refused at once, and not by a time-out.
#[track_caller]
fn refused(to: SocketAddr, why: ErrorKind) {
    let began = Instant::now();
    let error = TcpStream::connect_timeout(&to, Duration::from_secs(10)).unwrap_err();
    assert_eq!(error.kind(), why, "{to}: {error}");
    assert!(began.elapsed() < Duration::from_secs(5), "{to}: after {:?}", began.elapsed());
}

/// A connection whose packets have DSCP 10 from the first one on.
fn with_dscp(to: SocketAddr) -> std::io::Result<()> {
    let s = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    if to.is_ipv4() {
        s.set_tos_v4(10 << 2)?
    } else {
        s.set_tclass_v6(10 << 2)?
    }
    s.connect_timeout(&to.into(), Duration::from_secs(10))
}

/// On the packet path: TCP is reset, UDP dropped, each counted; who is known goes through.
#[test]
fn a4_packets_of_nobody_are_refused() {
    let scene = Scene::start(WorldSpec::default());
    scene.apply(&deny(PolicyText::moved(&scene.world), "dscp"));
    let client = &scene.world.clients[0];
    client.ns.enter(|| {
        for v6 in [false, true] {
            let before = counted(&scene.agent, "denied");
            refused(vip(v6, 8080), ErrorKind::ConnectionRefused);
            assert_eq!(counted(&scene.agent, "denied"), before + 1, "v6: {v6}");
            with_dscp(vip(v6, 8080)).unwrap();
            assert_eq!(counted(&scene.agent, "denied"), before + 1, "v6: {v6}");
            let from: IpAddr = client.sources(v6)[0];
            let s = UdpSocket::bind((from, 0)).unwrap();
            s.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            let _ = s.send_to(b"x", vip(v6, 9001)).unwrap();
            let nothing = s.recv(&mut [0; 64]).unwrap_err();
            assert!(matches!(nothing.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{nothing}");
            assert_eq!(counted(&scene.agent, "denied"), before + 2, "v6: {v6}");
        }
    });
    let events = scene.agent.gray_ok(&["events", "-o", "json"]).unwrap();
    assert!(events.contains("\"denied\""), "{events}");
    let status = scene.agent.gray_json(&["status"]).unwrap();
    let web = status["services"].as_array().unwrap().iter().find(|s| s["service"] == "web").unwrap();
    assert_eq!((&web["stable"], &web["gray"]), (&2.into(), &0.into()), "the refused are of no arm");
    scene.finish();
}

/// With `stable`, which is the default, the same clients are served.
#[test]
fn a4_without_it_nobody_is_refused() {
    let scene = Scene::start(WorldSpec::default());
    scene.apply(&PolicyText::moved(&scene.world).identify("dscp"));
    scene.world.clients[0].ns.enter(|| {
        for v6 in [false, true] {
            drop(TcpStream::connect_timeout(&vip(v6, 8080), Duration::from_secs(10)).unwrap());
        }
    });
    assert_eq!(counted(&scene.agent, "denied"), 0);
    scene.finish();
}

/// Local callers without a workload get EPERM; who has one, goes.
#[test]
fn a4_calls_of_nobody_are_refused() {
    let scene = Scene::start(WorldSpec::default());
    let w = &scene.world;
    scene.apply(&deny(PolicyText::own(w), "workload"));
    let ask = |v6, port| curl::get(&w.caller(), &format!("http://{}/", vip(v6, port)), &[]);
    for v6 in [false, true] {
        let before = counted(&scene.agent, "denied");
        // curl: 7, cannot connect.
        let error = ask(v6, 8080).unwrap_err();
        assert!(format!("{error:#}").contains("exit status: 7"), "{error:#}");
        assert_eq!(counted(&scene.agent, "denied"), before + 1, "v6: {v6}");
    }
    let cgroup = w.callers.path().to_string_lossy().into_owned();
    let _ = scene.agent.gray_ok(&["workload", "set", "web", "--cgroup", &cgroup]).unwrap();
    for v6 in [false, true] {
        assert_eq!(ask(v6, 8080).unwrap().status, 200, "v6: {v6}");
    }
    scene.finish();
}

/// On the request path: a request that names nothing is reset, and so is what cannot be read.
#[test]
fn a4_requests_of_nobody_are_refused() {
    for per_request in [false, true] {
        let scene = Scene::start(WorldSpec::default());
        let text = PolicyText::moved(&scene.world).claims("app: { header: X-App-Id }");
        let text = deny(if per_request { text.per_request() } else { text }, "app");
        scene.apply(&text.cohort("early", "apps: [app7]").gray_when("early"));
        let ns = &scene.world.clients[0].ns;
        for v6 in [false, true] {
            let to = vip(v6, 8080);
            let before = counted(&scene.agent, "denied");
            for head in ["GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\x16\x03\x01\x00\x05hello", "GET /\x01\r\n"] {
                let mut talk = Talk::connect(ns, to).unwrap();
                talk.send(head.as_bytes()).unwrap();
                let error = talk.answer().unwrap_err();
                let reset = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
                assert_eq!(reset, Some(ErrorKind::ConnectionReset), "{head:?}: {error:#}");
            }
            assert_eq!(counted(&scene.agent, "denied"), before + 3, "v6: {v6}, per request: {per_request}");
            let mut talk = Talk::connect(ns, to).unwrap();
            assert_eq!(talk.get("app7", "a").unwrap().version(), "2.0");
            // The second request of a connection is asked where each is.
            talk.send(get("app7", "b").replace("X-App-Id", "X-Other").as_bytes()).unwrap();
            assert_eq!(talk.answer().is_err(), per_request, "v6: {v6}");
            assert_eq!(counted(&scene.agent, "denied"), before + 3 + u64::from(per_request));
        }
        scene.finish();
    }
}

/// What `gray events` says of requests that name nobody.
fn told(agent: &Agent) -> Vec<serde_json::Value> {
    let lines = agent.gray_ok(&["events", "--recent", "1024", "-o", "json"]).unwrap();
    let all = lines.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap());
    all.filter(|e| e["missing"].is_string()).collect()
}

/// The metric's two numbers: named, missing.
fn requests(agent: &Agent) -> [u64; 2] {
    let text = agent.metrics().unwrap();
    ["named", "missing"].map(|claims| {
        let name = format!("gray_requests_total{{service=\"web\",claims=\"{claims}\"}} ");
        let line =
            text.lines().find_map(|l| l.strip_prefix(&name)).unwrap_or_else(|| panic!("{name} in {text}"));
        line.parse().unwrap()
    })
}

/// Each request that names none of the claims is told of once, with what it was and without what is secret; who names one
/// is not.
#[test]
fn a2_a_request_that_names_nobody_is_told_of() {
    for per_request in [false, true] {
        let scene = Scene::start(WorldSpec::default());
        let text =
            PolicyText::moved(&scene.world).claims("app: { header: X-App-Id }").identify("app, source");
        scene.apply(&if per_request { text.per_request() } else { text });
        let ns = &scene.world.clients[0].ns;
        for v6 in [false, true] {
            let (to, before) = (vip(v6, 8080), told(&scene.agent).len());
            let secret = "GET /cart/7?token=SECRET HTTP/1.1\r\nHost: SECRET\r\nX-Appid: SECRET\r\n\r\n";
            let long = format!("GET / HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n", "x".repeat(4400));
            for (said, missing, request) in [
                (secret, "http", Some("GET /cart/7?...")),
                ("\x16\x03\x01\x00\x05hello", "tls", None),
                ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "http2", None),
                ("GET /a\rb HTTP/1.1\r\n\r\n", "bad-head", Some("GET /a?b")),
                (long.as_str(), "part-of-a-head", Some("GET /")),
                ("\0\0\0\x08", "other", None),
            ] {
                let mut talk = Talk::connect(ns, to).unwrap();
                talk.send(said.as_bytes()).unwrap();
                let seen = before + told(&scene.agent).len();
                wait_for("the event", Duration::from_secs(10), || {
                    let all = told(&scene.agent);
                    Ok(all.len() > before && all.last().unwrap()["missing"] == missing)
                })
                .unwrap_or_else(|e| panic!("{e:#}: {said:?} after {seen}: {:?}", told(&scene.agent)));
                let last = told(&scene.agent).pop().unwrap();
                assert_eq!(last["request"].as_str(), request, "{last}");
                assert_eq!(last["service"], "web");
                let client: SocketAddr = last["client"].as_str().unwrap().parse().unwrap();
                assert!(scene.world.clients[0].sources(v6).contains(&client.ip()), "{last}");
                if missing == "http" {
                    assert_eq!(last["headers"], serde_json::json!(["Host", "X-Appid"]));
                    let _ = talk.answer().unwrap();
                }
            }
            assert_eq!(told(&scene.agent).len(), before + 6, "each of them once");
            let mut talk = Talk::connect(ns, to).unwrap();
            for nonce in ["a", "b", "c"] {
                let _ = talk.get("app1", nonce).unwrap();
            }
            assert_eq!(told(&scene.agent).len(), before + 6, "who names an app is not told of");
        }
        let all = told(&scene.agent);
        assert!(!serde_json::to_string(&all).unwrap().contains("SECRET"), "{all:?}");
        let log = fs::read_to_string(scene.agent.log()).unwrap();
        assert!(log.contains("without any of the claims") && log.contains("GET /cart/7?..."), "{log}");
        assert!(!log.contains("SECRET"));
        let named = if per_request { 6 } else { 2 };
        assert_eq!(requests(&scene.agent), [named, 12], "per request: {per_request}");
        scene.finish();
    }
}

/// What is over the limit is counted, and all are in the metric.
#[test]
fn a2_a_flood_of_them_is_limited_and_counted() {
    let scene = Scene::start(WorldSpec::default());
    let text = PolicyText::moved(&scene.world).claims("app: { header: X-App-Id }").identify("app, source");
    scene.apply(&text);
    let pins = Pins::open_dir(scene.agent.bpffs()).unwrap();
    let mut live = scene.world.edge.enter(|| Live::open(pins, 1024, Hook::Tcx).unwrap());
    let limit = live.control().event_limit;
    live.configure(|c| c.event_limit = 1);
    let place = scene.world.clients[0].place();
    let report =
        LoadSpec::new(vip(false, 8080), Mode::Http { per_connection: 1 }).count(1000).run(&place).unwrap();
    report.assert_all_ok();
    live.configure(|c| c.event_limit = limit);
    assert_eq!(requests(&scene.agent), [0, 1000]);
    let lines = told(&scene.agent).len() as u64;
    let limited = counted(&scene.agent, "event_limited");
    assert!(lines > 0 && lines < 500, "{lines} of 1000");
    // Decisions have a limit of their own, the same.
    assert!(limited >= 1000 - lines, "{limited} over the limit, {lines} lines");
    drop(live);
    scene.finish();
}

/// A webhook in the edge's namespace that refuses the first notice; the bodies that it got.
fn webhook(world: &World) -> (u16, mpsc::Receiver<serde_json::Value>) {
    let server = world.edge.enter(|| TcpListener::bind("127.0.0.1:0").unwrap());
    let port = server.local_addr().unwrap().port();
    let (send, bodies) = mpsc::channel();
    // Ends with the test's process.
    drop(std::thread::spawn(move || {
        for (i, s) in server.incoming().enumerate() {
            let mut s = s.unwrap();
            let mut text = String::new();
            while !text.ends_with('}') {
                let mut part = [0; 4096];
                let n = s.read(&mut part).unwrap();
                text += std::str::from_utf8(&part[..n]).unwrap();
            }
            let status = if i == 0 { "503 Away" } else { "200 OK" };
            write!(s, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").unwrap();
            if i > 0
                && send.send(serde_json::from_str(text.split("\r\n\r\n").nth(1).unwrap()).unwrap()).is_err()
            {
                return;
            }
        }
    }));
    (port, bodies)
}

/// Raised, delivered by both ways, in status, events and metrics; cleared when the share is small again.
#[test]
fn a3_too_many_that_name_nobody_raise_an_alarm() {
    let world = World::build(WorldSpec::default()).unwrap();
    let _servers = servers(&world);
    let (port, bodies) = webhook(&world);
    let programs = world.temp().join("programs");
    fs::create_dir(&programs).unwrap();
    let said = world.temp().join("said");
    let page = programs.join("page");
    let script = format!("#!/bin/sh\necho \"$GRAY_SERVICE $GRAY_ALARM $1\" >> {}\n", said.display());
    fs::write(&page, script).unwrap();
    fs::set_permissions(&page, fs::Permissions::from_mode(0o755)).unwrap();
    let text = |alarm: &str| {
        let text = PolicyText::moved(&world).claims("app: { header: X-App-Id }").identify("app, source");
        // Its other services are on UDP, or not asked.
        text.to_string().replacen(
            "    identify:",
            &format!("    missing-alarm: {{ {alarm} }}\n    identify:"),
            1,
        )
    };
    let alarm =
        format!("percent: 20, window: 3s, webhook: \"http://127.0.0.1:{port}/gray\", command: [page, now]");
    let mut spec = AgentSpec::of(&world);
    // Without the directory no policy can run a program.
    let agent = Agent::start_with(&world, AgentSpec::of(&world)).unwrap();
    let refused = agent.apply(&text(&alarm)).unwrap_err();
    assert!(format!("{refused:#}").contains("--health-commands"), "{refused:#}");
    residue::assert_none(&world, agent);

    spec.args.extend(["--health-commands".into(), programs.display().to_string()]);
    let agent = Agent::start_with(&world, spec).unwrap();
    let _ = agent.apply(&text(&alarm)).unwrap();
    let place = world.clients[0].place();
    let ask = |app: Option<&str>, count| {
        let mut load = LoadSpec::new(vip(false, 8080), Mode::Http { per_connection: 1 }).count(count);
        load.headers = app.map(|app| ("X-App-Id".to_owned(), app.to_owned())).into_iter().collect();
        load.run(&place).unwrap().assert_all_ok();
    };
    let up = || agent.gray_json(&["status"]).unwrap()["alarms"].as_array().unwrap().clone();
    ask(Some("app1"), 100);
    std::thread::sleep(Duration::from_secs(3));
    assert!(up().is_empty(), "everybody has a name: {:?}", up());
    ask(None, 100);
    wait_for("the alarm", Duration::from_secs(10), || Ok(!up().is_empty())).unwrap();
    let shown = up();
    assert_eq!((&shown[0]["service"], &shown[0]["rule"]), (&"web".into(), &"over 20 % in 3s".into()));
    let body = bodies.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!((&body["service"], &body["alarm"]), (&"web".into(), &"raised".into()), "{body}");
    assert!(body["missing"].as_u64().unwrap() > 0 && body["requests"].as_u64() >= body["missing"].as_u64());
    wait_for("the program", Duration::from_secs(10), || Ok(said.exists())).unwrap();
    assert!(agent.metrics().unwrap().contains("gray_alarm{service=\"web\"} 1"));
    wait_for("its end", Duration::from_secs(20), || {
        // Not so many that the agent's latest events are all of them.
        ask(Some("app1"), 10);
        std::thread::sleep(Duration::from_millis(200));
        Ok(up().is_empty())
    })
    .unwrap();
    let body = bodies.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(body["alarm"], "cleared", "{body}");
    wait_for("the program again", Duration::from_secs(10), || {
        Ok(fs::read_to_string(&said)? == "web raised now\nweb cleared now\n")
    })
    .unwrap();
    let events = agent.gray_ok(&["events", "--recent", "1024", "-o", "json"]).unwrap();
    let alarms: Vec<String> = events
        .lines()
        .filter_map(|l| {
            serde_json::from_str::<serde_json::Value>(l).unwrap()["alarm"].as_str().map(Into::into)
        })
        .collect();
    // The decisions in between may have pushed the first one out.
    assert!(
        ["raised", "cleared"].ends_with(&alarms.iter().map(String::as_str).collect::<Vec<_>>()),
        "{alarms:?}"
    );
    assert!(!alarms.is_empty());
    let text = agent.metrics().unwrap();
    assert!(text.contains("gray_alarms_total{service=\"web\"} 1"), "{text}");
    assert!(text.contains("gray_alarm_deliveries_total{service=\"web\",result=\"pass\"} 4"), "{text}");
    residue::assert_none(&world, agent);
}
