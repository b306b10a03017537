//! The command line against a real agent: policies' lives (D1, D4, D5), what it shows, what it refuses.

use std::net::IpAddr;
use std::process::Output;

use gray_tests::{
    WorldSpec,
    client::{LoadSpec, Mode, curl},
    command::{run, run_with_input, wait_for},
    link::ip_batch,
    policy::PolicyText,
    scene::{Scene, vip},
};
use serde_json::Value;

const ONE: Mode = Mode::Http { per_connection: 1 };

fn early(scene: &Scene, list: &[IpAddr]) -> PolicyText {
    PolicyText::own(&scene.world).sources("early", list).gray_when("early")
}

fn code(out: &Output) -> i32 {
    out.status.code().unwrap()
}

fn stderr(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

fn epoch(scene: &Scene) -> u64 {
    scene.agent.gray_json(&["status"]).unwrap()["epoch"].as_u64().unwrap()
}

/// `gray apply` of this text with more arguments.
fn apply(scene: &Scene, text: &str, args: &[&str]) -> Output {
    let file = scene.world.temp().join("doc.yaml");
    std::fs::write(&file, text).unwrap();
    let path = file.to_string_lossy().into_owned();
    scene.agent.gray(&[&["apply", "-f", &path], args].concat()).unwrap()
}

#[test]
fn d5_rollback_brings_documents_and_lists_back() {
    let scene = Scene::start(WorldSpec::default());
    let all = scene.world.clients[0].sources(false);
    let id = |i: usize| all[i].to_string();
    assert_eq!(code(&apply(&scene, &early(&scene, &all[..1]).to_string(), &["-m", "first"])), 0);
    let edited = scene.agent.gray_json(&["cohort", "add", "early", &id(1), &id(2)]).unwrap();
    let _ = scene.agent.gray_ok(&["cohort", "remove", "early", &id(0)]).unwrap();
    let wanted = scene.agent.gray_json(&["history"]).unwrap()[0]["revision"].as_u64().unwrap();
    assert!(edited["revision"].as_u64().unwrap() < wanted);
    scene.expect_gray(false, &all[1..3]);
    scene.apply(&PolicyText::own(&scene.world).sources("late", &all[8..9]).gray_when("late"));
    scene.expect_gray(false, &all[8..9]);
    let back = scene.agent.gray_json(&["rollback", &wanted.to_string(), "-m", "it was better"]).unwrap();
    assert!(back["revision"].as_u64().unwrap() > wanted + 1, "a new revision: {back}");
    scene.expect_gray(false, &all[1..3]);
    let shown = scene.agent.gray_json(&["cohort", "show", "early"]).unwrap();
    assert_eq!(shown["ids"], serde_json::json!([id(1), id(2)]));
    let history = scene.agent.gray_json(&["history"]).unwrap();
    let kinds: Vec<&str> = history.as_array().unwrap().iter().filter_map(|h| h["kind"].as_str()).collect();
    assert_eq!(kinds, ["rollback", "apply", "cohort", "cohort", "apply"]);
    assert_eq!((&history[0]["why"], &history[0]["state"]), (&"it was better".into(), &"active".into()));
    assert_eq!((&history[4]["why"], &history[4]["state"]), (&"first".into(), &"superseded".into()));
    assert!(history[0]["who"].as_str().unwrap().starts_with("uid:"), "{history}");
    let unknown = scene.agent.gray(&["rollback", "4711"]).unwrap();
    assert_eq!(code(&unknown), 1, "{}", stderr(&unknown));
    scene.expect_gray(false, &all[1..3]);
    scene.finish();
}

#[test]
fn d4_a_bad_document_tells_all_its_problems_and_changes_nothing() {
    let scene = Scene::start(WorldSpec::default());
    let all = scene.world.clients[0].sources(false);
    scene.apply(&early(&scene, &all[..1]));
    let before = epoch(&scene);
    let good = early(&scene, &all[..2]).to_string();
    let bad = good.replace("when: early", "when: earyl").replacen("version: \"1.0\"", "vresion: \"1.0\"", 1)
        + "colours: [red]\n";
    let out = apply(&scene, &bad, &[]);
    let text = stderr(&out);
    assert_eq!(code(&out), 1, "{text}");
    for part in ["earyl", "`early`", "vresion", "`version`", "colours", "doc.yaml:"] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    let broken = apply(&scene, "services: [", &[]);
    assert_eq!(code(&broken), 1, "{}", stderr(&broken));
    let usage = scene.agent.gray(&["apply"]).unwrap();
    assert_eq!(code(&usage), 2, "{}", stderr(&usage));
    let bad_id = scene.agent.gray(&["cohort", "add", "early", "198.18.10.300", &all[3].to_string()]).unwrap();
    assert_eq!(code(&bad_id), 1, "{}", stderr(&bad_id));
    let no_cohort = scene.agent.gray(&["cohort", "add", "earl", "198.18.10.3"]).unwrap();
    assert!(
        code(&no_cohort) == 1 && stderr(&no_cohort).contains("did you mean early"),
        "{}",
        stderr(&no_cohort)
    );
    let mut elsewhere = scene.agent.command(&["status"]);
    let gone = elsewhere.env("GRAY_SOCKET", "/nonexistent/gray.sock").output().unwrap();
    assert_eq!(code(&gone), 4, "{}", stderr(&gone));
    assert_eq!(epoch(&scene), before);
    scene.expect_gray(false, &all[..1]);
    scene.finish();
}

#[test]
fn d5_a_dry_run_shows_the_difference_and_changes_nothing() {
    let scene = Scene::start(WorldSpec::default());
    let all = scene.world.clients[0].sources(false);
    scene.apply(&early(&scene, &all[..1]));
    let before = (epoch(&scene), scene.agent.gray_json(&["history"]).unwrap());
    let next = early(&scene, &all[..2]).cohort("tenth", "percent: 10").gray_when("tenth").to_string();
    let out = apply(&scene, &next, &["--dry-run", "-o", "json"]);
    let reply: Value = serde_json::from_slice(&out.stdout).unwrap();
    let named: Vec<&str> =
        reply["changes"].as_array().unwrap().iter().filter_map(|c| c["name"].as_str()).collect();
    assert!(named.contains(&"tenth") && named.contains(&"early"), "{reply}");
    assert_eq!((&reply["revision"], &reply["epoch"]), (&Value::Null, &Value::Null));
    assert_eq!((epoch(&scene), scene.agent.gray_json(&["history"]).unwrap()), before);
    scene.expect_gray(false, &all[..1]);
    let same = apply(&scene, &early(&scene, &all[..1]).to_string(), &["-o", "json"]);
    assert_eq!(serde_json::from_slice::<Value>(&same.stdout).unwrap()["unchanged"], true);
    assert_eq!(epoch(&scene), before.0, "the same policy again is no change");
    // D1: of two who edit at once the second learns of it.
    let now = before.1[0]["revision"].as_u64().unwrap();
    let other = early(&scene, &all[..2]).to_string();
    let late = apply(&scene, &other, &["--if-revision", &(now + 1).to_string()]);
    let said = format!("revision {now} is in force, not {}", now + 1);
    assert!(code(&late) == 1 && stderr(&late).contains(&said), "{}", stderr(&late));
    assert_eq!(epoch(&scene), before.0);
    let done = apply(&scene, &other, &["--if-revision", &now.to_string()]);
    assert_eq!((code(&done), epoch(&scene)), (0, before.0 + 1), "{}", stderr(&done));
    scene.finish();
}

#[test]
fn h4_status_views_flows_and_metrics_show_what_happens() {
    let scene = Scene::start(WorldSpec::default());
    let all = scene.world.clients[0].sources(false);
    scene.apply(&early(&scene, &all[..4]));
    let mut load = LoadSpec::long_lived(vip(false, 9000), 16, 50)
        .sources(all.clone())
        .start(&scene.world.clients[0].place())
        .unwrap();
    let _ = load.wait_requests(32, std::time::Duration::from_secs(5)).unwrap();
    let json = |args: &[&str]| scene.agent.gray_json(args).unwrap();

    let flows = json(&["flows", "--service", "echo", "--arm", "gray"]);
    assert_eq!(flows["matched"], 4, "{flows}");
    for f in flows["flows"].as_array().unwrap() {
        assert_eq!((&f["instance"], &f["state"]), (&"g4".into(), &"established".into()), "{f}");
        assert_eq!(f["service_addr"], vip(false, 9000).to_string());
        let client: std::net::SocketAddr = f["client"].as_str().unwrap().parse().unwrap();
        assert!(all[..4].contains(&client.ip()), "{f}");
    }
    // C15: a live connection, asked for by its four words.
    let client: std::net::SocketAddr = flows["flows"][0]["client"].as_str().unwrap().parse().unwrap();
    let (ip, port, at) =
        (client.ip().to_string(), client.port().to_string(), vip(false, 9000).ip().to_string());
    let live = json(&["explain", "--live", "tcp", &ip, &port, &at, "9000"]);
    assert_eq!((&live["held"]["instance"], &live["held"]["arm"]), (&"g4".into(), &"gray".into()), "{live}");
    let why = json(&["explain", "--service", "echo", "--src", &ip]);
    assert_eq!((&why["arm"], &why["identity"]), (&"gray".into(), &format!("source {ip}").into()), "{why}");
    assert!(why["route"].as_str().unwrap().contains("early") && why["reason"] == "explicit", "{why}");

    let status = json(&["status"]);
    let attached = status["attachments"].as_array().unwrap();
    assert!(attached.len() == 3 && attached.iter().all(|a| a["state"] == "attached"), "{status}");
    assert_eq!(status["connect"]["state"], "attached");
    assert_eq!((&status["policy"]["services"], &status["policy"]["cohorts"]), (&3.into(), &1.into()));
    let echo = status["services"].as_array().unwrap().iter().find(|s| s["service"] == "echo").unwrap();
    assert_eq!((&echo["gray"], &echo["stable"]), (&4.into(), &12.into()), "each connection counts once");

    let one = |kind: &str, name: &str| json(&["get", kind, name])[0].clone();
    assert_eq!(one("services", "web")["stable"], "version=1.0");
    assert_eq!(json(&["get", "instances", "web"]).as_array().unwrap().len(), 4);
    assert_eq!(one("instances", "echo/g4")["flows"], 4);
    assert_eq!(
        (&one("cohorts", "early")["size"], &one("cohorts", "early")["kind"]),
        (&4.into(), &"list".into())
    );
    let routes = json(&["get", "routes"]);
    assert_eq!(
        (&routes[0]["precedence"], &routes[0]["decisions"]),
        (&"explicit".into(), &4.into()),
        "{routes}"
    );

    let socket = scene.agent.socket().to_string_lossy().into_owned();
    let host = scene.world.edge_place();
    let metrics = curl::get(&host, "http://localhost/metrics", &["--unix-socket", &socket]).unwrap();
    let text = metrics.text();
    assert!(metrics.status == 200 && text.ends_with("# EOF\n"), "{text}");
    let decisions = text
        .lines()
        .any(|l| l.starts_with("gray_") && l.contains("echo") && l.contains("gray\"") && l.ends_with(" 4"));
    assert!(decisions, "4 gray decisions of echo:\n{text}");
    load.stop().unwrap().assert_all_ok();
    // Its entries stay behind; the connections do not.
    let none = || Ok(one("instances", "echo/g4")["flows"] == 0);
    wait_for("ended connections are not counted", std::time::Duration::from_secs(10), none).unwrap();
    scene.finish();
}

#[test]
fn h4_events_follow_decisions_as_they_are_made() {
    let scene = Scene::start(WorldSpec::default());
    let all = scene.world.clients[0].sources(false);
    scene.apply(&early(&scene, &all[..1]));
    let mut follow =
        scene.agent.command(&["events", "--follow", "--count", "10", "--service", "web", "-o", "json"]);
    let follow = follow.stdout(std::process::Stdio::piped()).spawn().unwrap();
    // Until it has seen ten: when it begins to listen is not known.
    let mut spec = LoadSpec::new(vip(false, 8080), ONE).sources(all.clone());
    spec.pause_ms = 20;
    let load = spec.start(&scene.world.clients[0].place()).unwrap();
    let out = follow.wait_with_output().unwrap();
    load.stop().unwrap().assert_all_ok();
    assert_eq!(code(&out), 0);
    let text = String::from_utf8(out.stdout).unwrap();
    let events: Vec<Value> = text
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .filter(|e: &Value| e.get("lost").is_none())
        .collect();
    assert_eq!(events.len(), 10, "{text}");
    for e in events {
        let client: std::net::SocketAddr = e["client"].as_str().unwrap().parse().unwrap();
        let arm = if client.ip() == all[0] { "gray" } else { "stable" };
        assert_eq!((&e["arm"], &e["service"]), (&arm.into(), &"web".into()), "{e}");
        assert_eq!((&e["path"], &e["proto"]), (&"packet".into(), &"tcp".into()), "{e}");
    }
    scene.finish();
}

/// The trap "per-packet logging": what is established says nothing more, whether requests are read or not.
#[test]
fn h4_a_thousand_requests_on_one_connection_are_one_event() {
    let scene = Scene::start(WorldSpec::default());
    let place = scene.world.clients[0].place();
    let all = scene.world.clients[0].sources(false);
    for reads in [false, true] {
        let text = PolicyText::moved(&scene.world).sources("early", &all[..1]).gray_when("early");
        scene.apply(&if reads {
            text.claims("app: { header: X-App-Id }").identify("app, source")
        } else {
            text
        });
        let mut follow = scene.agent.command(&["events", "--follow", "--service", "web", "-o", "json"]);
        let mut follow = follow.stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(follow.stdout.take().unwrap()));
        let mut client = || {
            let event: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
            let at: Option<std::net::SocketAddr> = event["client"].as_str().map(|c| c.parse().unwrap());
            at.map(|a| a.ip())
        };
        // It listens when it has seen one.
        let mut spec = LoadSpec::new(vip(false, 8080), ONE).sources(vec![all[1]]);
        spec.pause_ms = 20;
        let before = spec.start(&place).unwrap();
        while client() != Some(all[1]) {}
        before.stop().unwrap().assert_all_ok();
        let mut spec = LoadSpec::new(vip(false, 8080), Mode::Http { per_connection: 1000 })
            .count(1000)
            .sources(vec![all[0]]);
        spec.workers = 1;
        // Who names nobody where requests are read is told of besides (A2).
        spec.headers = vec![("X-App-Id".into(), "app8".into())];
        let report = spec.run(&place).unwrap();
        report.assert_all_ok();
        assert_eq!((report.opened, report.requests), (1, 1000));
        LoadSpec::new(vip(false, 8080), ONE)
            .count(1)
            .sources(vec![all[2]])
            .run(&place)
            .unwrap()
            .assert_all_ok();
        let mut seen = Vec::new();
        while seen.last() != Some(&all[2]) {
            seen.extend(client());
        }
        assert_eq!(seen.iter().filter(|a| **a == all[0]).count(), 1, "reads {reads}: {seen:?}");
        follow.kill().unwrap();
        let _ = follow.wait().unwrap();
    }
    scene.finish();
}

#[test]
fn a_drained_instance_gets_no_new_connections_and_keeps_its_own() {
    let scene = Scene::start(WorldSpec::default());
    let all = scene.world.clients[0].sources(false);
    scene.apply(&early(&scene, &all));
    let mut kept = LoadSpec::long_lived(vip(false, 9000), 8, 20)
        .sources(all.clone())
        .start(&scene.world.clients[0].place())
        .unwrap();
    let _ = kept.wait_requests(16, std::time::Duration::from_secs(5)).unwrap();
    let _ = scene.agent.gray_ok(&["instance", "drain", "web/g4"]).unwrap();
    let _ = scene.agent.gray_ok(&["instance", "drain", "echo/g4"]).unwrap();
    // The subset is empty: stable serves (failover), and says so.
    scene.expect_gray(false, &[]);
    let why = scene.agent.gray_json(&["explain", "--service", "web", "--src", &all[0].to_string()]).unwrap();
    assert_eq!((&why["arm"], &why["reason"]), (&"stable".into(), &"failover".into()), "{why}");
    let shown = scene.agent.gray_json(&["get", "instances", "web/g4"]).unwrap();
    assert_eq!(shown[0]["state"], "draining");
    let _ = scene.agent.gray_ok(&["instance", "restore", "web/g4"]).unwrap();
    scene.expect_gray(false, &all);
    let now = kept.snapshot().unwrap().requests;
    let _ = kept.wait_requests(now + 50, std::time::Duration::from_secs(5)).unwrap();
    let kept = kept.stop().unwrap();
    kept.assert_all_ok();
    assert_eq!((kept.opened, kept.of_version("2.0")), (8, kept.ok));
    let unknown = scene.agent.gray(&["instance", "drain", "web/nobody"]).unwrap();
    assert_eq!(code(&unknown), 1, "{}", stderr(&unknown));
    scene.finish();
}

#[test]
fn a13_b2_the_key_decides_who_is_in_a_percentage() {
    let scene = Scene::start(WorldSpec { sources4: 100, ..WorldSpec::default() });
    let all = scene.world.clients[0].sources(false);
    // A list beside the percentage: it must survive the new key.
    let policy = PolicyText::own(&scene.world).sources("never", &all[..5]).cohort("half", "percent: 50");
    scene.apply(&policy.gray_when("{ all: [half, { not: never }] }"));
    let who = || -> Vec<IpAddr> {
        let report = scene.load(false, 8080, ONE, 1);
        all.iter().copied().filter(|s| report.versions_of(*s) == ["2.0"]).collect()
    };
    let import = |key: &str| {
        let mut import = scene.agent.command(&["key", "import", "-"]);
        run_with_input(&mut import, key).unwrap()
    };
    let first = who();
    let key = scene.agent.gray_ok(&["key", "export"]).unwrap();
    let _ = import("00112233445566778899aabbccddeeff");
    let second = who();
    assert!(first != second && !second.is_empty(), "another key deals anew");
    assert!(all[..5].iter().all(|s| !second.contains(s)), "lists are no matter of the key");
    let _ = import(&key);
    assert_eq!(who(), first, "the same key, the same answers");
    scene.finish();
}

#[test]
fn doctor_uninstall_dry_run_and_completions_answer() {
    let scene = Scene::start(WorldSpec::default());
    scene.apply(&early(&scene, &[]));
    let out = scene.agent.gray(&["doctor", "-o", "json"]).unwrap();
    let report: Value = serde_json::from_slice(&out.stdout).unwrap();
    let checks = report["checks"].as_array().unwrap();
    assert!(checks.len() > 5, "{report}");
    let failed = checks.iter().any(|c| c["status"] == "fail");
    assert_eq!(code(&out), i32::from(failed), "{report}");
    let yaml = scene.agent.gray_ok(&["get", "services", "-o", "yaml"]).unwrap();
    assert!(yaml.contains("name: web"), "{yaml}");
    let shell = run(&mut scene.agent.command(&["completions", "bash"])).unwrap();
    assert!(shell.contains("uninstall") && shell.contains("cohort"), "completions name the verbs");
    let (bpffs, state) = (
        scene.agent.bpffs().to_string_lossy().into_owned(),
        scene.agent.state_dir().to_string_lossy().into_owned(),
    );
    let listed =
        scene.agent.gray_ok(&["uninstall", "--dry-run", "--bpffs", &bpffs, "--state-dir", &state]).unwrap();
    assert!(listed.contains("would remove") && listed.contains(&bpffs), "{listed}");
    let refused = scene.agent.gray(&["uninstall", "--bpffs", &bpffs, "--state-dir", &state]).unwrap();
    assert_eq!(code(&refused), 1, "an agent runs: {}", stderr(&refused));
    scene.expect_gray(false, &[]);
    scene.finish();
}

/// The agent looks in its own network namespace.
#[test]
fn h1_doctor_tells_of_marks_and_ipsec_that_steered_packets_pass_by() {
    let scene = Scene::packets(WorldSpec::default());
    let said = |name: &str| {
        let out = scene.agent.gray(&["doctor", "-o", "json"]).unwrap();
        let report: Value = serde_json::from_slice(&out.stdout).unwrap();
        let checks = report["checks"].as_array().unwrap();
        let check = checks.iter().find(|c| c["name"] == name).unwrap();
        format!("{}: {}", check["status"].as_str().unwrap(), check["detail"].as_str().unwrap())
    };
    assert_eq!(said("routing-marks"), "ok: no rule routes by a packet's mark");
    assert_eq!(said("ipsec"), "ok: no policies");
    let edge = &scene.world.edge;
    ip_batch(edge, "rule add fwmark 1 table 100\nrule add to 10.0.0.0/8 table 100\n").unwrap();
    let _ = run(edge.command("ip").args(["-6", "rule", "add", "fwmark", "2", "table", "100"])).unwrap();
    assert!(said("routing-marks").starts_with("warn: 2 rules route by a packet's mark"));
    ip_batch(edge, "xfrm policy add src 10.0.0.0/24 dst 10.1.0.0/24 dir out\n").unwrap();
    assert!(said("ipsec").starts_with("warn: 1 policies of IPsec"));
    scene.finish();
}
