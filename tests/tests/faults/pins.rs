//! Pins that are not ours: refused with a word of why, and nothing of theirs is touched.

use std::fs;
use std::mem::ManuallyDrop;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;
use std::process::Command;

use gray_tests::{
    WorldSpec,
    agent::{Agent, AgentSpec},
    bpf,
    command::run,
    lab::Lab,
    policy::PolicyText,
    residue,
    scene::Scene,
    skip,
    world::World,
};

use super::{four_are_gray, new_connections, some_more};

const NOBODY: u32 = 65_534;
/// BPF_CGROUP_UDP6_RECVMSG
const RECVMSG6: u32 = 20;

/// A map of theirs, pinned there.
fn pin_map(at: &Path, key: &str) {
    let mut bpftool = Command::new("bpftool");
    let _ = bpftool.args(["map", "create"]).arg(at).args(["type", "hash", "key", key, "value", "8"]);
    let _ = run(bpftool.args(["entries", "4", "name", "foreign"])).unwrap();
}

fn mkdir(path: &Path) {
    fs::create_dir_all(path).unwrap();
}

/// It has nothing to take back, and does not try.
fn not_started(world: &World) -> ManuallyDrop<Agent> {
    ManuallyDrop::new(Agent::not_started(world, AgentSpec::of(world)).unwrap())
}

/// The agent does not start here, and its error says this. Theirs is as it was.
fn refused(world: &World, why: &str) {
    let mut agent = not_started(world);
    agent.spawn(&[]).unwrap();
    let said = format!("{:#}", agent.wait_ready().unwrap_err());
    // The log goes on from agent to agent.
    let error = said.lines().rev().find(|l| l.starts_with("error: ")).unwrap_or(&said);
    assert!(error.contains(why), "{said}");
    assert!(said.contains("\nhelp: "), "{said}");
    assert_eq!(residue::find(world).unwrap(), Vec::<String>::new());
}

fn remove(path: &Path) {
    if fs::symlink_metadata(path).is_ok_and(|m| m.is_dir()) {
        for entry in fs::read_dir(path).unwrap() {
            remove(&entry.unwrap().path());
        }
        fs::remove_dir(path).unwrap();
    } else {
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn h2_pins_of_others_and_symbolic_links_are_refused() {
    let world = World::build(WorldSpec::default()).unwrap();
    let root = world.lab().bpffs();
    let other = Lab::new().unwrap();
    let theirs = other.bpffs();
    mkdir(&theirs);
    pin_map(&theirs.join("precious"), "4");
    pin_map(&theirs.join("CONTROL"), "4");
    let maps = root.join("abi1/maps");
    let cases: [(&str, &dyn Fn()); 7] = [
        ("it is no directory", &|| symlink(&theirs, &root).unwrap()),
        ("it belongs to another user", &|| {
            mkdir(&root);
            chown(&root, Some(NOBODY), None).unwrap();
        }),
        ("it is no directory", &|| {
            mkdir(&root.join("abi1"));
            symlink(&theirs, &maps).unwrap();
        }),
        ("it belongs to another user", &|| {
            mkdir(&maps);
            chown(root.join("abi1"), Some(NOBODY), None).unwrap();
        }),
        ("it is a symbolic link", &|| {
            mkdir(&maps);
            symlink(theirs.join("CONTROL"), maps.join("CONTROL")).unwrap();
        }),
        ("it belongs to another user", &|| {
            mkdir(&maps);
            pin_map(&maps.join("CONTROL"), "4");
            chown(maps.join("CONTROL"), Some(NOBODY), None).unwrap();
        }),
        ("is no map of ours", &|| {
            mkdir(&maps);
            pin_map(&maps.join("LISTENERS"), "4");
        }),
    ];
    for (why, make) in cases {
        make();
        refused(&world, why);
        remove(&root);
    }
    // Nor does an uninstall follow a link to what is theirs.
    mkdir(&root.join("abi1"));
    symlink(&theirs, &maps).unwrap();
    let agent = not_started(&world);
    let out = gray_tests::command::output(&mut agent.uninstall_command()).unwrap();
    assert!(!out.status.success(), "{out:?}");
    assert!(theirs.join("precious").exists() && theirs.join("CONTROL").exists(), "theirs is gone");
    remove(&root);
    remove(&theirs);
}

/// The pins of a gray that this one does not know are not touched; an empty directory of its is in nobody's way.
#[test]
fn h2_pins_of_an_unknown_abi_are_refused_and_its_empty_directory_is_not() {
    let world = World::build(WorldSpec::default()).unwrap();
    let maps = world.lab().bpffs().join("abi77/maps");
    mkdir(&world.lab().bpffs());
    mkdir(&world.lab().bpffs().join("abi77"));
    mkdir(&maps);
    pin_map(&maps.join("CONTROL"), "4");
    refused(&world, "77");
    fs::remove_file(maps.join("CONTROL")).unwrap();
    let agent = Agent::start(&world).unwrap();
    agent.uninstall().unwrap();
}

#[test]
fn h2_nobody_else_may_open_the_pins() {
    let world = World::build(WorldSpec::default()).unwrap();
    let root = world.lab().bpffs();
    // Somebody made it for us, too openly.
    mkdir(&root);
    fs::set_permissions(&root, fs::Permissions::from_mode(0o777)).unwrap();
    let agent = Agent::start(&world).unwrap();
    for dir in ["", "abi1", "abi1/maps", "abi1/links", "abi1/programs"] {
        let mode = fs::metadata(root.join(dir)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o700, "{dir:?}");
    }
    for dir in ["maps", "links", "programs"] {
        for pin in fs::read_dir(root.join("abi1").join(dir)).unwrap() {
            let pin = pin.unwrap();
            let mode = pin.metadata().unwrap().permissions().mode() & 0o077;
            assert_eq!(mode, 0, "{}", pin.path().display());
        }
    }
    residue::assert_none(&world, agent);
}

/// A foreign link in the place of ours keeps its program; the rest works, and says what is wrong.
#[test]
fn h2_a_foreign_link_in_our_place_keeps_its_program() {
    if skip::without_tcx() {
        return;
    }
    let mut scene = Scene::start(WorldSpec::default());
    let (all, _) = four_are_gray(&scene);
    scene.agent.stop().unwrap();
    let links = scene.agent.bpffs().join("abi1/links");
    // The one of the callers' cgroup, under the name of an interface's.
    fs::remove_file(links.join("tc-ingress-c0")).unwrap();
    fs::rename(links.join("cgroup-gray_recvmsg6"), links.join("tc-ingress-c0")).unwrap();
    let program = |scene: &Scene| bpf::on_cgroup(scene.world.callers.path(), RECVMSG6).unwrap();
    let before = program(&scene);
    scene.agent.restart().unwrap();
    let status = scene.agent.gray_json(&["status"]).unwrap();
    let found =
        status["attachments"].as_array().unwrap().iter().find(|a| a["iface"] == "c0").unwrap().clone();
    assert_eq!(found["state"], "failed", "{status}");
    assert!(found["error"].as_str().unwrap().contains("no tcx link"), "{found}");
    assert!(program(&scene).starts_with(&before), "it got another program");
    let mut new = new_connections(&scene.world.clients[0].place(), &all);
    some_more(&mut new, 20);
    new.stop().unwrap().assert_all_ok();
    // Nothing of ours is there: programs with the request path come to all the other places.
    scene.apply(&PolicyText::own(&scene.world).claims("app: { header: X-App-Id }").identify("app, source"));
    assert!(program(&scene).starts_with(&before), "it got another program");
    fs::remove_file(links.join("tc-ingress-c0")).unwrap();
    scene.finish();
}
