//! What right documents mean: defaults, texts as written, warnings, size.

use gray_userspace::{
    config::{Loaded, Problems, Source, default_route_name, load, to_yaml},
    model::{
        ClaimKind, CohortBody, Condition, Encapsulation, Failover, MetaKey, Nat, OnMissing, Proto, Selector,
        ZoneAffinity,
    },
};

fn read(text: &str) -> Result<Loaded, Problems> {
    load(&[Source::new("p.yaml", text)])
}

fn ok(text: &str) -> Loaded {
    read(text).unwrap_or_else(|p| panic!("{p}"))
}

const SHOP: &str = r#"services:
  shop:
    listen: ["198.18.1.100:80"]
    instances:
      - { address: "198.18.2.2:8080", version: 1.0 }
      - { address: "198.18.2.3:8080", version: 2.10, id: b, weight: 7 }
    stable: { version: 1.0 }
"#;

#[test]
fn c1_service_defaults_and_texts_as_written() {
    let policy = ok(SHOP).policy;
    let shop = policy.service("shop").unwrap();
    assert_eq!(shop.listen[0].to_string(), "198.18.1.100:80");
    assert_eq!(shop.listen[0].proto, Proto::Tcp);
    assert_eq!(shop.identify, [ClaimKind::Source, ClaimKind::Workload]);
    assert_eq!((shop.on_missing, shop.nat), (OnMissing::Stable, Nat::Dnat));
    let versions: Vec<_> = shop.instances.iter().map(|i| i.meta[&MetaKey::Version].as_str()).collect();
    assert_eq!(versions, ["1.0", "2.10"], "an unquoted number is text, as written");
    assert_eq!(shop.instances[0].id, "198.18.2.2:8080");
    assert_eq!((shop.instances[0].weight, shop.instances[1].weight), (100, 7));
    assert_eq!(shop.stable, Selector::one(MetaKey::Version, "1.0"));
}

#[test]
fn b6_cohorts_of_cohorts_are_written_as_they_are_read() {
    let text = format!(
        "{SHOP}cohorts:
  a: {{ sources: ['198.18.9.1'] }}
  b: {{ percent: 10 }}
  both: {{ all: [a, {{ not: b }}] }}
  either: {{ any: [both, a, {{ mark: 7 }}] }}
  others: {{ not: either }}
routes:
  - {{ service: shop, when: others, to: {{ version: 2.10 }} }}
"
    );
    let loaded = ok(&text);
    assert_eq!(loaded.warnings.len(), 0, "those that another one is made of are used: {:?}", loaded.warnings);
    let policy = loaded.policy;
    let not = |c: &str| Condition::Not(Box::new(Condition::Cohort(c.into())));
    let body = |name: &str| &policy.cohort(name).unwrap().body;
    assert_eq!(
        *body("both"),
        CohortBody::Joined(Condition::All(vec![Condition::Cohort("a".into()), not("b")]))
    );
    assert_eq!(*body("others"), CohortBody::Joined(not("either")));
    assert_eq!(ok(&to_yaml(&policy)).policy, policy);
    let when = policy.routes[0].when.as_ref().unwrap();
    assert!(policy.asks(when, "b") && policy.asks(when, "others") && !policy.asks(when, "c"));
    assert!(policy.lists().iter().any(|l| l.name == "mark=7"), "their claims are lists");
}

#[test]
fn c4_zone_affinity_is_written_as_it_is_read() {
    let with = |word: &str| SHOP.replace("    stable:", &format!("    zone-affinity: {word}\n    stable:"));
    let policy = ok(SHOP).policy;
    assert_eq!(policy.services[0].zone_affinity, ZoneAffinity::Off);
    assert_eq!(ok(&with("off")).policy, policy);
    for (word, means) in [("prefer", ZoneAffinity::Prefer), ("only", ZoneAffinity::Only)] {
        let loaded = ok(&with(word));
        assert_eq!(loaded.policy.services[0].zone_affinity, means);
        assert_eq!(ok(&to_yaml(&loaded.policy)).policy, loaded.policy);
        let said: Vec<_> = loaded.warnings.iter().map(|w| w.message.clone()).collect();
        assert_eq!(said, [format!("`zone-affinity: {word}`, and no instance has a zone")]);
        let zoned = with(word).replace("version: 1.0 }\n      -", "version: 1.0, zone: z1 }\n      -");
        assert_eq!(ok(&zoned).warnings.len(), 0);
    }
}

#[test]
fn c5_c6_blacklists_and_failover_are_written_as_they_are_read() {
    let text = SHOP.replace(
        "    stable:",
        "    failover: any\n    blacklist: { ids: 'b;c', addresses: [8081, '198.18.*.9'] }\n    stable:",
    );
    let text =
        format!("{text}blacklist: {{ ids: [x] }}\n---\nblacklist: {{ addresses: '198.18.2.3:8080;9' }}\n");
    let loaded = ok(&text);
    let policy = loaded.policy;
    assert_eq!(policy.blacklisted(), ["shop/b".to_owned()].into());
    assert_eq!(ok(&to_yaml(&policy)).policy, policy);
    let said: Vec<_> = loaded.warnings.iter().map(|w| w.message.as_str()).collect();
    let nobody = |e: &str| format!("the blacklist's `{e}` names no instance");
    for e in ["c", "8081", "198.18.*.9", "x", "9"] {
        assert!(said.contains(&nobody(e).as_str()), "{e}: {said:?}");
    }
    assert_eq!(said.len(), 5, "{said:?}");
    let to = SHOP.replace("    stable:", "    failover: { version: [1.0, 2.10] }\n    stable:");
    let policy = ok(&to).policy;
    assert_eq!(ok(&to_yaml(&policy)).policy, policy);
    for (line, denies, shadow) in
        [("failover: deny", true, false), ("shadow: true", false, true), ("shadow: false", false, false)]
    {
        let policy = ok(&SHOP.replace("    stable:", &format!("    {line}\n    stable:"))).policy;
        let shop = &policy.services[0];
        assert_eq!((shop.failover == Failover::Deny, shop.shadow), (denies, shadow), "{line}");
        assert_eq!(ok(&to_yaml(&policy)).policy, policy);
    }
}

#[test]
fn c6_a7_failover_by_workloads_and_callers_are_written_as_they_are_read() {
    let by = "    failover-by: { version: any, region: { region: [east] }, zone: deny, address: stable }\n    stable:";
    let text =
        SHOP.replacen("    stable:", by, 1).replacen("version: 2.10", "version: 2.10, region: east", 1);
    let policy = ok(&text).policy;
    let shop = &policy.services[0];
    assert_eq!(shop.failover_by.len(), 4);
    assert_eq!(shop.failover_by.get(&MetaKey::Zone), Some(&Failover::Deny));
    assert_eq!(ok(&to_yaml(&policy)).policy, policy);
    let more = "workloads:\n  web-2: { service: web, version: 2.10 }\n  web-1: { service: web, version: 1.0, zone: z1 }\nroutes:
  - { service: shop, when: { caller: { service: web, zone: [z1, z2] } }, to: { version: 2.10 } }
  - { service: shop, when: { mark: 7 }, same: version }
  - { same: [version, zone] }\n";
    let loaded = ok(&format!("{SHOP}{more}"));
    let policy = loaded.policy;
    let names: Vec<_> = policy.routes.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "shop/caller(service=web,zone=z1|z2)/version=2.10",
            "shop/all(caller(version=1.0),mark=7)/version=1.0",
            "shop/all(caller(version=2.10),mark=7)/version=2.10",
        ],
        "and of the last one nothing: no instance has a zone"
    );
    assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
    assert_eq!(ok(&to_yaml(&policy)).policy, policy);
}

#[test]
fn f14_what_a_lost_agent_means_is_written_as_it_is_read() {
    for (lines, lease) in [
        ("on-agent-lost: keep", None),
        ("on-agent-lost: stable", Some(30_000)),
        ("on-agent-lost: stable\n    agent-lease: 5s", Some(5_000)),
        ("agent-lease: 24h\n    on-agent-lost: stable", Some(86_400_000)),
    ] {
        let policy = ok(&SHOP.replace("    stable:", &format!("    {lines}\n    stable:"))).policy;
        assert_eq!(policy.services[0].agent_lease.map(|l| l.0), lease, "{lines}");
        assert_eq!(ok(&to_yaml(&policy)).policy, policy);
    }
}

#[test]
fn f15_a_breaker_is_written_as_it_is_read() {
    for (body, want) in [
        ("failures: 5", (5, 10_000, 30_000, 1)),
        ("failures: 1, window: 1s, open: 1h", (1, 1000, 3_600_000, 1)),
        ("failures: 128, window: 1500ms, retransmits: 6", (128, 1500, 30_000, 6)),
    ] {
        let text = SHOP.replace("    stable:", &format!("    breaker: {{ {body} }}\n    stable:"));
        let policy = ok(&text).policy;
        let b = policy.services[0].breaker.unwrap();
        assert_eq!((b.failures, b.window.0, b.open.0, b.retransmits), want, "{body}");
        assert_eq!(ok(&to_yaml(&policy)).policy, policy);
    }
}

#[test]
fn c8_c13_route_headers_and_accept_are_written_as_they_are_read() {
    let more = "    route-headers: { read: [env, version], over-routes: true }\n    accept: [ { instances: { version: 2.10 }, from: { any: [{ lane: blue }, { mark: [7, 8] }] } } ]\n";
    let text = SHOP.replace("    stable:", &format!("{more}    stable:"));
    let text = format!("{text}lanes:\n  blue: {{ shop: {{ version: 2.10 }} }}\n");
    let policy = ok(&text).policy;
    let shop = &policy.services[0];
    assert_eq!(
        shop.headers.as_ref().unwrap().to_string(),
        "read: [version, env], over-routes: true, without-route: false"
    );
    assert!(shop.reads() && shop.accept[0].instances.to_string() == "version=2.10");
    assert!(shop.instances.iter().any(|i| shop.is_guarded(i)));
    let again = ok(&to_yaml(&policy)).policy;
    assert_eq!(again, policy, "{}", to_yaml(&policy));
}

#[test]
fn c8_c9_a10_all_headers_listeners_and_proxies_are_written_as_they_are_read() {
    let listen = SHOP.lines().find(|l| l.contains("listen:")).unwrap().split('"').nth(1).unwrap();
    let more = format!(
        "    trusted-proxies: [198.18.1.3, '198.18.9.7/24', 'fd00::/64']
    claims: {{ app: {{ header: X-App-Id, proxy-tlv: 0xE0 }}, tenant: {{ proxy-tlv: 234 }} }}
    route-headers:
      read: [address, version-weight, region-weight, id-blacklist, address-blacklist, env]
      without-route: true
      listeners: [{{ address: '{listen}', over-routes: true }}]
    stable:"
    );
    let policy = ok(&SHOP.replace("    stable:", &more)).policy;
    let shop = &policy.services[0];
    assert_eq!(
        shop.headers.as_ref().unwrap().to_string(),
        format!(
            "read: [version, region, env, address, version-weight, region-weight, id-blacklist, address-blacklist], over-routes: false, without-route: true, listeners: [{{ address: \"{listen}\", over-routes: true, without-route: true }}]"
        )
    );
    let proxies: Vec<String> = shop.proxies.iter().map(ToString::to_string).collect();
    assert_eq!(proxies, ["198.18.1.3/32", "198.18.9.0/24", "fd00::/64"]);
    assert_eq!(shop.tlvs.values().copied().collect::<Vec<_>>(), [0xe0, 0xea]);
    let again = ok(&to_yaml(&policy)).policy;
    assert_eq!(again, policy, "{}", to_yaml(&policy));
}

#[test]
fn c2_selectors_are_written_as_they_are_read() {
    let route = "routes:\n  - { service: shop, to: { version: [2.10, 1.0, 2.10], address: ['198.18.2.*:8080', 8081, 08080] } }\n";
    let policy = ok(&format!("{SHOP}{route}")).policy;
    let subset = &policy.routes[0].to.arms()[0].subset;
    assert_eq!(subset.to_string(), "version=1.0|2.10,address=198.18.2.*:8080|8080|8081");
    assert!(policy.services[0].instances.iter().all(|i| subset.matches(i)));
    assert_eq!(ok(&to_yaml(&policy)).policy, policy);
}

/// The port is that of the listener, in each family; the form is `ipip` if nothing else is said.
#[test]
fn h1_direct_server_return_is_written_as_it_is_read() {
    let text = |nat: &str, port: u16| {
        SHOP.replace(":8080", &format!(":{port}"))
            .replace("    instances:", &format!("    nat: {nat}\n    instances:"))
    };
    for (nat, form) in [("dsr", Encapsulation::Ipip), ("dsr\n    encapsulation: gue", Encapsulation::Gue)] {
        let policy = ok(&text(nat, 80)).policy;
        let shop = policy.service("shop").unwrap();
        assert_eq!((shop.nat, shop.encapsulation), (Nat::Dsr, form));
        assert_eq!(ok(&to_yaml(&policy)).policy, policy);
    }
    let refused = read(&text("dsr", 8080)).unwrap_err().to_string();
    assert!(
        refused.contains("at port 8080 of a service at port 80") && refused.contains("same one"),
        "{refused}"
    );
    assert!(read(&text("dnat", 8080)).is_ok() && read(&text("dnat\n    encapsulation: ipip", 80)).is_err());
}

#[test]
fn json_is_fine_too() {
    let json = r#"{"services":{"shop":{"listen":["198.18.1.100:80"],"instances":[{"address":"198.18.2.2:8080","version":1.0}],"stable":{"version":"1.0"}}}}"#;
    assert_eq!(ok(json).policy.services.len(), 1);
}

#[test]
fn a5_a11_b1_cohorts_are_canonical() {
    let text = r#"cohorts:
  s: { sources: ["198.18.7.9/24", 198.18.1.3, "FD00:18:0::1", "198.18.1.3/32"] }
  m: { marks: [0x10, 7, "16"] }
  d: { dscps: [46] }
  w: { workloads: [shop.service] }
  none: { sources: [] }
  null: { sources: }
"#;
    let loaded = ok(text);
    let ids = |name: &str| match &loaded.policy.cohort(name).unwrap().body {
        CohortBody::List { ids, .. } => ids.iter().map(String::as_str).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(ids("s"), ["198.18.1.3", "198.18.7.0/24", "fd00:18::1"]);
    assert_eq!(ids("m"), ["16", "7"]);
    assert_eq!((ids("d"), ids("w")), (vec!["46"], vec!["shop.service"]));
    assert!(ids("none").is_empty() && ids("null").is_empty());
    let warning = &loaded.warnings[0];
    assert_eq!((warning.message.as_str(), warning.line), ("no service is given", 1));
    assert!(loaded.warnings.iter().any(|w| w.message == "`198.18.7.9/24` has host bits"));
}

/// A8, B1, B4: six claims in any of three places, and cohorts of each.
#[test]
fn a8_b4_claims_and_their_cohorts() {
    let text = SHOP.replace(
        "    instances:",
        "    claims:
      app: { header: X-App-Id }
      user: { cookie: uid }
      tenant: { header: X-Tenant-Id }
      device: { cookie: device }
      platform: { query: platform }
      channel: { query: ch }
    identify: [user, device, tenant, source]
    instances:",
    ) + "cohorts:
  t: { tenants: [t1, t2] }
  d: { devices: [d-7] }
  p: { platforms: [android, ios] }
  c: { channels: [beta] }
  half: { percent: 50, of: tenant }
";
    let policy = ok(&text).policy;
    let shop = policy.service("shop").unwrap();
    assert_eq!(shop.identify, [ClaimKind::User, ClaimKind::Device, ClaimKind::Tenant, ClaimKind::Source]);
    let places: Vec<_> = shop.claims.iter().map(|(kind, place)| (kind.name(), place.parts())).collect();
    assert_eq!(
        places,
        [
            ("app", ("header", "X-App-Id")),
            ("user", ("cookie", "uid")),
            ("tenant", ("header", "X-Tenant-Id")),
            ("device", ("cookie", "device")),
            ("platform", ("query", "platform")),
            ("channel", ("query", "ch")),
        ]
    );
    let of = |name: &str| match &policy.cohort(name).unwrap().body {
        CohortBody::List { of, ids } => (*of, ids.iter().map(String::as_str).collect::<Vec<_>>()),
        other => panic!("{other:?}"),
    };
    assert_eq!(of("t"), (ClaimKind::Tenant, vec!["t1", "t2"]));
    assert_eq!(of("d"), (ClaimKind::Device, vec!["d-7"]));
    assert_eq!(of("p"), (ClaimKind::Platform, vec!["android", "ios"]));
    assert_eq!(of("c"), (ClaimKind::Channel, vec!["beta"]));
    assert_eq!(ok(&to_yaml(&policy)).policy, policy);
}

/// A1: a claim that says nothing of its place is read of its usual header.
#[test]
fn a1_a8_a_claim_without_a_place_has_its_usual_header() {
    let text = SHOP.replace(
        "    instances:",
        "    claims: { app: {}, user: {}, tenant: { sni: true } }\n    instances:",
    );
    let policy = ok(&text).policy;
    let places: Vec<_> = policy.service("shop").unwrap().claims.values().map(|p| p.parts()).collect();
    assert_eq!(places, [("header", "X-App-Id"), ("header", "X-User-Id")]);
    assert_eq!(ok(&to_yaml(&policy)).policy, policy);
}

#[test]
fn b2_percentages_are_exact() {
    for (text, want) in [
        ("0", 0),
        ("0.01", 1),
        ("0.1", 10),
        ("1", 100),
        ("50.0", 5_000),
        ("99.99", 9_999),
        ("100", 10_000),
        ("100.00", 10_000),
    ] {
        let policy = ok(&format!("cohorts: {{ a: {{ percent: {text} }} }}")).policy;
        let CohortBody::Percent { of, basis_points, salt } = &policy.cohorts[0].body else { panic!() };
        assert_eq!((*of, *basis_points, salt.as_str()), (None, want, "a"), "{text}");
    }
    let policy = ok("cohorts: { a: { percent: 5, of: workload, salt: shop-2.0 } }").policy;
    let CohortBody::Percent { of, salt, .. } = &policy.cohorts[0].body else { panic!() };
    assert_eq!((*of, salt.as_str()), (Some(ClaimKind::Workload), "shop-2.0"));
}

/// B3: as text or as numbers, which are taken as written.
#[test]
fn b3_tails_are_one_or_two_digits() {
    let policy = ok("cohorts: { t: { tail: { of: user, digits: [07, \"42\", 7, 42] } } }").policy;
    let CohortBody::Tail { of, digits } = &policy.cohorts[0].body else { panic!() };
    assert_eq!(
        (*of, digits.iter().map(String::as_str).collect::<Vec<_>>()),
        (ClaimKind::User, vec!["07", "42", "7"])
    );
    assert_eq!(ok(&to_yaml(&policy)).policy, policy);
    let text = format!(
        "{SHOP}cohorts: {{ t: {{ tail: {{ of: user, digits: [7] }} }} }}\nroutes: [{{ when: t, to: {{ version: 2.10 }} }}]\n"
    );
    assert_eq!(warnings(&text), ["no service reads the claim `user` of cohort `t`"]);
}

#[test]
fn routes_have_stable_names_and_exact_weights() {
    let text = format!(
        "{SHOP}cohorts: {{ early: {{ sources: [] }}, jobs: {{ marks: [1] }} }}\nroutes:
  - {{ service: shop, when: {{ all: [early, {{ not: jobs }}] }}, to: {{ version: 2.10 }} }}
  - {{ service: shop, to: [{{ version: 1.0, weight: 99.99 }}, {{ version: 2.10, weight: 0.01 }}] }}
  - {{ name: mine, when: early, to: {{ id: b }} }}
"
    );
    let loaded = ok(&text);
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let routes = &loaded.policy.routes;
    let names: Vec<_> = routes.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(names, ["shop/all(early,not(jobs))/version=2.10", "shop/*/version=1.0+version=2.10", "mine"]);
    let weights: Vec<_> = routes[1].to.arms().iter().map(|a| a.basis_points).collect();
    assert_eq!(weights, [9_999, 1]);
    assert_eq!((routes[0].to.arms()[0].basis_points, &routes[2].service), (10_000, &None));
    let not = Condition::Not(Box::new(Condition::Cohort("jobs".into())));
    assert_eq!(routes[0].when, Some(Condition::All(vec![Condition::Cohort("early".into()), not])));
    let made = default_route_name(None, Some(&Condition::Cohort("early".into())), &routes[2].to);
    assert_eq!(made, "*/early/id=b");
}

/// B4, B6: one value or several, alone and inside of all, any, not.
#[test]
fn b4_conditions_on_claims() {
    let shop = SHOP.replace(
        "    instances:",
        "    claims: { platform: { query: os }, app: { header: X-App-Id } }\n    instances:",
    );
    let text = format!(
        "{shop}cohorts: {{ early: {{ sources: [] }}, apps: {{ apps: [app7] }} }}\nroutes:
  - {{ service: shop, when: {{ platform: android }}, to: {{ version: 2.10 }} }}
  - {{ service: shop, when: {{ all: [early, {{ not: {{ platform: [ios, android, ios] }} }}] }}, to: {{ version: 2.10 }} }}
  - {{ when: {{ any: [{{ source: [198.18.7.9/24, \"198.18.1.3\"] }}, {{ mark: 0x10 }}, {{ app: \"a b\" }}] }}, to: {{ id: b }} }}
  - {{ service: shop, when: apps, to: {{ version: 2.10 }} }}
"
    );
    let loaded = ok(&text);
    let warnings: Vec<_> = loaded.warnings.iter().map(|w| w.message.as_str()).collect();
    assert_eq!(warnings, ["`198.18.7.9/24` has host bits"]);
    let policy = loaded.policy;
    let names: Vec<_> = policy.routes.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "shop/platform=android/version=2.10",
            "shop/all(early,not(platform=android|ios))/version=2.10",
            "*/any(source=198.18.1.3|198.18.7.0/24,mark=16,app=\"a b\")/id=b",
            "shop/apps/version=2.10",
        ]
    );
    let values = ["android".to_owned(), "ios".to_owned()].into();
    let claim = Condition::Claim { of: ClaimKind::Platform, values };
    let Some(Condition::All(parts)) = &policy.routes[1].when else { panic!() };
    assert_eq!(parts[1], Condition::Not(Box::new(claim)));
    let lists: Vec<_> =
        policy.lists().iter().map(|l| (l.name.to_string(), l.ids.len(), l.is_cohort)).collect();
    assert_eq!(lists.len(), 7, "{lists:?}");
    assert_eq!(lists[2], ("platform=android".to_owned(), 1, false));
    assert_eq!(ok(&to_yaml(&policy)).policy, policy);
    let same = format!(
        "{shop}routes:
  - {{ service: shop, when: {{ platform: [ios, android] }}, to: {{ version: 2.10 }} }}
  - {{ service: shop, when: {{ not: {{ not: {{ platform: [android, ios] }} }} }}, to: {{ version: 1.0 }} }}\n"
    );
    assert_eq!(self::warnings(&same), ["this route never applies"]);
}

/// B6: a wildcard stands at the end; alone it is everybody who names one.
#[test]
fn b6_wildcards_end_a_value() {
    let shop = SHOP.replace("    instances:", "    claims: { app: { header: X-App-Id } }\n    instances:");
    let text = format!(
        "{shop}cohorts: {{ a: {{ apps: [\"app7*\", \" b* \", \"*\", c] }} }}\nroutes:
  - {{ service: shop, when: a, to: {{ version: 2.10 }} }}
  - {{ service: shop, when: {{ app: \"x*\" }}, to: {{ version: 2.10 }} }}\n"
    );
    let policy = ok(&text).policy;
    let CohortBody::List { ids, .. } = &policy.cohorts[0].body else { panic!() };
    assert_eq!(ids.iter().map(String::as_str).collect::<Vec<_>>(), ["*", "app7*", "b*", "c"]);
    assert_eq!(policy.routes[1].name, "shop/app=x*/version=2.10");
    assert_eq!(ok(&to_yaml(&policy)).policy, policy);
}

/// A cohort of a claim that is not read anywhere has nobody.
#[test]
fn a8_a_cohort_of_a_claim_that_nobody_reads_is_odd() {
    let text = format!(
        "{SHOP}cohorts: {{ t: {{ tenants: [t1] }}, p: {{ percent: 5, of: app }} }}\nroutes:
  - {{ service: shop, when: {{ any: [t, p] }}, to: {{ version: 2.10 }} }}\n"
    );
    assert_eq!(
        warnings(&text),
        [
            "service `shop` does not read the claim `tenant` of cohort `t`",
            "service `shop` does not read the claim `app` of cohort `p`"
        ]
    );
    let read = text.replace(
        "    instances:",
        "    claims: { tenant: { cookie: t }, app: { cookie: a } }\n    instances:",
    );
    assert_eq!(warnings(&read), Vec::<String>::new());
}

#[test]
fn e1_lanes_and_routes_into_them() {
    let text = format!(
        "{SHOP}cohorts: {{ early: {{ sources: [] }} }}
lanes:
  gray-2.0: {{ shop: {{ version: 2.10 }} }}
  spare: {{ shop: {{ id: b }} }}
routes:
  - {{ when: early, lane: gray-2.0 }}
  - {{ name: testers, when: {{ not: early }}, lane: gray-2.0 }}
  - {{ when: early, lane: spare }}
"
    );
    let loaded = ok(&text);
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let policy = loaded.policy;
    assert_eq!(policy.lanes.iter().map(|l| l.name.as_str()).collect::<Vec<_>>(), ["gray-2.0", "spare"]);
    assert_eq!(policy.lanes[0].subsets["shop"].to_string(), "version=2.10");
    let routes: Vec<_> = policy.routes.iter().map(|r| (r.name.as_str(), r.to.lane())).collect();
    assert_eq!(
        routes,
        [
            ("*/early/lane=gray-2.0", Some("gray-2.0")),
            ("testers", Some("gray-2.0")),
            ("*/early/lane=spare", Some("spare"))
        ]
    );
    assert!(policy.applies(&policy.routes[0], "shop") && !policy.applies(&policy.routes[0], "cart"));
    let twice = text + "  - { name: again, when: early, lane: spare }\n";
    assert_eq!(warnings(&twice), ["this route never applies"]);
    let v6 = SHOP
        .replace("\"198.18.1.100:80\"", "\"198.18.1.100:80\", \"[fd00:18::100]:80\"")
        .replace("    stable:", "      - { address: \"[fd00:18::2]:8080\", version: 1.0 }\n    stable:")
        + "lanes: { gray: { shop: { version: 2.10 } } }\n";
    assert_eq!(warnings(&v6), ["no instance of `shop` that matches `version=2.10` has an IPv6 address"]);
}

#[test]
fn a_policy_has_room_for_1024_lanes() {
    let service = |i: u32| {
        format!(
            "  s{i}: {{ listen: ['198.18.3.{i}:80'], instances: [{{ address: '198.18.4.{i}:80', version: 1 }}], stable: {{ version: 1 }} }}\n"
        )
    };
    let lane = |i: u32| format!("  lane-{i}: {{ s{}: {{ version: 1 }} }}\n", 1 + i / 60);
    let text = |lanes: u32| {
        let services: String = (1..=18).map(service).collect();
        format!("services:\n{services}lanes:\n{}", (0..lanes).map(lane).collect::<String>())
    };
    assert_eq!(ok(&text(1024)).policy.lanes.len(), 1024);
    let e = read(&text(1025)).unwrap_err();
    let said: Vec<_> = e.errors.iter().map(|p| (p.message.as_str(), p.expected.as_deref(), p.line)).collect();
    assert_eq!(said, [("1025 lanes", Some("at most 1024"), 1 + 18 + 1 + 1025)]);
}

#[test]
fn stable_may_be_its_own_listener() {
    let text = SHOP.replace("198.18.1.100:80", "198.18.2.2:8080");
    assert!(ok(&text).warnings.is_empty());
}

#[test]
fn d2_several_files_are_one_policy() {
    let cart = SHOP.replace("shop", "cart").replace("198.18.1.100", "198.18.1.101");
    let routes =
        "cohorts: { early: { marks: [1] } }\n---\nroutes: [{ when: early, to: { version: 2.10 } }]\n";
    let sources = [
        Source::new("a", SHOP),
        Source::new("b", cart),
        Source::new("c", routes),
        Source::new("d", "# nothing\n"),
    ];
    let loaded = load(&sources).unwrap();
    let names: Vec<_> = loaded.policy.services.iter().map(|s| s.name.as_str()).collect();
    assert_eq!((names, loaded.policy.routes.len()), (vec!["shop", "cart"], 1));
}

#[test]
fn aliases_are_followed_and_checked_like_written_values() {
    let text = SHOP
        .replace("instances:", "instances: &servers")
        .replace("[\"198.18.1.100:80\"]", "&l [\"198.18.1.100:80\"]")
        + "  cart: { listen: [\"198.18.1.101:80\"], instances: *servers, stable: { version: 1.0 } }\n";
    let policy = ok(&text).policy;
    assert_eq!(policy.service("cart").unwrap().instances, policy.service("shop").unwrap().instances);
    let twice = read(&text.replace("listen: [\"198.18.1.101:80\"]", "listen: *l")).unwrap_err();
    assert_eq!(twice.errors[0].message, "`198.18.1.100:80` is listened on twice");
}

fn warnings(text: &str) -> Vec<String> {
    ok(text).warnings.into_iter().map(|w| w.message).collect()
}

#[test]
fn warnings_of_what_is_odd() {
    assert_eq!(warnings("# nothing"), ["no service is given"]);
    assert_eq!(
        warnings(&format!("{SHOP}cohorts: {{ early: {{ marks: [1] }} }}")),
        ["no route uses the cohort `early`"]
    );
    let shadow = format!(
        "{SHOP}cohorts: {{ a: {{ marks: [1] }}, b: {{ marks: [2] }} }}\nroutes:
  - {{ service: shop, when: {{ any: [a, b] }}, to: {{ version: 2.10 }} }}
  - {{ service: shop, when: {{ any: [b, {{ not: {{ not: a }} }}] }}, to: {{ version: 1.0 }} }}\n"
    );
    assert_eq!(warnings(&shadow), ["this route never applies"]);
    let partly = format!(
        "{SHOP}  cart:\n    listen: [\"198.18.1.101:80\"]\n    instances: [{{ address: \"198.18.2.9:80\", version: 1.0 }}]
    stable: {{ version: 1.0 }}\nroutes: [{{ to: {{ version: 2.10 }} }}]\n"
    );
    assert_eq!(warnings(&partly), ["no instance matches `version=2.10` in `cart`"]);
    let v6 = SHOP
        .replace("[\"198.18.1.100:80\"]", "[\"198.18.1.100:80\", \"[fd00:18::9]:80\"]")
        .replace("    stable:", "      - { address: \"[fd00:18::2]:8080\", version: 1.0 }\n    stable:")
        + "routes: [{ service: shop, to: { version: 2.10 } }]\n";
    assert_eq!(warnings(&v6), ["no instance of `shop` that matches `version=2.10` has an IPv6 address"]);
}

#[test]
fn a4_a_denial_of_nobody_or_everybody_is_odd() {
    let deny = |more: &str| {
        warnings(&SHOP.replace("    stable:", &format!("    on-missing-identity: deny\n{more}    stable:")))
    };
    let nobody = ["`deny` with `source` in `identify` denies no client whose packets are steered"];
    assert_eq!(deny(""), nobody);
    assert_eq!(deny("    identify: [mark, source]\n"), nobody);
    let all = ["`deny` denies every client whose packets are steered"];
    assert_eq!(deny("    identify: [workload]\n"), all);
    let app = "    claims: { app: { header: X-App-Id } }\n";
    assert_eq!(deny(&format!("{app}    identify: [mark]\n")), all);
    assert!(deny(&format!("{app}    identify: [app]\n")).is_empty());
    assert!(deny("    identify: [dscp, workload]\n").is_empty());
    assert!(deny("    identify: [tag, workload]\n").is_empty());
}

#[test]
fn e2_a_tag_is_an_identity() {
    let policy = |more: &str| SHOP.replace("    stable:", &format!("{more}    stable:"));
    let text = policy("    identify: [tag, source]\n");
    assert!(warnings(&text).is_empty());
    assert_eq!(ok(&text).policy.services[0].identify, [ClaimKind::Tag, ClaimKind::Source]);
    let text = policy("    claims: { app: { header: X-App-Id } }\n    identify: [app, tag]\n");
    assert!(warnings(&text).is_empty());
    let never = ["no `tag` is ever known of clients of a service that listens on UDP only"];
    let udp = policy("    identify: [tag, source]\n").replace(":80\"]", ":80/udp\"]");
    assert_eq!(warnings(&udp), never);
    assert!(warnings(&udp.replace("[tag, source]", "[source]")).is_empty());
}

/// CPU time of this thread: the clock on the wall says nothing on a busy machine.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1e9
}

/// A million addresses: seconds, not minutes, even in a debug build (release: well below 2 s).
#[test]
fn a5_a_million_sources_load() {
    let mut text = format!("{SHOP}cohorts:\n  big:\n    sources:\n");
    for i in 0..1_000_000_u32 {
        let [_, b, c, d] = i.to_be_bytes();
        text += &format!("      - 10.{b}.{c}.{d}\n");
    }
    text += "routes: [{ service: shop, when: big, to: { version: 2.10 } }]\n";
    let start = cpu_seconds();
    let policy = ok(&text).policy;
    let took = cpu_seconds() - start;
    let CohortBody::List { ids, .. } = &policy.cohorts[0].body else { panic!() };
    assert_eq!(ids.len(), 1_000_000);
    assert!(took < 20.0, "{took} s");
    assert_eq!(to_yaml(&policy).lines().filter(|l| l.starts_with("      - \"10.")).count(), 1_000_000);
}

#[test]
fn more_than_64_mib_is_refused_unread() {
    let found = read(&" ".repeat((64 << 20) + 1)).unwrap_err();
    assert_eq!(found.errors[0].message, "the documents are larger than 64 MiB");
}

#[test]
fn hostile_sizes_end_quickly() {
    for text in [
        "[".repeat(1 << 20),
        "- ".repeat(1 << 20),
        "{a: ".repeat(1 << 20),
        "? ".repeat(1 << 20),
        "&a ".repeat(1 << 18),
        "- \n".repeat(4_500_000),
        "\"".repeat(1 << 20),
        "a: ".repeat(1 << 20),
        "a:\n".repeat(1 << 18),
        "!".repeat(1 << 20),
    ] {
        let start = cpu_seconds();
        let found = read(&text);
        assert!(found.is_err(), "{}", &text[..8]);
        let took = cpu_seconds() - start;
        assert!(took < 30.0, "{:?}: {took} s", &text[..8]);
    }
}
