//! C6: `failover: deny`, `failover-by`: clients of a subset that has no instance are refused, on every path; the others are served.

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr, UdpSocket},
    time::Duration,
};

use gray_tests::{
    client::{curl, talk::Talk},
    policy::PolicyText,
    scene::{Scene, vip},
    world::WorldSpec,
};

fn connect(to: SocketAddr, from: IpAddr) -> std::io::Result<()> {
    use socket2::{Domain, Protocol, Socket, Type};
    let s = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    s.bind(&SocketAddr::new(from, 0).into())?;
    s.connect_timeout(&to.into(), Duration::from_secs(10))
}

/// Gray is blacklisted: TCP is reset, UDP dropped, a local call fails; who is not on the list goes to stable.
#[test]
fn c6_packets_and_calls_of_an_empty_subset_are_refused() {
    let scene = Scene::start(WorldSpec::default());
    let w = &scene.world;
    let (v4, v6) = (w.clients[0].sources(false), w.clients[0].sources(true));
    let text = PolicyText::moved(w).identify("workload, source").each("failover: deny");
    let text = text.sources("early", [v4[0], v6[0]]).cohort("jobs", "workloads: [web]");
    let text = text.gray_when("early").gray_when("jobs").to_string();
    let _ = scene.agent.apply(&text).unwrap();
    let client = &w.clients[0].ns;
    client.enter(|| connect(vip(false, 9000), v4[0])).unwrap();
    let gone = format!("{text}blacklist: {{ ids: [g4, g6] }}\n");
    let _ = scene.agent.apply(&gone).unwrap();
    for (is_v6, from) in [(false, &v4), (true, &v6)] {
        let before = scene.agent.counted("failover_denied");
        client.enter(|| {
            let error = connect(vip(is_v6, 9000), from[0]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "v6: {is_v6}");
            let s = UdpSocket::bind((from[0], 0)).unwrap();
            s.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            let _ = s.send_to(b"x", vip(is_v6, 9001)).unwrap();
            let nothing = s.recv(&mut [0; 64]).unwrap_err();
            assert!(matches!(nothing.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{nothing}");
            connect(vip(is_v6, 9000), from[1]).unwrap();
        });
        assert_eq!(scene.agent.counted("failover_denied"), before + 2, "v6: {is_v6}");
    }
    let source = v4[0].to_string();
    let why = scene.agent.gray_json(&["explain", "--service", "echo", "--src", &source]).unwrap();
    assert_eq!(why["reason"], "failover_denied", "{why}");
    assert!(
        why["text"].as_str().unwrap().contains("wants version=2.0, of which no instance serves"),
        "{why}"
    );
    let routes = scene.agent.gray_json(&["get", "routes"]).unwrap();
    let early = routes.as_array().unwrap().iter().find(|r| r["when"] == "early").cloned().unwrap();
    assert!(early["decisions"].as_u64().unwrap() >= 5, "what is refused by it counts for the route: {early}");

    // Local callers: EPERM (curl: 7, cannot connect) while they are the workload.
    let cgroup = w.callers.path().to_string_lossy().into_owned();
    let ask = || curl::get(&w.caller(), &format!("http://{}/", vip(false, 8080)), &[]);
    assert_eq!(ask().unwrap().status, 200);
    let _ = scene.agent.gray_ok(&["workload", "set", "web", "--cgroup", &cgroup]).unwrap();
    let before = scene.agent.counted("failover_denied");
    let error = ask().unwrap_err();
    assert!(format!("{error:#}").contains("exit status: 7"), "{error:#}");
    assert_eq!(scene.agent.counted("failover_denied"), before + 1);
    scene.finish();
}

/// A request is reset; with `per: request` also one on a connection that stable has.
#[test]
fn c6_requests_of_an_empty_subset_are_refused() {
    for per_request in [false, true] {
        let scene = Scene::start(WorldSpec::default());
        let text =
            PolicyText::moved(&scene.world).claims("app: { header: X-App-Id }").identify("app, source");
        let text = if per_request { text.per_request() } else { text };
        let text = text.each("failover: deny").cohort("early", "apps: [app7]").gray_when("early");
        let _ = scene.agent.apply(&format!("{text}blacklist: {{ ids: [g4, g6] }}\n")).unwrap();
        for v6 in [false, true] {
            let before = scene.agent.counted("failover_denied");
            let talk = || Talk::connect(&scene.world.clients[0].ns, vip(v6, 8080)).unwrap();
            let error = talk().get("app7", "a").unwrap_err();
            let reset = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
            assert_eq!(reset, Some(ErrorKind::ConnectionReset), "{error:#}");
            assert_eq!(scene.agent.counted("failover_denied"), before + 1, "v6: {v6}, {per_request}");
            let mut kept = talk();
            assert_eq!(kept.get("app1", "b").unwrap().version(), "1.0");
            assert_eq!(kept.get("app7", "c").is_err(), per_request, "v6: {v6}");
            let refused = before + 1 + u64::from(per_request);
            assert_eq!(scene.agent.counted("failover_denied"), refused, "v6: {v6}, {per_request}");
        }
        assert_eq!([scene.agent.counted("denied"), scene.agent.counted("request_no_instance")], [0, 0]);
        scene.finish();
    }
}

/// Health empties a subset, too.
#[test]
fn c6_a_subset_that_is_down_is_refused() {
    // Of the service, and of what is wanted by version alone.
    for line in ["failover: deny", "failover-by: { version: deny }"] {
        down(line);
    }
}

fn down(line: &str) {
    let scene = Scene::start(WorldSpec::default());
    let text = PolicyText::moved(&scene.world)
        .each(line)
        .each("health: { check: tcp, port: 9000, interval: 200ms, fall: 1, rise: 1 }");
    scene.apply(&text.sources("all", ["0.0.0.0/0"]).gray_when("all"));
    let from = scene.world.clients[0].sources(false)[0];
    let ask = |scene: &Scene| scene.world.clients[0].ns.enter(|| connect(vip(false, 9000), from));
    // What is new serves from its first success on.
    gray_tests::command::wait_for("the first answers", Duration::from_secs(20), || Ok(ask(&scene).is_ok()))
        .unwrap();
    let before = scene.agent.counted("failover_denied");
    scene.gray.kill9().unwrap();
    gray_tests::command::wait_for("health", Duration::from_secs(20), || {
        Ok(ask(&scene).is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused)
            && scene.agent.counted("failover_denied") > before)
    })
    .unwrap();
    scene.finish();
}
