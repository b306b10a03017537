//! Faults that were found by attack, each once: they must not come back. And the older way onto an interface.

use std::time::Duration;

use gray_tests::{
    WorldSpec,
    agent::{Agent, AgentSpec},
    bpf,
    client::{LoadSpec, Mode},
    command::{run, wait_for},
    link::{EndSpec, ip_batch},
    policy::PolicyText,
    scene::{Scene, servers, vip},
    skip,
    world::World,
};
use gray_userspace::sys::kernel::KernelVersion;

const ONE: Mode = Mode::Http { per_connection: 1 };

#[test]
fn uninstall_touches_nothing_outside_a_bpf_file_system() {
    let scene = Scene::start(WorldSpec::default());
    let dir = scene.world.temp().join("precious");
    std::fs::create_dir_all(dir.join("abi1/maps")).unwrap();
    std::fs::write(dir.join("abi1/maps/CONTROL"), "keep me").unwrap();
    let path = dir.to_string_lossy().into_owned();
    let out = scene.agent.gray(&["uninstall", "--bpffs", &path, "--state-dir", &path]).unwrap();
    assert!(!out.status.success());
    assert_eq!(std::fs::read_to_string(dir.join("abi1/maps/CONTROL")).unwrap(), "keep me");
    scene.finish();
}

#[test]
fn a7_a_workload_keeps_its_claim_after_a_key_import_and_any_number_of_changes() {
    let scene = Scene::start(WorldSpec::default());
    let policy =
        PolicyText::own(&scene.world).identify("workload, source").cohort("jobs", "workloads: [web]");
    scene.apply(&policy.gray_when("jobs"));
    let cgroup = scene.world.callers.path().to_string_lossy().into_owned();
    let _ = scene.agent.gray_ok(&["workload", "set", "web", "--cgroup", &cgroup]).unwrap();
    let gray = || {
        let report = LoadSpec::new(vip(false, 8080), ONE).count(8).run(&scene.world.caller()).unwrap();
        report.assert_all_ok();
        report.of_version("2.0") == report.ok
    };
    assert!(gray());
    let key = scene.world.temp().join("other.key");
    std::fs::write(&key, "00112233445566778899aabbccddeeff\n").unwrap();
    let _ = scene.agent.gray_ok(&["key", "import", &key.to_string_lossy()]).unwrap();
    assert!(gray(), "after the import");
    for i in 0..4 {
        let _ = scene.agent.gray_ok(&["cohort", "add", "jobs", &format!("job{i}")]).unwrap();
        assert!(gray(), "after change {i}");
    }
    scene.finish();
}

#[test]
fn the_dialled_instance_is_not_drained_while_it_is_the_last() {
    let scene = Scene::start(WorldSpec::default());
    scene.apply(&PolicyText::own(&scene.world));
    let all = scene.agent.gray_json(&["get", "instances"]).unwrap();
    let own = all.as_array().unwrap().iter().find(|i| i["stable"] == true).unwrap();
    let id = format!("{}/{}", own["service"].as_str().unwrap(), own["id"].as_str().unwrap());
    let out = scene.agent.gray(&["instance", "drain", &id]).unwrap();
    assert!(!out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
    scene.finish();
}

/// Nor where nobody has the address that is dialled: clients would reach nobody. Where the policy says who serves instead it is.
#[test]
fn c12_d1_the_last_of_stable_is_not_drained_by_mistake() {
    let scene = Scene::start(WorldSpec::default());
    let text = PolicyText::moved(&scene.world).to_string();
    let _ = scene.agent.apply(&text).unwrap();
    let drain = || scene.agent.gray(&["instance", "drain", "web/s4"]).unwrap();
    let out = drain();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!out.status.success() && said.contains("the last instance of stable that serves IPv4"), "{said}");
    let _ = scene.agent.apply(&text.replace("    stable: {", "    failover: any\n    stable: {")).unwrap();
    let out = drain();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    // What a pipe hands on whose first program failed takes nothing away.
    for nothing in ["", "# nothing\n---\n", "{}\n"] {
        let refused = scene.agent.apply(nothing).unwrap_err().to_string();
        assert!(
            refused.contains("there is nothing in what is to be applied, and 3 services are in force"),
            "{refused}"
        );
    }
    let _ = scene.agent.apply("services: {}\n").unwrap();
    scene.finish();
}

/// A number that falls free is given to the next name, two policies later; what was counted under it is not.
#[test]
fn g1_a_new_name_does_not_begin_with_the_counters_of_a_gone_one() {
    let scene = Scene::start(WorldSpec::default());
    let text =
        PolicyText::own(&scene.world).cohort("all", "sources: [198.18.0.0/15]").gray_when("all").to_string();
    let _ = scene.agent.apply(&text).unwrap();
    let report = LoadSpec::new(vip(false, 8080), ONE).count(8).run(&scene.world.caller()).unwrap();
    report.assert_all_ok();
    let counted = |of: &str| {
        let all = scene.agent.metrics().unwrap();
        let of = [format!("service=\"{of}\""), format!("@{of}\"")];
        let lines = all.lines().filter(|l| of.iter().any(|of| l.contains(of)) && l.contains("_total{"));
        lines.filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>()
    };
    assert!(counted("web") >= 8.0, "{}", scene.agent.metrics().unwrap());
    for name in ["rests", "fresh"] {
        let _ = scene.agent.apply(&text.replace("web", name)).unwrap();
        let all = scene.agent.metrics().unwrap();
        assert!(all.contains(&format!("service=\"{name}\"")), "{all}");
        assert_eq!(counted(name), 0.0, "{name}: {all}");
    }
    scene.finish();
}

/// What kernels before 6.6 get, on this one: filters instead of links. They survive the agent, are replaced by the next,
/// and leave no qdisc.
#[test]
fn h1_h2_clsact_carries_the_packet_path_where_tcx_is_missing() {
    let world = World::build(WorldSpec::default()).unwrap();
    let (stable, gray) = servers(&world);
    let spec = AgentSpec { env: vec![("GRAY_HOOK".into(), "clsact".into())], ..AgentSpec::of(&world) };
    let agent = Agent::start_with(&world, spec).unwrap();
    let mut scene = Scene { agent, stable, gray, world };
    let early = scene.world.clients[0].sources(false)[..3].to_vec();
    scene.apply(&PolicyText::own(&scene.world).sources("early", &early).gray_when("early"));
    scene.expect_gray(false, &early);
    let status = scene.agent.gray_json(&["status"]).unwrap();
    assert!(status["attachments"].as_array().unwrap().iter().all(|a| a["hook"] == "clsact"), "{status}");
    scene.agent.kill9().unwrap();
    scene.expect_gray(false, &early);
    scene.agent.restart().unwrap();
    scene.expect_gray(false, &early);
    // Somebody takes the qdisc away: the agent's comparison each 10 s brings the filter back.
    let tc = |args: &[&str]| run(scene.world.edge.command("tc").args(args)).unwrap();
    let _ = tc(&["qdisc", "del", "dev", "c0", "clsact"]);
    wait_for("the filter to come back", Duration::from_secs(15), || {
        Ok(tc(&["filter", "show", "dev", "c0", "ingress"]).contains("gray_tc_ingress"))
    })
    .unwrap();
    scene.expect_gray(false, &early);
    scene.finish();
}

/// Interfaces of VLANs have a dot in their names, which names of pins may not have. The next agent finds the links again, and takes
/// off what it is not asked for.
#[test]
fn h1_h2_interfaces_with_a_dot_in_their_names_are_attached() {
    let world = World::build(WorldSpec::default()).unwrap();
    dotted(&world);
    let (stable, gray) = servers(&world);
    let mut spec = AgentSpec::packets(&world);
    spec.attach[0] = "c0.100=edge".into();
    spec.attach.push("v.1=backend:xdp".into());
    let agent = Agent::start_with(&world, spec).unwrap();
    let mut scene = Scene { agent, stable, gray, world };
    let status = scene.agent.gray_json(&["status"]).unwrap();
    let all = status["attachments"].as_array().unwrap();
    assert!(all.iter().all(|a| a["state"] == "attached"), "{status}");
    // Where the kernel tells what takes frames, the pair has XDP: another pin with a dot.
    if KernelVersion::running().unwrap() >= KernelVersion::new(6, 3, 0) {
        assert!(all.iter().any(|a| a["iface"] == "v.1" && a["xdp"] == "native"), "{status}");
    }
    let source = [TAGGED.parse().unwrap()];
    scene.apply(&PolicyText::moved(&scene.world).sources("tagged", source).gray_when("tagged"));
    let steered = |scene: &Scene| {
        let spec = LoadSpec::new(vip(false, 8080), ONE).count(8).sources(source.to_vec());
        let report = spec.run(&scene.world.clients[0].place()).unwrap();
        assert_eq!((report.failed(), report.of_version("2.0")), (0, report.ok), "{report:?}");
    };
    steered(&scene);
    let programs =
        |scene: &Scene, iface| bpf::on_interface(&scene.world.edge, iface, bpf::TCX_INGRESS).unwrap();
    let before = programs(&scene, "c0.100");
    scene.agent.kill9().unwrap();
    steered(&scene);
    let mut spec = AgentSpec::packets(&scene.world);
    spec.attach[0] = "c0.100=edge".into();
    scene.agent.use_attach(&spec.attach);
    scene.agent.restart().unwrap();
    steered(&scene);
    if skip::tcx() {
        let after = programs(&scene, "c0.100");
        assert_eq!(before.len(), 1);
        assert_eq!(before, after, "one link; its program is taken over");
        assert_eq!(programs(&scene, "v.1"), [0; 0], "nobody asked for it again");
    }
    let links = run(scene.world.edge.command("ip").args(["-d", "link", "show", "dev", "v.1"])).unwrap();
    assert!(!links.contains("xdp"), "{links}");
    scene.finish();
}

/// Each has the other's name: what hangs there is ours, and found again by the interface.
#[test]
fn h1_h2_interfaces_that_change_their_names_are_attached() {
    let scene = Scene::packets(WorldSpec::default());
    scene.apply(&PolicyText::moved(&scene.world));
    let rename = "link set b0 down\nlink set b1 down\nlink set b0 name other\nlink set b1 name b0\nlink set other name b1\n\
                  link set b0 up\nlink set b1 up\n";
    ip_batch(&scene.world.edge, rename).unwrap();
    let ends = |iface| bpf::on_interface(&scene.world.edge, iface, bpf::TCX_INGRESS).unwrap().len();
    // The agent compares everything each 10 s.
    wait_for("both to be attached", Duration::from_secs(30), || {
        let status = scene.agent.gray_json(&["status"])?;
        let all = status["attachments"].as_array().unwrap();
        let own = all.iter().filter(|a| ["b0", "b1"].contains(&a["iface"].as_str().unwrap()));
        Ok(own.filter(|a| a["state"] == "attached").count() == 2)
    })
    .unwrap();
    if skip::tcx() {
        assert_eq!((ends("b0"), ends("b1")), (1, 1));
    }
    let report = LoadSpec::new(vip(false, 8080), ONE).count(8).run(&scene.world.clients[0].place()).unwrap();
    assert_eq!(report.failed(), 0, "{report:?}");
    scene.finish();
}

const TAGGED: &str = "198.18.10.77";

/// A VLAN between client 0 and the edge, by which it reaches the service (a pair of that name where the kernel has no VLANs), and a
/// pair on the edge.
fn dotted(w: &World) {
    let (near, far) = (&w.clients[0].link.near, &w.clients[0].link.far);
    let vlan = |end: &EndSpec| {
        let name = &end.ifname;
        ip_batch(&end.ns, &format!("link add link {name} name {name}.100 type vlan id 100\n"))
    };
    match vlan(near) {
        Err(e) if format!("{e:#}").contains("Unknown device type") => {
            let (a, b, ns) = (&near.ifname, &far.ifname, far.ns.name());
            let script = format!("link add {a}.100 type veth peer name {b}.100 netns {ns}\n");
            ip_batch(&near.ns, &script).unwrap();
        }
        made => {
            made.unwrap();
            vlan(far).unwrap();
        }
    }
    for (end, address) in [(near, "198.18.10.76/31"), (far, "198.18.10.77/31")] {
        let name = &end.ifname;
        let script = format!("link set {name}.100 up\naddr add {address} dev {name}.100\n");
        ip_batch(&end.ns, &script).unwrap();
    }
    let route = format!("route replace {}/32 via 198.18.10.76 src {TAGGED}\n", vip(false, 0).ip());
    ip_batch(&far.ns, &route).unwrap();
    ip_batch(&w.edge, "link add v.1 type veth peer name v.2\nlink set v.1 up\nlink set v.2 up\n").unwrap();
}

/// Whoever loses the key's file loses nobody's place: the kernel still has the key. After a reboot nobody has it, and no other one is made.
#[test]
fn b2_a_lost_hash_key_comes_back_from_the_kernel_and_is_asked_for_after_a_reboot() {
    let mut scene = Scene::start(WorldSpec::default());
    scene.apply(&PolicyText::own(&scene.world));
    let key = scene.agent.gray_ok(&["key", "export"]).unwrap();
    let file = scene.agent.state_dir().join("hash.key");
    scene.agent.stop().unwrap();
    std::fs::remove_file(&file).unwrap();
    scene.agent.restart().unwrap();
    assert_eq!(scene.agent.gray_ok(&["key", "export"]).unwrap(), key);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), key);
    scene.agent.stop().unwrap();
    std::fs::remove_file(&file).unwrap();
    // What a reboot leaves of the kernel's part: nothing.
    std::fs::remove_dir_all(scene.agent.bpffs()).unwrap();
    scene.agent.spawn(&[]).unwrap();
    wait_for("the agent to refuse", Duration::from_secs(60), || {
        Ok(std::fs::read_to_string(scene.agent.log())?.contains("the policy in force was dealt by one"))
    })
    .unwrap();
    assert!(!file.exists(), "no other key is made");
    scene.agent.has_ended();
    std::fs::write(&file, &key).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    scene.agent.restart().unwrap();
    assert_eq!(scene.agent.gray_ok(&["key", "export"]).unwrap(), key);
    scene.finish();
}

/// What is too old to be kept says so, and what is kept can be restored.
#[test]
fn d5_old_revisions_are_dropped_and_the_kept_ones_restored() {
    let mut scene = Scene::start(WorldSpec::default());
    scene.agent.use_args(&["--keep-revisions", "3"]);
    scene.agent.restart().unwrap();
    let early = scene.world.clients[0].sources(false)[..3].to_vec();
    for n in 1..=8 {
        scene.apply(&PolicyText::own(&scene.world).sources("early", &early[..n % 3 + 1]).gray_when("early"));
    }
    let state = |revision: u64| {
        let all = scene.agent.gray_json(&["history"]).unwrap();
        let one = all.as_array().unwrap().iter().find(|r| r["revision"] == revision).unwrap();
        one["state"].as_str().unwrap().to_owned()
    };
    wait_for("old revisions to go", Duration::from_secs(30), || Ok(state(5) == "dropped")).unwrap();
    assert_eq!((state(1), state(6), state(8)), ("dropped".into(), "superseded".into(), "active".into()));
    let refused = scene.agent.gray(&["rollback", "2"]).unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("revision 2") && said.contains("--keep-revisions"),
        "{said}"
    );
    let _ = scene.agent.gray_ok(&["rollback", "6"]).unwrap();
    scene.expect_gray(false, &early[..1]);
    let _ = scene.agent.gray_ok(&["audit", "--verify"]).unwrap();
    scene.finish();
}
