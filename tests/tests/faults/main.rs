//! What must not hurt (H1, H2): programs replaced, interfaces made again, floods, full tables and rings, silent peers, clashing
//! tuples, few rights, foreign pins, writes that fail. Each count is small by default; `GRAY_ROUNDS=N` makes it N.

mod again;
mod clash;
mod detach;
mod flood;
mod full;
mod migrate;
mod pins;
mod race;
mod recreate;
mod replace;
mod resize;
mod rights;
mod ring;
mod silent;
mod talk;
mod writes;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use gray_tests::{
    client::{Load, LoadSpec, Mode, Report},
    command::wait_for,
    link::Veth,
    pace,
    place::Place,
    policy::PolicyText,
    scene::{Scene, vip},
};

const ONE: Mode = Mode::Http { per_connection: 1 };
const PATIENCE: Duration = Duration::from_secs(20);
/// Connections that live until they are stopped.
const LONG_LIVED: usize = 24;

/// How often something is done: this often, or as `GRAY_ROUNDS` says.
fn rounds(what: &str, few: usize) -> usize {
    pace::asked("GRAY_ROUNDS", what, few, few.min(4 + few / 16))
}

/// New connections without end, some hundred a second.
fn new_connections(place: &Place, sources: &[IpAddr]) -> Load {
    let mut spec = LoadSpec::new(vip(false, 8080), ONE).sources(sources.to_vec());
    spec.pause_ms = pace::rest_ms(5);
    spec.start(place).unwrap()
}

fn long_lived(place: &Place, to: SocketAddr, sources: &[IpAddr]) -> Load {
    let spec = LoadSpec::long_lived(to, LONG_LIVED, pace::rest_ms(50)).sources(sources.to_vec());
    let mut load = spec.start(place).unwrap();
    let _ = load.wait_requests(2 * LONG_LIVED as u64, PATIENCE).unwrap();
    load
}

/// So many more answers from now on.
fn some_more(load: &mut Load, n: u64) {
    let now = load.snapshot().unwrap().requests;
    let _ = load.wait_requests(now + n, PATIENCE).unwrap();
}

/// No failure, and no connection had to be dialled again.
fn lived_on(report: &Report) {
    report.assert_all_ok();
    assert_eq!(report.opened, LONG_LIVED as u64, "a connection was lost");
}

/// Sources 0..4 of client 0 are gray: all sources, and those.
fn four_are_gray(scene: &Scene) -> (Vec<IpAddr>, Vec<IpAddr>) {
    let all = scene.world.clients[0].sources(false);
    let gray = all[..4].to_vec();
    scene.apply(&PolicyText::own(&scene.world).sources("early", &gray).gray_when("early"));
    (all, gray)
}

/// How often a reason was counted.
fn counted(scene: &Scene, reason: &str) -> u64 {
    let status = scene.agent.gray_json(&["status"]).unwrap();
    let counters = status["counters"].as_array().unwrap();
    counters.iter().find(|c| c["reason"] == reason).map_or(0, |c| c["count"].as_u64().unwrap())
}

/// Waits until the pair's near end, made anew, has our program.
fn attached(scene: &Scene, pair: &Veth) {
    let ifindex = u64::from(pair.near_info().unwrap().ifindex);
    wait_for("the interface to be attached", Duration::from_secs(1), || {
        let status = scene.agent.gray_json(&["status"])?;
        let all = status["attachments"].as_array().unwrap();
        Ok(all.iter().any(|a| {
            a["iface"] == pair.near.ifname.as_str() && a["state"] == "attached" && a["ifindex"] == ifindex
        }))
    })
    .unwrap();
}
