//! Random packets through the data path on the real kernel: every rewrite against a checksum computed in full, and
//! damaged frames against what must hold for any frame. `GRAY_FRAMES` sets how many of each.

use std::collections::BTreeMap;

use gray_common::Reason;
use gray_tests::pace::asked;
use gray_tests::packets::{
    case::{NEXT, REDIRECT},
    frame::{ACK, Packet, SYN, UDP},
    fuzz::{self, Spot, TO_STACK},
    icmp,
    random::Random,
    rig::{MTU, Rig, Routes, hex, moved, with},
    sum,
};
use gray_userspace::kernel::Direction;

const SEED: u64 = 20_26;
const SPOTS: usize = 64;
const CONNECTIONS: usize = 40;
const FRAMES: usize = 100_000;

/// A5, both families and protocols, both directions: what gray updates bit by bit is what a full computation over the
/// new packet gives, and nothing else has changed. The skb of a test run is CHECKSUM_NONE, so the bytes are final;
/// packets with a checksum left to the NIC (CHECKSUM_PARTIAL) are the live tests' matter.
#[test]
fn every_rewritten_packet_has_the_checksums_of_a_full_computation() {
    with(Routes::None, |rig| {
        let mut r = Random(SEED);
        let (policy, spots) = fuzz::spots(&mut r, SPOTS);
        rig.apply(&policy);
        let frames = asked("GRAY_FRAMES", "frames", SPOTS * CONNECTIONS * 4, SPOTS * CONNECTIONS * 4);
        let connections = frames.div_ceil(SPOTS * 4);
        let mut checked = 0;
        for spot in &spots {
            for _ in 0..connections {
                checked += connection(rig, &mut r, spot);
            }
        }
        assert_eq!(checked, SPOTS * connections * 4);
    });
}

/// Opening, a later packet, and an answer of each kind; returns how many packets were compared.
fn connection(rig: &mut Rig, r: &mut Random, spot: &Spot) -> usize {
    let client = fuzz::place(r, spot.land.v6, 200);
    let ttl = 2 + r.below(254) as u8;
    let base = Packet { ttl, tos: r.draw() as u8, ..Packet::new(spot.land.proto, client, spot.service) };
    let zero = spot.land.proto == UDP && !spot.land.v6 && r.below(4) == 0;
    let mut fresh = |p: Packet, flags: u8| {
        let size = r.below(200);
        Packet { no_check: zero, payload: r.bytes(size), tcp_flags: flags, ..p }
    };
    let answer = base.answer(spot.instance, 0);
    let packets = [
        (fresh(base.clone(), SYN), true),
        (fresh(answer.clone(), SYN | ACK), false),
        (fresh(base, ACK), true),
        (fresh(answer, ACK), false),
    ];
    for (p, forward) in &packets {
        let want =
            if *forward { p.rewritten(p.src, spot.instance) } else { p.rewritten(spot.service, p.dst) };
        let (verdict, out) = rig.run(Direction::Ingress, &p.frame());
        let say = || format!("seed {SEED}, {spot:?}\nin:\n{}\nout:\n{}", hex(&p.frame()), hex(&out));
        assert_eq!(verdict, NEXT, "{}", say());
        if let Some(wrong) = sum::wrong(&out, zero) {
            panic!("{wrong}\n{}", say());
        }
        assert_eq!(hex(&out), hex(&want.frame()), "{}", say());
    }
    packets.len()
}

/// Where one's complement has two zeros: packets made so that a checksum, before or after the rewrite, is on either side
/// of zero. A UDP checksum must never become 0, which would mean "none".
#[test]
fn checksums_around_zero_survive_the_rewrite() {
    with(Routes::None, |rig| {
        let mut r = Random(SEED);
        let (policy, spots) = fuzz::spots(&mut r, 8);
        rig.apply(&policy);
        let mut zeros = 0;
        for spot in &spots {
            for target in [0, 1, 2, 0xfffd, 0xfffe, 0xffff] {
                for after in [false, true] {
                    let client = fuzz::place(&mut r, spot.land.v6, 200);
                    let p = Packet { id: 0, ..Packet::new(spot.land.proto, client, spot.service) };
                    let p = edge(p.payload([0, 0]), target, |p| {
                        if after { p.rewritten(p.src, spot.instance) } else { p.clone() }
                    });
                    let (_, out) = rig.run(Direction::Ingress, &p.frame());
                    let want = p.rewritten(p.src, spot.instance).frame();
                    assert_eq!(hex(&out), hex(&want), "target {target:#x}, after {after}, {spot:?}");
                    let at = if spot.land.v6 { 54 } else { 34 } + if spot.land.proto == UDP { 6 } else { 16 };
                    let edge = if after { &want } else { &p.frame() };
                    zeros += usize::from([[0, 0], [0xff, 0xff]].contains(&[edge[at], edge[at + 1]]));
                }
            }
        }
        // Each spot's two spellings of zero, before and after.
        assert_eq!(zeros, spots.len() * 4);
    });
}

/// Sets the payload and the IPv4 identification so that what `seen` makes of the packet has these checksums.
fn edge(mut p: Packet, target: u16, seen: impl Fn(&Packet) -> Packet) -> Packet {
    let frame = seen(&p).frame();
    let word = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    if p.src.is_ipv4() {
        p.id = sum::word(word(24), target);
    }
    let at = if p.src.is_ipv4() { 34 } else { 54 } + if p.proto == UDP { 6 } else { 16 };
    p.payload = sum::word(word(at), target).to_be_bytes().to_vec();
    p
}

/// Fail open, whatever comes: never dropped, never changed without being sent on as ours, and never changed elsewhere
/// than a rewrite changes.
#[test]
fn damaged_frames_are_passed_or_forwarded_never_dropped_or_mangled() {
    with(Routes::Neighbours, |rig| {
        rig.apply_land(true);
        let mut r = Random(SEED);
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        let mut before = rig.counters();
        let frames = asked("GRAY_FRAMES", "frames", FRAMES, FRAMES / 10);
        for n in 0..frames {
            let frame = fuzz::mutated(&mut r);
            let d = if r.below(8) == 0 { Direction::Egress } else { Direction::Ingress };
            let Some((verdict, out)) = rig.try_run(d, &frame) else {
                *seen.entry("refused by the test run").or_default() += 1;
                continue;
            };
            let after = rig.counters();
            let counted = moved(&before, &after);
            before = after;
            let say = || {
                format!("seed {SEED}, frame {n}: {verdict} {counted:?}\n{}\nout:\n{}", hex(&frame), hex(&out))
            };
            assert!(verdict == NEXT || verdict == REDIRECT, "{}", say());
            assert!(counted.values().all(|n| *n == 1), "one packet, one count each: {}", say());
            let changed = out != frame;
            // On egress a reply is rewritten and goes on; no counter is about that.
            if verdict == NEXT && d == Direction::Ingress {
                assert_eq!(changed, TO_STACK.iter().any(|t| counted.contains_key(t)), "{}", say());
            }
            if counted.contains_key(&Reason::TooBig) {
                let mut mtus = [0].iter().chain(&fuzz::ROOMS).map(|room| MTU - room);
                assert!(mtus.any(|mtu| out == icmp::answer_too_big(&frame, mtu)), "{}", say());
            } else if changed {
                assert_eq!(fuzz::touched_too_much(&frame, &out), None, "{}", say());
            }
            *seen.entry(kind(verdict, changed, !counted.is_empty())).or_default() += 1;
        }
        // The fuzz must have been where it matters.
        for k in ["passed", "passed and counted", "redirected", "rewritten"] {
            assert!(seen.get(k).is_some_and(|n| *n > frames / 1000), "{k}: {seen:?}");
        }
    });
}

fn kind(verdict: i32, changed: bool, counted: bool) -> &'static str {
    match (verdict == REDIRECT, changed, counted) {
        (true, ..) => "redirected",
        (_, true, _) => "rewritten",
        (_, _, true) => "passed and counted",
        _ => "passed",
    }
}
