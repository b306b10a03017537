//! A flow table that has been full for long: what opens now has both of its entries, whatever the kernel takes for them.

use gray_common::Reason;
use gray_tests::packets::{
    frame::{ACK, FIN, SYN, TCP},
    land::{Land, SHOP, SHOP_AT},
    rig::{Routes, Spec, with_spec},
};
use gray_userspace::kernel::Direction;

use super::{race::source, rounds};

const FLOWS: u32 = 16_384;
/// Connections that fit.
const FULL: usize = FLOWS as usize / 2;

/// Connections at a time.
const LIVE: usize = 500;

/// Of the entries that the kernel takes those come first that nobody has looked at. With all others used, that is the one that was made
/// last, and an instance's first answer would reach the client as a stranger's.
#[test]
fn h1_a_connection_that_opens_over_a_full_table_hears_its_answer() {
    let spec = Spec { routes: Routes::Neighbours, flows: FLOWS, hosts: &[], tags: false };
    for l in [false, true].map(|v6| Land { v6, proto: TCP }) {
        with_spec(&spec, |rig| {
            rig.apply_land(true);
            // So many in so short a time are no flood where a second is one tick.
            rig.live.configure(|c| c.hz = 1);
            let (vip, gray) = (l.vip(SHOP), l.gray(SHOP_AT));
            let client = |i: usize| l.early(1024 + (i % 60_000) as u16);
            let said = |src, dst, flags| l.open(src, dst).flags(flags).frame();
            for i in 0..FULL * rounds("tables full", 6) {
                let mut run = |frame: Vec<u8>| rig.run(Direction::Ingress, &frame).1;
                let _ = run(said(client(i), vip, SYN));
                let answer = run(said(gray, client(i), SYN | ACK));
                assert_eq!(
                    source(l, &answer).1,
                    SHOP,
                    "{}: the answer to connection {i} is a stranger's",
                    l.name()
                );
                // What is used again later leaves none that nobody has looked at.
                if let Some(c) = i.checked_sub(LIVE).map(client) {
                    let _ = run(said(c, vip, FIN | ACK));
                    let _ = run(said(gray, c, FIN | ACK));
                }
            }
            assert_eq!(rig.counters().get(&Reason::Flood), Some(&0), "what is apart fills no table");
        });
    }
}
