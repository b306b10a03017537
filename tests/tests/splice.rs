//! What programs cannot read, the splice listener reads (A1, C8; ADR 24).

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use gray_tests::{
    agent::{Agent, AgentSpec},
    client::{LoadSpec, Mode, curl},
    command::wait_for,
    hostile::{Harm, Hostile, HostileSpec, Side},
    policy::PolicyText,
    scene::{Scene, servers, vip},
    server::{Nginx, Site},
    splice::{Listener, said},
    world::{World, WorldSpec},
};

const H2: u16 = 8083;

/// `apps: [app7, app9]` go to 2.0.
fn stage(more: impl Fn(PolicyText) -> PolicyText) -> Scene {
    let world = World::build(WorldSpec::default()).unwrap();
    let (stable, gray) = servers(&world);
    let mut spec = AgentSpec::packets(&world);
    spec.args.push("--splice".into());
    let agent = Agent::start_with(&world, spec).unwrap();
    let scene = Scene { agent, stable, gray, world };
    let text = PolicyText::moved(&scene.world).claims("app: { header: X-App-Id }").identify("app, source");
    scene
        .apply(&more(text.service("h2", H2, false)).cohort("early", "apps: [app7, app9]").gray_when("early"));
    scene
}

fn listens(scene: &Scene, name: &str) -> Listener {
    Listener::start(&scene.agent, &scene.world.edge_place(), name).unwrap()
}

fn counted(agent: &Agent, reason: &str) -> u64 {
    let status = agent.gray_json(&["status"]).unwrap();
    let counters = status["counters"].as_array().unwrap();
    counters.iter().find(|c| c["reason"] == reason).map_or(0, |c| c["count"].as_u64().unwrap())
}

fn asked(scene: &Scene, to: SocketAddr, args: &[&str]) -> String {
    let answer = curl::get(&scene.world.clients[0].place(), &format!("http://{to}/"), args).unwrap();
    answer.json().unwrap()["version"].as_str().unwrap().to_owned()
}

/// A header line in front of others, longer than what programs hold.
fn long() -> String {
    format!("X-Pad: {}", "p".repeat(6000))
}

/// Says these parts, a while apart, and returns all that is answered.
fn in_pieces(scene: &Scene, v6: bool, parts: &[&str]) -> std::io::Result<String> {
    scene.world.clients[0].ns.enter(|| {
        let mut s = TcpStream::connect(vip(v6, 8080))?;
        s.set_read_timeout(Some(Duration::from_secs(30)))?;
        for part in parts {
            s.write_all(part.as_bytes())?;
            std::thread::sleep(Duration::from_millis(400));
        }
        let mut answer = String::new();
        let _ = s.read_to_string(&mut answer)?;
        Ok(answer)
    })
}

/// nginx on both instances, HTTP/2 only.
fn h2_servers(scene: &Scene) -> [Nginx; 2] {
    let w = &scene.world;
    [("stable", "1.0", 0), ("gray", "2.0", 1)].map(|(name, version, j): (_, _, usize)| {
        let site = Site { name, version, port: H2, tls: false, h2: true, resets: 0 };
        Nginx::serving(&w.backends[j].place(), w.temp(), &[site]).unwrap()
    })
}

/// A client that says nothing of its request before the server's settings came, as gRPC's do.
fn patient(scene: &Scene, v6: bool, app: &str) -> String {
    fn frame(kind: u8, flags: u8, stream: u8, body: &[u8]) -> Vec<u8> {
        [&(body.len() as u32).to_be_bytes()[1..], &[kind, flags, 0, 0, 0, stream], body].concat()
    }
    fn literal(name: &str, value: &str) -> Vec<u8> {
        [&[0, name.len() as u8], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat()
    }
    scene.world.clients[0].ns.enter(|| {
        let mut s = TcpStream::connect(vip(v6, H2)).unwrap();
        s.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        s.write_all(&[&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(4, 0, 0, &[])].concat()).unwrap();
        let (mut said, mut answer) = (false, Vec::new());
        loop {
            let mut head = [0; 9];
            s.read_exact(&mut head).unwrap();
            let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let mut body = vec![0; len];
            s.read_exact(&mut body).unwrap();
            match (head[3], head[4] & 1) {
                (4, 0) => {
                    s.write_all(&frame(4, 1, 0, &[])).unwrap();
                    if !said {
                        let fields =
                            [&[0x82, 0x86, 0x84][..], &literal(":authority", "x"), &literal("x-app-id", app)];
                        s.write_all(&frame(1, 5, 1, &fields.concat())).unwrap();
                        said = true;
                    }
                }
                (0, end) => {
                    answer.extend(body);
                    if end == 1 {
                        return String::from_utf8(answer).unwrap();
                    }
                }
                (7 | 3, _) => panic!("the connection was ended: {body:?}"),
                _ => {}
            }
        }
    })
}

/// F15: programs see nothing of these connections, and their breaker opens all the same: no client waits for gray any more. While it is
/// open nobody is sent there; afterwards all are, and open it anew.
#[test]
fn f15_a_breaker_opens_by_what_the_listener_sees() {
    let scene = stage(|t| t.each("breaker: { failures: 4, window: 60s, open: 2s }"));
    let _nginx = h2_servers(&scene);
    let listener = listens(&scene, "one");
    let ask = |scene: &Scene| asked(scene, vip(false, 8080), &["-H", &long(), "-H", "X-App-Id: app7"]);
    let opens = |scene: &Scene, service: &str| {
        let status = scene.agent.gray_json(&["status"]).unwrap();
        let all = status["breakers"].as_array().unwrap();
        let b = all.iter().find(|b| b["service"] == service).unwrap();
        (b["opens"].as_u64().unwrap(), b["failures"].as_u64().unwrap())
    };
    assert_eq!(ask(&scene), "2.0");
    scene.gray.kill9().unwrap();
    // Each tries gray twice before stable has it.
    assert_eq!((ask(&scene), ask(&scene)), ("1.0".into(), "1.0".into()));
    assert_eq!(opens(&scene, "web"), (1, 4));
    assert_eq!(ask(&scene), "1.0");
    assert_eq!(opens(&scene, "web"), (1, 4), "nobody was sent to gray");
    wait_for("all to be sent there again", Duration::from_secs(20), || {
        assert_eq!(ask(&scene), "1.0");
        Ok(opens(&scene, "web").0 == 2)
    })
    .unwrap();
    assert_eq!(opens(&scene, "h2"), (0, 0));
    drop(listener);
    scene.finish();
}

#[test]
fn a1_http2_is_read() {
    let scene = stage(|t| t);
    let nginx = h2_servers(&scene);
    let listener = listens(&scene, "one");
    for v6 in [false, true] {
        for (app, want) in [("app7", "2.0"), ("app8", "1.0"), ("app9", "2.0")] {
            let header = format!("X-App-Id: {app}");
            let args = ["--http2-prior-knowledge", "-H", &header];
            assert_eq!(asked(&scene, vip(v6, H2), &args), want, "{app}, v6: {v6}");
            let answer = patient(&scene, v6, app);
            assert!(answer.contains(&format!("\"version\":\"{want}\"")), "{app}, v6: {v6}: {answer}");
        }
    }
    assert_eq!(counted(&scene.agent, "request_listener"), 12, "{}", listener.log());
    // Counted as what it became: the listener tells the tables each second.
    wait_for("the listener's counts", Duration::from_secs(10), || {
        let status = scene.agent.gray_json(&["status"])?;
        let h2 =
            status["services"].as_array().unwrap().iter().find(|s| s["service"] == "h2").unwrap().clone();
        Ok(h2["gray"] == 8 && h2["stable"] == 4)
    })
    .unwrap();
    drop((listener, nginx));
    scene.finish();
}

/// HTTP/1 where the identity comes late: behind 6 kB, or behind a pause.
#[test]
fn a1_long_heads_and_slow_ones() {
    let scene = stage(|t| t);
    let listener = listens(&scene, "one");
    let pad = long();
    for v6 in [false, true] {
        for (app, want) in [("app7", "2.0"), ("app8", "1.0")] {
            let header = format!("X-App-Id: {app}");
            assert_eq!(asked(&scene, vip(v6, 8080), &["-H", &pad, "-H", &header]), want, "{app}, v6: {v6}");
            let end = format!("-App-Id: {app}\r\nConnection: close\r\n\r\n");
            let answer = in_pieces(&scene, v6, &["GET / HTTP/1.1\r\nHost: x\r\nX", &end]).unwrap();
            assert!(answer.contains(&format!("\"{want}\"")), "{app}, v6: {v6}: {answer}");
        }
        // What programs read is not handed over.
        let before = counted(&scene.agent, "request_listener");
        assert_eq!(asked(&scene, vip(v6, 8080), &["-H", "X-App-Id: app7"]), "2.0");
        assert_eq!(counted(&scene.agent, "request_listener"), before);
    }
    assert_eq!(counted(&scene.agent, "request_listener"), 8, "{}", listener.log());
    // It needs no agent.
    let mut scene = scene;
    scene.agent.kill9().unwrap();
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(asked(&scene, vip(false, 8080), &["-H", &pad, "-H", "X-App-Id: app7"]), "2.0");
    drop(listener);
    scene.finish();
}

/// Many at once through a bad network: whole, and where they belong.
#[test]
fn a1_loss_and_reordering_change_nothing() {
    let scene = stage(|t| t);
    let listener = listens(&scene, "one");
    let w = &scene.world;
    let harm = Harm { lose: 100, reorder: 300, duplicate: 100, ..Harm::default() };
    let pairs = w.clients.iter().map(|c| &c.link).chain(w.backends.iter().map(|b| &b.link));
    let bad: Vec<Hostile> = pairs
        .zip(1..)
        .map(|(p, seed)| Hostile::on(p, Side::Near, HostileSpec::both(seed, harm)).unwrap())
        .collect();
    for (v6, app, want) in [(false, "app7", "2.0"), (true, "app7", "2.0"), (false, "app8", "1.0")] {
        let mut spec = LoadSpec::new(vip(v6, 8080), Mode::Http { per_connection: 3 }).count(300);
        spec.headers = vec![("X-Pad".into(), "p".repeat(6000)), ("X-App-Id".into(), app.into())];
        (spec.workers, spec.timeout_ms) = (16, 30_000);
        let report = spec.run(&w.clients[0].place()).unwrap();
        report.assert_all_ok();
        assert_eq!(report.of_version(want), 300, "{app}, v6: {v6}: {:?}", report.by_server);
    }
    assert!(counted(&scene.agent, "request_listener") >= 300);
    drop((bad, listener));
    scene.finish();
}

/// Where nobody listens, what was read is decided on: before one is there, when it is killed, when it hangs, when it was stopped.
#[test]
fn a1_h2_without_the_listener_nobody_waits_for_it() {
    let scene = stage(|t| t);
    let pad = long();
    let late = |app: &str| asked(&scene, vip(false, 8080), &["-H", &pad, "-H", &format!("X-App-Id: {app}")]);
    assert_eq!((said(&scene.agent).unwrap(), late("app7").as_str()), (vec![], "1.0"));
    assert_eq!(counted(&scene.agent, "request_alone"), 1);
    let mut listener = listens(&scene, "killed");
    assert_eq!(late("app7"), "2.0");
    listener.kill9().unwrap();
    // Its place is still said for some seconds, and nobody is there.
    let mut spec = LoadSpec::new(vip(false, 8080), Mode::Http { per_connection: 1 }).count(100);
    spec.headers = vec![("X-Pad".into(), "p".repeat(6000)), ("X-App-Id".into(), "app7".into())];
    // A segment that is lost on a slow machine is sent again, ever later.
    spec.timeout_ms = 20_000;
    let report = spec.run(&scene.world.clients[0].place()).unwrap();
    let status = || scene.agent.gray_ok(&["status"]).unwrap();
    assert_eq!((report.failed(), report.of_version("1.0")), (0, 100), "{:?}\n{}", report.details, status());
    let mut listener = listens(&scene, "stopped");
    assert_eq!(late("app9"), "2.0");
    listener.stop().unwrap();
    assert!(said(&scene.agent).unwrap().is_empty(), "it takes back what it said");
    assert_eq!(late("app9"), "1.0");
    scene.finish();
}

/// A4: who could not be read is refused where nobody unknown is served.
#[test]
fn a4_who_is_denied_is_denied_by_both() {
    let scene = stage(|t| t.identify("app").each("on-missing-identity: deny"));
    let ask = |parts: &[&str]| in_pieces(&scene, false, parts);
    let pad = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", long());
    let end = "Connection: close\r\n\r\n";
    let named = format!("X-App-Id: app7\r\n{end}");
    assert!(ask(&[&pad, &named]).is_err(), "nobody could read it");
    let listener = listens(&scene, "one");
    let answer = ask(&[&pad, &named]).unwrap();
    assert!(answer.contains("\"2.0\""), "{answer}");
    assert!(ask(&[&pad, end]).is_err(), "it names nobody");
    // One was served, one refused, both read; told each second.
    wait_for("the listener's counts", Duration::from_secs(10), || {
        let metrics = scene.agent.metrics()?;
        let is = |what: &str| {
            metrics.contains(&format!("gray_spliced_total{{service=\"web\",what=\"{what}\"}} 1\n"))
        };
        Ok(is("gray") && is("refused"))
    })
    .unwrap();
    drop(listener);
    scene.finish();
}

/// C8: a value for each service, as JSON.
#[test]
fn c8_c9_a_value_of_each_service() {
    let scene = stage(|t| t);
    let text = PolicyText::moved(&scene.world).claims("app: { header: X-App-Id }").identify("app, source");
    let text = text.cohort("early", "apps: [app7]").gray_when("early").to_string();
    let parts: Vec<&str> = text.split("  dns:\n").collect();
    let read = "    route-headers: { read: [version], without-route: true }\n    instances:";
    let _ = scene.agent.apply(&(parts[0].replace("    instances:", read) + "  dns:\n" + parts[1])).unwrap();
    let listener = listens(&scene, "one");
    for v6 in [false, true] {
        for (value, want) in [
            ("2.0", "2.0"),
            ("{\"web\":\"2.0\"}", "2.0"),
            ("{\"echo\":\"2.0\",\"web\":\"1.0\"}", "1.0"),
            ("{\"echo\":\"2.0\"}", "1.0"),
            ("{\"web\":2}", "1.0"),
        ] {
            let header = format!("N-D-Version: {value}");
            assert_eq!(asked(&scene, vip(v6, 8080), &["-H", &header]), want, "{value}, v6: {v6}");
        }
    }
    assert_eq!(counted(&scene.agent, "request_listener"), 8);
    drop(listener);
    scene.finish();
}

/// What `web` answers with: app7 has a route to 2.0, app1 has none. Value of `over-routes` and of `without-route`, the app, what the header asks
/// for, and who serves. The same of each header: the two instances differ in all that they can ask for.
const ASKS: [(bool, bool, &str, &str, &str); 20] = [
    (false, false, "app7", "1.0", "2.0"),
    (false, false, "app7", "2.0", "2.0"),
    (false, false, "app7", "nobody", "2.0"),
    (false, false, "app1", "1.0", "1.0"),
    (false, false, "app1", "2.0", "1.0"),
    (false, true, "app7", "1.0", "2.0"),
    (false, true, "app7", "2.0", "2.0"),
    (false, true, "app1", "1.0", "1.0"),
    (false, true, "app1", "2.0", "2.0"),
    (false, true, "app1", "nobody", "1.0"),
    (true, false, "app7", "1.0", "1.0"),
    (true, false, "app7", "2.0", "2.0"),
    (true, false, "app7", "nobody", "2.0"),
    (true, false, "app1", "1.0", "1.0"),
    (true, false, "app1", "2.0", "1.0"),
    (true, true, "app7", "1.0", "1.0"),
    (true, true, "app7", "2.0", "2.0"),
    (true, true, "app1", "1.0", "1.0"),
    (true, true, "app1", "2.0", "2.0"),
    (true, true, "app1", "nobody", "1.0"),
];

/// Headers, and how each asks for 1.0 and for 2.0.
const HEADERS: [(&str, [&str; 2]); 3] =
    [("N-D-Version", ["1.0", "2.0"]), ("N-D-Region", ["east", "west"]), ("N-D-Env", ["live", "test"])];

/// C8, C9: one table through both: a plain value, which programs read, and the same as JSON, which the listener reads.
#[test]
fn c8_c9_plain_and_json_are_answered_the_same() {
    let scene = stage(|t| t);
    let text = PolicyText::moved(&scene.world).claims("app: { header: X-App-Id }").identify("app, source");
    let text = text.cohort("early", "apps: [app7]").gray_when("early").to_string();
    let text = text
        .replace("version: \"1.0\", id", "version: \"1.0\", region: east, env: live, id")
        .replace("version: \"2.0\", id", "version: \"2.0\", region: west, env: test, id");
    // UDP is not read, and `dns` comes last.
    let parts: Vec<&str> = text.split("  dns:\n").collect();
    let listener = listens(&scene, "one");
    let mut in_force = None;
    for (over, without, app, wanted, served) in ASKS {
        if in_force.replace((over, without)) != Some((over, without)) {
            let read = format!(
                "    route-headers: {{ read: [version, region, env], over-routes: {over}, without-route: {without} }}\n    instances:"
            );
            let _ = scene
                .agent
                .apply(&(parts[0].replace("    instances:", &read) + "  dns:\n" + parts[1]))
                .unwrap();
        }
        for (header, values) in HEADERS {
            let value = match wanted {
                "1.0" => values[0],
                "2.0" => values[1],
                other => other,
            };
            let id = format!("X-App-Id: {app}");
            let ask = |v6: bool, value: &str| {
                let asks = format!("{header}: {value}");
                asked(&scene, vip(v6, 8080), &["-H", &id, "-H", &asks])
            };
            let before = counted(&scene.agent, "request_listener");
            let v6 = header == "N-D-Region";
            let what = format!("{header} {value}, {app}, over {over}, without {without}");
            assert_eq!(ask(v6, value), served, "plain: {what}");
            assert_eq!(counted(&scene.agent, "request_listener"), before, "plain: {what}");
            assert_eq!(ask(v6, &format!("{{\"web\":\"{value}\"}}")), served, "JSON: {what}");
            assert_eq!(counted(&scene.agent, "request_listener"), before + 1, "JSON: {what}");
        }
    }
    drop(listener);
    scene.finish();
}

/// What programs never read: header, how it asks for 1.0 and for 2.0. The same answers as [`ASKS`] has, plain and as JSON, both by the listener.
fn more_headers(scene: &Scene, v6: bool) -> [(&'static str, [String; 2]); 5] {
    let at = |b: usize| {
        let b = &scene.world.backends[b];
        if v6 { format!("[{}]:8080", b.v6) } else { format!("{}:8080", b.v4) }
    };
    let ids = |arm: &str| format!("{arm}4;{arm}6");
    [
        ("N-D-Address", [at(0), at(1)]),
        ("N-D-Version-Weight", ["1.0=100;2.0=0".into(), "2.0=7".into()]),
        ("N-D-Region-Weight", ["east=1".into(), "west=50;east=0".into()]),
        ("N-D-Id-Blacklist", [ids("g"), ids("s")]),
        ("N-D-Address-Blacklist", [at(1), at(0)]),
    ]
}

/// C8, C9: weights, addresses and blacklists, by the same table, at two listeners with other switches; and without a listener they are
/// as if they were not there.
#[test]
fn c8_c9_weights_addresses_and_blacklists_by_the_same_table() {
    let scene = stage(|t| t);
    let text = PolicyText::moved(&scene.world).claims("app: { header: X-App-Id }").identify("app, source");
    let text = text.cohort("early", "apps: [app7]").gray_when("early").to_string();
    let text = text
        .replace("version: \"1.0\", id", "version: \"1.0\", region: east, env: live, id")
        .replace("version: \"2.0\", id", "version: \"2.0\", region: west, env: test, id");
    let parts: Vec<&str> = text.split("  dns:\n").collect();
    let read =
        "version, region, env, address, version-weight, region-weight, id-blacklist, address-blacklist";
    let mut listener = Some(listens(&scene, "one"));
    let mut in_force = None;
    for (over, without, app, wanted, served) in ASKS {
        // IPv4's listener has the switches of the table, IPv6's the others.
        if in_force.replace((over, without)) != Some((over, without)) {
            let read = format!(
                "    route-headers: {{ read: [{read}], over-routes: {}, without-route: {}, listeners: [{{ address: \"{}\", over-routes: {over}, without-route: {without} }}] }}\n    instances:",
                !over,
                !without,
                vip(false, 8080)
            );
            let service = |text: &str| {
                // `echo` listens elsewhere.
                let (web, rest) = text.split_once("  echo:\n").unwrap();
                web.replace("    instances:", &read) + "  echo:\n" + rest
            };
            let _ = scene.agent.apply(&(service(parts[0]) + "  dns:\n" + parts[1])).unwrap();
        }
        for (header, values) in more_headers(&scene, false) {
            let value = match wanted {
                "1.0" => &values[0],
                "2.0" => &values[1],
                other => other,
            };
            let id = format!("X-App-Id: {app}");
            let ask = |value: &str| {
                let asks = format!("{header}: {value}");
                asked(&scene, vip(false, 8080), &["-H", &id, "-H", &asks])
            };
            let before = counted(&scene.agent, "request_listener");
            let what = format!("{header} {value}, {app}, over {over}, without {without}");
            assert_eq!(ask(value), served, "plain: {what}");
            assert_eq!(ask(&format!("{{\"web\":\"{value}\"}}")), served, "JSON: {what}");
            assert_eq!(counted(&scene.agent, "request_listener"), before + 2, "{what}");
        }
    }
    // The last switches: IPv4's both on, IPv6's both off.
    let [(address, [_, gray]), ..] = more_headers(&scene, true);
    let ask = |v6: bool, value: &str| {
        let asks = format!("{address}: {value}");
        asked(&scene, vip(v6, 8080), &["-H", "X-App-Id: app1", "-H", &asks])
    };
    assert_eq!(ask(true, &gray), "1.0", "ignored at the other listener");
    let [(_, [_, gray]), ..] = more_headers(&scene, false);
    assert_eq!(ask(false, &gray), "2.0");
    drop(listener.take());
    wait_for("nobody to listen", Duration::from_secs(20), || Ok(ask(false, &gray) == "1.0")).unwrap();
    scene.finish();
}

/// A10: the source that a load balancer says, and a TLV, each with the header left in front of what the instance gets.
#[test]
fn a10_a_proxy_header_says_who_the_client_is() {
    let scene = stage(|t| t);
    let listener = listens(&scene, "one");
    let client = &scene.world.clients[0];
    let policy = |trusted: std::net::IpAddr| {
        let text = PolicyText::moved(&scene.world)
            .claims("app: { header: X-App-Id, proxy-tlv: 0xE0 }")
            .identify("app, source")
            .cohort("early", "apps: [app7]")
            .cohort("office", "sources: [\"203.0.113.7\"]")
            .gray_when("{ any: [early, office] }")
            .to_string();
        let read = format!("    trusted-proxies: [\"{trusted}\"]\n    instances:");
        let (web, rest) = text.split_once("  echo:\n").unwrap();
        let (echo, dns) = rest.split_once("  dns:\n").unwrap();
        let echo = echo.replace("    instances:", &read);
        web.replace("    instances:", &read) + "  echo:\n" + &echo + "  dns:\n" + dns
    };
    let header = |last: u8, tlv: &[u8]| {
        let mut body = vec![203, 0, 113, last, 198, 18, 0, 1, 0x9c, 0x40, 0x1f, 0x90];
        if !tlv.is_empty() {
            body.extend([0xe0, 0, tlv.len() as u8]);
            body.extend(tlv);
        }
        [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0", &[body.len() as u8][..], &body].concat()
    };
    let decided = || {
        let metrics = scene.agent.metrics().unwrap();
        ["gray", "stable"].map(|what| {
            let name = format!("gray_spliced_total{{service=\"web\",what=\"{what}\"}} ");
            let line = metrics.lines().find_map(|l| l.strip_prefix(&*name));
            line.map_or(0, |n| n.parse::<u64>().unwrap())
        })
    };
    let say = |begin: &[u8]| {
        client
            .ns
            .enter(|| -> std::io::Result<()> {
                let mut s = TcpStream::connect(vip(false, 8080))?;
                s.set_read_timeout(Some(Duration::from_secs(30)))?;
                s.write_all(begin)?;
                s.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
                // What the server makes of the header is its own matter.
                let _ = s.read(&mut [0; 512]);
                Ok(())
            })
            .unwrap();
    };
    for (name, trusted, begin, want) in [
        ("the office", client.v4[0].into(), header(7, b""), [1, 0]),
        ("somebody else", client.v4[0].into(), header(8, b""), [0, 1]),
        ("a TLV", client.v4[0].into(), header(8, b"app7"), [1, 0]),
        ("nobody trusts it", std::net::IpAddr::from([198, 51, 100, 1]), header(7, b"app7"), [0, 1]),
    ] {
        let _ = scene.agent.apply(&policy(trusted)).unwrap();
        let before = decided();
        say(&begin);
        wait_for(name, Duration::from_secs(20), || {
            Ok(decided() == [before[0] + want[0], before[1] + want[1]])
        })
        .unwrap();
    }
    drop(listener);
    scene.finish();
}

/// C12, F8: what an instance has through the listener ends with the rest of it.
#[test]
fn c12_f8_what_is_drained_is_closed_there_too() {
    let scene = stage(|t| t);
    let listener = listens(&scene, "one");
    let load = |app: &str| {
        let mut spec = LoadSpec::new(vip(false, 8080), Mode::Http { per_connection: 0 });
        (spec.workers, spec.pause_ms) = (4, 50);
        spec.headers = vec![("X-Pad".into(), "p".repeat(6000)), ("X-App-Id".into(), app.into())];
        let mut load = spec.start(&scene.world.clients[0].place()).unwrap();
        let _ = load.wait_requests(20, Duration::from_secs(30)).unwrap();
        load
    };
    let (mut gray, stable) = (load("app7"), load("app8"));
    let instances = scene.agent.gray_json(&["get", "instances"]).unwrap();
    let drained = instances.as_array().unwrap().iter().find(|i| {
        let v4 = !i["address"].as_str().unwrap().starts_with('[');
        i["service"] == "web" && i["meta"]["version"] == "2.0" && v4
    });
    let id = format!("web/{}", drained.unwrap_or_else(|| panic!("{instances}"))["id"].as_str().unwrap());
    assert_eq!(drained.unwrap()["flows"], 4, "{instances}");
    let before = gray.snapshot().unwrap();
    assert_eq!((before.failed(), before.opened), (0, 4), "{:?}", before.details);
    let _ = scene.agent.gray_ok(&["instance", "drain", &id, "--deadline", "1s"]).unwrap();
    wait_for("the gray connections to be made again", Duration::from_secs(30), || {
        Ok(gray.snapshot()?.opened >= 8)
    })
    .unwrap();
    // No other gray one: stable serves from now on.
    let report = gray.stop().unwrap();
    assert!(report.of_version("1.0") > 0, "{:?}", report.by_server);
    let report = stable.stop().unwrap();
    report.assert_all_ok();
    assert_eq!((report.opened, report.of_version("1.0")), (4, report.ok));
    drop(listener);
    scene.finish();
}

/// A newer one takes over; the older one lives as long as its connections.
#[test]
fn h2_one_after_the_other() {
    let scene = stage(|t| t);
    let first = listens(&scene, "first");
    let mut spec = LoadSpec::new(vip(false, 8080), Mode::Http { per_connection: 0 });
    (spec.workers, spec.pause_ms) = (8, 50);
    spec.headers = vec![("X-Pad".into(), "p".repeat(6000)), ("X-App-Id".into(), "app7".into())];
    let mut load = spec.start(&scene.world.clients[0].place()).unwrap();
    let _ = load.wait_requests(40, Duration::from_secs(30)).unwrap();
    let handed = counted(&scene.agent, "request_listener");
    assert!(handed >= 8, "{handed}");
    let second = listens(&scene, "second");
    let report = load.snapshot().unwrap();
    let _ = load.wait_requests(report.ok + 80, Duration::from_secs(30)).unwrap();
    assert!(first.pid().is_some(), "it has connections: {}", first.log());
    assert_eq!(asked(&scene, vip(false, 8080), &["-H", &long(), "-H", "X-App-Id: app9"]), "2.0");
    let report = load.stop().unwrap();
    report.assert_all_ok();
    assert_eq!(report.of_version("2.0"), report.ok);
    wait_for("the first one to end", Duration::from_secs(20), || Ok(first.log().contains("Followed")))
        .unwrap();
    drop((first, second));
    scene.finish();
}
