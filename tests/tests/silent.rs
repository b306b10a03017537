//! Connections on which nobody speaks, or to whom nobody answers: what can only be found out by asking (A1, C12, H1).

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use gray_tests::{
    agent::{Agent, AgentSpec},
    client::{Mode, talk::Talk},
    command::{run, wait_for},
    link::sysctl,
    pace::patience,
    policy::PolicyText,
    scene::{Scene, servers, vip},
    world::{World, WorldSpec},
};

const GREET: u16 = 7000;
const PATIENCE: Duration = Duration::from_secs(30);

/// `apps: [app7]` goes to 2.0.
fn by_app(w: &World) -> PolicyText {
    let text = PolicyText::moved(w).claims("app: { header: X-App-Id }").identify("app, source");
    text.cohort("early", "apps: [app7]").gray_when("early")
}

/// A server that speaks first, as SMTP or MySQL do, and then says back what it hears. It ends with its test.
fn greeter(w: &World, backend: usize, v6: bool) {
    let b = &w.backends[backend];
    let at = if v6 { SocketAddr::new(b.v6.into(), GREET) } else { SocketAddr::new(b.v4.into(), GREET) };
    let listener = b.ns.enter(|| TcpListener::bind(at)).unwrap();
    let _ = thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = thread::spawn(move || {
                let _ = stream.write_all(format!("220 backend {backend}\n").as_bytes());
                let mut bytes = [0; 100];
                while let Ok(n @ 1..) = stream.read(&mut bytes) {
                    let _ = stream.write_all(&bytes[..n]);
                }
            });
        }
    });
}

fn said(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut bytes = [0; 100];
    let n = stream.read(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes[..n]).into_owned())
}

/// The client waits for the server, and the server cannot speak before it has the connection.
#[test]
fn a1_a_server_that_speaks_first_is_reached() {
    let scene = Scene::packets(WorldSpec::default());
    let w = &scene.world;
    for (backend, v6) in [(0, false), (0, true), (1, false), (1, true)] {
        greeter(w, backend, v6);
    }
    scene.apply(&by_app(w).service("greet", GREET, false).first_byte("1s"));
    let ns = &w.clients[0].ns;
    let open = |v6: bool| {
        let stream = ns.enter(|| TcpStream::connect(vip(v6, GREET))).unwrap();
        stream.set_read_timeout(Some(patience(PATIENCE))).unwrap();
        stream
    };
    let mut all: Vec<TcpStream> = (0..20).map(|i| open(i % 2 == 0)).collect();
    for stream in &mut all {
        assert_eq!(said(stream).unwrap(), "220 backend 0\n");
        for n in 0..3 {
            let text = format!("line {n}");
            stream.write_all(text.as_bytes()).unwrap();
            assert_eq!(said(stream).unwrap(), text);
        }
    }
    let status = scene.agent.gray_json(&["status"]).unwrap();
    let counters = status["counters"].as_array().unwrap();
    let silent = counters.iter().find(|c| c["reason"] == "request_silent").map(|c| c["count"].clone());
    assert_eq!(silent, Some(20.into()), "{status}");
    // Who speaks at once does not wait.
    let mut talk = Talk::connect(ns, vip(false, 8080)).unwrap();
    assert_eq!(talk.get("app7", "a").unwrap().version(), "2.0");
    drop(all);
    scene.finish();
}

/// Who waits for the server is nobody to a service that serves nobody unknown; who opens a connection early and speaks later is somebody.
#[test]
fn a4_who_is_silent_is_nobody_and_who_is_slow_is_not() {
    let scene = Scene::packets(WorldSpec::default());
    let w = &scene.world;
    let text = PolicyText::moved(w)
        .claims("app: { header: X-App-Id }")
        .identify("app")
        .each("on-missing-identity: deny");
    let text = text.cohort("early", "apps: [app7]").gray_when("early");
    scene.apply(&text.clone().first_byte("1s"));
    let ns = &w.clients[0].ns;
    for v6 in [false, true] {
        let mut stream = ns.enter(|| TcpStream::connect(vip(v6, 8080))).unwrap();
        stream.set_read_timeout(Some(patience(PATIENCE))).unwrap();
        assert_eq!(said(&mut stream).map_err(|e| e.kind()), Err(ErrorKind::ConnectionReset), "v6: {v6}");
    }
    scene.apply(&text);
    let mut slow = [false, true].map(|v6| Talk::connect(ns, vip(v6, 8080)).unwrap());
    thread::sleep(Duration::from_secs(4));
    for talk in &mut slow {
        assert_eq!(talk.get("app7", "a").unwrap().version(), "2.0");
    }
    scene.finish();
}

/// A drained instance's connections end at the deadline though nobody speaks, on both sides.
#[test]
fn c12_who_is_idle_hears_of_the_deadline() {
    for read in [false, true] {
        let scene = Scene::packets(WorldSpec::default());
        let w = &scene.world;
        scene.apply(&if read {
            by_app(w)
        } else {
            PolicyText::moved(w).sources("all", ["0.0.0.0/0", "fc00::/7"]).gray_when("all")
        });
        let ns = &w.clients[0].ns;
        let mut idle: Vec<TcpStream> = Vec::new();
        for i in 0..40 {
            let mut stream = ns.enter(|| TcpStream::connect(vip(i % 2 == 0, 8080))).unwrap();
            stream.set_read_timeout(Some(patience(PATIENCE))).unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nX-App-Id: app7\r\n\r\n").unwrap();
            assert!(said(&mut stream).unwrap().contains("200"));
            idle.push(stream);
        }
        let at_gray = || {
            let all =
                run(w.backends[1].ns.command("ss").args(["-Htn", "state", "established", "sport = :8080"]));
            all.unwrap().lines().count()
        };
        assert_eq!(at_gray(), 40);
        for id in ["web/g4", "web/g6"] {
            let _ = scene.agent.gray_ok(&["instance", "drain", id, "--deadline", "1s"]).unwrap();
        }
        for stream in &mut idle {
            // What is left of the answer, and then the end.
            let end = loop {
                match said(stream) {
                    Ok(rest) if !rest.is_empty() => {}
                    end => break end,
                }
            };
            let end = end.map_err(|e| e.kind());
            assert!(matches!(&end, Err(ErrorKind::ConnectionReset)), "requests read: {read}: {end:?}");
        }
        wait_for("gray to hear of it, too", PATIENCE, || Ok(at_gray() == 0)).unwrap();
        scene.finish();
    }
}

/// The agent, and all that it knew, is gone, as after a reboot, or the connection comes from another node: who still has it hears so.
#[test]
fn a1_a_connection_that_nobody_knows_any_more_is_reset() {
    let scene = Scene::packets(WorldSpec::default());
    let text = by_app(&scene.world);
    scene.apply(&text);
    let mut talks = [false, true].map(|v6| Talk::connect(&scene.world.clients[0].ns, vip(v6, 8080)).unwrap());
    for t in &mut talks {
        assert_eq!(t.get("app7", "a").unwrap().version(), "2.0");
    }
    let Scene { agent, stable, gray, world } = scene;
    agent.uninstall().unwrap();
    let agent = Agent::start_with(&world, AgentSpec::packets(&world)).unwrap();
    let scene = Scene { agent, stable, gray, world };
    scene.apply(&text);
    for (t, v6) in talks.iter_mut().zip([false, true]) {
        let began = Instant::now();
        let end = t.get("app7", "b").unwrap_err();
        let reset = end.chain().any(|e| {
            e.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == ErrorKind::ConnectionReset)
        });
        assert!(reset, "v6: {v6}: after {:?}: {end:#}", began.elapsed());
        let mut again = Talk::connect(&scene.world.clients[0].ns, vip(v6, 8080)).unwrap();
        assert_eq!(again.get("app7", "c").unwrap().version(), "2.0");
    }
    scene.finish();
}

/// An instance is made again with its address and another link address, and says nothing of it. The kernel asks for the address of
/// a neighbour only when something goes by its entry.
#[test]
fn h1_an_instance_with_another_link_address_is_found() {
    let world = World::build(WorldSpec::default()).unwrap();
    let (stable, gray) = servers(&world);
    for family in ["ipv4", "ipv6"] {
        for (key, value) in
            [("base_reachable_time_ms", "1000"), ("delay_first_probe_time", "1"), ("retrans_time_ms", "200")]
        {
            sysctl(&world.edge, &format!("net/{family}/neigh/b1/{key}"), value).unwrap();
        }
    }
    let agent = Agent::start_with(&world, AgentSpec::packets(&world)).unwrap();
    let scene = Scene { agent, stable, gray, world };
    scene.apply(&PolicyText::moved(&scene.world).sources("all", ["0.0.0.0/0", "fc00::/7"]).gray_when("all"));
    let mode = Mode::Http { per_connection: 1 };
    for v6 in [false, true] {
        let report = scene.load(v6, 8080, mode, 1);
        assert_eq!(report.of_version("2.0"), report.ok);
    }
    let b = &scene.world.backends[1];
    let find = "ip -o -4 addr show | grep 198.18 | grep -v ' lo ' | awk '{print $2}' | head -1";
    let name = run(b.ns.command("sh").args(["-c", find])).unwrap();
    let _ = run(b.ns.command("ip").args(["link", "set", "dev", name.trim(), "address", "02:00:00:00:be:ef"]))
        .unwrap();
    for v6 in [false, true] {
        let source = scene.world.clients[0].sources(v6)[..1].to_vec();
        wait_for("the new address to be found", Duration::from_secs(60), || {
            let place = scene.world.clients[0].place();
            Ok(scene.load_from(&place, v6, 8080, mode, source.clone(), 1).of_version("2.0") == 1)
        })
        .unwrap();
    }
    scene.finish();
}
