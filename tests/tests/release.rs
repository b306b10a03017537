//! The release engine with real traffic: two services, deployed by a program, a ramp under load, alignment; one that is taken
//! back by itself; recalls; the agent killed at every point of it, and at random moments (`kills`); checks by a real Prometheus; the
//! screen that is watched; units of a real systemd.

#[path = "release/faults.rs"]
mod faults;
#[path = "release/kills.rs"]
mod kills;
#[path = "release/prometheus.rs"]
mod prometheus;
#[path = "release/unit.rs"]
mod unit;
#[path = "release/verbs.rs"]
mod verbs;
#[path = "release/watch.rs"]
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use gray_tests::{
    agent::{Agent, AgentSpec},
    client::{Load, LoadSpec, Mode},
    command::{note, wait_for},
    helper,
    pace::{all_points, factor, many},
    residue,
    server::{Server, ServerSpec},
    skip, sys,
    world::{World, WorldSpec, vip4},
};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);
const ONE: Mode = Mode::Http { per_connection: 1 };

/// shop and cart: 1.0 on backends 0 and 2, room for 2.0 on backends 1 and 3. Dropped in this order.
struct Shop {
    agent: Agent,
    _servers: Vec<Server>,
    hooks: PathBuf,
    world: World,
}

fn vip(service: usize, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(vip4(service)), port)
}

impl Shop {
    /// `running`: 2.0 serves already.
    fn start(running: bool) -> Self {
        Self::start_with(running, |_, _| {})
    }

    fn start_with(running: bool, change: impl FnOnce(&World, &mut AgentSpec)) -> Self {
        let spec = WorldSpec {
            backends: 4,
            sources4: 200,
            sources6: 1,
            vips: vec![Some(0), Some(2)],
            ..WorldSpec::default()
        };
        let world = World::build(spec).unwrap();
        let start = |j: usize, name: &str, version: &str| {
            let b = &world.backends[j];
            Server::start(&b.place(), ServerSpec::on(b, name, version)).unwrap()
        };
        let mut servers = vec![start(0, "s0", "1.0"), start(2, "s2", "1.0")];
        if running {
            servers.extend([start(1, "g1", "2.0"), start(3, "g3", "2.0")]);
        }
        let hooks = world.temp().join("hooks");
        std::fs::create_dir(&hooks).unwrap();
        let mut spec = AgentSpec::packets(&world);
        if !running {
            spec = spec.as_root();
        }
        spec.args = vec!["--release-hooks".into(), hooks.display().to_string()];
        change(&world, &mut spec);
        let agent = Agent::start_with(&world, spec).unwrap();
        let shop = Self { agent, _servers: servers, hooks, world };
        shop.programs();
        let _ = shop.agent.apply(&shop.policy("1.0")).unwrap();
        shop
    }

    fn program(&self, name: &str, text: &str) {
        let path = self.hooks.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// `deploy J`: starts 2.0 on backend J and waits for it. `log WORD`: only says that it was there. `check`: unless there is a file
    /// `bad`. `hang`: for ever.
    fn programs(&self) {
        let dir = self.hooks.display();
        let said = format!("echo \"$GRAY_KEY $GRAY_ATTEMPT $*\" >> {dir}/said");
        for j in [1, 3] {
            let b = &self.world.backends[j];
            let spec = serde_json::to_string(&ServerSpec::on(b, &format!("g{j}"), "2.0")).unwrap();
            std::fs::write(self.hooks.join(format!("spec{j}")), spec).unwrap();
            std::fs::write(self.hooks.join(format!("ns{j}")), b.ns.path().display().to_string()).unwrap();
        }
        let server = helper::binary().unwrap();
        self.program(
            "deploy",
            &format!(
                "{said}\ncat > {dir}/stdin\n(cat {dir}/spec$1; echo; exec sleep 100000) | nsenter --net=$(cat {dir}/ns$1) {} serve > {dir}/out$1 2>&1 &\n\
                 for i in $(seq 200); do grep -q ready {dir}/out$1 && exit 0; sleep 0.1; done; exit 1",
                server.display()
            ),
        );
        self.program("log", &said);
        self.program("check", &format!("if [ -e {dir}/bad ]; then echo it is bad; exit 1; fi"));
        self.program("hang", &format!("{said}\nsleep 100000 & echo $! > {dir}/pid; wait"));
    }

    fn policy(&self, stable: &str) -> String {
        let mut out = String::from("services:\n");
        for (i, name, old, new) in [(0, "shop", 0, 1), (1, "cart", 2, 3)] {
            let at = |j: usize, port| SocketAddr::new(IpAddr::V4(self.world.backends[j].v4), port);
            for (what, port) in [("", 8080), ("-echo", 9000)] {
                out += &format!(
                    "  {name}{what}:\n    listen: ['{}']\n    stable: {{ version: '{stable}' }}\n    instances:\n      \
                     - {{ address: '{}', version: '1.0', id: old }}\n      - {{ address: '{}', version: '2.0', id: new }}\n",
                    vip(i, port),
                    at(old, port),
                    at(new, port)
                );
            }
        }
        out + &format!("cohorts:\n  beta: {{ sources: ['{}'] }}\n", self.world.clients[0].v4[0])
    }

    fn begin(&self, document: &str) -> Value {
        let file = self.world.temp().join("release.yaml");
        std::fs::write(&file, document).unwrap();
        self.agent.gray_json(&["release", "start", "-f", &file.to_string_lossy()]).unwrap()
    }

    /// The agent may die before it answers.
    fn try_begin(&self, document: &str) {
        let file = self.world.temp().join("release.yaml");
        std::fs::write(&file, document).unwrap();
        let _ = self.agent.gray(&["release", "start", "-f", &file.to_string_lossy()]).unwrap();
    }

    fn tell(&self, args: &[&str]) -> Value {
        self.agent.gray_json(&[&["release"], args].concat()).unwrap()
    }

    fn state(&self, name: &str) -> String {
        self.tell(&["status", name])["state"].as_str().unwrap().to_owned()
    }

    /// Waits until the release is there, with nothing left to be done but to wait for this.
    fn wait(&self, name: &str, state: &str, waits: &str) {
        let mut seen = Value::Null;
        let there = wait_for(state, PATIENCE, || {
            seen = self.tell(&["status", name]);
            let on = seen["waits_for"].as_array().is_some_and(|w| match w.as_slice() {
                [] => waits.is_empty(),
                [one] => one.as_str().is_some_and(|w| !waits.is_empty() && w.contains(waits)),
                _ => false,
            });
            Ok(seen["state"] == state && on)
        });
        if let Err(e) = there {
            let history = self.agent.gray_ok(&["release", "history", name]).unwrap();
            panic!("{e:#}: {seen:#}\n{history}");
        }
    }

    /// Connections until stopped, from every address.
    fn load(&self, service: usize) -> Load {
        let client = &self.world.clients[0];
        let mut spec = LoadSpec::new(vip(service, 8080), ONE).sources(client.sources(false));
        spec.pause_ms = 5;
        // Agents begin beside it, on a machine of others.
        spec.timeout_ms = 30_000;
        spec.start(&client.place()).unwrap()
    }

    /// The addresses that are on 2.0, by one connection each.
    fn on_gray(&self, service: usize) -> BTreeSet<IpAddr> {
        let client = &self.world.clients[0];
        let sources = client.sources(false);
        let mut spec =
            LoadSpec::new(vip(service, 8080), ONE).count(sources.len() as u64).sources(sources.clone());
        spec.timeout_ms = 30_000;
        let report = spec.run(&client.place()).unwrap();
        report.assert_all_ok();
        sources.into_iter().filter(|s| report.versions_of(*s) == ["2.0"]).collect()
    }

    /// Of the steps that were begun: the key, and how often.
    fn said(&self) -> BTreeMap<String, u32> {
        let text = std::fs::read_to_string(self.hooks.join("said")).unwrap_or_default();
        let mut out = BTreeMap::new();
        for line in text.lines() {
            *out.entry(line.split(' ').next().unwrap().to_owned()).or_default() += 1;
        }
        out
    }

    fn finish(self) {
        drop(self._servers);
        residue::assert_none(&self.world, self.agent);
    }
}

const RELEASE: &str = "
release: shop-2.0
version: 2.0.0-gray.3
services:
  shop: { gray: { version: '2.0' } }
  cart: { gray: { version: '2.0' } }
deploy:
  - { command: [deploy, '1'] }
  - { command: [deploy, '3'], retries: 1 }
verify: [{ command: [log, verify] }]
gray-verify: [{ command: [log, gray-verify] }]
gray-period: 1s
stages:
  - { cohort: beta, percent: 1, samples: 20, approval: true, checks: [{ command: [check] }], every: 1s }
  - { percent: 25, samples: 100, time: 2s, approval: true, checks: [{ command: [check] }], every: 1s }
  - { percent: 100, samples: 100 }
align: { steps: [{ command: [log, align] }] }
notify: [{ command: [log, told] }]
";

#[test]
fn f1_e5_a_release_from_its_deployment_to_everybody() {
    let mut shop = Shop::start(false);
    let mut loads = [shop.load(0), shop.load(1)];
    let begun = shop.begin(RELEASE);
    assert_eq!(begun["version"], "2.0.0-gray.3");
    shop.wait("shop-2.0", "ramp 1", "a person");
    let first = [shop.on_gray(0), shop.on_gray(1)];
    assert!(first[0].contains(&shop.world.clients[0].sources(false)[0]), "the cohort is gray");
    assert!((1..20).contains(&first[0].len()), "{} of 200 at 1 %", first[0].len());
    assert_eq!(first[0], first[1], "the same clients in both services");
    let stdin: Value = serde_json::from_slice(&std::fs::read(shop.hooks.join("stdin")).unwrap()).unwrap();
    assert_eq!((&stdin["release"]["name"], &stdin["step"]), (&"shop-2.0".into(), &"deploy 2 of 2".into()));

    let before = shop.agent.gray_json(&["status"]).unwrap()["epoch"].as_u64().unwrap();
    let _ = shop.tell(&["approve", "shop-2.0"]);
    shop.wait("shop-2.0", "ramp 2", "a person");
    let after = shop.agent.gray_json(&["status"]).unwrap()["epoch"].as_u64().unwrap();
    assert_eq!(after, before + 1, "both services in one flip");
    let second = [shop.on_gray(0), shop.on_gray(1)];
    assert_eq!(second[0], second[1]);
    assert!((25..=80).contains(&second[0].len()), "{} of 200 at 25 %", second[0].len());
    assert!(second[0].is_superset(&first[0]), "nobody was moved out");
    let shown = shop.tell(&["status", "shop-2.0"]);
    assert!(shown["measured"][0]["gray"]["connections"].as_u64().unwrap() >= 100, "{shown:#}");

    // What a person applies or rolls back to meanwhile takes nothing of it away.
    let first_revision = "1";
    let _ = shop.agent.apply(&(shop.policy("1.0") + "  more: { percent: 1 }\n")).unwrap();
    assert_eq!(shop.on_gray(0), second[0]);
    let _ = shop.agent.gray_ok(&["rollback", first_revision]).unwrap();
    assert_eq!(shop.on_gray(0), second[0]);
    let gone = shop.policy("1.0").replace("cart", "crat");
    let file = shop.world.temp().join("gone.yaml");
    std::fs::write(&file, gone).unwrap();
    let refused = shop.agent.gray(&["apply", "-f", &file.to_string_lossy()]).unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("shop-2.0, which is open: unknown service `cart`"),
        "{said}"
    );

    // Nobody notices that the agent dies, and the next one goes on.
    shop.agent.kill9().unwrap();
    assert_eq!(shop.on_gray(0), second[0]);
    shop.agent.restart().unwrap();
    shop.wait("shop-2.0", "ramp 2", "a person");
    assert_eq!(shop.on_gray(1), second[1]);

    let _ = shop.tell(&["approve", "shop-2.0", "--message", "looks well"]);
    shop.wait("shop-2.0", "done", "a policy whose stable is the new version");
    assert_eq!((shop.on_gray(0).len(), shop.on_gray(1).len()), (200, 200));
    for load in &mut loads {
        let n = load.snapshot().unwrap().requests;
        let _ = load.wait_requests(n + 100, PATIENCE).unwrap();
    }
    for load in loads {
        load.stop().unwrap().assert_all_ok();
    }

    let refused = shop.agent.gray(&["release", "close", "shop-2.0"]).unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("clients would go back"), "{said}");
    let _ = shop.agent.apply(&shop.policy("2.0")).unwrap();
    let _ = shop.tell(&["close", "shop-2.0"]);
    shop.wait("shop-2.0", "closed", "");
    assert_eq!(shop.on_gray(0).len(), 200, "the policy has taken over");
    let routes = shop.agent.gray_ok(&["get", "routes"]).unwrap();
    assert!(!routes.contains("release-"), "{routes}");

    let history = shop.tell(&["history", "shop-2.0"]);
    let left: Vec<&Value> = history
        .as_array()
        .unwrap()
        .iter()
        .filter(|e| e["what"] == "transition" && e["from"].as_str().unwrap().starts_with("ramp"))
        .collect();
    assert_eq!(left.len(), 3, "{history:#}");
    for e in left {
        assert_eq!(e["evidence"]["judged"]["verdict"], "pass", "{e:#}");
        assert!(e["evidence"]["counts"][1]["gray"]["connections"].as_u64().unwrap() >= 20, "{e:#}");
    }
    assert!(shop.said().values().all(|n| *n == 1), "each step once: {:?}", shop.said());
    assert!(shop.said().len() > 12, "steps and notices: {:?}", shop.said());
    shop.finish();
}

#[test]
fn f4_one_whose_check_fails_is_taken_back_by_itself() {
    let shop = Shop::start(true);
    let loads = [shop.load(0), shop.load(1)];
    let document = RELEASE.replace("command: [deploy,", "command: [log,");
    let _ = shop.begin(&document);
    shop.wait("shop-2.0", "ramp 1", "a person");
    assert!(!shop.on_gray(0).is_empty());
    std::fs::write(shop.hooks.join("bad"), "").unwrap();
    shop.wait("shop-2.0", "abnormal", "retry, resume or close");
    for service in [0, 1] {
        assert_eq!(shop.on_gray(service), BTreeSet::new(), "everybody is on stable");
    }
    let shown = shop.tell(&["status", "shop-2.0"]);
    assert!(shown["reason"].as_str().unwrap().contains("it is bad"), "{shown:#}");

    // Mended: the ramp from its first stage; then given up for good.
    std::fs::remove_file(shop.hooks.join("bad")).unwrap();
    let _ = shop.tell(&["resume", "shop-2.0"]);
    shop.wait("shop-2.0", "ramp 1", "a person");
    let _ = shop.tell(&["jump", "shop-2.0", "2"]);
    shop.wait("shop-2.0", "ramp 2", "a person");
    let _ = shop.tell(&["pause", "shop-2.0"]);
    assert!(shop.on_gray(1).len() > 20);
    let aborted = shop.tell(&["abort", "shop-2.0", "--message", "it loses carts"]);
    assert_eq!(aborted["state"], "abnormal");
    assert_eq!(shop.on_gray(1), BTreeSet::new(), "the answer comes after the flip");
    let _ = shop.tell(&["close", "shop-2.0"]);
    assert_eq!(shop.state("shop-2.0"), "failed");
    for load in loads {
        load.stop().unwrap().assert_all_ok();
    }
    shop.finish();
}

/// Nobody asks whether gray is well: what is counted of it says so.
#[test]
fn f9_one_that_refuses_its_clients_is_taken_back_by_itself() {
    refuses(|_, policy| policy);
}

/// Whose connections are not rewritten: gray hears its answers all the same.
#[test]
fn f9_one_that_refuses_its_clients_is_taken_back_also_beside_a_stable_on_its_own_address() {
    refuses(|shop, policy| {
        let moved = SocketAddr::new(IpAddr::V4(shop.world.backends[0].v4), 8080);
        policy.replace(&format!("'{moved}', version: '1.0'"), &format!("'{}', version: '1.0'", vip(0, 8080)))
    });
}

fn refuses(policy: impl FnOnce(&Shop, String) -> String) {
    let shop = Shop::start(false);
    let text = shop.policy("1.0");
    let other = policy(&shop, text.clone());
    if other != text {
        let _ = shop.agent.apply(&other).unwrap();
    }
    let mut load = shop.load(0);
    let _ = load.wait_requests(50, PATIENCE).unwrap();
    let document = "release: shop-2.0\nversion: 2.0.0-gray.1\nservices: { shop: { gray: { version: '2.0' } } }\n\
                    stages:\n  - { percent: 20, samples: 2000 }\n  - { percent: 100 }\n";
    let _ = shop.begin(document);
    shop.wait("shop-2.0", "abnormal", "retry, resume or close");
    assert_eq!(shop.on_gray(0), BTreeSet::new(), "everybody is on stable");
    let shown = shop.tell(&["status", "shop-2.0"]);
    assert!(shown["reason"].as_str().unwrap().contains("shop: failures"), "{shown:#}");
    let history = shop.tell(&["history", "shop-2.0"]);
    let gone = |e: &&Value| e["what"] == "transition" && e["to"] == "abnormal";
    let evidence = &history.as_array().unwrap().iter().find(gone).unwrap()["evidence"];
    assert_eq!(evidence["judged"]["verdict"], "fail", "{history:#}");
    let counts = &evidence["counts"][0];
    let of = |arm: &str, what: &str| counts[arm][what].as_u64().unwrap();
    assert!(of("gray", "refused") > 5 && of("stable", "refused") == 0, "{counts:#}");
    assert!(of("stable", "reply_packets") > of("stable", "flows"), "{counts:#}");
    // Long before the sample was whole.
    assert!(of("gray", "flows") < 1000, "{counts:#}");
    let worst = |c: &Value| c["outcome"] == "fail" && c["p"].as_f64().unwrap() < 0.05;
    let compared = evidence["compared"][0]["comparisons"].as_array().unwrap();
    assert!(compared.iter().any(worst), "{evidence:#}");
    let shown = shop.agent.gray_ok(&["release", "history", "shop-2.0"]).unwrap();
    assert!(shown.contains("(refused "), "{shown}");
    let _ = load.stop().unwrap();
    shop.finish();
}

#[test]
fn f7_f8_no_step_stands_in_the_way_of_a_recall_and_connections_come_back_too() {
    let shop = Shop::start(true);
    let document = "release: echo\nversion: 2.0.0-gray.1\nservices: { shop-echo: { gray: { version: '2.0' } } }\ntesters: beta\ngray-verify: [{ command: [hang], timeout: 1h }]\nstages: [{ percent: 100 }]\n";
    let _ = shop.begin(document);
    let client = &shop.world.clients[0];
    wait_for("the step to hang", PATIENCE, || Ok(shop.hooks.join("pid").exists())).unwrap();
    let tester = vec![client.sources(false)[0]];
    let mut load = LoadSpec::long_lived(vip(0, 9000), 5, 20).sources(tester).start(&client.place()).unwrap();
    let _ = load.wait_requests(20, PATIENCE).unwrap();
    assert_eq!(load.snapshot().unwrap().of_version("1.0"), 0, "the testers are on gray");
    let pid = std::fs::read_to_string(shop.hooks.join("pid")).unwrap();
    let began = Instant::now();
    let recalled = shop.tell(&["recall", "echo", "--mode", "reset"]);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(10));
    let history = shop.agent.gray_json(&["history"]).unwrap();
    let t = |name: &str| history[0]["timings"][name].as_u64().unwrap_or_default();
    note(&format!(
        "recall: answered after {} ms; its change took {} us to the flip, {} us of them after the record",
        took.as_millis(),
        (t("flipped_ns") - t("received_ns")) / 1000,
        (t("flipped_ns") - t("durable_ns")) / 1000
    ));
    assert_eq!(recalled["state"], "abnormal", "{recalled:#}");
    let at = load.snapshot().unwrap();
    let report = load.wait_requests(at.requests + 50, PATIENCE).unwrap();
    assert!(report.of_version("1.0") > 0, "they were dialled again, at stable");
    assert_eq!(load.stop().unwrap().failed(), 5, "each was closed once");
    wait_for("the step's processes to end", PATIENCE, || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        Ok(stat.is_empty() || stat.contains(") Z "))
    })
    .unwrap();
    let _ = shop.tell(&["close", "echo"]);
    shop.finish();
}

/// Connections to the echo of the first service on which nobody speaks, from one address; what serves them has this version.
fn idle(shop: &Shop, source: IpAddr, n: usize, version: &str) -> Vec<TcpStream> {
    use socket2::{Domain, Socket, Type};
    // `linux/in.h`: the port is chosen at connect.
    const IP_BIND_ADDRESS_NO_PORT: i32 = 24;
    let open = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        sys::set_int_option(socket.as_fd(), libc::SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1)?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
        socket.connect_timeout(&vip(0, 9000).into(), PATIENCE)?;
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut banner = [0; 100];
        let len = stream.read(&mut banner)?;
        let banner = String::from_utf8_lossy(&banner[..len]).into_owned();
        assert_eq!(banner.split(' ').nth(1), Some(version), "{banner}");
        std::io::Result::Ok(stream)
    };
    let all = shop.world.clients[0].ns.enter(|| (0..n).map(|_| open()).collect::<std::io::Result<_>>());
    all.unwrap()
}

/// Of idle connections, those that are open still. One that ends otherwise than by a reset is a fault.
fn open_still(all: Vec<TcpStream>) -> Vec<TcpStream> {
    let open = |stream: &mut TcpStream| {
        stream.set_nonblocking(true).unwrap();
        match stream.read(&mut [0; 1]).map_err(|e| e.kind()) {
            Err(ErrorKind::WouldBlock) => true,
            Err(ErrorKind::ConnectionReset) => false,
            other => panic!("neither open nor reset: {other:?}"),
        }
    };
    all.into_iter().filter_map(|mut s| open(&mut s).then_some(s)).collect()
}

/// Nobody touched them: they serve.
fn all_serve(all: Vec<TcpStream>) {
    let n = all.len();
    let open = open_still(all);
    assert_eq!(open.len(), n, "of these some were reset");
    for mut stream in open {
        stream.set_nonblocking(false).unwrap();
        stream.write_all(b"here\n").unwrap();
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"here\n");
    }
}

const ECHO: &str = "release: echo
version: 2.0.0-gray.1
services: { shop-echo: { gray: { version: '2.0' } } }
stages: [{ cohort: beta, samples: 0, approval: true }, { percent: 100, samples: 0 }]
";

/// Whoever is on gray by a route of people's stays there; those of the release are known when its routes are long gone.
#[test]
fn f8_a_recall_closes_what_the_release_itself_has_sent_to_gray() {
    let mut shop = Shop::start(true);
    let sources = shop.world.clients[0].sources(false);
    let policy = shop.policy("1.0")
        + &format!(
            "  mine: {{ sources: ['{}'] }}\nroutes:\n  - {{ name: own, service: shop-echo, when: mine, to: {{ version: '2.0' }} }}\n",
            sources[1]
        );
    let _ = shop.agent.apply(&policy).unwrap();
    let _ = shop.begin(ECHO);
    shop.wait("echo", "ramp 1", "approve");
    let gray = idle(&shop, sources[0], 20, "2.0");
    let mine = idle(&shop, sources[1], 20, "2.0");
    let stable = idle(&shop, sources[2], 20, "1.0");
    // The routes go, their numbers fall free two revisions later, and another agent is asked.
    assert_eq!(shop.tell(&["abort", "echo"])["state"], "abnormal");
    for more in ["more", "still-more"] {
        let more = policy.replace("cohorts:\n", &format!("cohorts:\n  {more}: {{ percent: 1 }}\n"));
        let _ = shop.agent.apply(&more).unwrap();
    }
    shop.agent.kill9().unwrap();
    shop.agent.restart().unwrap();
    let gray = open_still(gray);
    assert_eq!(gray.len(), 20, "an abort closes nothing");
    let told = ["recall", "--service", "shop-echo", "--mode", "drain", "--grace", "1s"];
    let told = shop.agent.gray_json(&told).unwrap();
    assert_eq!((&told[0]["name"], &told[0]["state"]), (&"echo".into(), &"recalling".into()), "{told:#}");
    shop.wait("echo", "abnormal", "retry, resume or close");
    let mut left = gray;
    wait_for("the release's connections to be reset", PATIENCE, || {
        left = open_still(std::mem::take(&mut left));
        Ok(left.is_empty())
    })
    .unwrap();
    all_serve(mine);
    all_serve(stable);
    let history = shop.agent.gray_ok(&["release", "history", "echo"]).unwrap();
    assert!(history.contains("20 closed"), "{history}");
    let _ = shop.tell(&["close", "echo"]);
    let none = shop.agent.gray(&["recall"]).unwrap();
    let said = String::from_utf8_lossy(&none.stderr).into_owned();
    assert!(none.status.code() == Some(1) && said.contains("no release is open"), "{said}");
    shop.finish();
}

/// As many connections of gray as one likes, and nobody speaks on them: all of them hear of it, and nobody else.
#[test]
fn f8_thousands_of_connections_are_reset_and_no_stable_one_is_touched() {
    let n = many("connections of gray", 10_000, 500);
    sys::allow_open_files(n as u64 + 1000).unwrap();
    let shop = Shop::start(true);
    let sources = shop.world.clients[0].sources(false);
    let _ = shop.begin(ECHO);
    shop.wait("echo", "ramp 1", "approve");
    let gray = idle(&shop, sources[0], n, "2.0");
    let stable = idle(&shop, sources[1], 200, "1.0");
    let at_gray = || -> std::io::Result<usize> {
        let asked = ["-Htn", "state", "established", "sport = :9000"];
        let found = shop.world.backends[1].ns.command("ss").args(asked).output()?;
        Ok(String::from_utf8_lossy(&found.stdout).lines().count())
    };
    assert_eq!(at_gray().unwrap(), n);
    let began = Instant::now();
    let (told, last_ns) = std::thread::scope(|s| {
        let told =
            s.spawn(|| shop.agent.gray_json(&["recall", "--release", "echo", "--mode", "reset"]).unwrap());
        let mut left = gray;
        wait_for("all of gray's connections to be reset", PATIENCE, || {
            left = open_still(std::mem::take(&mut left));
            Ok(left.is_empty())
        })
        .unwrap();
        let last = sys::monotonic_ns();
        (told.join().unwrap(), last)
    });
    let took = began.elapsed();
    assert_eq!(told[0]["state"], "abnormal", "{told:#}");
    let history = shop.agent.gray_json(&["history"]).unwrap();
    let durable = history[0]["timings"]["durable_ns"].as_u64().unwrap_or_default();
    note(&format!(
        "recall of {n} connections: answered and all reset after {} ms, {} ms after its record was durable",
        took.as_millis(),
        last_ns.saturating_sub(durable) / 1_000_000
    ));
    wait_for("gray to hear of it, too", PATIENCE, || Ok(at_gray()? == 0)).unwrap();
    all_serve(stable);
    let said = shop.agent.gray_ok(&["release", "history", "echo"]).unwrap();
    assert!(said.contains(&format!("{n} closed")), "{said}");
    let _ = shop.tell(&["close", "echo"]);
    shop.finish();
}

#[test]
fn f1_d4_what_cannot_be_released_is_refused_with_every_reason() {
    let shop = Shop::start(false);
    let file = shop.world.temp().join("bad.yaml");
    let refused = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let out = shop.agent.gray(&["release", "start", "-f", &file.to_string_lossy()]).unwrap();
        assert!(!out.status.success());
        String::from_utf8_lossy(&out.stderr).into_owned()
    };
    let bad = RELEASE
        .replace("  cart: {", "  crat: {")
        .replace("2.0.0-gray.3", "2.0.0")
        .replace("cohort: beta", "cohort: betta");
    let said = refused(&bad);
    for word in [
        "did you mean `cart`",
        "is no gray version number",
        "did you mean `beta`",
        "the release has 3 problems",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(refused(&RELEASE.replace("[log, align]", "[nobody]")).contains("no such file"));
    let held =
        RELEASE.replace("release: shop-2.0", "release: other").replace("gray-period: 1s", "gray-period: 1h");
    let _ = shop.begin(&held.replace("[deploy,", "[log,"));
    assert!(refused(RELEASE).contains("is being released by other"));
    let _ = shop.tell(&["abort", "other"]);
    let _ = shop.tell(&["close", "other"]);
    assert!(refused(RELEASE).contains("2.0.0-gray.3 was the number of other"));
    shop.finish();
}

/// A script that takes something away, let pass by rules of one's own: bad evidence freezes, and a person decides.
#[test]
fn g2_a_script_that_cannot_be_undone_freezes_the_release() {
    let shop = Shop::start(true);
    shop.program("run-sql", &format!("cat > {}/ran", shop.hooks.display()));
    let write = |name: &str, text: &str| std::fs::write(shop.hooks.join(name), text).unwrap();
    write("contract.sql", "alter table carts drop column colour;\n");
    write("rules.yaml", "rules:\n  drop-column: warn\n");
    write("bad", "");
    let document = "release: shop-2.0\nversion: 2.0.0-gray.1\nservices: { shop: { gray: { version: '2.0' } } }\n\
                    data: { script: [{ script: contract.sql, dialect: mysql, rules: rules.yaml, run: [run-sql] }] }\n\
                    stages: [{ percent: 10, checks: [{ command: [check] }], every: 1s }, { percent: 100 }]\n";
    let _ = shop.begin(document);
    shop.wait("shop-2.0", "frozen (ramp 1)", "resume, abort or recall");
    let ran = std::fs::read_to_string(shop.hooks.join("ran")).unwrap();
    assert_eq!(ran, "alter table carts drop column colour;\n", "as it was judged");
    let history = shop.tell(&["history", "shop-2.0"]);
    let judged =
        |e: &&Value| e["what"] == "script" && e["text"].as_str().unwrap().contains("cannot be undone");
    assert!(history.as_array().unwrap().iter().any(|e| judged(&e)), "{history:#}");
    assert!(!shop.on_gray(0).is_empty(), "the share stays");
    let _ = shop.tell(&["recall", "shop-2.0", "--mode", "reset"]);
    shop.wait("shop-2.0", "abnormal", "retry, resume or close");
    let _ = shop.tell(&["close", "shop-2.0"]);
    shop.finish();
}

/// Rows that are changed and cannot be brought back: the same, unless the release allows it.
#[test]
fn g2_a_script_that_changes_rows_freezes_the_release_unless_it_may_not() {
    let shop = Shop::start(true);
    shop.program("run-sql", "cat > /dev/null");
    std::fs::write(shop.hooks.join("fill.sql"), "update carts set colour = 'red' where id = 7;\n").unwrap();
    std::fs::write(shop.hooks.join("bad"), "").unwrap();
    for (n, (more, state, waits)) in [
        ("", "frozen (ramp 1)", "resume, abort or recall"),
        (", changed-rows: allow", "abnormal", "retry, resume or close"),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("rows-{n}");
        let document = format!(
            "release: {name}\nversion: 2.0.0-gray.{}\nservices: {{ shop: {{ gray: {{ version: '2.0' }} }} }}\n\
             data: {{ script: [{{ script: fill.sql, dialect: mysql, run: [run-sql]{more} }}] }}\n\
             stages: [{{ percent: 10, samples: 0, checks: [{{ command: [check] }}], every: 1s }}, {{ percent: 100 }}]\n",
            n + 1
        );
        let _ = shop.begin(&document);
        shop.wait(&name, state, waits);
        assert_eq!(shop.on_gray(0).is_empty(), state == "abnormal", "{name}");
        let said = shop.agent.gray_ok(&["release", "history", &name]).unwrap();
        assert!(said.contains("what it changes of rows cannot be undone"), "{said}");
        if state != "abnormal" {
            let _ = shop.tell(&["abort", &name]);
        }
        let _ = shop.tell(&["close", &name]);
    }
    shop.finish();
}

/// A stage that says nothing of samples asks for some: without traffic it goes nowhere.
#[test]
fn f9_a_stage_without_traffic_holds() {
    let shop = Shop::start(true);
    let document = "release: shop-2.0\nversion: 2.0.0-gray.1\nservices: { shop: { gray: { version: '2.0' } } }\n\
                    stages: [{ percent: 30 }, { percent: 100, samples: 0 }]\n";
    let _ = shop.begin(document);
    shop.wait("shop-2.0", "ramp 1", "evidence: shop: 0 of 50 connections of gray");
    // Not by time alone.
    std::thread::sleep(Duration::from_secs(2));
    let shown = shop.tell(&["status", "shop-2.0"]);
    assert_eq!((&shown["state"], &shown["judged"]["verdict"]), (&"ramp 1".into(), &"inconclusive".into()));
    let load = shop.load(0);
    shop.wait("shop-2.0", "done", "a policy");
    load.stop().unwrap().assert_all_ok();
    let history = shop.tell(&["history", "shop-2.0"]);
    let judged = |from: &str| {
        let of = |e: &&Value| e["what"] == "transition" && e["from"] == from;
        history.as_array().unwrap().iter().find(of).unwrap()["evidence"].clone()
    };
    let first = judged("ramp 1");
    assert_eq!(first["judged"]["verdict"], "pass", "{first:#}");
    let failures = &first["compared"][0]["comparisons"][0];
    assert!(failures["gray"]["n"].as_u64().unwrap() >= 50 && failures["p"].is_number(), "{first:#}");
    assert_eq!(judged("ramp 2")["judged"]["verdict"], "not judged", "it asked for nothing: {history:#}");
    assert!(judged("aligning")["counts"][0]["gray"]["connections"].is_number(), "{history:#}");
    let _ = shop.tell(&["abort", "shop-2.0"]);
    let _ = shop.tell(&["close", "shop-2.0"]);
    shop.finish();
}

/// A short release that goes to its end by itself.
fn short(name: &str, n: usize) -> String {
    format!(
        "release: {name}\nversion: 2.0.0-gray.{n}\nservices: {{ shop: {{ gray: {{ version: '2.0' }} }}, cart: {{ gray: {{ version: '2.0' }} }} }}\n\
         deploy: [{{ command: [log, deploy] }}]\nstages:\n  - {{ percent: 25, samples: 0, checks: [{{ command: [check] }}] }}\n  - {{ percent: 100, samples: 0 }}\n\
         align: {{ steps: [{{ command: [log, align] }}] }}\n"
    )
}

fn give_up(shop: &Shop, name: &str) {
    let _ = shop.tell(&["abort", name]);
    let _ = shop.tell(&["close", name]);
    shop.wait(name, "failed", "");
    assert_eq!(shop.on_gray(0), BTreeSet::new());
}

/// Held by a person in its first stage; its last one needs a cohort that the first does not.
const HELD: &str = "release: shop-2.0
version: 2.0.0-gray.1
services: { shop: { gray: { version: '2.0' } } }
stages: [{ percent: 25, samples: 0, approval: true }, { cohort: beta, percent: 100, samples: 0 }]
";

#[test]
fn f7_what_is_not_carried_out_is_no_success() {
    let mut shop = Shop::start(true);
    let policy = shop.policy("1.0");
    let without = policy.split("cohorts:").next().unwrap();
    let _ = shop.agent.apply(without).unwrap();
    let _ = shop.agent.apply(&policy).unwrap();
    let _ = shop.begin(HELD);
    shop.wait("shop-2.0", "ramp 1", "approve");
    let refused = |shop: &Shop, args: &[&str]| {
        let out = shop.agent.gray(args).unwrap();
        assert!(!out.status.success(), "{args:?}");
        String::from_utf8_lossy(&out.stderr).into_owned()
    };
    // A policy without what only a later stage needs.
    let said = format!("{:#}", shop.agent.apply(without).unwrap_err());
    assert!(said.contains("could not go on") && said.contains("beta"), "{said}");
    let said = refused(&shop, &["rollback", "2"]);
    assert!(said.contains("could not go on") && said.contains("beta"), "{said}");
    assert!((20..80).contains(&shop.on_gray(0).len()), "a quarter");
    // A way back that fails once.
    shop.agent.stop().unwrap();
    shop.agent.spawn(&[("GRAY_FAIL", "change.compiled=error")]).unwrap();
    assert!(shop.agent.wait_ready().unwrap());
    let said = refused(&shop, &["release", "abort", "shop-2.0"]);
    assert!(said.contains("is abnormal, but 25 % to gray is still in force"), "{said}");
    shop.wait("shop-2.0", "abnormal", "retry, resume or close");
    assert_eq!(shop.on_gray(0), BTreeSet::new(), "and is taken when it is tried again");
    let _ = shop.tell(&["close", "shop-2.0"]);
    // The policy has taken over: no route of the release keeps anybody on gray.
    let _ = shop.begin(&short("r1", 2));
    shop.wait("r1", "done", "a policy");
    let _ = shop.agent.apply(&shop.policy("2.0")).unwrap();
    for verb in ["abort", "recall"] {
        let said = refused(&shop, &["release", verb, "r1"]);
        assert!(said.contains("nobody would go back") && said.contains("gray rollback"), "{said}");
    }
    assert_eq!(shop.tell(&["close", "r1"])["state"], "closed");
    shop.finish();
}

#[test]
fn d2_files_that_a_release_was_in_the_way_of_are_applied_when_it_is_over() {
    let mut shop = Shop::start(true);
    let dir = shop.world.temp().join("policy.d");
    std::fs::create_dir(&dir).unwrap();
    let put = |text: &str| {
        // At once: half a document would be another one.
        std::fs::write(dir.join("next"), text).unwrap();
        std::fs::rename(dir.join("next"), dir.join("policy.yaml")).unwrap();
    };
    let policy = shop.policy("1.0");
    put(&policy);
    let hooks = shop.hooks.display().to_string();
    let at = dir.display().to_string();
    shop.agent.use_args(&["--release-hooks", &hooks, "--policy-dir", &at]);
    shop.agent.restart().unwrap();
    let wait = |shop: &Shop, state: &str| {
        let shown = || Ok(shop.agent.gray_json(&["status"])?["policy_dir"]["state"] == *state);
        wait_for(state, PATIENCE, shown).unwrap();
    };
    wait(&shop, "applied");
    let _ = shop.begin(HELD);
    shop.wait("shop-2.0", "ramp 1", "approve");
    put(policy.split("cohorts:").next().unwrap());
    wait(&shop, "refused");
    let _ = shop.tell(&["abort", "shop-2.0"]);
    assert_eq!(shop.agent.gray_json(&["status"]).unwrap()["policy_dir"]["state"], "refused", "it is open");
    let _ = shop.tell(&["close", "shop-2.0"]);
    wait(&shop, "applied");
    shop.finish();
}
