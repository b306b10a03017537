//! A SYN flood beside established connections, and more flows than the table can hold.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use gray_tests::{
    WorldSpec,
    agent::{Agent, AgentSpec},
    command::{note, wait_for},
    flood::{Basin, CROWD, Flood, FloodSpec},
    netstat, pace,
    packets::frame::SYN,
    policy::PolicyText,
    scene::{Scene, expect_split, servers, vip},
    sys::allow_open_files,
    world::World,
};

use super::{PATIENCE, lived_on, long_lived, new_connections, rounds, some_more, talk::Talk};

/// Entries of the flow table, for each family.
const FEW_FLOWS: u64 = 16_384;
/// A flood of hundreds of thousands a second needs longer to fill it than a busy machine lets an answer wait.
const MANY_FLOWS: u64 = 262_144;

/// Half of the clients are gray, half of the crowd too. Nobody serves on the address that is dialled: nothing is adopted.
fn stage(flows: u64) -> (Scene, Vec<IpAddr>, Vec<IpAddr>) {
    let world = World::build(WorldSpec::default()).unwrap();
    let (stable, gray) = servers(&world);
    let mut spec = AgentSpec::packets(&world);
    spec.args.extend(["--flows".to_owned(), flows.to_string()]);
    let agent = Agent::start_with(&world, spec).unwrap();
    let scene = Scene { agent, stable, gray, world };
    let all = scene.world.clients[0].sources(false);
    let early: Vec<IpAddr> = all.iter().step_by(2).copied().collect();
    let (crowd, _) = CROWD.split_once('/').unwrap();
    let list = early.iter().map(IpAddr::to_string).chain([format!("{crowd}/17")]);
    scene.apply(&PolicyText::moved(&scene.world).sources("early", list).gray_when("early"));
    (scene, all, early)
}

fn flood(scene: &Scene, pause: Duration) -> Flood {
    let spec = FloodSpec { target: vip(false, 8080), tcp_flags: SYN, hosts: 65_536, flows: 1 << 20, pause };
    Flood::start(&scene.world, spec).unwrap()
}

/// Segments with RST that the instances' and the clients' hosts sent.
fn resets(scene: &Scene) -> u64 {
    let w = &scene.world;
    let all = w.backends.iter().map(|b| &b.ns).chain(w.clients.iter().map(|c| &c.ns));
    all.map(|ns| netstat::counter(ns, "Tcp OutRsts").unwrap()).sum()
}

/// `basins`: the flood ends before the instances' sockets see it, which makes it many times as fast.
fn under_flood(flows: u64, syns: u64, pause: Duration, basins: bool) {
    let (scene, all, early) = stage(flows);
    let backends = scene.world.backends.iter().filter(|_| basins);
    let basins: Vec<Basin> = backends.map(|b| Basin::under(&b.ns).unwrap()).collect();
    let place = scene.world.clients[0].place();
    let mut long = long_lived(&place, vip(false, 9000), &all);
    let before = resets(&scene);
    let flood = flood(&scene, pause);
    // Each takes two entries when it goes to gray, and two when to stable, whose address is another than the dialled one.
    let decided = || super::counted(&scene, "explicit") + super::counted(&scene, "default");
    wait_for("so many decisions", PATIENCE, || Ok(decided() > syns)).unwrap();
    // Each connection speaks often while it goes on.
    some_more(&mut long, rounds("requests", 1000) as u64);
    let sent = flood.stop().unwrap();
    some_more(&mut long, 50);
    let report = long.stop().unwrap();
    note(&format!(
        "{sent} SYNs, {} decided, beside {} requests, slowest {} ms",
        decided(),
        report.requests,
        report.max_us / 1000
    ));
    lived_on(&report);
    expect_split(&report, &all, &early);
    assert_eq!(resets(&scene), before, "resets");
    drop(basins);
    // Normal service: new connections, each to its own.
    let mut new = new_connections(&place, &all);
    some_more(&mut new, 100);
    let report = new.stop().unwrap();
    report.assert_all_ok();
    expect_split(&report, &all, &early);
    scene.finish();
}

#[test]
fn h1_established_connections_live_beside_a_syn_flood() {
    // Ten times what the table holds.
    under_flood(FEW_FLOWS, 5 * FEW_FLOWS, Duration::from_millis(10), false);
}

#[test]
fn h1_established_connections_live_beside_a_syn_flood_at_full_speed() {
    under_flood(MANY_FLOWS, pace::many("SYNs", 500_000, 50_000) as u64, Duration::ZERO, true);
}

/// The table would be full of the flood within the time that an instance takes to answer.
#[test]
fn h1_established_connections_live_beside_a_syn_flood_at_full_speed_in_a_small_table() {
    under_flood(FEW_FLOWS, 500_000, Duration::ZERO, true);
}

/// More open connections than entries: each is found again when it speaks, by the same instance.
#[test]
fn h1_ten_times_as_many_connections_as_the_table_holds_keep_their_instances() {
    let few = 1024;
    allow_open_files(8 * few).unwrap();
    let (scene, all, early) = stage(few);
    let ns = &scene.world.clients[0].ns;
    // Two entries for each; on a slow machine twice as many.
    let many = (10 * few / 2 / u64::from(pace::factor())).max(few);
    let open = |i: u64| {
        let from = all[i as usize % all.len()];
        let at = SocketAddr::new(from, 20_000 + (i / all.len() as u64) as u16);
        (from, Talk::open(ns, at, vip(false, 9000)).unwrap_or_else(|e| panic!("connection {i}: {e:#}")))
    };
    let mut talks: Vec<(IpAddr, Talk)> = (0..many).map(open).collect();
    for round in 0..2 {
        for (i, (from, talk)) in talks.iter_mut().enumerate() {
            talk.ask(&format!("{i}-{round}")).unwrap_or_else(|e| panic!("{i} of {many}, {from}: {e:#}"));
            let wanted = if early.contains(from) { "gray/2.0" } else { "stable/1.0" };
            assert_eq!(talk.server, wanted, "{from}");
        }
    }
    assert!(super::counted(&scene, "rebuilt") > many, "the table was large enough for all");
    assert_eq!(super::counted(&scene, "flow_insert"), 0);
    drop(talks);
    scene.finish();
}
