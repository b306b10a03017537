//! From one ABI number to another and back (H2): the newer gray takes over by itself and gives back with `gray migrate`. The newer one is
//! `gray-abi2`, built with the feature `abi-test`: its flows have another order and size.

use std::path::{Path, PathBuf};

use gray_tests::{
    agent::binary,
    command::{note, output},
    pace,
    scene::Scene,
    skip,
};

use super::replace::{Loads, Stream, stage};
use super::resize::{Known, LARGE, PAUSE, all_moved, quiet_crowd};

/// Beside the ordinary one.
fn newer() -> PathBuf {
    let path = binary().unwrap().with_file_name("gray-abi2");
    assert!(path.is_file(), "{} is not built: cargo xtask build --abi-test", path.display());
    path
}

/// `gray migrate` of the binary in use, on this agent's pins: exit code, what it says, and what is wrong.
fn migrate(scene: &Scene, to: &str, fail: &str) -> (Option<i32>, String, String) {
    let mut command = scene.agent.command(&["migrate", "--to", to, "--bpffs"]);
    let out = output(command.arg(scene.agent.bpffs()).env("GRAY_FAIL", fail)).unwrap();
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    (out.status.code(), text(&out.stdout), text(&out.stderr))
}

fn speaks(scene: &Scene, abi: u64) {
    assert_eq!(scene.agent.gray_json(&["status"]).unwrap()["abi"], abi);
    let names = std::fs::read_dir(scene.agent.bpffs()).unwrap();
    let names: Vec<_> = names.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(names, [format!("abi{abi}")]);
}

/// The agent of this binary does not start; its error says this.
fn refused(scene: &mut Scene, why: &str) {
    scene.agent.spawn(&[]).unwrap();
    let said = format!("{:#}", scene.agent.wait_ready().unwrap_err());
    assert!(said.contains(why), "{said}");
    scene.agent.has_ended();
}

/// The agent of this binary follows, and nobody notices.
fn takes_over(scene: &mut Scene, loads: &mut Loads, crowd: &Known, binary: &Path, abi: u64) {
    scene.agent.use_binary(binary);
    scene.agent.restart().unwrap();
    loads.some_more();
    speaks(scene, abi);
    all_moved(scene, LARGE, crowd);
}

#[test]
fn h2_to_a_newer_abi_and_back_under_load_nobody_notices() {
    if skip::without_tcx() {
        return;
    }
    let (old, new) = (binary().unwrap(), newer());
    let (mut scene, gray) = stage(None);
    scene.agent.use_args(&["--flows", &LARGE.to_string()]);
    scene.agent.restart().unwrap();
    let crowd = quiet_crowd(&scene, &gray);
    let stream = Stream::every(&scene, PAUSE);
    let mut loads = Loads::start(&scene, &gray);
    for _ in 0..2 {
        scene.agent.stop().unwrap();
        takes_over(&mut scene, &mut loads, &crowd, &new, 2);
        scene.agent.stop().unwrap();
        let (code, said, error) = migrate(&scene, "1", "");
        assert_eq!(code, Some(0), "{error}");
        note(said.trim());
        // Nobody is there, and the newer programs are at work over the tables of both.
        loads.some_more();
        takes_over(&mut scene, &mut loads, &crowd, &old, 1);
    }
    loads.end();
    stream.end();
    scene.finish();
}

#[test]
fn h2_killed_between_two_abi_numbers_the_next_agent_goes_on() {
    if skip::without_tcx() {
        return;
    }
    let (old, new) = (binary().unwrap(), newer());
    let (mut scene, gray) = stage(None);
    scene.agent.use_args(&["--flows", &LARGE.to_string()]);
    scene.agent.restart().unwrap();
    let crowd = quiet_crowd(&scene, &gray);
    let stream = Stream::every(&scene, PAUSE);
    let mut loads = Loads::start(&scene, &gray);
    let up = vec![
        "migrate.shared",
        "move.begun",
        "move.both",
        "move.part",
        "move.copied",
        "move.switched",
        "move.placed",
    ];
    let up: Vec<_> = up.into_iter().enumerate().collect();
    for (round, point) in pace::points(up) {
        note(point);
        // Up, killed; the older one refuses what is half-way; up again.
        scene.agent.stop().unwrap();
        scene.agent.use_binary(&new);
        scene.agent.spawn(&[("GRAY_FAIL", point)]).unwrap();
        assert!(!scene.agent.wait_ready().unwrap(), "it passed {point} alive");
        loads.some_more();
        scene.agent.use_binary(&old);
        refused(&mut scene, "gray migrate --to 1");
        takes_over(&mut scene, &mut loads, &crowd, &new, 2);
        scene.agent.stop().unwrap();
        // Down, killed; and down again.
        let down = ["migrate.shared", "move.part:2", "migrate.copied", "migrate.handed"][round % 4];
        let (code, ..) = migrate(&scene, "1", down);
        assert_eq!(code, None, "it passed {down} alive");
        loads.some_more();
        let (code, _, error) = migrate(&scene, "1", "");
        assert_eq!(code, Some(0), "{error}");
        takes_over(&mut scene, &mut loads, &crowd, &old, 1);
    }
    loads.end();
    stream.end();
    scene.finish();
}

#[test]
fn h2_what_cannot_be_migrated_is_refused_and_stays() {
    if skip::without_tcx() {
        return;
    }
    let (old, new) = (binary().unwrap(), newer());
    let (mut scene, _) = stage(None);
    let says = |scene: &Scene, to: &str, code: i32, words: &str| {
        let (exit, _, error) = migrate(scene, to, "");
        assert!(
            exit == Some(code) && error.contains(words) && error.contains("\nhelp: "),
            "{exit:?}: {error}"
        );
    };
    says(&scene, "1", 1, "an agent (pid ");
    says(&scene, "7", 2, "this gray does not know ABI 7");
    scene.agent.stop().unwrap();
    scene.agent.use_binary(&new);
    says(&scene, "1", 1, "nothing of ABI 2 is pinned");
    scene.agent.restart().unwrap();
    speaks(&scene, 2);
    scene.agent.stop().unwrap();
    let (code, said, _) = migrate(&scene, "2", "");
    assert!(code == Some(0) && said.contains("already"), "{said}");
    scene.agent.use_binary(&old);
    refused(&mut scene, "gray migrate --to 1");
    says(&scene, "2", 2, "this gray does not know ABI 2");
    scene.agent.use_binary(&new);
    scene.agent.restart().unwrap();
    speaks(&scene, 2);
    scene.finish();
}
