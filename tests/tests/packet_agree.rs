//! The packet path in the kernel against the model of it: whole and damaged frames, policy changes and long silences
//! between them. `GRAY_FRAMES` sets how many frames.

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, SocketAddr},
};

use gray_common::{
    Reason,
    wire::{Addr, FlowState, TIME_BUCKETS},
};
use gray_tests::command::note;
use gray_tests::pace::asked;
use gray_tests::packets::{
    case::REDIRECT,
    frame::{ACK, FIN, PSH, Packet, RST, SYN, TCP},
    front::Front,
    fuzz,
    land::{around, policy},
    model::{Entry, FAILURES, Model, Tuple},
    pcap,
    random::Random,
    rig::{Rig, Routes, hex, moved, with},
    subject::Subject as _,
};
use gray_userspace::kernel::Direction;

const SEED: u64 = 20_26;
const FRAMES: usize = 30_000;
/// Frames of one bench at most: the flows of more would push each other out of the kernel's table, which forgets.
const PER_BENCH: usize = 10_000;
/// A policy change after so many frames, and a silence.
const CHANGE: usize = 1_500;
const SILENCE: usize = 5_000;
/// So many ticks in a second that no flow ever is idle for long: time passes only where the test says so.
const NEVER_HZ: u32 = 1_000_000;
/// Frames before a difference that are kept for its pcap.
const KEPT: usize = 200;

/// A5, A11, D1, H1: verdict, bytes, counters, arms, rules and the flow table.
#[test]
fn the_kernel_does_what_the_model_says() {
    agree(false);
}

/// The same with XDP in front: between the two a packet is treated as by tc alone.
#[test]
fn the_kernel_with_xdp_in_front_does_what_the_model_says() {
    agree(true);
}

fn agree(front: bool) {
    let frames = asked("GRAY_FRAMES", "frames", FRAMES, FRAMES / 2);
    // Each way out has its share.
    let per_bench = PER_BENCH.min(frames.div_ceil(3));
    let mut seen = Seen::default();
    for (bench, first) in (0..frames).step_by(per_bench).enumerate() {
        let routes = [Routes::Neighbours, Routes::None, Routes::Unresolved][bench % 3];
        let count = per_bench.min(frames - first);
        with(routes, |rig| run(rig, SEED + bench as u64, count, &mut seen, front));
    }
    note(&format!("{frames} frames, 0 mismatches: {seen:?}"));
    // It must have been where it matters.
    let least = frames / 50;
    assert!(seen.lost as usize > least / 10 && seen.broken > 0, "lost and broken: {seen:?}");
    for (what, n) in [("steered", seen.steered), ("rewritten", seen.rewritten), ("passed", seen.passed)] {
        assert!(n > least, "{what}: {seen:?}");
    }
    assert!(!front || seen.by_xdp as usize > least / 2, "by XDP: {seen:?}");
}

/// What became of the frames.
#[derive(Debug, Default)]
struct Seen {
    refused: usize,
    /// Too large: an ICMP error, which is other tests' matter.
    told: usize,
    passed: usize,
    /// Changed and given to the stack.
    rewritten: usize,
    /// Redirected.
    steered: usize,
    /// ... by XDP.
    by_xdp: u64,
    /// Kept with stable because the agent was lost, or by a breaker.
    lost: u64,
    broken: u64,
    /// Most flows that a bench ended with.
    flows: usize,
}

/// When the agent's lease was renewed, so that it is over, or not for long.
fn renewed(lost: bool) -> u64 {
    u64::from(!lost) << 40
}

/// Now and then: what an instance says first on a connection that a breaker watches.
fn answer(r: &mut Random, model: &Model) -> Option<Vec<u8>> {
    if r.below(16) != 0 {
        return None;
    }
    let waits = |(t, e): (&Tuple, &Entry)| (!e.forward && e.watched).then_some((t.src, t.dst));
    let mut waiting: Vec<_> = model.flows.table.iter().filter_map(waits).collect();
    // The map's own order is another in every process.
    waiting.sort_unstable();
    let &(src, dst) = waiting.get(r.below(waiting.len().max(1)))?;
    let flags = [RST, RST | ACK, SYN | ACK, PSH | ACK, FIN | ACK][r.below(5)];
    Some(Packet::new(TCP, src, dst).flags(flags).frame())
}

fn run(rig: &mut Rig, seed: u64, count: usize, seen: &mut Seen, front: bool) {
    let mut r = Random(seed);
    let mut model = Model::new(rig.way.clone());
    let mut on = if front { Front::on(rig) } else { Front::without(rig) };
    let mut recent: VecDeque<Vec<u8>> = VecDeque::new();
    let mut lost = false;
    for n in 0..count {
        if std::mem::take(&mut model.aged) {
            on.rig.live.configure(|c| (c.hz, c.renewed) = (NEVER_HZ, renewed(lost)));
        }
        if n % CHANGE == 0 {
            let early = (n / CHANGE).is_multiple_of(2);
            // Two services want stable when the agent is lost, which it is half of the time; others have breakers.
            let text = ["  cond:\n", "  own:\n"].iter().fold(policy(early), |text, name| {
                text.replace(name, &format!("{name}    on-agent-lost: stable\n"))
            });
            let text = ["  shop:\n", "  weigh:\n", "  cond:\n", "  behind:\n", "  direct:\n"]
                .iter()
                .fold(text, |text, name| {
                    text.replace(name, &format!("{name}    breaker: {{ failures: {FAILURES} }}\n"))
                });
            on.rig.apply_with(&text, &around());
            model.apply(&text, &around());
            lost = n / CHANGE % 4 >= 2;
            on.rig.live.configure(|c| (c.hz, c.renewed) = (NEVER_HZ, renewed(lost)));
            model.lose(lost);
        }
        let frame = answer(&mut r, &model).unwrap_or_else(|| fuzz::wide(&mut r));
        if fuzz::is_icmp(&frame) {
            continue;
        }
        let silence = n % SILENCE == SILENCE - 1;
        if silence {
            on.rig.age();
            model.age();
        }
        let d = if r.below(8) == 0 { Direction::Egress } else { Direction::Ingress };
        let mark = [0, 0, 0, 0, 7, 8][r.below(6)];
        let before = model.counters.clone();
        match on.try_run(d, &frame, mark) {
            None => seen.refused += 1,
            Some(got) => {
                let want = model.run(d, &frame, mark);
                let counters = on.rig.counters();
                if model.told {
                    seen.told += 1;
                    model.counters = counters;
                    continue;
                }
                if got != want || counters != model.counters {
                    let frames: Vec<&[u8]> =
                        recent.iter().chain([&frame, &got.1, &want.1]).map(|f| &**f).collect();
                    panic!(
                        "seed {seed}, frame {n}, {d:?}, mark {mark}, silence {silence}: verdict {}, expected {}\n\
                         counters {:?}, expected {:?}\nin:\n{}\nout:\n{}\nexpected:\n{}\n{}",
                        got.0,
                        want.0,
                        moved(&before, &counters),
                        moved(&before, &model.counters),
                        hex(&frame),
                        hex(&got.1),
                        hex(&want.1),
                        pcap::save(&format!("random-{seed}-{n}"), &frames)
                    );
                }
                *match (got.0 == REDIRECT, got.1 != frame) {
                    (true, _) => &mut seen.steered,
                    (_, true) => &mut seen.rewritten,
                    _ => &mut seen.passed,
                } += 1;
            }
        }
        recent.push_back(frame);
        if recent.len() > KEPT {
            let _ = recent.pop_front();
        }
    }
    compare(on.rig, &model);
    seen.by_xdp += on.sent;
    seen.lost += model.counters[&Reason::AgentLost];
    seen.broken += model.counters[&Reason::Broken];
    seen.flows = seen.flows.max(model.flows.table.len());
}

/// New source, new destination, flags, counter's index, rule.
type Row = (SocketAddr, SocketAddr, u16, u16, u16);

fn compare(rig: &Rig, model: &Model) {
    let (mut got, mut want) = (BTreeMap::<Tuple, Row>::new(), BTreeMap::<Tuple, Row>::new());
    let v4 = |a: u32, port: u16| SocketAddr::new(IpAddr::from(a.to_ne_bytes()), u16::from_be(port));
    let v6 = |a: Addr, port: u16| SocketAddr::new(IpAddr::from(a.0), u16::from_be(port));
    let row = |src, dst, s: &FlowState| (src, dst, s.flags, s.counter, s.rule);
    rig.live
        .flows4(|k, f| {
            let key = Tuple { src: v4(k.saddr, k.sport), dst: v4(k.daddr, k.dport), proto: k.proto as u8 };
            let _ = got.insert(key, row(v4(f.saddr, f.sport), v4(f.daddr, f.dport), &f.state));
        })
        .unwrap();
    rig.live
        .flows6(|k, f| {
            let key = Tuple { src: v6(k.saddr, k.sport), dst: v6(k.daddr, k.dport), proto: k.proto as u8 };
            let _ = got.insert(key, row(v6(f.saddr, f.sport), v6(f.daddr, f.dport), &f.state));
        })
        .unwrap();
    for (t, e) in &model.flows.table {
        let counter = e.service << 1 | u16::from(e.arm);
        let _ = want.insert(*t, (e.src, e.dst, e.flags(), counter, e.rule));
    }
    let differ: Vec<_> =
        got.keys().chain(want.keys()).filter(|k| got.get(k) != want.get(k)).take(5).collect();
    for k in &differ {
        note(&format!("{k:?}: {:?}, expected {:?}", got.get(k), want.get(k)));
    }
    assert!(
        differ.is_empty(),
        "the flow tables differ ({} and {} entries), see above",
        got.len(),
        want.len()
    );
    for ((service, arm), count) in &model.arms {
        assert_eq!(rig.live.arm(*service, *arm).unwrap(), *count, "service {service}, arm {arm}");
    }
    for ((service, arm), want) in &model.times {
        let got = rig.live.times(*service, *arm).unwrap();
        // All happens within minutes.
        assert_eq!(got.kinds()[..3].iter().map(|b| b[TIME_BUCKETS - 1]).sum::<u64>(), 0, "{got:?}");
        let got = got.kinds().map(|buckets| buckets.iter().sum::<u64>());
        assert_eq!(got[..3], want[..], "service {service}, arm {arm}: handshakes, first words, ends");
    }
    for (rule, hits) in &model.rule_hits {
        assert_eq!(rig.live.rule_hits(*rule).unwrap(), *hits, "rule {rule}");
    }
}
