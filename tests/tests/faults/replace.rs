//! Programs replaced under load, in place: no packet passes in between without one.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use gray_common::abi::ABI;
use gray_tests::{
    WorldSpec,
    agent::{Agent, AgentSpec},
    bpf,
    client::{Load, Report},
    command::run,
    flood::{Basin, CROWD, Flood, FloodSpec},
    link, pace,
    packets::frame::ACK,
    policy::PolicyText,
    scene::{Scene, expect_split, servers, vip},
    skip,
    world::World,
};
use gray_userspace::kernel::{Direction, Hook, Live, Pins};

use super::{lived_on, long_lived, new_connections, rounds, some_more};

/// Frames of made-up gray clients without end, in mid-stream; and who gets them. What is not steered goes to stable's
/// host, which has the address that they dial.
pub(super) struct Stream {
    flood: Flood,
    stable: Basin,
    gray: Basin,
}

impl Stream {
    pub(super) fn start(scene: &Scene) -> Self {
        Self::every(scene, Duration::from_millis(pace::rest_ms(5)))
    }

    /// A burst each time that so much has passed.
    pub(super) fn every(scene: &Scene, pause: Duration) -> Self {
        let [stable, gray] = [0, 1].map(|j| Basin::under(&scene.world.backends[j].ns).unwrap());
        let spec = FloodSpec { target: vip(false, 8080), tcp_flags: ACK, hosts: 256, flows: 4096, pause };
        Self { flood: Flood::start(&scene.world, spec).unwrap(), stable, gray }
    }

    pub(super) fn end(self) {
        let sent = self.flood.stop().unwrap();
        let (stable, gray) = (self.stable.caught().unwrap(), self.gray.caught().unwrap());
        // The ring between two ends of a veth pair is short: some get lost before they meet us.
        assert!(gray > sent / 4 && gray <= sent, "{gray} of {sent} frames arrived");
        assert_eq!(stable, 0, "unsteered, beside {gray} of {sent} that were steered");
    }
}

/// Connections on both paths that must not notice anything.
pub(super) struct Loads {
    all: [Vec<IpAddr>; 2],
    gray: Vec<IpAddr>,
    new: [Load; 2],
    long: [Load; 2],
}

impl Loads {
    pub(super) fn start(scene: &Scene, gray: &[IpAddr]) -> Self {
        let w = &scene.world;
        let places = [w.clients[0].place(), w.caller()];
        let all = [w.clients[0].sources(false), w.edge_addresses()];
        let echo = vip(false, 9000);
        let long = [0, 1].map(|i| long_lived(&places[i], echo, &all[i]));
        let new = [0, 1].map(|i| new_connections(&places[i], &all[i]));
        Self { all, gray: gray.to_vec(), new, long }
    }

    pub(super) fn some_more(&mut self) {
        self.new.iter_mut().for_each(|load| some_more(load, 10));
    }

    pub(super) fn end(self) {
        let Self { all, gray, new, long } = self;
        let right = |report: &Report, all: &[IpAddr]| expect_split(report, all, &gray);
        for (i, (new, mut long)) in new.into_iter().zip(long).enumerate() {
            let report = new.stop().unwrap();
            report.assert_all_ok();
            right(&report, &all[i]);
            some_more(&mut long, 50);
            let report = long.stop().unwrap();
            lived_on(&report);
            right(&report, &all[i]);
        }
    }
}

/// Every third client and caller, and the crowd, go to gray.
pub(super) fn stage(hook: Option<&str>) -> (Scene, Vec<IpAddr>) {
    let world = World::build(WorldSpec::default()).unwrap();
    let (stable, gray) = servers(&world);
    let mut spec = AgentSpec::of(&world);
    spec.env.extend(hook.map(|h| ("GRAY_HOOK".to_owned(), h.to_owned())));
    let agent = Agent::start_with(&world, spec).unwrap();
    let scene = Scene { agent, stable, gray, world };
    let all = [scene.world.clients[0].sources(false), scene.world.edge_addresses()].concat();
    let early: Vec<IpAddr> = all.iter().step_by(3).copied().collect();
    let list = early.iter().map(IpAddr::to_string).chain([CROWD.to_owned()]);
    scene.apply(&PolicyText::moved(&scene.world).sources("early", list).gray_when("early"));
    (scene, early)
}

#[test]
fn h2_agents_follow_one_another_and_no_packet_is_unsteered() {
    let (mut scene, gray) = stage(None);
    let stream = Stream::start(&scene);
    let mut loads = Loads::start(&scene, &gray);
    for _ in 0..rounds("agents", 8) {
        scene.agent.restart().unwrap();
        loads.some_more();
    }
    loads.end();
    stream.end();
    scene.finish();
}

/// Two loaded data paths take turns on what is attached.
fn take_turns(scene: &Scene, gray: &[IpAddr], hook: Hook) {
    let w = &scene.world;
    let pins = Pins::open_dir(scene.agent.bpffs()).unwrap();
    let ifs: Vec<String> = w.client_ifs().into_iter().chain(w.backend_ifs()).collect();
    let ifs: Vec<(u32, String)> =
        ifs.into_iter().map(|i| (link::info(&w.edge, &i).unwrap().ifindex, i)).collect();
    let (mut loads, cgroup) = (Loads::start(scene, gray), w.callers.path());
    let turn = |live: &mut Live, cgroup: &Path| {
        for (ifindex, name) in &ifs {
            assert!(!live.attach(name, *ifindex, Direction::Ingress).unwrap(), "{name}: made anew");
        }
        live.attach_cgroup(cgroup).unwrap();
    };
    w.edge.enter(|| {
        let mut two = [0, 1].map(|_| Live::open(pins.clone(), 1024, hook).unwrap());
        for i in 0..rounds("replacements", 200) {
            turn(&mut two[i & 1], cgroup);
            if i % 20 == 0 {
                loads.some_more();
            }
        }
    });
    loads.end();
}

fn two_hundred(hook: Hook) {
    let (mut scene, gray) = stage((hook == Hook::Clsact).then_some("clsact"));
    let stream = Stream::start(&scene);
    take_turns(&scene, &gray, hook);
    stream.end();
    // The next agent finds what it left.
    scene.agent.restart().unwrap();
    let here: Vec<IpAddr> =
        scene.world.clients[0].sources(false).into_iter().filter(|s| gray.contains(s)).collect();
    scene.expect_gray(false, &here);
    scene.finish();
}

#[test]
fn h2_two_hundred_replacements_leave_no_packet_unsteered() {
    if !skip::without_tcx() {
        two_hundred(Hook::Tcx);
    }
}

#[test]
fn h2_two_hundred_replacements_of_clsact_filters_leave_no_packet_unsteered() {
    two_hundred(Hook::Clsact);
}

/// Programs, links and connections stay what they are while nothing that programs are made of changes; after that nothing is left of
/// the old ones.
#[test]
fn h2_the_next_agent_takes_over_programs_that_are_the_same() {
    if skip::without_tcx() {
        return;
    }
    let (mut scene, _) = stage(None);
    let at = |scene: &Scene| {
        let w = &scene.world;
        let mut all = bpf::on_interface(&w.edge, "c0", bpf::TCX_INGRESS).unwrap();
        for (kind, _) in bpf::CGROUP_TYPES {
            all.extend(bpf::on_cgroup(w.callers.path(), *kind).unwrap());
        }
        all
    };
    let pinned = |scene: &Scene| {
        let dir = scene.agent.bpffs().join(format!("abi{ABI}/programs"));
        let names = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        names.collect::<BTreeSet<_>>()
    };
    let (before, kept) = (at(&scene), pinned(&scene));
    assert!(before.len() > 5 && kept.len() > before.len(), "{before:?} {kept:?}");
    scene.agent.restart().unwrap();
    assert_eq!((at(&scene), pinned(&scene)), (before.clone(), kept.clone()));
    scene.agent.kill9().unwrap();
    scene.agent.restart().unwrap();
    assert_eq!((at(&scene), pinned(&scene)), (before.clone(), kept.clone()));
    // Other constants, other maps.
    let mut last = (before, kept);
    for args in [&["--trust-tags", "c0"][..], &["--flows", "32768"]] {
        scene.agent.use_args(args);
        scene.agent.restart().unwrap();
        // Of a move of the flow tables the last programs are kept, and the others when they are loaded for the first time over the new ones.
        scene.agent.restart().unwrap();
        let now = (at(&scene), pinned(&scene));
        assert!(now.0.iter().all(|id| !last.0.contains(id)), "{args:?}: {now:?} {last:?}");
        let old: Vec<_> = now.1.intersection(&last.1).filter(|n| !n.ends_with("AYA_LOGS")).collect();
        assert!(old.is_empty() && now.1.len() == last.1.len(), "{args:?}: {now:?} {last:?}");
        last = now;
    }
    // What is pinned there by somebody else is no program of ours.
    let dir = scene.agent.bpffs().join(format!("abi{ABI}/programs"));
    scene.agent.stop().unwrap();
    for name in last.1.iter().filter(|n| !n.ends_with("AYA_LOGS")) {
        std::fs::remove_file(dir.join(name)).unwrap();
        let _ = run(Command::new("bpftool")
            .args(["map", "create"])
            .arg(dir.join(name))
            .args(["type", "hash", "key", "4", "value", "8", "entries", "4", "name", "foreign"]))
        .unwrap();
    }
    scene.agent.restart().unwrap();
    assert!(at(&scene).iter().all(|id| !last.0.contains(id)), "loaded anew");
    scene.finish();
}
