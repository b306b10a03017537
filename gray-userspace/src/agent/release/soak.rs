//! What a soak is served by over the agent's lives, on clocks of the test.

use crate::{
    agent::steady::{
        Steady,
        tests::{HOUR, read, world},
    },
    release::{Event, Hold, Phase, Spec, Stage, State, Traffic, on},
};

fn spec() -> Spec {
    let stage = |basis_points| Stage { basis_points, time_ms: 86_400_000, samples: 0, ..Stage::default() };
    Spec { name: "shop-2.0".into(), stages: vec![stage(100), stage(5000)], ..Spec::default() }
}

/// One life of an agent: reads what was kept, lets time pass once. Whether the first stage is served.
fn served(dir: &tempfile::TempDir, kept: &mut State) -> bool {
    let clock = Steady::with(dir.path(), read);
    let mut s = serde_json::from_str::<State>(&serde_json::to_string(kept).unwrap()).unwrap();
    let _ = s.go_by(clock.id(), clock.now());
    let _ = on(&spec(), &mut s, &Event::Tick, clock.now(), &[]).unwrap();
    let served = s.stage != 0 || s.is_busy();
    if !served {
        *kept = s;
    }
    served
}

fn begun(dir: &tempfile::TempDir) -> State {
    let clock = Steady::with(dir.path(), read);
    let mut s = State::new(clock.now());
    (s.phase, s.traffic) = (Phase::Ramp, Traffic::Stage(0));
    assert!(s.go_by(clock.id(), clock.now()) && !s.go_by(clock.id(), clock.now()));
    s
}

#[test]
fn f6_a_clock_set_forward_over_a_restart_serves_no_soak() {
    let dir = tempfile::tempdir().unwrap();
    world("a", 1000, 500 * HOUR);
    let mut s = begun(&dir);
    // 11 s later, a day and more ahead, far ahead, and back.
    for wall in [525 * HOUR, 9000 * HOUR, HOUR] {
        world("a", 12_000, wall);
        assert!(!served(&dir, &mut s), "{wall}");
    }
    world("a", 1000 + 24 * HOUR - 1, 501 * HOUR);
    assert!(!served(&dir, &mut s));
    world("a", 1000 + 24 * HOUR, 501 * HOUR);
    assert!(served(&dir, &mut s));
}

#[test]
fn f6_a_reboot_serves_what_was_written_down_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    world("a", 0, 500 * HOUR);
    let mut s = begun(&dir);
    world("a", 20 * HOUR, 520 * HOUR);
    Steady::with(dir.path(), read).keep().unwrap();
    world("b", 1000, 900 * HOUR);
    assert!(!served(&dir, &mut s));
    world("b", 1000 + 4 * HOUR - 1, 900 * HOUR);
    assert!(!served(&dir, &mut s));
    world("b", 1000 + 4 * HOUR, 900 * HOUR);
    assert!(served(&dir, &mut s));
}

#[test]
fn f6_a_state_of_an_older_gray_loads_and_soaks_anew() {
    let dir = tempfile::tempdir().unwrap();
    world("a", 0, 500 * HOUR);
    let mut old = begun(&dir);
    old.hold = Hold::None;
    let mut json = serde_json::to_value(&old).unwrap();
    assert!(json.as_object_mut().unwrap().remove("clock").is_some());
    let mut s: State = serde_json::from_value(json).unwrap();
    world("a", 20 * HOUR, 900 * HOUR);
    assert!(!served(&dir, &mut s), "nobody knows what of it was served");
    world("a", 44 * HOUR - 1, 900 * HOUR);
    assert!(!served(&dir, &mut s));
    world("a", 44 * HOUR, 900 * HOUR);
    assert!(served(&dir, &mut s));
}
