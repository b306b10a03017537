//! Links: what a service calls is in the lane of the request that it serves, with no change of its code (docs/adr/0028-links.md).

mod chain;
mod led;
mod node;
mod ways;

use std::net::SocketAddr;

use chain::{Chain, PORT, REQUESTS, many};
use gray_tests::{client::LoadSpec, command::note, scene::vip, server::How, skip};
use gray_userspace::sys::kernel::{KernelVersion, MESSAGES};

const ALL: [u64; 2] = [REQUESTS, 0];

/// A thread for each connection, which calls by itself, by another thread, and by another process.
#[test]
fn e2_c10_a_thread_calls_in_the_lane_of_what_it_has_read() {
    if skip::lacks(MESSAGES, "a link") {
        return;
    }
    let mut chain = Chain::start(&["--tags"]);
    chain.label(&["--link", "thread"]);
    for (how, v6) in [(How::Threads, false), (How::Threads, true), (How::Helpers, false), (How::Forks, false)]
    {
        chain.serve(how, v6);
        assert_eq!(chain.ask(&chain.load(v6, 1)).gray(), ALL, "{how:?}, v6: {v6}");
    }
    assert_eq!(chain.agent.counted("linked"), 4 * REQUESTS);
    // Connections that stay, with many requests.
    chain.serve(How::Threads, false);
    assert_eq!(chain.ask(&chain.load(false, 10).count(many())).gray(), [many(), 0]);
    // Without it, and all is as before.
    chain.label(&[]);
    assert_eq!(chain.ask(&chain.load(false, 1)).gray(), [0, 0]);
    chain.finish();
}

/// A proxy with one thread, and a connection for each request.
#[test]
fn e2_c10_a_proxy_calls_in_the_lane_of_what_it_has_read() {
    if skip::lacks(MESSAGES, "a link") {
        return;
    }
    let mut chain = Chain::start(&["--tags"]);
    chain.label(&["--link", "run-to-completion"]);
    chain.serve(How::Nginx { keepalive: 0 }, false);
    for per_connection in [1, 10] {
        assert_eq!(chain.ask(&chain.load(false, per_connection).count(many())).gray(), [many(), 0]);
    }
    assert_eq!(chain.said(), None);
    // A thread that is begun is not followed.
    chain.serve(How::Helpers, false);
    assert_eq!(chain.ask(&chain.load(false, 1)).gray(), [0, 0]);
    chain.finish();
}

/// Requests wait beside each other on one thread: nobody is in a lane by mistake.
#[test]
fn e2_c10_an_event_loop_is_in_no_lane_while_it_is_not_sure() {
    if skip::lacks(MESSAGES, "a link") {
        return;
    }
    let mut chain = Chain::start(&["--tags"]);
    chain.label(&["--link", "strict"]);
    chain.serve(How::Loop, false);
    let both = chain.ask(&chain.load(false, 1).count(many()));
    let [recalled, leaked] = both.gray();
    note(&format!("{recalled} of {} in the lane", many()));
    assert_eq!(leaked, 0);
    assert!(chain.agent.counted("link_ambiguous") > 0);
    // Alone it is sure; after each answer nothing is in flight.
    let alone = chain.load(false, 1).workers(1).count(50).run(&chain.place(&chain.gray)).unwrap();
    alone.assert_all_ok();
    assert_eq!(alone.of_version("2.0"), 50);
    // A thread for each request is always sure.
    chain.serve(How::Threads, false);
    assert_eq!(chain.ask(&chain.load(false, 1)).gray(), ALL);
    chain.finish();
}

/// Connections that are kept have the lane of the request that they were made for, and people hear of it.
#[test]
fn e2_c10_a_pool_that_mixes_lanes_is_told_of() {
    if skip::lacks(MESSAGES, "a link") {
        return;
    }
    let mut chain = Chain::start(&["--tags"]);
    chain.label(&["--link", "run-to-completion"]);
    chain.serve(How::Nginx { keepalive: 16 }, false);
    let [gray, plain] = chain.ask(&chain.load(false, 10)).gray();
    let wrong = REQUESTS - gray + plain;
    assert!(wrong > 0, "nothing was mixed");
    let status = chain.agent.gray_json(&["status"]).unwrap();
    let link = &status["links"][0];
    note(&format!("{wrong} of {} wrong: {link}", 2 * REQUESTS));
    assert_eq!((&link["workload"], &link["mode"]), (&"b".into(), &"run-to-completion".into()));
    assert_eq!((link["calls"].as_u64(), link["other_lane"].as_u64()), (Some(2 * REQUESTS), Some(wrong)));
    let text = chain.said().unwrap();
    let percent = wrong * 100 / (2 * REQUESTS);
    assert_eq!(
        text,
        format!(
            "workload b does not propagate: {percent} % of its calls had another lane than their request; use headers"
        )
    );
    for verb in [&["status"][..], &["workload", "list"]] {
        assert!(chain.agent.gray_ok(verb).unwrap().contains(&text), "{verb:?}");
    }
    // 1 where anything of the host fails.
    let doctor = chain.agent.gray(&["doctor", "-o", "json"]).unwrap();
    let doctor: serde_json::Value = serde_json::from_slice(&doctor.stdout).unwrap();
    let check = doctor["checks"].as_array().unwrap().iter().find(|c| c["name"] == "links").unwrap();
    assert_eq!((&check["status"], check["detail"].as_str()), (&"warn".into(), Some(&*text)));
    chain.finish();
}

/// Calls follow while no agent runs; the next one goes on with it.
#[test]
fn e2_f14_a_link_outlives_its_agent() {
    if skip::lacks(MESSAGES, "a link") {
        return;
    }
    let mut chain = Chain::start(&["--tags"]);
    chain.label(&["--link", "thread"]);
    chain.serve(How::Threads, false);
    let spec = chain.load(false, 1).count(100);
    chain.agent.kill9().unwrap();
    assert_eq!(chain.ask(&spec).gray(), [100, 0]);
    let [gray, plain] =
        [&chain.gray, &chain.plain].map(|c| spec.clone().count(300).start(&chain.place(c)).unwrap());
    chain.agent.restart().unwrap();
    let [gray, plain] = [gray, plain].map(|load| {
        let report = load.wait().unwrap();
        report.assert_all_ok();
        report.of_version("2.0")
    });
    assert_eq!([gray, plain], [300, 0]);
    assert_eq!(chain.ask(&spec).gray(), [100, 0]);
    chain.finish();
}

/// Where nothing says which lane a request is in, or what a thread reads, a link is refused.
#[test]
fn c10_a_link_without_tags_is_refused() {
    let chain = Chain::start(&[]);
    let path = chain.b_cgroup.path().to_string_lossy().into_owned();
    let args = ["workload", "set", "b", "--cgroup", &path, "--link"];
    let refused = chain.agent.gray_ok(&[&args[..], &["thread"]].concat()).unwrap_err().to_string();
    // Older kernels tell of no messages.
    let why = match KernelVersion::running().unwrap() < MESSAGES {
        true => ["a link needs Linux 6.3", "headers"],
        false => ["a link needs tags", "--trust-tags"],
    };
    assert!(why.iter().all(|w| refused.contains(w)), "{refused}");
    let refused = chain.agent.gray_ok(&[&args[..], &["often"]].concat()).unwrap_err().to_string();
    assert!(refused.contains("run-to-completion"), "{refused}");
    chain.finish();
}

/// A's node is another one: its SYNs come by an interface that is trusted, or by one that is not.
#[test]
fn e2_s4_a_request_of_another_node_is_in_its_lane_where_its_tag_is_trusted() {
    if skip::lacks(MESSAGES, "a link") {
        return;
    }
    for (args, gray) in [(&["--trust-tags", "c0"][..], ALL), (&["--tags"], [0, 0])] {
        let mut chain = Chain::start(args);
        let near = chain.near();
        chain.label_b(&["--link", "thread"]);
        chain.serve(How::Threads, false);
        for v6 in [false, true] {
            let both = chain.ask_from(&chain.load(v6, 1), &chain.world.clients[0].place());
            assert_eq!(both.gray(), gray, "{args:?}, v6: {v6}");
        }
        near.uninstall().unwrap();
        chain.finish();
    }
}

/// All are containers with network namespaces of their own; B sees its clients as they are, or by the node's address and other ports.
#[test]
fn e2_c10_a_container_calls_in_the_lane_of_what_it_has_read() {
    if skip::lacks(MESSAGES, "a link") {
        return;
    }
    let trusts = ["--tags", "--trust-tags", "c0", "--trust-tags", "c1"];
    let mut chain = Chain::contained(&[&trusts[..], &["--snat", "198.18.11.1"]].concat());
    chain.label(&["--link", "thread"]);
    let (clients, b) = (chain.world.clients[0].place(), chain.world.clients[1].place());
    let at = [vip(false, PORT), SocketAddr::new(chain.world.clients[1].v4[0].into(), PORT)];
    chain.serve_in(&b, How::Threads, false);
    for nat in ["dnat", "snat"] {
        chain.apply(&[at], nat);
        let spec = LoadSpec { target: at[0], ..chain.load(false, 1) };
        assert_eq!(chain.ask_from(&spec, &clients).gray(), ALL, "{nat}");
    }
    chain.finish();
}
