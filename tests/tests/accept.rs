//! C13: instances that take connections from some clients only: who is sent there by a route, and who dials them by their own address.

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use gray_tests::{
    client::curl,
    policy::PolicyText,
    scene::{Scene, vip},
    world::WorldSpec,
};
use socket2::{Domain, Protocol, Socket, Type};

fn connect(to: SocketAddr, from: IpAddr) -> std::io::Result<TcpStream> {
    let s = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    s.bind(&SocketAddr::new(from, 0).into())?;
    s.connect_timeout(&to.into(), Duration::from_secs(10))?;
    Ok(s.into())
}

fn echoes(to: SocketAddr, from: IpAddr) -> bool {
    let s = UdpSocket::bind((from, 0)).unwrap();
    s.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let _ = s.send_to(b"x", to).unwrap();
    match s.recv(&mut [0; 64]) {
        Ok(_) => true,
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => false,
        Err(e) => panic!("{e}"),
    }
}

#[test]
fn c13_a_gray_only_instance_refuses_a_stable_caller() {
    let scene = Scene::start(WorldSpec::default());
    let w = &scene.world;
    let client = &w.clients[0].ns;
    let gray = |v6: bool, port| {
        let b = &w.backends[1];
        SocketAddr::new(if v6 { b.v6.into() } else { b.v4.into() }, port)
    };
    let (v4, v6) = (w.clients[0].sources(false), w.clients[0].sources(true));
    // Older than the policy: it stays.
    let older = client.enter(|| connect(gray(false, 9000), v4[1])).unwrap();
    let text = PolicyText::moved(w)
        .each("accept: [ { instances: { version: \"2.0\" }, from: { any: [early, { lane: blue }] } } ]");
    let text = text.sources("early", [v4[0], v6[0]]).lane("blue", "web: { version: \"2.0\" }");
    scene.apply(&text.route("to: { version: \"2.0\" }"));
    for (is_v6, from) in [(false, &v4), (true, &v6)] {
        // By its own address, and by the service.
        for (tcp, udp) in [(gray(is_v6, 9000), gray(is_v6, 9001)), (vip(is_v6, 9000), vip(is_v6, 9001))] {
            client.enter(|| {
                let before = scene.agent.counted("isolated");
                drop(connect(tcp, from[0]).unwrap());
                assert!(echoes(udp, from[0]), "{udp}");
                assert_eq!(scene.agent.counted("isolated"), before, "{tcp}");
                assert_eq!(connect(tcp, from[1]).unwrap_err().kind(), ErrorKind::ConnectionRefused, "{tcp}");
                assert!(!echoes(udp, from[1]), "{udp}");
                assert_eq!(scene.agent.counted("isolated"), before + 2, "{tcp}");
            });
        }
    }
    let peer = older.peer_addr().unwrap();
    {
        use std::io::{Read as _, Write as _};
        let mut s = older;
        s.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        s.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let _ = s.read(&mut [0; 1]).unwrap_or_else(|e| panic!("{peer}: an older connection: {e}"));
    }

    // Local callers: of nobody's workload, and in the lane.
    let cgroup = w.callers.path().to_string_lossy().into_owned();
    for v6 in [false, true] {
        let ask = |to| curl::get(&w.caller(), &format!("http://{to}/"), &[]);
        for to in [gray(v6, 8080), vip(v6, 8080)] {
            let before = scene.agent.counted("isolated");
            let error = ask(to).unwrap_err();
            assert!(format!("{error:#}").contains("exit status: 7"), "{to}: {error:#}");
            assert_eq!(scene.agent.counted("isolated"), before + 1, "{to}");
        }
        let _ =
            scene.agent.gray_ok(&["workload", "set", "web", "--cgroup", &cgroup, "--lane", "blue"]).unwrap();
        for to in [gray(v6, 8080), vip(v6, 8080)] {
            assert_eq!(ask(to).unwrap().status, 200, "{to}");
        }
        let _ = scene.agent.gray_ok(&["workload", "remove", "web"]).unwrap();
    }
    let source = v4[1].to_string();
    let why = scene.agent.gray_json(&["explain", "--service", "echo", "--src", &source]).unwrap();
    assert_eq!(why["reason"], "isolated", "{why}");

    // Taken off: everybody is served again.
    scene.apply(&PolicyText::moved(w).route("to: { version: \"2.0\" }"));
    drop(client.enter(|| connect(gray(false, 9000), v4[1])).unwrap());
    scene.finish();
}
