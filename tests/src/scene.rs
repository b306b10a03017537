//! What most live tests start with: a world, stable 1.0 and gray 2.0 serving in it, and an agent.

use std::net::{IpAddr, SocketAddr};

use crate::agent::{Agent, AgentSpec};
use crate::client::{LoadSpec, Mode, Report};
use crate::place::Place;
use crate::policy::PolicyText;
use crate::residue;
use crate::server::{Server, ServerSpec};
use crate::world::{World, WorldSpec, vip4, vip6};

/// Dropped in this order: agent, servers, world.
pub struct Scene {
    pub agent: Agent,
    pub stable: Server,
    pub gray: Server,
    pub world: World,
}

/// HTTP, a connection per request and kept alive; TCP echo; UDP connected and not; with the service's port.
pub const MODES: [(u16, Mode); 5] = [
    (8080, Mode::Http { per_connection: 1 }),
    (8080, Mode::Http { per_connection: 8 }),
    (9000, Mode::Tcp { per_connection: 3 }),
    (9001, Mode::Udp { connected: true, per_socket: 2 }),
    (9001, Mode::Udp { connected: false, per_socket: 2 }),
];

/// The first service address.
pub fn vip(v6: bool, port: u16) -> SocketAddr {
    SocketAddr::new(if v6 { IpAddr::V6(vip6(0)) } else { IpAddr::V4(vip4(0)) }, port)
}

/// `stable` 1.0 on backend 0, `gray` 2.0 on backend 1.
///
/// # Panics
/// When one does not start.
#[track_caller]
pub fn servers(w: &World) -> (Server, Server) {
    let start = |j: usize, name, version| {
        let b = &w.backends[j];
        Server::start(&b.place(), ServerSpec::on(b, name, version)).unwrap()
    };
    (start(0, "stable", "1.0"), start(1, "gray", "2.0"))
}

impl Scene {
    /// A world of this shape, with no policy yet.
    ///
    /// # Panics
    /// When something does not start.
    #[track_caller]
    pub fn start(spec: WorldSpec) -> Self {
        Self::with(spec, AgentSpec::of)
    }

    /// The same without callers on the edge: the packet path alone.
    ///
    /// # Panics
    /// When something does not start.
    #[track_caller]
    pub fn packets(spec: WorldSpec) -> Self {
        Self::with(spec, AgentSpec::packets)
    }

    #[track_caller]
    fn with(spec: WorldSpec, agent: impl FnOnce(&World) -> AgentSpec) -> Self {
        let world = World::build(spec).unwrap();
        let (stable, gray) = servers(&world);
        let agent = Agent::start_with(&world, agent(&world)).unwrap();
        Self { agent, stable, gray, world }
    }

    /// Applies, and returns the epoch.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn apply(&self, policy: &PolicyText) {
        let _ = self.agent.apply(&policy.to_string()).unwrap();
    }

    /// Runs a load of client 0, `rounds` connections from each of its addresses, and expects no failure.
    ///
    /// # Panics
    /// When a request fails.
    #[track_caller]
    pub fn load(&self, v6: bool, port: u16, mode: Mode, rounds: u64) -> Report {
        let sources = self.world.clients[0].sources(v6);
        let per = match mode {
            Mode::Http { per_connection: n } | Mode::Tcp { per_connection: n } => n,
            Mode::Udp { per_socket: n, .. } => n,
        };
        let count = sources.len() as u64 * rounds * u64::from(per.max(1));
        let report = self.load_from(&self.world.clients[0].place(), v6, port, mode, sources, count);
        if report.failed() > 0 {
            crate::command::note(&self.what_happened());
        }
        report.assert_all_ok();
        report
    }

    /// What the kernel knows of a failed request, for whoever reads the test's output: gray's counters, the neighbours, the TCP stacks.
    fn what_happened(&self) -> String {
        let say = |place: &Place, args: &[&str]| {
            let out = place.command(args[0]).args(&args[1..]).output();
            let text =
                out.map_or_else(|e| e.to_string(), |o| String::from_utf8_lossy(&o.stdout).into_owned());
            format!("--- {}\n{text}", args.join(" "))
        };
        let status = self.agent.gray_json(&["status"]).map(|s| s["counters"].to_string());
        let edge = Place::new(&self.world.edge);
        let mut all = vec![format!("--- counters: {}", status.unwrap_or_else(|e| format!("{e:#}")))];
        all.push(say(&edge, &["ip", "-s", "neigh"]));
        for place in [edge, self.world.clients[0].place(), self.world.backends[1].place()] {
            all.push(say(&place, &["nstat", "-as"]));
        }
        all.join("\n")
    }

    /// Runs a load from anywhere; nothing is asserted of it.
    ///
    /// # Panics
    /// When the generator does not start.
    #[track_caller]
    pub fn load_from(
        &self,
        place: &Place,
        v6: bool,
        port: u16,
        mode: Mode,
        sources: Vec<IpAddr>,
        count: u64,
    ) -> Report {
        LoadSpec::new(vip(v6, port), mode).count(count).sources(sources).run(place).unwrap()
    }

    /// Expects exactly these sources of client 0 on 2.0, every other one on 1.0, with one HTTP request each.
    ///
    /// # Panics
    /// When a source is on another side, or both.
    #[track_caller]
    pub fn expect_gray(&self, v6: bool, gray: &[IpAddr]) {
        let report = self.load(v6, 8080, Mode::Http { per_connection: 1 }, 1);
        expect_split(&report, &self.world.clients[0].sources(v6), gray);
    }

    /// Uninstalls and looks for leftovers.
    ///
    /// # Panics
    /// When there are some.
    #[track_caller]
    pub fn finish(self) {
        residue::assert_none(&self.world, self.agent);
    }
}

/// Each of `all` saw one version only: 2.0 when it is one of `gray`, else 1.0.
///
/// # Panics
/// When one did not.
#[track_caller]
pub fn expect_split(report: &Report, all: &[IpAddr], gray: &[IpAddr]) {
    for source in all {
        let wanted = if gray.contains(source) { "2.0" } else { "1.0" };
        assert_eq!(report.versions_of(*source), [wanted], "{source}");
    }
}
