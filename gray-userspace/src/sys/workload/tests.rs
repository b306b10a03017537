//! Resolving on a made-up tree (paths, links) and on this machine's cgroup2 (ids, processes).
#![expect(clippy::print_stdout, reason = "a skip speaks")]

use std::{
    os::unix::fs::{MetadataExt, symlink},
    process::{Child, Command, Stdio},
};

use super::*;

#[test]
fn paths_inside_are_taken_and_ways_out_refused() {
    let tmp = tempfile::tempdir().unwrap();
    let root = tmp.path().join("cg");
    let deep = root.join("a.slice/b.service");
    fs::create_dir_all(&deep).unwrap();
    fs::create_dir(tmp.path().join("outside")).unwrap();
    symlink("../outside", root.join("way-out")).unwrap();
    symlink("a.slice", root.join("way-in")).unwrap();
    fs::write(root.join("file"), "").unwrap();
    let mount = CgroupMount(root.clone());
    let want = Cgroup { dir: deep.clone(), id: fs::metadata(&deep).unwrap().ino() };
    for good in ["a.slice/b.service", "/a.slice/b.service", "./a.slice//b.service/", deep.to_str().unwrap()] {
        assert_eq!(mount.resolve(WorkloadKind::Cgroup, good).unwrap(), want, "{good}");
    }
    for (bad, why) in [
        ("", "empty"),
        ("../outside", "`..`"),
        ("a.slice/../..", "`..`"),
        ("way-out", "symbolic link"),
        ("way-in/b.service", "symbolic link"),
        ("gone", "does not exist"),
        ("file", "Not a directory"),
        ("/", "root cgroup"),
        (root.to_str().unwrap(), "root cgroup"),
        ("/etc", "does not exist"),
    ] {
        let e = mount.resolve(WorkloadKind::Cgroup, bad).unwrap_err().to_string();
        assert!(e.contains(why), "{bad}: {e}");
    }
}

#[test]
fn units_are_searched_where_systemd_is_not() {
    let tmp = tempfile::tempdir().unwrap();
    let mount = CgroupMount(tmp.path().to_owned());
    for dir in ["system.slice/nginx.service/inner", "user.slice/u1/x.scope", "user.slice/u2/x.scope"] {
        fs::create_dir_all(tmp.path().join(dir)).unwrap();
    }
    let named = |name: &'static str| move |dir: &Path| dir.ends_with(name);
    assert_eq!(
        search(mount.path(), &named("nginx.service")),
        [tmp.path().join("system.slice/nginx.service")]
    );
    assert_eq!(search(mount.path(), &named("x.scope")).len(), 2);
    if Path::new("/run/systemd/system").is_dir() {
        println!("rest skipped: systemd is running here");
        return;
    }
    assert!(mount.resolve(WorkloadKind::Unit, "nginx").unwrap().dir.ends_with("system.slice/nginx.service"));
    assert!(matches!(mount.resolve(WorkloadKind::Unit, "x.scope"), Err(WorkloadError::Twice { .. })));
    assert!(matches!(mount.resolve(WorkloadKind::Unit, "redis"), Err(WorkloadError::NotThere { .. })));
}

/// Asked anew it would be found twice, or by nobody: while its cgroup is there, nobody is asked.
#[test]
fn a_unit_is_not_looked_for_while_its_cgroup_is_there() {
    let tmp = tempfile::tempdir().unwrap();
    let mount = CgroupMount(tmp.path().to_owned());
    let dirs = ["a.slice/gray-no-such.service", "b.slice/gray-no-such.service"].map(|d| tmp.path().join(d));
    dirs.iter().for_each(|d| fs::create_dir_all(d).unwrap());
    let known = mount.cgroup("a.slice/gray-no-such.service").unwrap();
    let follow = |known| mount.follow(known, WorkloadKind::Unit, "gray-no-such");
    assert_eq!(follow(Some(&known)).unwrap(), known);
    assert!(follow(None).is_err());
    // Another one under the same path.
    let other = Cgroup { id: known.id + 1, ..known.clone() };
    assert!(follow(Some(&other)).is_err());
    fs::remove_dir(&dirs[0]).unwrap();
    let moved = follow(Some(&known));
    match Path::new("/run/systemd/system").is_dir() {
        true => assert!(matches!(moved, Err(WorkloadError::NotThere { .. }))),
        false => assert_eq!(moved.unwrap().dir, dirs[1]),
    }
}

#[test]
fn a7_containers_and_pods_are_searched() {
    let tmp = tempfile::tempdir().unwrap();
    let mount = CgroupMount(tmp.path().to_owned());
    let (one, other) = ("ab".repeat(32), format!("{}00", "ab".repeat(31)));
    let pod = "kubepods.slice/kubepods-pod0b7d8c2e_5a41_4f0e_9c3b_1d2e3f4a5b6c.slice";
    for dir in [format!("{pod}/cri-containerd-{one}.scope/init"), format!("docker/{other}")] {
        fs::create_dir_all(tmp.path().join(dir)).unwrap();
    }
    let of = |kind, target: &str| mount.resolve(kind, target);
    assert!(of(WorkloadKind::Container, &one).unwrap().dir.ends_with(format!("cri-containerd-{one}.scope")));
    // Of both ids the beginning.
    let twice = of(WorkloadKind::Container, &one[..12]).unwrap_err();
    assert!(matches!(twice, WorkloadError::Twice { .. }), "{twice}");
    let uid = "0b7d8c2e-5a41-4f0e-9c3b-1d2e3f4a5b6c";
    assert!(of(WorkloadKind::Pod, uid).unwrap().dir.ends_with(pod));
    let gone = of(WorkloadKind::Container, &"c".repeat(64)).unwrap_err().to_string();
    assert!(gone.contains("has no cgroup; is it running?"), "{gone}");
    let bad = of(WorkloadKind::Container, "shop").unwrap_err().to_string();
    assert!(bad.contains("{{.Id}}"), "{bad}");
    // While it is there, nobody searches.
    let known = mount.cgroup(&format!("docker/{other}")).unwrap();
    assert_eq!(mount.follow(Some(&known), WorkloadKind::Container, &one[..12]).unwrap(), known);
}

#[test]
fn unit_names_cannot_be_options_or_paths() {
    assert_eq!(unit_name("nginx").unwrap(), "nginx.service");
    assert_eq!(unit_name("getty@tty1.service").unwrap(), "getty@tty1.service");
    assert_eq!(unit_name(r"dev-disk\x2duuid.swap").unwrap(), r"dev-disk\x2duuid.swap");
    for bad in ["", "--now", "-H", "a/b", "../x", ".", "a b", "a;b", "ü"] {
        assert!(unit_name(bad).is_err(), "{bad}");
    }
}

#[test]
fn reads_proc_cgroup() {
    let hybrid = "9:name=systemd:/\n4:memory:/x\n0::/system.slice/a.service\n";
    assert_eq!(v2_line(hybrid), Some("/system.slice/a.service"));
    assert_eq!(v2_line("0::/gone (deleted)\n"), Some("/gone"));
    assert_eq!(v2_line("4:memory:/x\n"), None);
    let mount = CgroupMount("/".into());
    assert!(matches!(mount.resolve(WorkloadKind::Pid, "x"), Err(WorkloadError::Pid(_))));
    assert!(matches!(mount.resolve(WorkloadKind::Pid, "4194305"), Err(WorkloadError::PidMissing(4_194_305))));
}

/// A cgroup with a sleeper in it; both end with the test.
struct Made {
    dir: PathBuf,
    sleeper: Child,
}

impl Drop for Made {
    fn drop(&mut self) {
        let _ = self.sleeper.kill();
        let _ = self.sleeper.wait();
        // The kernel lets go of an emptied cgroup a moment later.
        let removed = (0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(5));
            fs::remove_dir(&self.dir).is_ok()
        });
        assert!(removed || std::thread::panicking(), "{:?} is left behind", self.dir);
    }
}

/// A7: the id is the kernel's own (`name_to_handle_at` gives the same number), found by path and by pid.
#[test]
fn this_machines_cgroups_have_the_kernels_ids() {
    let Ok(mount) = CgroupMount::find() else {
        println!("skipped: no cgroup2 here");
        return;
    };
    assert!(mount.root().unwrap().id >= 1);
    let dir = mount.path().join(format!("gray-test-{}", std::process::id()));
    if fs::create_dir(&dir).is_err() {
        println!("skipped: may not make a cgroup here");
        return;
    }
    let sleeper = Command::new("sleep").arg("60").stdout(Stdio::null()).spawn().unwrap();
    let made = Made { dir: dir.clone(), sleeper };
    let pid = made.sleeper.id().to_string();
    let root_member = mount.resolve(WorkloadKind::Pid, &pid);
    fs::write(dir.join("cgroup.procs"), &pid).unwrap();
    let by_pid = mount.resolve(WorkloadKind::Pid, &pid).unwrap();
    let by_path = mount.resolve(WorkloadKind::Cgroup, dir.file_name().unwrap().to_str().unwrap()).unwrap();
    assert_eq!(by_pid, by_path);
    assert_eq!(by_pid, Cgroup { dir: dir.clone(), id: fs::metadata(&dir).unwrap().ino() });
    if fs::read_to_string("/proc/self/cgroup").unwrap().lines().any(|l| l == "0::/") {
        assert!(matches!(root_member, Err(WorkloadError::Root { .. })), "{root_member:?}");
    }
}
