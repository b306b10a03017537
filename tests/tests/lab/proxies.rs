//! What gray is compared with: HAProxy, nginx stream and nftables DNAT, each on both families.

use std::net::{IpAddr, SocketAddr};

use gray_tests::client::{LoadSpec, Mode};
use gray_tests::dnat::Dnat;
use gray_tests::server::{Haproxy, NginxStream, Route};
use gray_tests::{World, WorldSpec, residue};

use super::{build, run, stable};

const MODES: [(u16, Mode); 2] =
    [(8080, Mode::Http { per_connection: 4 }), (9000, Mode::Tcp { per_connection: 1 })];

/// Addresses of the edge that clients reach, each with the server of the same port on backend 0.
fn pairs(w: &World) -> Vec<(SocketAddr, SocketAddr)> {
    let b = &w.backends[0];
    let of = |port| {
        let edge = ["198.18.200.1", "fd00:18:200::1"].map(|a| a.parse::<IpAddr>().unwrap());
        let to = [IpAddr::from(b.v4), b.v6.into()];
        [0, 1].map(|i| (SocketAddr::new(edge[i], port), SocketAddr::new(to[i], port)))
    };
    [8080, 9000].into_iter().flat_map(of).collect()
}

fn all_arrive(w: &World, pairs: &[(SocketAddr, SocketAddr)], peer_kept: bool) {
    for (dialled, _) in pairs {
        let (_, mode) = MODES.into_iter().find(|(port, _)| *port == dialled.port()).unwrap();
        let report = run(&LoadSpec::new(*dialled, mode).count(100), w);
        report.assert_all_ok();
        assert_eq!((report.of_version("1.0"), report.peer_kept == 100), (100, peer_kept), "{dialled}");
    }
}

#[test]
fn proxies_carry_connections_to_their_backend() {
    let world = build(WorldSpec::default());
    let _server = stable(&world);
    let pairs = pairs(&world);
    let routes: Vec<Route> = pairs.iter().map(|(a, b)| Route::new(*a, *b)).collect();
    let edge = world.edge_place();
    let haproxy = Haproxy::start(&edge, world.temp(), &routes).unwrap();
    all_arrive(&world, &pairs, false);
    drop(haproxy);
    let stream = NginxStream::start(&edge, world.temp(), &routes).unwrap();
    all_arrive(&world, &pairs, false);
    drop(stream);
    let refused = run(&LoadSpec::new(pairs[0].0, MODES[0].1).count(4), &world);
    assert_eq!(refused.failed(), 4, "{refused:?}");
}

#[test]
fn nat_carries_connections_and_datagrams_also_of_local_callers_and_goes_with_its_guard() {
    let world = build(WorldSpec::default());
    let _server = stable(&world);
    let mut pairs = pairs(&world);
    let dnat = Dnat::add(&world.edge, &pairs).unwrap();
    all_arrive(&world, &pairs, true);
    let local = LoadSpec::new(pairs[0].0, MODES[0].1).count(20).run(&world.edge_place()).unwrap();
    local.assert_all_ok();
    drop(dnat);
    let refused = run(&LoadSpec::new(pairs[0].0, MODES[0].1).count(4), &world);
    assert_eq!(refused.failed(), 4, "{refused:?}");
    pairs.retain(|(a, _)| a.port() == 8080);
    for (dialled, to) in pairs {
        let at = |a: SocketAddr| SocketAddr::new(a.ip(), 9001);
        let _dnat = Dnat::add(&world.edge, &[(at(dialled), at(to))]).unwrap();
        let mode = Mode::Udp { connected: true, per_socket: 1 };
        run(&LoadSpec::new(at(dialled), mode).count(20), &world).assert_all_ok();
    }
    assert_eq!(residue::find(&world).unwrap(), Vec::<String>::new());
}
