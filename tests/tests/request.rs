//! The request path (A1): who a client is, its first request says.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, TcpStream},
    time::Duration,
};

use gray_tests::{
    agent::{Agent, AgentSpec},
    client::{LoadSpec, Mode, curl},
    hostile::{Harm, Hostile, HostileSpec, Side},
    policy::PolicyText,
    residue,
    scene::{Scene, servers, vip},
    server::Nginx,
    world::{World, WorldSpec, vip4, vip6},
};

const FILES: u16 = 8081;

/// `apps: [app7, app9]` go to 2.0.
fn stage() -> Scene {
    stage_with(|text| text)
}

fn stage_with(more: impl Fn(PolicyText) -> PolicyText) -> Scene {
    let scene = Scene::packets(WorldSpec::default());
    let text = PolicyText::moved(&scene.world).claims("app: { header: X-App-Id }").identify("app, source");
    let text = more(text);
    scene.apply(&text.cohort("early", "apps: [app7, app9]").gray_when("early"));
    scene
}

fn counted(agent: &Agent, reason: &str) -> u64 {
    let status = agent.gray_json(&["status"]).unwrap();
    let counters = status["counters"].as_array().unwrap();
    counters.iter().find(|c| c["reason"] == reason).map_or(0, |c| c["count"].as_u64().unwrap())
}

fn version(scene: &Scene, v6: bool, args: &[&str]) -> String {
    let url = format!("http://{}/", vip(v6, 8080));
    let answer = curl::get(&scene.world.clients[0].place(), &url, args).unwrap();
    answer.json().unwrap()["version"].as_str().unwrap().to_owned()
}

#[test]
fn a1_a_header_says_where() {
    let scene = stage();
    for v6 in [false, true] {
        assert_eq!(version(&scene, v6, &["-H", "X-App-Id: app7"]), "2.0", "v6: {v6}");
        assert_eq!(version(&scene, v6, &["-H", "x-app-ID:app9"]), "2.0", "v6: {v6}");
        assert_eq!(version(&scene, v6, &["-H", "X-App-Id: app8"]), "1.0", "v6: {v6}");
        assert_eq!(version(&scene, v6, &[]), "1.0", "v6: {v6}");
    }
    scene.finish();
}

/// A8, B4: six claims in three kinds of places decide alike, and `explain` says beforehand what the kernel then does.
#[test]
fn a8_b4_claims_of_header_cookie_and_query() {
    let scene = Scene::packets(WorldSpec::default());
    let text = PolicyText::moved(&scene.world)
        .claims(
            "app: { header: X-App-Id }, user: { cookie: uid }, tenant: { header: X-Tenant-Id }, \
             device: { cookie: device }, platform: { query: os }, channel: { query: ch }",
        )
        .identify("user, app, source")
        .cohort("users", "users: [u7]")
        .cohort("tenants", "tenants: [t1, t2]")
        .cohort("devices", "devices: [d9]")
        .cohort("platforms", "platforms: [android]")
        .cohort("beta", "channels: [beta]")
        .cohort("half", "percent: 50, of: device")
        .cohort("split", "channels: [split]")
        .gray_when("{ any: [users, tenants, { all: [devices, platforms, beta] }] }")
        .gray_when("{ all: [half, split] }");
    scene.apply(&text);
    for v6 in [false, true] {
        for (path, headers, want) in [
            ("/", &[][..], "1.0"),
            ("/", &["Cookie: uid=u7"], "2.0"),
            ("/?uid=u7", &["X-User-Id: u7", "Cookie: device=no"], "1.0"),
            ("/", &["x-tenant-id:t2"], "2.0"),
            ("/", &["X-Tenant-Id: t3", "X-Tenant-Id: t1"], "1.0"),
            ("/a?x=1&os=android&ch=beta", &["Cookie: a=b; device=d9"], "2.0"),
            ("/a?os=ios&ch=beta", &["Cookie: a=b; device=d-other"], "1.0"),
            ("/a?OS=android&ch=beta", &["Cookie: a=b; device=d-other"], "1.0"),
        ] {
            assert_eq!(agreed(&scene, v6, path, headers), want, "{path} {headers:?}, v6: {v6}");
        }
        // A percentage of a claim that is no identity.
        let of_devices: Vec<String> = (0..24)
            .map(|n| agreed(&scene, v6, "/?ch=split", &[&format!("Cookie: device=d{n}-{n}")]))
            .collect();
        let gray = of_devices.iter().filter(|v| *v == "2.0").count();
        assert!((2..=22).contains(&gray), "{gray} of 24 devices, v6: {v6}");
    }
    scene.finish();
}

/// B3, B4, B6: conditions on claims, last digits and wildcards, alone and joined.
#[test]
fn b3_b4_conditions_and_tails() {
    let scene = Scene::packets(WorldSpec::default());
    let text = PolicyText::moved(&scene.world)
        .claims("user: { header: X-User-Id }, platform: { query: os }, channel: { cookie: ch }")
        .identify("user, source")
        .cohort("sevens", "tail: { of: user, digits: [\"7\", \"42\"] }")
        .cohort("staff", "users: [\"staff-*\"]")
        .gray_when("{ all: [sevens, { platform: [android, ios] }] }")
        .gray_when("{ any: [staff, { channel: [beta, \"nightly*\"] }] }")
        .gray_when("{ all: [{ platform: web }, { not: { any: [sevens, { user: root }] } }] }");
    scene.apply(&text);
    for v6 in [false, true] {
        for (path, headers, want) in [
            ("/?os=android", &["X-User-Id: u47"][..], "2.0"),
            ("/?os=ios", &["X-User-Id: 0042"], "2.0"),
            ("/?os=ios", &["X-User-Id: 0043"], "1.0"),
            ("/?os=ios", &["X-User-Id: u7x"], "1.0"),
            ("/?os=android", &[], "1.0"),
            ("/", &["X-User-Id: u7"], "1.0"),
            ("/", &["Cookie: x=y; ch=beta"], "2.0"),
            ("/", &["Cookie: ch=betas"], "1.0"),
            ("/", &["Cookie: ch=nightly-7"], "2.0"),
            ("/", &["X-User-Id: staff-anna"], "2.0"),
            ("/", &["X-User-Id: staff"], "1.0"),
            ("/?os=web", &["X-User-Id: u1"], "2.0"),
            ("/?os=web", &[], "2.0"),
            ("/?os=web", &["X-User-Id: u42"], "1.0"),
            ("/?os=web", &["X-User-Id: root"], "1.0"),
            // Over 32 bytes, its end counts all the same.
            ("/?os=ios", &["X-User-Id: 0123456789012345678901234567890123456742"], "2.0"),
        ] {
            assert_eq!(agreed(&scene, v6, path, headers), want, "{path} {headers:?}, v6: {v6}");
        }
    }
    // A list of another condition, at one instant.
    scene.apply(&text.gray_when("{ platform: tv }"));
    assert_eq!(agreed(&scene, false, "/?os=tv", &[]), "2.0");
    scene.finish();
}

/// The version that a request gets. `explain`, asked before, names it, too.
fn agreed(scene: &Scene, v6: bool, path: &str, headers: &[&str]) -> String {
    let source = scene.world.clients[0].sources(v6)[0].to_string();
    let mut ask = vec!["explain", "--service", "web", "--src", &source, "--path", path];
    let mut curl = vec!["--interface", &source];
    for h in headers {
        ask.extend(["-H", h]);
        curl.extend(["-H", h]);
    }
    let said = scene.agent.gray_json(&ask).unwrap();
    let said = if said["arm"] == "gray" { "2.0" } else { "1.0" };
    let url = format!("http://{}{path}", vip(v6, 8080));
    let answer = curl::get(&scene.world.clients[0].place(), &url, &curl).unwrap();
    let got = answer.json().unwrap()["version"].as_str().unwrap().to_owned();
    assert_eq!(said, got, "explain said another: {path} {headers:?}");
    got
}

/// On connections of one request and of many: the header decides, for every one.
#[test]
fn a1_whoever_names_an_app_gets_its_version() {
    let scene = stage();
    let place = scene.world.clients[0].place();
    for v6 in [false, true] {
        for per_connection in [1, 20] {
            for (app, want) in [("app7", "2.0"), ("app8", "1.0")] {
                let mut spec = LoadSpec::new(vip(v6, 8080), Mode::Http { per_connection }).count(400);
                spec.headers = vec![("X-App-Id".into(), app.into())];
                let report = spec.sources(scene.world.clients[0].sources(v6)).run(&place).unwrap();
                report.assert_all_ok();
                assert_eq!(report.of_version(want), 400, "{app}, {per_connection} a connection, v6: {v6}");
            }
        }
    }
    scene.finish();
}

/// A head that comes in pieces, and one that never ends.
#[test]
fn a1_a_head_in_pieces() {
    let scene = stage();
    let w = &scene.world;
    let ask = |parts: &[&str]| {
        w.clients[0].ns.enter(|| {
            let mut s = TcpStream::connect(vip(false, 8080)).unwrap();
            s.set_nodelay(true).unwrap();
            s.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            for part in parts {
                s.write_all(part.as_bytes()).unwrap();
                std::thread::sleep(Duration::from_millis(20));
            }
            let mut answer = String::new();
            let _ = s.read_to_string(&mut answer);
            answer
        })
    };
    let end = "Connection: close\r\n\r\n";
    let pad = format!("X-Pad: {}\r\n", "p".repeat(1500));
    for parts in [
        &["GET / HTTP/1.1\r\nHost: x\r\nX-Ap", "p-Id: app7\r\n", end][..],
        &["GET / HTTP/1.1\r\nHost: x\r\n", &pad, &format!("X-App-Id: app7\r\n{end}")],
    ] {
        let answer = ask(parts);
        assert!(answer.contains("\"2.0\""), "{answer}");
    }
    scene.finish();
}

/// 10 MB each way.
#[test]
fn a1_bulk_arrives_whole() {
    let scene = stage_with(|t| t.service("files", FILES, false));
    let w = &scene.world;
    let start = |j: usize, name, version| {
        Nginx::start(&w.backends[j].place(), w.temp(), name, version, FILES).unwrap()
    };
    let nginx = [start(0, "stable", "1.0"), start(1, "gray", "2.0")];
    let place = w.clients[0].place();
    for offloads in [true, false] {
        w.clients.iter().for_each(|c| c.link.offloads(offloads).unwrap());
        w.backends.iter().for_each(|b| b.link.offloads(offloads).unwrap());
        for ip in [IpAddr::V4(vip4(0)), IpAddr::V6(vip6(0))] {
            curl::download_10mb(&place, &nginx[0].url(ip, "/file")).unwrap();
            let [one, two] = &nginx;
            let took = curl::upload_10mb(&place, w.temp(), ip, FILES, &[one, two]).unwrap();
            assert_eq!(took, "1.0", "{ip}");
        }
    }
    scene.finish();
}

/// Lost, late, doubled packets on both sides: what arrives is whole, or nothing is.
#[test]
fn a1_loss_and_reordering_change_nothing() {
    let scene = stage_with(|t| t.service("files", FILES, false));
    let w = &scene.world;
    let start = |j: usize, name, version| {
        Nginx::start(&w.backends[j].place(), w.temp(), name, version, FILES).unwrap()
    };
    let nginx = [start(0, "stable", "1.0"), start(1, "gray", "2.0")];
    let harm = Harm { lose: 100, reorder: 300, duplicate: 100, ..Harm::default() };
    let pairs = w.clients.iter().map(|c| &c.link).chain(w.backends.iter().map(|b| &b.link));
    let bad: Vec<Hostile> = pairs
        .zip(1..)
        .map(|(p, seed)| Hostile::on(p, Side::Near, HostileSpec::both(seed, harm)).unwrap())
        .collect();
    let place = w.clients[0].place();
    for ip in [IpAddr::V4(vip4(0)), IpAddr::V6(vip6(0))] {
        curl::download_10mb(&place, &nginx[0].url(ip, "/file")).unwrap();
        let [one, two] = &nginx;
        assert_eq!(curl::upload_10mb(&place, w.temp(), ip, FILES, &[one, two]).unwrap(), "1.0");
    }
    for v6 in [false, true] {
        let mut spec = LoadSpec::new(vip(v6, 8080), Mode::Http { per_connection: 1 }).count(300);
        spec.headers = vec![("X-App-Id".into(), "app7".into())];
        (spec.workers, spec.timeout_ms) = (16, 20_000);
        let report = spec.run(&place).unwrap();
        report.assert_all_ok();
        assert_eq!(report.of_version("2.0"), 300, "{:?}", report.by_server);
    }
    drop(bad);
    scene.finish();
}

/// What was damaged on its way to us no instance takes for whole: nothing of it is held, and it is sent again.
#[test]
fn a1_damaged_segments_are_nobodys_request() {
    let scene = stage();
    let w = &scene.world;
    for c in &w.clients {
        // Without, veth hands segments over whose sums nobody has made.
        c.link.offloads(false).unwrap();
    }
    let harm = Harm { corrupt: 200, ..Harm::default() };
    let spec = HostileSpec { egress: Harm::default(), ..HostileSpec::both(11, harm) };
    let bad: Vec<Hostile> =
        w.clients.iter().map(|c| Hostile::on(&c.link, Side::Near, spec).unwrap()).collect();
    for v6 in [false, true] {
        for (app, version) in [("app7", "2.0"), ("app8", "1.0")] {
            let mut spec = LoadSpec::new(vip(v6, 8080), Mode::Http { per_connection: 1 }).count(400);
            spec.headers = vec![("X-App-Id".into(), app.into())];
            (spec.workers, spec.timeout_ms) = (16, 20_000);
            let report = spec.run(&w.clients[0].place()).unwrap();
            report.assert_all_ok();
            assert_eq!(report.of_version(version), 400, "{app}: {:?}", report.by_server);
        }
    }
    drop(bad);
    assert!(counted(&scene.agent, "request_damaged") > 10);
    scene.finish();
}

/// The instance is on the agent's own node, and has the address that is dialled.
#[test]
fn a1_an_instance_of_this_node() {
    let world = World::build(WorldSpec::default()).unwrap();
    let _servers = servers(&world);
    let mut spec = AgentSpec::packets(&world);
    spec.attach = vec!["eth0=host".into()];
    spec.elsewhere = Some((world.backends[0].place(), "b0".into()));
    let agent = Agent::start_with(&world, spec).unwrap();
    let text = PolicyText::own(&world).claims("app: { header: X-App-Id }").identify("app, source");
    let _ = agent.apply(&text.to_string()).unwrap();
    let place = world.clients[0].place();
    for v6 in [false, true] {
        for per_connection in [1, 20] {
            let mut spec = LoadSpec::new(vip(v6, 8080), Mode::Http { per_connection }).count(200);
            spec.headers = vec![("X-App-Id".into(), "app8".into())];
            let report = spec.run(&place).unwrap();
            report.assert_all_ok();
            assert_eq!(report.of_version("1.0"), 200, "{per_connection} a connection, v6: {v6}");
            // Two hundred milliseconds are a segment that was lost and sent again.
            assert!(report.p50_us < 150_000, "median {} us, v6: {v6}", report.p50_us);
        }
    }
    assert!(counted(&agent, "request_bound") >= 2 * (200 + 10), "they were bound by us");
    residue::assert_none(&world, agent);
}
