//! A (in the lane, and in none) -> B, which knows nothing of lanes -> C. B is on the edge's host.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use gray_tests::{
    Place, World, WorldSpec,
    agent::{Agent, AgentSpec},
    cgroup::Cgroup,
    client::{LoadSpec, Mode, Report},
    pace,
    policy::PolicyText,
    residue,
    scene::{servers, vip},
    server::{How, Middle, MiddleSpec, Server},
};

pub const LANE: &str = "gray-2.0";
pub const PORT: u16 = 18_080;
/// Of each caller.
pub const REQUESTS: u64 = 200;

/// ... where one of a thousand would be too many.
pub fn many() -> u64 {
    pace::many("requests", 10_000, 500) as u64
}

/// C on two backends, and an agent on the edge; B is started by each test. Dropped in this order.
pub struct Chain {
    pub agent: Agent,
    pub b: Option<Middle>,
    pub b_cgroup: Arc<Cgroup>,
    pub gray: Arc<Cgroup>,
    pub plain: Arc<Cgroup>,
    _c: (Server, Server),
    pub world: World,
}

/// What both callers got.
pub struct Both {
    pub gray: Report,
    pub plain: Report,
}

impl Chain {
    pub fn start(args: &[&str]) -> Self {
        Self::start_with(WorldSpec::default(), args)
    }

    /// With two more namespaces like a client's, for B and A.
    pub fn contained(args: &[&str]) -> Self {
        Self::start_with(WorldSpec { clients: 3, ..WorldSpec::default() }, args)
    }

    fn start_with(spec: WorldSpec, args: &[&str]) -> Self {
        let world = World::build(spec).unwrap();
        let child = |name| Arc::new(world.callers.child(name).unwrap());
        let [b_cgroup, gray, plain] = ["b", "a-gray", "a"].map(child);
        let c = servers(&world);
        let mut spec = AgentSpec::of(&world);
        spec.args = args.iter().map(|a| (*a).to_owned()).collect();
        let agent = Agent::start_with(&world, spec).unwrap();
        let chain = Self { agent, b: None, b_cgroup, gray, plain, _c: c, world };
        let [v4, v6] = [false, true].map(|v6| [chain.b(v6); 2]);
        chain.apply(&[v4, v6], "dnat");
        chain
    }

    /// B is dialled there, and is there.
    pub fn apply(&self, at: &[[SocketAddr; 2]], nat: &str) {
        let _ = self.agent.apply(&self.policy(at, nat)).unwrap();
    }

    /// Where B is.
    pub fn b(&self, v6: bool) -> SocketAddr {
        let v4 = self.world.edge_addresses()[0];
        let v6_address: IpAddr = "fd00:18:10::1".parse().unwrap();
        SocketAddr::new(if v6 { v6_address } else { v4 }, PORT)
    }

    /// B has stable alone; the lane is one of C's.
    fn policy(&self, at: &[[SocketAddr; 2]], nat: &str) -> String {
        let mut text = PolicyText::own(&self.world).lane(LANE, "web: { version: \"2.0\" }").to_string();
        let listen: Vec<_> = at.iter().map(|[dialled, _]| format!("\"{dialled}\"")).collect();
        let listen = listen.join(", ");
        let _ =
            write!(text, "---\nservices:\n  b:\n    listen: [{listen}]\n    nat: {nat}\n    instances:\n");
        for [_, is] in at {
            let _ = writeln!(text, "      - {{ address: \"{is}\", version: \"1.0\" }}");
        }
        text + "    stable: { version: \"1.0\" }\n"
    }

    pub fn place(&self, cgroup: &Arc<Cgroup>) -> Place {
        self.world.edge_place().in_cgroup(cgroup)
    }

    /// B; it calls C's address of this family.
    pub fn serve(&mut self, how: How, v6: bool) {
        self.serve_in(&self.world.edge_place(), how, v6);
    }

    /// The same elsewhere.
    pub fn serve_in(&mut self, place: &Place, how: How, v6: bool) {
        self.serve_as(place, MiddleSpec::new(how, PORT, vip(v6, 8080)));
    }

    /// As this says, in the place of the one that ran.
    pub fn serve_as(&mut self, place: &Place, spec: MiddleSpec<'_>) {
        self.b = None;
        self.b = Some(self.middle(place, &self.b_cgroup, spec));
    }

    pub fn middle(&self, place: &Place, cgroup: &Arc<Cgroup>, spec: MiddleSpec<'_>) -> Middle {
        Middle::start(&place.in_cgroup(cgroup), self.world.temp(), spec).unwrap()
    }

    /// Names B and both callers.
    pub fn label(&self, link: &[&str]) {
        self.label_b(link);
        self.label_callers(&self.agent);
    }

    pub fn label_b(&self, link: &[&str]) {
        label(&self.agent, "b", &self.b_cgroup, link);
    }

    fn label_callers(&self, agent: &Agent) {
        label(agent, "a-gray", &self.gray, &["--lane", LANE]);
        label(agent, "a", &self.plain, &[]);
    }

    /// An agent on the client's node, with the same key, which knows the callers there and takes no packets.
    pub fn near(&self) -> Agent {
        let mut spec = AgentSpec::of(&self.world);
        (spec.attach, spec.args) = (Vec::new(), vec!["--tags".into()]);
        spec.elsewhere = Some((self.world.clients[0].place(), "near".into()));
        let near = Agent::start_with(&self.world, spec).unwrap();
        let key = self.world.temp().join("fleet.key");
        let key = key.to_string_lossy();
        let _ = self.agent.gray_ok(&["key", "export", "--file", &key]).unwrap();
        let _ = near.gray_ok(&["key", "import", &key]).unwrap();
        let [v4, v6] = [false, true].map(|v6| [self.b(v6); 2]);
        let _ = near.apply(&self.policy(&[v4, v6], "dnat")).unwrap();
        self.label_callers(&near);
        near
    }

    /// What people hear of B.
    pub fn said(&self) -> Option<String> {
        let all = self.agent.gray_json(&["workload", "list"]).unwrap();
        let b = all.as_array().unwrap().iter().find(|w| w["name"] == "b").unwrap();
        b["link"]["text"].as_str().map(str::to_owned)
    }

    pub fn load(&self, v6: bool, per_connection: u32) -> LoadSpec {
        let mut spec = LoadSpec::new(self.b(v6), Mode::Http { per_connection }).count(REQUESTS).workers(4);
        spec.timeout_ms = 30_000;
        spec
    }

    /// Both callers at once.
    pub fn ask(&self, spec: &LoadSpec) -> Both {
        self.ask_from(spec, &self.world.edge_place())
    }

    /// The same from elsewhere.
    pub fn ask_from(&self, spec: &LoadSpec, place: &Place) -> Both {
        let start = |cgroup: &Arc<Cgroup>| spec.start(&place.in_cgroup(cgroup)).unwrap();
        let [gray, plain] = [&self.gray, &self.plain].map(start);
        let [gray, plain] = [gray, plain].map(|load| {
            let report = load.wait().unwrap();
            report.assert_all_ok();
            report
        });
        Both { gray, plain }
    }

    pub fn finish(self) {
        let Self { agent, b, b_cgroup, gray, plain, _c, world } = self;
        drop((b, b_cgroup, gray, plain, _c));
        residue::assert_none(&world, agent);
    }
}

impl Both {
    /// How many of each got C's 2.0.
    pub fn gray(&self) -> [u64; 2] {
        [&self.gray, &self.plain].map(|r| r.of_version("2.0"))
    }
}

fn label(agent: &Agent, name: &str, cgroup: &Cgroup, more: &[&str]) {
    let path = cgroup.path().to_string_lossy().into_owned();
    let args = ["workload", "set", name, "--cgroup", &path];
    let _ = agent.gray_ok(&[&args[..], more].concat()).unwrap();
}
