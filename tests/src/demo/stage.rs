//! What the demo plays on: world, nginx, callers and the agent as one guard. It sends no traffic.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};

use super::policy::{self, CALLERS, PORT_GRAY, PORT_STABLE};
use crate::agent::{Agent, AgentSpec};
use crate::cgroup::Cgroup;
use crate::place::Place;
use crate::residue;
use crate::server::Nginx;
use crate::world::{World, WorldSpec, vip4, vip6};

/// Of the first half.
pub(super) const SERVERS: usize = 3;

/// A program on the edge host.
pub(super) struct Caller {
    pub name: &'static str,
    pub cgroup: Arc<Cgroup>,
}

/// Fields are dropped in this order.
pub(super) struct Stage {
    agent: Option<Agent>,
    servers: Vec<Nginx>,
    pub callers: Vec<Caller>,
    pub world: World,
}

impl Stage {
    pub fn build() -> Result<Self> {
        let world = World::build(WorldSpec {
            clients: 2,
            // Three of the first half and of the request path; two of the releases. All services' addresses but the first nobody has.
            backends: SERVERS + 2,
            sources4: 75,
            sources6: 25,
            vips: vec![Some(0), None, None, None, None, None, None],
            ..WorldSpec::default()
        })?;
        let servers =
            [("shop-1", "1.0", PORT_STABLE), ("shop-2a", "2.0", PORT_GRAY), ("shop-2b", "2.0", PORT_GRAY)];
        let servers = servers
            .iter()
            .zip(&world.backends)
            .map(|((name, version, port), b)| Nginx::start(&b.place(), world.temp(), name, version, *port))
            .collect::<Result<_>>()?;
        let callers = CALLERS
            .iter()
            .map(|name| Ok(Caller { name, cgroup: Arc::new(world.callers.child(name)?) }))
            .collect::<Result<_>>()?;
        Ok(Self { agent: None, servers, callers, world })
    }

    pub fn servers(&self) -> usize {
        self.servers.len()
    }

    pub fn start_agent(&mut self) -> Result<()> {
        let mut spec = AgentSpec::of(&self.world).as_root();
        for (option, dir) in [("--release-hooks", self.hooks()), ("--health-commands", self.programs())] {
            std::fs::create_dir_all(&dir)?;
            spec.args.extend([option.into(), dir.display().to_string()]);
        }
        // Those of the chain are containers of this host.
        spec.args.push("--tags".into());
        for iface in self.world.backend_ifs().into_iter().take(SERVERS) {
            spec.args.extend(["--trust-tags".into(), iface]);
        }
        let agent = Agent::start_with(&self.world, spec)?;
        for caller in &self.callers {
            let cgroup = caller.cgroup.path().to_string_lossy().into_owned();
            let _ = agent.gray_ok(&["workload", "set", caller.name, "--cgroup", &cgroup])?;
        }
        self.agent = Some(agent);
        Ok(())
    }

    pub fn agent(&self) -> Result<&Agent> {
        self.agent.as_ref().context("the agent is not installed")
    }

    pub fn agent_mut(&mut self) -> Result<&mut Agent> {
        self.agent.as_mut().context("the agent is not installed")
    }

    /// `gray apply` of the example with this percentage; returns the revision it made.
    pub fn apply(&self, percent: u32) -> Result<u64> {
        let file = self.policy_file();
        std::fs::write(&file, policy::with_percent(percent)?)?;
        let message = format!("{percent} %");
        let args = ["apply", "-f", &file.to_string_lossy(), "--message", &message];
        let reply = self.agent()?.gray_json(&args)?;
        reply["revision"].as_u64().with_context(|| format!("apply made no revision: {reply}"))
    }

    /// Programs that releases may run.
    pub fn hooks(&self) -> PathBuf {
        self.world.temp().join("hooks")
    }

    /// Programs that alarms may run.
    pub fn programs(&self) -> PathBuf {
        self.world.temp().join("programs")
    }

    pub fn policy_file(&self) -> PathBuf {
        self.world.temp().join("demo.yaml")
    }

    /// `gray uninstall`; what it left, one line each.
    pub fn uninstall(&mut self) -> Result<Vec<String>> {
        self.agent.take().context("the agent is not installed")?.uninstall()?;
        residue::find(&self.world)
    }

    /// Addresses of all clients, one family.
    pub fn sources(&self, v6: bool) -> Vec<IpAddr> {
        self.world.clients.iter().flat_map(|c| c.sources(v6)).collect()
    }

    pub fn caller_place(&self, caller: &Caller) -> Place {
        self.world.edge_place().in_cgroup(&caller.cgroup)
    }
}

/// What clients and callers dial.
pub(super) fn target(v6: bool) -> SocketAddr {
    let address = if v6 { IpAddr::V6(vip6(0)) } else { IpAddr::V4(vip4(0)) };
    SocketAddr::new(address, PORT_STABLE)
}
