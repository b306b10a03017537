//! Transfers through a bad network: loss, reordering, duplicates and corruption on both sides of the edge, a path MTU that
//! shrinks, an interface that vanishes. Whole bodies are compared; resets and what was done to the packets are counted.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gray_tests::{
    Place, World, WorldSpec,
    client::{LoadSpec, Mode, curl, slow},
    command::wait_for,
    hostile::{Harm, HarmDone, Hostile, HostileSpec, Side},
    link::Veth,
    netstat,
    pace::{many, patience},
    policy::PolicyText,
    scene::{Scene, vip},
    server::Nginx,
    world::{vip4, vip6},
};

const FILES: u16 = 8081;

/// nginx on both backends; everybody is steered to 2.0 (backend 1), rewritten.
fn stage(spec: WorldSpec) -> (Scene, [Nginx; 2]) {
    let scene = Scene::start(spec);
    let w = &scene.world;
    let start = |j: usize, name, version| {
        Nginx::start(&w.backends[j].place(), w.temp(), name, version, FILES).unwrap()
    };
    let nginx = [start(0, "stable", "1.0"), start(1, "gray", "2.0")];
    scene.apply(&PolicyText::moved(w).service("files", FILES, false).weights(100));
    (scene, nginx)
}

/// Those who transfer: a client (packet path), a local caller of the edge (connect path).
fn places(w: &World) -> [Place; 2] {
    [w.clients[0].place(), w.caller()]
}

fn addresses() -> [IpAddr; 2] {
    [IpAddr::V4(vip4(0)), IpAddr::V6(vip6(0))]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Down,
    Up,
}

/// 10 MB from or to version 2.0; slowly, if it has to last.
fn transfer(w: &World, nginx: &[Nginx; 2], place: &Place, ip: IpAddr, way: Way, lasts: Option<Duration>) {
    let [one, two] = nginx;
    let (from, to) = (two.url(ip, "/file"), &[one, two]);
    let done = match (way, lasts) {
        (Way::Down, None) => curl::download_10mb(place, &from).map(|()| "2.0".to_owned()),
        (Way::Down, Some(lasts)) => slow::download_10mb(place, &from, lasts).map(|()| "2.0".to_owned()),
        (Way::Up, None) => curl::upload_10mb(place, w.temp(), ip, FILES, to),
        (Way::Up, Some(lasts)) => slow::upload_10mb(place, ip, FILES, to, lasts),
    };
    let by = done.unwrap_or_else(|e| panic!("{way:?} {ip} from {}: {e:#}", place.ns.name()));
    assert_eq!(by, "2.0", "{way:?} {ip}");
}

/// Both families, both ways, one after the other.
fn all_transfers(w: &World, nginx: &[Nginx; 2], place: &Place) {
    for ip in addresses() {
        [Way::Down, Way::Up].iter().for_each(|way| transfer(w, nginx, place, ip, *way, None));
    }
}

/// Connections that were reset, of all namespaces. A RST that answers what comes late for a closed connection is none of
/// them: under reordering every TCP sends such.
fn resets(w: &World) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for ns in w.namespaces() {
        let counters = netstat::counters(&ns).unwrap();
        for name in
            ["Tcp EstabResets", "Tcp AttemptFails", "TcpExt TCPAbortOnData", "TcpExt TCPAbortOnTimeout"]
        {
            let _ = all.insert(format!("{} {name}", ns.name()), counters[name]);
        }
    }
    all
}

/// Client 0's end and backend 1's end: the two sides of the edge. Client 0's packets meet both, the caller's the second.
fn on_ends(w: &World, specs: [HostileSpec; 2]) -> [Hostile; 2] {
    [(0, &w.clients[0].link), (1, &w.backends[1].link)]
        .map(|(i, link)| Hostile::on(link, Side::Far, specs[i]).unwrap())
}

fn done(all: &[Hostile; 2]) -> [HarmDone; 4] {
    let [a, b] = all;
    [a.ingress(), a.egress(), b.ingress(), b.egress()].map(Result::unwrap)
}

/// Of TCP, and of the neighbour discovery that goes beside it.
fn csum_errors(w: &World) -> u64 {
    let counters = ["Tcp InCsumErrors", "Icmp6InCsumErrors"];
    let of = |ns| counters.map(|name| netstat::counter(ns, name).unwrap()).iter().sum::<u64>();
    w.namespaces().iter().map(|ns| of(ns)).sum()
}

#[test]
fn h1_h3_transfers_survive_loss_and_reordering_on_both_sides_of_the_edge() {
    let (scene, nginx) = stage(WorldSpec::default());
    let w = &scene.world;
    let before = resets(w);
    let harm = Harm { lose: 100, reorder: 100, ..Harm::default() };
    let hostile = on_ends(w, [1, 2].map(|seed| HostileSpec::both(seed, harm)));
    places(w).iter().for_each(|place| all_transfers(w, &nginx, place));
    let done = done(&hostile);
    assert_eq!(resets(w), before, "resets: {done:?}");
    assert_eq!(csum_errors(w), 0);
    // Client 0 moved 20 MB each way, in packets of the wire; past the instance came as much of the caller again.
    for (d, megabytes) in done.iter().zip([20, 20, 40, 40]) {
        assert!(d.seen > megabytes * 1_000_000 / 1_460, "{done:?}");
        assert!(d.lost > 50 && d.reordered > 50 && d.failed == 0, "{done:?}");
    }
    drop((hostile, nginx));
    scene.finish();
}

#[test]
fn h1_h3_duplicates_and_corrupted_packets_never_reach_an_application() {
    let (scene, nginx) = stage(WorldSpec::default());
    let w = &scene.world;
    let before = resets(w);
    let harm = Harm { duplicate: 100, corrupt: 100, ..Harm::default() };
    let both = HostileSpec::both(3, harm);
    // No packet may be damaged twice: a second bit can hide the first from the checksum.
    let egress = HostileSpec { ingress: Harm::default(), ..both };
    let nothing = HostileSpec::both(3, Harm::default());
    let mut corrupted = 0;
    for (place, specs) in places(w).iter().zip([[egress, egress], [nothing, both]]) {
        let hostile = on_ends(w, specs);
        all_transfers(w, &nginx, place);
        let done = done(&hostile);
        let harmed: Vec<_> = done.iter().filter(|d| d.corrupted > 0).collect();
        assert_eq!(harmed.len(), 2, "{done:?}");
        assert!(harmed.iter().all(|d| d.duplicated > 50 && d.corrupted > 50 && d.failed == 0), "{done:?}");
        corrupted += done.iter().map(|d| d.corrupted).sum::<u64>();
    }
    // Nobody on the way repairs a checksum: each damaged packet is found out at its end.
    assert_eq!((csum_errors(w), resets(w)), (corrupted, before));
    drop(nginx);
    scene.finish();
}

/// Runs `change` while a client and a caller transfer both ways slowly.
fn in_the_middle(w: &World, nginx: &[Nginx; 2], places: &[Place], change: impl FnOnce()) {
    let before = resets(w);
    let ended = AtomicBool::new(false);
    std::thread::scope(|s| {
        for place in places {
            for (ip, way) in addresses().into_iter().flat_map(|ip| [(ip, Way::Down), (ip, Way::Up)]) {
                let ended = &ended;
                let _ = s.spawn(move || {
                    transfer(w, nginx, place, ip, way, Some(patience(Duration::from_secs(3))));
                    ended.store(true, Ordering::Relaxed);
                });
            }
        }
        std::thread::sleep(patience(Duration::from_secs(1)));
        assert!(!ended.load(Ordering::Relaxed), "the change must come in the middle");
        change();
    });
    assert_eq!(resets(w), before);
}

fn the_mtu_shrinks(link: impl Fn(&World) -> &Veth) {
    let (scene, nginx) = stage(WorldSpec::default());
    let w = &scene.world;
    let mut change = None;
    in_the_middle(w, &nginx, &places(w), || change = Some(link(w).change_mtu(1300).unwrap()));
    drop(change);
    drop(nginx);
    scene.finish();
}

#[test]
fn h1_h3_transfers_survive_a_path_mtu_that_shrinks_towards_the_client() {
    the_mtu_shrinks(|w| &w.clients[0].link);
}

#[test]
fn h1_h3_transfers_survive_a_path_mtu_that_shrinks_towards_the_instance() {
    the_mtu_shrinks(|w| &w.backends[1].link);
}

#[test]
fn h1_h2_an_interface_that_vanishes_and_returns_disturbs_no_other() {
    let (scene, nginx) = stage(WorldSpec { clients: 2, ..WorldSpec::default() });
    let w = &scene.world;
    let other = &w.clients[1];
    let vanish = || {
        other.link.delete().unwrap();
        std::thread::sleep(Duration::from_millis(300));
        other.link.create_again().unwrap();
    };
    in_the_middle(w, &nginx, &places(w), vanish);
    let probe = LoadSpec::new(vip(false, 9000), Mode::Tcp { per_connection: 1 });
    let probe = probe.count(4).sources(other.sources(false));
    wait_for("the agent to attach again", Duration::from_secs(20), || {
        let report = probe.run(&other.place())?;
        Ok(report.failed() == 0 && report.of_version("2.0") == 4)
    })
    .unwrap();
    // What was on the interface itself stalls, and goes on when it and its programs are back: on a slow machine a packet may
    // come between the two, and stable knows no such connection.
    if many("interfaces", 2, 1) == 2 {
        in_the_middle(w, &nginx, &[other.place()], vanish);
    }
    drop(nginx);
    scene.finish();
}
