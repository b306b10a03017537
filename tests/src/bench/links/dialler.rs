//! A caller in a lane, and a service over an edge, with tags or without: each in a world of its own.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};

use crate::agent::{Agent, AgentSpec};
use crate::bench::dial::{DialSpec, Target};
use crate::cgroup::Cgroup;
use crate::helper::Helper;
use crate::server::{Nginx, Site};
use crate::world::{World, WorldSpec, vip4};

/// Where the call comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// The edge itself: its SYN says the tag, and nobody reads it.
    Node,
    /// A network namespace of its own: the edge reads the tag.
    Container,
}

impl Caller {
    pub const ALL: [Self; 2] = [Self::Node, Self::Container];

    pub fn name(self) -> &'static str {
        match self {
            Self::Node => "a caller on the node",
            Self::Container => "a container, over the edge",
        }
    }

    pub fn tagged(self) -> &'static str {
        match self {
            Self::Node => "a tag is written",
            Self::Container => "a tag is written and read",
        }
    }
}

const LANE: &str = "gray";
const PORT: u16 = 80;
const INSTANCES: [(&str, u16); 2] = [("1.0", 8081), ("2.0", 8082)];

/// Dropped in this order.
pub struct Dialler {
    caller: Caller,
    tags: bool,
    helper: Helper,
    agent: Agent,
    _nginx: Nginx,
    /// A drop ends who is in it.
    _cgroup: Cgroup,
    _world: World,
}

impl Dialler {
    pub fn start(caller: Caller, tags: bool, calls: u32) -> Result<Self> {
        let world = World::build(WorldSpec { backends: 1, vips: vec![None], ..WorldSpec::default() })?;
        let backend = &world.backends[0];
        let site = |(version, port)| Site { name: "web", version, port, tls: false, h2: false, resets: 0 };
        let nginx = Nginx::serving(&backend.place(), world.temp(), &INSTANCES.map(site))?;
        let mut spec = AgentSpec::of(&world);
        if tags {
            spec.args = ["--tags", "--trust-tags", "c0"].map(Into::into).into();
        }
        let agent = Agent::start_with(&world, spec)?;
        let at = SocketAddr::new(IpAddr::V4(vip4(0)), PORT);
        let _ = agent.apply(&policy(at, backend.v4.into()))?;
        let cgroup = world.callers.child("batch")?;
        let path = cgroup.path().to_path_buf();
        let named = path.to_string_lossy();
        let _ = agent.gray_ok(&["workload", "set", "batch", "--cgroup", &named, "--lane", LANE])?;
        let place = match caller {
            Caller::Node => world.edge_place(),
            Caller::Container => world.clients.first().context("the world has clients")?.place(),
        };
        let target = Target { cgroup: path, address: at };
        let spec = DialSpec { targets: vec![target], udp: false, rounds: 0, calls, pause_ms: 20 };
        // It moves into the cgroup by itself.
        let helper = Helper::start(&place, "dial", &spec).context("start the dialler")?;
        Ok(Self { caller, tags, helper, agent, _nginx: nginx, _cgroup: cgroup, _world: world })
    }

    /// The mean time of a call, ns.
    pub fn slice(&mut self) -> Result<f64> {
        Ok(serde_json::from_value(self.helper.ask("slice")?)?)
    }

    /// That it was what it is called.
    pub fn finish(self) -> Result<()> {
        let [said, taken] = ["tag_said", "tag_taken"].map(|reason| self.agent.counted(reason));
        let (says, takes) = (self.tags, self.tags && self.caller == Caller::Container);
        ensure!((said > 0) == says && (taken > 0) == takes, "{said} tags said, {taken} taken");
        drop(self.helper);
        self.agent.uninstall()
    }
}

fn policy(at: SocketAddr, instance: IpAddr) -> String {
    let mut text = format!("services:\n  web:\n    listen: [\"{at}\"]\n    instances:\n");
    for (version, port) in INSTANCES {
        let address = SocketAddr::new(instance, port);
        text += &format!("      - {{ address: \"{address}\", version: \"{version}\" }}\n");
    }
    text + "    stable: { version: \"1.0\" }\nlanes:\n  gray: { web: { version: \"2.0\" } }\n"
}
