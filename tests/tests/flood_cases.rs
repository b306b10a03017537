//! A flood of connections, packet by packet: what opens is kept apart, goes where it belongs all the same, and joins the flow table
//! when both ends have spoken. H1, H2.

use std::sync::atomic::{AtomicU16, Ordering};

use gray_common::Reason;
use gray_tests::bench::core;
use gray_tests::packets::{
    case::{NEXT, REDIRECT},
    frame::{ACK, Packet, RST, SYN, TCP},
    land::{DIRECT, LANDS, Land, OWN, SHOP, SHOP_AT},
    rig::{Rig, Routes, Spec, hex, with_spec},
};
use gray_userspace::kernel::Direction;

/// So small that the flood of [`flooded`] is one on any number of CPUs.
const SMALL: Spec<'static> = Spec { routes: Routes::Neighbours, flows: 1024, hosts: &[], tags: false };

/// A bench in a flood. It is one of a CPU and of a second: this thread stays on its CPU, and [`pour`]s more before each
/// connection that is to be one of it.
fn flooded(f: impl FnOnce(&mut Rig) + Send) {
    with_spec(&SMALL, |rig| {
        let _ = core::pin().unwrap();
        rig.apply_land(true);
        pour(rig);
        let counted = rig.counters().get(&Reason::Flood).copied().unwrap_or(0);
        assert!(counted > 512, "{counted} of 1024 are a flood");
        f(rig);
    });
}

/// 1024 connections that nobody has opened yet.
fn pour(rig: &mut Rig) {
    static POURED: AtomicU16 = AtomicU16::new(0);
    let (l, from) = (LANDS[0], POURED.fetch_add(1, Ordering::Relaxed) % 48 * 1024);
    for port in 0..1024 {
        let _ = rig.run(Direction::Ingress, &l.open(l.plain(10_000 + from + port), l.vip(SHOP)).frame());
    }
}

#[track_caller]
fn goes(rig: &mut Rig, p: &Packet, to: &Packet) {
    let (verdict, out) = rig.run(Direction::Ingress, &p.frame());
    let want = rig.leaves(to);
    assert!(verdict == REDIRECT && out == want, "{verdict}, got:\n{}\nexpected:\n{}", hex(&out), hex(&want));
}

/// The client's packet, as it opens; and what becomes of it.
fn opening(l: Land, port: u16) -> [Packet; 2] {
    let p = l.open(l.early(port), l.vip(SHOP));
    let to = p.rewritten(p.src, l.gray(SHOP_AT));
    [p, to]
}

fn answered(l: Land, p: &Packet, flags: u8) -> [Packet; 2] {
    let answer = p.answer(l.gray(SHOP_AT), flags);
    let to = answer.rewritten(l.vip(SHOP), p.src);
    [answer, to]
}

#[test]
fn h1_h2_a_connection_that_opens_in_a_flood_joins_the_others_when_both_ends_have_spoken() {
    flooded(|rig| {
        for l in LANDS {
            pour(rig);
            let [p, to] = opening(l, 2000);
            let [answer, back] = answered(l, &p, SYN | ACK);
            // As often as they like.
            for _ in 0..2 {
                goes(rig, &p, &to);
                if l.proto == TCP {
                    assert_eq!(rig.flow(&p), None, "{}", l.name());
                }
                assert!(rig.flow_anywhere(&p).is_some(), "{}: the agent does not see it", l.name());
            }
            goes(rig, &answer, &back);
            if l.proto == TCP {
                assert_eq!((rig.flow(&p), rig.flow(&answer)), (None, None), "{}", l.name());
            }
            goes(rig, &p.clone().flags(ACK), &to.clone().flags(ACK));
            let both = [rig.flow(&p), rig.flow(&answer)];
            assert!(both.iter().all(Option::is_some), "{}: {both:?}", l.name());
            goes(rig, &answer.clone().flags(ACK), &back.clone().flags(ACK));
        }
    });
}

/// Neither does who never gets an answer, nor who resets it.
#[test]
fn h1_who_never_gets_an_answer_or_does_not_want_it_stays_apart() {
    flooded(|rig| {
        for l in LANDS.into_iter().filter(|l| l.proto == TCP) {
            pour(rig);
            let [p, to] = opening(l, 2100);
            for flags in [SYN, ACK, ACK] {
                goes(rig, &p.clone().flags(flags), &to.clone().flags(flags));
            }
            assert_eq!(rig.flow(&p), None, "{}: no answer", l.name());
            pour(rig);
            let [p, to] = opening(l, 2101);
            let [answer, back] = answered(l, &p, SYN | ACK);
            goes(rig, &p, &to);
            goes(rig, &answer, &back);
            goes(rig, &p.clone().flags(RST), &to.clone().flags(RST));
            assert_eq!(rig.flow(&p), None, "{}: reset", l.name());
            pour(rig);
            let [p, to] = opening(l, 2102);
            let [answer, back] = answered(l, &p, RST | ACK);
            goes(rig, &p, &to);
            goes(rig, &answer, &back);
            goes(rig, &p.clone().flags(ACK), &to.clone().flags(ACK));
            assert_eq!(rig.flow(&p), None, "{}: refused", l.name());
        }
    });
}

/// Answers may pass elsewhere. Where they pass here, stable's have their entry with the others.
#[test]
fn h1_what_stays_and_what_goes_in_other_packets_joins_with_the_second_packet() {
    flooded(|rig| {
        for l in LANDS {
            let own = l.open(l.plain(2200), l.stable(OWN));
            let direct = l.open(l.early(2200), l.vip(DIRECT));
            for (p, verdict) in [(own, NEXT), (direct, REDIRECT)] {
                pour(rig);
                assert_eq!(rig.run(Direction::Ingress, &p.frame()).0, verdict, "{}", l.name());
                assert_eq!(rig.flow(&p), None, "{}", l.name());
                let next = p.clone().flags(ACK);
                assert_eq!(rig.run(Direction::Ingress, &next.frame()).0, verdict, "{}", l.name());
                assert!(rig.flow(&p).is_some(), "{}", l.name());
            }
            if l.proto == TCP {
                pour(rig);
                let own = l.open(l.plain(2201), l.stable(OWN));
                let answer = own.answer(l.stable(OWN), SYN | ACK);
                for (p, there) in [(&own, false), (&answer, false), (&own.clone().flags(ACK), true)] {
                    assert_eq!(rig.run(Direction::Ingress, &p.frame()).0, NEXT, "{}", l.name());
                    let both = [&own, &answer].map(|p| rig.flow(p).is_some());
                    assert_eq!(both, [there; 2], "{}", l.name());
                }
            }
        }
    });
}

/// An earlier connection that was left apart is not what a later one meets.
#[test]
fn h1_a_later_connection_from_the_same_port_is_decided_anew() {
    flooded(|rig| {
        for l in LANDS.into_iter().filter(|l| l.proto == TCP) {
            pour(rig);
            let [p, to] = opening(l, 2300);
            let [answer, back] = answered(l, &p, SYN | ACK);
            goes(rig, &p, &to);
            goes(rig, &answer, &back);
            goes(rig, &p.clone().flags(ACK), &to.clone().flags(ACK));
            rig.apply_land(false);
            goes(rig, &p.clone().flags(ACK), &to.clone().flags(ACK));
            let stable = p.rewritten(p.src, l.stable(SHOP_AT));
            goes(rig, &p, &stable);
            rig.apply_land(true);
        }
    });
}
