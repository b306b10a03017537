//! What a review found: routes that cannot be turned, counters that begin anew, clocks that are set, words that were missing.

use super::*;

/// Both services: so many connections of each arm by packets, of which gray refuses so many.
fn refusing(n: u64, refused: u64) -> Vec<Counts> {
    let arm = |refused| ArmCounts {
        connections: n,
        flows: n,
        packets: n * 8,
        reply_packets: n * 8,
        refused,
        ..ArmCounts::default()
    };
    let of = |service: &str| Counts { service: service.into(), gray: arm(refused), stable: arm(0) };
    vec![of("shop"), of("cart")]
}

fn traffic(run: &Run) -> Option<Traffic> {
    let mut all = run.s.due.iter().filter_map(|e| if let What::Traffic(t) = e.what { Some(t) } else { None });
    all.next()
}

fn notices(run: &Run, says: &str) -> usize {
    run.s.due.iter().filter(|e| matches!(&e.what, What::Notify(_, text) if text.contains(says))).count()
}

/// In ramp 1; the routes of stage 2 are asked for, and cannot be turned.
fn stuck(spec: Spec) -> Run {
    let mut run = Run::new(spec);
    run.until("ramp 1");
    run.verb(Verb::Jump).unwrap();
    run.end(Outcome::Fail);
    assert_eq!(
        (run.s.name().as_str(), traffic(&run), run.s.in_force()),
        ("ramp 2", Some(Traffic::Stage(1)), Traffic::Stage(0))
    );
    run
}

#[test]
fn f9_what_stays_in_force_when_routes_cannot_be_turned_is_judged() {
    let mut run = stuck(spec());
    let n = run.counts[0].gray.connections;
    run.counts = refusing(n + 200, 0);
    run.on(&Event::Tick).unwrap();
    assert_eq!(run.s.name(), "ramp 2", "nothing speaks against it");
    run.counts = refusing(n + 400, 100);
    run.on(&Event::Tick).unwrap();
    assert_eq!((run.s.name().as_str(), traffic(&run)), ("abnormal", Some(Traffic::None)));
}

#[test]
fn f10_routes_that_cannot_be_turned_for_long_take_it_back() {
    let mut run = stuck(spec());
    for _ in 0..4 {
        run.end(Outcome::Fail);
        assert_eq!(run.s.name(), "ramp 2");
    }
    run.end(Outcome::Fail);
    assert_eq!((run.s.name().as_str(), traffic(&run)), ("abnormal", Some(Traffic::None)));
    assert!(run.s.reason.contains("cannot be turned") && run.s.reason.contains("said"), "{}", run.s.reason);
    assert_eq!(notices(&run, "cannot be turned"), 1);
    assert_eq!(run.s.in_force(), Traffic::Stage(0), "until the way back is taken");
    run.end(Outcome::Pass);
    assert_eq!(run.s.in_force(), Traffic::None);
}

#[test]
fn g2_a_frozen_release_does_not_climb_behind_a_persons_back() {
    let mut run = stuck(Spec { irreversible: true, ..spec() });
    for _ in 0..5 {
        run.end(Outcome::Fail);
    }
    assert_eq!((run.s.name().as_str(), traffic(&run)), ("frozen (ramp 2)", None));
    assert_eq!(run.s.in_force(), Traffic::Stage(0));
    run.verb(Verb::Resume).unwrap();
    assert_eq!((run.s.name().as_str(), traffic(&run)), ("ramp 2", Some(Traffic::Stage(1))));
    run.end(Outcome::Pass);
    assert_eq!(run.s.in_force(), Traffic::Stage(1));
}

#[test]
fn f7_a_way_back_that_cannot_be_taken_is_said_and_tried_for_ever() {
    let mut run = Run::at(Phase::Ramp);
    run.verb(Verb::Abort).unwrap();
    let mut pauses = Vec::new();
    for _ in 0..9 {
        let at = run.now.max(run.step().unwrap().not_before);
        run.end(Outcome::Fail);
        pauses.push(run.step().unwrap().not_before - at);
    }
    assert_eq!(pauses, [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000, 60_000]);
    assert_eq!((run.s.traffic, run.s.in_force()), (Traffic::None, Traffic::Stage(1)));
    assert_eq!(run.s.stuck().map(|e| e.why.as_str()), Some("said"));
    assert_eq!(notices(&run, "still in force"), 1);
    assert_eq!(run.entries.iter().filter(|e| e.what == "error").count(), 1, "one reason, one line");
    let waits = waits(&run.spec, &run.s, run.now, &run.counts).join("; ");
    assert!(waits.contains("nobody to gray, attempt 10, in 1m: said"), "{waits}");
    // Who asks again does not wait for the pause.
    run.verb(Verb::Recall).unwrap();
    assert!(run.step().unwrap().not_before <= run.now);
    run.end(Outcome::Pass);
    assert_eq!((run.s.in_force(), run.s.stuck().is_none()), (Traffic::None, true));
}

#[test]
fn f8_connections_that_cannot_be_closed_hold_a_recall_no_longer_than_ten_times() {
    let mut run = Run::at(Phase::Recalling);
    for _ in 0..9 {
        run.end(Outcome::Fail);
        assert_eq!(run.s.name(), "recalling");
    }
    run.end(Outcome::Fail);
    assert_eq!((run.s.name().as_str(), run.step()), ("abnormal", None));
    assert!(run.s.reason.contains("not all of gray's connections were closed"), "{}", run.s.reason);
    assert!(run.entries.iter().any(|e| e.what == "error" && e.text.contains("not all")));
}

#[test]
fn f9_a_pause_does_not_turn_the_guard_off() {
    for jump in [false, true] {
        let mut run = Run::new(spec());
        run.until("ramp 1");
        run.verb(Verb::Pause).unwrap();
        if jump {
            run.verb(Verb::Jump).unwrap();
            run.end(Outcome::Pass);
            assert_eq!(run.s.name(), "paused (ramp 2)");
        }
        let n = run.counts[0].gray.connections;
        run.counts = refusing(n + 400, 100);
        run.on(&Event::Tick).unwrap();
        assert_eq!((run.s.name().as_str(), traffic(&run)), ("abnormal", Some(Traffic::None)), "{jump}");
    }
    let mut run = Run::new(Spec { irreversible: true, ..spec() });
    run.until("ramp 1");
    run.verb(Verb::Pause).unwrap();
    run.counts = refusing(run.counts[0].gray.connections + 400, 100);
    run.on(&Event::Tick).unwrap();
    assert_eq!(run.s.name(), "frozen (ramp 1)");
    run.on(&Event::Tick).unwrap();
    assert_eq!(run.s.name(), "frozen (ramp 1)", "a person decides");
}

#[test]
fn f9_counters_that_began_anew_are_all_taken_anew() {
    let mut run = Run::new(spec());
    run.counts = refusing(1000, 0);
    run.until("ramp 1");
    let n = run.counts[0].gray.connections;
    assert!(n > 400, "{n}");
    // A reboot: fewer connections than before, and more refused ones, which none were before.
    run.counts = refusing(300, 3);
    run.on(&Event::Tick).unwrap();
    assert_eq!(run.s.base[0], Counts { service: "shop".into(), ..Counts::default() });
    let said = run.entries.iter().filter(|e| e.what == "counters").count();
    assert_eq!(said, 2, "of each service: {:?}", run.entries.last());
    // Past what they were before: still everything counts.
    run.counts = refusing(n + 100, 3);
    run.on(&Event::Tick).unwrap();
    assert_eq!(since(&run.counts, &run.s.base)[0].gray.connections, n + 100);
    assert_eq!(run.entries.iter().filter(|e| e.what == "counters").count(), 2, "once");
}

#[test]
fn f5_a_clock_that_is_set_back_holds_nothing_up() {
    const HOUR: u64 = 3_600_000;
    let mut run = Run::new(spec());
    run.now = 10 * HOUR;
    run.until("ramp 1");
    run.now -= HOUR;
    run.on(&Event::Tick).unwrap();
    let at = run.now;
    run.until("ramp 2");
    assert!(run.now <= at + 20_000, "{} ms", run.now - at);
    // A pause between attempts.
    let mut spec = spec();
    spec.deploy[0].retries = 3;
    let mut run = Run::new(spec);
    run.now = 10 * HOUR;
    run.end(Outcome::Fail);
    run.now -= HOUR;
    run.on(&Event::Tick).unwrap();
    assert_eq!(run.step().unwrap().not_before, run.now + 1000);
}

#[test]
fn f10_what_a_check_says_again_and_again_is_said_once() {
    let mut run = Run::new(spec());
    run.until("ramp 1");
    let mut check = |outcome| {
        while run.step().is_none() {
            run.now += 1000;
            run.on(&Event::Tick).unwrap();
        }
        run.end(outcome);
        run.entries.iter().filter(|e| e.what == "step" && e.text.contains("check 1")).count()
    };
    let before = check(Outcome::Inconclusive);
    for _ in 0..20 {
        assert_eq!(check(Outcome::Inconclusive), before);
    }
    assert_eq!(check(Outcome::Pass), before + 1);
    assert_eq!(check(Outcome::Pass), before + 1);
    assert_eq!(check(Outcome::Inconclusive), before + 2);
}

#[test]
fn f6_the_last_stage_and_the_alignment_are_approved_each() {
    let mut spec = Spec { align_approval: true, ..spec() };
    spec.stages[2].approval = true;
    let mut run = Run::new(spec);
    run.until("ramp 3");
    run.now += 60_000;
    run.counts = counts(5000, 5000);
    run.on(&Event::Tick).unwrap();
    run.verb(Verb::Approve).unwrap();
    assert_eq!(run.s.name(), "ramp 3", "one word for one thing");
    let waits = waits(&run.spec, &run.s, run.now, &run.counts);
    assert_eq!(waits, ["a person, for the alignment: gray release approve shop-2.0"]);
    run.verb(Verb::Approve).unwrap();
    assert_eq!(run.s.name(), "aligning");
}

/// What an agent before this one kept.
#[test]
fn f1_a_state_without_the_newer_fields_is_read() {
    let run = Run::at(Phase::Ramp);
    let mut kept = serde_json::to_value(&run.s).unwrap();
    for gone in ["turned", "align_approved", "answers", "rules"] {
        let _ = kept.as_object_mut().unwrap().remove(gone).unwrap();
    }
    for e in kept["due"].as_array_mut().unwrap() {
        for gone in ["pause", "why"] {
            let _ = e.as_object_mut().unwrap().remove(gone).unwrap();
        }
    }
    let read: State = serde_json::from_value(kept).unwrap();
    assert_eq!(read.in_force(), Traffic::Stage(1));
    assert_eq!(read.rules, None, "nobody kept them: not the same as none");
}

#[test]
fn f8_a_release_owns_the_routes_that_it_makes_and_no_others() {
    let spec = spec();
    for traffic in [Traffic::Testers, Traffic::Stage(0), Traffic::Stage(1), Traffic::All] {
        let text = source(&spec, traffic).unwrap();
        let names: Vec<&str> =
            text.lines().filter_map(|l| l.split("name: ").nth(1)?.split(',').next()).collect();
        assert!(names.len() > 1, "{text}");
        for name in names {
            assert!(owns("shop-2.0", name), "{name}");
            assert!(!owns("shop", name) && !owns("shop-2.0-0", name), "{name}");
        }
    }
    // Of a release `shop-2.0-0`, and of people.
    for other in [
        "release-shop-2.0-0-0-c0",
        "release-shop-2.0-0-c",
        "release-shop-2.0-0-cx",
        "release-shop-2.0--all",
        "release-shop-2.0-all",
        "release-shop-2.0-x-all",
        "release-shop-2.0-0-everybody",
        "shop-2.0-0-all",
        "mine",
    ] {
        assert!(!owns("shop-2.0", other), "{other}");
    }
}

#[test]
fn f1_notices_that_nobody_takes_hold_no_end_up() {
    let mut run = Run::new(spec());
    run.spec.notify[0].retries = 100;
    let notice = |seq, attempt| Effect {
        seq,
        what: What::Notify(0, "told".into()),
        attempt,
        not_before: 0,
        pause: 0,
        begun: false,
        why: String::new(),
    };
    run.s.phase = Phase::Failed;
    run.s.due = (1..=9).map(|seq| notice(seq, 0)).collect();
    assert!(run.s.is_over() && waits(&run.spec, &run.s, run.now, &[]).is_empty());
    // A service that does not answer is asked by a few at a time.
    let begin = |s: &State| s.ready_hooks(0).map(|e| e.seq).collect::<Vec<_>>();
    assert_eq!(begin(&run.s), [1, 2, 3, 4]);
    for e in &mut run.s.due[..3] {
        e.begun = true;
    }
    assert_eq!(begin(&run.s), [4]);
    // Steps do not wait for them.
    run.s.due.push(Effect { what: What::Hook(List::Deploy, 0), ..notice(10, 0) });
    run.s.due.push(notice(11, 0));
    assert_eq!(begin(&run.s), [4, 10]);
    run.s.due = vec![notice(1, 3), notice(2, 1), notice(3, 0)];
    assert_eq!(waits(&run.spec, &run.s, run.now, &[]), ["2 notices that nobody has taken yet"]);
    // What holds it open is what of the traffic is still to be turned.
    run.s.due.push(Effect { what: What::Traffic(Traffic::None), ..notice(4, 1) });
    assert!(!run.s.is_over());
}
