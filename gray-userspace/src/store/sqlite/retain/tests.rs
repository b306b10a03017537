//! Old revisions go, those that are kept stay whole: after every piece, whoever dies then.

use std::ops::ControlFlow;

use super::super::*;
use crate::store::{Draft, Kind, ListEdit, Op};

const COHORTS: [&str; 2] = ["beta", "vip"];

struct Temp {
    dir: StateDir,
    _tmp: tempfile::TempDir,
}

fn temp() -> Temp {
    let tmp = tempfile::tempdir().unwrap();
    Temp { dir: StateDir::open(tmp.path()).unwrap(), _tmp: tmp }
}

/// Without waiting for the disk: who dies is played by who opens it again.
fn open(h: &Temp) -> Sqlite {
    let s = Sqlite::open(&h.dir).unwrap();
    s.db.execute_batch("PRAGMA synchronous = OFF").unwrap();
    s
}

fn newest(newest: u64) -> Retention {
    Retention { newest, at: Vec::new() }
}

fn all_of(s: &mut Sqlite, keep: &Retention) {
    while s.retain(keep, 99).unwrap() {}
}

/// All that a revision holds.
#[derive(Clone, Debug, PartialEq)]
struct Held {
    sources: Vec<Source>,
    assignments: Option<String>,
    lists: Vec<(OverlayInfo, Vec<(Mark, String)>)>,
}

fn held(s: &Sqlite, rev: u64) -> Result<Held> {
    let list = |cohort: &&str| {
        let mut ids = Vec::new();
        s.overlay(rev, cohort, &mut |mark, id| {
            ids.push((mark, id.to_owned()));
            ControlFlow::Continue(())
        })?;
        Ok((s.overlay_info(rev, cohort)?, ids))
    };
    Ok(Held {
        sources: s.sources(rev)?,
        assignments: s.assignments(rev)?,
        lists: COHORTS.iter().map(list).collect::<Result<_>>()?,
    })
}

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// A change of some kind; some fail.
fn change(s: &mut Sqlite, dice: &mut Dice) -> u64 {
    let base = s.active().unwrap().map(|r| r.id);
    let newest = s.history(1, None).unwrap().first().map_or(0, |r| r.id);
    let mut d = Draft::new(Kind::Apply, base, newest + 1, "ada", format!("change {}", newest + 1));
    // Some come again.
    d.assignments = Some(format!("{{\"n\":{}}}", dice.below(6)));
    if dice.below(2) == 0 {
        let text = |name: &str, n| Source { name: name.into(), text: format!("document {n}") };
        d.sources = Some(vec![text("a", dice.below(9)), text("b", newest)]);
    }
    if dice.below(5) == 0
        && let Some(target) = s
            .history(9, None)
            .unwrap()
            .iter()
            .find(|r| r.state.took_effect() && !r.dropped && dice.below(2) == 0)
    {
        d.restore_lists_of = Some(target.id);
    }
    let op =
        [Op::Add, Op::Remove, Op::Replace, Op::Replace, Op::Reset][usize::try_from(dice.below(5)).unwrap()];
    let count = if op == Op::Reset { 0 } else { 1 + dice.below(7) };
    let ids = (0..count).map(|_| format!("{:02}", dice.below(20))).collect();
    d.lists = vec![ListEdit { cohort: COHORTS[usize::from(dice.below(2) == 0)].into(), op, ids }];
    let rev = s.begin(&d).unwrap();
    if dice.below(6) == 0 && rev > 1 {
        s.fail(rev, rev, "no room").unwrap();
    } else {
        s.activate(rev, rev).unwrap();
    }
    rev
}

fn kept(s: &Sqlite) -> Vec<u64> {
    s.history(999, None).unwrap().iter().filter(|r| !r.dropped).map(|r| r.id).collect()
}

#[test]
fn d5_every_revision_that_is_kept_is_whole_after_every_piece_and_a_restart() {
    for seed in 0..5 {
        let (h, mut dice) = (temp(), Dice(seed));
        let mut s = open(&h);
        let mut known = std::collections::BTreeMap::new();
        for _ in 0..40 {
            let rev = change(&mut s, &mut dice);
            let _ = known.insert(rev, held(&s, rev).unwrap());
        }
        let mut pieces = 0;
        loop {
            let more = s.retain(&newest(8), 99).unwrap();
            pieces += 1;
            // Who dies here leaves the rest to the next one.
            if pieces < 60 && dice.below(3) == 0 {
                drop(s);
                s = open(&h);
            }
            for rev in kept(&s) {
                assert_eq!(
                    held(&s, rev).unwrap(),
                    known[&rev],
                    "seed {seed}, revision {rev}, piece {pieces}"
                );
            }
            if pieces % 4 == 0 || !more {
                let _ = s.verify().unwrap();
            }
            if !more && !s.retain(&newest(8), 99).unwrap() {
                break;
            }
            assert!(pieces < 5000, "it never ends");
        }
        assert!(pieces > 20, "it was not in pieces: {pieces}");
        let left = kept(&s);
        assert!(left.contains(&40) && left.contains(&33) && left.len() <= 10, "{left:?}");
        nothing_is_left_over(&s);
        // Back to each of them, one after the other.
        for rev in left {
            let before = known[&rev].clone();
            if !s.revision(rev).unwrap().state.took_effect() {
                continue;
            }
            let base = s.active().unwrap().map(|r| r.id);
            let mut d = Draft::new(Kind::Rollback, base, 99, "ada", "back");
            (d.sources, d.assignments) = (Some(before.sources.clone()), before.assignments.clone());
            d.restore_lists_of = Some(rev);
            let back = s.begin(&d).unwrap();
            s.activate(back, 99).unwrap();
            assert_eq!(held(&s, back).unwrap(), before, "seed {seed}, back to {rev}");
        }
        let _ = s.verify().unwrap();
    }
}

fn nothing_is_left_over(s: &Sqlite) {
    for (what, sql) in [
        ("sources", "SELECT count(*) FROM source WHERE set_id NOT IN (SELECT source_set FROM revision)"),
        (
            "texts",
            "SELECT count(*) FROM blob WHERE id NOT IN (SELECT blob FROM source)
             AND id NOT IN (SELECT assignments FROM revision WHERE assignments IS NOT NULL)",
        ),
        ("blocks", "SELECT count(*) FROM list_block WHERE list NOT IN (SELECT list FROM list_whole)"),
        (
            "lists",
            "SELECT count(*) FROM list_whole w WHERE until IS NOT NULL AND NOT EXISTS
             (SELECT 1 FROM revision WHERE dropped = 0 AND id >= w.since AND id < w.until)",
        ),
        (
            "edits",
            "SELECT count(*) FROM list_past p WHERE NOT EXISTS
             (SELECT 1 FROM revision WHERE dropped = 0 AND id >= p.since AND id < p.until)",
        ),
    ] {
        let left: u64 = s.db.query_row(sql, [], |r| r.get(0)).unwrap();
        assert_eq!(left, 0, "{what}");
    }
}

#[test]
fn d5_what_was_dropped_says_so_and_cannot_be_restored() {
    let h = temp();
    let mut s = open(&h);
    let mut dice = Dice(1);
    for _ in 0..12 {
        let _ = change(&mut s, &mut dice);
    }
    all_of(&mut s, &newest(3));
    let gone = s.history(99, None).unwrap().into_iter().find(|r| r.dropped && r.state.took_effect()).unwrap();
    assert_eq!((&*gone.who, &*gone.summary), ("ada", &*format!("change {}", gone.id)), "who and what stay");
    assert!(matches!(s.sources(gone.id), Err(Error::Dropped { rev }) if rev == gone.id));
    assert!(matches!(s.assignments(gone.id), Err(Error::Dropped { .. })));
    let mut d = Draft::new(Kind::Rollback, s.active().unwrap().map(|r| r.id), 99, "ada", "back");
    d.restore_lists_of = Some(gone.id);
    let e = s.begin(&d).unwrap_err();
    assert!(matches!(e, Error::Dropped { rev } if rev == gone.id), "{e}");
    assert!(e.to_string().contains("gray history"), "{e}");
    let log = s.audit(99, None).unwrap();
    assert!(log.iter().any(|r| r.action == "drop-revisions" && r.who == "gray"), "{log:?}");
}

#[test]
fn d5_what_is_in_force_what_was_before_it_and_what_is_pinned_stay() {
    let h = temp();
    let mut s = open(&h);
    let apply = |s: &mut Sqlite, ok: bool| {
        let base = s.active().unwrap().map(|r| r.id);
        let at = s.history(1, None).unwrap().first().map_or(10, |r| r.at + 10);
        let rev = s.begin(&Draft::new(Kind::Apply, base, at, "ada", "s")).unwrap();
        if ok { s.activate(rev, at).unwrap() } else { s.fail(rev, at, "no").unwrap() }
    };
    for n in 1..=20 {
        // From 8 on nothing takes effect.
        apply(&mut s, n < 8);
    }
    // In force at 35: revision 3.
    all_of(&mut s, &Retention { newest: 2, at: vec![35, 1] });
    assert_eq!(kept(&s), [20, 19, 7, 6, 3]);
    // The release is over.
    all_of(&mut s, &newest(2));
    assert_eq!(kept(&s), [20, 19, 7, 6]);
    assert_eq!(s.active().unwrap().unwrap().id, 7);
    let _ = s.verify().unwrap();
    // They go together, so that the audit log has one record for many.
    let before = s.audit(1, None).unwrap()[0].seq;
    all_of(&mut s, &Retention { newest: 1, at: vec![] });
    assert_eq!(kept(&s), [20, 7, 6]);
    assert_eq!(s.audit(1, None).unwrap()[0].seq, before + 1);
}

#[test]
fn d5_the_audit_notices_what_was_dropped_by_others() {
    let h = temp();
    let mut s = open(&h);
    let mut dice = Dice(3);
    for _ in 0..12 {
        let _ = change(&mut s, &mut dice);
    }
    all_of(&mut s, &newest(4));
    let _ = s.verify().unwrap();
    for edit in [
        "UPDATE revision SET dropped = 1 WHERE state = 'active'",
        "UPDATE revision SET dropped = 0 WHERE id = 1",
        "UPDATE revision SET who = 'eve' WHERE id = 1",
        "UPDATE revision SET summary = 'nothing' WHERE id = 2",
        "UPDATE revision SET base = 1 WHERE id = 3",
        "DELETE FROM list_edit; DELETE FROM revision WHERE dropped = 1",
    ] {
        s.db.execute_batch("PRAGMA foreign_keys = OFF; SAVEPOINT edit").unwrap();
        s.db.execute_batch(edit).unwrap();
        assert!(matches!(s.verify(), Err(Error::Tampered { .. })), "{edit}");
        s.db.execute_batch("ROLLBACK TO edit; RELEASE edit").unwrap();
        let _ = s.verify().unwrap();
    }
}

/// The file stops growing: pages that became free are used again.
#[test]
fn d5_the_store_stops_growing() {
    let h = temp();
    let mut s = open(&h);
    let mut pages = Vec::new();
    for n in 0..60u32 {
        let base = s.active().unwrap().map(|r| r.id);
        let mut d = Draft::new(Kind::Apply, base, n.into(), "ada", "one address changed");
        let filler: String = (0..4000u32).map(|i| format!("{} ", i.wrapping_mul(n + 7))).collect();
        d.assignments = Some(format!("{n} {filler}"));
        d.sources = Some(vec![Source { name: "a".into(), text: format!("{filler} {n}") }]);
        // Nothing of the list before it.
        let ids = (0..6).map(|i| format!("{n:03}-{i:04}")).collect();
        d.lists = vec![ListEdit { cohort: "beta".into(), op: Op::Replace, ids }];
        let rev = s.begin(&d).unwrap();
        s.activate(rev, n.into()).unwrap();
        all_of(&mut s, &newest(5));
        pages.push(s.db.query_row("PRAGMA page_count", [], |r| r.get::<_, u32>(0)).unwrap());
    }
    // Without it: ten and more a revision. Its row and its records in the log stay.
    assert!(pages[59] < pages[20] + 40, "{pages:?}");
    let _ = s.verify().unwrap();
}
