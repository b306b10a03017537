//! Every pair of state and event from one table.

use std::collections::BTreeSet;

use super::*;

/// `-`: a command is refused, a step's end has no step; nothing changes.
pub(super) type Row = (&'static str, [&'static str; 15]);

pub(super) const COLUMNS: [&str; 15] = [
    "pause",
    "resume",
    "approve",
    "jump",
    "promote",
    "abort",
    "recall",
    "retry",
    "close",
    "pass",
    "fail",
    "inconclusive",
    "lost",
    "begun",
    "tick",
];

/// What each event leads to. A step of the state, where it has any, has begun; `jump` is to stage 2; a second passes before the tick.
#[rustfmt::skip]
pub(super) const TABLE: [Row; 27] = [
    // state           pause                     resume          approve            jump               promote     abort       recall       retry        close     pass                      fail                 inconclusive         lost                      begun                     tick
    ("requested",      ["paused (requested)",     "-",            "-",               "-",               "-",        "stopped",  "stopped",   "-",         "-",      "-",                      "-",                 "-",                 "-",                      "-",                      "deploying"]),
    ("deploying",      ["paused (deploying)",     "-",            "-",               "-",               "-",        "stopped",  "stopped",   "-",         "-",      "deploying",              "stopped",           "stopped",           "deploying",              "deploying",              "deploying"]),
    ("data",           ["paused (data)",          "-",            "-",               "-",               "-",        "stopped",  "stopped",   "-",         "-",      "data",                   "stopped",           "stopped",           "data",                   "data",                   "data"]),
    ("deploy-verify",  ["paused (deploy-verify)", "-",            "-",               "-",               "-",        "stopped",  "stopped",   "-",         "-",      "gray-verify",            "stopped",           "stopped",           "deploy-verify",          "deploy-verify",          "deploy-verify"]),
    ("gray-verify",    ["paused (gray-verify)",   "-",            "-",               "-",               "-",        "abnormal", "recalling", "-",         "-",      "gray-period",            "abnormal",          "abnormal",          "gray-verify",            "gray-verify",            "gray-verify"]),
    ("gray-period",    ["paused (gray-period)",   "-",            "-",               "ramp 2",          "aligning", "abnormal", "recalling", "-",         "-",      "-",                      "-",                 "-",                 "-",                      "-",                      "gray-period"]),
    ("ramp 1",         ["paused (ramp 1)",        "-",            "-",               "ramp 2",          "aligning", "abnormal", "recalling", "-",         "-",      "ramp 1",                 "abnormal",          "ramp 1",            "ramp 1",                 "ramp 1",                 "ramp 1"]),
    ("ramp 2",         ["paused (ramp 2)",        "-",            "ramp 3",          "ramp 2",          "aligning", "abnormal", "recalling", "-",         "-",      "-",                      "-",                 "-",                 "-",                      "-",                      "ramp 2"]),
    ("aligning",       ["paused (aligning)",      "-",            "-",               "-",               "-",        "abnormal", "recalling", "-",         "-",      "done",                   "frozen (aligning)", "frozen (aligning)", "aligning",               "aligning",               "aligning"]),
    ("done",           ["-",                      "-",            "-",               "-",               "-",        "abnormal", "recalling", "-",         "closed", "-",                      "-",                 "-",                 "-",                      "-",                      "done"]),
    ("stopped",        ["-",                      "-",            "-",               "-",               "-",        "-",        "-",         "deploying", "failed", "-",                      "-",                 "-",                 "-",                      "-",                      "stopped"]),
    ("abnormal",       ["-",                      "ramp 1",       "-",               "-",               "-",        "-",        "recalling", "deploying", "failed", "-",                      "-",                 "-",                 "-",                      "-",                      "abnormal"]),
    ("recalling",      ["-",                      "-",            "-",               "-",               "-",        "-",        "recalling", "-",         "-",      "abnormal",               "recalling",         "recalling",         "recalling",              "recalling",              "recalling"]),
    ("failed",         ["-",                      "-",            "-",               "-",               "-",        "-",        "-",         "-",         "-",      "-",                      "-",                 "-",                 "-",                      "-",                      "failed"]),
    ("closed",         ["-",                      "-",            "-",               "-",               "-",        "-",        "-",         "-",         "-",      "-",                      "-",                 "-",                 "-",                      "-",                      "closed"]),

    ("paused (requested)",     ["-", "deploying",     "-",               "-",               "-",        "stopped",  "stopped",   "-", "-", "-",                      "-",                 "-",                 "-",                      "-",                      "paused (requested)"]),
    ("paused (deploying)",     ["-", "deploying",     "-",               "-",               "-",        "stopped",  "stopped",   "-", "-", "paused (deploying)",     "stopped",           "stopped",           "paused (deploying)",     "paused (deploying)",     "paused (deploying)"]),
    ("paused (data)",          ["-", "data",          "-",               "-",               "-",        "stopped",  "stopped",   "-", "-", "paused (data)",          "stopped",           "stopped",           "paused (data)",          "paused (data)",          "paused (data)"]),
    ("paused (deploy-verify)", ["-", "deploy-verify", "-",               "-",               "-",        "stopped",  "stopped",   "-", "-", "paused (deploy-verify)", "stopped",           "stopped",           "paused (deploy-verify)", "paused (deploy-verify)", "paused (deploy-verify)"]),
    ("paused (gray-verify)",   ["-", "gray-verify",   "-",               "-",               "-",        "abnormal", "recalling", "-", "-", "paused (gray-verify)",   "abnormal",          "abnormal",          "paused (gray-verify)",   "paused (gray-verify)",   "paused (gray-verify)"]),
    ("paused (gray-period)",   ["-", "gray-period",   "-",               "paused (ramp 2)", "aligning", "abnormal", "recalling", "-", "-", "-",                      "-",                 "-",                 "-",                      "-",                      "paused (gray-period)"]),
    ("paused (ramp 1)",        ["-", "ramp 1",        "-",               "paused (ramp 2)", "aligning", "abnormal", "recalling", "-", "-", "paused (ramp 1)",        "abnormal",          "paused (ramp 1)",   "paused (ramp 1)",        "paused (ramp 1)",        "paused (ramp 1)"]),
    ("paused (ramp 2)",        ["-", "ramp 2",        "paused (ramp 2)", "paused (ramp 2)", "aligning", "abnormal", "recalling", "-", "-", "-",                      "-",                 "-",                 "-",                      "-",                      "paused (ramp 2)"]),
    ("paused (aligning)",      ["-", "aligning",      "-",               "-",               "-",        "abnormal", "recalling", "-", "-", "paused (aligning)",      "frozen (aligning)", "frozen (aligning)", "paused (aligning)",      "paused (aligning)",      "paused (aligning)"]),

    // What runs is ended when it freezes.
    ("frozen (gray-verify)",   ["-", "gray-verify",   "-",               "-",               "-",        "abnormal", "recalling", "-", "-", "-",                      "-",                 "-",                 "-",                      "-",                      "frozen (gray-verify)"]),
    ("frozen (ramp 1)",        ["-", "ramp 1",        "-",               "-",               "-",        "abnormal", "recalling", "-", "-", "-",                      "-",                 "-",                 "-",                      "-",                      "frozen (ramp 1)"]),
    ("frozen (aligning)",      ["-", "aligning",      "-",               "-",               "-",        "abnormal", "recalling", "-", "-", "-",                      "-",                 "-",                 "-",                      "-",                      "frozen (aligning)"]),
];

impl Run {
    /// In this state, its step begun.
    fn is(name: &str) -> Self {
        let over = |what| Some(name.strip_prefix(what)?.strip_prefix(" (")?.trim_end_matches(')'));
        let mut run = match (over("paused"), over("frozen")) {
            (Some(phase), _) => {
                let mut run = Self::is(phase);
                run.verb(Verb::Pause).unwrap();
                run
            }
            (_, Some(phase)) => {
                let mut run = Self::with_step(Spec { irreversible: true, ..spec() }, phase);
                run.end(Outcome::Fail);
                run
            }
            _ => Self::with_step(spec(), name),
        };
        assert_eq!(run.s.name(), name);
        if let Some(e) = run.step().filter(|e| !e.begun) {
            run.on(&Event::Begun(e.seq)).unwrap();
        }
        run
    }

    fn with_step(spec: Spec, name: &str) -> Self {
        let phase = Phase::ALL.into_iter().find(|p| p.name() == name);
        match phase {
            Some(phase) => Self::at_with(spec, phase),
            None => {
                let mut run = Self::new(spec);
                run.until(name);
                // The first stage has a check.
                while name == "ramp 1" && run.step().is_none() {
                    run.now += 1000;
                    run.on(&Event::Tick).unwrap();
                }
                run
            }
        }
    }
}

fn happens(run: &mut Run, column: &str) -> Result<(), Refused> {
    if let Some(verb) = Verb::ALL.into_iter().find(|v| v.name() == column) {
        return run.verb(verb);
    }
    // What is none of its own is taken for nothing.
    let seq = run.step().map_or(9999, |e| e.seq);
    let ended = |outcome| Event::Ended(Ended { seq, outcome, text: "said".into() });
    let event = match column {
        "pass" => ended(Outcome::Pass),
        "fail" => ended(Outcome::Fail),
        "inconclusive" => ended(Outcome::Inconclusive),
        "lost" => Event::Lost(seq),
        "begun" => Event::Begun(seq),
        _ => {
            run.now += 1000;
            Event::Tick
        }
    };
    run.on(&event)
}

#[test]
fn f3_f4_f7_every_event_in_every_state() {
    let (mut wrong, mut pairs) = (Vec::new(), 0);
    for (state, row) in TABLE {
        for (column, want) in COLUMNS.into_iter().zip(row) {
            pairs += 1;
            let mut run = Run::is(state);
            let (before, step) = (run.s.clone(), run.step());
            let which = format!("{column} in {state}");
            let done = happens(&mut run, column);
            let is_verb = Verb::ALL.into_iter().any(|v| v.name() == column);
            if want != "-" {
                if (&done, run.s.name().as_str()) != (&Ok(()), want) {
                    wrong.push(format!("{which}: {}, not {want}: {done:?}", run.s.name()));
                }
                let due = step.and_then(|e| run.s.effect(e.seq).map(|e| e.begun));
                match column {
                    "lost" => assert_eq!(due, Some(false), "{which}: it is asked for again"),
                    "begun" => assert_eq!(due, Some(true), "{which}"),
                    _ => {}
                }
                continue;
            }
            match done {
                Err(refused) if is_verb => {
                    assert!(refused.what.contains(column), "{which}: {refused:?}");
                    assert!(!refused.help.contains(column), "{which}: {refused:?}");
                }
                Ok(()) if !is_verb && step.is_none() => {}
                other => wrong.push(format!("{which}: {other:?}, {}", run.s.name())),
            }
            // A second look may begin what waits; `requested` goes on by any event.
            if state != "requested" || is_verb {
                assert_eq!(run.s, before, "{which}: nothing changes");
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(pairs, TABLE.len() * COLUMNS.len());
}

/// The rows are all that there is: of phases and holds, those of the table are what any events lead to.
#[test]
fn f3_the_table_has_every_state_that_can_be_reached() {
    let key = |s: &State| (s.phase, s.hold == Hold::Paused, s.hold == Hold::Frozen);
    let rows: BTreeSet<_> = TABLE.iter().map(|(state, _)| key(&Run::is(state).s)).collect();
    let phases: BTreeSet<_> = rows.iter().map(|(p, ..)| *p).collect();
    assert_eq!(phases.len(), Phase::ALL.len());
    let mut seen = BTreeSet::new();
    let mut at = 1u64;
    let mut random = |n: usize| {
        at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (at >> 33) as usize % n
    };
    for walk in 0..600 {
        let mut run = Run::new(Spec { irreversible: walk % 2 == 0, ..spec() });
        run.s = State::new(1000);
        for _ in 0..120 {
            let _ = seen.insert(key(&run.s));
            let column = match random(10) {
                // Mostly it goes well, or nothing would come far.
                0..=4 => "pass",
                5..=6 => "tick",
                7 => COLUMNS[9 + random(6)],
                _ => COLUMNS[random(COLUMNS.len())],
            };
            if random(3) == 0 {
                let n = run.counts[0].gray.connections + 20;
                run.counts = counts(n, n);
                run.now += 5000;
            }
            let _ = happens(&mut run, column);
        }
    }
    assert_eq!(seen, rows);
}
