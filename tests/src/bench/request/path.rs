//! The ways from a client that names its APP ID over an edge to the instance that belongs to it, each in a world of its own.

use std::net::{IpAddr, SocketAddr};
use std::path::Path as FilePath;

use anyhow::{Context as _, Result, ensure};

use crate::agent::{Agent, AgentSpec};
use crate::bench::policy;
use crate::client::crowd::Member;
use crate::client::curl;
use crate::link;
use crate::server::{Choice, Haproxy, Nginx, NginxLua, Site};
use crate::world::{World, WorldSpec, vip4};

/// What reads the APP ID and steers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nobody: clients dial the instance that is theirs.
    Routed,
    Gray,
    GrayEach,
    Haproxy,
    Lua,
}

impl Kind {
    /// The baseline first.
    pub const ALL: [Self; 5] = [Self::Routed, Self::Gray, Self::GrayEach, Self::Haproxy, Self::Lua];

    pub fn name(self) -> &'static str {
        match self {
            Self::Routed => "routed, not steered",
            Self::Gray => "gray, per connection",
            Self::GrayEach => "gray, per request",
            Self::Haproxy => "HAProxy, http",
            Self::Lua => "nginx, Lua",
        }
    }
}

/// APP IDs on the list.
pub const LISTED: usize = 10_000;
/// Clients; half of them are on the list.
const MEMBERS: usize = 512;
const SERVICE: u16 = 80;
const INSTANCES: [u16; 2] = [8080, 8081];
/// By version: stable, gray.
const SERVERS: [(&str, &str); 2] = [("stable", "1.0"), ("gray", "2.0")];

/// The APP IDs of the list.
fn listed() -> Vec<String> {
    (0..LISTED).map(|n| format!("app-{n:05}")).collect()
}

/// What keeps a path steered; a drop ends it.
enum Steering {
    None,
    Gray(Box<Agent>),
    Haproxy(Haproxy),
    Lua(NginxLua),
}

/// A path, ready for traffic. Dropped in this order: what steers, the server, the world.
pub struct Path {
    pub kind: Kind,
    steering: Steering,
    server: Nginx,
    pub world: World,
}

impl Path {
    /// `bulk`: what both versions have for `/bulk`.
    pub fn build(kind: Kind, bulk: &FilePath) -> Result<Self> {
        let spec =
            WorldSpec { backends: 1, sources4: 1, sources6: 1, vips: vec![None], ..WorldSpec::default() };
        let world = World::build(spec)?;
        let site = |i: usize| {
            let (name, version) = SERVERS[i];
            Site { name, version, port: INSTANCES[i], tls: false, h2: false, resets: 0 }
        };
        let server = Nginx::serving(&world.backends[0].place(), world.temp(), &[site(0), site(1)])?;
        server.offer(bulk)?;
        let steering = steer(kind, &world).with_context(|| kind.name())?;
        let path = Self { kind, steering, server, world };
        path.members()[..2].iter().try_for_each(|m| path.look(m)).with_context(|| kind.name())?;
        Ok(path)
    }

    /// A member's request goes where it belongs.
    fn look(&self, m: &Member) -> Result<()> {
        let header = format!("X-App-Id: {}", m.app);
        let url = format!("http://{}/", m.dial);
        let answer = curl::get(&self.world.clients[0].place(), &url, &["-H", &header])?.json()?;
        ensure!(answer["version"] == m.version.as_str(), "{}: a strange answer: {answer}", m.app);
        Ok(())
    }

    /// Those who ask, in turn on the list and not.
    pub fn members(&self) -> Vec<Member> {
        (0..MEMBERS).map(|n| self.member(n)).collect()
    }

    fn member(&self, n: usize) -> Member {
        let gray = n % 2;
        // All over the list; or behind its end.
        let app = if gray == 1 { n * (LISTED / MEMBERS) } else { LISTED + n };
        let server = IpAddr::V4(self.world.backends[0].v4);
        let dial = match self.kind {
            Kind::Routed => SocketAddr::new(server, INSTANCES[gray]),
            _ => SocketAddr::new(IpAddr::V4(vip4(0)), SERVICE),
        };
        let (name, version) = SERVERS[gray];
        Member { dial, app: format!("app-{app:05}"), name: name.into(), version: version.into(), server }
    }

    /// The processes of the edge, and that of the server.
    pub fn processes(&self) -> (Vec<u32>, Vec<u32>) {
        let edge = match &self.steering {
            Steering::None => None,
            Steering::Gray(agent) => agent.pid(),
            Steering::Haproxy(p) => p.pid(),
            Steering::Lua(p) => p.pid(),
        };
        (edge.into_iter().collect(), self.server.pid().into_iter().collect())
    }
}

fn steer(kind: Kind, world: &World) -> Result<Steering> {
    let service = SocketAddr::new(IpAddr::V4(vip4(0)), SERVICE);
    let instances = INSTANCES.map(|port| SocketAddr::new(IpAddr::V4(world.backends[0].v4), port));
    let choice = || {
        link::ip_batch(&world.edge, &format!("addr add {}/32 dev lo\n", vip4(0)))?;
        let [other, listed] = instances;
        let header = "X-App-Id".into();
        Ok::<_, anyhow::Error>(Choice { listen: service, header, values: self::listed(), listed, other })
    };
    let gray = |per| {
        let agent = Agent::start_with(world, AgentSpec { cgroup: None, ..AgentSpec::of(world) })?;
        let _ = agent.apply(&policy::by_app(&[(service, instances)], &listed(), per))?;
        Ok::<_, anyhow::Error>(Steering::Gray(Box::new(agent)))
    };
    let edge = world.edge_place();
    Ok(match kind {
        Kind::Routed => Steering::None,
        Kind::Gray => gray("connection")?,
        Kind::GrayEach => gray("request")?,
        Kind::Haproxy => Steering::Haproxy(Haproxy::choosing(&edge, world.temp(), &choice()?)?),
        Kind::Lua => Steering::Lua(NginxLua::start(&edge, world.temp(), &choice()?)?),
    })
}
