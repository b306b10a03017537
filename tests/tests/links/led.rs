//! A client -> an edge, whose route leads it into the lane -> B, which knows nothing of lanes -> C.

use std::fmt::Write as _;
use std::net::SocketAddr;

use gray_tests::{
    agent::{Agent, AgentSpec},
    client::curl,
    policy::PolicyText,
    scene::vip,
    server::How,
    skip,
};
use gray_userspace::sys::kernel::MESSAGES;

use super::chain::{Chain, LANE, PORT};

const ARGS: [&str; 5] = ["--tags", "--trust-tags", "c1", "--snat", "198.18.11.1"];
const TIMES: u64 = 10;

/// Who is led into the lane: by address, or by what the request says.
#[derive(Clone, Copy, Debug)]
enum By {
    Source,
    Header,
}

/// The lane leads by B's stable version. B is behind the edge, in a container of its host or on a node of its own.
fn policy(chain: &Chain, nat: &str, by: By) -> String {
    let w = &chain.world;
    let mut text =
        PolicyText::own(w).lane(LANE, "web: { version: \"2.0\" }, b: { version: \"1.0\" }").to_string();
    let (reads, led) = match by {
        By::Source => ("", format!("sources: [\"{}\"]", w.clients[0].sources(false)[0])),
        By::Header => (
            "    claims: { app: { header: X-App-Id } }\n    identify: [app, source]\n",
            "apps: [app7]".into(),
        ),
    };
    let _ = write!(
        text,
        "---\nservices:\n  b:\n    listen: [\"{}\"]\n    nat: {nat}\n{reads}    instances:\n      - {{ address: \"{}\", \
         version: \"1.0\" }}\n    stable: {{ version: \"1.0\" }}\n---\ncohorts: {{ led: {{ {led} }} }}\nroutes:\n  - {{ when: led, lane: {LANE} }}\n",
        vip(false, PORT),
        SocketAddr::new(w.clients[1].v4[0].into(), PORT),
    );
    text
}

/// How many of the requests of who is led, and of somebody else, C's 2.0 has answered in the end.
fn ask(chain: &Chain) -> [u64; 2] {
    let client = &chain.world.clients[0];
    let url = format!("http://{}/", vip(false, PORT));
    let sources = client.sources(false);
    [(0, "app7"), (1, "app8")].map(|(i, app)| {
        let (from, app) = (sources[i].to_string(), format!("X-App-Id: {app}"));
        let one = |_| {
            let answer = curl::get(&client.place(), &url, &["--interface", &from, "-H", &app]).unwrap();
            let json = answer.json().unwrap();
            u64::from(json["version"] == "2.0")
        };
        (0..TIMES).map(one).sum()
    })
}

#[test]
fn e2_c10_who_is_led_into_a_lane_is_in_it_behind_a_stable_service_of_the_same_node() {
    if skip::lacks(MESSAGES, "a link") {
        return;
    }
    let mut chain = Chain::contained(&ARGS);
    chain.label(&["--link", "thread"]);
    let place = chain.world.clients[1].place();
    chain.serve_in(&place, How::Threads, false);
    for nat in ["dnat", "snat"] {
        for by in [By::Source, By::Header] {
            let _ = chain.agent.apply(&policy(&chain, nat, by)).unwrap();
            assert_eq!(ask(&chain), [TIMES, 0], "{nat}, {by:?}");
        }
    }
    chain.finish();
}

/// The SYN that the edge sends on, or makes, says it.
#[test]
fn e2_c10_who_is_led_into_a_lane_is_in_it_behind_a_stable_service_of_another_node() {
    if skip::lacks(MESSAGES, "a link") {
        return;
    }
    let mut chain = Chain::contained(&ARGS);
    let place = chain.world.clients[1].place();
    let mut spec = AgentSpec::of(&chain.world);
    (spec.attach, spec.elsewhere) = (vec!["eth0=host".into()], Some((place.clone(), "far".into())));
    spec.args = ["--tags", "--trust-tags", "eth0"].map(String::from).to_vec();
    let far = Agent::start_with(&chain.world, spec).unwrap();
    let key = chain.world.temp().join("fleet.key");
    let key = key.to_string_lossy();
    let _ = chain.agent.gray_ok(&["key", "export", "--file", &key]).unwrap();
    let _ = far.gray_ok(&["key", "import", &key]).unwrap();
    let b = chain.b_cgroup.path().to_string_lossy().into_owned();
    let set = ["workload", "set", "b", "--cgroup", &b, "--link", "thread"];
    chain.serve_in(&place, How::Threads, false);
    for nat in ["dnat", "snat"] {
        for by in [By::Source, By::Header] {
            let _ = chain.agent.apply(&policy(&chain, nat, by)).unwrap();
            let _ = far.apply(&policy(&chain, "dnat", by)).unwrap();
            let _ = far.gray_ok(&set).unwrap();
            let before = [chain.agent.counted("tag_said"), far.counted("tag_taken"), far.counted("linked")];
            assert_eq!(ask(&chain), [TIMES, 0], "{nat}, {by:?}");
            let now = [chain.agent.counted("tag_said"), far.counted("tag_taken"), far.counted("linked")];
            let more: Vec<u64> = now.iter().zip(before).map(|(n, b)| n - b).collect();
            assert!(more.iter().all(|n| *n >= TIMES), "{nat}, {by:?}: {more:?}");
        }
    }
    far.uninstall().unwrap();
    chain.finish();
}
