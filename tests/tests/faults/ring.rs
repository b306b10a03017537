//! Nobody reads the ring of events: it fills up, what does not fit is counted, and traffic knows nothing of it.

use std::time::Duration;

use gray_common::Reason;
use gray_tests::{
    WorldSpec,
    client::{LoadSpec, Mode},
    command::wait_for,
    flood::{CROWD, Flood, FloodSpec},
    packets::frame::SYN,
    policy::PolicyText,
    scene::{Scene, expect_split, vip},
    sys,
};
use gray_userspace::kernel::{Hook, Live, Pins};

use super::{PATIENCE, counted, lived_on, long_lived, new_connections, some_more};

#[test]
fn h4_a_full_event_ring_costs_events_and_nothing_else() {
    let scene = Scene::start(WorldSpec::default());
    let w = &scene.world;
    let all = w.clients[0].sources(false);
    let list = all[..4].iter().map(ToString::to_string).chain([CROWD.to_owned()]);
    scene.apply(&PolicyText::moved(w).sources("early", list).gray_when("early"));
    let place = w.clients[0].place();
    let mut long = long_lived(&place, vip(false, 9000), &all);
    let mut new = new_connections(&place, &all);
    let pid = scene.agent.pid().unwrap();
    sys::kill(pid, libc::SIGSTOP).unwrap();
    let pins = Pins::open_dir(scene.agent.bpffs()).unwrap();
    let mut live = w.edge.enter(|| Live::open(pins, 1024, Hook::Tcx).unwrap());
    let limit = live.control().event_limit;
    live.configure(|c| c.event_limit = u32::MAX);
    let lost = || {
        let all = live.reasons().unwrap();
        all.into_iter().find(|(r, _)| *r == Reason::EventLost).map_or(0, |(_, n)| n)
    };
    assert_eq!(lost(), 0);
    // Each of them is a decision, and an event.
    let pause = Duration::from_millis(5);
    let spec = FloodSpec { target: vip(false, 8080), tcp_flags: SYN, hosts: 65_536, flows: 65_536, pause };
    let flood = Flood::start(w, spec).unwrap();
    wait_for("the ring to be full", PATIENCE, || Ok(lost() > 1000)).unwrap();
    let _ = flood.stop().unwrap();
    // Full, and both paths steer.
    let before = lost();
    some_more(&mut new, 50);
    let edge = w.edge_addresses();
    let spec = LoadSpec::new(vip(false, 8080), super::ONE).count(edge.len() as u64).sources(edge);
    spec.run(&w.caller()).unwrap().assert_all_ok();
    for (port, mode) in
        [(9000, Mode::Tcp { per_connection: 3 }), (9001, Mode::Udp { connected: false, per_socket: 1 })]
    {
        expect_split(&scene.load(false, port, mode, 1), &all, &all[..4]);
    }
    assert!(lost() >= before + 50, "decisions without an event are counted");
    // The reader is back: it reads what was kept, and what happens from now on.
    sys::kill(pid, libc::SIGCONT).unwrap();
    wait_for("the agent to read the ring again", PATIENCE, || {
        let before = counted(&scene, "event_lost");
        scene.expect_gray(false, &all[..4]);
        Ok(counted(&scene, "event_lost") == before)
    })
    .unwrap();
    live.configure(|c| c.event_limit = limit);
    some_more(&mut new, 20);
    some_more(&mut long, 50);
    let report = new.stop().unwrap();
    report.assert_all_ok();
    expect_split(&report, &all, &all[..4]);
    lived_on(&long.stop().unwrap());
    drop(live);
    scene.finish();
}
