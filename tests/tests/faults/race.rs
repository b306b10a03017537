//! Two CPUs at one moment, and one tuple that only one connection can have: each instance's answer leads to who asked.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    thread,
};

use gray_tests::{
    packets::{
        frame::{ACK, Packet, SYN, TCP, UDP},
        land::{BEHIND, Land, SHOP, SHOP_AT, SHOP_TOO},
        rig::{Routes, with},
    },
    skip, sys,
};
use gray_userspace::kernel::{Direction, Hook, Live};

use super::rounds;

/// Nobody waits for a racer that is gone.
struct Gone<'a>(&'a AtomicUsize);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        self.0.store(usize::MAX, SeqCst);
    }
}

/// Two programs over the same pinned maps, each on a CPU of its own, which begin each round together.
fn race<T: Send>(
    lives: [&mut Live; 2],
    rounds: usize,
    run: impl Fn(&mut Live, usize, usize) -> T + Sync,
) -> [Vec<T>; 2] {
    let here = [AtomicUsize::new(0), AtomicUsize::new(0)];
    let (here, run) = (&here, &run);
    thread::scope(|s| {
        let mut cpu = 0;
        let racers = lives.map(|live| {
            let me = cpu;
            cpu += 1;
            s.spawn(move || {
                let _gone = Gone(&here[me]);
                sys::stay_on(0, &[me]).unwrap();
                (0..rounds)
                    .map(|round| {
                        here[me].store(round + 1, SeqCst);
                        let mut spins = 0u64;
                        while here[1 - me].load(SeqCst) <= round {
                            spins += 1;
                            // Somebody else's work has the other one's CPU.
                            if spins.is_multiple_of(4096) {
                                thread::yield_now();
                            }
                        }
                        run(live, me, round)
                    })
                    .collect()
            })
        });
        racers.map(|r| r.join().unwrap())
    })
}

/// Where a rewritten IPv4 or IPv6 frame comes from.
pub(super) fn source(l: Land, frame: &[u8]) -> (Vec<u8>, u16) {
    let (at, len, ports) = if l.v6 { (22, 16, 54) } else { (26, 4, 34) };
    (frame[at..at + len].to_vec(), u16::from_be_bytes([frame[ports], frame[ports + 1]]))
}

/// One client port towards two listeners of one instance, of clients that begin at the same moment.
#[test]
fn h1_two_cpus_that_want_one_tuple_get_two() {
    if thread::available_parallelism().unwrap().get() < 2 {
        skip::because("one CPU");
        return;
    }
    with(Routes::None, |rig| {
        rig.apply_land(true);
        let mut second = Live::open(rig.pins.clone(), 65_536, Hook::Tcx).unwrap();
        for l in [false, true].into_iter().flat_map(|v6| [TCP, UDP].map(|proto| Land { v6, proto })) {
            let n = rounds("races", 1000);
            let to = [SHOP, SHOP_TOO];
            let first = |me: usize, round: usize| l.open(l.early(1024 + round as u16), l.vip(to[me]));
            let sent = race([&mut rig.live, &mut second], n, |live, me, round| {
                let frame = first(me, round).frame();
                let (_, out) = live.run_packet(Direction::Ingress, &frame).unwrap();
                if out == frame {
                    let mut why = live.reasons().unwrap();
                    why.retain(|(_, n)| *n > 0);
                    panic!("{}: round {round} of {me} is left alone: {why:?}", l.name());
                }
                source(l, &out)
            });
            for (round, pair) in sent[0].iter().zip(&sent[1]).enumerate() {
                let ports = [pair.0.1, pair.1.1];
                assert_ne!(ports[0], ports[1], "{}: round {round}: one tuple for two", l.name());
                for me in [0, 1] {
                    let p = first(me, round);
                    let seen = SocketAddr::new(p.src.ip(), ports[me]);
                    let answer = Packet { src: l.gray(SHOP_AT), dst: seen, ..p.clone() }.flags(SYN | ACK);
                    let (_, back) = rig.run(Direction::Ingress, &answer.frame());
                    assert_eq!(
                        source(l, &back).1,
                        to[me],
                        "{}: round {round} of {me}: a wrong peer",
                        l.name()
                    );
                }
            }
        }
    });
}

/// The same SYN twice at one moment is one connection.
#[test]
fn h1_one_connection_on_two_cpus_has_one_port() {
    if thread::available_parallelism().unwrap().get() < 2 {
        skip::because("one CPU");
        return;
    }
    with(Routes::None, |rig| {
        rig.apply_land(true);
        let mut second = Live::open(rig.pins.clone(), 65_536, Hook::Tcx).unwrap();
        let l = Land { v6: false, proto: TCP };
        for to in [SHOP, BEHIND] {
            let sent = race([&mut rig.live, &mut second], rounds("races", 500), |live, _, round| {
                let frame = l.open(l.plain(1024 + round as u16), l.vip(to)).frame();
                source(l, &live.run_packet(Direction::Ingress, &frame).unwrap().1)
            });
            assert_eq!(sent[0], sent[1], "{to}");
        }
    });
}
