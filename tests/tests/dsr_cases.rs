//! `nat: dsr`, packet by packet, where the tables of cases have no room: what does not fit, errors about outer packets, and what the
//! instance's node opens and does not. H1.

use std::{net::IpAddr, time::Duration};

use gray_common::{
    Reason,
    wire::{FLOW_FORWARD, FLOW_PASS},
};
use gray_tests::{
    command::wait_for,
    link::{ip_batch, sysctl},
    packets::{
        case::{DROP, NEXT, REDIRECT},
        frame::{ACK, ETH, Packet, SYN, TCP},
        icmp::{IcmpError, answer_too_big, too_big},
        land::{self, DIRECT, DIRECT_GUE, LANDS, Land, OWN, SHOP},
        model::Tuple,
        rig::{KEY, MTU, Rig, Routes, hex, moved, neighbour, with},
        sum,
        wrapped::Outer,
    },
};
use gray_userspace::{cli::Prefix, kernel::Direction};

/// Runs a frame, and says what counted.
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

fn ip(l: Land, v4: &str, v6: &str) -> IpAddr {
    (if l.v6 { v6 } else { v4 }).parse().unwrap()
}

/// Whose packets the bench opens.
const TRUSTED: [&str; 2] = ["198.18.5.0/24", "fd00:5::/64"];

/// The bench's own address, a node that it trusts, and one that it does not.
fn own(l: Land) -> IpAddr {
    ip(l, "198.18.99.1", "fd00:99::1")
}

fn edge(l: Land) -> IpAddr {
    ip(l, "198.18.5.1", "fd00:5::1")
}

fn other(l: Land) -> IpAddr {
    ip(l, "198.18.6.1", "fd00:6::1")
}

fn head(l: Land) -> usize {
    if l.v6 { 40 } else { 20 }
}

fn outer_of(l: Land, p: &Packet, service: u16) -> Outer {
    let t = Tuple { src: p.src, dst: p.dst, proto: p.proto };
    Outer::of(t, KEY.k0, (l.node(0).ip(), l.gray(service).ip()), service == DIRECT_GUE)
}

/// As it leaves for an instance.
fn sent(rig: &Rig, outer: Outer, p: &Packet) -> Vec<u8> {
    let mut out = outer.around(&Packet { ttl: p.ttl - 1, ..p.clone() }.frame());
    out[..6].copy_from_slice(&neighbour(outer.dst));
    if let gray_tests::packets::rig::Way::Redirect(own) = &rig.way {
        out[6..12].copy_from_slice(own);
    }
    out
}

/// With the room of the outer header the sender is told what is left, whether or not it said "don't fragment".
#[test]
fn h1_what_does_not_fit_with_its_outer_header_is_answered_with_what_is_left() {
    with(Routes::Neighbours, |rig| {
        rig.apply_land(true);
        for l in LANDS {
            for service in [DIRECT, DIRECT_GUE] {
                let headers = head(l) + if l.proto == TCP { 20 } else { 8 };
                let open = |n, len| l.open(l.early(n), l.vip(service)).payload(vec![7; len]);
                let room = outer_of(l, &open(1, 0), service).room();
                let most = MTU as usize - room - headers;
                let p = open(3_000 + service, most);
                let (verdict, out, counted) = run(rig, &p.frame());
                assert_eq!((verdict, counted), (REDIRECT, vec![Reason::Explicit]), "{} {service}", l.name());
                same(&out, &sent(rig, outer_of(l, &p, service), &p));
                assert_eq!(out.len(), ETH + MTU as usize);
                for frag in [0x4000, 0] {
                    let p = Packet { frag, ..open(3_000 + service, most + 1) };
                    let (verdict, out, counted) = run(rig, &p.frame());
                    assert_eq!(
                        (verdict, counted),
                        (REDIRECT, vec![Reason::TooBig]),
                        "{} {service}",
                        l.name()
                    );
                    same(&out, &answer_too_big(&p.frame(), MTU - room as u32));
                }
                if !l.v6 {
                    // The stack would quote it, but it has no way to the service.
                    let p = Packet { ip_options: vec![1; 4], ..open(3_000 + service, most + 1) };
                    let (verdict, out, counted) = run(rig, &p.frame());
                    assert_eq!((verdict, counted), (NEXT, vec![Reason::DsrOversize]));
                    same(&out, &p.frame());
                }
            }
        }
    });
}

/// A router behind the node tells it a smaller MTU: the flow learns it, and the client's next packet that is larger is answered.
#[test]
fn h1_an_mtu_on_the_way_to_the_instance_reaches_the_client() {
    const SMALLER: u32 = 1300;
    with(Routes::Neighbours, |rig| {
        rig.apply_land(true);
        for l in LANDS {
            for service in [DIRECT, DIRECT_GUE] {
                let p = l.open(l.early(4_000 + service), l.vip(service)).payload(vec![7; 1280]);
                let outer = outer_of(l, &p, service);
                let (verdict, seen, _) = run(rig, &p.frame());
                assert_eq!(verdict, REDIRECT);
                let about = |from: IpAddr, to: IpAddr, rest| {
                    let (kind, code) = too_big(l.v6);
                    let quoted = seen[ETH..ETH + outer.room() + head(l) + 8].to_vec();
                    let (dmac, smac) = (p.dmac, p.smac);
                    IcmpError { dmac, smac, from, to, ttl: 60, tos: 0, kind, code, rest, quoted }.frame()
                };
                // To somebody else; too small to be true; not smaller.
                for frame in [
                    about(other(l), other(l), SMALLER),
                    about(other(l), outer.src, 40),
                    about(other(l), outer.src, MTU),
                ] {
                    let (verdict, out, counted) = run(rig, &frame);
                    same(&out, &frame);
                    assert_eq!((verdict, counted), (NEXT, vec![]), "{} {service}", l.name());
                }
                let frame = about(other(l), outer.src, SMALLER);
                let (verdict, out, counted) = run(rig, &frame);
                same(&out, &frame);
                assert_eq!((verdict, counted), (NEXT, vec![Reason::DsrPathMtu]), "{} {service}", l.name());
                let (verdict, out, counted) = run(rig, &p.frame());
                assert_eq!((verdict, counted), (REDIRECT, vec![Reason::TooBig]), "{} {service}", l.name());
                same(&out, &answer_too_big(&p.frame(), SMALLER - outer.room() as u32));
            }
        }
    });
}

/// An error about an answer that the instance sent past the node goes to the instance, like data.
#[test]
fn h1_an_error_about_an_answer_reaches_the_instance() {
    with(Routes::Neighbours, |rig| {
        rig.apply_land(true);
        for l in LANDS {
            for service in [DIRECT, DIRECT_GUE] {
                let p = l.open(l.early(4_500 + service), l.vip(service));
                let _ = run(rig, &p.frame());
                let answer = p.answer(l.vip(service), SYN | 0x10);
                let error = IcmpError::about(&answer, other(l), too_big(l.v6), 1280, 28);
                let (verdict, out, counted) = run(rig, &error.frame());
                assert_eq!((verdict, counted), (REDIRECT, vec![]), "{} {service}", l.name());
                let outer = outer_of(l, &p, service);
                let mut want = outer.around(&IcmpError { ttl: error.ttl - 1, ..error }.frame());
                want[..12].copy_from_slice(&out[..12]);
                assert_eq!(out[..6], neighbour(outer.dst));
                same(&out, &want);
            }
        }
    });
}

/// A frame, and what must count when it goes on as it is.
type Left = (&'static str, Vec<u8>, Vec<Reason>);

fn left_alone(l: Land, p: &Packet, good: Outer) -> Vec<Left> {
    let frame = p.frame();
    let wrapped = good.around(&frame);
    let inner_at = ETH + good.room();
    let to = |dst: IpAddr| {
        let q = Packet { dst: std::net::SocketAddr::new(dst, 80), ..p.clone() };
        good.around(&q.frame())
    };
    let mut all = vec![
        ("from a stranger", Outer { src: other(l), ..good }.around(&frame), vec![Reason::DsrUntrusted]),
        ("to another node", Outer { dst: l.stable(0).ip(), ..good }.around(&frame), vec![]),
        ("in it, to another node", to(l.stable(0).ip()), vec![Reason::DsrInner]),
        ("in it, to many", to(ip(l, "224.0.0.1", "ff02::1")), vec![Reason::DsrInner]),
    ];
    let patched = |at: usize, value: u8| {
        let mut frame = wrapped.clone();
        frame[at] = value;
        frame
    };
    all.push((
        "in it, another family",
        patched(inner_at, if l.v6 { 0x45 } else { 0x60 }),
        vec![Reason::DsrInner],
    ));
    all.push((
        "in it, another protocol",
        patched(inner_at + if l.v6 { 6 } else { 9 }, 132),
        vec![Reason::DsrInner],
    ));
    if good.gue {
        let gue = ETH + head(l) + 8;
        all.push(("of another version", patched(gue, 0x40), vec![]));
        all.push(("a control message", patched(gue, 0x20), vec![]));
        all.push(("of another port", patched(ETH + head(l) + 3, 0xbf), vec![]));
    } else {
        all.push(("cut short", wrapped[..inner_at + 10].to_vec(), vec![Reason::DsrInner]));
    }
    if !good.gue && !l.v6 {
        // The flag of more fragments, with the checksum that goes with it.
        let mut frame = wrapped.clone();
        frame[ETH + 6] = 0x20;
        frame[ETH + 10..ETH + 12].fill(0);
        let check = sum::header(&frame[ETH..ETH + 20]).to_be_bytes();
        frame[ETH + 10..ETH + 12].copy_from_slice(&check);
        all.push(("in pieces", frame, vec![Reason::DsrInner]));
    }
    all
}

fn opens(rig: &mut Rig, l: Land) {
    for gue in [false, true] {
        let good = Outer { src: edge(l), dst: own(l), port: 50_000, gue };
        let at = std::net::SocketAddr::new(own(l), 80);
        let p = l.open(l.plain(9_000), at);
        let (verdict, out, counted) = run(rig, &good.around(&p.frame()));
        assert_eq!((verdict, counted), (NEXT, vec![Reason::Decapsulated]), "{} {gue}", l.name());
        same(&out, &p.frame());
        for (what, frame, counts) in left_alone(l, &p, good) {
            let (verdict, out, counted) = run(rig, &frame);
            assert_eq!((verdict, counted), (NEXT, counts), "{} {gue}: {what}", l.name());
            same(&out, &frame);
        }
        // RFC 6040: what the outer packet met is handed on to who understands it.
        for (inner, want) in [(0xb8, 0xb8), (0xb9, 0xbb), (0xba, 0xbb), (0xbb, 0xbb)] {
            let mut frame = good.around(&p.clone().tos(0xbb).frame());
            let place = ETH + good.room();
            frame.truncate(place);
            frame.extend(&p.clone().tos(inner).frame()[ETH..]);
            let (_, out, counted) = run(rig, &frame);
            assert_eq!(counted, [Reason::Decapsulated]);
            same(&out, &p.clone().tos(want).frame());
        }
    }
}

/// Opened is what a trusted node sent to this one, with something in it that this one keeps; with a policy in force and without.
#[test]
fn h1_the_instances_node_opens_what_is_meant_for_it_and_nothing_else() {
    with(Routes::Neighbours, |rig| {
        rig.live.configure(|c| {
            for (place, text) in c.dsr_from.iter_mut().zip(TRUSTED) {
                *place = text.parse::<Prefix>().unwrap().wire();
            }
        });
        for l in LANDS {
            opens(rig, l);
        }
        rig.apply_land(true);
        for l in LANDS {
            opens(rig, l);
            // What was opened is for the stack: it is not steered again, though its address may be a service's.
            let p = l.open(l.early(9_100), l.vip(SHOP));
            let good = Outer { src: edge(l), dst: own(l), port: 50_000, gue: false };
            let (verdict, out, counted) = run(rig, &good.around(&p.frame()));
            assert_eq!(
                (verdict, counted),
                (NEXT, vec![Reason::DsrInner]),
                "that is not an address of the bench"
            );
            same(&out, &good.around(&p.frame()));
        }
    });
}

/// A node that forwards nothing cannot say by its routes what is to itself: there the frame's own address says it.
#[test]
fn h1_where_nothing_is_forwarded_only_frames_to_the_interface_are_opened() {
    with(Routes::Neighbours, |rig| {
        rig.live.configure(|c| {
            for (place, text) in c.dsr_from.iter_mut().zip(TRUSTED) {
                *place = text.parse::<Prefix>().unwrap().wire();
            }
        });
        // The bench's packets come in by lo, whose link address is 0.
        for family in ["ipv4", "ipv6"] {
            for interface in ["all", "lo"] {
                sysctl(&rig.ns, &format!("net/{family}/conf/{interface}/forwarding"), "0").unwrap();
            }
        }
        for l in LANDS {
            for gue in [false, true] {
                let good = Outer { src: edge(l), dst: own(l), port: 50_000, gue };
                let p = l.open(l.plain(9_050), std::net::SocketAddr::new(own(l), 80));
                let (verdict, out, counted) = run(rig, &good.around(&p.frame()));
                assert_eq!((verdict, counted), (NEXT, vec![]), "{} {gue}: another's frame", l.name());
                same(&out, &good.around(&p.frame()));
                let p = Packet { dmac: [0; 6], ..p };
                let (verdict, out, counted) = run(rig, &good.around(&p.frame()));
                assert_eq!((verdict, counted), (NEXT, vec![Reason::Decapsulated]), "{} {gue}", l.name());
                same(&out, &p.frame());
            }
        }
    });
}

/// `nat: dsr` on stable's own address.
fn own_direct() -> String {
    let text = land::policy(true);
    let (before, own) = text.split_once("  own:\n").unwrap();
    format!("{before}  own:\n{}", own.replacen("    instances:", "    nat: dsr\n    instances:", 1))
}

/// Stable on its own address has a connection whole or not at all: a new one without a way to gray is stable's for good.
#[test]
fn h1_without_a_route_stable_gets_new_connections_and_nothing_of_others() {
    with(Routes::None, |rig| {
        rig.apply_with(&own_direct(), &land::around());
        for l in LANDS {
            let p = l.open(l.early(9_200), l.stable(OWN));
            let (verdict, out, counted) = run(rig, &p.frame());
            assert_eq!(
                (verdict, counted),
                (NEXT, vec![Reason::Explicit, Reason::DsrNoRoute]),
                "{}",
                l.name()
            );
            same(&out, &p.frame());
            assert_eq!(rig.flow(&p), Some(FLOW_FORWARD | FLOW_PASS), "{}", l.name());
            let (verdict, out, counted) = run(rig, &p.clone().flags(ACK).frame());
            assert_eq!((verdict, counted), (NEXT, vec![]), "{}", l.name());
            same(&out, &p.clone().flags(ACK).frame());
            if l.proto == TCP {
                let ack = l.open(l.early(9_201), l.stable(OWN)).flags(ACK);
                let (verdict, _, counted) = run(rig, &ack.frame());
                let counts = vec![Reason::Explicit, Reason::Rebuilt, Reason::DsrNoRoute];
                assert_eq!((verdict, counted), (DROP, counts), "{}", l.name());
                let (verdict, _, counted) = run(rig, &ack.frame());
                assert_eq!((verdict, counted), (DROP, vec![Reason::DsrNoRoute]), "{}", l.name());
            }
        }
    });
}

/// What gray has of a connection stable does not get when the route to gray is lost.
#[test]
fn h1_when_the_route_is_lost_stable_gets_nothing_of_what_gray_has() {
    with(Routes::Neighbours, |rig| {
        // Hops are looked up again with the clock's next step; flows are idle much later.
        rig.live.configure(|c| c.hz = 50);
        rig.apply_with(&own_direct(), &land::around());
        let all = LANDS.map(|l| l.open(l.early(9_300), l.stable(OWN)));
        for p in &all {
            assert_eq!(run(rig, &p.frame()).0, REDIRECT);
            assert_eq!(run(rig, &p.clone().flags(ACK).frame()).0, REDIRECT);
        }
        ip_batch(&rig.ns, "addr del 198.18.99.1/16 dev out\naddr del fd00:99::1/16 dev out\n").unwrap();
        for p in all {
            let more = p.flags(ACK).frame();
            let lost = || {
                let (verdict, out, counted) = run(rig, &more);
                if verdict == REDIRECT {
                    return Ok(false);
                }
                assert_eq!((verdict, counted), (DROP, vec![Reason::DsrNoRoute]));
                same(&out, &more);
                Ok(true)
            };
            wait_for("the lost route to be seen", Duration::from_secs(20), lost).unwrap();
        }
    });
}
