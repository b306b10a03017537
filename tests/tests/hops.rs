//! A flow's next hop is a copy (H1): it is looked up again when the programs are told to.

use std::net::IpAddr;

use gray_common::wire::Control;
use gray_tests::{
    link::ip_batch,
    packets::{
        land::{LANDS, SHOP},
        rig::{Rig, Routes, neighbour, with},
    },
};
use gray_userspace::kernel::Direction;

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
