//! The load generator: its counts, its checks, and the failures it tells apart.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use gray_tests::client::{Failure, LoadSpec, Mode};
use gray_tests::command::wait_for;
use gray_tests::pace::patience;
use gray_tests::server::{Server, ServerSpec};
use gray_tests::{WorldSpec, link, sys, world};

use super::{build, run, stable, vip};

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
        // One socket for each of the four workers that got to ask.
        (9001, udp(false, 0), 1),
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
    std::thread::sleep(patience(Duration::from_millis(400)));
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

/// A server that stands still for a while: the closed loop sees four slow answers, one for each worker; the open
/// loop knows of all that were due meanwhile.
#[test]
fn an_open_loop_asks_at_its_rate_and_counts_what_waited() {
    let world = build(WorldSpec::default());
    let server = stable(&world);
    let mode = Mode::Tcp { per_connection: 0 };
    let mut spec = LoadSpec::new(vip(false, 9000), mode).rate(500.0).count(500);
    spec.record = true;
    let report = run(&spec, &world);
    report.assert_all_ok();
    let due: Vec<u64> = report.samples.iter().map(|s| s.due_ns).collect();
    let (first, last) = (due.iter().min().unwrap(), due.iter().max().unwrap());
    assert!((997_000_000..999_000_000).contains(&(last - first)), "499 intervals of 2 ms: {}", last - first);
    assert!(report.samples.iter().all(|s| s.due_ns <= s.begun_ns && s.begun_ns <= s.ended_ns));
    assert!(report.elapsed_ms >= 990, "{}", report.elapsed_ms);
    assert_eq!(report.latency.count(), 500);

    let stalled = |spec: LoadSpec| {
        let mut load = spec.start(&world.clients[0].place()).unwrap();
        let _ = load.wait_requests(50, Duration::from_secs(10)).unwrap();
        sys::kill(server.pid(), libc::SIGSTOP).unwrap();
        std::thread::sleep(patience(Duration::from_millis(600)));
        sys::kill(server.pid(), libc::SIGCONT).unwrap();
        let now = load.snapshot().unwrap().requests;
        let _ = load.wait_requests(now + 350, Duration::from_secs(10)).unwrap();
        load.stop().unwrap()
    };
    let open = stalled(LoadSpec::new(vip(false, 9000), mode).rate(500.0));
    open.assert_all_ok();
    // Due during the 400 ms of the standstill that lie more than 200 ms before its end: 200.
    assert!(open.stalls >= 150 && open.late >= 150, "{} stalls, {} late", open.stalls, open.late);
    let closed = stalled(LoadSpec::new(vip(false, 9000), mode));
    assert_eq!((closed.stalls, closed.late), (4, 0), "one for each worker");
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
