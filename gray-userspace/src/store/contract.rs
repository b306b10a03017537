//! What every store must do, as generic functions: each implementation runs the same list (`contract_tests!`).
//! Only the trait is used here.

mod lists;

use super::*;
pub(crate) use lists::*;

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
    ListEdit { cohort: cohort.into(), op, ids: ids.iter().collect() }
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
    let failed =
        s.begin(&Draft { sources: Some(vec![]), drained: Some([].into()), ..draft(Some(1)) }).unwrap();
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
