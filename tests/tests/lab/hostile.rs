//! The hostile network itself: without gray, packet by packet.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use gray_tests::hostile::{Harm, HarmDone, Hostile, HostileSpec, Side};
use gray_tests::pace::patience;
use gray_tests::{World, WorldSpec, residue, sys, world};

use super::build;

const SENT: u32 = 20_000;

/// Sends numbered datagrams from client 0 to backend 0 and returns those that arrived, in order.
fn numbered(w: &World, v6: bool) -> Vec<u32> {
    let to: IpAddr = if v6 { world::vip6(0).into() } else { world::vip4(0).into() };
    let any: SocketAddr = if v6 { "[::]:0" } else { "0.0.0.0:0" }.parse().unwrap();
    let server = w.backends[0].ns.enter(|| UdpSocket::bind(SocketAddr::new(to, 7000)).unwrap());
    let client = w.clients[0].ns.enter(|| UdpSocket::bind(any).unwrap());
    client.connect(SocketAddr::new(to, 7000)).unwrap();
    // All of them fit, however slow the reader: what is missing was lost on the way.
    sys::set_int_option(server.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 64 << 20).unwrap();
    server.set_read_timeout(Some(patience(Duration::from_millis(300)))).unwrap();
    let reader = std::thread::spawn(move || {
        let mut got = Vec::new();
        let mut buffer = [0; 64];
        while let Ok(n) = server.recv(&mut buffer) {
            assert_eq!(n, 40, "a datagram of another length");
            assert!(buffer[4..40].iter().all(|b| *b == buffer[0] ^ 0x5a), "a damaged datagram was delivered");
            got.push(u32::from_be_bytes(buffer[..4].try_into().unwrap()));
        }
        got
    });
    for i in 0..SENT {
        let mut datagram = [i.to_be_bytes()[0] ^ 0x5a; 40];
        datagram[..4].copy_from_slice(&i.to_be_bytes());
        let _ = client.send(&datagram).unwrap();
        // The queue of each CPU for what arrived (`netdev_max_backlog`) holds 1000.
        if i % 50 == 49 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    reader.join().unwrap()
}

fn share(n: u64, of: u64) -> u64 {
    n * 10_000 / of
}

fn overtaken(got: &[u32]) -> usize {
    got.windows(2).filter(|w| w[1] < w[0]).count()
}

/// At the client (egress) or at the backend (ingress).
fn hostile(w: &World, egress: bool, harm: Harm) -> Hostile {
    let mut spec = HostileSpec::both(7, Harm::default());
    let link = if egress { &w.clients[0].link } else { &w.backends[0].link };
    if egress {
        spec.egress = harm
    } else {
        spec.ingress = harm
    };
    Hostile::on(link, Side::Far, spec).unwrap()
}

/// What was done on the way of the datagrams.
fn done(h: &Hostile, egress: bool) -> HarmDone {
    if egress { h.egress() } else { h.ingress() }.unwrap()
}

fn each(mut f: impl FnMut(&World, bool, bool)) {
    let w = build(WorldSpec::default());
    for v6 in [false, true] {
        for egress in [true, false] {
            f(&w, v6, egress);
        }
    }
    assert_eq!(residue::find(&w).unwrap(), Vec::<String>::new());
}

#[test]
fn reordering_breaks_the_order_and_loses_nothing() {
    each(|w, v6, egress| {
        let h = hostile(w, egress, Harm { reorder: 100, ..Harm::default() });
        let got = numbered(w, v6);
        let d = done(&h, egress);
        assert_eq!(got.len() as u32, SENT, "nothing is lost: {d:?}");
        assert_eq!(got.iter().collect::<BTreeSet<_>>().len() as u32, SENT, "nothing comes twice: {d:?}");
        assert!((50..200).contains(&share(d.reordered, d.seen)), "{d:?}");
        let overtaken = overtaken(&got) as u64;
        assert!(overtaken > d.reordered / 4, "{overtaken} out of order: {d:?}");
        assert_eq!((d.lost, d.duplicated, d.corrupted, d.away, d.failed), (0, 0, 0, 0, 0));
    });
}

#[test]
fn losses_duplicates_and_corruption_are_exactly_what_is_counted() {
    each(|w, v6, egress| {
        let h = hostile(w, egress, Harm { lose: 100, duplicate: 200, corrupt: 100, reorder: 0 });
        let before = csum_errors(w, v6);
        let got = numbered(w, v6);
        let d = done(&h, egress);
        // A neighbour's question may come between, and to harm, too.
        let others = d.seen - u64::from(SENT);
        assert!(others < 4, "{d:?}");
        let exactly = u64::from(SENT) + d.duplicated - d.lost - d.corrupted;
        assert!((got.len() as u64).abs_diff(exactly) <= others, "{} of {exactly}: {d:?}", got.len());
        let corrupted = csum_errors(w, v6) - before;
        assert!(corrupted.abs_diff(d.corrupted) <= others, "{corrupted}: {d:?}");
        for (n, wanted) in [(d.lost, 100), (d.duplicated, 200), (d.corrupted, 100)] {
            assert!((wanted / 2..wanted * 2).contains(&share(n, d.seen)), "{d:?}");
        }
        assert_eq!((d.away, d.failed, d.reordered), (0, 0, 0));
    });
}

#[test]
fn nothing_is_done_without_harm_and_the_sender_never_hears_of_a_loss() {
    each(|w, v6, egress| {
        let h = hostile(w, egress, Harm::default());
        let got = numbered(w, v6);
        assert!(got.len() as u32 == SENT && overtaken(&got) == 0);
        assert_eq!(done(&h, egress).lost, 0);
        drop(h);
        // Every send succeeds: `numbered` unwraps them.
        let _h = hostile(w, egress, Harm { lose: 10_000, ..Harm::default() });
        assert!(numbered(w, v6).is_empty());
    });
}

/// UDP datagrams that backend 0 dropped for their checksum.
fn csum_errors(w: &World, v6: bool) -> u64 {
    let b = &w.backends[0].ns;
    gray_tests::netstat::counter(b, if v6 { "Udp6InCsumErrors" } else { "Udp InCsumErrors" }).unwrap()
}
