//! Tests of the lab itself: without gray, so that a red kernel test means gray and not the lab. Need root.

mod guards;
mod hostile;
mod load;
mod proxies;
mod tools;

use std::net::{IpAddr, SocketAddr};

use gray_tests::client::{LoadSpec, Report};
use gray_tests::server::{Server, ServerSpec};
use gray_tests::{World, WorldSpec, world};

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
