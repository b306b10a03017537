//! `nat: dsr`: instances get packets in other ones and answer clients themselves, past the node that steers. H1, H3.

use std::{net::IpAddr, process::Command, time::Duration};

use gray_common::Reason;
use gray_tests::{
    World, WorldSpec,
    agent::{Agent, AgentSpec},
    client::{LoadSpec, Mode, curl},
    command::{output, run, wait_for},
    link::{EndSpec, Veth, ip_batch},
    policy::PolicyText,
    residue,
    scene::{MODES, Scene, servers, vip},
    server::{Nginx, Server},
    skip,
    world::{vip4, vip6},
};
use gray_userspace::sys::kernel::KernelVersion;

const FILES: u16 = 8081;

/// A world where both backends have the service address, and a way of their own to the client, which is the only one.
struct Stage {
    world: World,
    _direct: Vec<Veth>,
    /// The edge's address of each family that its packets come from.
    source: [IpAddr; 2],
}

fn stage() -> Stage {
    on_stage(false)
}

/// `own`: the service's address is stable's own, and routed there.
fn on_stage(own: bool) -> Stage {
    // So many that a half of them is neither none nor all.
    let spec = WorldSpec { vips: vec![own.then_some(0)], sources6: 16, ..WorldSpec::default() };
    let mut world = World::build(spec).unwrap();
    let mut direct = Vec::new();
    for j in 0..world.backends.len() {
        let (backend, client) = (&world.backends[j], &world.clients[0]);
        let net = |v6: bool, host: u8| match v6 {
            false => format!("198.18.{}.{host}/24", 150 + j),
            true => format!("fd00:18:{}::{host}/64", 150 + j),
        };
        let near = EndSpec {
            ns: client.ns.clone(),
            ifname: format!("d{j}"),
            addresses: vec![net(false, 1), net(true, 1)],
            routes: vec![],
        };
        let far = EndSpec {
            ns: backend.ns.clone(),
            ifname: "direct".into(),
            addresses: vec![net(false, 2), net(true, 2)],
            routes: vec![],
        };
        direct.push(Veth::create(near, far, 1500).unwrap());
        if !own || j > 0 {
            let script = format!("addr add {}/32 dev lo\naddr add {}/128 dev lo nodad\n", vip4(0), vip6(0));
            ip_batch(&backend.ns, &script).unwrap();
        }
        let script = format!(
            "route replace default via 198.18.{n}.1\nroute replace ::/0 via fd00:18:{n}::1\n",
            n = 150 + j
        );
        ip_batch(&backend.ns, &script).unwrap();
        world.backends[j].vips = vec![IpAddr::V4(vip4(0)), IpAddr::V6(vip6(0))];
    }
    let source = ["198.18.200.1", "fd00:18:200::1"].map(|a| a.parse().unwrap());
    Stage { world, _direct: direct, source }
}

/// The agent of the edge.
fn edge(s: &Stage) -> Agent {
    edge_with(s, AgentSpec::packets(&s.world))
}

fn edge_with(s: &Stage, mut spec: AgentSpec) -> Agent {
    spec.args.extend(s.source.iter().flat_map(|a| ["--dsr-source".to_owned(), a.to_string()]));
    Agent::start_with(&s.world, spec).unwrap()
}

/// The agent of a backend, which opens what these send.
fn receiver(w: &World, j: usize, from: &[&str]) -> Agent {
    let mut spec = AgentSpec::packets(w);
    spec.attach = vec!["eth0=host".into()];
    spec.args.extend(from.iter().flat_map(|p| ["--dsr-from".to_owned(), (*p).to_owned()]));
    spec.elsewhere = Some((w.backends[j].place(), format!("b{j}")));
    Agent::start_with(w, spec).unwrap()
}

const EDGES: [&str; 2] = ["198.18.200.1", "fd00:18:200::/64"];

fn policy(w: &World, form: &str) -> String {
    written(PolicyText::moved(w), form)
}

fn written(base: PolicyText, form: &str) -> String {
    let text =
        base.service("files", FILES, false).cohort("half", "percent: 50").gray_when("half").to_string();
    text.replace("    instances:", &format!("    nat: dsr\n    encapsulation: {form}\n    instances:"))
}

/// How often a reason counted.
fn counted(agent: &Agent, reason: Reason) -> u64 {
    let status = agent.gray_json(&["status"]).unwrap();
    status["counters"]
        .as_array()
        .unwrap_or_else(|| panic!("{status}"))
        .iter()
        .filter(|r| r["reason"] == reason.label())
        .map(|r| r["count"].as_u64().unwrap())
        .sum()
}

/// Packets that the edge got from the backends.
fn came_back(w: &World) -> u64 {
    let all = w.edge.enter(|| std::fs::read_to_string("/proc/thread-self/net/dev")).unwrap();
    let of = |name: &String| {
        let line = all.lines().find_map(|l| l.trim().strip_prefix(&format!("{name}:"))).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    w.backend_ifs().iter().map(of).sum()
}

/// Every protocol and family by each way of encapsulation, to both versions.
fn everything(s: &Scene) {
    for form in ["ipip", "gue"] {
        let _ = s.agent.apply(&policy(&s.world, form)).unwrap();
        for v6 in [false, true] {
            for (port, mode) in MODES {
                let report = s.load(v6, port, mode, 4);
                let versions = [report.of_version("1.0"), report.of_version("2.0")];
                assert!(versions.iter().all(|n| *n > 0), "{form}, v6 {v6}, {mode:?}: {versions:?}");
                assert_eq!(report.peer_kept, report.ok, "instances see the client");
            }
        }
    }
}

/// TCP and UDP of both families, each way of encapsulation: every answer comes from the service's address, and none of them
/// passes the edge.
#[test]
fn h1_h3_answers_do_not_pass_the_edge() {
    let stage = stage();
    let (stable, gray): (Server, Server) = servers(&stage.world);
    let receivers: Vec<Agent> = (0..2).map(|j| receiver(&stage.world, j, &EDGES)).collect();
    let agent = edge(&stage);
    let Stage { world, _direct, .. } = stage;
    let before = came_back(&world);
    let s = Scene { agent, stable, gray, world };
    everything(&s);
    // Neighbours are asked for, nothing else comes from there.
    let back = came_back(&s.world) - before;
    assert!(back < 50, "{back} packets came from the instances to the edge");
    let flows = s.agent.gray_json(&["flows"]).unwrap();
    let all = flows["flows"].as_array().unwrap();
    assert!(!all.is_empty() && all.iter().all(|f| f["seen_as"].is_null()), "{flows}");
    for r in receivers {
        assert!(counted(&r, Reason::Decapsulated) > 100);
        r.uninstall().unwrap();
    }
    s.finish();
}

/// XDP sends on what tc has decided, where it is in front.
#[test]
fn h1_with_xdp_in_front() {
    if skip::lacks(KernelVersion::new(6, 3, 0), "XDP in front") {
        return;
    }
    let stage = stage();
    let ends = stage.world.clients.iter().map(|c| &c.ns).chain(stage.world.backends.iter().map(|b| &b.ns));
    for ns in ends {
        // Frames are taken by who has GRO, and XDP sees bytes: checksums must be whole.
        let _ = run(ns.command("ethtool").args(["-K", "eth0", "tx", "off", "gro", "on"])).unwrap();
    }
    let (stable, gray): (Server, Server) = servers(&stage.world);
    let receivers: Vec<Agent> = (0..2).map(|j| receiver(&stage.world, j, &EDGES)).collect();
    let mut spec = AgentSpec::packets(&stage.world);
    spec.attach.iter_mut().for_each(|a| a.push_str(":xdp"));
    let agent = edge_with(&stage, spec);
    let Stage { world, _direct, .. } = stage;
    let s = Scene { agent, stable, gray, world };
    everything(&s);
    let text = run(s.world.edge.command("ethtool").args(["-S", &s.world.client_ifs()[0]])).unwrap();
    let redirected: u64 = text
        .lines()
        .filter_map(|l| l.trim().split_once(": "))
        .filter(|(name, _)| name.ends_with("_xdp_redirect"))
        .map(|(_, n)| n.parse::<u64>().unwrap())
        .sum();
    assert!(redirected > 100, "{text}");
    assert_eq!(counted(&s.agent, Reason::RewriteFailed), 0);
    receivers.into_iter().for_each(|r| r.uninstall().unwrap());
    s.finish();
}

/// Stable on its own address is left as it is, gray's share goes in other packets.
#[test]
fn h1_a5_listen_on_stables_own_address() {
    let stage = on_stage(true);
    let (stable, gray): (Server, Server) = servers(&stage.world);
    let gray_node = receiver(&stage.world, 1, &EDGES);
    let agent = edge(&stage);
    let Stage { world, _direct, .. } = stage;
    let s = Scene { agent, stable, gray, world };
    for form in ["ipip", "gue"] {
        let _ = s.agent.apply(&written(PolicyText::own(&s.world), form)).unwrap();
        for v6 in [false, true] {
            for (port, mode) in MODES {
                let report = s.load(v6, port, mode, 4);
                assert!(
                    report.of_version("1.0") > 0 && report.of_version("2.0") > 0,
                    "{form}, {v6}, {mode:?}"
                );
            }
        }
    }
    assert!(counted(&gray_node, Reason::Decapsulated) > 100);
    gray_node.uninstall().unwrap();
    s.finish();
}

/// A drain with a deadline closes what is open when the client speaks next; callers of the node use no tunnel.
#[test]
fn c12_h1_a_drained_instance_loses_its_connections_at_the_deadline() {
    let stage = stage();
    let (stable, gray): (Server, Server) = servers(&stage.world);
    let receivers: Vec<Agent> = (0..2).map(|j| receiver(&stage.world, j, &EDGES)).collect();
    let agent = edge_with(&stage, AgentSpec::of(&stage.world));
    let Stage { world, _direct, .. } = stage;
    let s = Scene { agent, stable, gray, world };
    let _ = s.agent.apply(&policy(&s.world, "ipip")).unwrap();
    let local =
        LoadSpec::new(vip(false, 9000), Mode::Tcp { per_connection: 1 }).count(20).run(&s.world.caller());
    local.unwrap().assert_all_ok();
    let sources = s.world.clients[0].sources(false);
    let spec = LoadSpec::long_lived(vip(false, 9000), 16, 50).sources(sources);
    let mut load = spec.start(&s.world.clients[0].place()).unwrap();
    let patience = Duration::from_secs(30);
    let _ = load.wait_requests(32, patience).unwrap();
    let to_gray = || {
        let flows = s.agent.gray_json(&["flows", "--service", "echo"]).unwrap();
        let all = flows["flows"].as_array().unwrap();
        all.iter().filter(|f| f["instance"] == "g4" && f["state"] == "established").count()
    };
    let moved = to_gray() as u64;
    assert!(moved > 0);
    let _ = s.agent.gray_ok(&["instance", "drain", "echo/g4", "--deadline", "1s"]).unwrap();
    wait_for("the connections to be closed", patience, || Ok(load.snapshot()?.failed() >= moved)).unwrap();
    let so_far = load.snapshot().unwrap().requests;
    let _ = load.wait_requests(so_far + 32, patience).unwrap();
    assert_eq!((load.stop().unwrap().failed(), to_gray()), (moved, 0), "each was closed once");
    receivers.into_iter().for_each(|r| r.uninstall().unwrap());
    s.finish();
}

/// Instead of an agent: Linux' own devices.
#[test]
fn h1_linux_itself_opens_what_gray_sends() {
    let stage = stage();
    // Devices bring their modules, ports of `ip fou` do not.
    let _ = output(Command::new("modprobe").args(["-qa", "fou", "fou6"]));
    for b in &stage.world.backends {
        let devices = format!(
            "link add dsr4 type ipip local {} remote any\nlink set dsr4 up\n\
             link add dsr6 type ip6tnl mode ip6ip6 local {} remote any\nlink set dsr6 up\n\
             fou add port 6080 gue\nfou add port 6080 gue -6\n",
            b.v4, b.v6
        );
        if ip_batch(&b.ns, &devices).is_err() {
            skip::because("no devices ipip and ip6tnl, or no fou");
            return;
        }
    }
    let (stable, gray): (Server, Server) = servers(&stage.world);
    let agent = edge(&stage);
    let Stage { world, _direct, .. } = stage;
    let s = Scene { agent, stable, gray, world };
    everything(&s);
    s.finish();
}

fn bulk(form: &str, offloads: bool) {
    let stage = stage();
    let w = &stage.world;
    let start = |j: usize, name, version| {
        Nginx::start(&w.backends[j].place(), w.temp(), name, version, FILES).unwrap()
    };
    let nginx = [start(0, "stable", "1.0"), start(1, "gray", "2.0")];
    w.clients.iter().for_each(|c| c.link.offloads(offloads).unwrap());
    w.backends.iter().for_each(|b| b.link.offloads(offloads).unwrap());
    stage._direct.iter().for_each(|d| d.offloads(offloads).unwrap());
    let receivers: Vec<Agent> = (0..2).map(|j| receiver(w, j, &EDGES)).collect();
    let agent = edge(&stage);
    let place = w.clients[0].place();
    for (gray, version) in
        [("sources: []", "1.0"), ("sources: [\"198.18.10.0/24\", \"fd00:18:10::/64\"]", "2.0")]
    {
        let text = policy(w, form).replace("percent: 50", gray);
        let _ = agent.apply(&text).unwrap();
        for ip in [IpAddr::V4(vip4(0)), IpAddr::V6(vip6(0))] {
            let answer = curl::get(&place, &nginx[0].url(ip, "/"), &[]).unwrap();
            assert_eq!(answer.json().unwrap()["version"], version, "{ip}");
            assert_eq!(answer.remote_ip.parse::<IpAddr>().unwrap(), ip);
            curl::download_10mb(&place, &nginx[0].url(ip, "/file")).unwrap();
            let [one, two] = &nginx;
            let took = curl::upload_10mb(&place, w.temp(), ip, FILES, &[one, two]).unwrap();
            assert_eq!(took, version, "{ip}");
        }
    }
    // The upload began with segments of the whole MTU: the client was told that the instance's are smaller.
    assert!(counted(&agent, Reason::TooBig) > 0);
    assert_eq!(counted(&agent, Reason::RewriteFailed) + counted(&agent, Reason::DsrFailed), 0);
    drop(nginx);
    receivers.into_iter().for_each(|r| r.uninstall().unwrap());
    residue::assert_none(w, agent);
}

/// 10 MB each way, every byte compared; super-packets go through whole.
#[test]
fn h1_bulk_in_ip_with_offloads() {
    bulk("ipip", true);
}

#[test]
fn h1_bulk_in_ip_without_offloads() {
    bulk("ipip", false);
}

#[test]
fn h1_bulk_in_gue_with_offloads() {
    bulk("gue", true);
}

#[test]
fn h1_bulk_in_gue_without_offloads() {
    bulk("gue", false);
}

/// What comes from a node that is not trusted is not opened, and the connection is not made.
#[test]
fn h1_a_stranger_is_not_opened() {
    let stage = stage();
    let _servers = servers(&stage.world);
    let w = &stage.world;
    let receivers: Vec<Agent> = (0..2).map(|j| receiver(w, j, &["198.18.99.0/24", "fd00:99::/64"])).collect();
    let agent = edge(&stage);
    for (form, v6) in [("ipip", false), ("gue", false), ("ipip", true), ("gue", true)] {
        let _ = agent.apply(&policy(w, form)).unwrap();
        let before: u64 = receivers.iter().map(|r| counted(r, Reason::DsrUntrusted)).sum();
        let ip = if v6 { IpAddr::V6(vip6(0)) } else { IpAddr::V4(vip4(0)) };
        let url = format!("http://{}/", std::net::SocketAddr::new(ip, 8080));
        assert!(curl::get(&w.clients[0].place(), &url, &["--max-time", "1"]).is_err(), "{form} {v6}");
        let after: u64 = receivers.iter().map(|r| counted(r, Reason::DsrUntrusted)).sum();
        assert!(after > before, "{form} {v6}");
    }
    assert!(receivers.iter().all(|r| counted(r, Reason::Decapsulated) == 0));
    receivers.into_iter().for_each(|r| r.uninstall().unwrap());
    residue::assert_none(w, agent);
}

/// What the agent cannot do it refuses, and says what is missing.
#[test]
fn d4_dsr_without_an_address_of_the_node_is_refused() {
    let world = World::build(WorldSpec::default()).unwrap();
    let agent = Agent::start_with(&world, AgentSpec::packets(&world)).unwrap();
    let refused = agent.apply(&policy(&world, "ipip")).unwrap_err().to_string();
    assert!(refused.contains("no IPv4 address") && refused.contains("--dsr-source"), "{refused}");
    residue::assert_none(&world, agent);
}
