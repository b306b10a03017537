//! C8, C9: `n-d-*` headers in the kernel: what a route chose is filtered by what the request asks for.

use gray_tests::{
    client::talk::Talk,
    policy::PolicyText,
    scene::{Scene, vip},
    world::WorldSpec,
};

#[test]
fn c8_c9_a12_a_request_asks_for_its_version() {
    for per_request in [false, true] {
        let scene = Scene::start(WorldSpec::default());
        let policy = |switches: &str| {
            let headers = format!("route-headers: {{ read: [version], {switches} }}");
            let text = PolicyText::moved(&scene.world).claims("app: { header: X-App-Id }");
            let text = if per_request { text.per_request() } else { text };
            // UDP is not read, and `dns` comes last.
            let text =
                text.identify("app, source").cohort("early", "apps: [app7]").gray_when("early").to_string();
            let parts: Vec<&str> = text.split("  dns:\n").collect();
            parts[0].replace("    instances:", &format!("    {headers}\n    instances:"))
                + "  dns:\n"
                + parts[1]
        };
        let ask = |v6: bool, app: &str, version: &str| {
            let mut talk = Talk::connect(&scene.world.clients[0].ns, vip(v6, 8080)).unwrap();
            let asked =
                if version.is_empty() { String::new() } else { format!("N-D-Version: {version}\r\n") };
            talk.send(format!("GET / HTTP/1.1\r\nHost: x\r\nX-App-Id: {app}\r\n{asked}\r\n").as_bytes())
                .unwrap();
            talk.answer().unwrap().version()
        };
        let missing = || {
            let status = scene.agent.gray_json(&["status"]).unwrap();
            let all = status["counters"].as_array().unwrap();
            all.iter().find(|c| c["reason"] == "request_plain").map_or(0, |c| c["count"].as_u64().unwrap())
        };
        let _ = scene.agent.apply(&policy("without-route: false")).unwrap();
        for v6 in [false, true] {
            for (app, version, served) in [
                ("app7", "", "2.0"),
                ("app7", "2.0", "2.0"),
                ("app7", "1.0", "2.0"),
                ("app1", "2.0", "1.0"),
                ("app1", "{\"web\":\"2.0\"}", "1.0"),
            ] {
                assert_eq!(ask(v6, app, version), served, "{app} {version}, v6: {v6}, {per_request}");
            }
        }
        let _ = scene.agent.apply(&policy("without-route: true, over-routes: true")).unwrap();
        for v6 in [false, true] {
            for (app, version, served) in [
                ("app7", "", "2.0"),
                ("app7", "1.0", "1.0"),
                ("app1", "2.0", "2.0"),
                ("app1", "9", "1.0"),
                ("app1", "{\"web\":\"2.0\"}", "1.0"),
            ] {
                assert_eq!(ask(v6, app, version), served, "{app} {version}, v6: {v6}, {per_request}");
            }
        }
        assert_eq!(missing(), 0, "all of them named an app");
        let mut talk = Talk::connect(&scene.world.clients[0].ns, vip(false, 8080)).unwrap();
        talk.send(b"GET / HTTP/1.1\r\nHost: x\r\nN-D-Version: 2.0\r\n\r\n").unwrap();
        assert_eq!((talk.answer().unwrap().version().as_str(), missing()), ("2.0", 1), "it names nobody");
        scene.finish();
    }
}
