//! Tags packet by packet (BPF_PROG_TEST_RUN, which comes in by the loopback interface): whom a node believes, and what it leaves of
//! what it does not believe.

use std::collections::BTreeMap;

use gray_common::{
    Reason,
    decide::tag::{self, Tag},
    hash::{HashKey, lane_check, mix},
    wire::{Addr, CONTROL_SAYS, FLOW_TIMED, FlowKey4, FlowKey6},
};
use gray_tests::packets::{
    frame::{ACK, Packet, SYN, TCP},
    land::{COND, COND_AT, LANDS, Land, OWN, SHOP, SHOP_AT, policy},
    rig::{KEY, Rig, Routes, Spec, hex, moved, with_spec},
    subject::Subject as _,
};
use gray_userspace::kernel::Direction;

/// The sequence number of every segment that [`Packet`] makes.
const NUMBER: u32 = 0x0102_0304;
const LOOPBACK: u32 = 1;
const LANE: &str = "gray-2.0";
const MSS: [u8; 4] = [2, 4, 5, 0xb4];
const NOP: u8 = 1;

/// Options, one after the other.
type Form = Vec<Vec<u8>>;

fn lands() -> impl Iterator<Item = Land> {
    LANDS.into_iter().filter(|l| l.proto == TCP)
}

/// Of the only lane, which has number 1.
fn said(key: HashKey, lane: u16, name: &str, number: u32) -> Vec<u8> {
    let check = if lane == 0 { 0 } else { lane_check(name) };
    tag::encode(key, &Tag { identity: 77, lane }, check, number).bytes().to_vec()
}

fn good() -> Vec<u8> {
    said(KEY, 1, LANE, NUMBER)
}

fn open(l: Land, port: u16, options: &[&[u8]]) -> Packet {
    let to = if port == OWN { l.stable(OWN) } else { l.vip(port) };
    Packet { tcp_options: options.concat(), ..l.open(l.plain(port), to).flags(SYN) }
}

/// With programs that read tags, or without; a policy with the lane, and these interfaces trusted.
fn with(tags: bool, trusted: &[u32], f: impl FnOnce(&mut Rig) + Send) {
    with_spec(&Spec { routes: Routes::Neighbours, flows: 4096, hosts: &[], tags }, |rig| {
        lanes(rig);
        rig.live.set_trusted(trusted).unwrap();
        f(rig);
    });
}

fn lanes(rig: &mut Rig) {
    let lanes =
        format!("lanes:\n  {LANE}: {{ shop: {{ version: \"2.0\" }}, own: {{ version: \"2.0\" }} }}\n");
    rig.apply(&policy(false).replacen("routes:\n", &format!("{lanes}routes:\n"), 1));
}

/// Runs it, and says what it looks like when it has left, and which of the tags' counters moved.
fn run(rig: &mut Rig, p: &Packet) -> (Vec<u8>, Vec<(Reason, u64)>) {
    let before = rig.counters();
    let (_, frame) = rig.run(Direction::Ingress, &p.frame());
    let counted: BTreeMap<_, _> = moved(&before, &rig.counters());
    let tags = [Reason::TagTaken, Reason::TagRefused, Reason::TagOverwritten, Reason::TagNoRoom];
    (frame, counted.into_iter().filter(|(r, _)| tags.contains(r)).collect())
}

fn expect(rig: &mut Rig, name: &str, p: &Packet, out: &Packet, counted: &[(Reason, u64)]) {
    let wanted = rig.leaves(out);
    let (frame, seen) = run(rig, p);
    assert!(frame == wanted, "{name}:\n{}\nnot\n{}", hex(&frame), hex(&wanted));
    assert_eq!(seen, counted, "{name}");
}

#[test]
fn a6_a_good_tag_by_a_trusted_interface_is_the_lane() {
    with(true, &[LOOPBACK], |rig| {
        for (i, l) in lands().enumerate() {
            let forms: [Vec<Vec<u8>>; 4] = [
                vec![good()],
                vec![MSS.to_vec(), good()],
                vec![vec![NOP], good(), vec![NOP; 3]],
                vec![vec![254, 4, 0xf9, 0x89], MSS.to_vec(), good(), vec![0; 4]],
            ];
            for (n, form) in forms.iter().enumerate() {
                let form: Vec<&[u8]> = form.iter().map(Vec::as_slice).collect();
                let mut p = open(l, SHOP, &form);
                p.src.set_port(20_000 + (10 * i + n) as u16);
                let out = p.rewritten(p.src, l.gray(SHOP_AT));
                expect(rig, &format!("{} form {n}", l.name()), &p, &out, &[(Reason::TagTaken, 1)]);
                // A retransmission: the flow is known.
                expect(rig, &format!("{} form {n} again", l.name()), &p, &out, &[(Reason::TagTaken, 1)]);
            }
        }
    });
}

/// The identity that a tag says is the client's where the policy asks for it: one tag, one instance, whoever sends it.
#[test]
fn a6_e2_a_good_tag_is_the_identity_where_the_policy_asks_for_it() {
    with(true, &[LOOPBACK], |rig| {
        let half = |identify: &str| {
            policy(false).replace("identify: [source]", &format!("identify: [{identify}]")).replacen(
                "percent: 100",
                "percent: 50",
                1,
            )
        };
        let arms = |rig: &mut Rig, l: Land, host: u16| {
            let tags = (1..=64).map(|identity| {
                let tag = tag::encode(KEY, &Tag { identity: mix(identity), lane: 0 }, 0, NUMBER);
                let mut p = open(l, COND, &[&tag.bytes()]);
                p.src.set_port(30_000 + 100 * host + identity as u16);
                let (frame, _) = run(rig, &p);
                let [gray, stable] =
                    [l.gray(COND_AT), l.stable(COND_AT)].map(|to| rig.leaves(&p.rewritten(p.src, to)));
                assert!(frame == gray || frame == stable, "{}", hex(&frame));
                frame == gray
            });
            tags.collect::<Vec<_>>()
        };
        for (i, l) in lands().enumerate() {
            let i = 4 * i as u16;
            rig.apply(&half("tag, source"));
            let first = arms(rig, l, i);
            let gray = first.iter().filter(|g| **g).count();
            assert!((12..=52).contains(&gray), "{gray} of 64");
            assert_eq!(first, arms(rig, l, i + 1), "the tag is the client, and not its port");
            rig.apply(&half("source"));
            let source = arms(rig, l, i + 2);
            assert!(source.iter().all(|g| *g == source[0]), "nobody asks for the tag: {source:?}");
        }
    });
}

#[test]
fn a6_s4_what_is_no_tag_of_this_fleet_for_this_connection_is_refused() {
    with(true, &[LOOPBACK], |rig| {
        let cases = [
            ("another connection's", said(KEY, 1, LANE, NUMBER + 1)),
            ("another key's", said(HashKey { k0: 1, k1: 2 }, 1, LANE, NUMBER)),
            ("another lane of this number", said(KEY, 1, "blue", NUMBER)),
            ("a lane that is not known", said(KEY, 2, "blue", NUMBER)),
            ("another version", [&[254, 20, 0x67, 0x72, 9][..], &good()[5..]].concat()),
            ("another length", [&[254, 24, 0x67, 0x72][..], &good()[4..], &[0; 4]].concat()),
        ];
        for l in lands() {
            for (n, (name, tag)) in cases.iter().enumerate() {
                let mut p = open(l, SHOP, &[tag]);
                p.src.set_port(21_000 + n as u16);
                let out = p.rewritten(p.src, l.stable(SHOP_AT));
                expect(rig, &format!("{} {name}", l.name()), &p, &out, &[(Reason::TagRefused, 1)]);
            }
            // Good, and says no lane.
            let mut p = open(l, SHOP, &[&said(KEY, 0, "", NUMBER)]);
            p.src.set_port(21_100);
            let out = p.rewritten(p.src, l.stable(SHOP_AT));
            expect(rig, &l.name(), &p, &out, &[(Reason::TagTaken, 1)]);
        }
    });
}

#[test]
fn a6_s4_by_any_other_interface_a_tag_is_overwritten_whatever_it_says() {
    with(true, &[LOOPBACK + 1, LOOPBACK + 256], |rig| {
        let blank = vec![NOP; 20];
        let bad = said(HashKey { k0: 1, k1: 2 }, 1, LANE, NUMBER);
        let forms: [(Form, Form); 6] = [
            (vec![good()], vec![blank.clone()]),
            (vec![MSS.to_vec(), bad], vec![MSS.to_vec(), blank.clone()]),
            (vec![vec![NOP], good(), vec![NOP; 3]], vec![vec![NOP; 24]]),
            (vec![vec![3, 3, 7], good(), vec![NOP]], vec![vec![3, 3, 7], blank.clone(), vec![NOP]]),
            (vec![good(), good()], vec![blank.clone(), blank.clone()]),
            (vec![vec![254, 8, 0x67, 0x72, 1, 2, 3, 4], good()], vec![vec![NOP; 8], blank.clone()]),
        ];
        for l in lands() {
            for (n, (form, left)) in forms.iter().enumerate() {
                let [form, left] = [form, left].map(|f| f.concat());
                let mut p = open(l, SHOP, &[&form]);
                p.src.set_port(22_000 + n as u16);
                let out = Packet { tcp_options: left, ..p.rewritten(p.src, l.stable(SHOP_AT)) };
                for time in ["first", "again"] {
                    let name = format!("{} form {n} {time}", l.name());
                    expect(rig, &name, &p, &out, &[(Reason::TagOverwritten, 1)]);
                }
            }
            // On stable's own address nothing else is changed, and an instance's own address is no service.
            for to in [l.stable(OWN), l.gray(SHOP_AT)] {
                let mut p = Packet { dst: to, ..open(l, SHOP, &[&good()]) };
                p.src.set_port(22_100);
                let out = Packet { tcp_options: blank.clone(), ..p.clone() };
                let (frame, seen) = run(rig, &p);
                assert!(frame == out.frame(), "{to}:\n{}\nnot\n{}", hex(&frame), hex(&out.frame()));
                assert_eq!(seen, [(Reason::TagOverwritten, 1)]);
            }
        }
    });
}

/// What has no tag, is no SYN or is for nobody here passes as it is.
#[test]
fn a6_what_is_no_tag_is_left_alone() {
    for trusted in [&[][..], &[LOOPBACK]] {
        with(true, trusted, |rig| {
            for l in lands() {
                let forms = [
                    vec![2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0, 1, 3, 3, 7],
                    vec![254, 20, 0xf9, 0x89, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16],
                    vec![2, 4, 5, 0xb4, 254, 20, 0x67, 0x72],
                    [vec![0; 4], good()].concat(),
                ];
                for (n, options) in forms.iter().enumerate() {
                    let mut p = open(l, SHOP, &[options]);
                    p.src.set_port(23_000 + n as u16);
                    let out = p.rewritten(p.src, l.stable(SHOP_AT));
                    expect(rig, &format!("{} form {n}", l.name()), &p, &out, &[]);
                }
                let mut ack = Packet { tcp_flags: ACK, ..open(l, SHOP, &[&good()]) };
                ack.src.set_port(23_100);
                let out = ack.rewritten(ack.src, l.stable(SHOP_AT));
                expect(rig, "no SYN", &ack, &out, &[]);
                let stranger = Packet { dst: l.stranger(SHOP), ..open(l, SHOP, &[&good()]) };
                let (frame, seen) = run(rig, &stranger);
                assert!(frame == stranger.frame() && seen.is_empty(), "{}", hex(&frame));
            }
        });
    }
}

/// Nobody reads a SYN's tag behind IP options or extension headers: it has none, and not the last one's either.
#[test]
fn a6_a_syn_whose_tag_is_not_read_has_not_that_of_the_last_one() {
    with(true, &[LOOPBACK], |rig| {
        for l in lands() {
            for n in 0..4 {
                let mut tagged = open(l, SHOP, &[&good()]);
                tagged.src.set_port(24_000 + 2 * n);
                let out = tagged.rewritten(tagged.src, l.gray(SHOP_AT));
                expect(rig, &l.name(), &tagged, &out, &[(Reason::TagTaken, 1)]);
                let mut odd = open(l, SHOP, &[&MSS]);
                odd.src.set_port(24_001 + 2 * n);
                match l.v6 {
                    // Destination options: padding.
                    true => odd.extensions = Some((60, vec![TCP, 0, 1, 4, 0, 0, 0, 0])),
                    false => odd.ip_options = vec![NOP, NOP, NOP, 0],
                }
                let out = odd.rewritten(odd.src, l.stable(SHOP_AT));
                expect(rig, &format!("{}, odd", l.name()), &odd, &out, &[]);
            }
        }
    });
}

/// Programs without tags neither read nor overwrite them.
#[test]
fn a6_where_no_tags_are_asked_for_nothing_is_done_about_them() {
    with(false, &[LOOPBACK], |rig| {
        for l in lands() {
            let p = open(l, SHOP, &[&good()]);
            let out = p.rewritten(p.src, l.stable(SHOP_AT));
            expect(rig, &l.name(), &p, &out, &[]);
        }
    });
}

/// The table lost the answers' entry alone: what the tag chose stays, and the answers find their way again.
#[test]
fn a6_e2_what_a_tag_has_chosen_outlives_the_answers_entry() {
    with(true, &[LOOPBACK], |rig| {
        for l in lands() {
            let mut p = open(l, SHOP, &[&good()]);
            p.src.set_port(24_000);
            let gray = l.gray(SHOP_AT);
            let out = p.rewritten(p.src, gray);
            expect(rig, &l.name(), &p, &out, &[(Reason::TagTaken, 1)]);
            let ack = Packet { tcp_options: Vec::new(), ..p.clone().flags(ACK) };
            let answer = ack.answer(gray, ACK);
            // Without its times: of one that is made again in mid-stream nobody knows them.
            let flags = rig.flow(&answer).map(|f| f & !FLOW_TIMED);
            assert!(flags.is_some());
            forget(rig, &answer);
            assert_eq!(rig.flow(&answer), None);
            let clock = |rig: &mut Rig| rig.live.clock().unwrap().jiffies >> 8;
            let begin = clock(rig);
            rig.age();
            while clock(rig) == begin {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            let before = rig.counters();
            expect(rig, "a later segment", &ack, &ack.rewritten(ack.src, gray), &[]);
            assert!(!moved(&before, &rig.counters()).contains_key(&Reason::Rebuilt), "nobody decides again");
            rig.young();
            assert_eq!(rig.flow(&answer), flags);
            expect(rig, "an answer", &answer, &answer.rewritten(l.vip(SHOP), p.src), &[]);
        }
    });
}

fn forget(rig: &mut Rig, p: &Packet) {
    let (sport, dport, proto) = (p.src.port().to_be(), p.dst.port().to_be(), u32::from(p.proto));
    let (saddr, daddr) = (Addr::from(p.src.ip()), Addr::from(p.dst.ip()));
    if p.src.is_ipv4() {
        let key = FlowKey4 { saddr: saddr.as_v4(), daddr: daddr.as_v4(), sport, dport, proto };
        rig.live.forget_flows(&[key], &[]).unwrap();
    } else {
        rig.live.forget_flows(&[], &[FlowKey6 { saddr, daddr, sport, dport, proto }]).unwrap();
    }
}

/// The shop's clients are led into the lane by a route.
fn led(rig: &mut Rig) {
    let text = policy(false);
    let lanes = format!("lanes:\n  {LANE}: {{ shop: {{ version: \"2.0\" }} }}\nroutes:\n");
    let route = format!("  - {{ when: everyone, lane: {LANE} }}\n");
    rig.apply(&text.replacen("routes:\n", &(lanes + &route), 1));
}

/// As most SYNs are: with no bytes of a stream.
fn bare(l: Land, options: &[&[u8]]) -> Packet {
    open(l, SHOP, options).payload([])
}

/// What a route leads into a lane says so: once more when it comes again, and also when nobody decides any more.
#[test]
fn a6_e2_a_syn_that_is_sent_on_says_the_lane_that_a_route_leads_it_into() {
    let usual = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0, 1, 3, 3, 7];
    // As macOS ends them.
    let ended = [2, 4, 5, 0xb4, 1, 3, 3, 6, 4, 2, 0, 0];
    with(true, &[], |rig| {
        led(rig);
        let says = |rig: &mut Rig, on: bool| {
            rig.live.configure(|c| c.flags = c.flags & !CONTROL_SAYS | if on { CONTROL_SAYS } else { 0 });
        };
        for l in lands() {
            for (n, options) in [&[][..], &MSS, &usual, &ended].into_iter().enumerate() {
                says(rig, true);
                let mut p = bare(l, &[options]);
                p.src.set_port(25_000 + n as u16);
                let option =
                    tag::encode(KEY, &Tag { identity: 0, lane: 1 }, lane_check(LANE), NUMBER).bytes();
                let out = p.rewritten(p.src, l.gray(SHOP_AT));
                let out = Packet { tcp_options: [&option, options].concat(), ..out };
                for time in ["first", "again"] {
                    expect(rig, &format!("{} {n} {time}", l.name()), &p, &out, &[]);
                }
                // Other segments of it do not.
                let ack = Packet { tcp_options: Vec::new(), ..p.clone().flags(ACK) };
                expect(rig, "an ack", &ack, &ack.rewritten(ack.src, l.gray(SHOP_AT)), &[]);
                says(rig, false);
                p.src.set_port(25_100 + n as u16);
                expect(rig, "nobody says anything", &p, &p.rewritten(p.src, l.gray(SHOP_AT)), &[]);
            }
            says(rig, true);
            // No room, of options or for bytes of the stream; a service that no route leads anywhere; a tag that came in.
            let full = [&usual[..], &[1; 4]].concat();
            let mut p = bare(l, &[&full]);
            p.src.set_port(25_200);
            let out = p.rewritten(p.src, l.gray(SHOP_AT));
            expect(rig, "no room", &p, &out, &[(Reason::TagNoRoom, 1)]);
            expect(rig, "no room, again", &p, &out, &[]);
            let mut p = open(l, SHOP, &[&MSS]);
            p.src.set_port(25_201);
            expect(rig, "data", &p, &p.rewritten(p.src, l.gray(SHOP_AT)), &[(Reason::TagNoRoom, 1)]);
        }
    });
    with(true, &[LOOPBACK], |rig| {
        led(rig);
        rig.live.configure(|c| c.flags |= CONTROL_SAYS);
        for l in lands() {
            let mut p = bare(l, &[&good()]);
            p.src.set_port(25_300);
            expect(rig, "its own", &p, &p.rewritten(p.src, l.gray(SHOP_AT)), &[(Reason::TagTaken, 1)]);
        }
    });
}
