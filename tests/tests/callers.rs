//! Callers on the node: what the policy says of their workloads (A7), and what the connect path does not know of them (A13).

use std::{net::SocketAddr, sync::Arc, time::Duration};

use gray_tests::{
    Place, World,
    agent::{Agent, AgentSpec},
    client::{LoadSpec, Mode, curl},
    command::run,
    policy::PolicyText,
    scene::{Scene, servers, vip},
    skip,
    splice::Listener,
    world::WorldSpec,
};
use gray_userspace::sys::kernel::HANDS;

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

/// Containers and pods by the names that their managers give their cgroups; processes may be deeper in them.
#[test]
fn a7_a_container_is_a_workload_by_its_id() {
    let scene = Scene::start(WorldSpec::default());
    let w = &scene.world;
    let text = PolicyText::moved(w).identify("workload, source").cohort("boxed", "workloads: [boxed]");
    let _ = scene.agent.apply(&text.gray_when("boxed").to_string()).unwrap();
    let url = format!("http://{}/", vip(false, 8080));
    // Ids of their own: others may be on this machine.
    let digits = format!("{:016x}", w.callers.id().unwrap());
    let id = |kind: u8| format!("{kind:02x}{digits}{}", "c0ffee".repeat(8))[..64].to_owned();
    let uid = format!("{}-aaaa-4aaa-8aaa-{}", &digits[8..], &digits[4..]);
    let pod = format!("kubepods.slice/kubepods-burstable-pod{}.slice", uid.replace('-', "_"));
    let scope = |kind, id: &str| format!("{kind}-{id}.scope");
    let (docker, podman, containerd) = (id(1), id(2), id(3));
    for (path, way, target) in [
        (scope("docker", &docker), "--container", docker.clone()),
        (format!("{}/container", scope("libpod", &podman)), "--container", podman[..20].to_owned()),
        (format!("{pod}/{}", scope("cri-containerd", &containerd)), "--container", containerd.clone()),
        (format!("{pod}/{}", scope("cri-containerd", &containerd)), "--pod", uid.clone()),
    ] {
        let inner = Arc::new(w.callers.child(&path).unwrap());
        let place = w.edge_place().in_cgroup(&inner);
        assert_eq!(version(&place, &url, &[]), "1.0", "{way} {path}");
        let _ = scene.agent.gray_ok(&["workload", "set", "boxed", way, &target]).unwrap();
        assert_eq!(version(&place, &url, &[]), "2.0", "{way} {path}");
        let _ = scene.agent.gray_ok(&["workload", "remove", "boxed"]).unwrap();
        assert_eq!(version(&place, &url, &[]), "1.0", "{way} {path}");
    }
    let gone = scene.agent.gray(&["workload", "set", "boxed", "--container", &id(4)]).unwrap();
    assert!(String::from_utf8_lossy(&gone.stderr).contains("has no cgroup; is it running?"), "{gone:?}");
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
    let before = scene.agent.counted("request_local");
    assert_eq!(version(&w.clients[0].place(), &url, &args), "2.0", "by packets");
    assert_eq!(scene.agent.counted("request_local"), before);
    assert_eq!(version(&w.caller(), &url, &args), "1.0", "by a call");
    assert_eq!(scene.agent.counted("request_local"), before + 1);
    let why = scene.agent.gray_json(&["explain", "--service", "web", "--workload", "web"]).unwrap();
    assert!(why["text"].as_str().unwrap().contains("routes that ask for app do not know it"), "{why}");
    scene.finish();
}

/// With a splice listener it is: by the header, in the lane of its label, and as before where the listener is dead.
#[test]
fn a13_a_local_callers_request_is_read_by_the_splice_listener() {
    if skip::lacks(HANDS, "handing callers over") {
        return;
    }
    let world = World::build(WorldSpec::default()).unwrap();
    let (stable, gray) = servers(&world);
    let mut spec = AgentSpec::of(&world);
    spec.args = vec!["--splice".into()];
    let agent = Agent::start_with(&world, spec).unwrap();
    let scene = Scene { agent, stable, gray, world };
    let w = &scene.world;
    let text = PolicyText::moved(w).claims("app: { header: X-App-Id }").identify("app, workload, source");
    let text = text.lane("blue", "web: { version: \"2.0\" }");
    let text = text.cohort("early", "apps: [app7]").gray_when("early").to_string();
    let _ = scene.agent.apply(&text).unwrap();
    let mut splice = Listener::start(&scene.agent, &w.edge_place(), "a").unwrap();
    let caller = w.caller();
    let ask = |v6: bool, app: &str| {
        version(&caller, &format!("http://{}/", vip(v6, 8080)), &["-H", &format!("X-App-Id: {app}")])
    };
    let counted = |reason: &str| scene.agent.counted(reason);
    for v6 in [false, true] {
        for (app, is) in [("app7", "2.0"), ("app8", "1.0")] {
            assert_eq!(ask(v6, app), is, "v6: {v6}, {app}");
        }
    }
    assert_eq!((counted("request_caller"), counted("request_local")), (4, 0));
    let why = scene
        .agent
        .gray_json(&["explain", "--service", "web", "--workload", "x", "-H", "X-App-Id: app7"])
        .unwrap();
    assert_eq!(why["arm"], "gray", "{why}");
    // It sees the service as its peer, whoever reads for it.
    let answer = curl::get(&caller, &format!("http://{}/", vip(false, 8080)), &[]).unwrap();
    assert_eq!(format!("{}:{}", answer.remote_ip, answer.remote_port), vip(false, 8080).to_string());
    // What its label says goes before what it says.
    let cgroup = w.callers.path().to_string_lossy().into_owned();
    let _ = scene.agent.gray_ok(&["workload", "set", "x", "--cgroup", &cgroup, "--lane", "blue"]).unwrap();
    assert_eq!(ask(false, "app8"), "2.0");
    let _ = scene.agent.gray_ok(&["workload", "remove", "x"]).unwrap();
    // A listener that was killed is missed by nobody, from the first call on.
    splice.kill9().unwrap();
    let before = counted("request_caller");
    for app in ["app7", "app8"] {
        assert_eq!(ask(false, app), "1.0", "as the connect path decides");
    }
    assert_eq!((counted("request_caller"), counted("request_local")), (before, 2));
    drop(splice);
    scene.finish();
}

/// The socket of a local caller, by its own address and what it has dialled: where it was sent, and by which route.
#[test]
fn c15_an_open_call_of_this_node_is_explained() {
    let scene = Scene::start(WorldSpec::default());
    let w = &scene.world;
    let _ = scene
        .agent
        .apply(&PolicyText::moved(w).route("name: all, to: { version: \"2.0\" }").to_string())
        .unwrap();
    let caller = w.caller();
    for v6 in [false, true] {
        let at = vip(v6, 8080);
        let mut load = LoadSpec::new(at, Mode::Http { per_connection: 1_000_000 }).workers(1);
        load.pause_ms = 20;
        let mut load = load.start(&caller).unwrap();
        let _ = load.wait_requests(3, Duration::from_secs(30)).unwrap();
        let open =
            run(caller.ns.command("ss").args(["-Htn", "state", "established", "dport = :8080"])).unwrap();
        let local: SocketAddr = open.split_whitespace().nth(2).unwrap().parse().unwrap();
        let (ip, port, to) = (local.ip().to_string(), local.port().to_string(), at.ip().to_string());
        let asked = ["explain", "--live", "tcp", &ip, &port, &to, "8080"];
        let live = scene.agent.gray_json(&asked).unwrap();
        let held = &live["held"];
        assert_eq!(
            (held["arm"].as_str(), held["client"].as_str()),
            (Some("gray"), Some(&*local.to_string())),
            "{live}"
        );
        assert!(held["rule"].as_str().is_some_and(|r| r.contains("all")), "{live}");
        assert!(live["text"].as_str().unwrap().starts_with("its socket was sent to"), "{live}");
        load.stop().unwrap().assert_all_ok();
        assert!(scene.agent.gray_ok(&asked).is_err(), "it is closed");
    }
    scene.finish();
}
