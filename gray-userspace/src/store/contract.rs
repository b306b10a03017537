//! What every store must do, as generic functions: each implementation runs the same list (`contract_tests!`).
//! Only the trait is used here.

use std::{collections::BTreeMap, ops::ControlFlow};

use proptest::{prelude::*, test_runner::TestRunner};

use super::*;

/// Opens the same store again and again: what one handle wrote, the next one sees.
pub(crate) trait Harness {
    type S: Store;
    fn new() -> Self;
    fn open(&self) -> Self::S;
}

/// One `#[test]` per case, for one implementation.
macro_rules! contract_tests {
    ($harness:ty) => {
        $crate::store::contract::contract_tests! { $harness:
            ids_count_up_and_fields_come_back
            what_a_draft_leaves_out_is_inherited
            one_pending_and_the_base_must_be_active
            settled_is_settled
            history_pages_newest_first
            list_edits_overlay_and_stay_readable_at_every_revision
            a_failed_edit_leaks_nowhere
            a_crash_between_begin_and_activate_leaks_nowhere
            replace_remove_reset
            rollback_restores_every_list
            rollback_to_what_never_took_effect_is_refused
            lists_follow_a_model
            visiting_stops_when_told
            bad_edits_are_refused_and_leave_nothing
            audit_has_one_record_per_mutation_before_its_effect
        }
    };
    ($harness:ty: $($case:ident)+) => {
        $(#[test]
        fn $case() {
            $crate::store::contract::$case(&<$harness as $crate::store::contract::Harness>::new());
        })+
    };
}
pub(crate) use contract_tests;

fn draft(base: Option<u64>) -> Draft {
    Draft::new(Kind::Apply, base, 1_700_000_000_123, "ada", "a change")
}

fn edit(cohort: &str, op: Op, ids: &[&str]) -> ListEdit {
    ListEdit { cohort: cohort.into(), op, ids: ids.iter().map(|s| s.to_string()).collect() }
}

fn apply(s: &mut impl Store, d: &Draft) -> u64 {
    let rev = s.begin(d).unwrap();
    s.activate(rev, d.at + 1).unwrap();
    rev
}

/// Begins on the active revision with these list edits.
fn begin_lists(s: &mut impl Store, lists: Vec<ListEdit>) -> u64 {
    let base = s.active().unwrap().map(|r| r.id);
    s.begin(&Draft { lists, kind: Kind::Cohort, ..draft(base) }).unwrap()
}

fn apply_lists(s: &mut impl Store, lists: Vec<ListEdit>) -> u64 {
    let rev = begin_lists(s, lists);
    s.activate(rev, 5).unwrap();
    rev
}

/// The overlay as text: `=` the document is replaced, `+id`, `-id`. Counts must agree with it.
fn shown(s: &impl Store, rev: u64, cohort: &str) -> String {
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

pub(crate) fn ids_count_up_and_fields_come_back(h: &impl Harness) {
    let mut s = h.open();
    assert_eq!(s.active().unwrap(), None);
    let d = Draft {
        why: "ticket 7".into(),
        sources: Some(vec![
            Source { name: "b.yaml".into(), text: "services: {}".into() },
            Source { name: "a.yaml".into(), text: "cohorts: {} # ü\0".into() },
        ]),
        drained: Some(["shop/b".to_string(), "shop/a".to_string()].into()),
        assignments: Some(r#"{"r":[1]}"#.into()),
        lists: vec![edit("early", Op::Add, &["b", "a", "a"])],
        ..draft(None)
    };
    assert_eq!(s.begin(&d).unwrap(), 1);
    drop(s);
    let mut s = h.open();
    assert_eq!(s.pending().unwrap().map(|r| r.id), Some(1));
    assert_eq!(s.active().unwrap(), None);
    s.activate(1, 9).unwrap();
    drop(s);
    let mut s = h.open();
    let r = s.active().unwrap().unwrap();
    assert_eq!(r, s.revision(1).unwrap());
    assert_eq!((r.id, r.base, r.at, r.kind), (1, None, d.at, Kind::Apply));
    assert_eq!((&*r.who, &*r.why, &*r.summary), ("ada", "ticket 7", "a change"));
    assert_eq!(r.state, State::Active);
    assert_eq!(Some(&r.drained), d.drained.as_ref());
    assert_eq!(r.lists, [EditSummary { cohort: "early".into(), op: Op::Add, ids: 2 }]);
    assert_eq!(Some(s.sources(1).unwrap()), d.sources, "order and bytes kept");
    assert_eq!(r.sources[1].bytes, 17);
    assert_eq!(s.assignments(1).unwrap(), d.assignments);
    assert_eq!(apply(&mut s, &draft(Some(1))), 2);
    assert_eq!(s.revision(1).unwrap().state, State::Superseded);
    assert!(matches!(s.revision(3), Err(Error::NoRevision { rev: 3 })));
    assert!(matches!(s.sources(3), Err(Error::NoRevision { rev: 3 })));
    assert!(matches!(s.overlay_info(3, "early"), Err(Error::NoRevision { rev: 3 })));
}

pub(crate) fn what_a_draft_leaves_out_is_inherited(h: &impl Harness) {
    let mut s = h.open();
    let full = Draft {
        sources: Some(vec![Source { name: "p".into(), text: "x".into() }]),
        drained: Some(["shop/a".to_string()].into()),
        assignments: Some("{}".into()),
        ..draft(None)
    };
    let _ = apply(&mut s, &full);
    // A failed revision in between hands nothing down.
    let failed = s.begin(&Draft { sources: Some(vec![]), drained: Some([].into()), ..draft(Some(1)) }).unwrap();
    s.fail(failed, 3, "no memory").unwrap();
    let next = apply(&mut s, &draft(Some(1)));
    assert_eq!(s.sources(next).unwrap()[0].text, "x");
    assert_eq!(s.revision(next).unwrap().drained.len(), 1);
    assert_eq!(s.assignments(next).unwrap().as_deref(), Some("{}"));
    let cleared = Draft { sources: Some(vec![]), drained: Some([].into()), ..draft(Some(next)) };
    let last = apply(&mut s, &cleared);
    assert!(s.sources(last).unwrap().is_empty() && s.revision(last).unwrap().drained.is_empty());
}

pub(crate) fn one_pending_and_the_base_must_be_active(h: &impl Harness) {
    let mut s = h.open();
    assert!(matches!(s.begin(&draft(Some(1))), Err(Error::Conflict { base: Some(1), active: None })));
    assert_eq!(s.begin(&draft(None)).unwrap(), 1);
    assert!(matches!(s.begin(&draft(None)), Err(Error::Pending { rev: 1 })));
    s.activate(1, 2).unwrap();
    assert!(matches!(s.begin(&draft(None)), Err(Error::Conflict { base: None, active: Some(1) })));
    let _ = apply(&mut s, &draft(Some(1)));
    assert!(matches!(s.begin(&draft(Some(1))), Err(Error::Conflict { base: Some(1), active: Some(2) })));
    assert_eq!(s.history(9, None).unwrap().len(), 2, "a refused draft leaves no revision");
}

pub(crate) fn settled_is_settled(h: &impl Harness) {
    let mut s = h.open();
    let _ = apply(&mut s, &draft(None));
    assert!(matches!(s.activate(1, 2), Err(Error::NotPending { rev: 1, state: "active" })));
    assert!(matches!(s.fail(1, 2, ""), Err(Error::NotPending { .. })));
    let rev = s.begin(&draft(Some(1))).unwrap();
    s.fail(rev, 3, "kernel: E2BIG").unwrap();
    assert_eq!(s.revision(rev).unwrap().state, State::Failed { reason: "kernel: E2BIG".into() });
    assert!(matches!(s.activate(rev, 4), Err(Error::NotPending { state: "failed", .. })));
    assert!(matches!(s.interrupt(9, 4, ""), Err(Error::NoRevision { rev: 9 })));
    assert_eq!(s.active().unwrap().map(|r| r.id), Some(1));
}

pub(crate) fn history_pages_newest_first(h: &impl Harness) {
    let mut s = h.open();
    for n in 0..5u64 {
        let _ = apply(&mut s, &draft((n > 0).then_some(n)));
    }
    let ids = |limit, before| s.history(limit, before).unwrap().iter().map(|r| r.id).collect::<Vec<_>>();
    assert_eq!(ids(2, None), [5, 4]);
    assert_eq!(ids(2, Some(4)), [3, 2]);
    assert_eq!(ids(usize::MAX, Some(2)), [1]);
    assert_eq!(ids(0, None), [0; 0]);
}

/// B1: one at a time; D5: any revision can still be read.
pub(crate) fn list_edits_overlay_and_stay_readable_at_every_revision(h: &impl Harness) {
    let mut s = h.open();
    let steps: [(Vec<ListEdit>, &str); 6] = [
        (vec![], ""),
        (vec![edit("c", Op::Add, &["b", "a"])], "+a +b"),
        (vec![edit("c", Op::Remove, &["b", "z"])], "+a -b -z"),
        (vec![edit("other", Op::Add, &["q"])], "+a -b -z"),
        (vec![edit("c", Op::Add, &["b"]), edit("c", Op::Remove, &["a"]), edit("c", Op::Add, &["a"])], "+a +b -z"),
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
            assert_eq!((shown(&s, r, "c"), shown(&s, r, "fresh")), ("+a +b -x".into(), String::new()), "{undo} at {r}");
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
    let back = |base, target| Draft { kind: Kind::Rollback, restore_lists_of: Some(target), ..draft(Some(base)) };
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
        for id in &e.ids {
            let _ = match e.op {
                Op::Remove if *masked => marks.remove(id),
                Op::Remove => marks.insert(id.clone(), Mark::Removed),
                _ => marks.insert(id.clone(), Mark::Added),
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
            let target = step.back.filter(|_| !at.is_empty()).map(|i| *i.get(&at.keys().copied().collect::<Vec<_>>()));
            let lists: Vec<ListEdit> = step
                .edits
                .iter()
                .map(|(c, op, ids)| {
                    let ids = if *op == Op::Reset { vec![] } else { ids.iter().map(u8::to_string).collect() };
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
                let text: Vec<_> =
                    marks.iter().map(|(id, m)| format!("{}{id}", if *m == Mark::Added { '+' } else { '-' })).collect();
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

pub(crate) fn bad_edits_are_refused_and_leave_nothing(h: &impl Harness) {
    let mut s = h.open();
    for bad in [edit("c", Op::Add, &["a", ""]), edit("", Op::Add, &["a"]), edit("c", Op::Reset, &["a"])] {
        let d = Draft { lists: vec![edit("c", Op::Add, &["ok"]), bad], ..draft(None) };
        assert!(matches!(s.begin(&d), Err(Error::Invalid { .. })));
    }
    let own = Note { at: 1, who: "ada", action: "begin", detail: "" };
    assert!(matches!(s.record(&own), Err(Error::Invalid { .. })));
    assert_eq!(s.pending().unwrap(), None);
    assert!(s.audit(9, None).unwrap().is_empty());
    let rev = apply(&mut s, &draft(None));
    assert_eq!((rev, shown(&s, rev, "c")), (1, String::new()));
}

pub(crate) fn audit_has_one_record_per_mutation_before_its_effect(h: &impl Harness) {
    let mut s = h.open();
    let rev = s.begin(&Draft { why: "because".into(), ..draft(None) }).unwrap();
    drop(s); // the effect is yet to come: the record is there already
    let mut s = h.open();
    assert_eq!(s.audit(9, None).unwrap().len(), 1);
    s.activate(rev, 7).unwrap();
    assert_eq!(s.record(&Note { at: 8, who: "bob", action: "key-import", detail: "{}" }).unwrap(), 3);
    let failed = s.begin(&draft(Some(rev))).unwrap();
    s.fail(failed, 9, "no").unwrap();
    let log = s.audit(9, None).unwrap();
    let told: Vec<_> = log.iter().rev().map(|r| (r.seq, &*r.who, &*r.action, r.revision)).collect();
    assert_eq!(
        told,
        [
            (1, "ada", "begin", Some(1)),
            (2, "ada", "activate", Some(1)),
            (3, "bob", "key-import", None),
            (4, "ada", "begin", Some(2)),
            (5, "ada", "fail", Some(2)),
        ]
    );
    assert!(log[4].detail.contains("because"));
    assert_eq!(s.audit(1, Some(3)).unwrap()[0].seq, 2);
    let v = s.verify().unwrap();
    assert_eq!((v.records, v.revisions, &v.head), (5, 2, &log[0].hash));
}
