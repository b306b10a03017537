//! The ways from a client over an edge to an instance, each in a world of its own: nothing is shared but the
//! machine, so that no path pays for another's hooks, connections or conntrack.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, ensure};

use crate::agent::{Agent, AgentSpec};
use crate::bench::policy;
use crate::client::curl;
use crate::dnat::Dnat;
use crate::link;
use crate::server::proxy::Route;
use crate::server::{Haproxy, IperfServer, Nginx, NginxStream};
use crate::world::{World, WorldSpec, vip4};

/// What steers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Routed,
    Gray,
    Dnat,
    Haproxy,
    Stream,
}

impl Kind {
    /// The baseline first.
    pub const ALL: [Self; 5] = [Self::Routed, Self::Gray, Self::Dnat, Self::Haproxy, Self::Stream];

    pub fn name(self) -> &'static str {
        match self {
            Self::Routed => "routed, not steered",
            Self::Gray => "gray, packet path",
            Self::Dnat => "nftables DNAT",
            Self::Haproxy => "HAProxy, tcp",
            Self::Stream => "nginx, stream",
        }
    }
}

/// Port of the service (or, not steered, of nobody) and of the instance.
const HTTP: (u16, u16) = (80, 8080);
const BULK: (u16, u16) = (81, 5201);

/// What keeps a path steered; a drop ends it.
#[expect(dead_code, reason = "guards")]
enum Steering {
    None,
    Gray(Box<Agent>),
    Dnat(Dnat),
    Haproxy(Haproxy),
    Stream(NginxStream),
}

/// A path, ready for traffic. Dropped in this order: what steers, the servers, the world.
pub struct Path {
    pub kind: Kind,
    _steering: Steering,
    _nginx: Nginx,
    _iperf: IperfServer,
    pub world: World,
}

impl Path {
    pub fn build(kind: Kind) -> Result<Self> {
        let spec =
            WorldSpec { backends: 1, sources4: 1, sources6: 1, vips: vec![None], ..WorldSpec::default() };
        let world = World::build(spec)?;
        let place = world.backends[0].place();
        let nginx = Nginx::start(&place, world.temp(), "web", "1.0", HTTP.1)?;
        let iperf = IperfServer::start(&place, world.temp(), BULK.1)?;
        let steering = steer(kind, &world)?;
        let path = Self { kind, _steering: steering, _nginx: nginx, _iperf: iperf, world };
        let answer = curl::get(&path.world.clients[0].place(), &path.url(), &[])?.json()?;
        ensure!(answer["name"] == "web", "{}: a strange answer: {answer}", kind.name());
        Ok(path)
    }

    fn dialled(&self, (service, instance): (u16, u16)) -> SocketAddr {
        match self.kind {
            Kind::Routed => SocketAddr::new(IpAddr::V4(self.world.backends[0].v4), instance),
            _ => SocketAddr::new(IpAddr::V4(vip4(0)), service),
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}/", self.dialled(HTTP))
    }

    /// Of iperf3.
    pub fn bulk(&self) -> SocketAddr {
        self.dialled(BULK)
    }
}

fn steer(kind: Kind, world: &World) -> Result<Steering> {
    let instance = IpAddr::V4(world.backends[0].v4);
    let pairs = [HTTP, BULK].map(|(service, port)| {
        (SocketAddr::new(IpAddr::V4(vip4(0)), service), SocketAddr::new(instance, port))
    });
    let proxied = || {
        link::ip_batch(&world.edge, &format!("addr add {}/32 dev lo\n", vip4(0)))?;
        Ok::<_, anyhow::Error>(pairs.map(|(service, instance)| Route::new(service, instance)))
    };
    let edge = world.edge_place();
    Ok(match kind {
        Kind::Routed => Steering::None,
        Kind::Gray => Steering::Gray(Box::new(gray(world, &pairs)?)),
        Kind::Dnat => Steering::Dnat(Dnat::add(&world.edge, &pairs)?),
        Kind::Haproxy => Steering::Haproxy(Haproxy::start(&edge, world.temp(), &proxied()?)?),
        Kind::Stream => Steering::Stream(NginxStream::start(&edge, world.temp(), &proxied()?)?),
    })
}

/// All clients to the one instance of each service, on another address and port: every packet is rewritten.
fn gray(world: &World, pairs: &[(SocketAddr, SocketAddr)]) -> Result<Agent> {
    let agent = Agent::start_with(world, AgentSpec { cgroup: None, ..AgentSpec::of(world) })?;
    let _ = agent.apply(&policy::tcp(pairs))?;
    Ok(agent)
}
