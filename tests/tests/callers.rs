//! Callers on the node: what the policy says of their workloads (A7), and what the connect path does not know of them (A13).

use gray_tests::{
    Place,
    client::curl,
    policy::PolicyText,
    scene::{Scene, vip},
    world::WorldSpec,
};

fn counted(scene: &Scene, reason: &str) -> u64 {
    let status = scene.agent.gray_json(&["status"]).unwrap();
    let all = status["counters"].as_array().unwrap();
    all.iter().find(|c| c["reason"] == reason).map_or(0, |c| c["count"].as_u64().unwrap())
}

fn version(place: &Place, url: &str, args: &[&str]) -> String {
    curl::get(place, url, args).unwrap().json().unwrap()["version"].as_str().unwrap().to_owned()
}

/// `same: version`: a caller of 2.0 gets 2.0, when its label says which it is.
#[test]
fn a7_c10_a_caller_gets_its_own_version() {
    let scene = Scene::start(WorldSpec::default());
    let w = &scene.world;
    let text = format!(
        "{}---\nworkloads: {{ web-2: {{ service: web, version: \"2.0\" }} }}\nroutes: [{{ same: version }}]\n",
        PolicyText::moved(w)
    );
    let _ = scene.agent.apply(&text).unwrap();
    for v6 in [false, true] {
        let ask = || version(&w.caller(), &format!("http://{}/", vip(v6, 8080)), &[]);
        assert_eq!(ask(), "1.0", "v6: {v6}");
        let cgroup = w.callers.path().to_string_lossy().into_owned();
        let _ = scene.agent.gray_ok(&["workload", "set", "web-2", "--cgroup", &cgroup]).unwrap();
        assert_eq!(ask(), "2.0", "v6: {v6}");
        let all = scene.agent.gray_json(&["workload", "list"]).unwrap();
        assert_eq!(all[0]["meta"]["version"], "2.0", "{all}");
        let _ = scene.agent.gray_ok(&["workload", "remove", "web-2"]).unwrap();
    }
    scene.finish();
}

/// A request that would be gray by packets is not read of a local caller: counted, and told by `explain`.
#[test]
fn a13_what_is_not_read_of_a_local_caller_is_counted_and_told() {
    let scene = Scene::start(WorldSpec::default());
    let w = &scene.world;
    let text = PolicyText::moved(w).claims("app: { header: X-App-Id }").identify("app, workload, source");
    let text = text.cohort("early", "apps: [app7]").gray_when("early").to_string();
    let _ = scene.agent.apply(&text).unwrap();
    let url = format!("http://{}/", vip(false, 8080));
    let args = ["-H", "X-App-Id: app7"];
    let before = counted(&scene, "request_local");
    assert_eq!(version(&w.clients[0].place(), &url, &args), "2.0", "by packets");
    assert_eq!(counted(&scene, "request_local"), before);
    assert_eq!(version(&w.caller(), &url, &args), "1.0", "by a call");
    assert_eq!(counted(&scene, "request_local"), before + 1);
    let why = scene.agent.gray_json(&["explain", "--service", "web", "--workload", "web"]).unwrap();
    assert!(why["text"].as_str().unwrap().contains("routes that ask for app do not know it"), "{why}");
    scene.finish();
}
