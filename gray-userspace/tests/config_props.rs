//! D4, property tests: no text makes `load` panic; what `to_yaml` writes is read back as the same policy.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use gray_userspace::{
    config::{Source, default_route_name, diff, load, to_yaml},
    model::*,
};
use proptest::{collection::vec, prelude::*, sample::select};

/// Names that plain YAML could take for something else are among them.
fn names() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9][a-z0-9._-]{0,12}",
        select(vec!["null", "true", "no", "1.0", "0x10", "y", "1e3", "a.b-c_d", "7"]).prop_map(str::to_owned),
    ]
}

fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        "[A-Za-z0-9._:/+@\"'#&*!|>%{}\\[\\]\\\\-]{1,20}",
        select(vec!["1.0", "2.10", "null", "~", "true", "#x", "- a", "é", "版本", "\u{2028}x", "\u{85}"])
            .prop_map(str::to_owned),
    ]
    .prop_filter("spaces, bars and controls are refused", |t| {
        !t.contains(|c: char| c.is_whitespace() || c.is_control() || c == '|')
    })
}

fn metas() -> impl Strategy<Value = BTreeMap<MetaKey, String>> {
    let key = select(vec![MetaKey::Region, MetaKey::Zone, MetaKey::Env, MetaKey::Group]);
    proptest::collection::btree_map(key, texts(), 0..3)
}

fn healths() -> impl Strategy<Value = Health> {
    let words = || "[!-~]{1,12}";
    let host = proptest::option::of("[a-z][a-z0-9.-]{0,12}");
    let probe = prop_oneof![
        Just(Probe::Tcp),
        ("/[a-z0-9/?&%=~\"'-]{0,12}", 100..600u16, 0..200u16, host).prop_map(|(path, first, more, host)| {
            Probe::Http { path, status: (first, (first + more).min(599)), host }
        }),
        ("[a-z][a-z.]{0,9}", vec(words(), 0..3))
            .prop_map(|(program, more)| { Probe::Command(std::iter::once(program).chain(more).collect()) }),
    ];
    let times = (100..3_600_000u32, 10..60_000u32, 0..3_600_000u32);
    let damping = (1..=100u32, 0..3_600_000u32, 0..80_000_000u32);
    let counts = (1..=100u32, 1..=100u32, 0..=50u32, proptest::option::of(1..=u16::MAX), any::<bool>());
    (probe, times, damping, counts).prop_map(
        |(probe, times, (flips, hold_ms, more), (rise, fall, jitter, port, keep))| {
            Health {
                // With a port, whatever the service listens on.
                port: port.or(Some(80)),
                probe,
                interval_ms: times.0,
                timeout_ms: times.1.min(times.0),
                rise,
                fall,
                jitter,
                slow_start_ms: times.2,
                damping: Damping { flips, hold_ms, max_ms: hold_ms + more },
                empty: if keep { Empty::Keep } else { Empty::Stable },
            }
        },
    )
}

type Raw = (Vec<(BTreeMap<MetaKey, String>, Option<String>, u16)>, Vec<ClaimKind>, bool, bool, Spread);
type Spread = (Option<Health>, bool);

fn services() -> impl Strategy<Value = Vec<Service>> {
    let claims = Just(ClaimKind::ALL.to_vec())
        .prop_shuffle()
        .prop_flat_map(|all| (1..=4usize).prop_map(move |n| all[..n].to_vec()));
    let instance = (metas(), proptest::option::of(texts()), 1..=1000u16);
    let balance = (proptest::option::of(healths()), any::<bool>());
    let raw = (vec(instance, 1..4), claims, any::<bool>(), any::<bool>(), balance);
    proptest::collection::btree_map(names(), raw, 0..4).prop_map(|all| {
        all.into_iter()
            .enumerate()
            .map(|(n, (name, raw))| service(u8::try_from(n).unwrap(), name, raw))
            .collect()
    })
}

fn service(n: u8, name: String, (raw, identify, v6, udp, (health, sticky)): Raw) -> Service {
    let at = |host: u8, port: u16| {
        let text =
            if v6 { format!("[fd00:18::{n}:{host}]:{port}") } else { format!("198.18.{n}.{host}:{port}") };
        text.parse().unwrap()
    };
    let mut ids = BTreeSet::new();
    let instances: Vec<_> = (1u8..)
        .zip(raw)
        .map(|(i, (mut meta, id, weight))| {
            let _ = meta.insert(MetaKey::Version, format!("{}.0", i.min(2)));
            let address: std::net::SocketAddr = at(i, 8080);
            let id = id.filter(|id| ids.insert(id.clone())).unwrap_or_else(|| address.to_string());
            Instance { id, address, meta, weight }
        })
        .collect();
    let proto = if udp { Proto::Udp } else { Proto::Tcp };
    let mut identify = identify;
    if udp {
        identify.retain(|c| !c.is_read());
        if identify.is_empty() {
            identify.push(ClaimKind::Source);
        }
    }
    let place = |c: &ClaimKind| match c {
        ClaimKind::App | ClaimKind::Tenant => Place::Header(c.usual_header().into()),
        _ if v6 => Place::Cookie(c.name().into()),
        _ => Place::Query(c.name().into()),
    };
    let claims: BTreeMap<_, _> = identify.iter().filter(|c| c.is_read()).map(|c| (*c, place(c))).collect();
    let tls =
        if v6 && !claims.is_empty() { BTreeMap::from([(ClaimKind::App, Tls::Sni)]) } else { BTreeMap::new() };
    let hook = || Webhook { host: "fd00::9".into(), port: 8080, path: "/a?b=c'd".into() };
    let alarm = Alarm {
        over: if v6 { Over::Percent(1234) } else { Over::PerSecond(7) },
        clear: 5,
        window_ms: 90_000,
        least: 20,
        webhook: sticky.then(hook),
        command: v6.then(|| vec!["page".into(), "true".into()]),
    };
    let alarm = (!claims.is_empty()).then(|| Arc::new(alarm));
    let per = if sticky && !claims.is_empty() { Per::Request } else { Per::Connection };
    let first_byte = Millis(if sticky && !claims.is_empty() { 1500 } else { 30_000 });
    Service {
        name,
        listen: vec![
            Listener { addr: at(100, 80), proto },
            Listener { addr: at(1, 8080), proto: Proto::Tcp },
        ],
        identify,
        per,
        first_byte,
        instance_timeout: Millis(if v6 && !claims.is_empty() { 250 } else { 1_000 }),
        claims,
        tlvs: BTreeMap::new(),
        proxies: Vec::new(),
        tls,
        on_missing: if sticky { OnMissing::Deny } else { OnMissing::Stable },
        breaker: v6.then_some(Breaker {
            failures: 128,
            window: Millis(1500),
            open: Millis(60_000),
            retransmits: 6,
        }),
        agent_lease: sticky.then_some(Millis(if v6 { 30_000 } else { 5_250 })),
        alarm,
        nat: Nat::Dnat,
        encapsulation: Encapsulation::Ipip,
        balance: if udp && !sticky { Balance::RoundRobin } else { Balance::Maglev },
        affinity: if sticky { Affinity::Client } else { Affinity::Connection },
        zone_affinity: match (v6, udp) {
            (false, false) => ZoneAffinity::Off,
            (true, false) => ZoneAffinity::Prefer,
            _ => ZoneAffinity::Only,
        },
        health,
        stable: Selector::one(MetaKey::Version, "1.0"),
        failover_by: if sticky {
            BTreeMap::from([
                (MetaKey::Version, Failover::To(Selector::one(MetaKey::Version, "1.0"))),
                (MetaKey::Zone, Failover::Any),
                (MetaKey::Address, Failover::Deny),
            ])
        } else {
            BTreeMap::new()
        },
        failover: if sticky { Failover::Any } else { Failover::To(Selector::one(MetaKey::Version, "1.0")) },
        blacklist: Blacklist {
            ids: ["somebody".to_owned()].into(),
            addresses: ["10.*.*.9".to_owned()].into(),
        },
        shadow: sticky,
        measure_full: !sticky,
        headers: None,
        accept: Vec::new(),
        instances,
    }
}

fn bodies() -> impl Strategy<Value = CohortBody> {
    let nets =
        (1u64 << 61..u64::MAX).prop_map(|n| format!("{}/64", std::net::Ipv6Addr::from(u128::from(n) << 64)));
    let nets = proptest::collection::btree_set(nets, 0..20)
        .prop_map(|ids| CohortBody::List { of: ClaimKind::Source, ids });
    let all = select(ClaimKind::ALL.to_vec()).prop_flat_map(|of| {
        proptest::collection::btree_set(values(of), 0..20).prop_map(move |ids| CohortBody::List { of, ids })
    });
    let digits = proptest::collection::btree_set("[0-9]{1,2}", 1..6);
    let tails =
        (select(ClaimKind::READ.to_vec()), digits).prop_map(|(of, digits)| CohortBody::Tail { of, digits });
    prop_oneof![
        4 => all,
        1 => nets,
        1 => tails,
        1 => (proptest::option::of(select(ClaimKind::ALL.to_vec())), 0..=10_000u16, texts())
            .prop_map(|(of, basis_points, salt)| CohortBody::Percent { of, basis_points, salt }),
    ]
}

/// Values of a claim in their canonical texts.
fn values(of: ClaimKind) -> BoxedStrategy<String> {
    match of {
        ClaimKind::Source => any::<std::net::Ipv4Addr>().prop_map(|a| a.to_string()).boxed(),
        ClaimKind::Mark => (1..=u32::MAX).prop_map(|n| n.to_string()).boxed(),
        ClaimKind::Dscp => (1..64u8).prop_map(|n| n.to_string()).boxed(),
        ClaimKind::Workload => texts().prop_filter("a workload", |t| t.len() <= 64).boxed(),
        _ => (texts().prop_filter("a claim", |t| t.len() <= 32 && !t.contains('*')), 0..8u8)
            .prop_map(|(t, n)| if n == 0 { format!("{}*", &t[..t.floor_char_boundary(4)]) } else { t })
            .boxed(),
    }
}

fn conditions(cohorts: Vec<String>, claims: Vec<ClaimKind>) -> impl Strategy<Value = Condition> {
    let claim = select(claims).prop_flat_map(|of| {
        proptest::collection::btree_set(values(of), 1..4)
            .prop_map(move |values| Condition::Claim { of, values })
    });
    let pairs = vec![
        (CallerKey::Version, vec!["1.0"]),
        (CallerKey::Service, vec!["a|b", "no"]),
        (CallerKey::Zone, vec!["2.0", "1e3"]),
    ];
    let caller = proptest::sample::subsequence(pairs, 1..=3).prop_map(|pairs| {
        let set = |(key, any): (CallerKey, Vec<&str>)| {
            (key, any.into_iter().filter(|v| !v.contains('|')).map(str::to_owned).collect())
        };
        Condition::Caller(Caller(pairs.into_iter().map(set).collect()))
    });
    let claim = prop_oneof![3 => claim, 1 => caller];
    let leaf = match cohorts.is_empty() {
        true => claim.boxed(),
        false => prop_oneof![2 => select(cohorts).prop_map(Condition::Cohort), 1 => claim].boxed(),
    };
    leaf.prop_recursive(4, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 1..4).prop_map(Condition::All),
            vec(inner.clone(), 1..4).prop_map(Condition::Any),
            inner.prop_map(|c| Condition::Not(Box::new(c))),
        ]
    })
}

fn lanes(services: &[Service]) -> BoxedStrategy<Vec<Lane>> {
    if services.is_empty() {
        return Just(Vec::new()).boxed();
    }
    let version = Selector::one(MetaKey::Version, "1.0");
    let named: Vec<_> = services.iter().map(|s| s.name.clone()).collect();
    let most = named.len();
    let subsets = proptest::sample::subsequence(named, 1..=most)
        .prop_map(move |all| all.into_iter().map(|s| (s, version.clone())).collect::<BTreeMap<_, _>>());
    proptest::collection::btree_map(names(), subsets, 0..3)
        .prop_map(|all| all.into_iter().map(|(name, subsets)| Lane { name, subsets }).collect())
        .boxed()
}

fn routes(services: &[Service], cohorts: &[Cohort], lanes: &[Lane]) -> BoxedStrategy<Vec<Route>> {
    if services.is_empty() {
        return Just(Vec::new()).boxed();
    }
    let service = select(services.iter().map(|s| Some(s.name.clone())).chain([None]).collect::<Vec<_>>());
    let names: Vec<_> = cohorts.iter().map(|c| c.name.clone()).collect();
    // Those that every service knows.
    let known = |of: &ClaimKind| !of.is_read() || services.iter().all(|s| s.claims.contains_key(of));
    let when = proptest::option::of(conditions(names, ClaimKind::ALL.into_iter().filter(known).collect()));
    let route = (proptest::option::of(self::names()), service, when, proptest::option::of(0..=10_000u16));
    let two = services.iter().all(|s| s.instances.len() > 1);
    let lanes: Vec<_> = lanes.iter().map(|l| l.name.clone()).collect();
    vec(route, 0..6)
        .prop_map(move |raw| {
            let mut taken = BTreeSet::new();
            let version = |v: &str| Selector::one(MetaKey::Version, v);
            let route = |(name, service, when, weight): (
                Option<String>,
                Option<String>,
                Option<Condition>,
                Option<u16>,
            )| {
                let to = match weight.filter(|_| two) {
                    None => vec![Arm { subset: version("1.0"), basis_points: 10_000 }],
                    Some(w) => vec![
                        Arm { subset: version("1.0"), basis_points: 10_000 - w },
                        Arm { subset: version("2.0"), basis_points: w },
                    ],
                };
                let lane = weight.map(usize::from).and_then(|w| lanes.get(w % 4));
                let to = match lane.filter(|_| service.is_none()) {
                    Some(lane) => Target::Lane(lane.clone()),
                    None => Target::Arms(to),
                };
                let made = default_route_name(service.as_deref(), when.as_ref(), &to);
                let name = name.filter(|_| true).unwrap_or(made);
                (name.len() <= 253 && taken.insert(name.clone())).then_some(Route { name, service, when, to })
            };
            raw.into_iter().filter_map(route).collect()
        })
        .boxed()
}

fn policies() -> impl Strategy<Value = Policy> {
    let cohorts = proptest::collection::btree_map(names(), bodies(), 0..5)
        .prop_map(|all| all.into_iter().map(|(name, body)| Cohort { name, body }).collect::<Vec<_>>());
    let both = (services(), cohorts).prop_flat_map(|(services, cohorts)| {
        lanes(&services).prop_map(move |lanes| (services.clone(), cohorts.clone(), lanes))
    });
    both.prop_flat_map(|(services, cohorts, lanes)| {
        routes(&services, &cohorts, &lanes).prop_map(move |routes| Policy {
            blacklist: Blacklist { ids: ["nobody".to_owned()].into(), addresses: ["9".to_owned()].into() },
            services: services.clone(),
            cohorts: cohorts.clone(),
            lanes: lanes.clone(),
            routes,
            workloads: vec![Workload {
                name: "null".into(),
                meta: BTreeMap::from([
                    (CallerKey::Version, "1.0".into()),
                    (CallerKey::Service, "no".into()),
                    (CallerKey::Zone, "1e3".into()),
                ]),
            }],
        })
    })
}

const VALID: &str = include_str!("../../examples/weights.yaml");

/// Pieces that documents break with.
fn pieces() -> impl Strategy<Value = String> {
    let known = vec![
        "services:",
        "cohorts:",
        "lanes:",
        "routes:",
        "shop:",
        "instances:",
        "- ",
        "{",
        "}",
        "[",
        "]",
        ": ",
        "&a ",
        "*a",
        "!t ",
        "\"",
        "'",
        "#",
        "\n",
        "  ",
        "\t",
        "---\n",
        "...\n",
        "? ",
        "| ",
        "> ",
        "%YAML 1.2\n",
        "<<: *a",
        "percent: 101",
        "weight: -1",
        "null",
        "\u{0}",
        "\u{feff}",
        "é",
        "版",
        "\r\n",
        "[fd00::1]:0",
        "not: ",
        "all: []",
        "@",
        "`",
        "\\x",
    ];
    prop_oneof![4 => select(known).prop_map(str::to_owned), 1 => any::<String>()]
}

fn mutate(text: &str, edits: &[(usize, usize, String)]) -> String {
    let mut text = text.to_owned();
    for (at, cut, piece) in edits {
        let at = text.floor_char_boundary(at % (text.len() + 1));
        let end = text.floor_char_boundary((at + cut).min(text.len()));
        text.replace_range(at..end, piece);
    }
    text
}

/// Loads; what is accepted must round trip, what is refused must print.
fn survives(text: &str) {
    match load(&[Source::new("p", text)]) {
        Ok(loaded) => {
            let yaml = to_yaml(&loaded.policy);
            let again = load(&[Source::new("again", &*yaml)]).unwrap_or_else(|p| panic!("{p}\n{yaml}"));
            assert_eq!(again.policy, loaded.policy, "{yaml}");
        }
        Err(problems) => {
            assert!(!problems.errors.is_empty());
            assert!(
                problems.errors.iter().all(|p| p.line >= 1 && p.column >= 1 && !p.message.is_empty()),
                "{problems:?}"
            );
            assert!(!problems.render(true).is_empty());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn load_never_panics_on_any_text(text in any::<String>()) {
        survives(&text);
    }

    #[test]
    fn load_never_panics_on_pieces(pieces in vec(pieces(), 0..40)) {
        survives(&pieces.concat());
    }

    #[test]
    fn load_never_panics_on_mutated_documents(edits in vec((any::<usize>(), 0..12usize, pieces()), 1..6)) {
        survives(&mutate(VALID, &edits));
    }

    #[test]
    fn to_yaml_is_read_back_as_the_same_policy(policy in policies()) {
        let yaml = to_yaml(&policy);
        let loaded = load(&[Source::new("p", &*yaml)]).unwrap_or_else(|p| panic!("{p}\n{yaml}"));
        prop_assert_eq!(&loaded.policy, &policy, "{}", yaml);
        prop_assert_eq!(diff(&policy, &loaded.policy), vec![]);
    }

    #[test]
    fn diff_is_empty_only_for_equal_policies(a in policies(), b in policies()) {
        let sorted = |p: &Policy| {
            let mut p = p.clone();
            p.services.sort_by(|x, y| x.name.cmp(&y.name));
            p.cohorts.sort_by(|x, y| x.name.cmp(&y.name));
            p.lanes.sort_by(|x, y| x.name.cmp(&y.name));
            p
        };
        prop_assert_eq!(diff(&a, &b).is_empty(), sorted(&a) == sorted(&b));
    }
}
