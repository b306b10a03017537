//! What goes wrong beneath a release: the engine itself, the disk, a file system that says nothing, a document of another gray.

use super::*;

/// A panic in a round, between what is written down and what is done, and in a step's task.
#[test]
fn f1_a_fault_of_the_engine_ends_no_release() {
    let mut shop = Shop::start(true);
    for (n, (point, state)) in [
        ("release.turned:2=panic", "done"),
        ("release.begun=panic", "done"),
        ("release.begun=error", "done"),
        ("release.attempt=panic", "stopped"),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("r{n}");
        shop.agent.stop().unwrap();
        shop.agent.spawn(&[("GRAY_FAIL", point)]).unwrap();
        assert!(shop.agent.wait_ready().unwrap());
        let _ = shop.begin(&short(&name, n + 1));
        shop.wait(&name, state, if state == "done" { "a policy" } else { "retry or close" });
        let history = shop.agent.gray_ok(&["release", "history", &name]).unwrap();
        let says = match point {
            "release.attempt=panic" => "the engine failed at it",
            "release.turned:2=panic" => "",
            _ => "nobody knows what came of it",
        };
        assert!(history.contains(says), "{point}: {history}");
        let log = std::fs::read_to_string(shop.agent.log()).unwrap();
        assert!(!point.contains("panic") || log.contains("panicked"), "{point}");
        if state == "done" {
            let _ = shop.tell(&["abort", &name]);
        }
        let _ = shop.tell(&["close", &name]);
    }
    shop.finish();
}

fn sh(text: &str) {
    let out = std::process::Command::new("sh").args(["-c", text]).output().unwrap();
    assert!(out.status.success(), "{text}: {}", String::from_utf8_lossy(&out.stderr));
}

/// Its directory goes with it.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn f7_a_full_disk_does_not_hold_up_the_way_back() {
    let mut shop = Shop::start(true);
    let state = shop.agent.state_dir().to_owned();
    shop.agent.stop().unwrap();
    let (dir, kept) = (state.display(), state.with_extension("kept"));
    sh(&format!(
        "mv {dir} {0} && mkdir -m 700 {dir} && mount -t tmpfs -o size=24m,mode=700 none {dir} && cp -a {0}/. {dir}/",
        kept.display()
    ));
    let mounted = Mounted(state.clone());
    shop.agent.restart().unwrap();
    let _ = shop.begin(HELD);
    shop.wait("shop-2.0", "ramp 1", "approve");
    let ballast = state.join("ballast");
    assert!(ballast.exists());
    let full = std::process::Command::new("dd")
        .args(["if=/dev/zero", "bs=4096", &format!("of={dir}/other")])
        .output()
        .unwrap();
    assert!(!full.status.success(), "the disk is not full");
    assert!(!shop.on_gray(0).is_empty());
    // An edit does not take what the way back needs.
    let ids: Vec<String> = (0..4000).map(|n| format!("198.18.{}.{}", 16 + n / 250, n % 250)).collect();
    let list = shop.world.temp().join("beta");
    std::fs::write(&list, ids.join("\n")).unwrap();
    let edit = shop.agent.gray(&["cohort", "load", "beta", "--file", &list.to_string_lossy()]).unwrap();
    let said = String::from_utf8_lossy(&edit.stderr).into_owned();
    assert!(!edit.status.success() && said.contains("make room there"), "{said}");
    assert!(ballast.exists(), "an edit took it");
    let status = shop.agent.gray_json(&["status"]).unwrap();
    assert!(status["state_dir_error"].as_str().is_some_and(|e| e.contains("full")), "{status:#}");
    let answer = shop.tell(&["recall", "shop-2.0", "--mode", "reset"]);
    assert_eq!(answer["state"], "abnormal", "{answer:#}");
    assert_eq!(shop.on_gray(0), BTreeSet::new());
    assert!(!ballast.exists(), "it was given up");
    let _ = shop.tell(&["close", "shop-2.0"]);
    shop.agent.stop().unwrap();
    sh(&format!("rm {dir}/other && cp -a {dir}/. {}/", kept.display()));
    drop(mounted);
    sh(&format!("rmdir {dir} && mv {} {dir}", kept.display()));
    shop.agent.restart().unwrap();
    assert!(ballast.exists(), "and is held back again");
    shop.finish();
}

/// A file system whose server says nothing: two steps hang in it, as many as the runtime has threads.
#[test]
fn f2_a_directory_that_does_not_answer_holds_nothing_up() {
    if factor() > 1 {
        return skip::because("no FUSE in a guest");
    }
    let shop = Shop::start(true);
    // Not among the lab's: nobody could sweep it while it is mounted.
    let dir = std::env::temp_dir().join(format!("gray-silent-{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    // Nobody reads what is asked of it; its end is the end of this process.
    let mut server = std::process::Command::new("sh")
        .arg("-c")
        .arg(format!(
            "exec 9<>/dev/fuse; mount -i -t fuse -o fd=9,rootmode=40000,user_id=0,group_id=0 none {} || exit 1; exec sleep 100000",
            dir.display()
        ))
        .spawn()
        .unwrap();
    let mounted = Mounted(dir.clone());
    wait_for("the mount", PATIENCE, || {
        Ok(std::fs::read_to_string("/proc/mounts")?.contains(&*dir.to_string_lossy()))
    })
    .unwrap();
    let hangs = |name: &str, service: &str| {
        format!(
            "release: {name}\nversion: 2.0.0-gray.1\nservices: {{ {service}: {{ gray: {{ version: '2.0' }} }} }}\n\
             deploy: [{{ command: [log, deploy], dir: {}, timeout: 16s }}]\nstages: [{{ percent: 100 }}]\n",
            dir.display()
        )
    };
    for (name, service) in [("a", "shop"), ("b", "cart"), ("c", "shop-echo")] {
        let _ = shop.begin(&hangs(name, service));
    }
    std::thread::sleep(Duration::from_secs(2));
    let asked = shop.agent.command(&["release", "status", "a"]);
    let mut bounded = std::process::Command::new("timeout");
    let _ = bounded.arg("20").arg(asked.get_program()).args(asked.get_args());
    let _ = bounded.envs(asked.get_envs().filter_map(|(name, value)| Some((name, value?))));
    assert!(bounded.status().unwrap().success(), "the agent does not answer");
    assert_eq!(shop.tell(&["abort", "b"])["state"], "stopped");
    // All this while it hung.
    assert_eq!(shop.state("a"), "deploying");
    shop.wait("a", "stopped", "retry or close");
    assert!(shop.agent.gray_ok(&["release", "history", "a"]).unwrap().contains("it had not begun"));
    shop.wait("c", "stopped", "retry or close");
    for name in ["a", "b", "c"] {
        let _ = shop.tell(&["close", name]);
    }
    drop(mounted);
    server.kill().unwrap();
    let _ = server.wait().unwrap();
    std::fs::remove_dir(&dir).unwrap();
    shop.finish();
}

#[test]
fn f1_a_release_that_another_gray_has_made_takes_an_abort() {
    use gray_userspace::store::{Sqlite, StateDir};
    let mut shop = Shop::start(true);
    let _ = shop.begin(HELD);
    shop.wait("shop-2.0", "ramp 1", "approve");
    shop.agent.stop().unwrap();
    {
        let dir = StateDir::open(shop.agent.state_dir()).unwrap();
        let mut store = Sqlite::open(&dir).unwrap();
        let mut kept = store.releases().unwrap().remove(0);
        kept.document += "of-next-year: true\n";
        store.save_release(&kept, &[], None).unwrap();
    }
    shop.agent.restart().unwrap();
    assert_eq!(shop.state("shop-2.0"), "unreadable");
    assert!(!shop.on_gray(0).is_empty(), "it stays where it is");
    for args in [&["release", "recall", "shop-2.0"][..], &["release", "resume", "shop-2.0"]] {
        let out = shop.agent.gray(args).unwrap();
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(
            !out.status.success() && said.contains("it takes: abort") && said.contains("of-next-year"),
            "{said}"
        );
    }
    assert_eq!(shop.tell(&["abort", "shop-2.0"])["state"], "failed");
    assert_eq!(shop.on_gray(0), BTreeSet::new());
    let _ = shop.begin(&HELD.replace("gray.1", "gray.2"));
    shop.wait("shop-2.0", "ramp 1", "approve");
    let _ = shop.tell(&["abort", "shop-2.0"]);
    let _ = shop.tell(&["close", "shop-2.0"]);
    shop.finish();
}
