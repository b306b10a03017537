//! Clients of whom nothing is known: refused where the policy says so (A4).

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use gray_tests::{
    agent::Agent,
    client::{
        curl,
        talk::{Talk, get},
    },
    policy::PolicyText,
    scene::{Scene, vip},
    world::WorldSpec,
};
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
    if to.is_ipv4() { s.set_tos_v4(10 << 2)? } else { s.set_tclass_v6(10 << 2)? }
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
