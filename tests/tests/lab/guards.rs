//! World, sweep, residue and agent as guards: they come up, see what is there, and leave nothing.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use gray_tests::client::{Failure, LoadSpec, Mode};
use gray_tests::pace::patience;
use gray_tests::{WorldSpec, agent, bpf, helper, link, residue, skip, sweep, sys};

use super::{build, run, stable, vip};

#[test]
fn a_world_is_up_in_less_than_two_seconds_and_gone_after() {
    let begun = Instant::now();
    let world = build(WorldSpec { clients: 3, backends: 3, sources4: 200, ..WorldSpec::default() });
    let took = begun.elapsed();
    assert!(took < patience(Duration::from_secs(2)), "{took:?}");
    assert_eq!(world.client_ifs(), ["c0", "c1", "c2"]);
    assert_eq!(world.clients[2].v4.len(), 200);
    let (near, far) = (world.clients[1].link.near_info().unwrap(), world.clients[1].link.far_info().unwrap());
    assert_eq!((near.mtu, far.mtu), (1500, 1500));
    assert!(near.mac != far.mac && near.mac != [0; 6]);
    let mut paths: Vec<_> = world.namespaces().iter().map(|n| n.path()).collect();
    paths.extend([world.temp().to_path_buf(), world.lab().cgroup().path().to_path_buf()]);
    assert!(paths.iter().all(|p| p.exists()));
    drop(world);
    for path in paths {
        assert!(!path.exists(), "{} is left", path.display());
    }
}

#[test]
fn an_interface_goes_away_and_comes_back() {
    let world = build(WorldSpec::default());
    let _server = stable(&world);
    let spec = LoadSpec::new(vip(true, 8080), Mode::Http { per_connection: 1 }).count(8);
    let pair = &world.backends[0].link;
    let before = pair.near_info().unwrap();
    pair.delete().unwrap();
    assert!(pair.near_info().is_err());
    pair.create_again().unwrap();
    let after = pair.near_info().unwrap();
    assert!(before.ifindex != after.ifindex && before.mac != after.mac);
    run(&spec, &world).assert_all_ok();
}

#[test]
fn two_worlds_side_by_side_do_not_meet() {
    let (one, two) = (build(WorldSpec::default()), build(WorldSpec::default()));
    let _server = stable(&one);
    let spec = LoadSpec::new(vip(false, 8080), Mode::Http { per_connection: 1 }).count(4);
    run(&spec, &one).assert_all_ok();
    assert_eq!(run(&spec, &two).failed_with(Failure::Refused), 4);
    drop(two);
    run(&spec, &one).assert_all_ok();
}

#[test]
fn residue_sees_what_is_attached_and_nothing_else() {
    let world = build(WorldSpec::default());
    assert_eq!(residue::find(&world).unwrap(), Vec::<String>::new());
    let ingress = bpf::Foreign::interface(&world.edge, "c0", bpf::TCX_INGRESS, bpf::TCX_NEXT).unwrap();
    let second = bpf::Foreign::interface(&world.edge, "c0", bpf::TCX_INGRESS, bpf::TCX_NEXT).unwrap();
    let connect4 = bpf::Foreign::cgroup(&world.callers, 10, bpf::ALLOW).unwrap();
    link_clsact(&world, "add");
    let ids = bpf::on_interface(&world.edge, "c0", bpf::TCX_INGRESS).unwrap();
    assert_eq!(ids, [ingress.id().unwrap(), second.id().unwrap()]);
    let left = residue::find(&world).unwrap();
    // Where there is no tcx, the foreign programs have a qdisc, too.
    assert_eq!(left.len(), 4 + usize::from(!skip::tcx()), "{left:#?}");
    for part in ["tcx/ingress", "cgroup_inet4_connect", "clsact"] {
        assert!(left.iter().any(|l| l.contains(part)), "{part}: {left:#?}");
    }
    drop((ingress, second, connect4));
    link_clsact(&world, "del");
    assert_eq!(residue::find(&world).unwrap(), Vec::<String>::new());
}

fn link_clsact(world: &gray_tests::World, verb: &str) {
    let mut tc = world.edge.command("tc");
    let _ = gray_tests::command::run(tc.args(["qdisc", verb, "dev", "b0", "clsact"])).unwrap();
}

#[test]
fn a_lab_whose_process_was_killed_is_swept_and_a_living_one_is_not() {
    use std::io::{BufRead, BufReader};
    let mut holder = std::process::Command::new(helper::binary().unwrap())
        .arg("hold")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let _ = BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let made: serde_json::Value = serde_json::from_str(&line).expect("the holder says what it made");
    let strings = |key: &str| made[key].as_array().unwrap().iter().map(|p| p.as_str().unwrap().to_owned());
    let paths: Vec<String> = strings("netns").chain(strings("dirs")).collect();
    let child = made["child"].as_u64().unwrap() as u32;
    let exists = |p: &String| std::path::Path::new(p).exists();
    assert_eq!(paths.len(), 4 + 4);

    let _ = sweep::sweep().unwrap();
    assert!(paths.iter().all(exists), "a living lab was swept");
    assert!(sweep::start_time(child).is_some());

    holder.kill().unwrap();
    let _ = holder.wait().unwrap();
    let _ = sweep::sweep().unwrap(); // a lab of another test may have been quicker
    let left: Vec<_> = paths.iter().filter(|p| exists(p)).collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(sweep::start_time(child), None, "the lab's process still runs");
}

#[test]
fn an_agent_that_does_not_come_up_says_why() {
    let world = build(WorldSpec::default());
    let mut spec = agent::AgentSpec::of(&world);
    assert_eq!(spec.attach, ["c0=edge", "b0=backend", "b1=backend"]);
    spec.binary = Some("/bin/cat".into());
    let why = format!("{:#}", agent::Agent::start_with(&world, spec).unwrap_err());
    assert!(why.contains("gray agent ended: exit status: 1"), "{why}");
    // cat's complaint: what a real agent says on stderr is in the error, too.
    assert!(why.contains("unrecognized option '--state-dir'"), "{why}");
}

#[test]
fn namespaces_are_those_of_ip_netns() {
    let world = build(WorldSpec::default());
    let listed = gray_tests::command::run(std::process::Command::new("ip").args(["netns", "list"])).unwrap();
    assert!(listed.lines().any(|l| l.starts_with(world.edge.name())), "{listed}");
    let by_name = std::fs::File::open(world.edge.path()).unwrap();
    let via_ip = gray_tests::command::run(std::process::Command::new("ip").args([
        "netns",
        "exec",
        world.edge.name(),
        "ip",
        "-o",
        "link",
        "show",
        "c0",
    ]))
    .unwrap();
    assert!(via_ip.contains("c0@"), "{via_ip}");
    std::thread::spawn(move || sys::setns_net(by_name.as_fd()).unwrap()).join().unwrap();
    assert_eq!(link::read_sysctl(&world.edge, "net/ipv4/ip_forward").unwrap(), "1");
    // A test's own thread is where it was.
    assert!(link::list(&world.edge).unwrap().len() > 1);
}
#[test]
fn programs_in_the_lab_act_on_its_traffic_only() {
    let world = build(WorldSpec::default());
    let _server = stable(&world);
    let spec = LoadSpec::new(vip(false, 8080), Mode::Http { per_connection: 1 }).count(4);
    let deny = bpf::Foreign::cgroup(&world.callers, 10, bpf::DENY).unwrap();
    let caller = spec.run(&world.caller()).unwrap();
    assert_eq!(caller.failed_with(Failure::Other), 4, "connect is denied with EPERM: {caller:?}");
    spec.run(&world.edge_place()).unwrap().assert_all_ok();
    drop(deny);
    spec.run(&world.caller()).unwrap().assert_all_ok();

    let mut impatient = spec.clone();
    impatient.timeout_ms = 100;
    let shot = bpf::Foreign::interface(&world.edge, "c0", bpf::TCX_INGRESS, bpf::TCX_DROP).unwrap();
    assert_eq!(run(&impatient, &world).failed_with(Failure::TimeOut), 4);
    spec.run(&world.caller()).unwrap().assert_all_ok();
    drop(shot);
    run(&spec, &world).assert_all_ok();
}
