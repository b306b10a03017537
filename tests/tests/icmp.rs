//! ICMP errors about steered packets, packet by packet, and path MTU discovery on live connections.

use std::net::IpAddr;

use gray_common::Reason;
use gray_tests::{
    WorldSpec,
    client::curl,
    command, link,
    packets::{
        case::{NEXT, REDIRECT},
        frame::{ETH, Packet, SYN, UDP},
        icmp::{IcmpError, answer_too_big, too_big},
        land::{self, LANDS, Land, SHOP, SHOP_AT},
        rig::{MTU, Rig, Routes, hex, moved, neighbour, with},
    },
    policy::PolicyText,
    scene::Scene,
    server::Nginx,
    world::{vip4, vip6},
};
use gray_userspace::kernel::Direction;

const FILES: u16 = 8081;
const GUE_PORT: u16 = 6080;
const UNREACHABLE4: (u8, u8) = (3, 3);
const UNREACHABLE6: (u8, u8) = (1, 4);

/// Runs a frame, and says what counted beside the ways out.
fn run(rig: &mut Rig, frame: &[u8]) -> (i32, Vec<u8>, Vec<Reason>) {
    let before = rig.counters();
    let (verdict, out) = rig.run(Direction::Ingress, frame);
    let counted = moved(&before, &rig.counters()).into_keys().collect();
    (verdict, out, counted)
}

#[track_caller]
fn same(got: &[u8], want: &[u8]) {
    assert!(got == want, "got:\n{}\nexpected:\n{}", hex(got), hex(want));
}

/// What a translated error must quote: the packet as its sender sent it, at the TTL it had where it was quoted; the
/// transport header's own checksum stays as it was found.
fn quotation(sent: &Packet, seen: &Packet, l4: usize) -> Vec<u8> {
    let head = if sent.src.is_ipv6() { 40 } else { 20 };
    let mut quoted = Packet { ttl: seen.ttl, ..sent.clone() }.frame()[ETH..ETH + head + l4].to_vec();
    let at = head + if sent.proto == UDP { 6 } else { 16 };
    if head + l4 >= at + 2 {
        quoted[at..at + 2].copy_from_slice(&seen.frame()[ETH + at..ETH + at + 2]);
    }
    quoted
}

fn router(l: Land) -> IpAddr {
    if l.v6 { "fd00:99::77".parse().unwrap() } else { "198.18.99.77".parse().unwrap() }
}

/// An error about `seen`, which its sender knows as `sent`: translated, from `as_from`, out where that packet came from.
fn translated(rig: &mut Rig, l: Land, sent: &Packet, seen: &Packet, from: IpAddr, as_from: IpAddr) {
    for (kind, rest) in [
        (too_big(l.v6), 1280),
        (if l.v6 { UNREACHABLE6 } else { UNREACHABLE4 }, 0),
        (if l.v6 { (3, 0) } else { (11, 0) }, 0),
    ] {
        for l4 in [8, 20, 28] {
            let error = IcmpError::about(seen, from, kind, rest, l4);
            let (verdict, out, counted) = run(rig, &error.frame());
            let (dmac, smac) = (neighbour(sent.src.ip()), out[6..12].try_into().unwrap());
            let quoted = quotation(sent, seen, l4);
            let to = sent.src.ip();
            let want = IcmpError { dmac, smac, from: as_from, to, ttl: error.ttl - 1, quoted, ..error };
            same(&out, &want.frame());
            assert_eq!((verdict, counted), (REDIRECT, vec![Reason::IcmpError]), "{} {kind:?} {l4}", l.name());
        }
    }
}

/// R12: outer and quoted addresses and ports are put back, for errors about either direction, from routers and from the
/// hosts themselves.
#[test]
fn h1_errors_about_steered_packets_are_translated_both_ways() {
    with(Routes::Neighbours, |rig| {
        rig.apply_land(true);
        for l in LANDS {
            let (vip, gray) = (l.vip(SHOP), l.gray(SHOP_AT));
            let p = l.open(l.early(7_000), vip).flags(SYN);
            let (verdict, ..) = run(rig, &p.frame());
            assert_eq!(verdict, REDIRECT);
            let there = p.rewritten(p.src, gray);
            translated(rig, l, &p, &there, router(l), router(l));
            translated(rig, l, &p, &there, gray.ip(), vip.ip());
            let answer = p.answer(gray, 0x12);
            let (verdict, ..) = run(rig, &answer.frame());
            assert_eq!(verdict, REDIRECT);
            let back = answer.rewritten(vip, p.src);
            translated(rig, l, &answer, &back, router(l), router(l));
            translated(rig, l, &answer, &back, p.src.ip(), p.src.ip());
        }
    });
}

/// GUE's port may be an instance's: what is quoted then is no packet with another one in it.
#[test]
fn h1_errors_about_packets_to_port_6080_are_translated_too() {
    with(Routes::Neighbours, |rig| {
        let text = land::policy(true).replace(&format!(":{SHOP_AT}\""), &format!(":{GUE_PORT}\""));
        rig.apply_with(&text, &land::around());
        for l in LANDS {
            let (vip, gray) = (l.vip(SHOP), l.gray(GUE_PORT));
            let p = l.open(l.early(7_050), vip).flags(SYN);
            assert_eq!(run(rig, &p.frame()).0, REDIRECT);
            translated(rig, l, &p, &p.rewritten(p.src, gray), router(l), router(l));
        }
    });
}

/// What is no error about a packet of ours goes on as it is: other types, other packets, cut short, to somebody else.
#[test]
fn h1_other_icmp_passes_unchanged() {
    with(Routes::Neighbours, |rig| {
        rig.apply_land(true);
        for l in LANDS {
            let p = l.open(l.early(7_100), l.vip(SHOP)).flags(SYN);
            let _ = run(rig, &p.frame());
            let there = p.rewritten(p.src, l.gray(SHOP_AT));
            let error = |about: &Packet, kind| IcmpError::about(about, router(l), kind, 0, 8);
            let unreachable = if l.v6 { UNREACHABLE6 } else { UNREACHABLE4 };
            let stranger = Packet { src: l.early(7_199), ..there.clone() };
            let mut elsewhere = error(&there, unreachable);
            elsewhere.to = router(l);
            let mut short = error(&there, unreachable).frame();
            short.truncate(short.len() - 1);
            let mut dying = error(&there, unreachable);
            dying.ttl = 1;
            let echo = error(&there, if l.v6 { (128, 0) } else { (8, 0) });
            for (frame, counts) in [
                (error(&stranger, unreachable).frame(), None),
                (elsewhere.frame(), None),
                (short, None),
                (echo.frame(), None),
                (dying.frame(), Some(Reason::TtlExpired)),
            ] {
                let (verdict, out, counted) = run(rig, &frame);
                same(&out, &frame);
                assert_eq!((verdict, counted), (NEXT, counts.into_iter().collect()), "{}", l.name());
            }
        }
    });
}

/// An echo request, 32 bytes with it, as a frame.
fn request(from: IpAddr, to: IpAddr, kind: u8) -> Vec<u8> {
    let p = IcmpError { quoted: (0..32).collect(), ..echo(from, to, kind) };
    p.frame()
}

fn echo(from: IpAddr, to: IpAddr, kind: u8) -> IcmpError {
    let [dmac, smac] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];
    IcmpError { dmac, smac, from, to, ttl: 9, tos: 0, kind, code: 0, rest: 0x1234_0007, quoted: Vec::new() }
}

/// Who asks for a service address that nobody has gets an answer; all others ask whom they mean.
#[test]
fn h1_an_echo_request_to_a_service_address_is_answered() {
    with(Routes::Neighbours, |rig| {
        rig.apply_land(true);
        for l in LANDS {
            let (ask, answer) = if l.v6 { (128, 129) } else { (8, 0) };
            let (client, service) = (l.early(1).ip(), l.vip(SHOP).ip());
            let (verdict, out, counted) = run(rig, &request(client, service, ask));
            let want = IcmpError {
                dmac: [2, 0, 0, 0, 0, 2],
                smac: [2, 0, 0, 0, 0, 1],
                ttl: 64,
                quoted: (0..32).collect(),
                ..echo(service, client, answer)
            };
            same(&out, &want.frame());
            assert_eq!((verdict, counted), (REDIRECT, vec![Reason::Echo]), "{}", l.name());
            for (to, kind) in [(l.gray(SHOP_AT).ip(), ask), (router(l), ask), (service, answer)] {
                let frame = request(client, to, kind);
                let (verdict, out, counted) = run(rig, &frame);
                same(&out, &frame);
                assert_eq!((verdict, counted), (NEXT, Vec::new()), "{} {to} {kind}", l.name());
            }
        }
    });
}

#[test]
fn h1_ping_finds_a_service_address_that_nobody_has() {
    let scene = Scene::packets(WorldSpec { vips: vec![None], ..WorldSpec::default() });
    let w = &scene.world;
    let ping = |ip: IpAddr, size: &str| {
        let mut ping = w.clients[0].ns.command("ping");
        let _ = ping.args(["-c", "3", "-i", "0.2", "-W", "2", "-s", size]).arg(ip.to_string());
        let out = command::output(&mut ping).unwrap();
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    let addresses = [IpAddr::V4(vip4(0)), IpAddr::V6(vip6(0))];
    for ip in addresses {
        let said = ping(ip, "56");
        assert!(said.contains(" 0 received"), "somebody answers already: {said}");
    }
    scene.apply(&PolicyText::moved(w));
    for (ip, size) in addresses.into_iter().flat_map(|ip| [(ip, "56"), (ip, "1400"), (ip, "0")]) {
        let said = ping(ip, size);
        assert!(said.contains("3 received"), "{said}");
    }
    scene.finish();
}

/// A packet that does not fit the way to its instance and must not be fragmented is answered, quoted as it was sent.
#[test]
fn h1_what_does_not_fit_is_answered_with_the_mtu() {
    with(Routes::Neighbours, |rig| {
        rig.apply_land(true);
        for l in LANDS {
            let p = l.open(l.early(7_200), l.vip(SHOP)).payload(vec![7; MTU as usize]);
            let (verdict, out, counted) = run(rig, &p.frame());
            same(&out, &answer_too_big(&p.frame(), MTU));
            assert_eq!(
                (verdict, counted),
                (REDIRECT, vec![Reason::Explicit, Reason::TooBig]),
                "{}",
                l.name()
            );
        }
    });
}

/// R12: 10 MB both ways over a hop of 1280 bytes that neither end knows of, with the checksum offloads of veth (the kernel
/// fills in nothing) and without.
fn narrow_hop(offloads: bool) {
    let scene = Scene::packets(WorldSpec::default());
    let w = &scene.world;
    let nginx = Nginx::start(&w.backends[1].place(), w.temp(), "gray", "2.0", FILES).unwrap();
    for veth in [&w.clients[0].link, &w.backends[1].link] {
        veth.offloads(offloads).unwrap();
    }
    // One end only: the other one believes in 1500, and nothing so large comes from there.
    let mtu = |ifname: &str, mtu: u32| {
        link::ip_batch(&w.edge, &format!("link set {ifname} mtu {mtu}\n")).unwrap();
    };
    let (client_side, backend_side) = (&w.clients[0].link.near.ifname, &w.backends[1].link.near.ifname);
    let policy = PolicyText::moved(w).service("files", FILES, false);
    scene.apply(
        &policy.cohort("early", "sources: [\"198.18.10.0/24\", \"fd00:18:10::/64\"]").gray_when("early"),
    );
    let place = w.clients[0].place();
    for ip in [IpAddr::V4(vip4(0)), IpAddr::V6(vip6(0))] {
        mtu(client_side, 1280);
        curl::download_10mb(&place, &nginx.url(ip, "/file")).unwrap();
        mtu(client_side, 1500);
        mtu(backend_side, 1280);
        assert_eq!(curl::upload_10mb(&place, w.temp(), ip, FILES, &[&nginx]).unwrap(), "2.0");
        mtu(backend_side, 1500);
    }
    let status = scene.agent.gray_json(&["status"]).unwrap();
    let counters = status["counters"].as_array().unwrap();
    let told = counters.iter().find(|c| c["reason"] == "too_big").and_then(|c| c["count"].as_u64()).unwrap();
    assert!(told >= 2, "nobody was told the MTU");
    drop(nginx);
    scene.finish();
}

#[test]
fn h1_ten_megabytes_over_a_narrow_hop_with_offloads() {
    narrow_hop(true);
}

#[test]
fn h1_ten_megabytes_over_a_narrow_hop_without_offloads() {
    narrow_hop(false);
}
