//! A (in the lane, and in none) -> B, which knows nothing of lanes -> C. B is on the edge's host.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use gray_tests::{
    Place, World, WorldSpec,
    agent::{Agent, AgentSpec},
    cgroup::Cgroup,
    client::{LoadSpec, Mode, Report},
    command::{Daemon, wait_for},
    policy::PolicyText,
    residue,
    scene::{servers, vip},
    server::{Server, iperf::listeners},
};

pub const LANE: &str = "gray-2.0";
pub const PORT: u16 = 18_080;
/// Of each caller.
pub const REQUESTS: u64 = 400;

/// C on two backends, and an agent on the edge; B is started by each test. Dropped in this order.
pub struct Chain {
    pub agent: Agent,
    pub b: Option<Daemon>,
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
        let world = World::build(WorldSpec::default()).unwrap();
        let child = |name| Arc::new(world.callers.child(name).unwrap());
        let [b_cgroup, gray, plain] = ["b", "a-gray", "a"].map(child);
        let c = servers(&world);
        let mut spec = AgentSpec::of(&world);
        spec.args = args.iter().map(|a| (*a).to_owned()).collect();
        let agent = Agent::start_with(&world, spec).unwrap();
        let chain = Self { agent, b: None, b_cgroup, gray, plain, _c: c, world };
        let _ = chain.agent.apply(&chain.policy()).unwrap();
        chain
    }

    /// Where B is.
    pub fn b(&self, v6: bool) -> SocketAddr {
        let v4 = self.world.edge_addresses()[0];
        let v6_address: IpAddr = "fd00:18:10::1".parse().unwrap();
        SocketAddr::new(if v6 { v6_address } else { v4 }, PORT)
    }

    /// B has stable alone; the lane is one of C's.
    pub fn policy(&self) -> String {
        let mut text = PolicyText::own(&self.world).lane(LANE, "web: { version: \"2.0\" }").to_string();
        let [v4, v6] = [false, true].map(|v6| self.b(v6));
        let _ = write!(
            text,
            "---\nservices:\n  b:\n    listen: [\"{v4}\", \"{v6}\"]\n    instances:\n      - {{ address: \"{v4}\", \
             version: \"1.0\" }}\n      - {{ address: \"{v6}\", version: \"1.0\" }}\n    stable: {{ version: \"1.0\" }}\n"
        );
        text
    }

    pub fn place(&self, cgroup: &Arc<Cgroup>) -> Place {
        self.world.edge_place().in_cgroup(cgroup)
    }

    /// B, as `serve.py` says; it calls C's address of this family.
    pub fn serve(&mut self, how: &str, v6: bool) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/links/serve.py");
        let to = vip(v6, 8080);
        let mut command = self.place(&self.b_cgroup).command("python3");
        let _ = command.args([script, how, &PORT.to_string(), &to.ip().to_string(), "8080"]);
        self.run(command);
    }

    /// B is nginx, with so many idle connections to C.
    pub fn proxy(&mut self, keepalive: u32) {
        let dir = self.world.temp().join("b");
        std::fs::create_dir_all(&dir).unwrap();
        let (to, dir) = (vip(false, 8080), dir.display());
        let keep = if keepalive == 0 { String::new() } else { format!(" keepalive {keepalive};") };
        let connection = if keepalive == 0 { "close" } else { "\"\"" };
        let text = format!(
            "daemon off;\nmaster_process off;\nworker_processes 1;\nuser root;\npid {dir}/pid;\nerror_log stderr warn;\n\
             events {{ worker_connections 4096; }}\nhttp {{\n  access_log off;\n  client_body_temp_path {dir}/t;\n  \
             proxy_temp_path {dir}/t;\n  fastcgi_temp_path {dir}/t;\n  uwsgi_temp_path {dir}/t;\n  scgi_temp_path {dir}/t;\n  \
             upstream c {{ server {to};{keep} }}\n  server {{\n    listen [::]:{PORT} ipv6only=off backlog=4096;\n    location / {{ \
             proxy_pass http://c; proxy_http_version 1.1; proxy_set_header Connection {connection}; }}\n  }}\n}}\n"
        );
        let conf = self.world.temp().join("b/nginx.conf");
        std::fs::write(&conf, text).unwrap();
        let mut command = self.place(&self.b_cgroup).command("nginx");
        let _ = command.arg("-c").arg(&conf).args(["-e", "stderr"]);
        self.run(command);
    }

    fn run(&mut self, mut command: std::process::Command) {
        self.b = None;
        let mut b = Daemon::spawn("b", &mut command, &self.world.temp().join("b.log")).unwrap();
        let place = self.world.edge_place();
        wait_for("b to listen", Duration::from_secs(10), || {
            b.check_alive()?;
            Ok(listeners(&place, PORT) != 0)
        })
        .unwrap();
        self.b = Some(b);
    }

    /// Names B and both callers.
    pub fn label(&self, link: &[&str]) {
        let path = |c: &Cgroup| c.path().to_string_lossy().into_owned();
        let set = |name, cgroup: &Cgroup, more: &[&str]| {
            let path = path(cgroup);
            let args = ["workload", "set", name, "--cgroup", &path];
            let _ = self.agent.gray_ok(&[&args[..], more].concat()).unwrap();
        };
        set("b", &self.b_cgroup, link);
        set("a-gray", &self.gray, &["--lane", LANE]);
        set("a", &self.plain, &[]);
    }

    pub fn load(&self, v6: bool, per_connection: u32) -> LoadSpec {
        let mut spec = LoadSpec::new(self.b(v6), Mode::Http { per_connection }).count(REQUESTS).workers(4);
        spec.timeout_ms = 30_000;
        spec
    }

    /// Both callers at once.
    pub fn ask(&self, spec: &LoadSpec) -> Both {
        let [gray, plain] = [&self.gray, &self.plain].map(|cgroup| spec.start(&self.place(cgroup)).unwrap());
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
