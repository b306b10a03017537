//! The machine in its world: streams arrive whole or the connection is reset; and cases one by one.

use proptest::prelude::*;

use super::{
    model::{Dice, Edge, Hostile, LISTENING, Outcome, Pkt, Plan, World},
    *,
};

fn hostile(p: u64) -> Hostile {
    Hostile { lost: p, twice: p, late: p, split: p, joined: p * 3 }
}

/// Runs a world; what was heard anywhere must be right.
fn run(seed: u64, plan: &Plan, h: Hostile, flags: u8) -> (Outcome, World) {
    let mut w = World::new(seed, plan.clone(), h, flags);
    let outcome = w.run();
    let answers: Vec<u8> = plan.all.iter().flat_map(|e| e.answer.clone()).collect();
    let heard = w.client.heard();
    // What only a listener could have read goes where nobody known goes.
    let stayed = w.edge.saw(NOTE_STAYED) || w.edge.saw(NOTE_ALONE);
    let said: Vec<u8> = plan.all.iter().flat_map(|e| e.request.clone()).collect();
    for (_, bytes) in w.heard.iter().filter(|(i, _)| *i == LISTENING) {
        assert!(said.starts_with(bytes), "the listener heard something else");
    }
    if flags & PER_REQUEST == 0 {
        for (i, bytes) in w.heard.iter().filter(|(i, _)| *i != LISTENING) {
            assert!(bytes.is_empty() || *i == plan.all[0].instance, "another instance heard something");
            assert!(said.starts_with(bytes), "an instance heard something else");
        }
    } else if !stayed {
        for (i, bytes) in w.heard.iter().filter(|(i, _)| *i != LISTENING) {
            own_requests(plan, *i, bytes);
        }
    }
    if !stayed {
        assert!(answers.starts_with(&heard), "the client heard something else");
        assert!(outcome != Outcome::Complete || heard == answers, "complete, but not all was heard");
    }
    (outcome, w)
}

/// Whole requests for this instance, the last one perhaps cut.
fn own_requests(plan: &Plan, instance: u32, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let mine = plan.all.iter().filter(|e| e.instance == instance);
        let next = mine.map(|e| &e.request).find(|r| bytes.starts_with(r) || r.starts_with(bytes));
        let Some(r) = next else {
            panic!("instance {instance} heard {:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(60)]))
        };
        bytes = &bytes[r.len().min(bytes.len())..];
    }
}

#[test]
fn a1_a_quiet_network_loses_nothing() {
    let (mut switched, mut narrowed) = (0, 0);
    for seed in 0..150 {
        let mut dice = Dice::new(seed);
        let flags = [0, PER_REQUEST, PER_REQUEST | STRICT][seed as usize % 3];
        let apps = if flags == 0 { 1 } else { 3 };
        let plan = Plan::new(&mut dice, 6, apps, seed % 4 == 3);
        let (outcome, w) = run(seed, &plan, Hostile::default(), flags);
        switched += w.edge.notes.iter().filter(|n| **n == NOTE_SWITCHED).count();
        // A head that the client may not send as a whole cannot be followed.
        let narrow = plan.pipelined || w.client.nagle || w.client.mss < 1460 || w.room < 6000;
        let fine = outcome == Outcome::Complete || narrow && outcome != Outcome::Stuck;
        assert!(fine, "{seed}: {outcome:?} {:?}", w.edge.notes);
        narrowed += u32::from(outcome != Outcome::Complete);
    }
    assert!(narrowed < 60, "{narrowed}");
    assert!(switched > 200, "{switched}");
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the network does: whole and in order at both ends, or reset. The asserts are in `run`.
    #[test]
    fn a1_streams_arrive_whole_or_the_connection_is_reset(seed: u64, bad in 1u64..25, pipelined: bool) {
        let mut dice = Dice::new(seed);
        let plan = Plan::new(&mut dice, 4, 1, pipelined);
        let (outcome, w) = run(seed, &plan, hostile(bad), 0);
        prop_assert!(outcome != Outcome::Stuck, "{:?}", w.edge);
    }

    /// ... and no request goes to an instance that it does not belong to.
    #[test]
    fn a1_no_request_goes_astray(seed: u64, bad in 1u64..20, pipelined: bool, strict: bool) {
        let mut dice = Dice::new(seed);
        let plan = Plan::new(&mut dice, 5, 3, pipelined);
        let flags = PER_REQUEST | if strict { STRICT } else { 0 };
        let (outcome, w) = run(seed, &plan, hostile(bad), flags);
        prop_assert!(outcome != Outcome::Stuck || w.edge.saw(NOTE_STAYED), "{:?}", w.edge);
    }

    /// Segments that no honest end sends: nothing panics, and no more is sent than is held (`Edge` asserts that).
    #[test]
    fn a1_any_segments_are_taken_well(
        flags in 0u8..4,
        events in prop::collection::vec((0u32..4, 0u8..64, -3i32..6000, -3i32..60, any::<bool>(), prop::option::of(0usize..200)), 1..40),
    ) {
        const SAID: &[u8] = b"GET / HTTP/1.1\r\nX-App-Id: 2\r\n\r\nPOST / HTTP/1.1\r\nX-App-Id: 3\r\nContent-Length: 2\r\n\r\nhi";
        const ANSWERED: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
        let mut edge = Edge::new(flags);
        let (mut now, mut cookie, mut theirs) = (1000, 0u32, 0u32);
        for (who, tcp, seq, ack, time, data) in events {
            now += u64::from(seq.unsigned_abs());
            let text = if who == 0 { SAID } else { ANSWERED };
            // Near what is expected, often enough.
            let at = if seq < 0 { 0 } else { seq as usize % text.len() };
            let data = data.map_or(&[][..], |n| &text[at..text.len().min(at + n)]);
            let (base, acked) = if who == 0 { (100, cookie) } else { (theirs, 100) };
            let head = Segment {
                seq: base.wrapping_add(at as u32), ack: acked.wrapping_add(ack as u32), len: data.len() as u32, flags: tcp,
                time: time.into(), mss: 1460, window: 900, scale: 7, time_value: now as u32, time_echo: seq as u32, sack: 0,
            };
            let p = Pkt { head, data: data.to_vec() };
            let out = if who == 0 { edge.client(&p, now) } else { edge.instance(who, &p, now) };
            for (to, p) in out.into_iter().chain(edge.tick(now)) {
                // The other side's numbers, as far as they are known.
                if to == 0 && p.head.flags & crate::packet::TCP_SYN != 0 {
                    cookie = p.head.seq.wrapping_add(1);
                }
                theirs = if to != 0 { p.head.ack } else { theirs };
            }
        }
    }
}
