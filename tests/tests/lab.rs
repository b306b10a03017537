//! Tests of the lab itself: without gray, so that a red kernel test means gray and not the lab. Need root.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use gray_tests::client::{Failure, LoadSpec, Mode, Report, curl};
use gray_tests::command::wait_for;
use gray_tests::server::{IperfServer, Nginx, Server, ServerSpec};
use gray_tests::{World, WorldSpec, agent, bpf, client, link, residue, sweep, sys, world};

fn build(spec: WorldSpec) -> World {
    World::build(spec).unwrap_or_else(|e| panic!("{e:#}"))
}

fn vip(v6: bool, port: u16) -> SocketAddr {
    let ip: IpAddr = if v6 { world::vip6(0).into() } else { world::vip4(0).into() };
    SocketAddr::new(ip, port)
}

fn stable(world: &World) -> Server {
    let spec = ServerSpec::on(&world.backends[0], "shop", "1.0");
    Server::start(&world.backends[0].place(), spec).unwrap_or_else(|e| panic!("{e:#}"))
}

fn run(spec: &LoadSpec, world: &World) -> Report {
    spec.run(&world.clients[0].place()).unwrap_or_else(|e| panic!("{e:#}"))
}

#[test]
fn a_world_is_up_in_less_than_two_seconds_and_gone_after() {
    let begun = Instant::now();
    let world = build(WorldSpec { clients: 3, backends: 3, sources4: 200, ..WorldSpec::default() });
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(world.client_ifs(), ["c0", "c1", "c2"]);
    assert_eq!(world.clients[2].v4.len(), 200);
    let (near, far) = (world.clients[1].link.near_info().unwrap(), world.clients[1].link.far_info().unwrap());
    assert_eq!((near.mtu, far.mtu), (1500, 1500));
    assert!(near.mac != far.mac && near.mac != [0; 6]);
    let mut paths: Vec<_> = world.namespaces().iter().map(|n| n.path()).collect();
    paths.extend([world.temp().to_path_buf(), world.lab().cgroup().path().to_path_buf()]);
    assert!(paths.iter().all(|p| p.exists()));
    drop(world);
    for path in paths {
        assert!(!path.exists(), "{} is left", path.display());
    }
}

#[test]
fn curl_reaches_nginx_through_the_edge_on_both_families() {
    let world = build(WorldSpec::default());
    let place = world.backends[0].place();
    let nginx = Nginx::start(&place, world.temp(), "shop", "1.0", 8080).unwrap();
    for (ip, source) in [
        (IpAddr::from(world::vip4(0)), IpAddr::from(world.clients[0].v4[3])),
        (world::vip6(0).into(), world.clients[0].v6[1].into()),
        (world.backends[0].v4.into(), world.clients[0].v4[15].into()),
        (world.backends[0].v6.into(), world.clients[0].v6[0].into()),
    ] {
        let url = nginx.url(ip, "/?nonce=n7");
        let answer =
            curl::get(&world.clients[0].place(), &url, &["--interface", &source.to_string()]).unwrap();
        assert_eq!((answer.status, answer.remote_ip.as_str()), (200, ip.to_string().as_str()));
        let json = answer.json().unwrap();
        assert_eq!(json["version"], "1.0");
        assert_eq!(json["nonce"], "n7");
        assert_eq!(json["peer"], source.to_string());
        assert_eq!(json["server"], ip.to_string());
    }
}

#[test]
fn ten_megabytes_go_both_ways_unchanged_with_offloads_on_and_off() {
    let world = build(WorldSpec::default());
    let nginx = Nginx::start(&world.backends[0].place(), world.temp(), "shop", "1.0", 8080).unwrap();
    let client = world.clients[0].place();
    for offloads in [true, false] {
        world.clients[0].link.offloads(offloads).unwrap();
        world.backends[0].link.offloads(offloads).unwrap();
        for target in [vip(false, 8080), vip(true, 8080)] {
            curl::download_10mb(&client, &nginx.url(target.ip(), "/file")).unwrap();
            let by = curl::upload_10mb(&client, world.temp(), target.ip(), 8080, &[&nginx]).unwrap();
            assert_eq!(by, "1.0");
        }
    }
}

#[test]
fn our_server_sends_the_pattern_and_hashes_bodies() {
    let world = build(WorldSpec::default());
    let _server = stable(&world);
    let client = world.clients[0].place();
    let url = format!("http://{}", vip(false, 8080));
    let answer = curl::get(&client, &format!("{url}/bytes?n=1000003"), &[]).unwrap();
    assert!(answer.body == gray_tests::pattern::bytes(1_000_003));
    let file = world.temp().join("body");
    std::fs::write(&file, &answer.body).unwrap();
    let data = format!("@{}", file.display());
    let answer = curl::get(&client, &url, &["--data-binary", &data]).unwrap().json().unwrap();
    assert_eq!(answer["method"], "POST");
    assert_eq!(answer["body_sha256"], gray_tests::pattern::sha256(&gray_tests::pattern::bytes(1_000_003)));
}

#[test]
fn iperf3_measures_a_path() {
    let world = build(WorldSpec::default());
    let server = IperfServer::start(&world.backends[1].place(), world.temp(), 5201).unwrap();
    for args in [&["-n", "20M"][..], &["-n", "20M", "-R"]] {
        let to = world.backends[1].v6.into();
        let result = client::iperf::run(&world.clients[0].place(), to, server.port, args).unwrap();
        assert!(result.bytes_received >= 19_000_000, "{result:?}");
    }
}

#[test]
fn every_mode_counts_exactly_what_the_server_counts() {
    let world = build(WorldSpec::default());
    let server = stable(&world);
    let http = |n| Mode::Http { per_connection: n };
    let tcp = |n| Mode::Tcp { per_connection: n };
    let udp = |connected, n| Mode::Udp { connected, per_socket: n };
    let cases = [
        (8080, http(1), 400),
        (8080, http(10), 40),
        (9000, tcp(1), 400),
        (9000, tcp(100), 4),
        (9001, udp(true, 1), 400),
        (9001, udp(false, 1), 400),
        (9001, udp(false, 0), 4),
    ];
    for v6 in [false, true] {
        for (port, mode, opened) in cases {
            let before = server.stats().unwrap();
            let sources = world.clients[0].sources(v6);
            let spec = LoadSpec::new(vip(v6, port), mode).sources(sources.clone()).count(400);
            let report = run(&spec, &world);
            let after = server.stats().unwrap();
            report.assert_all_ok();
            assert_eq!(report.ok, 400, "{mode:?}");
            assert_eq!(report.by_server["shop/1.0"], 400);
            assert_eq!(report.of_version("1.0"), 400);
            assert_eq!(report.peer_kept, 400, "{mode:?}");
            let answered = |s: &gray_tests::server::ServerStats| s.requests + s.lines + s.datagrams;
            assert_eq!(answered(&after) - answered(&before), 400, "{mode:?}");
            // A worker whose last connection is not used up closes it with the load.
            assert!((opened..opened + 4).contains(&report.opened), "{mode:?}: {}", report.opened);
            if port != 9001 {
                assert_eq!(after.connections - before.connections, report.opened, "{mode:?}");
            }
            if opened == 400 {
                assert_eq!(report.by_source.len(), sources.len());
                let even = 400 / sources.len() as u64;
                assert!(report.by_source.values().all(|s| s["shop/1.0"] == even), "{:?}", report.by_source);
            }
            assert!(0 < report.p50_us && report.p50_us <= report.p99_us && report.p99_us <= report.max_us);
        }
    }
}

#[test]
fn v4_mapped_sockets_dial_and_see_the_v4_address() {
    let world = build(WorldSpec::default());
    let _server = stable(&world);
    for (port, mode) in [
        (8080, Mode::Http { per_connection: 1 }),
        (9001, Mode::Udp { connected: true, per_socket: 1 }),
        (9001, Mode::Udp { connected: false, per_socket: 1 }),
    ] {
        let mut spec =
            LoadSpec::new(vip(false, port), mode).sources(world.clients[0].sources(false)).count(32);
        spec.v4_mapped = true;
        let report = run(&spec, &world);
        report.assert_all_ok();
        assert_eq!((report.ok, report.peer_kept, report.by_source.len()), (32, 32, 16));
    }
}

#[test]
fn a_wrong_nonce_is_noticed_each_time_in_each_protocol() {
    let world = build(WorldSpec::default());
    let mut spec = ServerSpec::on(&world.backends[0], "shop", "1.0");
    spec.wrong_nonce_every = 10;
    let _server = Server::start(&world.backends[0].place(), spec).unwrap();
    for (port, mode) in [
        (8080, Mode::Http { per_connection: 1 }),
        (9000, Mode::Tcp { per_connection: 1 }),
        (9001, Mode::Udp { connected: true, per_socket: 1 }),
    ] {
        let report = run(&LoadSpec::new(vip(false, port), mode).count(200), &world);
        assert_eq!((report.requests, report.ok), (200, 180), "{report:?}");
        assert_eq!(report.failed_with(Failure::WrongNonce), 20, "{report:?}");
        assert_eq!(report.failed(), 20);
    }
}

#[test]
fn an_answer_from_another_address_is_a_wrong_peer() {
    let world = build(WorldSpec::default());
    let backend = &world.backends[0];
    let (ask, answer) = backend.ns.enter(|| {
        let bind = |ip: IpAddr| std::net::UdpSocket::bind(SocketAddr::new(ip, 9001)).unwrap();
        (bind(world::vip4(0).into()), bind(backend.v4.into()))
    });
    let liar = std::thread::spawn(move || {
        let mut buffer = [0; 100];
        let (n, peer) = ask.recv_from(&mut buffer).unwrap();
        let nonce = String::from_utf8_lossy(&buffer[..n]).into_owned();
        let text = format!("shop 1.0 {nonce} {} {}", peer.ip(), peer.port());
        answer.send_to(text.as_bytes(), peer).unwrap()
    });
    let mode = Mode::Udp { connected: false, per_socket: 1 };
    let report = run(&LoadSpec::new(vip(false, 9001), mode).count(1).workers(1), &world);
    assert!(liar.join().unwrap() > 0);
    assert_eq!(report.failed_with(Failure::WrongPeer), 1, "{report:?}");
}

#[test]
fn failures_are_told_apart() {
    let world = build(WorldSpec::default());
    let http = Mode::Http { per_connection: 1 };
    let report = run(&LoadSpec::new(vip(false, 81), http).count(8), &world);
    assert_eq!((report.failed_with(Failure::Refused), report.ok), (8, 0), "{report:?}");
    // Nobody has the second service address: the edge has no route to it.
    let nowhere = SocketAddr::new(world::vip4(1).into(), 80);
    // One only: the kernel limits the rate of its ICMP answers.
    let report = run(&LoadSpec::new(nowhere, http).count(1).workers(1), &world);
    assert_eq!(report.failed_with(Failure::Unreachable), 1, "{report:?}");
    let mut silent = LoadSpec::new(SocketAddr::new(world.backends[1].v4.into(), 9001), http).count(4);
    silent.timeout_ms = 100;
    link::ip_batch(&world.backends[1].ns, "route add blackhole 198.18.10.0/24\n").unwrap();
    let report = run(&silent, &world);
    assert_eq!(report.failed_with(Failure::TimeOut), 4, "{report:?}");
}

#[test]
fn long_lived_connections_report_stalls_and_the_death_of_their_server() {
    let world = build(WorldSpec::default());
    let server = stable(&world);
    let spec = LoadSpec::long_lived(vip(true, 9000), 20, 5);
    let mut load = spec.start(&world.clients[0].place()).unwrap();
    let calm = load.wait_requests(200, Duration::from_secs(10)).unwrap();
    assert_eq!((calm.failed(), calm.opened), (0, 20), "{calm:?}");

    sys::kill(server.pid(), libc::SIGSTOP).unwrap();
    std::thread::sleep(Duration::from_millis(400));
    sys::kill(server.pid(), libc::SIGCONT).unwrap();
    let stalled = load.wait_requests(calm.requests + 200, Duration::from_secs(10)).unwrap();
    assert!(stalled.stalls - calm.stalls >= 20, "{} -> {}", calm.stalls, stalled.stalls);
    assert_eq!(stalled.failed(), 0, "{stalled:?}");

    server.kill9().unwrap();
    wait_for("the failures", Duration::from_secs(10), || Ok(load.snapshot()?.failed() >= 40)).unwrap();
    let end = load.stop().unwrap();
    let broken = end.failed_with(Failure::Reset) + end.failed_with(Failure::Closed);
    assert!(broken >= 20 && end.failed_with(Failure::Refused) > 0, "{:?}", end.failures);
    assert_eq!(end.requests, end.ok + end.failed());
}

#[test]
fn samples_carry_times_of_the_machines_clock() {
    let world = build(WorldSpec::default());
    let _server = stable(&world);
    let mut spec = LoadSpec::new(vip(false, 8080), Mode::Http { per_connection: 5 }).count(50);
    spec.record = true;
    let before = sys::monotonic_ns();
    let report = run(&spec, &world);
    let after = sys::monotonic_ns();
    assert_eq!(report.samples.len(), 50);
    for s in &report.samples {
        assert!(before < s.opened_ns && s.opened_ns <= s.begun_ns && s.begun_ns < s.ended_ns);
        assert!(s.ended_ns < after);
        assert_eq!(s.result, Ok("shop/1.0".to_owned()));
    }
}

#[test]
fn a_local_caller_runs_in_the_edge_and_in_its_cgroup() {
    let world = build(WorldSpec::default());
    let _server = stable(&world);
    assert!(world.callers.pids().unwrap().is_empty());
    let mut load = LoadSpec::new(vip(false, 8080), Mode::Http { per_connection: 1 });
    load.workers = 2;
    let mut load = load.start(&world.caller()).unwrap();
    let report = load.wait_requests(50, Duration::from_secs(10)).unwrap();
    assert_eq!(world.callers.pids().unwrap().len(), 1);
    let sources: Vec<_> = report.by_source.keys().cloned().collect();
    assert_eq!(sources, ["198.18.200.1"]);
    load.stop().unwrap().assert_all_ok();
    let child = world.callers.child("billing").unwrap();
    assert!(child.id().unwrap() > 0 && child.id().unwrap() != world.callers.id().unwrap());
}

#[test]
fn an_interface_goes_away_and_comes_back() {
    let world = build(WorldSpec::default());
    let _server = stable(&world);
    let spec = LoadSpec::new(vip(true, 8080), Mode::Http { per_connection: 1 }).count(8);
    let pair = &world.backends[0].link;
    let before = pair.near_info().unwrap();
    pair.delete().unwrap();
    assert!(pair.near_info().is_err());
    pair.create_again().unwrap();
    let after = pair.near_info().unwrap();
    assert!(before.ifindex != after.ifindex && before.mac != after.mac);
    run(&spec, &world).assert_all_ok();
}

#[test]
fn two_worlds_side_by_side_do_not_meet() {
    let (one, two) = (build(WorldSpec::default()), build(WorldSpec::default()));
    let _server = stable(&one);
    let spec = LoadSpec::new(vip(false, 8080), Mode::Http { per_connection: 1 }).count(4);
    run(&spec, &one).assert_all_ok();
    assert_eq!(run(&spec, &two).failed_with(Failure::Refused), 4);
    drop(two);
    run(&spec, &one).assert_all_ok();
}

#[test]
fn residue_sees_what_is_attached_and_nothing_else() {
    let world = build(WorldSpec::default());
    assert_eq!(residue::find(&world).unwrap(), Vec::<String>::new());
    let ingress = bpf::Foreign::tcx(&world.edge, "c0", bpf::TCX_INGRESS).unwrap();
    let second = bpf::Foreign::tcx(&world.edge, "c0", bpf::TCX_INGRESS).unwrap();
    let connect4 = bpf::Foreign::cgroup(&world.callers, 10).unwrap();
    link_clsact(&world, "add");
    let ids = bpf::on_interface(&world.edge, "c0", bpf::TCX_INGRESS).unwrap();
    assert_eq!(ids, [ingress.id().unwrap(), second.id().unwrap()]);
    let left = residue::find(&world).unwrap();
    assert_eq!(left.len(), 4, "{left:#?}");
    for part in ["tcx/ingress", "cgroup_inet4_connect", "clsact"] {
        assert!(left.iter().any(|l| l.contains(part)), "{part}: {left:#?}");
    }
    drop((ingress, second, connect4));
    link_clsact(&world, "del");
    assert_eq!(residue::find(&world).unwrap(), Vec::<String>::new());
}

fn link_clsact(world: &World, verb: &str) {
    let mut tc = world.edge.command("tc");
    let _ = gray_tests::command::run(tc.args(["qdisc", verb, "dev", "b0", "clsact"])).unwrap();
}

#[test]
fn a_lab_whose_process_was_killed_is_swept_and_a_living_one_is_not() {
    use std::io::{BufRead, BufReader};
    let mut holder = std::process::Command::new(env!("CARGO_BIN_EXE_gray-lab-server"))
        .arg("hold")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let _ = BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let made: serde_json::Value = serde_json::from_str(&line).expect("the holder says what it made");
    let strings = |key: &str| made[key].as_array().unwrap().iter().map(|p| p.as_str().unwrap().to_owned());
    let paths: Vec<String> = strings("netns").chain(strings("dirs")).collect();
    let child = made["child"].as_u64().unwrap() as u32;
    let exists = |p: &String| std::path::Path::new(p).exists();
    assert_eq!(paths.len(), 4 + 3);

    let _ = sweep::sweep().unwrap();
    assert!(paths.iter().all(exists), "a living lab was swept");
    assert!(sweep::start_time(child).is_some());

    holder.kill().unwrap();
    let _ = holder.wait().unwrap();
    let _ = sweep::sweep().unwrap(); // a lab of another test may have been quicker
    let left: Vec<_> = paths.iter().filter(|p| exists(p)).collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(sweep::start_time(child), None, "the lab's process still runs");
}

#[test]
fn an_agent_that_does_not_come_up_says_why() {
    let world = build(WorldSpec::default());
    let mut spec = agent::AgentSpec::of(&world);
    assert_eq!(spec.attach, ["c0=edge", "b0=backend", "b1=backend"]);
    spec.binary = Some("/bin/cat".into());
    let why = format!("{:#}", agent::Agent::start_with(&world, spec).unwrap_err());
    assert!(why.contains("gray agent ended: exit status: 1"), "{why}");
    // cat's complaint: what a real agent says on stderr is in the error, too.
    assert!(why.contains("unrecognized option '--state-dir'"), "{why}");
}

#[test]
fn namespaces_are_those_of_ip_netns() {
    let world = build(WorldSpec::default());
    let listed = gray_tests::command::run(std::process::Command::new("ip").args(["netns", "list"])).unwrap();
    assert!(listed.lines().any(|l| l.starts_with(world.edge.name())), "{listed}");
    let by_name = std::fs::File::open(world.edge.path()).unwrap();
    let via_ip = gray_tests::command::run(std::process::Command::new("ip").args([
        "netns",
        "exec",
        world.edge.name(),
        "ip",
        "-o",
        "link",
        "show",
        "c0",
    ]))
    .unwrap();
    assert!(via_ip.contains("c0@"), "{via_ip}");
    std::thread::spawn(move || sys::setns_net(by_name.as_fd()).unwrap()).join().unwrap();
    assert_eq!(link::read_sysctl(&world.edge, "net/ipv4/ip_forward").unwrap(), "1");
    // A test's own thread is where it was.
    assert!(link::list(&world.edge).unwrap().len() > 1);
}
