//! The k-th bpf(2) call of a change fails, for every k, alone or with all that come after it: the old policy stays whole,
//! the error names the table, and when the fault is over the same change works.

use std::fs;
use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Result, ensure};
use gray_tests::{
    WorldSpec,
    client::LoadSpec,
    command::{note, run, wait_for},
    kill::pinned,
    policy::PolicyText,
    scene::{Scene, vip},
    sys,
};

use super::{ONE, PATIENCE};

/// Faults, and how Rust calls them.
const FAULTS: [(&str, i32); 3] = [("ENOSPC", libc::ENOSPC), ("E2BIG", libc::E2BIG), ("EPERM", libc::EPERM)];
/// What a table is called in an error.
const TABLES: [&str; 14] = [
    "class",
    "instance",
    "maglev",
    "listeners",
    "identities",
    "prefixes",
    "filter",
    "services",
    "readings",
    "facts",
    "rules",
    "weighted",
    "subsets",
    "counter",
];

/// strace at every thread of the agent: each thread's n-th bpf(2) fails, or (`for_good`) that and all after it.
struct Fault {
    strace: Child,
}

impl Fault {
    fn on(pid: u32, nth: u32, for_good: bool, error: &str) -> Result<Self> {
        let mut strace = Command::new("strace");
        let until = if for_good { "+" } else { "" };
        let inject = format!("inject=bpf:error={error}:when={nth}{until}");
        let _ = strace.args(["-f", "-qq", "-e", "trace=bpf", "-e", &inject, "-p", &pid.to_string()]);
        let mut strace = strace.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        wait_for("strace to hold every thread", Duration::from_secs(5), || {
            ensure!(strace.try_wait()?.is_none(), "strace ended");
            traced(pid, strace.id())
        })?;
        Ok(Self { strace })
    }
}

impl Drop for Fault {
    fn drop(&mut self) {
        // It lets go of what it traces before it ends; SIGKILL would not.
        let _ = sys::kill(self.strace.id(), libc::SIGINT);
        let _ = self.strace.wait();
    }
}

fn traced(pid: u32, by: u32) -> Result<bool> {
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(task?.path().join("status")).unwrap_or_default();
        if !text.contains(&format!("TracerPid:\t{by}\n")) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Two policies that write every kind of table; clients 0..2 are gray in the first, 4..6 in the second.
fn policy(scene: &Scene, all: &[IpAddr], second: bool) -> PolicyText {
    let (list, net, weights) = match second {
        false => (&all[..2], "198.19.1.0/24", "60, 40"),
        true => (&all[4..6], "198.19.2.0/24", "30, 70"),
    };
    let (a, b) = weights.split_once(", ").unwrap();
    let base = PolicyText::own(&scene.world).sources("early", list).sources("net", [net]);
    let base = if second { base.service("more", 8081, false) } else { base };
    let split = format!("[ {{ version: \"1.0\", weight: {a} }}, {{ version: \"2.0\", weight: {b} }} ]");
    base.cohort("some", if second { "percent: 5" } else { "percent: 0" })
        .route("service: web, when: early, to: { version: \"2.0\" }")
        .route("service: echo, when: { any: [net, some] }, to: { version: \"2.0\" }")
        .route(&format!("service: dns, to: {split}"))
}

/// Both paths: exactly these clients are gray, no caller is.
fn in_force(scene: &Scene, gray: &[IpAddr]) {
    scene.expect_gray(false, gray);
    let edge = scene.world.edge_addresses();
    let spec = LoadSpec::new(vip(false, 8080), ONE).count(edge.len() as u64).sources(edge);
    let report = spec.run(&scene.world.caller()).unwrap();
    report.assert_all_ok();
    assert_eq!(report.of_version("2.0"), 0);
}

fn revision(scene: &Scene) -> u64 {
    scene.agent.gray_json(&["status"]).unwrap()["revision"].as_u64().unwrap()
}

fn each_call_fails(for_good: bool) {
    if run(Command::new("strace").arg("-V")).is_err() {
        note("SKIP faults: no strace");
        return;
    }
    let scene = Scene::start(WorldSpec::default());
    let all = scene.world.clients[0].sources(false);
    scene.apply(&policy(&scene, &all, false));
    let file = scene.world.temp().join("second.yaml");
    fs::write(&file, policy(&scene, &all, true).to_string()).unwrap();
    let pid = scene.agent.pid().unwrap();
    let entries = || -> Result<[usize; 4]> {
        let t = pinned::read(scene.agent.bpffs())?;
        Ok([t.listeners.len(), t.identities.len(), t.prefixes.len(), t.instances.len()])
    };
    let few = entries().unwrap();
    let (mut failed, mut passed, mut k) = (0, 0, 0);
    // The second success in a row means that no call of a change is the k-th any more.
    while passed < 2 {
        k += 1;
        let (fault, errno) = FAULTS[k as usize % FAULTS.len()];
        let before = revision(&scene);
        let out = {
            let _fault = Fault::on(pid, k, for_good, fault).unwrap();
            scene.agent.gray(&["apply", "-f", &file.to_string_lossy()]).unwrap()
        };
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        if out.status.success() {
            passed += 1;
            in_force(&scene, &all[4..6]);
            scene.apply(&policy(&scene, &all, false));
            in_force(&scene, &all[..2]);
        } else {
            (failed, passed) = (failed + 1, 0);
            assert!(said.contains(&format!("os error {errno}")), "call {k}: {said}");
            assert!(TABLES.iter().any(|t| said.contains(t)), "call {k} names no table: {said}");
            assert_eq!(revision(&scene), before, "call {k}");
            in_force(&scene, &all[..2]);
            // The same change, now that nothing is in its way, and back.
            if for_good {
                scene.apply(&policy(&scene, &all, true));
                in_force(&scene, &all[4..6]);
                scene.apply(&policy(&scene, &all, false));
                in_force(&scene, &all[..2]);
            }
        }
        assert!(k < 100, "a change never ends to call bpf(2)");
    }
    note(&format!("{failed} of {k} failed"));
    assert!(failed > 8, "a change has more than {failed} calls of bpf(2)");
    // A flip's leftovers go, also when they could not at first.
    let gone = wait_for("leftovers to go", PATIENCE, || Ok(entries()? == few));
    assert!(gone.is_ok(), "listeners, identities, prefixes, instances: {:?}, not {few:?}", entries());
    scene.finish();
}

#[test]
fn d1_whichever_call_of_bpf_fails_the_old_policy_stays_and_the_error_names_the_table() {
    each_call_fails(false);
}

#[test]
fn d1_from_whichever_call_on_bpf_fails_the_next_change_works() {
    each_call_fails(true);
}
