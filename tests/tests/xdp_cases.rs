//! XDP in front of tc, packet by packet (BPF_PROG_TEST_RUN): the case tables through both, where XDP must not send, and
//! what is counted.

use gray_common::Reason;
use gray_tests::packets::{
    case::{Case, run_all},
    frame::{ACK, Packet, SYN, TCP},
    front::{Front, PASS, SENT, TX},
    land::{LANDS, Land, OWN, SAME, SHOP, SHOP_AT},
    rig::{MTU, Routes, hex, neighbour, with},
    tables,
};
use gray_userspace::kernel::Direction;

fn open(l: Land, port: u16) -> Packet {
    l.open(l.early(port), l.vip(SHOP)).flags(SYN)
}

fn to_gray(l: Land, p: &Packet) -> Packet {
    p.rewritten(p.src, l.gray(SHOP_AT))
}

/// A5, A11, H1, H3: what XDP sends on has the bytes that tc would have written, and counts as tc counts; what it leaves
/// alone is tc's from the first byte.
#[test]
fn the_case_tables_through_xdp_and_tc() {
    with(Routes::Neighbours, |rig| {
        rig.apply_land(true);
        let rows = tables::steered();
        let mut on = Front::on(rig);
        run_all(&mut on, &rows);
        // Two thirds of the rows are plain TCP and UDP that goes somewhere.
        assert!(
            on.sent as usize > rows.len() / 4 && on.left > 0,
            "{} rows: {} sent, {} left",
            rows.len(),
            on.sent,
            on.left
        );
    });
}

/// Fail open: nothing that is wrong with a packet makes it lost or changed.
#[test]
fn every_error_path_leaves_the_packet_to_tc() {
    with(Routes::Neighbours, |rig| {
        rig.apply_land(true);
        let mut on = Front::on(rig);
        run_all(&mut on, &tables::broken());
        assert!(on.left > 0);
    });
}

/// A5: how long a flow may be silent, by its state.
#[test]
fn an_idle_flow_is_over_for_xdp_too() {
    with(Routes::Neighbours, |rig| {
        rig.apply_land(true);
        let mut on = Front::on(rig);
        run_all(&mut on, &tables::idle());
        assert!(on.sent > 0);
    });
}

/// No route, or nobody's link address is known: the stack's matter, which tc hands it to.
#[test]
fn without_a_next_hop_xdp_sends_nothing() {
    for routes in [Routes::None, Routes::Unresolved] {
        with(routes, |rig| {
            rig.apply_land(true);
            let mut on = Front::on(rig);
            run_all(&mut on, &tables::steered());
            assert_eq!(on.sent, 0, "{routes:?}");
        });
    }
}

/// A redirect to an interface that does not take frames loses them: XDP sends to none that the agent did not name, and
/// changes nothing before it knows.
#[test]
fn xdp_sends_to_no_interface_that_was_not_named() {
    with(Routes::Neighbours, |rig| {
        rig.apply_land(true);
        let mut on = Front::on(rig);
        on.rig.live.set_xdp_out(&[]).unwrap();
        run_all(&mut on, &tables::steered());
        assert_eq!(on.sent, 0);
    });
}

/// Before the first policy nothing is even looked up.
#[test]
fn without_a_policy_xdp_sends_nothing() {
    with(Routes::Neighbours, |rig| {
        let mut on = Front::on(rig);
        for l in LANDS {
            run_all(&mut on, &[Case::new(l.name(), open(l, 999).frame())]);
        }
        assert_eq!(on.sent, 0);
    });
}

/// What comes in by the interface that it leaves by is sent back there, with the same bytes.
#[test]
fn a_packet_that_leaves_where_it_came_in_is_sent_back() {
    with(Routes::Neighbours, |rig| {
        rig.apply_land(true);
        let out = gray_tests::link::info(&rig.ns, "out").unwrap();
        let on = Front::on(rig);
        for l in LANDS {
            // A SYN that comes again would be tc's.
            for (port, ingress, verdict) in [(7_100, 0, SENT), (7_101, out.ifindex, TX)] {
                let p = open(l, port);
                let to = to_gray(l, &p);
                let want = Packet { dmac: neighbour(to.dst.ip()), smac: out.mac, ..to }.frame();
                let got = on.rig.live.run_xdp(&p.frame(), ingress).unwrap();
                assert_eq!((got.0, hex(&got.1)), (verdict, hex(&want)), "{} by {ingress}", l.name());
            }
        }
    });
}

/// What is larger than the next hop takes is tc's, which tells the sender or fragments; one byte less is not.
#[test]
fn the_mtu_is_where_xdp_ends() {
    with(Routes::Neighbours, |rig| {
        rig.apply_land(true);
        let on = Front::on(rig);
        for l in LANDS {
            let headers = if l.v6 { 40 } else { 20 } + if l.proto == TCP { 20 } else { 8 };
            for (more, verdict) in [(0, SENT), (1, PASS)] {
                let p = open(l, 7_200).payload(vec![7; MTU as usize - headers + more]);
                assert_eq!(on.rig.live.run_xdp(&p.frame(), 0).unwrap().0, verdict, "{} {more}", l.name());
            }
        }
    });
}

/// XDP sees no mark: where one may decide, tc decides, and XDP follows.
#[test]
fn what_asks_for_marks_is_decided_by_tc() {
    with(Routes::Neighbours, |rig| {
        rig.apply_land(true);
        let on = Front::on(rig);
        for l in LANDS {
            let p = l.open(l.plain(7_250), l.vip(SAME));
            assert_eq!(on.rig.live.run_xdp(&p.frame(), 0).unwrap(), (PASS, p.frame()), "{}", l.name());
            let _ = on.rig.run_marked(Direction::Ingress, &p.frame(), 7);
            let ack = p.flags(ACK).frame();
            let next = on.rig.live.run_xdp(&ack, 0).unwrap();
            assert_eq!((next.0, &next.1), (SENT, &on.rig.run(Direction::Ingress, &ack).1), "{}", l.name());
        }
    });
}

/// The answer to a packet that may go no further is the stack's.
#[test]
fn the_last_hop_is_not_xdps() {
    with(Routes::Neighbours, |rig| {
        rig.apply_land(true);
        let on = Front::on(rig);
        for l in LANDS {
            for (ttl, verdict) in [(1, PASS), (2, SENT)] {
                let p = Packet { ttl, ..open(l, 7_300) };
                assert_eq!(on.rig.live.run_xdp(&p.frame(), 0).unwrap().0, verdict, "{} {ttl}", l.name());
            }
        }
    });
}

/// A flow is one flow, whoever sees which of its packets; each packet is counted once.
#[test]
fn xdp_and_tc_share_a_flow_and_count_each_packet_once() {
    with(Routes::Neighbours, |rig| {
        rig.apply_land(true);
        let mut on = Front::on(rig);
        for l in LANDS {
            let p = open(l, 7_400);
            let later = p.clone().flags(ACK);
            let reply = p.answer(l.gray(SHOP_AT), ACK);
            let before = counted(&mut on, l);
            // Opened by XDP, continued by tc, and the other way round.
            for frame in [p.frame(), later.frame(), reply.frame()] {
                let sent = on.sent;
                let _ = on.try_run(Direction::Ingress, &frame, 0).unwrap();
                assert_eq!(on.sent, sent + 1, "{}", l.name());
                let (verdict, _) = on.rig.run(Direction::Ingress, &frame);
                assert_eq!(verdict, gray_tests::packets::case::REDIRECT);
            }
            let after = counted(&mut on, l);
            // SYNs are of one opening here: the second is a retransmission.
            assert_eq!(
                [after.0 - before.0, after.1 - before.1, after.2 - before.2],
                [1, 4, 2],
                "{}",
                l.name()
            );
        }
    });
}

/// Decisions, packets and replies of all arms.
fn counted(on: &mut Front<'_>, l: Land) -> (u64, u64, u64) {
    // Egress of a packet that is nobody's: the counters are read between two runs.
    let _ = on.rig.run(Direction::Egress, &l.open(l.stranger(1), l.stranger(2)).frame());
    (0..64_u32).fold((0, 0, 0), |sum, n| {
        let c = on.rig.live.arm(n / 2, n % 2).unwrap();
        (sum.0 + c.packet_flows, sum.1 + c.packets, sum.2 + c.reply_packets)
    })
}

/// Stable on its own address is not rewritten: such flows are tc's, which remembers them.
#[test]
fn what_stays_where_it_is_stays_tcs() {
    with(Routes::Neighbours, |rig| {
        rig.apply_land(true);
        let mut on = Front::on(rig);
        for l in LANDS {
            let p = l.open(l.plain(7_500), l.stable(OWN)).flags(SYN);
            let row = Case::new(l.name(), p.frame()).moves(&[Reason::Default]);
            run_all(&mut on, &[row, Case::new(l.name(), p.flags(ACK).frame())]);
        }
        assert_eq!(on.sent, 0);
    });
}
