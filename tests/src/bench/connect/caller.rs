//! Callers on a node and an instance behind it, each in a world of its own.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;

use crate::agent::{Agent, AgentSpec};
use crate::bench::policy;
use crate::cgroup::Cgroup;
use crate::server::Nginx;
use crate::world::{World, WorldSpec, vip4};

/// Who calls what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The instance, without gray.
    Direct,
    /// The service; gray sends the call to the instance.
    Steered,
    /// The instance, which is no service, under gray's hooks.
    NotOurs,
}

impl Kind {
    /// The baseline first.
    pub const ALL: [Self; 3] = [Self::Direct, Self::Steered, Self::NotOurs];

    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "the instance, no gray",
            Self::Steered => "the service, connect path",
            Self::NotOurs => "the instance, under gray's hooks",
        }
    }
}

const INSTANCE: u16 = 8080;
const SERVICE: u16 = 80;

/// A world to call in. Dropped in this order: agent, server, outsiders, world.
pub struct Caller {
    pub kind: Kind,
    _agent: Option<Agent>,
    _nginx: Nginx,
    /// As deep as that of the callers, without gray's hooks.
    pub outsiders: Cgroup,
    pub world: World,
}

impl Caller {
    pub fn build(kind: Kind) -> Result<Self> {
        let spec = WorldSpec { clients: 0, backends: 1, vips: vec![None], ..WorldSpec::default() };
        let world = World::build(spec)?;
        let nginx = Nginx::start(&world.backends[0].place(), world.temp(), "web", "1.0", INSTANCE)?;
        let outsiders = world.lab().cgroup().child("outsiders")?;
        let mut caller = Self { kind, _agent: None, _nginx: nginx, outsiders, world };
        if kind != Kind::Direct {
            let spec = AgentSpec { attach: Vec::new(), ..AgentSpec::of(&caller.world) };
            let agent = Agent::start_with(&caller.world, spec)?;
            let _ = agent.apply(&policy::tcp_and_udp(&[(caller.service(), caller.instance())]))?;
            caller._agent = Some(agent);
        }
        Ok(caller)
    }

    pub fn service(&self) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(vip4(0)), SERVICE)
    }

    pub fn instance(&self) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.world.backends[0].v4), INSTANCE)
    }

    pub fn dialled(&self) -> SocketAddr {
        if self.kind == Kind::Steered { self.service() } else { self.instance() }
    }
}
