//! D5: a diff in words.

use gray_userspace::{
    config::{Change, ChangeKind, Source, What, diff, load},
    model::Policy,
};

const OLD: &str = r#"services:
  shop:
    listen: ["198.18.1.100:80", "198.18.1.100:81/udp"]
    instances:
      - { address: "198.18.2.2:8080", version: "1.0", zone: z1 }
      - { address: "198.18.2.3:8080", version: "2.0", id: b }
      - { address: "198.18.2.4:8080", version: "2.0" }
    stable: { version: "1.0" }
  cart:
    listen: ["198.18.1.101:80"]
    instances: [{ address: "198.18.2.9:8080", version: "1.0" }]
    stable: { version: "1.0" }
cohorts:
  early: { sources: ["198.18.1.3", "198.18.1.4", "198.18.7.0/24"] }
  tenth: { percent: 10 }
  gone: { marks: [1] }
routes:
  - { service: shop, when: early, to: { version: "2.0" } }
  - { name: w, service: shop, to: [{ version: "1.0", weight: 95 }, { version: "2.0", weight: 5 }] }
  - { service: shop, when: gone, to: { version: "2.0" } }
  - { service: shop, when: tenth, to: { version: "2.0" } }
"#;

const NEW: &str = r#"services:
  pay:
    listen: ["198.18.1.102:80"]
    instances: [{ address: "198.18.2.7:8080", version: "1.0" }, { address: "198.18.2.8:8080", version: "2.0" }]
    stable: { version: "1.0" }
  shop:
    listen: ["198.18.1.100:80", "[fd00:18::1]:80"]
    identify: [mark, source]
    instances:
      - { address: "198.18.2.2:8080", version: "1.0", env: blue, weight: 7 }
      - { address: "198.18.2.5:8080", version: "2.0", id: b }
      - { address: "[fd00:18::2]:8080", version: "1.0", id: v6 }
    stable: { version: "1.0" }
cohorts:
  tenth: { percent: 20, salt: x }
  early: { sources: ["198.18.1.3", 198.18.1.10, 198.18.1.11, 198.18.1.12, 198.18.1.13, 198.18.1.14, 198.18.1.15, 198.18.1.16] }
  jobs: { workloads: [nightly.service] }
routes:
  - { service: shop, when: tenth, to: { version: "2.0" } }
  - { service: shop, when: early, to: { version: "2.0" } }
  - { name: w, service: shop, to: [{ version: "1.0", weight: 50 }, { version: "2.0", weight: 50 }] }
  - { when: jobs, to: { version: "1.0" } }
"#;

fn policy(text: &str) -> Policy {
    load(&[Source::new("p", text)]).unwrap_or_else(|p| panic!("{p}")).policy
}

fn lines(changes: &[Change]) -> String {
    changes.iter().map(|c| format!("{c}\n")).collect()
}

#[test]
fn d5_changes_read_as_sentences() {
    let (old, new) = (policy(OLD), policy(NEW));
    assert_eq!(
        lines(&diff(&old, &new)),
        "\
~ service shop: identify source, workload -> mark, source
- listener 198.18.1.100:81/udp of shop
+ listener [fd00:18::1]:80 of shop
~ instance 198.18.2.2:8080 of shop: zone z1 -> none, env none -> blue, weight 100 -> 7
~ instance b of shop: address 198.18.2.3:8080 -> 198.18.2.5:8080
- instance 198.18.2.4:8080 of shop: version 2.0
+ instance v6 of shop: [fd00:18::2]:8080, version 1.0
- service cart: 1 instance on 198.18.1.101:80
+ service pay: 2 instances on 198.18.1.102:80
~ cohort early: 3 -> 8 sources, +198.18.1.10 +198.18.1.11 +198.18.1.12 +198.18.1.13 +198.18.1.14 (2 more), -198.18.1.4 -198.18.7.0/24
~ cohort tenth: 10% -> 20%, salt tenth -> x (other clients)
- cohort gone: 1 mark
+ cohort jobs: 1 workload
~ route w: version=1.0 95% / version=2.0 5% -> version=1.0 50% / version=2.0 50%
- route shop/gone/version=2.0: gone of shop to version=2.0
+ route */jobs/version=1.0: jobs of every service to version=1.0
~ order of routes: now shop/tenth/version=2.0, shop/early/version=2.0, w
"
    );
}

#[test]
fn d5_lanes_read_as_sentences() {
    let with = |more: &str| policy(&format!("{OLD}{more}"));
    let old = with(
        "  - { name: testers, when: early, lane: gray }
lanes:
  gray: { shop: { version: \"2.0\" }, cart: { version: \"1.0\" } }
  same: { shop: { version: \"2.0\" } }
  gone: { shop: { id: b } }
",
    );
    let new = with(
        "  - { name: testers, when: early, lane: same }
  - { when: tenth, lane: gray }
lanes:
  fresh: { cart: { version: \"1.0\" }, shop: { version: \"2.0\", id: b } }
  same: { shop: { version: \"2.0\" } }
  gray: { shop: { version: \"1.0\" }, cart: { version: \"1.0\" } }
",
    );
    assert_eq!(
        lines(&diff(&old, &new)),
        "\
~ lane gray: shop version=2.0 -> version=1.0
- lane gone: shop id=b
+ lane fresh: cart version=1.0; shop version=2.0,id=b
~ route testers: lane gray -> lane same
+ route */tenth/lane=gray: tenth of every service to lane gray
"
    );
    let less = with("lanes: { gray: { shop: { version: \"2.0\" } } }\n");
    let more = with("lanes: { gray: { cart: { version: \"1.0\" } } }\n");
    assert_eq!(lines(&diff(&less, &more)), "~ lane gray: +cart version=1.0; -shop version=2.0\n");
}

#[test]
fn d5_nothing_changed_and_everything_is_new() {
    let old = policy(OLD);
    assert_eq!(diff(&old, &old), []);
    let all = diff(&Policy::default(), &old);
    assert!(all.iter().all(|c| c.change == ChangeKind::Added), "{}", lines(&all));
    assert_eq!(all.len(), 2 + 3 + 4);
}

#[test]
fn d5_changes_are_stable_json() {
    let (old, new) = (policy(OLD), policy(NEW));
    let changes = diff(&old, &new);
    let gone = changes.iter().find(|c| c.what == What::Instance && c.change == ChangeKind::Removed).unwrap();
    let json = serde_json::json!({
        "change": "removed", "what": "instance", "service": "shop", "name": "198.18.2.4:8080", "detail": "version 2.0",
    });
    assert_eq!(serde_json::to_value(gone).unwrap(), json);
    let text = serde_json::to_string(&changes).unwrap();
    assert_eq!(serde_json::from_str::<Vec<Change>>(&text).unwrap(), changes);
}
