//! A flow's next hop is a copy (H1): it is looked up again when the way changes, and not only after seconds.

use std::{net::IpAddr, time::Duration};

use gray_common::wire::Control;
use gray_tests::{
    WorldSpec,
    command::wait_for,
    kill::pinned,
    link::ip_batch,
    packets::{
        land::{LANDS, SHOP},
        rig::{Rig, Routes, neighbour, with},
    },
    scene::Scene,
};
use gray_userspace::kernel::Direction;

const PATIENCE: Duration = Duration::from_secs(20);
const ELSEWHERE: [u8; 6] = [2, 0xaa, 0, 0, 0, 1];

fn next_hop(rig: &mut Rig, frame: &[u8]) -> [u8; 6] {
    rig.run(Direction::Ingress, frame).1[..6].try_into().unwrap()
}

fn at(rig: &Rig, ip: IpAddr, mac: [u8; 6]) {
    let mac = mac.map(|b| format!("{b:02x}")).join(":");
    ip_batch(&rig.ns, &format!("neigh replace {ip} lladdr {mac} dev out nud permanent\n")).unwrap();
}

/// A flow that is known keeps its next hop, until it is told to look again: then the next packet leaves another way.
#[test]
fn h1_flows_look_for_their_next_hop_again_when_they_are_told() {
    with(Routes::Neighbours, |rig| {
        rig.apply_land(true);
        for l in LANDS {
            let frame = l.open(l.early(4000), l.vip(SHOP)).frame();
            let gray = l.gray(0).ip();
            for _ in 0..3 {
                assert_eq!(next_hop(rig, &frame), neighbour(gray), "{}", l.name());
            }
            at(rig, gray, ELSEWHERE);
            rig.live.configure(Control::renew_hops);
            for _ in 0..3 {
                assert_eq!(next_hop(rig, &frame), ELSEWHERE, "{}", l.name());
            }
            // As often as it changes.
            for n in 0..20 {
                let mac = [2, 0xbb, 0, 0, 0, n];
                at(rig, gray, mac);
                rig.live.configure(Control::renew_hops);
                assert_eq!(next_hop(rig, &frame), mac, "{}, change {n}", l.name());
            }
            at(rig, gray, neighbour(gray));
            rig.live.configure(Control::renew_hops);
        }
    });
}

/// The agent tells them: of routes and rules of both families, of links, and of neighbours.
#[test]
fn h1_the_agent_follows_routes_links_and_neighbours() {
    let scene = Scene::packets(WorldSpec::default());
    let ahead = || pinned::read(scene.agent.bpffs()).unwrap().control.hops_ahead();
    let (b, edge) = (&scene.world.backends[0], &scene.world.edge);
    let dev = &b.link.near.ifname;
    for change in [
        format!("route add 203.0.113.0/24 via {}", b.v4),
        format!("route replace 203.0.113.0/24 dev {dev}"),
        format!("route del 203.0.113.0/24 dev {dev}"),
        format!("route add 2001:db8::/32 via {}", b.v6),
        "rule add from 203.0.113.7 lookup main".to_owned(),
        "-6 rule add from 2001:db8::7 lookup main".to_owned(),
        format!("neigh add 198.18.200.99 lladdr 02:00:00:00:00:99 dev {dev} nud permanent"),
        format!("neigh replace 198.18.200.99 lladdr 02:00:00:00:00:98 dev {dev} nud permanent"),
        format!("neigh del 198.18.200.99 dev {dev}"),
        "link add elsewhere type veth peer name otherwhere".to_owned(),
    ] {
        let mut still = 0;
        // What the last change brought with it has been told of.
        wait_for("rest", PATIENCE, || {
            let (was, now) = (still, ahead());
            still = now;
            std::thread::sleep(Duration::from_millis(300));
            Ok(was == now && ahead() == now)
        })
        .unwrap();
        if let Some(rule) = change.strip_prefix("-6 ") {
            let done = edge.command("ip").arg("-6").args(rule.split(' ')).status().unwrap();
            assert!(done.success(), "{change}");
        } else {
            ip_batch(edge, &format!("{change}\n")).unwrap();
        }
        wait_for(&change, PATIENCE, || Ok(ahead() != still)).unwrap();
    }
    ip_batch(edge, "link del elsewhere\nrule del from 203.0.113.7 lookup main\n").unwrap();
    scene.finish();
}
