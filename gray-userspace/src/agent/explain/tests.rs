//! Explain over tables that are fetched entry by entry from a compiled policy, against `decide` over all of them (C15).

use std::{convert::Infallible, net::IpAddr};

use gray_common::{
    decide::{Request, Verdict, decide, mem::MemTables},
    hash::HashKey,
    limits, nets,
    wire::{Addr, PrefixKey, Reading, Trip, Versioned},
};
use proptest::prelude::*;

use super::{Asked, Tables, answer};
use crate::{
    agent::{names::Names, testing},
    api::{
        error::ErrorKind,
        types::{ArmName, ExplainReply, ExplainRequest, TrailStep},
    },
    compile::{
        Compiled,
        have::Have,
        lists::of_policy,
        plan::{Want, plan},
    },
    datapath::{Datapath as _, Fake},
    kernel::Miss,
    model::{ClaimKind, Policy, Proto},
    paging,
};

const KEY: HashKey = HashKey { k0: 3, k1: 9 };

const DOCUMENT: &str = "services:
  shop:
    listen: ['198.18.1.100:80', '198.18.1.100:80/udp', '[fd00:18::100]:80']
    identify: [workload, source]
    instances:
      - { address: '198.18.2.2:8080', id: one-a, version: '1.0' }
      - { address: '198.18.2.4:8080', id: one-b, version: '1.0' }
      - { address: '198.18.2.3:8080', id: two, version: '2.0' }
      - { address: '[fd00:18::2]:8080', id: one-v6, version: '1.0' }
    stable: { version: '1.0' }
  own:
    listen: ['198.18.2.9:53/udp']
    instances:
      - { address: '198.18.2.9:53', id: mine, version: '1.0' }
      - { address: '198.18.2.8:53', id: other, version: '2.0' }
    stable: { version: '1.0' }
  site:
    listen: ['198.18.1.101:80']
    identify: [user, app, source]
    claims:
      app: { header: X-App-Id }
      user: { cookie: uid }
      tenant: { header: X-Tenant }
      platform: { header: X-Platform }
      channel: { query: ch }
    instances:
      - { address: '198.18.3.2:8080', id: site-one, version: '1.0' }
      - { address: '198.18.3.3:8080', id: site-two, version: '2.0' }
    stable: { version: '1.0' }
cohorts:
  apps: { apps: [app7, 'beta-*'] }
  tenants: { tenants: [t1, t2] }
  beta: { channels: [beta] }
  sevens: { tail: { of: user, digits: ['7', '42'] } }
  half-of-apps: { percent: 50, of: app }
  early: { sources: ['198.18.1.3', '198.18.7.0/24', 'fd00:18::7'] }
  jobs: { workloads: [nightly] }
  tenth: { percent: 10 }
routes:
  - { name: by-app, service: site, when: apps, to: { version: '2.0' } }
  - { name: by-tenant, service: site, when: tenants, to: { version: '2.0' } }
  - { name: by-channel, service: site, when: beta, to: { version: '2.0' } }
  - { name: by-platform, service: site, when: { all: [{ platform: [android, ios] }, { not: { user: u5 } }] }, to: { version: '2.0' } }
  - { name: by-tail, service: site, when: sevens, to: { version: '2.0' } }
  - { name: by-share, service: site, when: half-of-apps, to: { version: '2.0' } }
  - { name: listed, service: shop, when: early, to: { version: '2.0' } }
  - { name: few, service: shop, when: { all: [tenth, { not: jobs }] }, to: { version: '2.0' } }
  - name: share
    service: shop
    to: [{ version: '1.0', weight: 70 }, { version: '2.0', weight: 30 }]
";

struct World {
    policy: Policy,
    compiled: Compiled,
    tables: MemTables,
    names: Names,
}

/// The policy in force at epoch 1, as the agent would bring it there.
fn world() -> World {
    world_of(DOCUMENT)
}

fn world_of(document: &str) -> World {
    world_in(document, None)
}

/// ... by an agent of this zone.
fn world_in(document: &str, zone: Option<&str>) -> World {
    let (policy, compiled) = testing::compiled_in(zone, document);
    let lists = of_policy(&policy, &compiled.assigned.lists, KEY);
    let mut fake = Fake::default();
    let want = Want::all(1, KEY, &compiled, &lists);
    for step in plan(&mut Have::default(), &want).unwrap() {
        fake.write(&step).unwrap();
    }
    let names = Names::new(&policy, &compiled.assigned);
    World { policy, compiled, tables: fake.tables, names }
}

/// What `Live::fetch` does, from tables in memory.
fn fetch(all: &MemTables, t: &mut MemTables, miss: Miss) -> Result<(), Infallible> {
    fn copy<V: Clone>(
        from: &std::collections::BTreeMap<u32, V>,
        to: &mut std::collections::BTreeMap<u32, V>,
        i: u32,
    ) {
        if let Some(v) = from.get(&i) {
            let _ = to.insert(i, v.clone());
        }
    }
    use gray_common::decide::Tables as _;
    match miss {
        Miss::Listener(k) => {
            let _ = t.listeners.insert(k, all.listeners.get(&k).copied().unwrap_or_default());
        }
        Miss::Service(i) => copy(&all.services, &mut t.services, i),
        Miss::Reading(i) => copy(&all.readings, &mut t.readings, i),
        Miss::Further(i) => copy(&all.further, &mut t.further, i),
        Miss::Metadata(i) => copy(&all.metadata, &mut t.metadata, i),
        // An array of the kernel has every element.
        Miss::Trip(i) => drop(t.trips.insert(i, all.trips.get(&i).copied().unwrap_or_default())),
        Miss::Rule(i) => copy(&all.rules, &mut t.rules, i),
        Miss::Fact(i) => copy(&all.facts, &mut t.facts, i),
        Miss::Weighted(i) => copy(&all.weighted, &mut t.weighted, i),
        Miss::Subset(i) => copy(&all.subsets, &mut t.subsets, i),
        Miss::Arena(i) => copy(&all.arena, &mut t.arena, i),
        Miss::Instance(i) => copy(&all.instances, &mut t.instances, i),
        Miss::Class(i) => copy(&all.classes, &mut t.classes, i),
        Miss::Identity(h) => {
            let _ = t.identities.insert(h, all.identities.get(&h).copied().unwrap_or_default());
        }
        Miss::Prefix(addr) => {
            let class = all.view().prefix(&addr).unwrap_or_default();
            if addr.is_v4() {
                let bank = (t.control.epoch & 1) as u32;
                let net = bank * limits::NETS + (u32::from_be(addr.as_v4()) >> 16);
                let _ = t.nets.insert(net, nets::whole(class));
            } else {
                let found = Versioned { new: class, ..Versioned::default() };
                let _ = t.prefixes.insert(PrefixKey { bits: 128, addr }, found);
            }
        }
    }
    Ok(())
}

impl World {
    fn asked(&self, request: &ExplainRequest) -> Asked {
        self.labelled(request, None)
    }

    /// By a workload whose label on this node says a lane.
    fn labelled(&self, request: &ExplainRequest, lane: Option<&str>) -> Asked {
        let asked = Asked::read(&self.policy, request, false).unwrap();
        asked.in_lane_of(lane, &self.policy, &self.compiled.assigned.lanes)
    }

    fn explain(&self, request: &ExplainRequest) -> ExplainReply {
        self.answer(&self.asked(request))
    }

    fn answer(&self, asked: &Asked) -> ExplainReply {
        self.answer_held(asked, None)
    }

    fn answer_held(&self, asked: &Asked, held: Option<Option<&str>>) -> ExplainReply {
        let (control, now) = (self.tables.control, self.tables.now);
        let on = Tables { control, now, policy: &self.policy, compiled: &self.compiled };
        let Ok(reply) = answer(&on, (asked, held), &self.names, |t, miss| fetch(&self.tables, t, miss));
        reply
    }

    /// `decide` over the whole tables, and over tables that begin empty.
    fn both(&self, request: &ExplainRequest) -> (Verdict, Verdict) {
        let asked = self.asked(request);
        let reading = whole_reading(self, &asked);
        let claims = asked.known(KEY, reading.as_ref()).claims;
        let source = asked.source_addr();
        let listener = self.tables.view().listener(&asked.key());
        let seed = asked.seed(KEY);
        let r = Request {
            listener,
            claims: &claims,
            source: source.as_ref(),
            is_v4: asked.is_v4(),
            seed,
            spares: 0,
        };
        let mut t = MemTables { control: self.tables.control, now: self.tables.now, ..MemTables::default() };
        let Ok(paged) = paging::ask(&mut t, &r, |t, miss| fetch(&self.tables, t, miss));
        (decide(&self.tables.view(), &r), paged.verdict)
    }
}

/// Of the service that a question is about.
fn whole_reading(w: &World, asked: &Asked) -> Option<Reading> {
    let view = w.tables.view();
    view.reading(view.listener(&asked.key()).service()?).copied()
}

fn from(src: &str) -> ExplainRequest {
    let src: IpAddr = src.parse().unwrap();
    ExplainRequest { service: Some("shop".into()), src: Some(src), ..ExplainRequest::default() }
}

/// The first source whose trail passes `wanted`.
fn some_source(w: &World, wanted: impl Fn(&ExplainReply) -> bool) -> ExplainReply {
    (0..2000u32).map(|i| w.explain(&from(&format!("198.19.{}.{}", i / 250, i % 250)))).find(wanted).unwrap()
}

#[test]
fn c15_a_listed_client_is_told_its_list() {
    let w = world();
    for src in ["198.18.1.3", "198.18.7.99"] {
        let r = w.explain(&from(src));
        assert_eq!(
            (r.arm, r.route.as_deref(), r.reason.as_str()),
            (ArmName::Gray, Some("listed"), "explicit")
        );
        assert_eq!(r.identity, Some(format!("source {src}")));
        assert_eq!(
            (r.subset.as_str(), r.instance.as_deref()),
            ("version=2.0", Some("two (198.18.2.3:8080)"))
        );
        assert_eq!(r.trail.len(), 1);
        assert_eq!((r.trail[0].matched, r.trail[0].why.as_str()), (true, "on list early"));
        assert_eq!(r.text, "gray: route listed sends it to two (198.18.2.3:8080)");
        assert_eq!((r.epoch, r.bucket, r.listener.as_str()), (1, None, "198.18.1.100:80"));
        assert_eq!((r.claims.len(), r.claims[0].hash.len()), (1, 16));
    }
}

#[test]
fn c15_the_trail_names_buckets_and_thresholds() {
    let w = world();
    let below = some_source(&w, |r| r.route.as_deref() == Some("few"));
    let b = below.bucket.unwrap();
    assert!(b < 1000 && below.threshold == Some(1000));
    assert_eq!(below.trail[0].why, "not on list early");
    assert_eq!(below.trail[1].why, format!("bucket {b} of tenth is below 1000; not on list jobs"));
    let above = some_source(&w, |r| r.route.as_deref() == Some("share") && r.arm == ArmName::Stable);
    assert!(
        above.trail[1].why.starts_with("bucket ")
            && above.trail[1].why.ends_with(" of tenth is not below 1000")
    );
    assert_eq!(
        above.trail.iter().map(|s| (s.rule.as_str(), s.matched)).collect::<Vec<_>>(),
        [("listed", false), ("few", false), ("share", true)]
    );
    assert!(above.bucket.is_some() && above.threshold.is_none());
    assert!(
        above.text.ends_with("another connection may get another instance of the same subset"),
        "{}",
        above.text
    );
}

/// A workload is the identity before the source, and the list that excludes it is named.
#[test]
fn c15_an_excluding_list_is_named() {
    let w = world();
    let named = |src: &str| ExplainRequest { workload: Some("nightly".into()), ..from(src) };
    let r = w.explain(&named("198.19.0.1"));
    assert_eq!(r.identity.as_deref(), Some("workload nightly"));
    assert_eq!(r.claims.iter().map(|c| c.kind.as_str()).collect::<Vec<_>>(), ["source", "workload"]);
    assert!(r.trail[1].why.contains("on list jobs, which it excludes"), "{}", r.trail[1].why);
}

#[test]
fn c15_without_any_claim_a_weight_goes_by_connection() {
    let w = world();
    let r = w.explain(&ExplainRequest { service: Some("shop".into()), ..ExplainRequest::default() });
    assert_eq!((r.identity, r.route.as_deref()), (None, Some("share")));
    assert!(r.trail[1].why.starts_with("nothing known about this client"), "{}", r.trail[1].why);
    assert!(r.text.ends_with("without an identity each connection is weighed anew"), "{}", r.text);
}

/// The same services in lanes.
fn lanes() -> World {
    let routes = "lanes:
  blue: { shop: { version: '2.0' } }
  green: { own: { version: '2.0' } }
routes:
  - { name: office, when: early, lane: blue }
  - { name: listed, service: shop, when: early, to: { version: '1.0' } }
";
    world_of(&format!("{}{routes}", DOCUMENT.split_once("routes:").unwrap().0))
}

#[test]
fn e1_c15_a_lane_is_told_whoever_brought_the_connection_into_it() {
    let w = lanes();
    let led = w.explain(&from("198.18.1.3"));
    assert_eq!((led.route.as_deref(), led.reason.as_str(), led.arm), (Some("office"), "lane", ArmName::Gray));
    assert_eq!(
        led.trail
            .iter()
            .map(|s| (s.rule.as_str(), s.precedence.as_str(), s.why.as_str()))
            .collect::<Vec<_>>(),
        [("lane/blue", "lane", "not in lane blue"), ("office", "lane", "in no lane; on list early")]
    );
    let asks = |lane: &str| ExplainRequest { lane: Some(lane.into()), ..from("198.19.0.1") };
    let r = w.explain(&asks("blue"));
    assert_eq!((r.route.as_deref(), r.trail[0].why.as_str()), (Some("lane/blue"), "in lane blue"));
    assert_eq!(r.claims.last().map(|c| (c.kind.as_str(), c.value.as_str())), Some(("lane", "blue")));
    assert_eq!(r.text, "gray: route lane/blue sends it to two (198.18.2.3:8080)");
    // In another lane, which says nothing of this service, on a list for a route into blue.
    let r = w.explain(&ExplainRequest { lane: Some("green".into()), ..from("198.18.1.3") });
    assert_eq!(r.trail[1].why, "in a lane, which it excludes");
    assert_eq!((r.route.as_deref(), r.arm), (Some("listed"), ArmName::Stable));
    let e = Asked::read(&w.policy, &asks("blu"), false).unwrap_err();
    assert_eq!((e.kind, e.error.as_str()), (ErrorKind::NotFound, "there is no lane `blu`"));
}

#[test]
fn e2_c15_a_workload_has_the_lane_of_its_label() {
    let w = lanes();
    let by = |lane: Option<&str>, label: &str| {
        let r = ExplainRequest {
            workload: Some("cart-2".into()),
            lane: lane.map(str::to_owned),
            ..from("198.19.0.1")
        };
        w.answer(&w.labelled(&r, Some(label)))
    };
    assert_eq!(by(None, "blue").route.as_deref(), Some("lane/blue"));
    assert_eq!(by(Some("green"), "blue").route, None, "what is asked for goes before the label");
    let r = by(None, "red");
    assert_eq!((r.route, r.claims.len()), (None, 2));
    assert!(r.text.ends_with("; its workload's lane red is none of the policy's"), "{}", r.text);
}

/// fd00:18::7 is listed, but 2.0 has no IPv6 instance.
#[test]
fn c15_a_failover_says_so() {
    let r = world().explain(&from("fd00:18::7"));
    assert_eq!((r.arm, r.reason.as_str(), r.subset.as_str()), (ArmName::Stable, "failover", "version=1.0"));
    assert_eq!(
        r.text,
        "stable: route listed wants version=2.0, of which no instance serves, so it goes to one-v6 ([fd00:18::2]:8080)"
    );
}

#[test]
fn c15_stable_on_its_own_address_stays_there() {
    let w = world();
    let r = w.explain(&ExplainRequest { service: Some("own".into()), ..from("198.18.1.3") });
    assert_eq!((r.reason.as_str(), r.instance.as_deref()), ("default", Some("mine (198.18.2.9:53)")));
    assert_eq!(r.trail[0].rule, "default");
    assert_eq!(
        r.text,
        "stable: no route applies, so it goes to mine (198.18.2.9:53), the address that it dials"
    );
}

#[test]
fn c15_a_hole_in_the_tables_ends_the_asking() {
    let mut w = world();
    w.tables.instances.clear();
    let r = w.explain(&from("198.18.1.3"));
    assert_eq!((r.reason.as_str(), r.instance), ("table_hole", None));
    assert!(r.text.starts_with("left alone: "));
}

fn site() -> ExplainRequest {
    ExplainRequest { service: Some("site".into()), ..from("198.18.1.3") }
}

fn says(headers: &[&str], path: Option<&str>) -> ExplainRequest {
    let headers = headers.iter().map(|h| (*h).to_owned()).collect();
    ExplainRequest { headers, path: path.map(str::to_owned), ..site() }
}

fn named(claims: &[(ClaimKind, &str)]) -> ExplainRequest {
    ExplainRequest { claims: claims.iter().map(|(k, v)| (*k, (*v).to_owned())).collect(), ..site() }
}

/// A8: in a header, a cookie, the query, and by name.
#[test]
fn c15_a_request_is_read_as_the_kernel_reads_it() {
    let w = world();
    for (request, route, identity) in [
        (site(), None, "source 198.18.1.3"),
        (says(&["x-app-id:app7"], None), Some("by-app"), "app app7"),
        (says(&["X-App-Id: app7", "Cookie: a=b; uid=u9"], None), Some("by-app"), "user u9"),
        (says(&["X-App-Id: beta-9"], None), Some("by-app"), "app beta-9"),
        (says(&["X-App-Id: beta-"], None), Some("by-app"), "app beta-"),
        (says(&["X-Tenant: t2"], None), Some("by-tenant"), "source 198.18.1.3"),
        (says(&["X-Tenant: t3"], Some("/buy?x=1&ch=beta#y")), Some("by-channel"), "source 198.18.1.3"),
        (named(&[(ClaimKind::App, "app7")]), Some("by-app"), "app app7"),
        (named(&[(ClaimKind::User, "u1"), (ClaimKind::Channel, "beta")]), Some("by-channel"), "user u1"),
        (
            ExplainRequest { path: Some("/a?b#ch=no".into()), ..named(&[(ClaimKind::Channel, "beta")]) },
            Some("by-channel"),
            "source 198.18.1.3",
        ),
    ] {
        let r = w.explain(&request);
        assert_eq!(
            (r.route.as_deref(), r.identity.as_deref()),
            (route, Some(identity)),
            "{request:?}: {r:?}"
        );
        assert!(!r.text.contains("read"), "{}", r.text);
    }
    let r = w.explain(&named(&[(ClaimKind::Tenant, "t1")]));
    let shown: Vec<_> = r.claims.iter().map(|c| (c.kind.as_str(), c.value.as_str())).collect();
    assert_eq!(shown, [("source", "198.18.1.3"), ("tenant", "t1")]);
    assert_eq!(r.trail.last().unwrap().why, "on list tenants");
}

/// B4: a condition on a claim, with its values.
#[test]
fn c15_a_condition_is_told_by_its_values() {
    let w = world();
    let r = w.explain(&named(&[(ClaimKind::Platform, "ios"), (ClaimKind::User, "u4")]));
    assert_eq!((r.route.as_deref(), r.reason.as_str()), (Some("by-platform"), "condition"));
    assert_eq!(r.trail.last().unwrap().why, "platform=android|ios; not user=u5");
    let r = w.explain(&named(&[(ClaimKind::Platform, "ios"), (ClaimKind::User, "u5")]));
    let step = r.trail.iter().find(|s| s.rule == "by-platform").unwrap();
    assert_eq!((step.matched, step.why.as_str()), (false, "user=u5, which it excludes"));
    let r = w.explain(&named(&[(ClaimKind::Platform, "web")]));
    let step = r.trail.iter().find(|s| s.rule == "by-platform").unwrap();
    assert_eq!((step.matched, step.why.as_str()), (false, "not platform=android|ios"));
}

/// B3.
#[test]
fn c15_a_tail_is_told_by_its_digits() {
    let w = world();
    for (user, gray, why) in [
        ("u7", true, "user ends with 7, in sevens"),
        ("u07", true, "user ends with 07, in sevens"),
        ("u42", true, "user ends with 42, in sevens"),
        ("u43", false, "user ends with 43, not in sevens"),
        ("u42x", false, "user ends with no digit, not in sevens"),
    ] {
        let r = w.explain(&named(&[(ClaimKind::User, user)]));
        let step = r.trail.iter().find(|s| s.rule == "by-tail").unwrap();
        assert_eq!(
            (step.matched, step.why.as_str(), step.precedence.as_str()),
            (gray, why, "condition"),
            "{user}"
        );
        assert_eq!((r.route.as_deref() == Some("by-tail"), r.threshold), (gray, None), "{user}");
    }
    let step = w.explain(&site()).trail.into_iter().find(|s| s.rule == "by-tail").unwrap();
    assert_eq!(step.why, "no user is known, not in sevens");
}

#[test]
fn c15_what_is_not_read_is_said() {
    let w = world();
    let long = format!("X-Pad: {}", "p".repeat(4400));
    let r = w.explain(&says(&["X-App-Id: app7", &long, "X-Tenant: t1"], None));
    assert_eq!(r.route.as_deref(), Some("by-app"));
    assert!(
        r.text.ends_with("; its request cannot be read to the end, and counts as far as it can"),
        "{}",
        r.text
    );
    let r = w.explain(&ExplainRequest { headers: vec!["X-App-Id: app7".into()], ..from("198.18.1.3") });
    assert!(r.text.ends_with("; requests to this service are not read"), "{}", r.text);
}

#[test]
fn requests_that_nobody_could_send_are_refused() {
    let w = world();
    let shop = from("198.18.1.3");
    let twice = ExplainRequest { headers: vec!["X-App-Id: b".into()], ..named(&[(ClaimKind::App, "a")]) };
    for (request, why) in [
        (named(&[(ClaimKind::Device, "d")]), "service `site` does not read the claim `device`"),
        (named(&[(ClaimKind::Source, "d")]), "service `site` does not read the claim `source`"),
        (
            ExplainRequest { claims: named(&[(ClaimKind::App, "a")]).claims, ..shop.clone() },
            "service `shop` does not read the claim `app`",
        ),
        (twice, "the request names app twice"),
        (named(&[(ClaimKind::User, "a;b")]), "`a;b` cannot stand in the cookie uid"),
        (named(&[(ClaimKind::Channel, "a b")]), "`a b` cannot stand in the query ch"),
        (
            named(&[(ClaimKind::App, "a\r\nX-Tenant: t1")]),
            "`a\\r\\nX-Tenant: t1` cannot stand in the header X-App-Id",
        ),
        (named(&[(ClaimKind::App, "")]), "`` cannot stand in the header X-App-Id"),
        (says(&["X-App-Id"], None), "`X-App-Id` is no header"),
        (says(&["a\r\nb: c"], None), "`a\\r\\nb: c` is no header"),
        (says(&[], Some("/a b")), "`/a b` is no path of a request"),
        (
            ExplainRequest { workload: Some("nightly".into()), ..named(&[(ClaimKind::App, "a")]) },
            "a workload and a request",
        ),
    ] {
        let e = Asked::read(&w.policy, &request, false).unwrap_err();
        assert_eq!((e.kind, e.error.as_str()), (ErrorKind::Invalid, why), "{request:?}");
    }
}

#[test]
fn questions_without_an_answer_are_refused() {
    let w = world();
    let refused = |r: &ExplainRequest| Asked::read(&w.policy, r, false).unwrap_err();
    let live = crate::api::types::FlowTuple {
        proto: Proto::Tcp,
        src: "198.18.1.3:1".parse().unwrap(),
        dst: "198.18.1.100:80".parse().unwrap(),
    };
    let shop = from("198.18.1.3");
    assert_eq!(refused(&ExplainRequest::default()).kind, ErrorKind::Invalid);
    assert_eq!(refused(&ExplainRequest { dscp: Some(64), ..shop.clone() }).kind, ErrorKind::Invalid);
    assert_eq!(refused(&ExplainRequest { port: Some(81), ..shop.clone() }).kind, ErrorKind::Invalid);
    assert_eq!(refused(&ExplainRequest { live: Some(live), ..shop.clone() }).kind, ErrorKind::Invalid);
    assert_eq!(
        refused(&ExplainRequest { service: Some("no".into()), ..shop.clone() }).kind,
        ErrorKind::NotFound
    );
    let udp = Asked::read(&w.policy, &ExplainRequest { proto: Some(Proto::Udp), ..shop }, false).unwrap();
    assert_eq!(udp.listener.to_string(), "198.18.1.100:80/udp");
    assert_eq!(
        refused(&ExplainRequest {
            live: Some(live),
            headers: vec!["a: b".into()],
            ..ExplainRequest::default()
        })
        .kind,
        ErrorKind::Invalid
    );
    let only = ExplainRequest { live: Some(live), ..ExplainRequest::default() };
    assert_eq!(Asked::read(&w.policy, &only, false).unwrap().service, "shop");
}

proptest! {
    /// C15: what explain says is what the data path does, whoever asks.
    #[test]
    fn c15_paged_tables_decide_as_the_whole_ones(
        v6: bool, near in 0u32..2048, sport: u16, mark in 0u32..3, dscp in 0u8..3,
        workload in prop::option::of("nightly|daily"), lane in prop::option::of("blue|green"), site: bool,
        app in prop::option::of("app[6-8]|beta-?[0-9]?"), tenant in prop::option::of("t[1-3]"), user in prop::option::of("u[0-9]"),
        channel in prop::option::of("beta|gamma"),
    ) {
        let w = if lane.is_some() { lanes() } else { world() };
        let src: IpAddr = if v6 {
            Addr::from(IpAddr::from([0xfd00, 0x18, 0, 0, 0, 0, 0, near as u16 & 15])).into()
        } else {
            IpAddr::from([198, 18, (near >> 8) as u8, near as u8])
        };
        let site = site && lane.is_none();
        let mut request = ExplainRequest {
            src: Some(if site && src.is_ipv6() { IpAddr::from([198, 18, 1, 3]) } else { src }),
            sport: Some(sport), mark: Some(mark), dscp: Some(dscp), lane,
            ..from("198.18.1.3")
        };
        if site {
            request.service = Some("site".into());
            request.headers.extend(app.map(|a| format!("X-App-Id: {a}")));
            request.headers.extend(user.map(|u| format!("Cookie: uid={u}")));
            request.claims.extend(tenant.map(|t| (ClaimKind::Tenant, t)));
            request.path = channel.map(|c| format!("/?ch={c}"));
        } else {
            request.workload = workload;
        }
        let (whole, paged) = w.both(&request);
        prop_assert_eq!(whole, paged);
        let said = w.explain(&request);
        if let Verdict::Steer(d) = whole {
            let at = crate::agent::names::socket_addr(d.instance.addr, d.instance.port).to_string();
            prop_assert!(said.instance.unwrap().contains(&at));
            prop_assert_eq!(u8::from(said.arm == ArmName::Gray), d.arm);
        }
    }
}

/// C6, C8, C13, C14: what was wanted, who is refused by what, and every rule that was looked at on the way.
#[test]
fn c15_refusals_shadow_and_headers_are_told() {
    let document = |more: &str| {
        format!(
            "services:
  shop:
    listen: ['198.18.1.100:80']
    identify: [source]
{more}
    instances:
      - {{ address: '198.18.2.2:8080', id: one, version: '1.0' }}
      - {{ address: '198.18.2.3:8080', id: two, version: '2.0' }}
    stable: {{ version: '1.0' }}
routes:
  - {{ name: listed, service: shop, when: {{ source: 198.18.1.0/24 }}, to: {{ version: '2.0' }} }}
"
        )
    };
    let told = |more: &str, ask: &ExplainRequest| {
        let mut w = world_of(&document(more));
        w.tables.now = 1;
        let r = w.explain(ask);
        let whys: Vec<_> = r.trail.iter().map(|s| format!("{} {}: {}", s.rule, s.matched, s.why)).collect();
        (r.reason, r.route.unwrap_or_default(), r.text, whys)
    };
    let asked = from("198.18.1.3");
    let list = "source=198.18.1.0/24";
    let (reason, route, text, whys) = told("    shadow: true", &asked);
    assert_eq!((reason.as_str(), route.as_str()), ("shadow", "listed"));
    assert_eq!(
        text,
        "stable: in shadow; route listed would have sent it to version=2.0, and it goes to one (198.18.2.2:8080)"
    );
    assert_eq!(whys, [format!("listed true: {list}")]);
    // No agent ever renewed a lease here.
    let (reason, route, text, _) = told("    on-agent-lost: stable", &asked);
    assert_eq!((reason.as_str(), route.as_str()), ("agent_lost", "listed"));
    assert_eq!(
        text,
        "stable: no agent has renewed its lease; route listed would have sent it to version=2.0, and it goes to one (198.18.2.2:8080)"
    );
    let (reason, _, text, _) = told("    breaker: { failures: 3 }", &asked);
    assert_eq!(reason, "condition", "{text}");
    let mut w = world_of(&document("    breaker: { failures: 3 }"));
    let shop = w.compiled.assigned.services.get("shop").unwrap();
    let _ = w.tables.trips.insert(shop, Trip { opened: 1, ..Trip::default() });
    w.tables.now = 1;
    let r = w.explain(&asked);
    assert_eq!((r.reason.as_str(), r.route.as_deref()), ("broken", Some("listed")));
    assert_eq!(
        r.text,
        "stable: the breaker is open; route listed would have sent it to version=2.0, and it goes to one (198.18.2.2:8080)"
    );
    w.tables.now = 2;
    let text = w.explain(&asked).text;
    assert!(
        text.starts_with("gray: ") && text.ends_with("this one tries whether gray works again"),
        "{text}"
    );
    let (reason, route, text, _) = told("    failover: deny\n    blacklist: { ids: [two] }", &asked);
    assert_eq!((reason.as_str(), route.as_str()), ("failover_denied", "listed"));
    assert_eq!(
        text,
        "refused: route listed wants version=2.0, of which no instance serves, and the service's `failover` denies that"
    );
    let accept = "    accept: [{ instances: { version: '2.0' }, from: { mark: 7 } }]";
    let (reason, route, text, whys) = told(accept, &asked);
    assert_eq!((reason.as_str(), route.as_str()), ("isolated", "listed"));
    assert_eq!(
        text,
        "refused: route listed leads to version=2.0, and instances of that take connections from others only (`accept`)"
    );
    assert_eq!(whys, [format!("listed true: {list}; not mark=7")]);
    let (reason, .., whys) = told(accept, &ExplainRequest { mark: Some(7), ..asked.clone() });
    assert_eq!(reason, "condition");
    assert_eq!(whys, ["listed false: mark=7, which it excludes".to_owned(), format!("listed true: {list}")]);
    let headers = "    route-headers: { read: [version], without-route: true }";
    let by =
        |value: &str| ExplainRequest { headers: vec![format!("n-d-version: {value}")], ..from("198.19.0.1") };
    let (reason, route, text, whys) = told(headers, &by("2.0"));
    assert_eq!((reason.as_str(), route.as_str()), ("condition", "n-d/used@shop"));
    assert_eq!(text, "gray: route n-d/used@shop sends it to two (198.18.2.3:8080)");
    assert_eq!(whys.last().map(String::as_str), Some("n-d/used@shop true: n-d-version=2.0"));
    assert_eq!(whys[0], format!("listed false: not {list}"));
    // As the splice listener reads it.
    let (_, route, text, _) = told(headers, &by("{\"shop\":\"2.0\"}"));
    assert_eq!(route, "n-d/used@shop");
    assert!(text.starts_with("gray: "), "{text}");
    let (_, route, ..) = told(headers, &by("{\"cart\":\"2.0\"}"));
    assert_eq!(route, "n-d/ignored@shop");
    let headers = "    route-headers: { read: [address], without-route: true }";
    let address =
        |value: &str| ExplainRequest { headers: vec![format!("n-d-address: {value}")], ..from("198.19.0.1") };
    let (.., text, whys) = told(headers, &address("198.18.2.3"));
    assert!(text.contains("198.18.2.3:8080"), "{text}");
    assert_eq!(
        whys.last().map(String::as_str),
        Some("n-d-* true: by the splice listener, of what is left: address 198.18.2.3")
    );
}

const TLS: &str = "services:
  vault:
    listen: ['198.18.1.100:443']
    identify: [tag, app, tenant, source]
    claims: { tenant: { sni: true }, user: { alpn: true }, app: { header: X-App-Id } }
    instances:
      - { address: '198.18.2.2:8443', version: '1.0' }
      - { address: '198.18.2.3:8443', version: '2.0' }
    stable: { version: '1.0' }
cohorts:
  early: { tenants: [acme.example.com] }
  spoken: { users: [h2] }
  half: { percent: 50 }
routes:
  - { name: by-name, service: vault, when: early, to: { version: '2.0' } }
  - { name: by-protocol, service: vault, when: spoken, to: { version: '2.0' } }
  - { name: by-share, service: vault, when: half, to: { version: '2.0' } }
";

/// A9: a claim that is read of the ClientHello is asked by its own name, and by the place.
#[test]
fn c15_a9_a_client_hello_is_read_as_the_kernel_reads_it() {
    let w = world_of(TLS);
    let ask = |r: ExplainRequest| w.answer(&w.asked(&ExplainRequest { service: Some("vault".into()), ..r }));
    let tenant = |v: &str| ExplainRequest {
        claims: [(ClaimKind::Tenant, v.into())].into(),
        ..ExplainRequest::default()
    };
    let sni = |v: &str| ExplainRequest { sni: Some(v.into()), ..ExplainRequest::default() };
    for r in [tenant("acme.example.com"), sni("acme.example.com"), sni("ACME.Example.com")] {
        let said = ask(r);
        assert_eq!((said.arm, said.route.as_deref()), (ArmName::Gray, Some("by-name")), "{said:?}");
        assert_eq!(said.identity.as_deref(), Some("tenant acme.example.com"));
        assert!(!said.text.contains("not read"), "{}", said.text);
    }
    let h2 = ask(ExplainRequest { alpn: Some("h2".into()), ..ExplainRequest::default() });
    assert_eq!((h2.arm, h2.route.as_deref()), (ArmName::Gray, Some("by-protocol")));
    let refused = |r: ExplainRequest| {
        let r = ExplainRequest { service: Some("vault".into()), ..r };
        Asked::read(&w.policy, &r, false).map(|_| ()).unwrap_err().error
    };
    assert!(
        refused(ExplainRequest { path: Some("/".into()), ..sni("a.b") })
            .contains("ClientHello and a request")
    );
    assert!(refused(ExplainRequest { workload: Some("w".into()), ..sni("a.b") }).contains("workload"));
    assert!(refused(ExplainRequest { sni: Some("a.b".into()), ..tenant("c.d") }).contains("twice"));
    assert!(refused(sni("")).contains("cannot stand") && refused(sni("a b")).contains("cannot stand"));
    let w = world();
    let asked = ExplainRequest { service: Some("site".into()), ..sni("a.b") };
    assert!(Asked::read(&w.policy, &asked, false).unwrap_err().error.contains("reads no claim from `sni`"));
}

/// A6: the identity of a tag decides percentages as the claim did that it was made of, at the node that said it.
#[test]
fn c15_a6_a_tags_identity_decides_as_it_did_where_it_was_said() {
    let w = world_of(TLS);
    let (mut gray, mut stable) = (0, 0);
    for n in 0..40 {
        let from = ExplainRequest {
            service: Some("vault".into()),
            src: Some(format!("198.18.7.{n}").parse().unwrap()),
            ..ExplainRequest::default()
        };
        let before = w.answer(&w.asked(&from));
        let tag = before.claims.iter().find(|c| c.kind == "source").unwrap().hash.clone();
        let next = ExplainRequest { src: None, tag: Some(tag.clone()), ..from };
        let after = w.answer(&w.asked(&next));
        assert_eq!((after.arm, after.route, after.bucket), (before.arm, before.route, before.bucket));
        assert_eq!(after.identity, Some(format!("tag {tag}")));
        if after.arm == ArmName::Gray { gray += 1 } else { stable += 1 }
    }
    assert!(gray > 5 && stable > 5, "{gray} {stable}");
    for bad in ["", "0", "0000000000000000", "xyz", "+000000000000001", "00000000000000001"] {
        let r = ExplainRequest {
            service: Some("vault".into()),
            tag: Some(bad.into()),
            ..ExplainRequest::default()
        };
        assert!(
            Asked::read(&w.policy, &r, false).unwrap_err().error.contains("no identity of a tag"),
            "{bad}"
        );
    }
}

/// C4: instances that do not serve because of their zone are told.
#[test]
fn c15_c4_who_is_passed_over_for_the_zone_is_told() {
    let document = |affinity: &str| {
        format!(
            "services:
  shop:
    listen: ['198.18.1.100:80']
    zone-affinity: {affinity}
    instances:
      - {{ address: '198.18.2.2:80', id: near, version: '1', zone: z1 }}
      - {{ address: '198.18.2.3:80', id: far, version: '1', zone: z2 }}
      - {{ address: '198.18.2.4:80', id: gone, version: '2', zone: z2 }}
    stable: {{ version: '1' }}
cohorts: {{ early: {{ sources: ['198.18.7.0/24'] }} }}
routes: [{{ service: shop, when: early, to: {{ version: '2' }} }}]
"
        )
    };
    let told = |affinity: &str, zone: Option<&str>, src: &str| {
        let w = world_in(&document(affinity), zone);
        w.answer(&w.asked(&from(src))).text
    };
    let other = "passed over for that: ";
    for affinity in ["prefer", "only"] {
        let text = told(affinity, Some("z1"), "198.18.9.1");
        assert!(text.contains(&format!("{other}far")), "{affinity}: {text}");
    }
    assert!(told("only", Some("z1"), "198.18.7.1").contains(&format!("{other}gone")));
    for (affinity, zone, src) in [
        ("prefer", Some("z1"), "198.18.7.1"),
        ("prefer", None, "198.18.9.1"),
        ("off", Some("z1"), "198.18.9.1"),
    ] {
        let text = told(affinity, zone, src);
        assert!(!text.contains(other), "{affinity} {zone:?}: {text}");
    }
}

/// C15: of a live connection the claims are not kept; the rule that it is held by says what they must have been.
#[test]
fn c15_a_live_connection_says_by_what_it_is_held() {
    let w = world();
    let asked = w.asked(&site());
    let trail = |rule: Option<&str>| {
        let reply = w.answer_held(&asked, Some(rule));
        let step = |s: &TrailStep| format!("{} {}: {}", s.rule, s.matched, s.why);
        (reply.held_trail.iter().map(step).collect::<Vec<_>>(), reply.trail.len())
    };
    let (held, now) = trail(Some("by-tenant"));
    assert_eq!(
        held,
        [
            "by-app false: passed over, so it was not all of: on list apps",
            "by-tenant true: held by it, so it was: on list tenants",
        ]
    );
    assert_eq!(now, 7, "and all that a new connection would be asked");
    let (held, _) = trail(Some("by-share"));
    assert!(
        held.contains(&"by-tail false: passed over, so it was not all of: in sevens".to_owned()),
        "{held:?}"
    );
    assert!(
        held.contains(
            &"by-platform false: passed over, so it was not all of: platform=android|ios; not user=u5"
                .to_owned()
        ),
        "{held:?}"
    );
    assert_eq!(held.last().unwrap(), "by-share true: held by it, so it was: in half-of-apps");
    let (held, _) = trail(None);
    assert_eq!((held.len(), held[6].as_str()), (7, "default true: held by no route: stable"));
    assert!(trail(Some("gone")).0.is_empty());
}

/// A7: what the policy says of the caller. A13: what a request would say, and a call on this node does not.
#[test]
fn a7_a13_a_caller_is_told_by_what_it_is_and_what_is_not_read_of_it() {
    let more = "workloads:\n  nightly: { service: web, version: '2.0' }\n";
    let route = "  - { service: site, same: version }\n";
    let w = world_of(&format!("{DOCUMENT}{route}{more}"));
    let calls = |who: &str| w.explain(&ExplainRequest { workload: Some(who.into()), ..site() });
    let r = calls("nightly");
    let caller = r.claims.iter().find(|c| c.kind == "caller").unwrap();
    let workload = r.claims.iter().find(|c| c.kind == "workload").unwrap();
    assert_eq!((caller.value.as_str(), &caller.hash), ("service=web,version=2.0", &workload.hash));
    assert_eq!((r.arm, r.route.as_deref()), (ArmName::Gray, Some("site/caller(version=2.0)/version=2.0")));
    let step = r.trail.last().unwrap();
    assert_eq!((step.matched, step.why.as_str()), (true, "caller(version=2.0)"));
    let unread =
        "its request is not read: routes that ask for app, channel, platform, tenant, user do not know it";
    assert!(r.text.contains(unread), "{}", r.text);
    let r = calls("daily");
    assert_eq!((r.arm, r.claims.iter().any(|c| c.kind == "caller")), (ArmName::Stable, false));
    assert!(r.trail.iter().any(|s| s.why == "not caller(version=2.0)"), "{:?}", r.trail);
}
