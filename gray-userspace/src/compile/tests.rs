//! From a document to decisions: the compiled tables steer as the document says, a change is atomic, a failed one
//! changes nothing. On the fake data path, whose tables decide as the kernel's do.

use std::collections::{BTreeMap, BTreeSet};

use gray_common::{
    Reason,
    decide::{Claims, Request, Verdict, decide},
    hash::{HashKey, lane_check},
    slots::Slots,
    wire::{Addr, ListenerKey},
};
use proptest::prelude::*;

use super::{
    Circumstances, Compiled,
    have::Have,
    lists::{Lists, of_policy},
    plan::{Want, Write, forget, plan},
    *,
};
use crate::{
    config::{self, Source},
    datapath::{Datapath as _, Fake, have_of},
};

const KEY: HashKey = HashKey { k0: 3, k1: 4 };

fn policy(text: &str) -> Policy {
    config::load(&[Source::new("test", text)]).unwrap_or_else(|e| panic!("{e}")).policy
}

fn lists_of(policy: &Policy, c: &Compiled) -> Lists {
    of_policy(policy, &c.assigned.lists, KEY)
}

/// A data path with its control half's view, as the agent holds them.
#[derive(Default)]
struct World {
    path: Fake,
    have: Have,
    compiled: Compiled,
    lists: Lists,
}

impl World {
    fn with(text: &str) -> Self {
        let mut w = Self::default();
        w.apply(text).unwrap();
        w
    }

    /// As the agent does: plan, write, on failure read again.
    fn apply(&mut self, text: &str) -> Result<(), String> {
        let p = policy(text);
        let c = compile(&p, &self.compiled.assigned, &Circumstances::default()).map_err(|e| e.to_string())?;
        let lists = lists_of(&p, &c);
        let want = Want::all(self.have.revision + 1, KEY, &c, &lists);
        let steps = plan(&mut self.have, &want).map_err(|e| e.to_string())?;
        for s in &steps {
            if let Err(e) = self.path.write(s) {
                self.have = self.path.read().unwrap();
                return Err(e.to_string());
            }
        }
        (self.compiled, self.lists) = (c, lists);
        Ok(())
    }

    fn tidy(&mut self) {
        if let Some(step) = forget(&mut self.have, &self.compiled, &self.lists.prefixes) {
            self.path.write(&step).unwrap();
        }
    }

    fn ask(&self, source: &str, service: &str) -> Verdict {
        self.ask_at(self.path.tables.control.epoch, source, service, 1)
    }

    fn ask_at(&self, epoch: u64, source: &str, service: &str, seed: u64) -> Verdict {
        self.ask_in(0, epoch, source, service, seed)
    }

    /// As a caller whose label says a lane, by its number.
    fn ask_in(&self, lane: u32, epoch: u64, source: &str, service: &str, seed: u64) -> Verdict {
        let dst: std::net::SocketAddr = service.parse().unwrap();
        let key = ListenerKey { addr: Addr::from(dst.ip()), port: dst.port().to_be(), proto: 6, _pad: 0 };
        let view = self.path.tables.view_at(epoch);
        let source = Addr::from(source.parse::<std::net::IpAddr>().unwrap());
        let mut claims = Claims::none(0);
        claims.set_source(KEY, &source);
        claims.lane = if view.lane(lane) == 0 { 0 } else { u64::from(lane) };
        let listener = view.listener(&key);
        decide(
            &view,
            &Request {
                listener,
                claims: &claims,
                source: Some(&source),
                is_v4: dst.is_ipv4(),
                seed,
                spares: 0,
            },
        )
    }

    /// `instance-address reason` of a decision.
    fn answer(&self, source: &str) -> String {
        show(self.ask(source, "198.18.100.1:80"))
    }
}

fn show(v: Verdict) -> String {
    match v {
        Verdict::Steer(d) => {
            format!(
                "{} {}",
                std::net::IpAddr::from(d.instance.addr),
                Reason::from_code(d.reason).unwrap().label()
            )
        }
        Verdict::Stay(d) => format!("stays {}", Reason::from_code(d.reason).unwrap().label()),
        Verdict::Deny(d) => format!("refused {}", Reason::from_code(d.reason).unwrap().label()),
        Verdict::Pass(r) => format!("passes {}", r.label()),
    }
}

/// One service: 1.0 at .1, 2.0 at .2, 3.0 at .3.
fn document(cohorts: &str, routes: &str) -> String {
    format!(
        "services:\n  shop:\n    listen: [\"198.18.100.1:80\"]\n    identify: [source]\n    instances:\n      \
         - {{ address: \"198.18.2.1:80\", version: \"1.0\" }}\n      - {{ address: \"198.18.2.2:80\", version: \"2.0\" }}\n      \
         - {{ address: \"198.18.2.3:80\", version: \"3.0\" }}\n    stable: {{ version: \"1.0\" }}\n{cohorts}\n{routes}\n"
    )
}

fn early(ids: &str) -> String {
    document(
        &format!("cohorts:\n  early: {{ sources: [{ids}] }}"),
        "routes:\n  - { service: shop, when: early, to: { version: \"2.0\" } }",
    )
}

#[test]
fn b1_a5_lists_and_prefixes_choose_the_subset() {
    let w = World::with(&early("\"198.18.1.3\", \"198.18.7.0/24\""));
    assert_eq!(w.answer("198.18.1.3"), "198.18.2.2 explicit");
    assert_eq!(w.answer("198.18.7.200"), "198.18.2.2 explicit");
    assert_eq!(w.answer("198.18.8.1"), "198.18.2.1 default");
    assert_eq!(show(w.ask("198.18.1.3", "198.18.100.1:81")), "passes not_managed");
}

/// Whoever is on a list of another claim is refused, too: nothing of `identify` is known of it.
#[test]
fn a4_clients_without_an_identity_are_refused() {
    let marked = early("\"198.18.1.3\"")
        .replace("identify: [source]", "identify: [mark]\n    on-missing-identity: deny");
    assert_eq!(World::with(&marked).answer("198.18.1.3"), "refused denied");
    let known = marked.replace("[mark]", "[mark, source]");
    assert_eq!(World::with(&known).answer("198.18.1.3"), "198.18.2.2 explicit");
    let served = marked.replace("deny", "stable");
    assert_eq!(World::with(&served).answer("198.18.1.3"), "198.18.2.2 explicit");
}

/// The steps below a lane: routes that all apply to 198.18.1.3, each to an instance of its own. The document has them in the wrong order.
const STEPS: [&str; 3] = [
    "  - { service: shop, to: [ { version: \"4.0\", weight: 100 }, { version: \"1.0\", weight: 0 } ] }",
    "  - { service: shop, when: all, to: { version: \"2.0\" } }",
    "  - { service: shop, when: early, to: { version: \"3.0\" } }",
];

/// What a policy with these of them says, whose lane names shop if it is to.
fn stepped(lane: bool, steps: &[&str]) -> String {
    let cohorts = "cohorts:\n  early: { sources: [\"198.18.1.3\"] }\n  all: { percent: 100 }";
    let lane = if lane { "lanes:\n  blue: { shop: { version: \"5.0\" } }\n" } else { "" };
    let routes = [steps, if lane.is_empty() { &[] } else { &["  - { when: all, lane: blue }"] }].concat();
    let routes = if routes.is_empty() { String::new() } else { format!("routes:\n{}", routes.join("\n")) };
    let more = "      - { address: \"198.18.2.4:80\", version: \"4.0\" }\n      - { address: \"198.18.2.5:80\", version: \"5.0\" }\n    stable:";
    let text = document(cohorts, &format!("{lane}{routes}")).replace("    stable:", more);
    World::with(&text).answer("198.18.1.3")
}

/// The tables keep what a larger policy left behind those of a smaller one; who starts then reads both.
#[test]
fn h2_an_agent_that_starts_after_a_larger_policy_goes_on_from_the_one_in_force() {
    let document = |n: usize, first: usize| {
        let instances: String = (0..=n)
            .flat_map(|v| (0..1 + v % 3).map(move |i| (v, i)))
            .map(|(v, i)| {
                format!(
                    "      - {{ address: \"198.18.{}.{}:80\", version: \"{}\" }}\n",
                    2 + i,
                    1 + v,
                    first + v
                )
            })
            .collect();
        let route = |v| {
            format!(
                "  - {{ service: shop, when: {{ source: \"198.19.0.{v}\" }}, to: {{ version: \"{}\" }} }}\n",
                first + v
            )
        };
        let routes: String = (1..=n).map(route).collect();
        format!(
            "services:\n  shop:\n    listen: [\"198.18.100.1:80\"]\n    identify: [source]\n    instances:\n{instances}    stable: {{ version: \"{first}\" }}\nroutes:\n{routes}"
        )
    };
    let mut w = World::default();
    for (n, first) in [(20, 10), (18, 40), (2, 10), (2, 40), (9, 10), (1, 40), (7, 20), (20, 10), (3, 11)] {
        w.have = w.path.read().unwrap();
        w.apply(&document(n, first)).unwrap();
        for v in 1..=n {
            let answer = w.answer(&format!("198.19.0.{v}"));
            assert!(
                answer.ends_with(&format!(".{} condition", 1 + v)),
                "{n} from {first}: {v} is at {answer}"
            );
        }
    }
}

#[test]
fn c7_a_lane_before_an_explicit_identity() {
    assert_eq!(stepped(true, &STEPS[2..]), "198.18.2.5 lane");
    assert_eq!(stepped(false, &STEPS[2..]), "198.18.2.3 explicit");
}

#[test]
fn c7_an_explicit_identity_before_a_condition() {
    assert_eq!(stepped(false, &STEPS[1..]), "198.18.2.3 explicit");
    assert_eq!(stepped(false, &STEPS[1..2]), "198.18.2.2 condition");
}

#[test]
fn c7_a_condition_before_a_weight() {
    assert_eq!(stepped(false, &STEPS[..2]), "198.18.2.2 condition");
    assert_eq!(stepped(false, &STEPS[..1]), "198.18.2.4 weight");
}

#[test]
fn c7_a_weight_before_the_default() {
    assert_eq!(stepped(false, &STEPS[..1]), "198.18.2.4 weight");
    assert_eq!(stepped(false, &[]), "198.18.2.1 default");
}

/// The trap "`<= 0`: weight 0 still gets 1 %": of ten million identities none goes to an arm of weight 0, in any order of two and of three arms.
#[test]
fn c3_weight_0_gets_0_of_10_million_in_every_order() {
    let arms: [&[(&str, u8)]; 4] = [
        &[("1.0", 100), ("2.0", 0)],
        &[("1.0", 0), ("2.0", 60), ("3.0", 40)],
        &[("1.0", 0), ("2.0", 0), ("3.0", 100)],
        &[("1.0", 1), ("2.0", 99), ("3.0", 0)],
    ];
    let orders = |n: usize| -> &[&[usize]] {
        if n == 2 {
            &[&[0, 1], &[1, 0]]
        } else {
            &[&[0, 1, 2], &[0, 2, 1], &[1, 0, 2], &[1, 2, 0], &[2, 0, 1], &[2, 1, 0]]
        }
    };
    // Where ten million identities are, by bucket: the salt is the route's, and stays.
    let mut there: Option<(u64, Vec<u32>)> = None;
    for list in arms {
        for order in orders(list.len()) {
            let to =
                order.iter().map(|i| list[*i]).map(|(v, w)| format!("{{ version: \"{v}\", weight: {w} }}"));
            let to = to.collect::<Vec<_>>().join(", ");
            let w = World::with(&document(
                "",
                &format!("routes:\n  - {{ name: w, service: shop, to: [ {to} ] }}"),
            ));
            let (rule, table) = (&w.compiled.rules[0], &w.compiled.weighted[0]);
            let (salt, identities) = there.get_or_insert_with(|| {
                let mut n = vec![0u32; usize::from(limits::BUCKETS)];
                for i in 0..10_000_000u64 {
                    n[usize::from(gray_common::decide::bucket(i, rule.salt))] += 1;
                }
                (rule.salt, n)
            });
            assert_eq!(*salt, rule.salt, "{to}");
            let mut got = BTreeMap::<&str, u32>::new();
            for (owner, n) in table.owner.iter().zip(identities.iter()) {
                let subset = &w.compiled.subsets[table.arms[usize::from(*owner)] as usize];
                *got.entry(subset.name.rsplit_once('=').unwrap().1).or_default() += n;
            }
            for (version, weight) in list {
                let (n, want) = (got.remove(version).unwrap_or(0), u32::from(*weight) * 100_000);
                // Of none exactly none; of the others the share, within a tenth of a point.
                let near = if *weight == 0 { n == 0 } else { n.abs_diff(want) < 10_000 };
                assert!(near, "{version}: {n} of {to}");
            }
        }
    }
}

/// Two services: shop at .100, cart at .101 (instances .4 1.0, .5 2.0); pay at .102, which no lane names.
fn three(cohorts: &str, more: &str) -> String {
    let service = |name: &str, vip: u8, one: u8, two: u8| {
        format!(
            "  {name}:\n    listen: [\"198.18.100.{vip}:80\"]\n    identify: [source]\n    instances:\n      \
             - {{ address: \"198.18.2.{one}:80\", version: \"1.0\" }}\n      - {{ address: \"198.18.2.{two}:80\", version: \"2.0\" }}\n    \
             stable: {{ version: \"1.0\" }}\n"
        )
    };
    let services = [service("shop", 1, 1, 2), service("cart", 2, 4, 5), service("pay", 3, 6, 7)].concat();
    format!("services:\n{services}cohorts:\n{cohorts}\n{more}\n")
}

const LANES: &str = "lanes:\n  gray: { shop: { version: \"2.0\" }, cart: { version: \"2.0\" } }\n  old: { shop: { version: \"1.0\" } }";
const EARLY: &str = "  early: { sources: [\"198.18.1.3\"] }\n  all: { percent: 100 }";

/// What three services answer one client.
fn chain(w: &World, source: &str) -> [String; 3] {
    [1, 2, 3].map(|vip| show(w.ask(source, &format!("198.18.100.{vip}:80"))))
}

#[test]
fn e1_a_route_into_a_lane_is_a_rule_of_every_service_of_the_lane() {
    let w = World::with(&three(EARLY, &format!("{LANES}\nroutes:\n  - {{ when: early, lane: gray }}")));
    assert_eq!(chain(&w, "198.18.1.3"), ["198.18.2.2 lane", "198.18.2.5 lane", "198.18.2.6 default"]);
    assert_eq!(chain(&w, "198.18.1.4"), ["198.18.2.1 default", "198.18.2.4 default", "198.18.2.6 default"]);
}

/// B8: two of three services are gray for one client, and another two for another.
#[test]
fn b8_each_client_has_its_own_choice_of_services() {
    let more = "lanes:\n  a: { shop: { version: \"2.0\" }, cart: { version: \"2.0\" } }\n  b: { cart: { version: \"2.0\" }, pay: { version: \"2.0\" } }\n\
                routes:\n  - { when: one, lane: a }\n  - { when: two, lane: b }";
    let cohorts = "  one: { sources: [\"198.18.1.3\"] }\n  two: { sources: [\"198.18.1.4\"] }";
    let w = World::with(&three(cohorts, more));
    assert_eq!(chain(&w, "198.18.1.3"), ["198.18.2.2 lane", "198.18.2.5 lane", "198.18.2.6 default"]);
    assert_eq!(chain(&w, "198.18.1.4"), ["198.18.2.1 default", "198.18.2.5 lane", "198.18.2.7 lane"]);
    assert_eq!(chain(&w, "198.18.1.5"), ["198.18.2.1 default", "198.18.2.4 default", "198.18.2.6 default"]);
}

/// The lane's condition is a percentage and comes last in the document; the list before it is of one service.
#[test]
fn c7_a_lane_that_names_the_service_before_an_explicit_identity() {
    let routes = |list: &[&str]| format!("{LANES}\nroutes:\n{}", list.join("\n"));
    let explicit = [
        "  - { service: shop, when: early, to: { version: \"1.0\" } }",
        "  - { service: pay, when: early, to: { version: \"2.0\" } }",
    ];
    let both = [&explicit[..], &["  - { when: all, lane: gray }"]].concat();
    let w = World::with(&three(EARLY, &routes(&both)));
    assert_eq!(chain(&w, "198.18.1.3"), ["198.18.2.2 lane", "198.18.2.5 lane", "198.18.2.7 explicit"]);
    let w = World::with(&three(EARLY, &routes(&explicit)));
    assert_eq!(chain(&w, "198.18.1.3")[0], "198.18.2.1 explicit");
}

#[test]
fn c7_between_lanes_the_first_route_in_the_document_decides() {
    let with = |a: &str, b: &str| {
        let routes =
            format!("{LANES}\nroutes:\n  - {{ when: all, lane: {a} }}\n  - {{ when: early, lane: {b} }}");
        chain(&World::with(&three(EARLY, &routes)), "198.18.1.3")
    };
    assert_eq!(with("old", "gray"), ["198.18.2.1 lane", "198.18.2.5 lane", "198.18.2.6 default"]);
    assert_eq!(with("gray", "old"), ["198.18.2.2 lane", "198.18.2.5 lane", "198.18.2.6 default"]);
}

/// What three services answer a caller in a lane, by the lane's name.
fn chain_in(w: &World, lane: &str, source: &str) -> [String; 3] {
    let (number, epoch) = (w.compiled.assigned.lanes.get(lane).unwrap(), w.path.tables.control.epoch);
    [1, 2, 3].map(|vip| show(w.ask_in(number, epoch, source, &format!("198.18.100.{vip}:80"), 1)))
}

#[test]
fn e1_a_connection_in_a_lane_stays_in_it_and_other_services_decide_as_for_everybody() {
    let routes = format!("{LANES}\nroutes:\n  - {{ service: pay, when: early, to: {{ version: \"2.0\" }} }}");
    let w = World::with(&three(EARLY, &routes));
    assert_eq!(
        chain_in(&w, "gray", "198.18.1.4"),
        ["198.18.2.2 lane", "198.18.2.5 lane", "198.18.2.6 default"]
    );
    assert_eq!(
        chain_in(&w, "gray", "198.18.1.3"),
        ["198.18.2.2 lane", "198.18.2.5 lane", "198.18.2.7 explicit"]
    );
    assert_eq!(
        chain_in(&w, "old", "198.18.1.4"),
        ["198.18.2.1 lane", "198.18.2.4 default", "198.18.2.6 default"]
    );
}

/// The connection's own lane goes before a route for everybody into another one, also at services that its own does not name.
#[test]
fn c7_the_lane_that_a_connection_is_in_before_a_route_into_another() {
    let routes =
        format!("{LANES}\nroutes:\n  - {{ lane: gray }}\n  - {{ service: pay, to: {{ version: \"2.0\" }} }}");
    let w = World::with(&three(EARLY, &routes));
    assert_eq!(chain(&w, "198.18.1.3"), ["198.18.2.2 lane", "198.18.2.5 lane", "198.18.2.7 weight"]);
    assert_eq!(
        chain_in(&w, "old", "198.18.1.3"),
        ["198.18.2.1 lane", "198.18.2.4 default", "198.18.2.7 weight"]
    );
}

#[test]
fn c10_a_chain_of_one_version_and_the_rest_from_stable() {
    let by_version = "lanes:\n  v1: { shop: { version: \"1.0\" }, cart: { version: \"1.0\" } }\n  v2: { shop: { version: \"2.0\" }, cart: { version: \"2.0\" } }\n\
                      routes:\n  - { service: shop, to: { version: \"2.0\" } }";
    let w = World::with(&three(EARLY, by_version));
    assert_eq!(
        chain_in(&w, "v2", "198.18.1.3"),
        ["198.18.2.2 lane", "198.18.2.5 lane", "198.18.2.6 default"]
    );
    assert_eq!(
        chain_in(&w, "v1", "198.18.1.3"),
        ["198.18.2.1 lane", "198.18.2.4 lane", "198.18.2.6 default"]
    );
}

/// D1: a lane and its services come and go at one instant, and its number says nothing while the policy does not know it.
#[test]
fn e1_a_lane_turns_with_the_epoch() {
    let with = |more: &str| three(EARLY, more);
    let mut w = World::with(&with(LANES));
    let number = w.compiled.assigned.lanes.get("gray").unwrap();
    let ask = |w: &World, epoch| show(w.ask_in(number, epoch, "198.18.1.3", "198.18.100.1:80", 1));
    w.apply(&with("")).unwrap();
    assert_eq!((ask(&w, 1).as_str(), ask(&w, 2).as_str()), ("198.18.2.2 lane", "198.18.2.1 default"));
    assert_eq!(w.path.tables.view_at(1).lane(number), lane_check("gray"));
    w.tidy();
    assert!(w.path.tables.lanes.is_empty() && w.have.lanes.is_empty());
    assert_eq!(have_of(&w.path.tables).lanes, w.have.lanes);
    w.apply(&with(LANES)).unwrap();
    assert_eq!(ask(&w, 3), "198.18.2.2 lane");
    assert_eq!(have_of(&w.path.tables).lanes, w.have.lanes);
}

#[test]
fn a_service_has_room_for_so_many_rules_of_lanes() {
    let lanes = |n: usize| {
        let one = |i: usize| format!("  lane-{i:02}: {{ shop: {{ version: \"2.0\" }} }}\n");
        three(
            EARLY,
            &format!(
                "lanes:\n{}routes:\n  - {{ when: early, lane: lane-00 }}",
                (0..n).map(one).collect::<String>()
            ),
        )
    };
    // A fact for each, one that there is any, and the list.
    let w = World::with(&lanes(62));
    assert_eq!(chain_in(&w, "lane-61", "198.18.1.9")[0], "198.18.2.2 lane");
    let p = policy(&lanes(63));
    let e = compile(&p, &Assigned::default(), &Circumstances::default()).unwrap_err();
    assert!(e.to_string().contains("more than 64 different cohorts and lanes"), "{e}");
}

#[test]
fn c6_a_lane_whose_instances_are_drained_serves_from_stable() {
    let p = policy(&three(EARLY, &format!("{LANES}\nroutes:\n  - {{ when: early, lane: gray }}")));
    let drained = BTreeSet::from(["cart/198.18.2.5:80".into()]);
    let c =
        compile(&p, &Assigned::default(), &Circumstances { drained, ..Circumstances::default() }).unwrap();
    let mut w = World::default();
    let lists = lists_of(&p, &c);
    for s in plan(&mut w.have, &Want::all(1, KEY, &c, &lists)).unwrap() {
        w.path.write(&s).unwrap();
    }
    assert_eq!(chain(&w, "198.18.1.3"), ["198.18.2.2 lane", "198.18.2.4 failover", "198.18.2.6 default"]);
}

#[test]
fn e1_a_lane_that_comes_back_has_its_old_number() {
    let number = |w: &World, name: &str| w.compiled.assigned.lanes.get(name);
    let lanes = |names: &[&str]| {
        let one = |n: &&str| format!("  {n}: {{ shop: {{ version: \"2.0\" }} }}\n");
        three(EARLY, &format!("lanes:\n{}", names.iter().map(one).collect::<String>()))
    };
    let mut w = World::with(&lanes(&["blue"]));
    assert_eq!(number(&w, "blue"), Some(1));
    for _ in 0..3 {
        w.apply(&lanes(&["green"])).unwrap();
    }
    assert_eq!(number(&w, "green"), Some(2));
    w.apply(&lanes(&["blue", "azure"])).unwrap();
    assert_eq!((number(&w, "blue"), number(&w, "azure")), (Some(1), Some(3)));
}

#[test]
fn c7_a_rule_for_one_service_goes_before_one_for_all() {
    let cohorts = "cohorts:\n  early: { sources: [\"198.18.1.3\"] }";
    let routes = "routes:\n  - { when: early, to: { version: \"2.0\" } }\n  - { service: shop, when: early, to: { version: \"3.0\" } }";
    assert_eq!(World::with(&document(cohorts, routes)).answer("198.18.1.3"), "198.18.2.3 explicit");
}

#[test]
fn b6_all_any_and_not_combine() {
    let cohorts = "cohorts:\n  a: { sources: [\"198.18.1.1\", \"198.18.1.2\"] }\n  b: { sources: [\"198.18.1.2\", \"198.18.1.3\"] }";
    let to = |when: &str| {
        World::with(&document(
            cohorts,
            &format!("routes:\n  - {{ service: shop, when: {when}, to: {{ version: \"2.0\" }} }}"),
        ))
    };
    for (when, gray) in [
        ("{ all: [a, b] }", &[2][..]),
        ("{ any: [a, b] }", &[1, 2, 3]),
        ("{ all: [a, { not: b }] }", &[1]),
        ("{ not: { any: [a, b] } }", &[4]),
        ("{ not: { all: [a, b] } }", &[1, 3, 4]),
        ("{ any: [{ all: [a, { not: b }] }, { all: [b, { not: a }] }] }", &[1, 3]),
    ] {
        let w = to(when);
        for i in 1..=4 {
            let is_gray = w.answer(&format!("198.18.1.{i}")).starts_with("198.18.2.2");
            assert_eq!(is_gray, gray.contains(&i), "{when} for .{i}");
        }
    }
}

/// B4: a condition is a list of its own, as are its like, and goes when its route goes.
#[test]
fn b4_conditions_are_lists_of_their_own() {
    let to = |when: &str| {
        document(
            "cohorts:\n  early: { sources: [\"198.18.1.1\"] }",
            &format!("routes:\n  - {{ service: shop, when: {when}, to: {{ version: \"2.0\" }} }}"),
        )
    };
    let mut w = World::default();
    for (when, gray, how) in [
        ("{ source: \"198.18.1.1\" }", &[1][..], "condition"),
        ("{ source: [\"198.18.1.2\", \"198.18.1.4/31\"] }", &[2, 4], "condition"),
        ("{ all: [early, { source: [\"198.18.1.0/24\"] }] }", &[1], "condition"),
        ("{ any: [early, { source: [\"198.18.1.3\"] }] }", &[1, 3], "condition"),
        ("{ not: { source: [\"198.18.1.0/30\"] } }", &[4], "condition"),
        ("early", &[1], "explicit"),
    ] {
        w.apply(&to(when)).unwrap();
        for i in 1..=4 {
            let want =
                if gray.contains(&i) { format!("198.18.2.2 {how}") } else { "198.18.2.1 default".into() };
            assert_eq!(w.answer(&format!("198.18.1.{i}")), want, "{when}");
        }
    }
    assert_eq!(w.compiled.assigned.lists.iter().count(), 1, "nothing is left of the others");
}

#[test]
fn a_drained_instance_gets_nothing_new() {
    let p = policy(&early("\"198.18.1.3\""));
    let around =
        Circumstances { drained: BTreeSet::from(["shop/198.18.2.2:80".into()]), ..Circumstances::default() };
    let c = compile(&p, &Assigned::default(), &around).unwrap();
    let mut w = World::default();
    let lists = lists_of(&p, &c);
    let want = Want::all(1, KEY, &c, &lists);
    for s in plan(&mut w.have, &want).unwrap() {
        w.path.write(&s).unwrap();
    }
    assert_eq!(w.answer("198.18.1.3"), "198.18.2.1 failover");
}

#[test]
fn d1_the_flip_is_the_last_step_and_the_only_one_that_changes_an_answer() {
    let mut w = World::with(&early("\"198.18.1.3\""));
    let p = policy(&early("\"198.18.1.4\""));
    let c = compile(&p, &w.compiled.assigned, &Circumstances::default()).unwrap();
    let lists = lists_of(&p, &c);
    let want = Want::all(2, KEY, &c, &lists);
    let steps = plan(&mut w.have, &want).unwrap();
    assert!(matches!(steps.last(), Some(Write::Flip { epoch: 2 })));
    let both = |w: &World| (w.answer("198.18.1.3"), w.answer("198.18.1.4"));
    let old = both(&w);
    for s in &steps[..steps.len() - 1] {
        w.path.write(s).unwrap();
        assert_eq!(both(&w), old, "after {s}");
    }
    w.path.write(&steps[steps.len() - 1]).unwrap();
    assert_eq!(both(&w), (old.1, old.0.clone()));
    // A run that began before the flip still sees the old policy, whole.
    assert_eq!(show(w.ask_at(1, "198.18.1.3", "198.18.100.1:80", 1)), old.0);
}

#[test]
fn the_kth_write_failing_leaves_the_old_policy_for_every_k() {
    let old = early("\"198.18.1.3\", \"198.18.7.0/24\"");
    let new = document(
        "cohorts:\n  late: { sources: [\"198.18.1.4\", \"198.18.0.0/16\"] }\n  half: { percent: 50 }",
        "routes:\n  - { service: shop, when: late, to: { version: \"3.0\" } }\n  - { service: shop, when: half, to: [ { version: \"2.0\", weight: 50 }, { version: \"3.0\", weight: 50 } ] }",
    );
    let sources: Vec<String> = (0..40).map(|i| format!("198.18.{}.{}", i % 9, i)).collect();
    let mut k = 0;
    loop {
        let mut w = World::with(&old);
        let before: Vec<String> = sources.iter().map(|s| w.answer(s)).collect();
        w.path.fail_at = Some(w.path.steps() + k);
        let failed = w.apply(&new);
        if failed.is_ok() {
            assert!(k > 8, "only {k} steps");
            break;
        }
        assert!(failed.unwrap_err().contains("cannot write"));
        assert_eq!(sources.iter().map(|s| w.answer(s)).collect::<Vec<_>>(), before, "step {k} failed");
        // The next attempt goes through, and equals one that never failed.
        w.apply(&new).unwrap();
        let mut fresh = World::with(&old);
        fresh.apply(&new).unwrap();
        for s in &sources {
            assert_eq!(w.answer(s), fresh.answer(s), "after step {k} failed");
        }
        k += 1;
    }
}

#[test]
fn what_is_gone_is_forgotten_and_nothing_else() {
    let mut w = World::with(&early("\"198.18.1.3\", \"198.18.1.4\", \"198.18.7.0/24\""));
    w.apply(&early("\"198.18.1.4\"")).unwrap();
    assert_eq!(w.path.tables.identities.len(), 2);
    w.tidy();
    assert_eq!((w.path.tables.identities.len(), w.path.tables.prefixes.len()), (1, 0));
    assert_eq!(w.answer("198.18.1.4"), "198.18.2.2 explicit");
}

#[test]
fn nothing_to_change_writes_only_the_bank_and_the_flip() {
    let text = early("\"198.18.1.3\"");
    let mut w = World::with(&text);
    w.apply(&text).unwrap();
    let p = policy(&text);
    let c = compile(&p, &w.compiled.assigned, &Circumstances::default()).unwrap();
    let lists = lists_of(&p, &c);
    let want = Want::all(9, KEY, &c, &lists);
    for s in plan(&mut w.have, &want).unwrap() {
        assert!(
            matches!(
                s,
                Write::Services { .. }
                    | Write::Readings { .. }
                    | Write::Further { .. }
                    | Write::Facts { .. }
                    | Write::Rules { .. }
                    | Write::Subsets { .. }
                    | Write::Control { .. }
                    | Write::Flip { .. }
            ),
            "{s}"
        );
    }
}

#[test]
fn what_was_written_is_what_is_read_back() {
    let mut w = World::with(&early("\"198.18.1.3\", \"198.18.7.0/24\""));
    w.apply(&early("\"198.18.1.4\", \"198.18.6.0/24\"")).unwrap();
    let read = have_of(&w.path.tables);
    assert_eq!((read.epoch, read.revision, read.key), (w.have.epoch, w.have.revision, w.have.key));
    let sorted_pairs = |h: &Have| h.identities.iter().collect::<BTreeSet<_>>();
    assert_eq!(sorted_pairs(&read), sorted_pairs(&w.have));
    assert_eq!(read.identities.clone().forget(), w.have.identities.clone().forget());
    assert_eq!(read.prefixes, w.have.prefixes);
    assert_eq!((read.listeners, read.instances), (w.have.listeners, w.have.instances));
    let sorted = |t: Vec<(u32, Slots)>| t.into_iter().collect::<BTreeMap<_, _>>();
    assert_eq!(sorted(read.tables), sorted(w.have.tables));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// B2: the share of a percentage cohort is what its threshold says, and growth moves nobody out, through the whole
    /// compiler.
    #[test]
    fn b2_growth_moves_nobody_out(steps in prop::collection::vec(0u32..=10_000, 2..5)) {
        let mut steps = steps;
        steps.sort_unstable();
        let text = |bp: u32| document(
            &format!("cohorts:\n  ramp: {{ percent: {}.{:02}, salt: s }}", bp / 100, bp % 100),
            "routes:\n  - { service: shop, when: ramp, to: { version: \"2.0\" } }",
        );
        let mut w = World::default();
        let mut gray: BTreeSet<u32> = BTreeSet::new();
        for bp in steps {
            w.apply(&text(bp)).unwrap();
            let now: BTreeSet<u32> =
                (0..256u32).filter(|i| w.answer(&format!("198.18.9.{i}")).starts_with("198.18.2.2")).collect();
            prop_assert!(now.is_superset(&gray), "somebody left at {bp}");
            gray = now;
        }
    }

    /// Any sequence of lists ends where a fresh start with the last one would.
    #[test]
    fn any_path_leads_to_the_same_answers(paths in prop::collection::vec(prop::collection::btree_set(0u8..12, 0..6), 1..6)) {
        let text = |ids: &BTreeSet<u8>| {
            let ids: Vec<String> = ids.iter().map(|i| match i % 3 {
                0 => format!("\"198.18.1.{i}\""),
                1 => format!("\"198.18.{i}.0/24\""),
                _ => format!("\"198.18.{i}.7\""),
            }).collect();
            early(&ids.join(", "))
        };
        let mut w = World::default();
        for (n, p) in paths.iter().enumerate() {
            w.apply(&text(p)).unwrap();
            if n % 2 == 0 {
                w.tidy();
            }
        }
        let fresh = World::with(&text(&paths[paths.len() - 1]));
        for a in 0..13 {
            for b in [0u8, 3, 6, 7, 9] {
                let source = format!("198.18.{a}.{b}");
                prop_assert_eq!(w.answer(&source), fresh.answer(&source), "{}", source);
            }
        }
    }
}
