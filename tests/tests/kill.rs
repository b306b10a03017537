//! The agent dies anywhere (H2, D1): what is decided is the old policy or the new one, and the next agent needs no hand.
//! `GRAY_KILLS=N`: so many kills of chance; `GRAY_SEED=N`: the same ones again; `GRAY_POINTS=all`: every passing of every
//! fail point in every operation, not one of each.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gray_tests::{
    agent::{Agent, AgentSpec},
    client::{LoadSpec, Mode},
    command::{note, output, run},
    kill::{Driver, Kill, Op, Random, Turn, op::document},
    pace::{all_points, factor, fewer, many, patience, some},
    residue,
    scene::{Scene, servers, vip},
    sys::monotonic_ns,
    world::{World, WorldSpec},
};
use gray_userspace::fail::Point;

/// Passed only by the first start and by the uninstall.
const FIRST_AND_LAST: [Point; 5] = [
    Point::KernelLink,
    Point::KeyBeforePolicy,
    Point::UninstallStopped,
    Point::UninstallRemove,
    Point::UninstallUnpinned,
];

/// Passed only where `--flows` or the ABI changes, or by a release: `tests/faults/resize.rs`, `migrate.rs`, `release.rs`.
const ELSEWHERE: [&str; 3] = ["move.", "migrate.", "release."];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|v| v.parse().unwrap_or_else(|_| panic!("{name}={v} is no number")))
}

fn seed() -> u64 {
    number("GRAY_SEED").unwrap_or_else(monotonic_ns)
}

fn driver() -> Driver {
    Driver::start(Scene::start(WorldSpec::default()), seed()).unwrap()
}

fn name(hit: &str) -> &str {
    hit.split(':').next().unwrap()
}

/// One passing of each point, by chance; all of them when the environment says so.
fn choose(hits: &[String], random: &mut Random) -> Vec<String> {
    if all_points() {
        return hits.to_vec();
    }
    let mut by_name: BTreeMap<&str, Vec<&String>> = BTreeMap::new();
    for hit in hits {
        by_name.entry(name(hit)).or_default().push(hit);
    }
    by_name.values().map(|of| of[(random.draw() % of.len() as u64) as usize].clone()).collect()
}

#[test]
fn h2_d1_killed_at_every_fail_point_it_is_one_policy_or_the_other() {
    let mut d = driver();
    let mut reached = BTreeSet::new();
    let mut turns: BTreeMap<Turn, u32> = BTreeMap::new();
    let mut left_out = 0;
    for op in Op::ALL {
        let (start, change) = d.trace(op).unwrap();
        let mut random = d.random.clone();
        let mut hits = choose(&change, &mut random);
        let all = hits.len();
        if !all_points() {
            // Each point once, not once in each operation: of the others some, by chance.
            hits.retain(|hit| {
                !reached.contains(name(hit)) || (factor() == 1 && random.draw().is_multiple_of(4))
            });
        }
        left_out += all - hits.len();
        // A start is the same whatever comes after it.
        if op == Op::Apply {
            hits.extend(choose(&start, &mut random));
        }
        d.random = random;
        for hit in hits {
            let mut kill = |hit: &str| {
                let turn = d.round(op, &Kill::At(hit.to_owned())).unwrap();
                *turns.entry(turn).or_default() += 1;
                turn != Turn::Survived
            };
            // It may pass a point less often than the one that was traced; once it does.
            if kill(&hit) || !reached.contains(name(&hit)) && kill(&format!("{}:1", name(&hit))) {
                let _ = reached.insert(name(&hit).to_owned());
            }
        }
    }
    note(&format!("{turns:?}"));
    if factor() > 1 && left_out > 0 {
        let done = turns.values().sum::<u32>() as usize;
        fewer("kills at fail points", done + left_out, done);
    }
    let missed: Vec<&str> = Point::ALL
        .iter()
        .filter(|p| !FIRST_AND_LAST.contains(p) && !ELSEWHERE.iter().any(|e| p.name().starts_with(e)))
        .map(|p| p.name())
        .filter(|n| !reached.contains(*n))
        .collect();
    assert!(missed.is_empty(), "never killed at {missed:?}");
    d.finish().unwrap();
}

#[test]
fn h2_d1_killed_at_any_moment_it_is_one_policy_or_the_other() {
    let mut d = driver();
    let mut turns: BTreeMap<Turn, u32> = BTreeMap::new();
    let kills = number("GRAY_KILLS").unwrap_or_else(|| many("kills", 40, 8) as u64);
    for i in 0..kills {
        let op = Op::ALL[(d.random.draw() % Op::ALL.len() as u64) as usize];
        // An operation takes some 50 ms from the start of its process, a start some 800.
        let kill = match d.random.draw() % 4 {
            0 => Kill::Starting(patience(Duration::from_micros(d.random.draw() % 1_200_000))),
            _ => Kill::Changing(patience(Duration::from_micros(d.random.draw() % 90_000))),
        };
        let turn = d.round(op, &kill).unwrap_or_else(|e| panic!("kill {i}: {e:#}"));
        *turns.entry(turn).or_default() += 1;
    }
    note(&format!("{turns:?}"));
    d.finish().unwrap();
}

#[test]
fn d1_whichever_step_fails_the_old_policy_stays_and_the_error_names_the_step() {
    let mut d = driver();
    let every = if factor() == 1 { 1 } else { 8 };
    let mut steps = 0;
    while d.fail(Op::Apply, &format!("{}:{}", Point::ChangeWrite.name(), steps + 1)).unwrap() {
        steps += every;
    }
    if every > 1 {
        fewer("steps", steps, steps / every);
    }
    assert!(steps > 8, "an apply has more than {steps} steps");
    let steps = vec![
        (Op::Key, Point::ChangeKey),
        (Op::Key, Point::ChangeFlip),
        (Op::Cohort, Point::ChangeFlip),
        (Op::Drain, Point::ChangePlanned),
        (Op::Rollback, Point::ChangeBegun),
        (Op::Apply, Point::StoreCommit),
        (Op::Apply, Point::ChangeCompiled),
    ];
    for (op, point) in some("named steps", steps) {
        assert!(d.fail(op, &format!("{}:1", point.name())).unwrap(), "{point:?} was not reached");
    }
    d.finish().unwrap();
}

/// Every address of client 0 reaches stable.
fn nobody_is_steered(world: &World) {
    for v6 in [false, true] {
        let sources = world.clients[0].sources(v6);
        let spec = LoadSpec::new(vip(v6, 8080), Mode::Http { per_connection: 1 });
        let report =
            spec.count(sources.len() as u64).sources(sources).run(&world.clients[0].place()).unwrap();
        report.assert_all_ok();
        assert_eq!(report.of_version("1.0"), report.ok, "{:?}", report.by_server);
    }
}

fn steered(world: &World) -> u64 {
    let sources = world.clients[0].sources(false);
    let spec = LoadSpec::new(vip(false, 8080), Mode::Http { per_connection: 1 });
    let report = spec.count(sources.len() as u64).sources(sources).run(&world.clients[0].place()).unwrap();
    report.assert_all_ok();
    report.of_version("2.0")
}

fn points(text: &str) -> Vec<String> {
    text.lines().filter_map(|l| l.strip_prefix("fail point ").map(str::to_owned)).collect()
}

fn not_started(world: &World) -> Agent {
    Agent::not_started(world, AgentSpec::of(world)).unwrap()
}

#[test]
fn h2_killed_in_the_first_start_and_in_the_uninstall() {
    let world = World::build(WorldSpec::default()).unwrap();
    let _servers = servers(&world);
    let mut random = Random(seed());
    note(&format!("GRAY_SEED={}", random.0));
    let mut agent = not_started(&world);
    agent.spawn(&[("GRAY_FAIL", "trace")]).unwrap();
    assert!(agent.wait_ready().unwrap());
    let starts = points(&std::fs::read_to_string(agent.log()).unwrap());
    agent.kill9().unwrap();
    let traced = output(agent.uninstall_command().env("GRAY_FAIL", "trace")).unwrap();
    let uninstalls = points(&String::from_utf8_lossy(&traced.stderr));
    residue::assert_none(&world, agent);
    let mut reached: BTreeSet<String> = BTreeSet::new();
    // As many of one as of the other: pairs.
    let mut starts = choose(&starts, &mut random);
    starts.push(format!("{}:1", Point::KeyBeforePolicy.name()));
    for (round, start) in starts.into_iter().enumerate() {
        let mut agent = not_started(&world);
        agent.spawn(&[("GRAY_FAIL", &start)]).unwrap();
        let hex = "00112233445566778899aabbccddeeff";
        if agent.wait_ready().unwrap() {
            let file = world.temp().join("key");
            std::fs::write(&file, hex).unwrap();
            let _ = agent.gray(&["key", "import", &file.to_string_lossy()]).unwrap();
        }
        while !agent.was_killed().unwrap() {
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = reached.insert(name(&start).to_owned());
        nobody_is_steered(&world);
        agent.restart().unwrap();
        nobody_is_steered(&world);
        if name(&start) == Point::KeyBeforePolicy.name() {
            assert_eq!(agent.gray_ok(&["key", "export"]).unwrap().trim(), hex);
        }
        let _ = agent.apply(&document(&world, false)).unwrap();
        let gray = steered(&world);
        assert!(gray > 0, "the policy steers somebody");
        agent.kill9().unwrap();
        let hit = &uninstalls[(random.draw() % uninstalls.len() as u64) as usize];
        let hit = match round {
            0 => format!("{}:1", Point::UninstallStopped.name()),
            1 => format!("{}:1", Point::UninstallUnpinned.name()),
            _ => hit.clone(),
        };
        let killed = output(agent.uninstall_command().env("GRAY_FAIL", &hit)).unwrap();
        assert_eq!(killed.status.code(), None, "killed at {hit}: {killed:?}");
        let _ = reached.insert(name(&hit).to_owned());
        nobody_is_steered(&world);
        if name(&hit) == Point::UninstallStopped.name() {
            agent.restart().unwrap();
            assert_eq!(steered(&world), gray, "started again, all is back");
            agent.kill9().unwrap();
        }
        let _ = run(&mut agent.uninstall_command()).unwrap();
        residue::assert_none(&world, agent);
    }
    let missed: Vec<&str> =
        FIRST_AND_LAST.iter().map(|p| p.name()).filter(|n| !reached.contains(*n)).collect();
    assert!(missed.is_empty(), "never killed at {missed:?}");
}
