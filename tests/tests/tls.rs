//! TLS on the request path (A9): the server name of the ClientHello says where, and TLS itself passes untouched.

use std::{
    io::Write as _,
    net::{IpAddr, SocketAddr, TcpStream},
    process::Stdio,
    time::Duration,
};

use gray_tests::{
    client::{
        curl,
        talk::{Talk, get},
    },
    command::wait_for,
    place::Place,
    policy::PolicyText,
    scene::{Scene, vip},
    server::{Nginx, nginx::FILE_BYTES},
    world::{WorldSpec, vip4, vip6},
};

const PORT: u16 = 8443;

struct Stage {
    scene: Scene,
    _nginx: [Nginx; 2],
}

/// `shop.example` and `app7` go to 2.0.
fn stage(claims: &str, per_request: bool) -> Stage {
    let scene = Scene::packets(WorldSpec::default());
    let w = &scene.world;
    let text = PolicyText::moved(w).service("safe", PORT, false).claims(claims).identify("app, source");
    let text = if per_request { text.per_request() } else { text };
    scene.apply(&text.cohort("early", "apps: [shop.example, app7]").gray_when("early"));
    let start = |j: usize, name, version| {
        Nginx::start_tls(&w.backends[j].place(), w.temp(), name, version, PORT).unwrap()
    };
    let nginx = [start(0, "stable", "1.0"), start(1, "gray", "2.0")];
    Stage { scene, _nginx: nginx }
}

fn ip(v6: bool) -> IpAddr {
    if v6 { IpAddr::V6(vip6(0)) } else { IpAddr::V4(vip4(0)) }
}

/// What curl gets of `https://NAME/path`.
fn ask(place: &Place, v6: bool, name: &str, path: &str) -> curl::Answer {
    let at = SocketAddr::new(ip(v6), PORT).to_string();
    let at = at.trim_end_matches(&format!(":{PORT}"));
    let resolve = format!("{name}:{PORT}:{at}");
    curl::get(place, &format!("https://{name}:{PORT}{path}"), &["-k", "--resolve", &resolve]).unwrap()
}

fn version(place: &Place, v6: bool, name: &str) -> String {
    ask(place, v6, name, "/").json().unwrap()["version"].as_str().unwrap().to_owned()
}

/// `openssl s_client`: what the server answers to `said`.
fn s_client(place: &Place, v6: bool, args: &[&str], said: &str) -> String {
    let to = SocketAddr::new(ip(v6), PORT).to_string();
    let mut command = place.command("openssl");
    let _ = command.args(["s_client", "-quiet", "-connect", &to]).args(args);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(said.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    String::from_utf8_lossy(&out.stdout).into_owned()
}

#[test]
fn a9_the_server_name_says_where() {
    let Stage { scene, _nginx } = stage("app: { header: X-App-Id, sni: true }", false);
    let place = scene.world.clients[0].place();
    for v6 in [false, true] {
        assert_eq!(version(&place, v6, "shop.example"), "2.0", "v6: {v6}");
        assert_eq!(version(&place, v6, "other.example"), "1.0", "v6: {v6}");
        let said = "GET / HTTP/1.0\r\n\r\n";
        let upper = s_client(&place, v6, &["-servername", "SHOP.Example"], said);
        assert!(upper.contains("\"2.0\""), "any case, v6: {v6}: {upper}");
        let none = s_client(&place, v6, &["-noservername"], said);
        assert!(none.contains("\"1.0\""), "v6: {v6}: {none}");
        let file = ask(&place, v6, "shop.example", "/file");
        assert_eq!(file.body.len(), FILE_BYTES, "v6: {v6}");
        // What is not encrypted is read by its header, on the same service.
        let mut talk = Talk::connect(&scene.world.clients[0].ns, vip(v6, 8080)).unwrap();
        assert_eq!(talk.get("app7", "a").unwrap().version(), "2.0");
        let mut talk = Talk::connect(&scene.world.clients[0].ns, vip(v6, 8080)).unwrap();
        assert_eq!(talk.get("shop", "a").unwrap().version(), "1.0");
    }
    scene.finish();
}

/// A hello of more than a segment; and one whose name comes in the second, or is cut in two.
#[test]
fn a9_a_hello_of_several_segments() {
    let Stage { scene, _nginx } = stage("app: { sni: true }", false);
    let place = scene.world.clients[0].place();
    for v6 in [false, true] {
        let long: Vec<_> = (0..60).map(|i| format!("protocol-{i:03}-{}", "x".repeat(24))).collect();
        let args = ["-servername", "shop.example", "-alpn", &format!("{},http/1.1", long.join(","))];
        let answer = s_client(&place, v6, &args, "GET / HTTP/1.0\r\n\r\n");
        assert!(answer.contains("\"2.0\""), "v6: {v6}: {answer}");
        for (name, arm) in [("shop.example", "gray"), ("other.example", "stable")] {
            for cut in [None, Some(2000 + 75)] {
                let hello = hello(name, 2000);
                let mut s = scene.world.clients[0].ns.enter(|| TcpStream::connect(vip(v6, PORT))).unwrap();
                s.set_nodelay(true).unwrap();
                let (first, rest) = hello.split_at(cut.unwrap_or(hello.len()));
                s.write_all(first).unwrap();
                std::thread::sleep(Duration::from_millis(20));
                s.write_all(rest).unwrap();
                let client = s.local_addr().unwrap().to_string();
                wait_for("the decision", Duration::from_secs(10), || {
                    let lines = scene.agent.gray_ok(&["events", "--recent", "200", "-o", "json"])?;
                    Ok(lines.lines().any(|l| {
                        let e: serde_json::Value = serde_json::from_str(l).unwrap();
                        e["client"] == client.as_str() && e["arm"] == arm
                    }))
                })
                .unwrap_or_else(|e| panic!("{name}, cut at {cut:?}, v6 {v6}: {e:#}"));
            }
        }
    }
    scene.finish();
}

/// A ClientHello with `pad` bytes of padding before its server name.
fn hello(name: &str, pad: usize) -> Vec<u8> {
    let be16 = |n: usize| (n as u16).to_be_bytes();
    let mut list = vec![0];
    list.extend(be16(name.len()));
    list.extend(name.as_bytes());
    let mut names = be16(list.len()).to_vec();
    names.extend(list);
    let mut extensions = Vec::new();
    for (kind, body) in [(21, vec![0; pad]), (0, names)] {
        extensions.extend(be16(kind));
        extensions.extend(be16(body.len()));
        extensions.extend(body);
    }
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 1, 1, 0]);
    body.extend(be16(extensions.len()));
    body.extend(extensions);
    let mut message = vec![1, 0];
    message.extend(be16(body.len()));
    message.extend(body);
    let mut record = vec![22, 3, 1];
    record.extend(be16(message.len()));
    record.extend(message);
    record
}

/// The connection stays where its name sent it, whatever is said on it.
#[test]
fn a9_per_request_a_tls_connection_stays() {
    let Stage { scene, _nginx } = stage("app: { header: X-App-Id, sni: true }", true);
    let place = scene.world.clients[0].place();
    for v6 in [false, true] {
        let said = "GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        for (name, want) in [("shop.example", "2.0"), ("other.example", "1.0")] {
            let answer = s_client(&place, v6, &["-servername", name], said);
            assert_eq!(answer.matches(&format!("\"{want}\"")).count(), 2, "{name}, v6 {v6}: {answer}");
        }
        assert_eq!(ask(&place, v6, "shop.example", "/file").body.len(), FILE_BYTES, "v6: {v6}");
        // Plain ones go where each request says.
        let mut talk = Talk::connect(&scene.world.clients[0].ns, vip(v6, 8080)).unwrap();
        for (app, want) in [("app7", "2.0"), ("app8", "1.0"), ("app7", "2.0")] {
            talk.send(get(app, "n").as_bytes()).unwrap();
            assert_eq!(talk.answer().unwrap().version(), want, "{app}, v6 {v6}");
        }
    }
    scene.finish();
}

/// The protocol that a client likes best is a claim, too.
#[test]
fn a9_the_first_protocol_says_where() {
    let Stage { scene, _nginx } = stage("app: { alpn: true }", false);
    scene.apply(
        &PolicyText::moved(&scene.world)
            .service("safe", PORT, false)
            .claims("app: { alpn: true }")
            .identify("app, source")
            .cohort("new", "apps: [gray/1]")
            .gray_when("new"),
    );
    let place = scene.world.clients[0].place();
    let said = "GET / HTTP/1.0\r\n\r\n";
    for v6 in [false, true] {
        // nginx knows the second one.
        assert!(s_client(&place, v6, &["-alpn", "gray/1,http/1.1"], said).contains("\"2.0\""), "v6: {v6}");
        assert!(s_client(&place, v6, &["-alpn", "http/1.1,gray/1"], said).contains("\"1.0\""), "v6: {v6}");
    }
    scene.finish();
}
