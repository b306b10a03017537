//! A client's request -> A, which has the lane's version -> B, which has not -> C: each way in which C gets the lane. All three are containers of the
//! edge's host.

use std::net::SocketAddr;

use gray_tests::{
    Place,
    client::{LoadSpec, Mode, curl},
    policy::PolicyText,
    scene::vip,
    server::{How, Middle, MiddleSpec},
    skip,
};
use gray_userspace::sys::kernel::MESSAGES;

use crate::chain::{Chain, LANE, PORT};

const FRONT: u16 = 18_081;
/// Where A's 1.0 and 2.0 are.
const A: [u16; 2] = [18_181, 18_182];
const HEADER: &str = "X-App-Id";
/// Requests of each app.
const REQUESTS: u64 = 40;

/// Dropped in this order.
struct Ways {
    _a: Vec<Middle>,
    chain: Chain,
}

impl Ways {
    fn start(args: &[&str]) -> Self {
        let chain = Chain::contained(args);
        let _ = chain.agent.apply(&policy(&chain)).unwrap();
        Self { _a: Vec::new(), chain }
    }

    /// Both versions of A call this.
    fn a_calls(&mut self, to: SocketAddr, passes: Option<&str>) {
        self._a = Vec::new();
        let (place, chain) = (self.a(), &self.chain);
        let all = [("a 1.0", &chain.plain, A[0]), ("a 2.0", &chain.gray, A[1])];
        let all = all.map(|(name, cgroup, port)| {
            let spec = MiddleSpec { name: Some(name), passes, ..MiddleSpec::new(How::Threads, port, to) };
            chain.middle(&place, cgroup, spec)
        });
        self._a = all.into();
    }

    fn b_calls(&mut self, passes: Option<&str>) {
        let spec = MiddleSpec::new(How::Threads, PORT, vip(false, 8080));
        let place = self.chain.world.clients[1].place();
        self.chain.serve_as(&place, MiddleSpec { name: Some("b 1.0"), passes, ..spec });
    }

    fn a(&self) -> Place {
        self.chain.world.clients[2].place()
    }

    /// By whom app7's requests go, and what of C they reach; app8's are stable throughout.
    fn expect(&self, way: &str, by: &[&str], c: &str) {
        for (app, c) in [("app7", c), ("app8", "1.0")] {
            let by: Vec<String> = match app {
                "app7" => by.iter().map(|s| (*s).to_owned()).collect(),
                _ => by.iter().map(|s| s.replace("2.0", "1.0")).collect(),
            };
            let (place, header) = (self.chain.world.clients[0].place(), format!("{HEADER}: {app}"));
            let url = format!("http://{}/", vip(false, FRONT));
            let answer = curl::get(&place, &url, &["-H", &header]).unwrap().json().unwrap();
            assert_eq!(answer["via"], serde_json::json!(by), "{way}, {app}: {answer}");
            let mut spec = LoadSpec::new(vip(false, FRONT), Mode::Http { per_connection: 1 }).count(REQUESTS);
            spec.headers = vec![(HEADER.into(), app.into())];
            spec.timeout_ms = 30_000;
            let report = spec.run(&place).unwrap();
            report.assert_all_ok();
            assert_eq!(report.of_version(c), REQUESTS, "{way}, {app}: {:?}", report.by_server);
        }
    }
}

/// C reads requests, too, and leads the same clients into the same lane.
fn policy(chain: &Chain) -> String {
    let (a, b) = (chain.world.clients[2].v4[0], chain.world.clients[1].v4[0]);
    let text = PolicyText::own(&chain.world)
        .claims(&format!("app: {{ header: {HEADER} }}"))
        .identify("app, source")
        .cohort("testers", "apps: [app7]")
        .lane(LANE, "a: { version: \"2.0\" }, web: { version: \"2.0\" }")
        .route(&format!("when: testers, lane: {LANE}"));
    format!(
        "{text}---
services:
  a:
    listen: [\"{}\"]
    claims: {{ app: {{ header: {HEADER} }} }}
    identify: [app, source]
    instances:
      - {{ address: \"{a}:{}\", version: \"1.0\" }}
      - {{ address: \"{a}:{}\", version: \"2.0\" }}
    stable: {{ version: \"1.0\" }}
  b:
    listen: [\"{}\"]
    instances:
      - {{ address: \"{b}:{PORT}\", version: \"1.0\" }}
    stable: {{ version: \"1.0\" }}
",
        vip(false, FRONT),
        A[0],
        A[1],
        vip(false, PORT),
    )
}

/// No label, no link, no tag: what the request says is read at A and at C, and B passes it on.
#[test]
fn e2_c10_a_header_that_b_passes_on_is_the_lane_at_c() {
    let mut ways = Ways::start(&[]);
    let b = vip(false, PORT);
    ways.a_calls(b, Some(HEADER));
    ways.b_calls(Some(HEADER));
    ways.expect("header", &["a 2.0", "b 1.0"], "2.0");
    ways.b_calls(None);
    ways.expect("header that B keeps", &["a 2.0", "b 1.0"], "1.0");
    let Ways { _a, chain } = ways;
    drop(_a);
    chain.finish();
}

/// Nothing is passed on in requests: by the label of who calls C, and by the link of who is in no lane itself.
#[test]
fn e2_c10_labels_and_a_link_carry_the_lane_to_c() {
    if skip::lacks(MESSAGES, "a link") {
        return;
    }
    let trusts = ["c0", "c1", "c2"].map(|c| ["--trust-tags", c]);
    let mut ways = Ways::start(&[&["--tags"][..], &trusts.concat()].concat());
    ways.chain.label(&[]);
    let (b, c) = (vip(false, PORT), vip(false, 8080));
    ways.a_calls(c, None);
    ways.expect("workload", &["a 2.0"], "2.0");
    ways.a_calls(b, None);
    ways.b_calls(None);
    ways.expect("no link", &["a 2.0", "b 1.0"], "1.0");
    ways.chain.label_b(&["--link", "thread"]);
    ways.expect("tag and link", &["a 2.0", "b 1.0"], "2.0");
    let Ways { _a, chain } = ways;
    drop(_a);
    chain.finish();
}
