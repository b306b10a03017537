//! Health of instances (C6, C12): real servers are killed and started; what clients meet, and what the kernel's
//! tables hold.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::Duration;

use gray_common::slots;
use gray_tests::{
    agent::{Agent, AgentSpec},
    client::{LoadSpec, Mode, Report},
    command::wait_for,
    kill::pinned,
    pace,
    place::Place,
    residue,
    scene::vip,
    server::{Nginx, Server, ServerSpec},
    world::{World, WorldSpec},
};
use serde_json::Value;

const ONE: Mode = Mode::Http { per_connection: 1 };
const PATIENCE: Duration = Duration::from_secs(20);

/// A service with stable 1.0 on backends 0 and 1, gray 2.0 on backends 2 and 3. `own`: clients dial backend 0's own
/// address.
struct Shop {
    own: bool,
    health: String,
    routes: String,
}

impl Shop {
    fn checked(health: &str) -> Self {
        Self { own: false, health: health.into(), routes: String::new() }
    }

    fn all_to(mut self, version: &str) -> Self {
        self.routes = format!("routes: [{{ service: shop, to: {{ version: '{version}' }} }}]\n");
        self
    }

    fn text(&self, w: &World) -> String {
        let mut out = format!(
            "services:\n  shop:\n    listen: ['{}']\n    health: {{ {} }}\n",
            vip(false, 8080),
            self.health
        );
        out += "    stable: { version: '1.0' }\n    instances:\n";
        for (j, id, version) in [(0, "s0", "1.0"), (1, "s1", "1.0"), (2, "g0", "2.0"), (3, "g1", "2.0")] {
            let ip = if self.own && j == 0 { vip(false, 8080).ip() } else { IpAddr::V4(w.backends[j].v4) };
            let at = SocketAddr::new(ip, 8080);
            out += &format!("      - {{ address: '{at}', version: '{version}', id: {id} }}\n");
        }
        out + &self.routes
    }
}

fn http() -> String {
    let [interval, timeout] = [200, 150].map(|ms| ms * pace::factor());
    format!(
        "check: http, path: /ready, status: 200, interval: {interval}ms, timeout: {timeout}ms, fall: 2, rise: 2"
    )
}

fn world() -> World {
    World::build(WorldSpec { backends: 4, vips: vec![Some(0)], ..WorldSpec::default() }).unwrap()
}

fn server(w: &World, j: usize) -> Server {
    let (name, version) = [("s0", "1.0"), ("s1", "1.0"), ("g0", "2.0"), ("g1", "2.0")][j];
    Server::start(&w.backends[j].place(), ServerSpec::on(&w.backends[j], name, version)).unwrap()
}

fn states(agent: &Agent) -> Vec<(String, String)> {
    let all = agent.gray_json(&["get", "instances"]).unwrap();
    let text = |v: &Value| v.as_str().unwrap_or("none").to_string();
    all.as_array().unwrap().iter().map(|i| (text(&i["id"]), text(&i["health"]["state"]))).collect()
}

/// `s0 up` and so on, of those that are named.
fn wait_states(agent: &Agent, want: &[(&str, &str)]) {
    let mut seen = Vec::new();
    let there = wait_for("the instances' health", PATIENCE, || {
        seen = states(agent);
        Ok(want.iter().all(|(id, s)| seen.iter().any(|(i, t)| i == id && t == s)))
    });
    assert!(there.is_ok(), "{want:?}, but {seen:?}");
}

const ALL_UP: [(&str, &str); 4] = [("s0", "up"), ("s1", "up"), ("g0", "up"), ("g1", "up")];

/// Addresses that the kernel's Maglev tables name, over all subsets.
fn in_tables(agent: &Agent) -> BTreeSet<IpAddr> {
    let t = pinned::read(agent.bpffs()).unwrap();
    let view = t.view();
    let tables = t.subsets.values().flat_map(|s| [s.v4, s.v6]);
    let numbers = tables.flat_map(|table| (0..table.len).map(move |slot| (table, slot)));
    let numbers = numbers.filter_map(|(table, slot)| slots::number(&view, table, slot));
    numbers.filter_map(|n| t.instances.get(&n)).map(|i| IpAddr::from(i.addr)).collect()
}

fn backend(w: &World, j: usize) -> IpAddr {
    IpAddr::V4(w.backends[j].v4)
}

/// New connections, none of which may fail; by server.
fn load(w: &World, place: &Place, count: u64) -> Report {
    let sources =
        if *place.ns.name() == *w.clients[0].ns.name() { w.clients[0].sources(false) } else { Vec::new() };
    let report = LoadSpec::new(vip(false, 8080), ONE).count(count).sources(sources).run(place).unwrap();
    report.assert_all_ok();
    report
}

#[test]
fn c12_a_killed_instance_gets_nothing_more_and_comes_back() {
    let w = world();
    let mut servers: Vec<Option<Server>> = (0..4).map(|j| Some(server(&w, j))).collect();
    let agent = Agent::start(&w).unwrap();
    let _ = agent.apply(&Shop::checked(&http()).all_to("2.0").text(&w)).unwrap();
    wait_states(&agent, &ALL_UP);
    let client = w.clients[0].place();
    let _ = load(&w, &client, 200);
    let before = agent.gray_json(&["status"]).unwrap();
    servers[3].take().unwrap().kill9().unwrap();
    wait_states(&agent, &[("g1", "down"), ("g0", "up")]);
    assert!(!in_tables(&agent).contains(&backend(&w, 3)), "no table names it");
    let report = load(&w, &client, 400);
    assert_eq!((report.of_version("2.0"), report.of_version("1.0")), (400, 0));
    let after = agent.gray_json(&["status"]).unwrap();
    assert_eq!(
        (&before["epoch"], &before["revision"]),
        (&after["epoch"], &after["revision"]),
        "health is no policy"
    );
    assert!(
        after["health"][0]["text"].as_str().unwrap().contains("g1 is down: connect: connection refused"),
        "{after}"
    );
    let events = agent.gray_ok(&["events", "--recent", "1000"]).unwrap();
    assert!(events.lines().any(|l| l.contains("shop/g1") && l.contains("down")), "{events}");

    servers[3] = Some(server(&w, 3));
    wait_states(&agent, &ALL_UP);
    assert!(in_tables(&agent).contains(&backend(&w, 3)));
    let _ = load(&w, &client, 200);
    assert!(servers[3].as_ref().unwrap().stats().unwrap().requests > 60, "it serves again");
    residue::assert_none(&w, agent);
}

#[test]
fn c6_all_of_gray_down_goes_to_stable_and_all_of_stable_down_is_kept() {
    let w = world();
    let mut servers: Vec<Option<Server>> = (0..4).map(|j| Some(server(&w, j))).collect();
    let agent = Agent::start(&w).unwrap();
    let _ = agent.apply(&Shop::checked(&http()).all_to("2.0").text(&w)).unwrap();
    wait_states(&agent, &ALL_UP);
    let client = w.clients[0].place();
    for j in [2, 3] {
        servers[j].take().unwrap().kill9().unwrap();
    }
    wait_states(&agent, &[("g0", "down"), ("g1", "down")]);
    assert_eq!(load(&w, &client, 200).of_version("1.0"), 200);
    let told =
        agent.gray_json(&["explain", "--service", "shop", "--src", &w.clients[0].v4[0].to_string()]).unwrap();
    assert_eq!(told["reason"], "failover");
    assert_eq!(told["out"], serde_json::json!(["g0 (down)", "g1 (down)"]));
    assert!(told["text"].as_str().unwrap().contains("of which no instance serves"), "{told}");
    for j in [0, 1] {
        servers[j].take().unwrap().kill9().unwrap();
    }
    wait_states(&agent, &[("s0", "down"), ("s1", "down")]);
    let status = agent.gray_json(&["status"]).unwrap();
    assert_eq!(status["health"][0]["kept"], true, "{status}");
    assert!(status["health"][0]["text"].as_str().unwrap().starts_with("EVERY INSTANCE"), "{status}");
    assert!(
        in_tables(&agent).is_superset(&[backend(&w, 0), backend(&w, 1)].into()),
        "stable is sent to all the same"
    );
    servers[1] = Some(server(&w, 1));
    wait_states(&agent, &[("s1", "up")]);
    let _ = load(&w, &client, 200);
    residue::assert_none(&w, agent);
}

#[test]
fn h2_what_is_out_stays_out_over_a_dead_agent_and_a_new_one() {
    let w = world();
    let mut servers: Vec<Option<Server>> = (0..4).map(|j| Some(server(&w, j))).collect();
    let mut agent = Agent::start(&w).unwrap();
    let _ = agent.apply(&Shop::checked(&http()).all_to("2.0").text(&w)).unwrap();
    wait_states(&agent, &ALL_UP);
    servers[2].take().unwrap().kill9().unwrap();
    wait_states(&agent, &[("g0", "down")]);
    let client = w.clients[0].place();
    let sources = w.clients[0].sources(false);
    let mut spec = LoadSpec::new(vip(false, 8080), ONE).sources(sources);
    spec.pause_ms = pace::rest_ms(5);
    let mut running = spec.start(&client).unwrap();
    let _ = running.wait_requests(100, PATIENCE).unwrap();
    for _ in 0..3 {
        agent.kill9().unwrap();
        let seen = running.snapshot().unwrap().requests;
        let _ = running.wait_requests(seen + 100, PATIENCE).unwrap();
        agent.restart().unwrap();
        let seen = running.snapshot().unwrap().requests;
        let _ = running.wait_requests(seen + 100, PATIENCE).unwrap();
        assert!(!in_tables(&agent).contains(&backend(&w, 2)));
    }
    let report = running.stop().unwrap();
    report.assert_all_ok();
    assert_eq!(report.of_version("1.0"), 0, "nobody was sent to stable");
    servers[2] = Some(server(&w, 2));
    wait_states(&agent, &ALL_UP);
    assert!(in_tables(&agent).contains(&backend(&w, 2)));
    residue::assert_none(&w, agent);
}

/// Of gray, one instance in the agent's zone: it serves alone, the other one only while it is down, whoever dies meanwhile; and an
/// agent of the other zone turns them round.
#[test]
fn c4_clients_leave_the_zone_only_while_nobody_of_it_serves() {
    let w = world();
    let mut servers: Vec<Option<Server>> = (0..4).map(|j| Some(server(&w, j))).collect();
    let spec = AgentSpec { args: vec!["--zone".into(), "z1".into()], ..AgentSpec::packets(&w) };
    let mut agent = Agent::start_with(&w, spec).unwrap();
    let text = Shop::checked(&http())
        .all_to("2.0")
        .text(&w)
        .replace("id: g0", "id: g0, zone: z1")
        .replace("id: g1", "id: g1, zone: z2")
        .replace("    stable:", "    zone-affinity: prefer\n    stable:");
    let _ = agent.apply(&text).unwrap();
    wait_states(&agent, &ALL_UP);
    assert_eq!(agent.gray_json(&["status"]).unwrap()["zone"], "z1");
    let client = w.clients[0].place();
    let served = |s: &Option<Server>| s.as_ref().unwrap().stats().unwrap().requests;
    let by = |report: &Report| report.of_version("2.0");
    let elsewhere = |agent: &Agent, j: usize| !in_tables(agent).contains(&backend(&w, j));
    assert!(elsewhere(&agent, 3), "nobody needs it");
    assert_eq!(by(&load(&w, &client, 200)), 200);
    servers[2].take().unwrap().kill9().unwrap();
    wait_states(&agent, &[("g0", "down"), ("g1", "up")]);
    assert!(elsewhere(&agent, 2));
    let before = served(&servers[3]);
    assert_eq!(by(&load(&w, &client, 200)), 200);
    assert!(served(&servers[3]) >= before + 200, "the other zone serves");
    agent.kill9().unwrap();
    agent.restart().unwrap();
    assert!(elsewhere(&agent, 2), "what is out stays out");
    assert_eq!(by(&load(&w, &client, 100)), 100);
    servers[2] = Some(server(&w, 2));
    wait_states(&agent, &ALL_UP);
    wait_for("the own zone serves again", PATIENCE, || Ok(elsewhere(&agent, 3))).unwrap();
    let before = served(&servers[2]);
    assert_eq!(by(&load(&w, &client, 200)), 200);
    assert!(served(&servers[2]) >= before + 200);
    agent.kill9().unwrap();
    agent.use_args(&["--zone", "z2"]);
    agent.restart().unwrap();
    // What was in no table comes in like what was down.
    wait_for("the other zone", PATIENCE, || Ok(elsewhere(&agent, 2) && !elsewhere(&agent, 3))).unwrap();
    assert_eq!(by(&load(&w, &client, 100)), 100);
    residue::assert_none(&w, agent);
}

/// A verdict does not wait for what else the agent does: it is in the tables while a large list is still being loaded.
#[test]
fn c12_an_ejection_does_not_wait_for_a_large_change() {
    let w = world();
    let mut servers: Vec<Option<Server>> = (0..4).map(|j| Some(server(&w, j))).collect();
    let agent = Agent::start(&w).unwrap();
    let often = "check: tcp, interval: 100ms, timeout: 100ms, fall: 1, rise: 1";
    let shop = Shop::checked(often).all_to("2.0").text(&w);
    let _ = agent.apply(&format!("{shop}cohorts: {{ many: {{ sources: [] }} }}\n")).unwrap();
    wait_states(&agent, &ALL_UP);
    let ids: String =
        (0..150_000u32).map(|i| format!("10.{}.{}.{}\n", i >> 16, i >> 8 & 255, i & 255)).collect();
    let file = w.temp().join("many");
    std::fs::write(&file, ids).unwrap();
    let mut load = agent.command(&["cohort", "load", "many", "--file", &file.display().to_string()]);
    let mut load = load.stdout(Stdio::null()).spawn().unwrap();
    // Once the agent has read the list and is at it; on a slow machine, too, that is long before it has done.
    std::thread::sleep(Duration::from_millis(300) * pace::factor().min(3));
    servers[3].take().unwrap().kill9().unwrap();
    wait_for("the ejection", PATIENCE, || Ok(!in_tables(&agent).contains(&backend(&w, 3)))).unwrap();
    assert!(load.try_wait().unwrap().is_none(), "the list was loaded before the instance was out");
    assert!(load.wait().unwrap().success());
    assert!(!in_tables(&agent).contains(&backend(&w, 3)), "and the new tables leave it out, too");
    assert_eq!(agent.gray_json(&["status"]).unwrap()["policy"]["prefixes"], 0);
    let report = self::load(&w, &w.clients[0].place(), 200);
    assert_eq!(report.of_version("2.0"), 200);
    residue::assert_none(&w, agent);
}

/// The probe of an instance that is dialled by its own address goes to it, though the connect path steers everybody else.
#[test]
fn c12_the_dialled_instance_is_probed_itself_and_left_when_it_is_down() {
    let w = world();
    let mut servers: Vec<Option<Server>> = (0..4).map(|j| Some(server(&w, j))).collect();
    let agent = Agent::start(&w).unwrap();
    // The agent is one of the callers that are steered, as on a host where all are.
    let procs = w.callers.path().join("cgroup.procs");
    std::fs::write(procs, agent.pid().unwrap().to_string()).unwrap();
    let own = Shop { own: true, ..Shop::checked(&http()) };
    let _ = agent.apply(&Shop { own: true, ..Shop::checked(&http()).all_to("2.0") }.text(&w)).unwrap();
    wait_states(&agent, &ALL_UP);
    assert_eq!(load(&w, &w.caller(), 20).of_version("2.0"), 20, "the edge host's own callers are steered");
    servers[0].take().unwrap().kill9().unwrap();
    wait_states(&agent, &[("s0", "down"), ("s1", "up"), ("g0", "up")]);
    let _ = agent.apply(&own.text(&w)).unwrap();
    for place in [w.clients[0].place(), w.caller()] {
        assert_eq!(
            load(&w, &place, 100).of_version("1.0"),
            100,
            "the other stable instance serves its address"
        );
    }
    servers[0] = Some(server(&w, 0));
    wait_states(&agent, &ALL_UP);
    let before = servers[0].as_ref().unwrap().stats().unwrap().requests;
    let _ = load(&w, &w.clients[0].place(), 50);
    assert!(servers[0].as_ref().unwrap().stats().unwrap().requests >= before + 50, "its own address again");
    residue::assert_none(&w, agent);
}

#[test]
fn c12_nginx_and_a_program_are_asked() {
    let w = world();
    let mut nginx: Vec<Nginx> = (0..4)
        .map(|j| {
            let (name, version) = [("s0", "1.0"), ("s1", "1.0"), ("g0", "2.0"), ("g1", "2.0")][j];
            Nginx::start(&w.backends[j].place(), w.temp(), name, version, 8080).unwrap()
        })
        .collect();
    let checks = w.temp().join("checks");
    std::fs::create_dir_all(&checks).unwrap();
    let program = checks.join("ask");
    let flag = w.temp().join("broken");
    let script = format!(
        "#!/bin/sh\ncase \"$(cat {} 2>/dev/null)\" in *$GRAY_INSTANCE*) echo $GRAY_INSTANCE is told to fail; exit 1;; esac\n",
        flag.display()
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut spec = AgentSpec::of(&w);
    spec.args.extend(["--health-commands".into(), checks.display().to_string()]);
    let agent = Agent::start_with(&w, spec).unwrap();
    // To start a program takes longer than that on a slow machine.
    let ms = 300 * pace::factor();
    let times = format!("interval: {ms}ms, timeout: {ms}ms, fall: 2, rise: 1");
    let _ = agent
        .apply(&Shop::checked(&format!("check: command, command: [ask, --all], {times}")).text(&w))
        .unwrap();
    wait_states(&agent, &ALL_UP);
    std::fs::write(&flag, "s1 g1").unwrap();
    wait_states(&agent, &[("s0", "up"), ("s1", "down"), ("g1", "down")]);
    let status = agent.gray_ok(&["status"]).unwrap();
    assert!(status.contains("s1 is down: s1 is told to fail (ask ended with 1)"), "{status}");
    assert_eq!(in_tables(&agent), [backend(&w, 0)].into(), "no route names gray");
    std::fs::write(&flag, "").unwrap();
    wait_states(&agent, &ALL_UP);

    // The same instances by HTTP; a status that is not asked for is a failure. Who is up stays so until it fails.
    let _ = agent
        .apply(&Shop::checked(&format!("check: http, path: /file, host: shop.test, {times}")).text(&w))
        .unwrap();
    nginx[1].kill9().unwrap();
    wait_states(&agent, &[("s0", "up"), ("s1", "down")]);
    let _ = load(&w, &w.clients[0].place(), 100);
    let _ = agent.apply(&Shop::checked(&format!("check: http, status: 404, {times}")).text(&w)).unwrap();
    wait_states(&agent, &[("s0", "down"), ("g0", "down")]);
    residue::assert_none(&w, agent);
}

/// C11: one client, one instance, also when another instance comes and goes; a subset's clients are still spread.
#[test]
fn c11_affinity_by_client_holds_while_the_instances_stand() {
    let w = world();
    let mut servers: Vec<Option<Server>> = (0..4).map(|j| Some(server(&w, j))).collect();
    let agent = Agent::start(&w).unwrap();
    let shop = Shop::checked(&http()).all_to("2.0").text(&w);
    let _ = agent.apply(&shop.replace("    stable:", "    affinity: client\n    stable:")).unwrap();
    wait_states(&agent, &ALL_UP);
    let client = w.clients[0].place();
    let served = |report: &Report| -> Vec<(String, String)> {
        let one = |(source, by): (&String, &std::collections::BTreeMap<String, u64>)| {
            assert_eq!(by.len(), 1, "{source} saw {by:?}");
            (source.clone(), by.keys().next().unwrap().clone())
        };
        report.by_source.iter().map(one).collect()
    };
    let before = served(&load(&w, &client, 320));
    let all: BTreeSet<&String> = before.iter().map(|(_, server)| server).collect();
    assert_eq!((before.len(), all.len()), (16, 2), "{before:?}");
    servers[3].take().unwrap().kill9().unwrap();
    wait_states(&agent, &[("g1", "down")]);
    let meanwhile = served(&load(&w, &client, 320));
    assert!(meanwhile.iter().all(|(_, server)| server.starts_with("g0")), "{meanwhile:?}");
    servers[3] = Some(server(&w, 3));
    wait_states(&agent, &ALL_UP);
    assert_eq!(served(&load(&w, &client, 320)), before, "everybody is back where they were");
    residue::assert_none(&w, agent);
}

#[test]
fn a_policy_cannot_choose_programs_where_the_agent_runs_none() {
    let w = world();
    let agent = Agent::start(&w).unwrap();
    let refused = agent.apply(&Shop::checked("check: command, command: [ask]").text(&w)).unwrap_err();
    assert!(refused.to_string().contains("this agent runs none"), "{refused:#}");
    residue::assert_none(&w, agent);
}

/// C11: each connection goes to the next instance, by weight; who is down has no turn.
#[test]
fn c11_round_robin_gives_each_connection_to_the_next_instance() {
    let w = world();
    let mut servers: Vec<Option<Server>> = (0..4).map(|j| Some(server(&w, j))).collect();
    let agent = Agent::start(&w).unwrap();
    let shop = Shop::checked(&http()).all_to("2.0").text(&w);
    let _ = agent.apply(&shop.replace("    stable:", "    balance: round-robin\n    stable:")).unwrap();
    wait_states(&agent, &ALL_UP);
    let client = w.clients[0].place();
    let served = |n| load(&w, &client, n).by_server;
    let both = served(60);
    let counts: Vec<u64> = both.values().copied().collect();
    assert_eq!(counts, [30, 30], "{both:?}");
    servers[3].take().unwrap().kill9().unwrap();
    wait_states(&agent, &[("g1", "down")]);
    let one = served(20);
    assert_eq!(one.len(), 1, "{one:?}");
    servers[3] = Some(server(&w, 3));
    wait_states(&agent, &ALL_UP);
    let again: Vec<u64> = served(40).into_values().collect();
    assert_eq!(again, [20, 20]);
    residue::assert_none(&w, agent);
}
