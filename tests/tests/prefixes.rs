//! A5: who is in a listed prefix, as the kernel's tables say it: thousands of prefixes of all lengths, inside and beside one
//! another, changed from one policy to the next.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use gray_common::hash::mix;
use gray_tests::packets::{
    frame::TCP,
    land::{Land, SHOP, SHOP_AT},
    rig::{Rig, Routes, with},
};
use gray_userspace::kernel::Direction;
use ipnet::IpNet;

/// The n-th number of a seed.
fn draw(seed: u64, n: u64) -> u64 {
    mix(mix(seed) ^ n)
}

/// Addresses of few enough networks that they meet, and now and then one from anywhere.
fn address(v6: bool, r: u64) -> IpAddr {
    let few = (r >> 20) as u32 & 0x0003_ffff;
    let low = if r & 15 == 0 { (r >> 8) as u32 } else { 10 << 24 | few };
    if v6 {
        Ipv6Addr::from(0xfd00_0018 << 96 | u128::from(low) << 40 | u128::from(r >> 44)).into()
    } else {
        Ipv4Addr::from(low).into()
    }
}

fn prefixes(v6: bool, seed: u64, n: u64) -> Vec<IpNet> {
    let one = |i| {
        let r = draw(seed, i);
        // Half of the addresses are in one of 3000: mostly narrow ones, a few wide ones around them.
        let bits = if i % 500 == 0 { 18 + r % 4 } else { 24 + r % 9 };
        let bits = match (v6, i % 7) {
            (false, _) => bits,
            (true, 0) => 88 + r % 41,
            (true, _) => 56 + bits,
        };
        IpNet::new(address(v6, draw(seed, r)), bits as u8).unwrap().trunc()
    };
    (0..n).map(one).collect()
}

/// Gray for everybody in `nets`.
fn policy(l: Land, nets: &[IpNet]) -> String {
    let list: Vec<String> = nets.iter().map(|n| format!("\"{n}\"")).collect();
    format!(
        "services:\n  shop:\n    listen: [\"{}\"]\n    instances:\n      - {{ address: \"{}\", version: \"1.0\" }}\n      \
         - {{ address: \"{}\", version: \"2.0\" }}\n    stable: {{ version: \"1.0\" }}\ncohorts:\n  early: {{ sources: [{}] }}\n\
         routes:\n  - {{ service: shop, when: early, to: {{ version: \"2.0\" }} }}\n",
        l.vip(SHOP),
        l.stable(SHOP_AT),
        l.gray(SHOP_AT),
        list.join(", ")
    )
}

/// Where the kernel sends a new connection.
fn instance(rig: &mut Rig, l: Land, from: SocketAddr) -> IpAddr {
    let out = rig.run(Direction::Ingress, &l.open(from, l.vip(SHOP)).frame()).1;
    if l.v6 {
        IpAddr::from(<[u8; 16]>::try_from(&out[38..54]).unwrap())
    } else {
        IpAddr::from(<[u8; 4]>::try_from(&out[30..34]).unwrap())
    }
}

fn holds(v6: bool) {
    with(Routes::None, |rig| {
        let l = Land { v6, proto: TCP };
        for round in 0..3 {
            let nets = prefixes(v6, round, [3000, 20, 4000][round as usize]);
            rig.apply(&policy(l, &nets));
            let (mut listed, asked) = (0, 4000);
            for i in 0..asked {
                // Beside a prefix's ends, or anywhere among them.
                let net = &nets[draw(77, i) as usize % nets.len()];
                let ip = if i & 1 == 0 { net.broadcast() } else { address(v6, draw(round + 9, i)) };
                let member = nets.iter().any(|n| n.contains(&ip));
                listed += u32::from(member);
                let at = if member { l.gray(SHOP_AT) } else { l.stable(SHOP_AT) };
                let from = SocketAddr::new(ip, 1024 + (i % 60_000) as u16);
                assert_eq!(instance(rig, l, from), at.ip(), "round {round}: {ip}");
            }
            assert!(
                (asked / 2..asked - 100).contains(&u64::from(listed)),
                "{listed} of {asked} are listed: both kinds are asked for"
            );
        }
    });
}

#[test]
fn a5_d1_ipv4_clients_are_in_the_prefixes_that_are_listed() {
    holds(false);
}

#[test]
fn a5_d1_ipv6_clients_are_in_the_prefixes_that_are_listed() {
    holds(true);
}

#[test]
fn a5_everybody_is_listed_by_one_prefix() {
    with(Routes::None, |rig| {
        let l = Land { v6: false, proto: TCP };
        for (net, first, at) in
            [("0.0.0.0/0", 2000, l.gray(SHOP_AT)), ("203.0.113.0/24", 3000, l.stable(SHOP_AT))]
        {
            rig.apply(&policy(l, &[net.parse().unwrap()]));
            for i in 0..50 {
                let from = SocketAddr::new(address(false, draw(5, i)), first + i as u16);
                assert_eq!(instance(rig, l, from), at.ip(), "{net}: {from}");
            }
        }
    });
}
