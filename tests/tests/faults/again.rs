//! A SYN that comes again because something was lost on its way: it goes by the next hop as it is now, and its answers find their entry.

use std::{net::SocketAddr, process::Command};

use gray_tests::{
    command::run,
    link,
    packets::{
        frame::{ACK, SYN, TCP},
        land::{Land, SHOP, SHOP_AT},
        rig::{Rig, Routes, Way, neighbour, with},
    },
};
use gray_userspace::kernel::Direction;

use super::race::source;

fn lands() -> [Land; 2] {
    [false, true].map(|v6| Land { v6, proto: TCP })
}

/// The neighbour's link address, from now on.
fn neigh(rig: &Rig, of: SocketAddr, lladdr: &str) {
    link::ip_batch(&rig.ns, &format!("neigh replace {} lladdr {lladdr} dev out nud permanent\n", of.ip()))
        .unwrap();
}

/// What the kernel answers between saying that a neighbour is there and writing its address, which takes another CPU nanoseconds, or as
/// long as its machine stands still: a whole connection would go to nobody.
#[test]
fn h1_a_neighbour_whose_address_is_yet_to_be_written_is_asked_for_it() {
    with(Routes::Neighbours, |rig| {
        rig.apply_land(true);
        for l in lands() {
            let (client, gray) = (l.early(2000), l.gray(SHOP_AT));
            let syn = l.open(client, l.vip(SHOP));
            let sent = syn.rewritten(client, gray);
            neigh(rig, gray, "00:00:00:00:00:00");
            let (_, out) = rig.run(Direction::Ingress, &syn.frame());
            assert_eq!(out, Way::Resolve.leaves(&sent), "{}: its frame is left to the kernel", l.name());
            let mac = neighbour(gray.ip()).map(|b| format!("{b:02x}")).join(":");
            neigh(rig, gray, &mac);
            let (_, out) = rig.run(Direction::Ingress, &syn.frame());
            assert_eq!(out, rig.leaves(&sent), "{}: by the address", l.name());
        }
    });
}

#[test]
fn h1_a_syn_that_comes_again_goes_by_the_next_hop_as_it_is_now() {
    with(Routes::Neighbours, |rig| {
        rig.apply_land(true);
        for l in lands() {
            let (client, gray) = (l.early(2001), l.gray(SHOP_AT));
            let syn = l.open(client, l.vip(SHOP)).frame();
            let answer = l.open(gray, client).flags(SYN | ACK).frame();
            let mut to = |frame: &[u8]| rig.run(Direction::Ingress, frame).1[..6].to_vec();
            assert_eq!(to(&syn), neighbour(gray.ip()), "{}", l.name());
            assert_eq!(to(&answer), neighbour(client.ip()), "{}", l.name());
            for host in [gray, client] {
                neigh(rig, host, "02:00:00:00:00:77");
            }
            let mut to = |frame: &[u8]| rig.run(Direction::Ingress, frame).1[..6].to_vec();
            for frame in [&syn, &answer] {
                assert_eq!(to(frame), [2, 0, 0, 0, 0, 0x77], "{}: to who has gone", l.name());
            }
        }
    });
}

#[test]
fn h1_the_answer_to_a_syn_that_comes_again_finds_its_entry() {
    with(Routes::Neighbours, |rig| {
        rig.apply_land(true);
        for l in lands() {
            let (client, gray) = (l.early(2002), l.gray(SHOP_AT));
            let syn = l.open(client, l.vip(SHOP)).frame();
            let answer = l.open(gray, client).flags(SYN | ACK).frame();
            let mut peer = |frame: &[u8]| source(l, &rig.run(Direction::Ingress, frame).1).1;
            let _ = peer(&syn);
            remove(rig, l, gray, client);
            let mut peer = |frame: &[u8]| source(l, &rig.run(Direction::Ingress, frame).1).1;
            assert_eq!(peer(&answer), SHOP_AT, "{}: nobody's", l.name());
            let _ = peer(&syn);
            assert_eq!(peer(&answer), SHOP, "{}: the service's", l.name());
        }
    });
}

/// Takes an entry away, as pressure on the table may.
fn remove(rig: &Rig, l: Land, from: SocketAddr, to: SocketAddr) {
    let ip = |a: SocketAddr| match a {
        SocketAddr::V4(a) => a.ip().octets().to_vec(),
        SocketAddr::V6(a) => a.ip().octets().to_vec(),
    };
    let ports = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
    let key = [ip(from), ip(to), ports, u32::from(TCP).to_ne_bytes().to_vec()].concat();
    let hex = key.iter().map(|b| format!("{b:02x}"));
    let map = rig.pins.map(if l.v6 { "FLOWS6" } else { "FLOWS4" });
    let _ = run(Command::new("bpftool")
        .args(["map", "delete", "pinned"])
        .arg(map)
        .args(["key", "hex"])
        .args(hex))
    .unwrap();
}
