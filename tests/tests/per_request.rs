//! Where every request chooses (A1): one connection, two versions.

use std::{net::IpAddr, time::Duration};

use gray_tests::{
    agent::Agent,
    client::talk::{Talk, get},
    command::note,
    hostile::{Harm, Hostile, HostileSpec, Side},
    pattern,
    policy::PolicyText,
    scene::{Scene, vip},
    server::Nginx,
    world::{WorldSpec, vip4, vip6},
};
use sha2::{Digest as _, Sha256};

const FILES: u16 = 8081;

/// `apps: [app7, app9]` go to 2.0, request by request.
fn stage() -> Scene {
    let scene = Scene::packets(WorldSpec::default());
    let text = PolicyText::moved(&scene.world).service("files", FILES, false);
    let text = text.claims("app: { header: X-App-Id }").per_request().identify("app, source");
    scene.apply(&text.cohort("early", "apps: [app7, app9]").gray_when("early"));
    scene
}

fn counted(agent: &Agent, reason: &str) -> u64 {
    let status = agent.gray_json(&["status"]).unwrap();
    let counters = status["counters"].as_array().unwrap();
    counters.iter().find(|c| c["reason"] == reason).map_or(0, |c| c["count"].as_u64().unwrap())
}

fn wanted(app: &str) -> &'static str {
    if app == "app7" { "2.0" } else { "1.0" }
}

#[test]
fn a1_a_kept_connection_goes_where_each_request_belongs() {
    let scene = stage();
    for v6 in [false, true] {
        let mut talk = Talk::connect(&scene.world.clients[0].ns, vip(v6, 8080)).unwrap();
        let before = counted(&scene.agent, "request_switched");
        for (i, app) in
            ["app7", "app8", "app8", "app7", "app7", "app8", "app7"].iter().cycle().take(42).enumerate()
        {
            let nonce = format!("n{i}");
            let answer = talk.get(app, &nonce).unwrap();
            assert_eq!((&*answer.version(), answer.nonce()), (wanted(app), nonce), "request {i}, v6: {v6}");
        }
        // Of seven requests four follow one of another app.
        assert_eq!(counted(&scene.agent, "request_switched") - before, 6 * 4, "v6: {v6}");
    }
    assert_eq!(counted(&scene.agent, "request_stayed"), 0);
    scene.finish();
}

/// A body can hold what looks like a request of somebody else.
#[test]
fn a1_a_body_is_no_request() {
    let scene = stage();
    for v6 in [false, true] {
        let mut talk = Talk::connect(&scene.world.clients[0].ns, vip(v6, 8080)).unwrap();
        for n in [1, 40, 400] {
            let body = get("app7", "never").repeat(n);
            let head = format!(
                "POST /?nonce=b{n} HTTP/1.1\r\nHost: web\r\nX-App-Id: app8\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            talk.send(head.as_bytes()).unwrap();
            for part in body.as_bytes().chunks(1 + body.len() / 3) {
                // Each part a segment that begins with any byte of it.
                std::thread::sleep(Duration::from_millis(10));
                talk.send(part).unwrap();
            }
            let answer = talk.answer().unwrap();
            assert_eq!((&*answer.version(), answer.nonce()), ("1.0", format!("b{n}")), "v6: {v6}");
            assert_eq!(answer.body_sha256(), pattern::hex(&Sha256::digest(body.as_bytes())));
            assert_eq!(talk.get("app7", "after").unwrap().version(), "2.0");
        }
    }
    scene.finish();
}

/// Requests that do not wait for answers: those come in order, each of the right version.
#[test]
fn a1_pipelined_requests_are_answered_in_order() {
    let scene = stage();
    for v6 in [false, true] {
        let mut talk = Talk::connect(&scene.world.clients[0].ns, vip(v6, 8080)).unwrap();
        for apps in [&["app8"; 40][..], &["app7", "app7", "app8", "app7", "app8"]] {
            let text: String = apps.iter().enumerate().map(|(i, app)| get(app, &format!("p{i}"))).collect();
            talk.send(text.as_bytes()).unwrap();
            for (i, app) in apps.iter().enumerate() {
                let answer = talk.answer().unwrap();
                assert_eq!((&*answer.version(), answer.nonce()), (wanted(app), format!("p{i}")), "v6: {v6}");
            }
        }
    }
    scene.finish();
}

/// Answers of every size, and heads in pieces, with a change of the version after each.
#[test]
fn a1_answers_of_any_size_end_where_they_end() {
    let scene = stage();
    for v6 in [false, true] {
        let mut talk = Talk::connect(&scene.world.clients[0].ns, vip(v6, 8080)).unwrap();
        for n in [0usize, 1, 1400, 1460, 100_000, 3_000_000] {
            for app in ["app7", "app8"] {
                let head = format!("GET /bytes?n={n} HTTP/1.1\r\nHost: web\r\nX-App-Id: {app}\r\n\r\n");
                let (a, b) = head.as_bytes().split_at(head.len() / 2);
                talk.send(a).unwrap();
                std::thread::sleep(Duration::from_millis(5));
                talk.send(b).unwrap();
                let got = talk.answer().unwrap();
                let mut want = vec![0; n];
                pattern::fill(0, &mut want);
                assert!(got.body == want, "{n} bytes, {app}, v6: {v6}");
                assert_eq!(talk.get(app, "x").unwrap().version(), wanted(app), "{n}, v6: {v6}");
            }
        }
    }
    scene.finish();
}

/// Chunks, which this lab's own server does not send.
#[test]
fn a1_chunked_answers_and_heads_without_bodies() {
    let scene = stage();
    let w = &scene.world;
    let start = |j: usize, name, version| {
        Nginx::start(&w.backends[j].place(), w.temp(), name, version, FILES).unwrap()
    };
    let nginx = [start(0, "stable", "1.0"), start(1, "gray", "2.0")];
    for ip in [IpAddr::V4(vip4(0)), IpAddr::V6(vip6(0))] {
        let _ = nginx[0].url(ip, "/");
        let mut talk = Talk::connect(&w.clients[0].ns, (ip, FILES).into()).unwrap();
        for _ in 0..5 {
            for app in ["app7", "app8"] {
                for (method, path) in [("HEAD", "/file"), ("GET", "/"), ("GET", "/none")] {
                    let text = format!("{method} {path} HTTP/1.1\r\nHost: web\r\nX-App-Id: {app}\r\n\r\n");
                    talk.send(text.as_bytes()).unwrap();
                    let answer = if method == "HEAD" { talk.head() } else { talk.answer() }.unwrap();
                    assert!(answer.status == 200 || path == "/none", "{method} {path}: {}", answer.status);
                }
            }
        }
    }
    scene.finish();
}

/// Loss, reordering and doubles, while each request changes the version.
#[test]
fn a1_loss_changes_no_answer() {
    let scene = stage();
    let w = &scene.world;
    let harm = Harm { lose: 100, reorder: 300, duplicate: 100, ..Harm::default() };
    let pairs = w.clients.iter().map(|c| &c.link).chain(w.backends.iter().map(|b| &b.link));
    let bad: Vec<Hostile> = pairs
        .zip(1..)
        .map(|(p, seed)| Hostile::on(p, Side::Near, HostileSpec::both(seed, harm)).unwrap())
        .collect();
    for v6 in [false, true] {
        std::thread::scope(|scope| {
            for c in 0..8 {
                let (ns, agent) = (&w.clients[0].ns, &scene.agent);
                let _ = scope.spawn(move || {
                    let mut talk = Talk::connect(ns, vip(v6, 8080)).unwrap();
                    for i in 0..100 {
                        let app = if (i / (1 + c % 3)) % 2 == 0 { "app7" } else { "app8" };
                        let nonce = format!("c{c}n{i}");
                        let answer = talk.get(app, &nonce).unwrap_or_else(|e| {
                            let status = agent.gray_json(&["status"]).unwrap();
                            panic!("request {i} of {c}, v6: {v6}: {e}; {}", status["counters"])
                        });
                        assert_eq!((&*answer.version(), answer.nonce()), (wanted(app), nonce), "v6: {v6}");
                    }
                });
            }
        });
    }
    drop(bad);
    // An instance that has not heard of its end, and is dialled again, is told and dialled once more at once.
    assert!(counted(&scene.agent, "request_another") <= 10);
    for reason in ["request_switched", "request_challenge", "request_another", "request_busy"] {
        note(&format!("{reason}: {}", counted(&scene.agent, reason)));
    }
    scene.finish();
}

/// Nobody knows what the rest of it says: it stays, and is counted.
#[test]
fn a1_a_later_head_that_is_too_long_stays() {
    let scene = stage();
    for v6 in [false, true] {
        let mut talk = Talk::connect(&scene.world.clients[0].ns, vip(v6, 8080)).unwrap();
        assert_eq!(talk.get("app7", "first").unwrap().version(), "2.0");
        let before = counted(&scene.agent, "request_stayed");
        let pad = "p".repeat(6000);
        let head =
            format!("GET /?nonce=long HTTP/1.1\r\nHost: web\r\nX-Pad: {pad}\r\nX-App-Id: app8\r\n\r\n");
        talk.send(head.as_bytes()).unwrap();
        assert_eq!(talk.answer().unwrap().version(), "2.0", "v6: {v6}");
        assert!(counted(&scene.agent, "request_stayed") > before);
    }
    scene.finish();
}
