//! The data layers of a release, with a real PostgreSQL and a pair of real Redis: one table serves both versions at once, and the gray
//! layer is cleared, set up and loaded while nobody touches the formal one. Each arm's application dials the same cache service.

use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gray_tests::{
    Place,
    agent::{Agent, AgentSpec},
    cgroup::Cgroup,
    command::{Daemon, run, wait_for},
    helper, pace, residue,
    server::{Postgres, Redis, Server, ServerSpec, redis},
    skip,
    world::{World, WorldSpec, vip4},
};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);
/// Backends: the old version, the new one, the database with the formal layer, the gray layer.
const OLD: usize = 0;
const NEW: usize = 1;
const FORMAL: usize = 2;
const GRAY: usize = 3;

/// Dropped in this order.
struct Shop {
    agent: Agent,
    _server: Server,
    formal: Redis,
    gray: Redis,
    database: Postgres,
    /// Of the old version's application and of the new one's, on the edge host.
    apps: [Arc<Cgroup>; 2],
    hooks: PathBuf,
    world: World,
}

const TABLES: &str = "
create table orders (id bigserial primary key, item text not null);
create table layouts (name text primary key, text text not null);
insert into layouts values ('cart', 'one column'), ('list', 'two columns'), ('user', 'three columns');
";
/// May run again, and beside the old version.
const SCRIPT: &str = "alter table orders add column if not exists note text;\n";
/// Two of three: C = (2 * 100 / 1000) * e^((1 - 2/3) / 2) = 0.23627.
const STRATEGY: &str = "
name: it-14
choose: { fixes: [T-101] }
layer: { keys: 1000, keys-per-tenant: 100, damping: 2 }
";
const TENANTS: &str = "id,tickets\nacme,T-101\nbolt,T-102\ncoil,T-101\n";
const LAYER_BASIS_POINTS: u64 = 2363;
/// What the formal layer may take.
const FORMAL_BYTES: u64 = 64 << 20;
const DROPS: &str = "alter table orders add column more text;\nalter table orders drop column item;\n";

const RELEASE: &str = "
release: shop-2.0
version: 2.0.0-gray.1
services: { shop: { gray: { version: '2.0' } } }
data:
  load: [{ command: [load-layer] }]
  restart: [{ command: [restart-gray] }]
  parameters: [{ command: [set-parameters] }]
  clear: [{ command: [clear-layer] }]
  script: [{ script: shop-2.0.sql, dialect: postgres, run: [run-sql] }]
verify: [{ command: [say] }]
stages: [{ cohort: chosen, samples: 0 }, { percent: 100, samples: 0 }]
";

impl Shop {
    fn start() -> Self {
        let spec = WorldSpec { backends: 4, vips: vec![None, None], ..WorldSpec::default() };
        let world = World::build(spec).unwrap();
        let at = |j: usize| (world.backends[j].place(), IpAddr::V4(world.backends[j].v4));
        let (place, address) = at(FORMAL);
        let database = Postgres::start(&place, world.temp(), address).unwrap();
        let _ = database.sql(TABLES).unwrap();
        let formal = Redis::start(&place, world.temp(), "formal", address).unwrap();
        let (place, address) = at(GRAY);
        let gray = Redis::start(&place, world.temp(), "gray", address).unwrap();
        let old = &world.backends[OLD];
        let server = Server::start(&old.place(), ServerSpec::on(old, "old", "1.0")).unwrap();
        let apps = ["shop-formal", "shop-gray"].map(|n| Arc::new(world.callers.child(n).unwrap()));
        let hooks = world.temp().join("hooks");
        std::fs::create_dir(&hooks).unwrap();
        let mut spec = AgentSpec::of(&world).as_root();
        spec.args = vec!["--release-hooks".into(), hooks.display().to_string()];
        let agent = Agent::start_with(&world, spec).unwrap();
        for (name, app) in ["shop-formal", "shop-gray"].into_iter().zip(&apps) {
            let path = app.path().to_string_lossy().into_owned();
            let _ = agent.gray_ok(&["workload", "set", name, "--cgroup", &path]).unwrap();
        }
        let shop = Self { agent, _server: server, formal, gray, database, apps, hooks, world };
        shop.programs();
        let _ = shop.agent.apply(&shop.policy()).unwrap();
        shop
    }

    fn policy(&self) -> String {
        let at = |j: usize, port| SocketAddr::new(IpAddr::V4(self.world.backends[j].v4), port);
        format!(
            "services:
  shop:
    listen: ['{}:8080']
    claims: {{ tenant: {{ header: X-Tenant }} }}
    stable: {{ version: '1.0' }}
    instances:
      - {{ address: '{}', version: '1.0' }}
      - {{ address: '{}', version: '2.0' }}
  layer:
    listen: ['{}:6379']
    stable: {{ group: formal }}
    instances:
      - {{ address: '{}', group: formal }}
      - {{ address: '{}', group: gray }}
cohorts:
  gray-apps: {{ workloads: [shop-gray] }}
  chosen: {{ tenants: [] }}
routes:
  - {{ service: layer, when: gray-apps, to: {{ group: gray }} }}
",
            vip4(0),
            at(OLD, 8080),
            at(NEW, 8080),
            vip4(1),
            at(FORMAL, 6379),
            at(GRAY, 6379)
        )
    }

    /// As an administrator would write them.
    fn programs(&self) {
        let dir = self.hooks.display();
        let said = format!("echo \"$GRAY_STEP $GRAY_KEY\" >> {dir}/said");
        let to = self.database.to().join(" ");
        let (gray, layer) = (self.gray.address, vip4(1));
        let new = &self.world.backends[NEW];
        let spec = serde_json::to_string(&ServerSpec::on(new, "new", "2.0")).unwrap();
        std::fs::write(self.hooks.join("spec"), spec).unwrap();
        let (ns, server) = (new.ns.path(), helper::binary().unwrap());
        let cgroup = self.apps[1].path().display();
        let programs = [
            ("say", said.clone()),
            ("run-sql", format!("{said}\nexec psql -X -q -1 -v ON_ERROR_STOP=1 {to} -f -")),
            ("clear-layer", format!("{said}\nexec redis-cli -e -h {gray} FLUSHALL")),
            (
                "set-parameters",
                format!(
                    "{said}\nexec redis-cli -e -h {gray} CONFIG SET maxmemory $(({FORMAL_BYTES} * GRAY_LAYER_BASIS_POINTS / 10000))"
                ),
            ),
            (
                "restart-gray",
                format!(
                    "{said}\n[ -e {dir}/pid ] && kill $(cat {dir}/pid)\n\
                     (cat {dir}/spec; echo; exec sleep 100000) | nsenter --net={} {} serve > {dir}/out 2>&1 &\necho $! > {dir}/pid\n\
                     for i in $(seq 200); do grep -q ready {dir}/out && exit 0; sleep 0.1; done; exit 1",
                    ns.display(),
                    server.display()
                ),
            ),
            // As the new version's application does when it starts: from the database to the layer that it is led to.
            (
                "load-layer",
                format!(
                    "{said}\n[ -e {dir}/hang ] && sleep 100000\necho $$ > {cgroup}/cgroup.procs || exit 1\n\
                     psql -X -At -F ' ' {to} -c 'select name, text from layouts' | while read -r name text; do\n\
                     redis-cli -e -h {layer} SET \"layout:$name\" \"2.0: $text\" < /dev/null || exit 1\ndone"
                ),
            ),
        ];
        for (name, text) in programs {
            let path = self.hooks.join(name);
            std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        std::fs::write(self.hooks.join("shop-2.0.sql"), SCRIPT).unwrap();
    }

    /// The application of an arm: a process in its cgroup.
    fn app(&self, arm: usize) -> Place {
        self.world.edge_place().in_cgroup(&self.apps[arm])
    }

    /// What an application reads of its layer, at the service's address.
    fn layout(&self, arm: usize, name: &str) -> String {
        redis::cli(&self.app(arm), IpAddr::V4(vip4(1)), &["GET", &format!("layout:{name}")]).unwrap()
    }

    /// The tenants of the release, chosen by strategy.
    fn choose(&self) {
        let [strategy, table] =
            [("strategy.yaml", STRATEGY), ("tenants.csv", TENANTS)].map(|(name, text)| {
                let path = self.world.temp().join(name);
                std::fs::write(&path, text).unwrap();
                path.to_string_lossy().into_owned()
            });
        let plan = ["cohort", "plan", "chosen", "--load", "-f", &strategy, "--tenants", &table];
        let _ = self.agent.gray_ok(&plan).unwrap();
        let layer = &self.agent.gray_json(&["status"]).unwrap()["layers"][0];
        assert_eq!((&layer["cohort"], &layer["tenants"]), (&"chosen".into(), &2.into()), "{layer}");
        assert_eq!(layer["basis_points"], LAYER_BASIS_POINTS);
    }

    fn begin(&self, document: &str) -> std::process::Output {
        let file = self.world.temp().join("release.yaml");
        std::fs::write(&file, document).unwrap();
        self.agent.gray(&["release", "start", "-f", &file.to_string_lossy()]).unwrap()
    }

    fn status(&self) -> Value {
        self.agent.gray_json(&["release", "status", "shop-2.0"]).unwrap()
    }

    fn wait(&self, state: &str) {
        let came = wait_for(state, PATIENCE, || Ok(self.status()["state"] == state));
        if let Err(e) = came {
            panic!("{e:#}\n{}", self.agent.gray_ok(&["release", "history", "shop-2.0"]).unwrap());
        }
    }

    /// Steps as they began: name without its number, and key.
    fn said(&self) -> Vec<(String, String)> {
        let text = std::fs::read_to_string(self.hooks.join("said")).unwrap_or_default();
        let one = |line: &str| {
            let (step, key) = line.rsplit_once(' ')?;
            Some((step.rsplit(", ").next()?.to_owned(), key.to_owned()))
        };
        text.lines().filter_map(one).collect()
    }

    /// An application that writes orders as its version does, without end; it ends when a statement fails.
    fn writes(&self, arm: usize, name: &str, statement: &str) -> Daemon {
        let script = self.world.temp().join(format!("{name}.sql"));
        std::fs::write(&script, statement).unwrap();
        let mut command = self.database.bench(&self.app(arm), &script);
        let _ = command.args(["-T", "3600", "-R", "200"]);
        Daemon::spawn(name, &mut command, &self.world.temp().join(format!("{name}.log"))).unwrap()
    }

    fn count(&self, which: &str) -> u64 {
        self.database.sql(&format!("select count(*) from orders where {which}")).unwrap().parse().unwrap()
    }
}

fn too_slow() -> bool {
    let slow = pace::factor() > 1;
    if slow {
        skip::because("a database cluster takes minutes to make under emulation");
    }
    slow
}

#[test]
fn g3_g5_the_gray_layer_is_made_anew_and_the_formal_one_is_not_touched() {
    if too_slow() {
        return;
    }
    let mut shop = Shop::start();
    // What was there before: the old version's layer, and rubbish in the other one.
    for (name, text) in [("cart", "one column"), ("list", "two columns")] {
        let set = ["SET", &format!("layout:{name}"), &format!("1.0: {text}")];
        let _ = redis::cli(&shop.app(0), IpAddr::V4(vip4(1)), &set).unwrap();
    }
    let _ = shop.gray.cli(&["SET", "layout:rubbish", "0.9"]).unwrap();
    let (before, gray_before) = (shop.formal.calls().unwrap(), shop.gray.calls().unwrap());
    assert_eq!(before["set"], 2, "the old version reaches the formal layer: {before:?}");
    let mut old = shop.writes(
        0,
        "old-orders",
        "insert into orders (item) values ('tea');\nselect id, item from orders order by id desc limit 1;\n",
    );

    wait_for("the first orders", PATIENCE, || {
        old.check_alive()?;
        Ok(shop.count("true") >= 20)
    })
    .unwrap();

    shop.choose();
    // The agent dies in the middle of the plan.
    std::fs::write(shop.hooks.join("hang"), "").unwrap();
    let begun = shop.begin(RELEASE);
    assert!(begun.status.success(), "{}", String::from_utf8_lossy(&begun.stderr));
    let at_load = |shop: &Shop| Ok(shop.said().iter().any(|(step, _)| step == "load"));
    wait_for("the load to begin", PATIENCE, || at_load(&shop)).unwrap();
    assert_eq!(shop.status()["state"], "data");
    assert_eq!(shop.gray.cli(&["DBSIZE"]).unwrap(), "0", "the layer was cleared before it is loaded");
    shop.agent.kill9().unwrap();
    std::fs::remove_file(shop.hooks.join("hang")).unwrap();
    shop.agent.restart().unwrap();
    shop.wait("done");

    let said = shop.said();
    let steps: Vec<&str> = said.iter().map(|(step, _)| step.as_str()).collect();
    assert_eq!(steps[..6], ["script", "clear", "parameters", "restart", "load", "load"], "{said:?}");
    assert_eq!(said[4].1, said[5].1, "asked for again with its key");
    assert_eq!(steps[6], "verify 1 of 1", "after the data plan: {said:?}");

    // Each arm's application has its own layer at one address.
    for (name, old, new) in [
        ("cart", "1.0: one column", "2.0: one column"),
        ("user", "", "2.0: three columns"),
        ("rubbish", "", ""),
    ] {
        assert_eq!((shop.layout(0, name).as_str(), shop.layout(1, name).as_str()), (old, new), "{name}");
    }
    // G4: as the formula has it, also told by the agent that came after the one that chose.
    let bytes = FORMAL_BYTES * LAYER_BASIS_POINTS / 10_000;
    assert_eq!(shop.gray.cli(&["CONFIG", "GET", "maxmemory"]).unwrap(), format!("maxmemory\n{bytes}"));

    // One table serves both versions at once.
    let mut new = shop.writes(1, "new-orders", "insert into orders (item, note) values ('tea', 'no sugar');\nselect id, item, note from orders order by id desc limit 1;\n");
    wait_for("the new version's orders", PATIENCE, || {
        new.check_alive()?;
        Ok(shop.count("note is not null") >= 200)
    })
    .unwrap();
    let plain = shop.count("note is null");
    wait_for("the old version's orders", PATIENCE, || Ok(shop.count("note is null") >= plain + 200)).unwrap();
    old.check_alive().unwrap();
    new.check_alive().unwrap();

    // By its own statistics: nothing but what the old version's application asked.
    let mut want = before.clone();
    let _ = want.insert("get".into(), 3);
    assert_eq!(shop.formal.calls().unwrap(), want, "the formal layer");
    let after = shop.gray.calls().unwrap();
    let grew =
        |name: &str| after.get(name).copied().unwrap_or(0) - gray_before.get(name).copied().unwrap_or(0);
    let of_gray =
        ["flushall", "config|set", "config|get", "set", "get", "dbsize"].map(|name| (name, grew(name)));
    assert_eq!(
        of_gray,
        [("flushall", 1), ("config|set", 1), ("config|get", 1), ("set", 3), ("get", 3), ("dbsize", 1)]
    );
    drop((old, new));
    let Shop { agent, world, .. } = shop;
    residue::assert_none(&world, agent);
}

#[test]
fn g1_a_script_that_breaks_the_old_version_is_refused_before_anything_begins() {
    if too_slow() {
        return;
    }
    let shop = Shop::start();
    std::fs::write(shop.hooks.join("shop-2.0.sql"), DROPS).unwrap();
    let refused = shop.begin(RELEASE);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success());
    for word in [
        "a statement of the release's scripts is refused",
        "[drop-column]",
        "shop-2.0.sql:2",
        "when the old version is gone",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert_eq!(shop.said(), Vec::new(), "nothing was begun");
    let columns = "select count(*) from information_schema.columns where table_name = 'orders'";
    assert_eq!(shop.database.sql(columns).unwrap(), "2");
    // One that PostgreSQL itself refuses stops the release, and leaves nothing of it.
    std::fs::write(
        shop.hooks.join("shop-2.0.sql"),
        "alter table orders add column a text;\nalter table nobody add column b text;\n",
    )
    .unwrap();
    let begun = shop.begin(RELEASE);
    assert!(begun.status.success(), "{}", String::from_utf8_lossy(&begun.stderr));
    shop.wait("stopped");
    let reason = shop.status()["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("data 1 of 5, script") && reason.contains("nobody"), "{reason}");
    assert_eq!(shop.database.sql(columns).unwrap(), "2", "in one transaction");
    let steps: Vec<String> = shop.said().into_iter().map(|(step, _)| step).collect();
    assert_eq!(steps, ["script"], "nothing after it");
    let out = run(&mut shop.agent.command(&["release", "close", "shop-2.0"])).unwrap();
    assert!(out.contains("failed"), "{out}");
    let Shop { agent, world, .. } = shop;
    residue::assert_none(&world, agent);
}
