//! The decision as a table of cases and as promises that must hold for every identity.

use proptest::prelude::*;

use super::{mem::MemTables, *};
use crate::{
    decide::{bucket::in_percent, claims::*},
    hash::HashKey,
    limits, nets,
    slots::Slots,
    wire::*,
};

const KEY: HashKey = HashKey { k0: 11, k1: 22 };
const STABLE: u32 = 0;
const GRAY: u32 = 1;
const EMPTY: u32 = 2;

fn addr(last: u8) -> Addr {
    Addr::v4(u32::from_ne_bytes([198, 18, 1, last]))
}

fn instance(last: u8) -> Instance {
    Instance {
        addr: Addr::v4(u32::from_ne_bytes([198, 18, 2, last])),
        port: 80u16.to_be(),
        proto: 6,
        live: 1,
    }
}

/// One service with a stable instance 1, a gray instance 2 and an empty subset; epoch 2, bank 0.
fn world(cases: &[Case]) -> MemTables {
    let mut t = MemTables::default();
    t.control.epoch = 2;
    let service = Service {
        stable_subset: STABLE,
        id: 7,
        rules: cases.len() as u16,
        identify: [WORKLOAD, SOURCE, 0, 0],
        list_kinds: 1 << SOURCE | 1 << WORKLOAD | 1 << MARK,
        flags: SERVICE_PREFIXES,
        ..Service::default()
    };
    let mut facts: Vec<Fact> = Vec::new();
    let mut mask = |wanted: &[Fact]| {
        wanted.iter().fold(0u64, |m, f| {
            let at = facts.iter().position(|o| o == f).unwrap_or_else(|| {
                facts.push(*f);
                facts.len() - 1
            });
            m | 1 << at
        })
    };
    for (i, c) in cases.iter().enumerate() {
        let (need, forbid) = (mask(&c.need), mask(&c.forbid));
        let _ = t.rules.insert(i as u32, Rule { need, forbid, ..c.rule });
    }
    let _ = t.services.insert(0, Service { facts: facts.len() as u16, ..service });
    for (i, f) in facts.into_iter().enumerate() {
        let _ = t.facts.insert(i as u32, f);
    }
    let stable = table(&mut t, 0, [1]);
    let gray = table(&mut t, 1000, [2]);
    let _ = t.subsets.insert(STABLE, Subset { v4: stable, arm: ARM_STABLE, ..Subset::default() });
    let _ = t.subsets.insert(GRAY, Subset { v4: gray, arm: ARM_GRAY, ..Subset::default() });
    let _ = t.subsets.insert(EMPTY, Subset { arm: ARM_GRAY, ..Subset::default() });
    for i in 0..2 {
        let _ = t.instances.insert(i + 1, instance(i as u8 + 1));
    }
    t
}

/// A table at a place of the arena, by the number of the instance in each slot.
fn table(t: &mut MemTables, offset: u32, numbers: impl IntoIterator<Item = u32>) -> Table {
    let slots = Slots::of(numbers);
    t.arena.extend((offset..).zip(slots.words().iter().copied()));
    slots.at(offset)
}

/// A rule and the facts it is about: (need, forbid) as facts.
struct Case {
    rule: Rule,
    need: Vec<Fact>,
    forbid: Vec<Fact>,
}

fn to(target: u32, id: u16, need: &[Fact]) -> Case {
    but_not(target, id, need, &[])
}

fn but_not(target: u32, id: u16, need: &[Fact], forbid: &[Fact]) -> Case {
    let rule = Rule { target, id, precedence: Precedence::Condition as u8, ..Rule::default() };
    Case { rule, need: need.to_vec(), forbid: forbid.to_vec() }
}

fn list(bit: u32) -> Fact {
    Fact { kind: FACT_LIST, value: bit, ..Fact::default() }
}

fn percent(bp: u32) -> Fact {
    Fact { kind: FACT_PERCENT, value: bp, salt: 99, ..Fact::default() }
}

fn on_list(t: &mut MemTables, hash: u64, class: u32, bit: u32) {
    let mut lists = [0; 4];
    lists[(bit / 64) as usize] = 1 << (bit % 64);
    let _ = t.classes.insert(class, Class { lists });
    let _ = t.identities.insert(hash, Versioned { since: 1, old: 0, new: class });
}

fn ask(t: &MemTables, last: u8, is_self: bool) -> Verdict {
    let mut claims = Claims::none(0);
    let source = addr(last);
    claims.set_source(KEY, &source);
    let listener = ListenerValue::new(0, is_self);
    decide(
        &t.view(),
        &Request { listener, claims: &claims, source: Some(&source), is_v4: true, seed: 5, spares: 0 },
    )
}

fn source_hash(last: u8) -> u64 {
    let mut c = Claims::none(0);
    c.set_source(KEY, &addr(last));
    c.of(SOURCE)
}

fn steered(v: Verdict) -> Decision {
    match v {
        Verdict::Steer(d) => d,
        other => panic!("not steered: {other:?}"),
    }
}

#[test]
fn b1_a_listed_client_goes_to_gray_and_others_to_stable() {
    let mut t = world(&[to(GRAY, 3, &[list(70)])]);
    on_list(&mut t, source_hash(3), 1, 70);
    let d = steered(ask(&t, 3, false));
    assert_eq!((d.instance, d.arm, d.rule, d.service), (instance(2), 1, 3, 7));
    let d = steered(ask(&t, 4, false));
    assert_eq!((d.instance, d.arm, d.rule, d.reason), (instance(1), 0, 0, Reason::Default as u8));
}

/// Who is not known is refused before any rule is looked at, unless this is spared here.
#[test]
fn a4_nobody_is_refused_where_the_service_says_so() {
    let mut t = world(&[to(GRAY, 3, &[list(70)])]);
    on_list(&mut t, source_hash(3), 1, 70);
    let asked = |t: &MemTables, spares| {
        let mut claims = Claims::none(0);
        claims.set_source(KEY, &addr(3));
        let listener = ListenerValue::new(0, false);
        let source = addr(3);
        decide(
            &t.view(),
            &Request { listener, claims: &claims, source: Some(&source), is_v4: true, seed: 5, spares },
        )
    };
    let set = |t: &mut MemTables, identify, flags| {
        t.services.values_mut().for_each(|s| (s.identify, s.flags) = ([identify, 0, 0, 0], flags));
    };
    set(&mut t, MARK, 0);
    assert_eq!(steered(asked(&t, 0)).arm, 1, "no identity, and on a list");
    set(&mut t, MARK, SERVICE_DENY);
    match asked(&t, 0) {
        Verdict::Deny(d) => assert_eq!((d.reason, d.service, d.rule), (Reason::Denied as u8, 7, 0)),
        other => panic!("{other:?}"),
    }
    assert_eq!(steered(asked(&t, SERVICE_DENY)).arm, 1, "spared");
    assert!(matches!(asked(&t, SERVICE_REQUEST), Verdict::Deny(_)), "it is none of those");
    set(&mut t, SOURCE, SERVICE_DENY);
    assert_eq!(steered(asked(&t, 0)).arm, 1, "its source is its identity");
}

#[test]
fn a5_a_prefix_makes_a_member_and_the_longest_wins() {
    let mut t = world(&[to(GRAY, 3, &[list(0)])]);
    let _ = t.classes.insert(1, Class { lists: [1, 0, 0, 0] });
    let _ = t.classes.insert(2, Class { lists: [2, 0, 0, 0] });
    // 198.18.1.0/24 is of class 1, 198.18.1.8/30 in it of class 2.
    for bank in 0..2 {
        let _ = t.nets.insert(bank * limits::NETS + (198 << 8 | 18), nets::block(7));
    }
    let words = [(0, 0), (0x100, 1), (0x108, 2), (0x10c, 1), (0x200, 0)];
    t.bounds.extend((7..).zip([5].into_iter().chain(words.map(|(low, class)| nets::word(low, class)))));
    assert_eq!(steered(ask(&t, 1, false)).arm, 1);
    assert_eq!(steered(ask(&t, 9, false)).arm, 0);
    assert_eq!(steered(ask(&t, 12, false)).arm, 1);
}

#[test]
fn the_first_matching_rule_wins_and_a_negated_term_excludes() {
    let mut t =
        world(&[but_not(EMPTY, 1, &[list(1)], &[list(0)]), to(GRAY, 2, &[list(0)]), to(STABLE, 3, &[])]);
    on_list(&mut t, source_hash(3), 1, 0);
    on_list(&mut t, source_hash(4), 2, 1);
    assert_eq!(steered(ask(&t, 3, false)).rule, 2);
    assert_eq!(steered(ask(&t, 4, false)).rule, 1);
    assert_eq!(steered(ask(&t, 5, false)).rule, 3);
}

#[test]
fn e1_a_connection_in_a_lane_meets_rules_of_that_lane_and_of_any() {
    let lane = |value| Fact { kind: FACT_LANE, value, ..Fact::default() };
    let t = world(&[to(GRAY, 1, &[lane(7)]), but_not(GRAY, 2, &[percent(10_000)], &[lane(0)])]);
    let rule = |lane: u64| {
        let mut claims = Claims { lane, ..Claims::none(0) };
        claims.set_source(KEY, &addr(1));
        let listener = ListenerValue::new(0, false);
        let r = Request { listener, claims: &claims, source: None, is_v4: true, seed: 5, spares: 0 };
        steered(decide(&t.view(), &r)).rule
    };
    // In lane 7; in one that no rule is about, which the second rule excludes; in none.
    assert_eq!([rule(7), rule(8), rule(0)], [1, 0, 2]);
}

#[test]
fn an_empty_subset_falls_over_to_stable() {
    let t = world(&[to(EMPTY, 4, &[])]);
    let d = steered(ask(&t, 3, false));
    assert_eq!((d.instance, d.arm, d.reason, d.rule), (instance(1), 0, Reason::Failover as u8, 4));
}

/// The rule is counted, and the connection is stable's in everything else; where stable has the address, it is left there.
#[test]
fn c14_in_shadow_everybody_goes_to_stable() {
    let mut t = world(&[to(GRAY, 3, &[list(0)]), to(EMPTY, 4, &[list(1)]), to(STABLE, 5, &[list(2)])]);
    for (last, bit) in [(3, 0), (4, 1), (5, 2)] {
        on_list(&mut t, source_hash(last), u32::from(last), bit);
    }
    let seen = |d: Decision| (d.instance, d.arm, d.rule, d.reason);
    let condition = Reason::Condition as u8;
    assert_eq!(seen(steered(ask(&t, 3, false))), (instance(2), 1, 3, condition));
    t.services.get_mut(&0).unwrap().flags |= kept_by(Reason::Shadow);
    let stable = instance(1);
    for (last, want) in [
        (3, (stable, 0, 3, Reason::Shadow as u8)),
        (4, (stable, 0, 4, Reason::Failover as u8)),
        (5, (stable, 0, 5, condition)),
        (6, (stable, 0, 0, Reason::Default as u8)),
    ] {
        assert_eq!(seen(steered(ask(&t, last, false))), want);
        assert!(
            matches!(ask(&t, last, true), Verdict::Stay(d) if (d.arm, d.rule, d.reason) == (0, want.2, want.3))
        );
    }
}

/// As in shadow, from the lease's end until it is renewed; of services without one nothing is asked.
#[test]
fn f14_without_an_agent_everybody_goes_to_stable_where_the_service_says_so() {
    let mut t = world(&[to(GRAY, 3, &[list(0)]), to(EMPTY, 4, &[list(1)])]);
    on_list(&mut t, source_hash(3), 1, 0);
    on_list(&mut t, source_hash(4), 2, 1);
    (t.control.hz, t.control.renewed) = (250, 1_000);
    let seen = |t: &MemTables, last| {
        let d = steered(ask(t, last, false));
        (d.instance, d.arm, d.rule, d.reason)
    };
    let (gray, stable) = (instance(2), instance(1));
    let condition = Reason::Condition as u8;
    t.now = 100_000;
    assert_eq!(seen(&t, 3), (gray, 1, 3, condition), "the service wants none");
    let s = t.services.get_mut(&0).unwrap();
    (s.flags, s.lease_ms) = (s.flags | SERVICE_LEASE, 30_000);
    t.now = 1_000 + 30 * 250;
    assert_eq!(seen(&t, 3), (gray, 1, 3, condition));
    t.now += 1;
    assert_eq!(seen(&t, 3), (stable, 0, 3, Reason::AgentLost as u8));
    assert_eq!(seen(&t, 4), (stable, 0, 4, Reason::Failover as u8));
    assert_eq!(seen(&t, 5), (stable, 0, 0, Reason::Default as u8));
    assert!(
        matches!(ask(&t, 3, true), Verdict::Stay(d) if (d.arm, d.reason) == (0, Reason::AgentLost as u8))
    );
    t.subsets.get_mut(&GRAY).unwrap().flags |= SUBSET_DENY;
    assert_eq!(seen(&t, 3).3, Reason::AgentLost as u8, "that is about empty subsets");
    t.services.get_mut(&0).unwrap().flags |= kept_by(Reason::Shadow);
    assert_eq!(seen(&t, 3).3, Reason::Shadow as u8);
    t.services.get_mut(&0).unwrap().flags &= !kept_by(Reason::Shadow);
    t.control.renewed = t.now;
    assert_eq!(seen(&t, 3), (gray, 1, 3, condition), "there is an agent again");
}

/// While it is open, as without an agent; then one tries, which its flow is marked with. It is asked of gray's connections alone.
#[test]
fn f15_while_its_breaker_is_open_gray_gets_nobody_new() {
    let mut t = world(&[to(GRAY, 3, &[list(0)]), to(EMPTY, 4, &[list(1)])]);
    on_list(&mut t, source_hash(3), 1, 0);
    on_list(&mut t, source_hash(4), 2, 1);
    (t.control.hz, t.control.renewed, t.now) = (250, 1_000, 1_000);
    let seen = |t: &MemTables, last| {
        let d = steered(ask(t, last, false));
        (d.instance, d.arm, d.rule, d.reason, t.view().marks(&d))
    };
    let (gray, stable) = (instance(2), instance(1));
    let condition = Reason::Condition as u8;
    let _ = t.trips.insert(7, Trip { opened: 1_000, ..Trip::default() });
    assert_eq!(seen(&t, 3), (gray, 1, 3, condition, 0), "the service has none");
    let s = t.services.get_mut(&0).unwrap();
    s.flags |= SERVICE_BREAKER;
    s.breaker = Breaker { window_ms: 10_000, open_ms: 30_000, failures: 5, retransmits: 0 };
    assert_eq!(seen(&t, 3), (stable, 0, 3, Reason::Broken as u8, 0));
    assert_eq!(seen(&t, 4), (stable, 0, 4, Reason::Failover as u8, 0));
    assert_eq!(seen(&t, 5), (stable, 0, 0, Reason::Default as u8, 0));
    assert!(matches!(ask(&t, 3, true), Verdict::Stay(d) if (d.arm, d.reason) == (0, Reason::Broken as u8)));
    t.now += 30 * 250 + 1;
    assert_eq!(seen(&t, 3), (gray, 1, 3, condition, MARK_WATCHED | MARK_TRIES));
    t.trips.get_mut(&7).unwrap().opened = 0;
    assert_eq!(seen(&t, 3), (gray, 1, 3, condition, MARK_WATCHED));
    assert_eq!(seen(&t, 5), (stable, 0, 0, Reason::Default as u8, 0));
    t.services.get_mut(&0).unwrap().flags |= kept_by(Reason::Shadow);
    assert_eq!(seen(&t, 3), (stable, 0, 3, Reason::Shadow as u8, 0));
}

/// Counted for the rule, of no arm; a client of a subset that serves is not refused, and in shadow nobody is.
#[test]
fn c6_where_failover_denies_the_clients_of_an_empty_subset_are_refused() {
    let mut t = world(&[to(EMPTY, 4, &[list(0)]), to(GRAY, 5, &[list(1)])]);
    on_list(&mut t, source_hash(3), 1, 0);
    on_list(&mut t, source_hash(4), 2, 1);
    t.subsets.get_mut(&EMPTY).unwrap().flags = SUBSET_DENY;
    for is_self in [false, true] {
        match ask(&t, 3, is_self) {
            Verdict::Deny(d) => {
                assert_eq!((d.reason, d.rule, d.refused), (Reason::FailoverDenied as u8, 4, 1));
                assert_eq!((d.instance, d.arm), (Instance::default(), 0));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(steered(ask(&t, 4, false)).arm, 1);
    assert_eq!(steered(ask(&t, 5, false)).reason, Reason::Default as u8);
    t.services.get_mut(&0).unwrap().flags |= kept_by(Reason::Shadow);
    assert_eq!(steered(ask(&t, 3, false)).reason, Reason::Failover as u8);
}

#[test]
fn c13_nobody_gets_to_a_subset_that_refuses() {
    let mut t = world(&[to(GRAY, 3, &[list(0)])]);
    on_list(&mut t, source_hash(3), 1, 0);
    t.subsets.get_mut(&GRAY).unwrap().flags = SUBSET_REFUSE;
    for is_self in [false, true] {
        match ask(&t, 3, is_self) {
            Verdict::Deny(d) => {
                assert_eq!((d.reason, d.rule, d.refused), (Reason::Isolated as u8, 3, 1));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(steered(ask(&t, 4, false)).reason, Reason::Default as u8);
}

#[test]
fn with_no_stable_instance_either_the_traffic_is_left_alone() {
    let mut t = world(&[to(EMPTY, 4, &[])]);
    let _ = t.subsets.insert(STABLE, Subset::default());
    assert_eq!(ask(&t, 3, false), Verdict::Pass(Reason::NoInstance));
}

#[test]
fn stable_on_its_own_address_stays() {
    let t = world(&[to(GRAY, 3, &[list(0)])]);
    assert!(matches!(ask(&t, 3, true), Verdict::Stay(d) if d.arm == 0));
}

#[test]
fn stable_leaves_its_own_address_while_health_has_it_away() {
    let mut t = world(&[to(EMPTY, 4, &[])]);
    for (flags, stays) in [(SUBSET_AWAY6, true), (SUBSET_AWAY4, false)] {
        t.subsets.get_mut(&STABLE).unwrap().flags = flags;
        match ask(&t, 3, true) {
            Verdict::Stay(d) => assert!(stays && d.reason == Reason::Failover as u8),
            v => assert_eq!((steered(v).instance, stays), (instance(1), false)),
        }
    }
}

/// C13: one client, one instance; who has no identity is spread by connection.
#[test]
fn c11_affinity_by_client() {
    let mut t = world(&[]);
    t.services.get_mut(&0).unwrap().flags |= SERVICE_AFFINITY;
    let many = table(&mut t, 0, (0..101).map(|i| 1 + i % 2));
    t.subsets.get_mut(&STABLE).unwrap().v4 = many;
    let servers = |last: Option<u8>| {
        let mut claims = Claims::none(0);
        if let Some(last) = last {
            claims.set_source(KEY, &addr(last));
        }
        let listener = ListenerValue::new(0, false);
        let ask = |seed| {
            let r = Request { listener, claims: &claims, source: None, is_v4: true, seed, spares: 0 };
            steered(decide(&t.view(), &r)).instance.addr
        };
        (0..64).map(ask).collect::<std::collections::BTreeSet<_>>()
    };
    let each: Vec<_> = (0..64).map(|last| servers(Some(last))).collect();
    assert!(each.iter().all(|s| s.len() == 1), "one client, one instance");
    let all: std::collections::BTreeSet<_> = each.iter().flatten().collect();
    assert_eq!(all.len(), 2, "and not the same for all");
    assert_eq!(servers(None).len(), 2, "nothing is known of this one");
}

/// Another instance than those two that were tried, from any place on, also where nearly all slots are one's; `None`: there is none.
#[test]
fn c7_another_instance_than_those_that_were_tried() {
    let mut t = world(&[]);
    let _ = t.instances.insert(3, instance(3));
    let many = table(&mut t, 0, (0..211).map(|i| 1 + i % 3));
    let other = |t: &MemTables, choice, a, b| another(&t.view(), many, choice, [&instance(a), &instance(b)]);
    for choice in 0..200 {
        assert_eq!(other(&t, choice, 1, 2), Some(3));
        assert_eq!(other(&t, choice, 3, 1), Some(2));
        assert!(matches!(other(&t, choice, 2, 2), Some(1 | 3)));
    }
    let both: std::collections::BTreeSet<_> = (0..200).map(|choice| other(&t, choice, 2, 2)).collect();
    assert_eq!(both.len(), 2, "those that are left share its clients");
    let _ = table(&mut t, 0, (0..211).map(|i| 1 + u32::from(i == 7)));
    for choice in 0..200 {
        assert_eq!(other(&t, choice, 1, 1), Some(2));
        assert_eq!(other(&t, choice, 1, 2), None);
    }
    let none = Table { offset: 0, len: 0 };
    assert_eq!(another(&t.view(), none, 5, [&instance(1), &instance(2)]), None);
}

/// C11: the instances of a subset take turns, whoever the client is; each family has turns of its own.
#[test]
fn c11_round_robin_by_turns() {
    let mut t = world(&[]);
    t.services.get_mut(&0).unwrap().flags |= SERVICE_ROUND_ROBIN;
    let seven = table(&mut t, 0, (0..7).map(|i| 1 + i % 2));
    let subset = t.subsets.get_mut(&STABLE).unwrap();
    (subset.v4, subset.v6) = (seven, seven);
    let view = t.view();
    let ask = |is_v4| {
        let claims = Claims::none(0);
        let listener = ListenerValue::new(0, false);
        let r = Request { listener, claims: &claims, source: None, is_v4, seed: 42, spares: 0 };
        steered(decide(&view, &r)).instance
    };
    let (a, b) = (instance(1), instance(2));
    assert_eq!([ask(true), ask(false), ask(true), ask(false)], [a, a, b, b]);
    let rest: Vec<_> = (0..12).map(|_| ask(true)).collect();
    assert_eq!(rest, [a, b, a, b, a, a, b, a, b, a, b, a], "and round again after seven");
}

#[test]
fn every_missing_table_entry_leaves_the_traffic_alone() {
    let full = || {
        let mut t = world(&[to(GRAY, 3, &[list(0)])]);
        on_list(&mut t, source_hash(3), 1, 0);
        t
    };
    type Hole = (&'static str, fn(&mut MemTables));
    let holes: [Hole; 7] = [
        ("service", |t| t.services.clear()),
        ("fact", |t| t.facts.clear()),
        ("rule", |t| t.rules.clear()),
        ("class", |t| t.classes.clear()),
        ("subset", |t| t.subsets.clear()),
        ("arena", |t| t.arena.clear()),
        ("instance", |t| t.instances.clear()),
    ];
    for (name, hole) in holes {
        let mut t = full();
        hole(&mut t);
        assert_eq!(ask(&t, 3, false), Verdict::Pass(Reason::TableHole), "{name}");
    }
}

#[test]
fn d1_a_change_of_lists_turns_with_the_epoch() {
    let mut t = world(&[to(GRAY, 3, &[list(0)])]);
    on_list(&mut t, source_hash(3), 1, 0);
    // Prepared for epoch 3: the client leaves every list. Epoch 2 still sees it on.
    let now = t.identities[&source_hash(3)];
    let _ = t.identities.insert(source_hash(3), now.then(3, 9));
    let _ = t.classes.insert(9, Class::default());
    assert_eq!(steered(ask(&t, 3, false)).arm, 1);
    let s = t.services[&0];
    let _ = t.services.insert(limits::SERVICES, s);
    let r = t.rules[&0];
    let _ = t.rules.insert(limits::RULES, r);
    let f = t.facts[&0];
    let _ = t.facts.insert(limits::FACTS, f);
    for i in 0..3 {
        let s = t.subsets[&i];
        let _ = t.subsets.insert(limits::SUBSETS + i, s);
    }
    t.control.epoch = 3;
    assert_eq!(steered(ask(&t, 3, false)).arm, 0);
}

/// B1, B4: a list is about one kind of claim, whichever it is, and the kinds of a service's lists are all looked at.
#[test]
fn b1_lists_of_every_kind_are_looked_at() {
    let kinds: Vec<u8> = (SOURCE..=CHANNEL).collect();
    let hash = |kind: u8| u64::from(kind) << 32 | 7;
    let mut t = world(
        &kinds.iter().map(|k| to(GRAY, u16::from(*k), &[list(u32::from(*k) * 20)])).collect::<Vec<_>>(),
    );
    for (class, kind) in (1..).zip(&kinds) {
        on_list(&mut t, hash(*kind), class, u32::from(*kind) * 20);
    }
    let listener = ListenerValue::new(0, false);
    let ask = |t: &MemTables, claims: &Claims| {
        let r = Request { listener, claims, source: None, is_v4: true, seed: 5, spares: 0 };
        steered(decide(&t.view(), &r)).rule
    };
    for all in [true, false] {
        for kind in &kinds {
            t.services.get_mut(&0).unwrap().list_kinds =
                if all { kinds.iter().fold(0, |m, k| m | 1 << k) } else { !(1 << kind) };
            let mut claims = Claims::none(0);
            claims.set_read(*kind, hash(*kind), 0);
            assert_eq!(ask(&t, &claims), if all { u16::from(*kind) } else { 0 }, "kind {kind}, all: {all}");
        }
    }
    let mut claims = Claims::none(0);
    kinds.iter().for_each(|k| claims.set_read(*k, hash(*k), 0));
    t.services.get_mut(&0).unwrap().list_kinds = u16::MAX;
    for first in kinds {
        assert_eq!(ask(&t, &claims), u16::from(first), "of several the first rule");
        let _ = t.identities.remove(&hash(first));
    }
}

/// On the connect path no request is read: fewer claims, and the same answers.
#[test]
fn a13_a_local_caller_has_fewer_claims_and_the_same_answers() {
    let mut t = world(&[to(GRAY, 3, &[Fact { claim: DEVICE, ..percent(10_000) }]), to(GRAY, 4, &[list(9)])]);
    t.services.get_mut(&0).unwrap().list_kinds = u16::MAX;
    on_list(&mut t, source_hash(3), 1, 9);
    let listener = ListenerValue::new(0, false);
    for last in [3, 4] {
        let (mut local, source) = (Local::none(0), addr(last));
        local.set_source(KEY, &source);
        assert!((WORKLOAD + 1..=u8::MAX).all(|kind| local.of(kind) == 0));
        let r = Request { listener, claims: &local, source: Some(&source), is_v4: true, seed: 5, spares: 0 };
        assert_eq!(decide(&t.view(), &r), ask(&t, last, false));
    }
}

/// B3: the tail is that of the claim that is asked for.
#[test]
fn b3_a_tail_is_a_fact_of_one_claim() {
    let tail = |claim, digits: &str| tail::fact(claim, [digits]).unwrap();
    let t = world(&[
        to(GRAY, 3, &[tail(USER, "42")]),
        but_not(GRAY, 4, &[tail(DEVICE, "7")], &[tail(USER, "3")]),
    ]);
    for (user, device, rule) in
        [("u42", "", 3), ("u41", "d42", 0), ("u42", "d7", 3), ("", "d7", 4), ("u3", "d7", 0), ("u4", "d7", 4)]
    {
        let mut claims = Claims::none(0);
        claims.set_read(USER, 1, tail::of_value(user.as_bytes()));
        claims.set_read(DEVICE, 1, tail::of_value(device.as_bytes()));
        let listener = ListenerValue::new(0, false);
        let r = Request { listener, claims: &claims, source: None, is_v4: true, seed: 5, spares: 0 };
        assert_eq!(steered(decide(&t.view(), &r)).rule, rule, "{user} {device}");
    }
}

#[test]
fn b2_exact_shares_of_a_million_identities() {
    const N: u64 = 1_000_000;
    for bp in [0u32, 1, 100, 500, 5000, 9999, 10_000] {
        let n = (0..N).filter(|i| in_percent(mix(i * 2 + 1), 42, bp)).count() as f64;
        let want = f64::from(bp) / 10_000.0;
        let off = (n / N as f64 - want).abs();
        assert!(off < 0.001, "{bp} basis points gave {n} of {N}");
        if bp == 0 || bp == 10_000 {
            assert_eq!(off, 0.0);
        }
    }
}

#[test]
fn weight_zero_gets_nobody_of_ten_million() {
    assert_eq!((0..10_000_000u64).filter(|i| in_percent(*i, 7, 0)).count(), 0);
}

#[test]
fn one_identity_a_hundred_thousand_connections_one_arm() {
    let t = world(&[to(GRAY, 3, &[percent(5000)])]);
    let mut claims = Claims::none(0);
    let source = addr(3);
    claims.set_source(KEY, &source);
    let arms: std::collections::BTreeSet<u8> = (0..100_000)
        .map(|seed| {
            let listener = ListenerValue::new(0, false);
            let r =
                Request { listener, claims: &claims, source: Some(&source), is_v4: true, seed, spares: 0 };
            steered(decide(&t.view(), &r)).arm
        })
        .collect();
    assert_eq!(arms.len(), 1);
}

proptest! {
    #[test]
    fn b2_growing_a_percentage_moves_nobody_out(id: u64, salt: u64, a in 0u32..=10_000, b in 0u32..=10_000) {
        let (small, large) = (a.min(b), a.max(b));
        prop_assert!(!in_percent(id, salt, small) || in_percent(id, salt, large));
    }

    #[test]
    fn percentages_are_the_same_under_another_connection(id: u64, salt: u64, bp in 0u32..=10_000) {
        prop_assert_eq!(in_percent(id, salt, bp), in_percent(id, salt, bp));
        prop_assert_eq!(in_percent(id, salt, bp), u32::from(bucket(id, salt)) < bp);
    }

    #[test]
    fn any_table_content_gives_a_verdict(
        rules in prop::collection::vec((0u32..6, any::<u8>(), any::<u8>(), 0u32..300, any::<bool>()), 0..8),
        stable in 0u32..5, len in 0u32..4, offset in 0u32..6, last: u8,
    ) {
        let rules: Vec<Case> = rules.iter().map(|(target, kind, claim, value, weighted)| {
            let fact = Fact { kind: kind % 4, claim: *claim, value: *value, ..Fact::default() };
            let mut c = to(*target, 1, &[fact]);
            c.rule.weighted = u8::from(*weighted);
            c
        }).collect();
        let mut t = world(&rules);
        t.services.get_mut(&0).unwrap().stable_subset = stable;
        t.subsets.get_mut(&GRAY).unwrap().v4 = Table { offset, len };
        let _ = ask(&t, last, false);
    }
}
