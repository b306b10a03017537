//! Flow tables of another size (H1, H2): an agent that is started with another `--flows` takes over what lives, under load, and
//! may die anywhere while it does.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use gray_tests::{
    command::{note, wait_for},
    flood::{Basin, Flood, FloodSpec},
    pace,
    packets::frame::ACK,
    policy::PolicyText,
    scene::{Scene, vip},
};
use gray_userspace::fail::Point;

use super::replace::{Loads, Stream, stage};
use super::{PATIENCE, lived_on, long_lived, some_more};

pub(super) const LARGE: u32 = 262_144;
const SMALL: u32 = 196_608;
/// Quiet connections of made-up clients, among them those of `Stream`; two entries each.
const MANY: u32 = 16_384;

/// Between two bursts of the stream: beside it, real connections shall get through.
pub(super) const PAUSE: Duration = Duration::from_millis(100);

/// The instance of every connection of the crowd.
pub(super) type Known = BTreeMap<String, String>;

pub(super) fn known(scene: &Scene) -> Known {
    let all = scene.agent.gray_json(&["flows", "-n", "1000000"]).unwrap();
    let rows = all["flows"].as_array().unwrap().iter();
    let text = |v: &serde_json::Value| v.as_str().unwrap().to_owned();
    let crowd = rows.filter(|f| text(&f["client"]).starts_with("198.19."));
    crowd.map(|f| (text(&f["client"]), text(&f["instance_addr"]))).collect()
}

/// Makes gray connections of the crowd, and then a policy by which nobody of it is gray: whoever is decided again moves.
pub(super) fn quiet_crowd(scene: &Scene, gray: &[IpAddr]) -> Known {
    let basins = [0, 1].map(|j| Basin::under(&scene.world.backends[j].ns).unwrap());
    let spec = FloodSpec {
        target: vip(false, 8080),
        tcp_flags: ACK,
        hosts: 256,
        flows: MANY,
        pause: Duration::from_millis(5),
    };
    let flood = Flood::start(&scene.world, spec).unwrap();
    let all = || Ok(known(scene).len() == MANY as usize);
    wait_for("the crowd to be known", PATIENCE, all).unwrap();
    let _ = flood.stop().unwrap();
    drop(basins);
    scene.apply(&PolicyText::moved(&scene.world).sources("early", gray).gray_when("early"));
    let known = known(scene);
    let to = scene.world.backends[1].v4.to_string();
    assert!(known.values().all(|i| i.starts_with(&to)), "all of them are gray");
    known
}

/// The size is this, nothing of the move is left, and everybody is where they were.
pub(super) fn all_moved(scene: &Scene, flows: u32, before: &Known) {
    let status = scene.agent.gray_json(&["status"]).unwrap();
    assert_eq!(status["flows"]["capacity"], flows, "{}", status["flows"]);
    for pin in std::fs::read_dir(scene.agent.bpffs().join(format!("abi{}/maps", status["abi"]))).unwrap() {
        let name = pin.unwrap().file_name().into_string().unwrap();
        assert!(!name.contains('-'), "{name} is left");
    }
    let now = known(scene);
    let lost: Vec<_> = before.keys().filter(|k| !now.contains_key(*k)).collect();
    let moved: Vec<_> = before.iter().filter(|(k, i)| now.get(*k).is_some_and(|n| n != *i)).collect();
    assert!(
        lost.is_empty() && moved.is_empty(),
        "of {}: {} lost ({:?}), {} moved ({:?})",
        before.len(),
        lost.len(),
        lost.first(),
        moved.len(),
        moved.first()
    );
}

fn resize(scene: &mut Scene, flows: u32) {
    scene.agent.use_args(&["--flows", &flows.to_string()]);
    scene.agent.restart().unwrap();
}

#[test]
fn h1_h2_the_flow_tables_grow_and_shrink_under_load_and_nobody_notices() {
    let (mut scene, gray) = stage(None);
    let crowd = quiet_crowd(&scene, &gray);
    let stream = Stream::every(&scene, PAUSE);
    let mut loads = Loads::start(&scene, &gray);
    for flows in [98_304, 4 * LARGE, SMALL + 1, LARGE] {
        resize(&mut scene, flows);
        loads.some_more();
        all_moved(&scene, flows, &crowd);
    }
    loads.end();
    stream.end();
    scene.finish();
}

/// The points of a resize that a start passes, as `NAME:NTH`: of one that it passes often, the first and the last.
fn points(scene: &mut Scene, flows: u32) -> Vec<String> {
    scene.agent.stop().unwrap();
    scene.agent.use_args(&["--flows", &flows.to_string()]);
    let log = |scene: &Scene| std::fs::read_to_string(scene.agent.log()).unwrap();
    let begin = log(scene).len();
    scene.agent.spawn(&[("GRAY_FAIL", "trace")]).unwrap();
    assert!(scene.agent.wait_ready().unwrap());
    let text = log(scene);
    let hits = text[begin..].lines().filter_map(|l| l.strip_prefix("fail point move."));
    let mut of: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for hit in hits {
        let (name, nth) = hit.split_once(':').unwrap();
        of.entry(name).or_default().push(nth.parse().unwrap());
    }
    let wanted = Point::ALL.iter().filter(|p| p.name().starts_with("move.")).count();
    assert_eq!(of.len(), wanted, "{of:?}");
    of.into_iter()
        .flat_map(|(name, mut nth)| {
            nth.sort_unstable();
            nth.dedup();
            let ends = if nth.len() > 1 { vec![nth[0], nth[nth.len() - 1]] } else { nth };
            ends.into_iter().map(move |n| format!("move.{name}:{n}"))
        })
        .collect()
}

#[test]
fn h2_killed_anywhere_in_a_resize_nobody_notices_and_the_next_agent_ends_it() {
    let (mut scene, gray) = stage(None);
    let crowd = quiet_crowd(&scene, &gray);
    let stream = Stream::every(&scene, PAUSE);
    let mut loads = Loads::start(&scene, &gray);
    let points = pace::points(points(&mut scene, SMALL));
    all_moved(&scene, SMALL, &crowd);
    let mut size = SMALL;
    for (round, point) in points.iter().enumerate() {
        note(point);
        scene.agent.stop().unwrap();
        let other = SMALL + LARGE - size;
        scene.agent.use_args(&["--flows", &other.to_string()]);
        scene.agent.spawn(&[("GRAY_FAIL", point)]).unwrap();
        assert!(!scene.agent.wait_ready().unwrap(), "it passed {point} alive");
        // Nobody is there, and both kinds of programs may be at work.
        loads.some_more();
        // The next agent may be told the old size, or again the new one.
        size = if round % 2 == 0 { other } else { size };
        resize(&mut scene, size);
        loads.some_more();
        all_moved(&scene, size, &crowd);
    }
    loads.end();
    stream.end();
    scene.finish();
}

#[test]
fn h2_a_table_too_small_for_what_lives_forgets_the_least_recently_used() {
    let few = MANY / 2;
    let (mut scene, gray) = stage(None);
    let crowd = quiet_crowd(&scene, &gray);
    // No new connections beside it: a slow start gives them time to push the crowd out.
    let mut loads = [scene.world.clients[0].place(), scene.world.caller()]
        .map(|from| long_lived(&from, vip(false, 9000), &[]));
    resize(&mut scene, few);
    loads.iter_mut().for_each(|load| some_more(load, 100));
    let now = known(&scene);
    let moved: Vec<_> = now.iter().filter(|(k, i)| crowd.get(*k) != Some(i)).collect();
    assert!(moved.is_empty(), "{} moved: {:?}", moved.len(), moved.first());
    // Two entries each, and a little for the real ones.
    assert!(
        now.len() > few as usize / 4 && now.len() <= few as usize / 2,
        "{} of {}",
        now.len(),
        crowd.len()
    );
    let log = std::fs::read_to_string(scene.agent.log()).unwrap();
    assert!(log.contains("the least recently used are forgotten"), "the log says nothing of it");
    // Who speaks is not forgotten.
    loads.into_iter().for_each(|load| lived_on(&load.stop().unwrap()));
    scene.finish();
}
