//! What the agent may do: CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON are enough, with no new privileges, and not as root
//! either; where one of them is missing it says so.

use std::fs;
use std::os::unix::fs::chown;

use gray_tests::{
    WorldSpec,
    agent::{Agent, AgentSpec},
    client::LoadSpec,
    command::output,
    policy::PolicyText,
    residue,
    rights::{THREE, only},
    scene::{Scene, servers, vip},
    world::World,
};

use super::{ONE, attached};

const NOBODY: u32 = 65_534;

fn started(world: World, by: Vec<String>) -> Scene {
    let (stable, gray) = servers(&world);
    let agent = Agent::start_with(&world, AgentSpec { by, ..AgentSpec::of(&world) }).unwrap();
    Scene { agent, stable, gray, world }
}

/// The lines of `/proc/PID/status` that tell what the agent may do.
fn has_only_three(scene: &Scene, uid: u32) {
    let text = fs::read_to_string(format!("/proc/{}/status", scene.agent.pid().unwrap())).unwrap();
    let field = |name: &str| text.lines().find_map(|l| l.strip_prefix(name)).unwrap().trim().to_owned();
    let three: u64 = THREE.iter().map(|(_, bit)| 1 << bit).sum();
    for set in ["CapEff:", "CapPrm:", "CapBnd:"] {
        assert_eq!(u64::from_str_radix(&field(set), 16).unwrap(), three, "{set}");
    }
    assert_eq!(field("NoNewPrivs:"), "1");
    assert!(field("Uid:").starts_with(&uid.to_string()));
}

/// Both paths steer, edits count, an agent that died is followed by the next.
fn everything_works(scene: &mut Scene) {
    let w = &scene.world;
    let (v4, v6) = (w.clients[0].sources(false), w.clients[0].sources(true));
    let edge = w.edge_addresses();
    let early = [&v4[..2], &v6[..1], &edge[..1]].concat();
    scene.apply(&PolicyText::own(w).sources("early", &early).gray_when("early"));
    scene.expect_gray(false, &v4[..2]);
    scene.expect_gray(true, &v6[..1]);
    let caller = |scene: &Scene, want: usize| {
        let w = &scene.world;
        let from = w.edge_addresses();
        let spec = LoadSpec::new(vip(false, 8080), ONE).count(from.len() as u64).sources(from.clone());
        let report = spec.run(&w.caller()).unwrap();
        report.assert_all_ok();
        assert_eq!(report.of_version("2.0"), want as u64, "{:?}", report.by_source);
    };
    caller(scene, 1);
    let cgroup = scene.world.callers.path().to_string_lossy().into_owned();
    let _ = scene.agent.gray_ok(&["workload", "set", "web", "--cgroup", &cgroup]).unwrap();
    let pair = &scene.world.backends[1].link;
    pair.delete().unwrap();
    pair.create_again().unwrap();
    attached(scene, pair);
    scene.agent.kill9().unwrap();
    scene.expect_gray(false, &v4[..2]);
    scene.agent.restart().unwrap();
    let _ = scene.agent.gray_ok(&["cohort", "add", "early", &v4[5].to_string()]).unwrap();
    scene.expect_gray(false, &[&v4[..2], &v4[5..6]].concat());
    caller(scene, 1);
    let out = scene.agent.gray(&["doctor", "-o", "json"]).unwrap();
    let report: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let found = report["checks"].as_array().unwrap().iter().find(|c| c["name"] == "capabilities");
    assert_eq!(found.unwrap()["status"], "ok", "{report}");
}

#[test]
fn h2_three_capabilities_are_enough() {
    let world = World::build(WorldSpec::default()).unwrap();
    let mut scene = started(world, only(&THREE, None));
    has_only_three(&scene, 0);
    everything_works(&mut scene);
    has_only_three(&scene, 0);
    scene.finish();
}

/// Its directories are its own; it may write nowhere else.
#[test]
fn h2_three_capabilities_are_enough_for_another_user_than_root() {
    let world = World::build(WorldSpec::default()).unwrap();
    let bpffs = world.lab().bpffs();
    fs::create_dir(&bpffs).unwrap();
    let by = only(&THREE, Some(NOBODY));
    for dir in [&bpffs, world.temp()] {
        chown(dir, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let mut scene = started(world, by);
    has_only_three(&scene, NOBODY);
    everything_works(&mut scene);
    let Scene { agent, world, .. } = scene;
    agent.uninstall().unwrap();
    assert_eq!(residue::find(&world).unwrap(), Vec::<String>::new());
    // Whether that lets it go depends on the mount.
    let left = fs::read_dir(&bpffs).map_or(0, Iterator::count);
    assert_eq!(left, 0, "pins are left");
    let _ = fs::remove_dir(&bpffs);
}

/// The unit file grants these three and nothing else.
#[test]
fn h2_the_unit_file_grants_what_is_enough() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/gray.service");
    let unit = fs::read_to_string(path).unwrap();
    let value =
        |key: &str| unit.lines().find_map(|l| l.strip_prefix(key)).unwrap_or_else(|| panic!("no {key}"));
    let names = THREE.map(|(name, _)| format!("CAP_{}", name.to_uppercase()));
    let granted: Vec<&str> = value("CapabilityBoundingSet=").split_whitespace().collect();
    assert_eq!(granted, names);
    assert_eq!(value("NoNewPrivileges="), "yes");
    // systemd gives up after five quick failures, if it is not told not to.
    let (head, _) = unit.split_once("[Service]").unwrap();
    assert!(head.lines().any(|l| l == "StartLimitIntervalSec=0"), "{head}");
    assert_eq!(value("Restart="), "always");
}

#[test]
fn h2_an_agent_that_lacks_a_capability_says_which() {
    let world = World::build(WorldSpec::default()).unwrap();
    for missing in THREE {
        let name = format!("CAP_{}", missing.0.to_uppercase());
        let rest: Vec<_> = THREE.into_iter().filter(|c| *c != missing).collect();
        let spec = AgentSpec { by: only(&rest, None), ..AgentSpec::of(&world) };
        let mut agent = Agent::not_started(&world, spec).unwrap();
        agent.spawn(&[]).unwrap();
        let said = format!("{:#}", agent.wait_ready().unwrap_err());
        assert!(said.contains(&format!("error: this process lacks {name}\n")), "{said}");
        assert!(said.contains(&format!("AmbientCapabilities={name}")), "{said}");
        // Asked for itself, because no agent runs.
        let said = output(&mut agent.command(&["doctor"])).unwrap();
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(said.contains(&format!("lacks {name}")), "{said}");
        assert!(!agent.bpffs().exists(), "it began to write");
    }
    assert_eq!(residue::find(&world).unwrap(), Vec::<String>::new());
}
