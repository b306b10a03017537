//! The contract of live list edits: overlays, undoing, restoring. Only the trait is used here.

use std::{collections::BTreeMap, ops::ControlFlow};

use proptest::{prelude::*, test_runner::TestRunner};

use super::{Harness, apply, apply_lists, begin_lists, draft, edit};
use crate::ids::Ids;
use crate::store::{Draft, Error, Kind, ListEdit, Mark, Op, State, Store};

/// The overlay as text: `=` the document is replaced, `+id`, `-id`. Counts must agree with it.
pub(super) fn shown(s: &impl Store, rev: u64, cohort: &str) -> String {
    let info = s.overlay_info(rev, cohort).unwrap();
    let (mut text, mut added, mut removed) = (Vec::new(), 0, 0);
    s.overlay(rev, cohort, &mut |mark, id| {
        text.push(format!("{}{id}", if mark == Mark::Added { '+' } else { '-' }));
        *(if mark == Mark::Added { &mut added } else { &mut removed }) += 1;
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!((info.added, info.removed), (added, removed), "counts of {cohort} at {rev}");
    format!("{}{}", if info.replaces_document { "=" } else { "" }, text.join(" "))
}

/// B1: one at a time; D5: any revision can still be read.
pub(crate) fn list_edits_overlay_and_stay_readable_at_every_revision(h: &impl Harness) {
    let mut s = h.open();
    let steps: [(Vec<ListEdit>, &str); 6] = [
        (vec![], ""),
        (vec![edit("c", Op::Add, &["b", "a"])], "+a +b"),
        (vec![edit("c", Op::Remove, &["b", "z"])], "+a -b -z"),
        (vec![edit("other", Op::Add, &["q"])], "+a -b -z"),
        (
            vec![edit("c", Op::Add, &["b"]), edit("c", Op::Remove, &["a"]), edit("c", Op::Add, &["a"])],
            "+a +b -z",
        ),
        (vec![edit("c", Op::Add, &["a"])], "+a +b -z"),
    ];
    for (i, (edits, _)) in steps.iter().enumerate() {
        assert_eq!(apply_lists(&mut s, edits.clone()), i as u64 + 1);
    }
    drop(s);
    let s = h.open();
    for (i, (_, want)) in steps.iter().enumerate() {
        assert_eq!(shown(&s, i as u64 + 1, "c"), *want, "revision {}", i + 1);
    }
    assert_eq!(shown(&s, 6, "nobody"), "");
    let names = |rev| s.overlays(rev).unwrap().into_iter().map(|(n, _)| n).collect::<Vec<_>>();
    assert_eq!(names(2), ["c"]);
    assert_eq!(names(6), ["c", "other"]);
}

pub(crate) fn a_failed_edit_leaks_nowhere(h: &impl Harness) {
    let mut s = h.open();
    let first = apply_lists(&mut s, vec![edit("c", Op::Add, &["a", "b"]), edit("c", Op::Remove, &["x"])]);
    for undo in [Op::Add, Op::Remove, Op::Replace, Op::Reset] {
        let ids: &[&str] = if undo == Op::Reset { &[] } else { &["b", "x", "new"] };
        let rev = begin_lists(&mut s, vec![edit("c", undo, ids), edit("fresh", Op::Add, &["f"])]);
        assert_ne!(shown(&s, rev, "c"), "+a +b -x", "pending: its own edits are seen");
        s.fail(rev, 7, "no").unwrap();
        for r in [first, rev] {
            assert_eq!(
                (shown(&s, r, "c"), shown(&s, r, "fresh")),
                ("+a +b -x".into(), String::new()),
                "{undo} at {r}"
            );
        }
    }
    let after = apply_lists(&mut s, vec![edit("c", Op::Add, &["c"])]);
    assert_eq!(shown(&s, after, "c"), "+a +b +c -x");
    assert_eq!(s.overlays(after).unwrap().len(), 1);
}

pub(crate) fn a_crash_between_begin_and_activate_leaks_nowhere(h: &impl Harness) {
    let mut s = h.open();
    let _ = apply_lists(&mut s, vec![edit("c", Op::Add, &["a"])]);
    let lost = begin_lists(&mut s, vec![edit("c", Op::Replace, &["evil"])]);
    drop(s);
    let mut s = h.open();
    assert_eq!(s.pending().unwrap().map(|r| r.id), Some(lost));
    assert_eq!(s.active().unwrap().map(|r| r.id), Some(1));
    assert_eq!(shown(&s, 1, "c"), "+a", "the active revision does not see it");
    assert!(matches!(s.begin(&draft(Some(1))), Err(Error::Pending { .. })), "settle first");
    s.interrupt(lost, 8, "agent died").unwrap();
    assert_eq!(s.revision(lost).unwrap().state, State::Interrupted { reason: "agent died".into() });
    let next = apply_lists(&mut s, vec![edit("c", Op::Add, &["b"])]);
    assert_eq!(shown(&s, next, "c"), "+a +b");
    // The other way round: the kernel shows that it took effect.
    let kept = begin_lists(&mut s, vec![edit("c", Op::Replace, &["z"])]);
    drop(s);
    let mut s = h.open();
    s.activate(kept, 9).unwrap();
    assert_eq!(shown(&s, kept, "c"), "=+z");
    let _ = s.verify().unwrap();
}

pub(crate) fn replace_remove_reset(h: &impl Harness) {
    let mut s = h.open();
    let mut step = |op, ids: &[&str]| {
        let rev = apply_lists(&mut s, vec![edit("c", op, ids)]);
        shown(&s, rev, "c")
    };
    assert_eq!(step(Op::Remove, &["d", "e"]), "-d -e");
    assert_eq!(step(Op::Replace, &["e", "f"]), "=+e +f", "the document and old marks are gone");
    assert_eq!(step(Op::Remove, &["e", "nobody"]), "=+f", "no marks of absence without a document");
    assert_eq!(step(Op::Replace, &[]), "=", "replaced by nothing is an empty list");
    assert_eq!(step(Op::Add, &["g"]), "=+g");
    assert_eq!(step(Op::Reset, &[]), "");
    assert_eq!(step(Op::Remove, &["g"]), "-g");
}

/// D5: back to any revision, lists included.
pub(crate) fn rollback_restores_every_list(h: &impl Harness) {
    let mut s = h.open();
    let one = apply_lists(&mut s, vec![edit("c", Op::Add, &["a", "b"]), edit("d", Op::Remove, &["k"])]);
    let _ = apply_lists(&mut s, vec![edit("c", Op::Replace, &["z", "a"])]);
    let three = apply_lists(&mut s, vec![edit("d", Op::Reset, &[]), edit("e", Op::Add, &["n"])]);
    let back =
        |base, target| Draft { kind: Kind::Rollback, restore_lists_of: Some(target), ..draft(Some(base)) };
    let see = |s: &_, rev| ["c", "d", "e"].map(|c| shown(s, rev, c)).join("|");
    let failed = s.begin(&back(three, one)).unwrap();
    assert_eq!(see(&s, failed), "+a +b|-k|");
    s.fail(failed, 3, "no").unwrap();
    assert_eq!(see(&s, three), "=+a +z||+n", "a failed rollback leaks nowhere");
    let four = apply(&mut s, &Draft { lists: vec![edit("c", Op::Add, &["q"])], ..back(three, one) });
    assert_eq!(see(&s, four), "+a +b +q|-k|", "restored, then edited");
    assert_eq!(s.revision(four).unwrap().restore_lists_of, Some(one));
    let five = apply(&mut s, &back(four, three));
    assert_eq!(see(&s, five), "=+a +z||+n", "and forward again");
    assert_eq!(see(&s, one), "+a +b|-k|");
    assert_eq!(see(&s, four), "+a +b +q|-k|");
    let same = apply(&mut s, &back(five, five));
    assert_eq!(see(&s, same), see(&s, five));
}

pub(crate) fn rollback_to_what_never_took_effect_is_refused(h: &impl Harness) {
    let mut s = h.open();
    let _ = apply(&mut s, &draft(None));
    let failed = begin_lists(&mut s, vec![edit("c", Op::Add, &["a"])]);
    s.fail(failed, 2, "no").unwrap();
    let back = |target| Draft { restore_lists_of: Some(target), ..draft(Some(1)) };
    assert!(matches!(s.begin(&back(failed)), Err(Error::NeverActive { state: "failed", .. })));
    assert!(matches!(s.begin(&back(77)), Err(Error::NoRevision { rev: 77 })));
    assert_eq!(s.pending().unwrap(), None);
}

/// Random edits, outcomes, reopenings and rollbacks against a plain map per revision.
pub(crate) fn lists_follow_a_model<H: Harness>(_: &H) {
    #[derive(Clone, Debug)]
    struct Step {
        edits: Vec<(u8, Op, Vec<u8>)>,
        back: Option<prop::sample::Index>,
        outcome: u8,
    }
    type Lists = BTreeMap<String, (bool, BTreeMap<String, Mark>)>;
    fn play(lists: &mut Lists, e: &ListEdit) {
        let (masked, marks) = lists.entry(e.cohort.clone()).or_default();
        if matches!(e.op, Op::Replace | Op::Reset) {
            marks.clear();
            *masked = e.op == Op::Replace;
        }
        for id in e.ids.iter().map(String::from) {
            let _ = match e.op {
                Op::Remove if *masked => marks.remove(&id),
                Op::Remove => marks.insert(id, Mark::Removed),
                _ => marks.insert(id, Mark::Added),
            };
        }
    }
    let op = prop_oneof![Just(Op::Add), Just(Op::Add), Just(Op::Remove), Just(Op::Replace), Just(Op::Reset)];
    let edits = prop::collection::vec((0..2u8, op, prop::collection::vec(0..6u8, 0..5)), 0..4);
    let back = prop::option::weighted(0.2, any::<prop::sample::Index>());
    let step = (edits, back, 0..4u8).prop_map(|(edits, back, outcome)| Step { edits, back, outcome });
    let config = ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() };
    let run = TestRunner::new(config).run(&prop::collection::vec(step, 1..12), |steps| {
        let h = H::new();
        let mut s = h.open();
        let mut at: BTreeMap<u64, Lists> = BTreeMap::new(); // of the revisions that took effect
        for step in steps {
            let base = at.keys().next_back().copied();
            let target =
                step.back.filter(|_| !at.is_empty()).map(|i| *i.get(&at.keys().copied().collect::<Vec<_>>()));
            let lists: Vec<ListEdit> = step
                .edits
                .iter()
                .map(|(c, op, ids)| {
                    let ids = if *op == Op::Reset {
                        Ids::default()
                    } else {
                        ids.iter().map(u8::to_string).collect()
                    };
                    ListEdit { cohort: format!("c{c}"), op: *op, ids }
                })
                .collect();
            let mut model = target.or(base).map(|r| at[&r].clone()).unwrap_or_default();
            lists.iter().for_each(|e| play(&mut model, e));
            let rev = s.begin(&Draft { lists, restore_lists_of: target, ..draft(base) }).unwrap();
            match step.outcome {
                0 => s.fail(rev, 1, "no").unwrap(),
                1 => {
                    drop(s);
                    s = h.open();
                    s.interrupt(rev, 1, "died").unwrap();
                }
                _ => {
                    s.activate(rev, 1).unwrap();
                    let _ = at.insert(rev, model);
                }
            }
        }
        for (rev, lists) in &at {
            for c in ["c0", "c1"] {
                let (masked, marks) = lists.get(c).cloned().unwrap_or_default();
                let text: Vec<_> = marks
                    .iter()
                    .map(|(id, m)| format!("{}{id}", if *m == Mark::Added { '+' } else { '-' }))
                    .collect();
                let want = format!("{}{}", if masked { "=" } else { "" }, text.join(" "));
                prop_assert_eq!(shown(&s, *rev, c), want, "{} at {}", c, rev);
            }
        }
        let _ = s.verify().unwrap();
        Ok(())
    });
    run.unwrap();
}

pub(crate) fn visiting_stops_when_told(h: &impl Harness) {
    let mut s = h.open();
    let rev = apply_lists(&mut s, vec![edit("c", Op::Replace, &["10", "9", "a", "Z"])]);
    let mut seen = Vec::new();
    s.overlay(rev, "c", &mut |mark, id| {
        assert_eq!(mark, Mark::Added);
        seen.push(id.to_owned());
        if seen.len() == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .unwrap();
    assert_eq!(seen, ["10", "9", "Z"], "byte order");
}
