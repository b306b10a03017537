//! Message tags: producers and consumers of both versions at one broker's address, each steered to its own Redis by workload; their
//! messages carry the tag that `gray tag` gives them. After a recall stable drains the gray queue.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use gray_tests::{
    Place,
    agent::{Agent, AgentSpec},
    cgroup::Cgroup,
    command::{Daemon, note, run, wait_for},
    helper, residue,
    server::Redis,
    world::{World, WorldSpec, vip4},
};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);
const POLICY: &str = include_str!("../../examples/messages/policy.yaml");
const QUEUE: &str = "orders";
const LANE: &str = "gray-2.0";

/// Dropped in this order.
struct Shop {
    agent: Agent,
    formal: Redis,
    gray: Redis,
    /// `worker` and `worker-gray`, on the edge host.
    workloads: [Arc<Cgroup>; 2],
    world: World,
}

impl Shop {
    fn start() -> Self {
        let shop = Self::with_hooks(&[]);
        let _ = shop.agent.apply(POLICY).unwrap();
        shop
    }

    /// Without a policy; with these programs in the agent's directory.
    fn with_hooks(programs: &[(&str, String)]) -> Self {
        let world = World::build(WorldSpec { vips: vec![None], ..WorldSpec::default() }).unwrap();
        let broker = |j: usize, name: &str| {
            let b = &world.backends[j];
            Redis::start(&b.place(), world.temp(), name, IpAddr::V4(b.v4)).unwrap()
        };
        let (formal, gray) = (broker(0, "formal"), broker(1, "gray"));
        let workloads = ["worker", "worker-gray"].map(|n| Arc::new(world.callers.child(n).unwrap()));
        let mut spec = AgentSpec::of(&world);
        let hooks = world.temp().join("hooks");
        std::fs::create_dir(&hooks).unwrap();
        spec.args.extend(["--release-hooks".into(), hooks.display().to_string()]);
        for (name, text) in programs {
            let path = hooks.join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let agent = Agent::start_with(&world, spec).unwrap();
        let shop = Self { agent, formal, gray, workloads, world };
        shop.label("worker", 0, None);
        shop.label("worker-gray", 1, Some(LANE));
        shop
    }

    fn label(&self, name: &str, side: usize, lane: Option<&str>) {
        let path = self.workloads[side].path().to_string_lossy().into_owned();
        let lane: Vec<&str> = lane.into_iter().flat_map(|l| ["--lane", l]).collect();
        let _ =
            self.agent.gray_ok(&[&["workload", "set", name, "--cgroup", &path][..], &lane].concat()).unwrap();
    }

    fn place(&self, side: usize) -> Place {
        self.world.edge_place().in_cgroup(&self.workloads[side])
    }

    /// `gray tag ..` as a process of this workload.
    fn tag(&self, side: usize, args: &[&str]) -> Command {
        let mut command = self.place(side).command(self.agent.binary());
        let _ = command.arg("tag").args(args).env("GRAY_SOCKET", self.agent.socket());
        command
    }

    /// A worker that got its tag from `gray tag -- PROGRAM`.
    fn worker(&self, side: usize, role: &str, name: &str) -> Daemon {
        let at = SocketAddr::new(IpAddr::V4(vip4(0)), 6379).to_string();
        let program = helper::binary().unwrap();
        let (program, file) = (program.to_string_lossy().into_owned(), self.file(name));
        let file = file.to_string_lossy().into_owned();
        let mut command = self.tag(side, &["--", &program, "messages", role, &at, QUEUE, name, &file]);
        Daemon::spawn(name, &mut command, &self.world.temp().join(format!("{name}.log"))).unwrap()
    }

    /// What a worker has done.
    fn file(&self, name: &str) -> PathBuf {
        self.world.temp().join(format!("{name}.done"))
    }

    fn done(&self, names: &[&str]) -> Vec<String> {
        let text = |name: &&str| std::fs::read_to_string(self.file(name)).unwrap_or_default();
        names.iter().map(text).flat_map(|t| t.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
    }

    /// What all producers have sent comes to be done; who sends is over.
    fn none_is_lost(&self, moved: u64) {
        let sent: BTreeSet<String> = self.done(&["m1", "m2", "gm1", "gm2"]).into_iter().collect();
        let all = ["t1", "t2", "gt1", "gt2"];
        let lost = || -> Vec<String> {
            let done: BTreeSet<String> = self.done(&all).into_iter().collect();
            sent.difference(&done).cloned().collect()
        };
        let ended = wait_for("every message to be done", PATIENCE, || Ok(lost().is_empty()));
        assert!(ended.is_ok(), "lost of {}: {:?}", sent.len(), lost());
        let done = self.done(&all);
        let twice = done.len() - done.iter().collect::<BTreeSet<_>>().len();
        note(&format!("{} messages, {moved} of them moved, {twice} seen twice, none lost", sent.len()));
        assert!(twice <= 4, "only what was in hand, or on its way, may be seen twice: {twice}");
    }

    fn wait_done(&self, names: &[&str], n: usize) {
        wait_for("messages", PATIENCE, || Ok(self.done(names).len() >= n)).unwrap();
    }
}

/// The broker as a service of a release: its testers are the gray workers. The lane gives them their tag, and leads elsewhere.
const RELEASED: &str = "
services:
  broker:
    listen: ['198.18.100.100:6379']
    stable: { group: formal }
    instances:
      - { address: '198.18.200.2:6379', group: formal, id: formal }
      - { address: '198.18.201.2:6379', group: gray, id: gray }
  shop:
    listen: ['198.18.100.101:80']
    stable: { group: formal }
    instances: [{ address: '198.18.200.2:80', group: formal }, { address: '198.18.201.2:80', group: gray }]
lanes:
  gray-2.0: { shop: { group: gray } }
cohorts:
  gray-workers: { workloads: [worker-gray] }
";
const RELEASE: &str = "
release: broker-2.0
version: 2.0.0-gray.1
services: { broker: { gray: { group: gray } } }
testers: gray-workers
gray-period: 1h
stages: [{ percent: 100, samples: 0 }]
notify: [{ command: [drain-gray], retries: 3 }]
";

/// `gray recall`, and nothing by hand: the release's routes go, the connections to the gray broker are closed, and its `notify` has stable
/// drain what is left when that is done.
#[test]
fn e4_a_releases_own_recall_drains_the_gray_queue() {
    let drain = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/messages/drain.sh");
    let hook = format!(
        "#!/bin/sh\nset -eu\ncase \"$GRAY_TRANSITION\" in *'-> abnormal'*) ;; *) exit 0 ;; esac\n\
         until [ \"$(redis-cli -h 198.18.201.2 CLIENT LIST | wc -l)\" = 1 ]; do sleep 0.1; done\n\
         {} 198.18.201.2 198.18.200.2 {QUEUE} > \"$(dirname \"$0\")/moved.new\"\nmv \"$(dirname \"$0\")/moved.new\" \"$(dirname \"$0\")/moved\"\n",
        drain.display()
    );
    let shop = Shop::with_hooks(&[("drain-gray", hook)]);
    let _ = shop.agent.apply(RELEASED).unwrap();
    let file = shop.world.temp().join("release.yaml");
    std::fs::write(&file, RELEASE).unwrap();
    let _ = shop.agent.gray_ok(&["release", "start", "-f", &file.to_string_lossy()]).unwrap();
    let state = || shop.agent.gray_json(&["release", "status", "broker-2.0"]).unwrap()["state"].clone();
    wait_for("the testers to be on gray", PATIENCE, || Ok(state() == "gray-period")).unwrap();
    assert_eq!(run(&mut shop.tag(1, &[])).unwrap(), "gray-2.0\n");
    let makers = [(0, "m1"), (0, "m2"), (1, "gm1"), (1, "gm2")];
    let makers = makers.map(|(side, name)| shop.worker(side, "produce", name));
    let takers = [(0, "t1"), (0, "t2")].map(|(side, name)| shop.worker(side, "consume", name));
    let gray_takers = [(1, "gt1"), (1, "gt2")].map(|(side, name)| shop.worker(side, "consume", name));
    shop.wait_done(&["t1", "t2"], 100);
    shop.wait_done(&["gt1", "gt2"], 100);
    assert!(shop.done(&["gt1", "gt2"]).iter().all(|m| m.starts_with("gray-2.0:")), "their own only");
    // Who took gray messages dies with work in hand.
    drop(gray_takers);
    wait_for("a backlog", PATIENCE, || Ok(left(&shop.gray) >= 100)).unwrap();
    let backlog = left(&shop.gray);

    let _ = shop.agent.gray_ok(&["recall", "--mode", "reset", "--message", "it loses orders"]).unwrap();
    let before = shop.done(&["gm1", "gm2"]).len();
    let said = shop.world.temp().join("hooks/moved");
    let drained = wait_for("the drain", PATIENCE, || Ok(said.exists()));
    let history = || shop.agent.gray_ok(&["release", "history", "broker-2.0"]).unwrap();
    assert!(drained.is_ok(), "{}", history());
    let said = std::fs::read_to_string(said).unwrap();
    let moved: u64 = said.split(' ').next().unwrap().parse().unwrap();
    assert!(moved >= backlog, "{moved} of {backlog}: {}", history());
    assert_eq!(shop.gray.cli(&["DBSIZE"]).unwrap(), "0", "nothing is left there");
    shop.wait_done(&["gm1", "gm2"], before + 100);
    drop(makers);
    shop.none_is_lost(moved);
    assert_eq!(left(&shop.gray), 0, "and nobody sends to it");
    drop(takers);
    let _ = shop.agent.gray_ok(&["release", "close", "broker-2.0"]).unwrap();
    let Shop { agent, world, .. } = shop;
    residue::assert_none(&world, agent);
}

fn left(broker: &Redis) -> u64 {
    broker.cli(&["LLEN", QUEUE]).unwrap().parse().unwrap()
}

#[test]
fn e4_each_side_has_its_own_messages_and_a_recall_loses_none() {
    let shop = Shop::start();
    let tags = [0, 1].map(|side| run(&mut shop.tag(side, &[])).unwrap());
    assert_eq!(tags, ["stable\n", "gray-2.0\n"]);
    let makers = [(0, "m1"), (0, "m2"), (1, "gm1"), (1, "gm2")];
    let makers = makers.map(|(side, name)| shop.worker(side, "produce", name));
    let takers = [(0, "t1"), (0, "t2")].map(|(side, name)| shop.worker(side, "consume", name));
    let gray_takers = [(1, "gt1"), (1, "gt2")].map(|(side, name)| shop.worker(side, "consume", name));
    let (stable, gray) = (["t1", "t2"], ["gt1", "gt2"]);
    shop.wait_done(&stable, 200);
    shop.wait_done(&gray, 200);
    // Each exchanges its own only, of both its producers.
    for (names, tag, from) in [(&stable, "stable", ["m1", "m2"]), (&gray, LANE, ["gm1", "gm2"])] {
        let done = shop.done(names);
        let whose = |m: &String| m.splitn(3, ':').map(str::to_owned).collect::<Vec<_>>();
        assert!(done.iter().all(|m| whose(m)[0] == tag), "{tag}: {done:?}");
        let makers: BTreeSet<String> = done.iter().map(|m| whose(m)[1].clone()).collect();
        assert_eq!(makers, from.map(str::to_owned).into(), "{tag}");
    }

    // The gray consumers die with work in hand, and the gray queue grows.
    drop(gray_takers);
    wait_for("a backlog", PATIENCE, || Ok(left(&shop.gray) >= 100)).unwrap();

    // Recall: no lane any more; connections to the gray broker are closed; the producers are stable's from here on.
    shop.label("worker-gray", 1, None);
    assert_eq!(run(&mut shop.tag(1, &[])).unwrap(), "stable\n");
    let before = shop.done(&["gm1", "gm2"]).len();
    let _ = shop.agent.gray_ok(&["instance", "drain", "broker/gray", "--deadline", "0s"]).unwrap();
    let alone = || Ok(shop.gray.cli(&["CLIENT", "LIST"])?.lines().count() == 1);
    wait_for("the gray broker to be left", PATIENCE, alone).unwrap();
    shop.wait_done(&["gm1", "gm2"], before + 100);
    let backlog = left(&shop.gray);

    // Stable drains what is there, what the dead consumers had in hand, too.
    let drain = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/messages/drain.sh");
    let addresses = [&shop.gray, &shop.formal].map(|b| b.address.to_string());
    let said = run(shop.world.edge_place().command(drain).args(&addresses).arg(QUEUE)).unwrap();
    note(said.trim());
    let moved: u64 = said.split(' ').next().unwrap().parse().unwrap();
    assert!(moved >= backlog && backlog >= 100, "{moved} of {backlog}");
    assert_eq!(shop.gray.cli(&["DBSIZE"]).unwrap(), "0", "nothing is left there");
    assert_eq!(left(&shop.gray), 0);

    drop(makers);
    shop.none_is_lost(moved);
    drop(takers);
    let Shop { agent, world, .. } = shop;
    residue::assert_none(&world, agent);
}

#[test]
fn e4_who_asks_and_what_the_policy_knows_make_the_tag() {
    let shop = Shop::start();
    let json = |args: &[&str]| shop.agent.gray_json(&[&["tag"], args].concat()).unwrap();
    let said = |v: &Value| {
        let text = |key: &str| v[key].as_str().unwrap_or("-").to_owned();
        [text("tag"), text("workload"), text("lane")].join(" ")
    };
    // The agent's own commands run in no workload.
    assert_eq!(said(&json(&[])), "stable - -");
    assert_eq!(said(&json(&["--workload", "worker-gray"])), "gray-2.0 worker-gray gray-2.0");
    // A cgroup below one that has a label; and a process by its id.
    let below = Arc::new(shop.workloads[1].child("below").unwrap());
    let place = shop.world.edge_place().in_cgroup(&below);
    let mut sleeper =
        Daemon::spawn("sleep", place.command("sleep").arg("600"), &shop.world.temp().join("sleep.log"))
            .unwrap();
    let pid = sleeper.pid().unwrap().to_string();
    wait_for("it to be there", PATIENCE, || {
        Ok(said(&json(&["--pid", &pid])) == "gray-2.0 worker-gray gray-2.0")
    })
    .unwrap();
    sleeper.kill9().unwrap();
    // What a program is started with, and what a script reads.
    let mut env = shop.tag(1, &["--", "sh", "-c", "echo $GRAY_TAG $GRAY_WORKLOAD $GRAY_LANE"]);
    assert_eq!(run(&mut env).unwrap(), "gray-2.0 worker-gray gray-2.0\n");
    assert_eq!(
        run(&mut shop.tag(0, &["--env"])).unwrap(),
        "GRAY_TAG=stable\nGRAY_WORKLOAD=worker\nGRAY_LANE=\n"
    );
    // The local API, asked by a process of the workload.
    let mut curl = shop.place(1).command("curl");
    let _ = curl.args(["-s", "--unix-socket"]).arg(shop.agent.socket()).arg("http://gray/v1/tag");
    let told: Value = serde_json::from_str(&run(&mut curl).unwrap()).unwrap();
    assert_eq!(said(&told), "gray-2.0 worker-gray gray-2.0");
    // A lane that the policy does not have leads nobody anywhere.
    let _ = shop.agent.apply(POLICY.split("lanes:").next().unwrap()).unwrap();
    let unknown = json(&["--workload", "worker-gray"]);
    assert_eq!(
        (said(&unknown), &unknown["lane_known"]),
        ("stable worker-gray gray-2.0".into(), &false.into())
    );
    let refused = shop.agent.gray(&["tag", "--workload", "worker-grey"]).unwrap();
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && text.contains("did you mean worker-gray?"), "{text}");
    let Shop { agent, world, .. } = shop;
    residue::assert_none(&world, agent);
}
