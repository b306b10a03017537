//! The policy as files of a directory: followed, refused, and not overruling who rolls back by hand.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use gray_tests::{
    WorldSpec,
    agent::{Agent, AgentSpec},
    command::wait_for,
    policy::PolicyText,
    scene::{Scene, servers},
    world::World,
};
use serde_json::Value;

fn status(scene: &Scene) -> Value {
    scene.agent.gray_json(&["status"]).unwrap()["policy_dir"].clone()
}

fn comes_to(scene: &Scene, state: &str) -> Value {
    wait_for(state, Duration::from_secs(15), || Ok(status(scene)["state"] == *state)).unwrap();
    status(scene)
}

fn revision(scene: &Scene) -> u64 {
    scene.agent.gray_json(&["status"]).unwrap()["revision"].as_u64().unwrap_or(0)
}

/// As deployments do it: elsewhere, then moved in.
fn put(dir: &Path, name: &str, text: &str) {
    let next = dir.join(format!(".{name}"));
    fs::write(&next, text).unwrap();
    fs::rename(next, dir.join(name)).unwrap();
}

/// An agent that follows a directory.
fn follows() -> (Scene, PathBuf) {
    let world = World::build(WorldSpec::default()).unwrap();
    let (stable, gray) = servers(&world);
    let dir = world.temp().join("policy");
    fs::create_dir(&dir).unwrap();
    let spec = AgentSpec {
        args: vec!["--policy-dir".into(), dir.to_string_lossy().into_owned()],
        ..AgentSpec::of(&world)
    };
    let agent = Agent::start_with(&world, spec).unwrap();
    (Scene { agent, stable, gray, world }, dir)
}

/// Half of a document is one, too.
#[test]
fn d3_a_file_that_is_written_slowly_is_applied_once() {
    let (scene, dir) = follows();
    put(&dir, "a.yaml", &PolicyText::own(&scene.world).to_string());
    assert_eq!(comes_to(&scene, "applied")["revision"], 1);
    let mut file = fs::File::create(dir.join("b.yaml")).unwrap();
    file.write_all(b"cohorts:\n").unwrap();
    for n in 0..8 {
        std::thread::sleep(Duration::from_millis(400));
        writeln!(file, "  c{n}: {{ apps: [a{n}] }}").unwrap();
    }
    assert_eq!(revision(&scene), 1);
    drop(file);
    wait_for("all of it", Duration::from_secs(15), || Ok(revision(&scene) == 2)).unwrap();
    let cohorts = scene.agent.gray_json(&["get", "cohorts"]).unwrap();
    assert_eq!(cohorts.as_array().unwrap().len(), 8, "{cohorts}");
    scene.finish();
}

#[test]
fn d2_d3_files_are_followed_and_bad_ones_change_nothing() {
    let (mut scene, dir) = follows();
    let early = scene.world.clients[0].sources(false)[..3].to_vec();
    let _ = comes_to(&scene, "empty");

    // Services in one document, routes in the other: the one may be there before the other.
    let whole = PolicyText::own(&scene.world).sources("early", &early).gray_when("early").to_string();
    let (services, rest) = whole.split_at(whole.find("\ncohorts:").unwrap() + 1);
    put(&dir, "20-routes.yaml", rest);
    let refused = comes_to(&scene, "refused");
    assert!(refused["problems"][0].as_str().unwrap().contains("20-routes.yaml:"), "{refused}");
    put(&dir, "10-services.yaml", services);
    let applied = comes_to(&scene, "applied");
    assert_eq!((applied["files"].as_u64(), applied["revision"].as_u64()), (Some(2), Some(revision(&scene))));
    scene.expect_gray(false, &early);

    // Wrong: the last good state stays, and it is said.
    let good = revision(&scene);
    put(&dir, "20-routes.yaml", &rest.replace("when: early", "when: erly"));
    let refused = comes_to(&scene, "refused");
    assert!(refused["problems"][0].as_str().unwrap().contains("erly"), "{refused}");
    assert_eq!(revision(&scene), good);
    scene.expect_gray(false, &early);
    let events = scene.agent.gray_ok(&["events", "-o", "json"]).unwrap();
    let said = events.lines().any(|l| l.contains("\"policy\":\"refused\"") && l.contains("erly"));
    assert!(said, "{events}");
    put(&dir, "20-routes.yaml", rest);
    let _ = comes_to(&scene, "applied");
    assert_eq!(revision(&scene), good, "the same policy is no revision");

    // A change; then somebody goes back by hand, and the agent dies: files that stay the same overrule nobody.
    put(&dir, "20-routes.yaml", "routes: []\n");
    wait_for("the change", Duration::from_secs(15), || Ok(revision(&scene) > good)).unwrap();
    scene.expect_gray(false, &[]);
    let _ = scene.agent.gray_ok(&["rollback", &good.to_string()]).unwrap();
    scene.expect_gray(false, &early);
    scene.agent.kill9().unwrap();
    scene.agent.restart().unwrap();
    let _ = comes_to(&scene, "applied");
    std::thread::sleep(Duration::from_secs(11));
    scene.expect_gray(false, &early);

    // Gone: nothing is taken away.
    fs::remove_dir_all(&dir).unwrap();
    let _ = comes_to(&scene, "unreadable");
    scene.expect_gray(false, &early);
    fs::create_dir(&dir).unwrap();
    put(&dir, "all.yaml", &PolicyText::own(&scene.world).to_string());
    let _ = comes_to(&scene, "applied");
    scene.expect_gray(false, &[]);
    scene.finish();
}

/// The first change fails as it would on a full disk: the files are the same, and are tried again.
#[test]
fn d2_a_failure_that_passes_is_tried_again() {
    let world = World::build(WorldSpec::default()).unwrap();
    let (stable, gray) = servers(&world);
    let dir = world.temp().join("policy");
    fs::create_dir(&dir).unwrap();
    let early = world.clients[0].sources(false)[..3].to_vec();
    put(&dir, "all.yaml", &PolicyText::own(&world).sources("early", &early).gray_when("early").to_string());
    let spec = AgentSpec {
        args: vec!["--policy-dir".into(), dir.to_string_lossy().into_owned()],
        env: vec![("GRAY_FAIL".into(), "change.begun=error".into())],
        ..AgentSpec::packets(&world)
    };
    let agent = Agent::start_with(&world, spec).unwrap();
    let scene = Scene { agent, stable, gray, world };
    let _ = comes_to(&scene, "applied");
    let events = scene.agent.gray_ok(&["events", "-o", "json"]).unwrap();
    let said = events.lines().any(|l| l.contains("\"policy\":\"refused\"") && l.contains("change.begun"));
    assert!(said, "{events}");
    scene.expect_gray(false, &early);
    scene.finish();
}
