//! The way of a whole release, and what a driver that dies may do. Every pair of state and event is in `table`.

mod drawn;
mod mended;
mod table;

use super::*;
use crate::model::{MetaKey, Selector, Webhook};

fn hook(name: &str) -> Hook {
    let does = Does::Command { words: vec![name.into()], dir: None };
    Hook { does, timeout_ms: 1000, retries: 0, backoff_ms: 1000 }
}

fn spec() -> Spec {
    let gray = Selector::one(MetaKey::Version, "2.0");
    let service = |name: &str| ServiceSpec { name: name.into(), gray: gray.clone() };
    let url = Webhook { host: "alerts".into(), port: 80, path: "/".into() };
    let told = Does::Webhook { url, secret: None };
    Spec {
        name: "shop-2.0".into(),
        version: "2.0.0-gray.3".into(),
        formal: "2.0.0".into(),
        services: vec![service("shop"), service("cart")],
        salt: "shop-2.0".into(),
        testers: Some("office".into()),
        irreversible: false,
        deploy: vec![hook("deploy-one"), hook("deploy-two")],
        data: vec![
            DataStep { layer: Layer::Clear, hook: hook("clear") },
            DataStep { layer: Layer::Load, hook: hook("load") },
        ],
        verify: vec![hook("verify")],
        gray_verify: vec![hook("gray-verify")],
        gray_period_ms: 10_000,
        stages: vec![
            Stage {
                basis_points: 100,
                time_ms: 5000,
                samples: 20,
                checks: vec![hook("check")],
                every_ms: 1000,
                ..Stage::default()
            },
            Stage { cohort: Some("beta".into()), basis_points: 2500, approval: true, ..Stage::default() },
            Stage { basis_points: 10_000, samples: 20, ..Stage::default() },
        ],
        verdict: Strictness::default(),
        align_approval: false,
        align: vec![hook("align")],
        notify: vec![Hook { does: told, timeout_ms: 1000, retries: 0, backoff_ms: 0 }],
    }
}

fn counts(gray: u64, stable: u64) -> Vec<Counts> {
    let arm = |n| ArmCounts {
        connections: n,
        flows: n,
        packets: n * 8,
        reply_packets: n * 8,
        ..ArmCounts::default()
    };
    let of = |service: &str| Counts { service: service.into(), gray: arm(gray), stable: arm(stable) };
    vec![of("shop"), of("cart")]
}

fn command(verb: Verb) -> Command {
    Command { verb, stage: 1, closing: Closing::Reset, who: "ann".into(), why: "why".into() }
}

/// A release and its world: time, counters, and a driver that does what is due.
struct Run {
    spec: Spec,
    s: State,
    now: u64,
    counts: Vec<Counts>,
    entries: Vec<Entry>,
    done: Vec<What>,
}

impl Run {
    fn new(spec: Spec) -> Self {
        let mut run = Self {
            spec,
            s: State::new(1000),
            now: 1000,
            counts: counts(0, 0),
            entries: Vec::new(),
            done: Vec::new(),
        };
        run.on(&Event::Tick).unwrap();
        run
    }

    fn on(&mut self, e: &Event) -> Result<(), Refused> {
        self.entries.extend(on(&self.spec, &mut self.s, e, self.now, &self.counts)?);
        Ok(())
    }

    fn verb(&mut self, verb: Verb) -> Result<(), Refused> {
        self.on(&Event::Command(command(verb)))
    }

    /// The one step that is due.
    fn step(&self) -> Option<Effect> {
        let mut steps = self.s.due.iter().filter(|e| e.is_step());
        let one = steps.next().cloned();
        assert!(steps.next().is_none(), "one step at a time: {:?}", self.s.due);
        one
    }

    fn end(&mut self, outcome: Outcome) {
        let e = self.step().expect("a step is due");
        self.now = self.now.max(e.not_before);
        self.on(&Event::Begun(e.seq)).unwrap();
        self.done.push(e.what);
        self.on(&Event::Ended(Ended { seq: e.seq, outcome, text: "said".into() })).unwrap();
    }

    /// Everything that is due passes, time goes by and connections come, until it is there.
    fn until(&mut self, name: &str) {
        for _ in 0..200 {
            if self.s.name() == name && !self.s.due.iter().any(|e| matches!(e.what, What::Traffic(_))) {
                return;
            }
            if self.s.phase == Phase::Ramp && self.s.stage == 1 && !self.s.approved && !self.s.is_busy() {
                self.verb(Verb::Approve).unwrap();
            } else if self.step().is_some() {
                self.end(Outcome::Pass);
            } else {
                self.now += 1000;
                let n = self.counts[0].gray.connections;
                self.counts = counts(n + 10, n + 10);
                self.on(&Event::Tick).unwrap();
            }
        }
        panic!("it never came to {name}: {} {:?}", self.s.name(), self.s.due);
    }

    fn at(phase: Phase) -> Self {
        Self::at_with(spec(), phase)
    }

    fn at_with(spec: Spec, phase: Phase) -> Self {
        let mut run = Self::new(spec);
        match phase {
            Phase::Requested => run.s = State::new(1000),
            Phase::Deploying => {}
            Phase::Stopped => run.end(Outcome::Fail),
            Phase::Ramp => run.until("ramp 2"),
            Phase::Abnormal => {
                run.until("ramp 2");
                run.verb(Verb::Abort).unwrap();
                run.end(Outcome::Pass);
            }
            Phase::Recalling => {
                run.until("ramp 2");
                run.verb(Verb::Recall).unwrap();
                run.end(Outcome::Pass);
            }
            Phase::Failed => {
                run.end(Outcome::Fail);
                run.verb(Verb::Close).unwrap();
            }
            Phase::Closed => {
                run.until("done");
                run.verb(Verb::Close).unwrap();
                run.end(Outcome::Pass);
            }
            p => run.until(p.name()),
        }
        assert_eq!(run.s.phase, phase);
        run
    }
}

#[test]
fn f1_the_way_of_a_whole_release() {
    let mut run = Run::new(spec());
    run.until("done");
    let names: Vec<&str> =
        run.entries.iter().filter(|e| e.what == "transition").map(|e| e.to.as_str()).collect();
    let way = [
        "deploying",
        "data",
        "deploy-verify",
        "gray-verify",
        "gray-period",
        "ramp 1",
        "ramp 2",
        "ramp 3",
        "aligning",
        "done",
    ];
    assert_eq!(names, way);
    let from: Vec<&str> =
        run.entries.iter().filter(|e| e.what == "transition").map(|e| e.from.as_str()).collect();
    assert_eq!(from[1..], way[..way.len() - 1], "each leaves what the one before has come to");
    let shares: Vec<Traffic> =
        run.done.iter().filter_map(|w| if let What::Traffic(t) = w { Some(*t) } else { None }).collect();
    let want = [Traffic::Testers, Traffic::Stage(0), Traffic::Stage(1), Traffic::Stage(2), Traffic::All];
    assert_eq!(shares, want);
    let told = run.s.due.iter().filter(|e| matches!(e.what, What::Notify(..))).count();
    assert_eq!(told, way.len(), "each transition is told");
    let left: Vec<_> = run.entries.iter().filter(|e| e.from.starts_with("ramp") && e.from != e.to).collect();
    assert!(left.iter().all(|e| e.evidence.is_some()), "each decision has its evidence: {left:?}");
    // Of the stages that were judged with what it was made on, and of the phases around them the counts.
    let judged: Vec<_> = left
        .iter()
        .filter_map(|e| e.evidence.as_ref())
        .map(|e| (e.judged.verdict.as_str(), e.compared.len()))
        .collect();
    assert_eq!(judged, [("pass", 2), ("not judged", 0), ("pass", 2)], "nobody came to the second");
    let with: Vec<&str> =
        run.entries.iter().filter(|e| e.evidence.is_some()).map(|e| e.from.as_str()).collect();
    assert_eq!(
        with,
        ["gray-verify", "gray-period", "ramp 1", "ramp 2", "ramp 3", "aligning"],
        "while somebody is on gray"
    );
    assert_eq!(waits(&run.spec, &run.s, run.now, &run.counts).len(), 1);
}

#[test]
fn f9_too_few_samples_hold_and_neither_pass_nor_fail() {
    let mut run = Run::new(spec());
    run.until("ramp 1");
    let began = run.s.base.clone();
    run.now += 3_600_000;
    for (gray, stable, says) in
        [(0, 0, "0 of 20 connections of gray"), (20, 19, "19 of 20 connections of stable"), (19, 99, "gray")]
    {
        let n = began[0].gray.connections;
        run.counts = counts(n + gray, n + stable);
        run.on(&Event::Tick).unwrap();
        if run.step().is_some() {
            run.end(Outcome::Pass);
        }
        assert_eq!(run.s.name(), "ramp 1");
        let waits = waits(&run.spec, &run.s, run.now, &run.counts).join("; ");
        assert!(waits.contains(says), "{waits}");
    }
    let n = began[0].gray.connections;
    run.counts = counts(n + 20, n + 20);
    run.until("ramp 2");
}

#[test]
fn f5_a_stage_waits_for_time_checks_and_a_person_each() {
    let mut run = Run::new(spec());
    run.until("ramp 1");
    let began = run.now;
    run.until("ramp 2");
    assert!(run.now >= began + 5000, "{} ms", run.now - began);
    run.now += 3_600_000;
    run.on(&Event::Tick).unwrap();
    assert_eq!(run.s.name(), "ramp 2", "it waits for a person");
    run.verb(Verb::Approve).unwrap();
    assert_eq!(run.s.name(), "ramp 3");
    assert!(run.verb(Verb::Approve).is_err(), "nobody asked");
}

#[test]
fn f10_a_failed_check_takes_it_back_and_an_inconclusive_one_holds() {
    let mut run = Run::new(spec());
    run.until("ramp 1");
    let check = |run: &mut Run, outcome| {
        while run.step().is_none() {
            run.now += 1000;
            run.on(&Event::Tick).unwrap();
        }
        run.end(outcome);
    };
    for _ in 0..20 {
        let n = run.counts[0].gray.connections;
        run.counts = counts(n + 10, n + 10);
        check(&mut run, Outcome::Inconclusive);
        assert_eq!(run.s.name(), "ramp 1");
    }
    check(&mut run, Outcome::Fail);
    assert_eq!(run.s.name(), "abnormal");
    assert_eq!(run.step().map(|e| e.what), Some(What::Traffic(Traffic::None)));
    let last = run.entries.iter().rfind(|e| e.what == "transition").unwrap();
    assert!(last.evidence.is_some() && last.text.contains("check 1 of 1"), "{last:?}");
}

#[test]
fn g5_the_data_plan_comes_after_the_deployment_and_only_where_there_is_one() {
    let mut run = Run::new(spec());
    run.until("deploy-verify");
    let names: Vec<String> = run.done.iter().map(|w| step_name(&run.spec, w)).collect();
    assert_eq!(names, ["deploy 1 of 2", "deploy 2 of 2", "data 1 of 2, clear", "data 2 of 2, load"]);
    let mut run = Run::new(Spec { data: Vec::new(), ..spec() });
    run.until("deploy-verify");
    assert!(run.entries.iter().all(|e| e.to != "data"), "{:?}", run.entries);
}

#[test]
fn g2_a_script_that_cannot_be_undone_freezes_what_is_bad() {
    let mut run = Run::new(spec());
    run.s.irreversible = true;
    run.until("ramp 1");
    run.now += 1000;
    run.on(&Event::Tick).unwrap();
    run.end(Outcome::Fail);
    assert_eq!(run.s.name(), "frozen (ramp 1)");
    // One that was kept by an older agent says nothing of it.
    let mut kept = serde_json::to_value(&run.s).unwrap();
    let _ = kept.as_object_mut().unwrap().remove("irreversible");
    let _ = kept.as_object_mut().unwrap().remove("scripts");
    let read: State = serde_json::from_value(kept).unwrap();
    assert!(!read.irreversible && read.scripts.is_empty());
}

#[test]
fn g2_what_cannot_be_undone_is_frozen_and_stays_where_it_is() {
    let mut run = Run::new(Spec { irreversible: true, ..spec() });
    run.until("ramp 1");
    run.now += 1000;
    run.on(&Event::Tick).unwrap();
    run.end(Outcome::Fail);
    assert_eq!((run.s.name().as_str(), run.s.traffic), ("frozen (ramp 1)", Traffic::Stage(0)));
    assert_eq!(run.step(), None, "no route was taken back");
    run.verb(Verb::Resume).unwrap();
    run.until("done");
}

#[test]
fn f7_no_hook_blocks_the_way_back() {
    let mut run = Run::at(Phase::GrayVerify);
    let hangs = run.step().unwrap();
    run.on(&Event::Begun(hangs.seq)).unwrap();
    run.verb(Verb::Abort).unwrap();
    assert_eq!(run.step().map(|e| e.what), Some(What::Traffic(Traffic::None)), "at once");
    assert!(run.entries.iter().any(|e| e.text.contains("ended by the engine")));
    let late = Ended { seq: hangs.seq, outcome: Outcome::Pass, text: "too late".into() };
    run.on(&Event::Ended(late)).unwrap();
    assert_eq!(run.s.name(), "abnormal");
}

#[test]
fn routes_that_cannot_be_changed_are_tried_again_for_ever() {
    let mut run = Run::at(Phase::Ramp);
    run.verb(Verb::Abort).unwrap();
    for n in 1..50 {
        run.end(Outcome::Fail);
        let e = run.step().unwrap();
        assert_eq!((e.attempt, e.what), (n, What::Traffic(Traffic::None)));
    }
    let said = run.entries.iter().filter(|e| e.what == "error").count();
    assert_eq!(said, 1, "once is enough");
    run.end(Outcome::Pass);
    assert_eq!(run.step(), None);
}

#[test]
fn f8_a_drain_waits_and_a_reset_after_it_does_not() {
    let mut run = Run::at(Phase::Ramp);
    let drain = Command { closing: Closing::Drain(30_000), ..command(Verb::Recall) };
    run.on(&Event::Command(drain)).unwrap();
    assert_eq!(run.step().map(|e| e.what), Some(What::Traffic(Traffic::None)), "new connections first");
    run.end(Outcome::Pass);
    assert_eq!(run.step().map(|e| (e.what, e.not_before)), Some((What::Close, run.now + 30_000)));
    assert_eq!(run.s.ready(run.now).filter(|e| e.is_step()).count(), 0);
    run.verb(Verb::Recall).unwrap();
    assert_eq!(run.step().map(|e| (e.what, e.not_before)), Some((What::Close, run.now)));
    run.end(Outcome::Pass);
    assert_eq!(run.s.name(), "abnormal");
}

#[test]
fn f2_a_hook_is_tried_again_with_growing_pauses_under_one_key() {
    let mut spec = spec();
    spec.deploy[0].retries = 3;
    let mut run = Run::new(spec);
    let first = run.step().unwrap();
    let mut pauses = Vec::new();
    for _ in 0..3 {
        let before = run.now;
        run.end(Outcome::Fail);
        let e = run.step().unwrap();
        assert_eq!((e.seq, e.begun, run.s.name().as_str()), (first.seq, false, "deploying"));
        pauses.push(e.not_before - before.max(run.now));
    }
    assert_eq!(pauses, [1000, 2000, 4000]);
    run.end(Outcome::Fail);
    assert_eq!(run.s.name(), "stopped");
}

#[test]
fn f1_what_had_begun_when_the_agent_died_is_said_and_asked_again() {
    let mut run = Run::at(Phase::Deploying);
    let e = run.step().unwrap();
    run.on(&Event::Begun(e.seq)).unwrap();
    assert_eq!(run.s.ready(run.now).filter(|e| e.is_step()).count(), 0, "it runs");
    let text = serde_json::to_string(&run.s).unwrap();
    run.s = serde_json::from_str(&text).unwrap();
    run.on(&Event::Lost(e.seq)).unwrap();
    assert_eq!(run.s.ready(run.now).filter(|e| e.is_step()).map(|e| e.seq).collect::<Vec<_>>(), [e.seq]);
    assert_eq!(run.entries.last().unwrap().what, "unknown");
    run.until("done");
}

#[test]
fn a_pause_is_no_time_of_the_stage_and_starts_no_hook() {
    let mut run = Run::new(spec());
    run.until("gray-period");
    run.now += 9_000;
    run.verb(Verb::Pause).unwrap();
    run.now += 3_600_000;
    run.on(&Event::Tick).unwrap();
    run.verb(Verb::Resume).unwrap();
    assert_eq!(run.s.name(), "gray-period");
    run.now += 1_000;
    run.on(&Event::Tick).unwrap();
    assert_eq!(run.s.name(), "ramp 1");
    let mut run = Run::at(Phase::Deploying);
    run.verb(Verb::Pause).unwrap();
    assert_eq!(run.s.ready(run.now).filter(|e| e.is_step()).count(), 0);
}

#[test]
fn counters_that_began_anew_are_no_negative_numbers() {
    let left = since(&counts(3, 4), &counts(100, 2));
    assert_eq!((left[0].gray.connections, left[0].stable.connections), (3, 4), "both arms, all of it");
}

#[test]
fn f5_the_routes_of_a_stage_are_a_policys_and_grow() {
    let spec = spec();
    let user = "services:\n  shop: { listen: ['198.18.1.100:80'], stable: { version: '1.0' }, instances: &i [{ address: '198.18.2.2:80', version: '1.0' }, { address: '198.18.2.3:80', version: '2.0' }] }\n  cart: { listen: ['198.18.1.101:80'], stable: { version: '1.0' }, instances: *i }\ncohorts:\n  office: { sources: ['198.18.7.0/24'] }\n  beta: { sources: ['198.18.8.0/24'] }\n";
    let mut sizes = Vec::new();
    for t in [Traffic::Testers, Traffic::Stage(0), Traffic::Stage(1), Traffic::Stage(2), Traffic::All] {
        let text = source(&spec, t).unwrap();
        let documents = [
            crate::config::Source::new("user", user),
            crate::config::Source::new(source_name(&spec.name), text.clone()),
        ];
        let loaded = crate::config::load(&documents).unwrap_or_else(|e| panic!("{text}\n{e:?}"));
        sizes.push(loaded.policy.routes.len());
    }
    assert_eq!(sizes, [2, 4, 6, 8, 8]);
    assert_eq!(source(&spec, Traffic::None), None);
}

/// B7: the clients of a stage are those of the stage before and more, also where cohorts and percentages take turns.
#[test]
fn b7_a_cohort_grows_stage_by_stage_and_nobody_is_moved_out() {
    use crate::{
        compile::{
            Assigned, Circumstances, compile,
            have::Have,
            lists::of_policy,
            plan::{Want, plan},
        },
        datapath::write_mem,
    };
    use gray_common::{
        decide::{Claims, Request, Verdict, decide, mem::MemTables},
        hash::HashKey,
        wire::{ARM_GRAY, Addr, ListenerKey},
    };
    let key = HashKey { k0: 3, k1: 4 };
    let user = "services:\n  shop: { listen: ['198.18.1.100:80'], stable: { version: '1.0' }, instances: &i [{ address: '198.18.2.2:80', version: '1.0' }, { address: '198.18.2.3:80', version: '2.0' }] }\n  cart: { listen: ['198.18.1.101:80'], stable: { version: '1.0' }, instances: *i }\ncohorts:\n  office: { sources: ['198.18.7.0/24'] }\n  beta: { sources: ['198.18.8.0/24'] }\n";
    let clients: Vec<std::net::IpAddr> =
        (0..2_560u32).map(|i| std::net::Ipv4Addr::from(0xc612_0000 + i).into()).collect();
    let spec = spec();
    let mut assigned = Assigned::default();
    let (mut sizes, mut before) = (Vec::new(), std::collections::BTreeSet::new());
    for t in [Traffic::Testers, Traffic::Stage(0), Traffic::Stage(1), Traffic::Stage(2), Traffic::All] {
        let documents = [
            crate::config::Source::new("user", user),
            crate::config::Source::new(source_name(&spec.name), source(&spec, t).unwrap()),
        ];
        let policy = crate::config::load(&documents).unwrap().policy;
        let compiled = compile(&policy, &assigned, &Circumstances::default()).unwrap();
        let mut tables = MemTables::default();
        let lists = of_policy(&policy, &compiled.assigned.lists, key);
        for step in plan(&mut Have::default(), &Want::all(1, key, &compiled, &lists)).unwrap() {
            write_mem(&mut tables, &step);
        }
        let view = tables.view();
        let gray = |source: &&std::net::IpAddr| {
            let source = Addr::from(**source);
            let mut claims = Claims::none(0);
            claims.set_source(key, &source);
            let at: std::net::IpAddr = "198.18.1.100".parse().unwrap();
            let listener =
                view.listener(&ListenerKey { addr: at.into(), port: 80u16.to_be(), proto: 6, _pad: 0 });
            let r =
                Request { listener, claims: &claims, source: Some(&source), is_v4: true, seed: 1, spares: 0 };
            matches!(decide(&view, &r), Verdict::Steer(d) if u32::from(d.arm) == ARM_GRAY)
        };
        let now: std::collections::BTreeSet<_> = clients.iter().filter(gray).copied().collect();
        assert!(now.is_superset(&before), "{t:?} moved somebody out");
        sizes.push(now.len());
        (before, assigned) = (now, compiled.assigned);
    }
    assert!(
        sizes.is_sorted() && sizes[0] < sizes[1] && sizes[1] < sizes[2] && sizes[2] < sizes[3],
        "{sizes:?}"
    );
    assert_eq!(sizes[3..], [clients.len(); 2], "{sizes:?}");
}
