//! Fuzz targets of the store: the text of a key, and a database that somebody edited.

use std::{cell::RefCell, ops::ControlFlow};

use super::{Draft, Kind, ListEdit, Note, Op, Source, Sqlite, Store as _, key::HashKey};
use crate::fuzz::{choice, one_line, text};

/// As it is imported, and as it stands in its file.
pub fn key(data: &[u8]) {
    match HashKey::from_hex(&text(data)) {
        Ok(key) => assert_eq!(HashKey::from_hex(&key.to_hex()).ok(), Some(key)),
        Err(e) => one_line(&e.to_string()),
    }
}

/// One cell of a good store gets another value: reading it may fail, and the audit says that it was changed.
pub fn audit(data: &[u8]) {
    let Some((cell, data)) = choice(data, CELLS.len()) else { return };
    let Some((row, data)) = choice(data, 8) else { return };
    STORE.with_borrow(|store| {
        let sql = |s: &str| store.run(s).unwrap_or_else(|e| panic!("{s}: {e}"));
        sql("SAVEPOINT edit");
        if store.edit(CELLS[cell], row, data) {
            assert!(store.verify().is_err(), "{:?} was changed and nobody noticed", CELLS[cell]);
        }
        read_all(store);
        sql("ROLLBACK TO edit; RELEASE edit");
    });
}

/// Table, column and primary key of what the audit answers for.
const CELLS: &[(&str, &str, &str)] = &[
    ("audit", "at", "seq"),
    ("audit", "who", "seq"),
    ("audit", "action", "seq"),
    ("audit", "rev", "seq"),
    ("audit", "detail", "seq"),
    ("audit", "hash", "seq"),
    ("audit", "seq", "seq"),
    ("revision", "id", "id"),
    ("revision", "base", "id"),
    ("revision", "at", "id"),
    ("revision", "who", "id"),
    ("revision", "why", "id"),
    ("revision", "kind", "id"),
    ("revision", "summary", "id"),
    ("revision", "state", "id"),
    ("revision", "reason", "id"),
    ("revision", "drained", "id"),
    ("revision", "restored", "id"),
    ("revision", "assignments", "id"),
    ("source", "name", "set_id, pos"),
    ("source", "pos", "set_id, pos"),
    ("blob", "sha256", "id"),
    ("blob", "text", "id"),
    ("list_edit", "cohort", "rev, pos"),
    ("list_edit", "op", "rev, pos"),
    ("list_edit", "ids", "rev, pos"),
    ("list_edit", "sha256", "rev, pos"),
    ("revision", "dropped", "id"),
];

thread_local!(static STORE: RefCell<Sqlite> = RefCell::new(small()));

/// Revisions of each fate, lists with edits, a note of a caller.
fn small() -> Sqlite {
    let build = || -> super::Result<Sqlite> {
        let mut s = Sqlite::in_memory()?;
        let text = |t: &str| Some(vec![Source { name: "a.yaml".into(), text: t.into() }]);
        let edit = |op, ids: &[&str]| ListEdit { cohort: "early".into(), op, ids: ids.iter().collect() };
        let mut draft =
            Draft { sources: text("services: {}"), ..Draft::new(Kind::Apply, None, 1, "uid:a", "first") };
        draft.assignments = Some("{}".into());
        let first = s.begin(&draft)?;
        s.activate(first, 2)?;
        let mut draft = Draft::new(Kind::Cohort, Some(first), 3, "uid:b", "second");
        draft.lists = vec![edit(Op::Add, &["198.18.1.3", "198.18.1.4"]), edit(Op::Remove, &["198.18.1.5"])];
        let second = s.begin(&draft)?;
        s.activate(second, 4)?;
        let _ = s.record(&Note { at: 5, who: "uid:a", action: "key-import", detail: "{}" })?;
        let failed = s.begin(&Draft {
            sources: text("x"),
            ..Draft::new(Kind::Apply, Some(second), 6, "uid:a", "third")
        })?;
        s.fail(failed, 7, "no room")?;
        let mut draft = Draft::new(Kind::Rollback, Some(second), 8, "uid:a", "fourth");
        (draft.restore_lists_of, draft.drained) = (Some(first), Some(["shop/one".to_owned()].into()));
        let _ = s.begin(&draft)?;
        let _ = s.verify()?;
        s.without_guards()?;
        Ok(s)
    };
    build().unwrap_or_else(|e| panic!("{e}"))
}

fn read_all(s: &Sqlite) {
    let _ = (s.active(), s.pending(), s.history(10, None), s.audit(10, None), s.workloads());
    for rev in 0..6 {
        let _ = (s.revision(rev), s.sources(rev), s.assignments(rev), s.overlays(rev));
        let _ = s.overlay(rev, "early", &mut |_, _| ControlFlow::Continue(()));
    }
}
