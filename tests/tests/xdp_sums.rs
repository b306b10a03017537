//! Every checksum that there is, through XDP and through tc: the same bytes come out, and they are right.

use gray_tests::{
    link,
    pace::many,
    packets::{
        case::REDIRECT,
        frame::{ACK, SYN},
        front::SENT,
        land::{LANDS, SHOP},
        rig::{Routes, hex, with},
        sum,
    },
};
use gray_userspace::kernel::Direction;

/// XDP adds to the field what tc asks a helper to add. One's complement has two zeros, and UDP's must not become "none":
/// with two bytes of payload that go through all their values, so does the checksum.
#[test]
fn every_checksum_is_what_tc_makes_of_it() {
    let values = many("checksums", 1 << 16, 1 << 12);
    with(Routes::Neighbours, |rig| {
        rig.apply_land(true);
        let out = link::info(&rig.ns, "out").unwrap().ifindex;
        rig.live.set_xdp_out(&[out]).unwrap();
        for l in LANDS {
            let p = l.open(l.early(7_700), l.vip(SHOP)).flags(SYN);
            let _ = rig.run(Direction::Ingress, &p.frame());
            let p = p.flags(ACK);
            for word in (0..=u16::MAX).step_by((1 << 16) / values) {
                let frame = p.clone().payload(word.to_be_bytes()).frame();
                let (redirected, by_tc) = rig.run(Direction::Ingress, &frame);
                let (mut sent, mut by_xdp) = rig.live.run_xdp(&frame, 0).unwrap();
                if sent != SENT {
                    // To look after the next hop, which is old after seconds, is left to tc.
                    let _ = rig.run(Direction::Ingress, &frame);
                    (sent, by_xdp) = rig.live.run_xdp(&frame, 0).unwrap();
                }
                assert_eq!((sent, redirected), (SENT, REDIRECT), "{} {word:04x}", l.name());
                assert!(by_xdp == by_tc, "{} {word:04x}:\n{}\ntc:\n{}", l.name(), hex(&by_xdp), hex(&by_tc));
                assert_eq!(sum::wrong(&by_xdp, false), None, "{} {word:04x}:\n{}", l.name(), hex(&by_xdp));
            }
        }
    });
}
