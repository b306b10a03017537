//! What is particular to the SQLite store: the shared contract, the file, crashes, tampering, size.
#![expect(clippy::print_stdout, reason = "measured times are shown")]

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    process::Command,
    time::{Duration, Instant},
};

use rusqlite::types::Value;

use super::*;
use crate::store::{Kind, ListEdit, Op, WorkloadKind, contract::Harness};

struct Temp {
    dir: StateDir,
    tmp: tempfile::TempDir,
}

impl Harness for Temp {
    type S = Sqlite;

    fn new() -> Self {
        let tmp = tempfile::tempdir().unwrap();
        Self { dir: StateDir::open(tmp.path()).unwrap(), tmp }
    }

    fn open(&self) -> Sqlite {
        Sqlite::open(&self.dir).unwrap()
    }
}

mod contract {
    use super::Temp;
    crate::store::contract::contract_tests!(Temp);
}

fn draft(base: Option<u64>) -> Draft {
    Draft::new(Kind::Cohort, base, 1, "ada", "s")
}

fn ids(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| format!("app-{n:08}")).collect()
}

fn load(op: Op, ids: Vec<String>) -> Vec<ListEdit> {
    vec![ListEdit { cohort: "big".into(), op, ids: ids.into_iter().collect() }]
}

#[test]
fn files_are_private_also_when_they_were_not() {
    let h = Temp::new();
    fs::write(h.tmp.path().join(FILE), "").unwrap();
    fs::set_permissions(h.tmp.path().join(FILE), fs::Permissions::from_mode(0o644)).unwrap();
    let mut s = h.open();
    let _ = s.begin(&draft(None)).unwrap();
    for entry in fs::read_dir(h.tmp.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.file_name());
    }
    let sync: u32 = s.db.pragma_query_value(None, "synchronous", |r| r.get(0)).unwrap();
    let journal: String = s.db.pragma_query_value(None, "journal_mode", |r| r.get(0)).unwrap();
    assert_eq!((sync, &*journal), (2, "wal"));
}

#[test]
fn newer_foreign_and_linked_files_are_refused() {
    let h = Temp::new();
    let path = h.tmp.path().join(FILE);
    let s = h.open();
    s.db.pragma_update(None, "user_version", 99).unwrap();
    drop(s);
    let e = Sqlite::open(&h.dir).unwrap_err();
    assert!(matches!(e, Error::Newer { found: 99, known: 6, .. }), "{e}");
    fs::remove_file(&path).unwrap();
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    assert!(matches!(Sqlite::open(&h.dir), Err(Error::Foreign { .. })));
    fs::rename(&path, h.tmp.path().join("real")).unwrap();
    std::os::unix::fs::symlink("real", &path).unwrap();
    assert!(matches!(Sqlite::open(&h.dir), Err(Error::Dir { .. })));
}

#[test]
fn a_file_of_the_first_schema_is_brought_up_to_date() {
    let h = Temp::new();
    let mut s = h.open();
    let first = s.begin(&Draft { lists: load(Op::Add, ids(0..2)), ..draft(None) }).unwrap();
    s.activate(first, 1).unwrap();
    s.db.execute_batch("DROP INDEX revision_kept; DROP INDEX revision_set; DROP INDEX revision_assignments; DROP INDEX source_blob; ALTER TABLE revision DROP COLUMN dropped; DROP TABLE release_log; DROP TABLE release; DROP TABLE list_block; DROP TABLE list_whole; ALTER TABLE workload DROP COLUMN lane; ALTER TABLE workload DROP COLUMN link; PRAGMA user_version = 1").unwrap();
    drop(s);
    let mut s = h.open();
    assert_eq!(s.overlay_info(first, "big").unwrap().added, 2);
    let second = s.begin(&Draft { lists: load(Op::Replace, ids(1..9)), ..draft(Some(first)) }).unwrap();
    s.activate(second, 2).unwrap();
    assert_eq!(s.overlay_info(first, "big").unwrap().added, 2);
    assert_eq!(s.overlay_info(second, "big").unwrap().added, 8);
    let _ = s.verify().unwrap();
}

#[test]
fn damage_is_named_not_served() {
    let h = Temp::new();
    let path = h.tmp.path().join(FILE);
    let mut s = h.open();
    let rev = s.begin(&Draft { lists: load(Op::Add, ids(0..5000)), ..draft(None) }).unwrap();
    s.activate(rev, 2).unwrap();
    drop(s);
    let whole = fs::read(&path).unwrap();
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, Damage); 4] = [
        ("not a database", |b| b[..16].fill(b'x')),
        ("cut in half", |b| b.truncate(b.len() / 2 / 4096 * 4096)),
        ("pages of noise", |b| b[4096..].chunks_mut(97).for_each(|c| c[0] ^= 0x5a)),
        ("cut within a page", |b| b.truncate(5000)),
    ];
    for (name, damage) in damages {
        let mut bytes = whole.clone();
        damage(&mut bytes);
        fs::write(&path, bytes).unwrap();
        let e = Sqlite::open(&h.dir).unwrap_err();
        assert!(matches!(e, Error::Corrupt { .. }), "{name}: {e}");
        assert!(e.to_string().contains("gray.db is damaged"), "{e}");
    }
}

#[test]
fn a_flipped_bit_in_a_document_is_found_when_read() {
    let h = Temp::new();
    let mut s = h.open();
    let sources = Some(vec![Source { name: "p".into(), text: "weight: 5".into() }]);
    let rev = s.begin(&Draft { sources, ..draft(None) }).unwrap();
    let _ = s.db.execute("UPDATE blob SET text = 'weight: 7'", []).unwrap();
    assert!(matches!(s.sources(rev), Err(Error::Corrupt { .. })));
    assert!(matches!(s.verify(), Err(Error::Corrupt { .. })));
}

#[test]
fn same_texts_are_stored_once() {
    let h = Temp::new();
    let mut s = h.open();
    let sources = || Some(vec![Source { name: "p".into(), text: "x".repeat(100_000) }]);
    for base in [None, Some(1), Some(2)] {
        let rev = s.begin(&Draft { sources: sources(), ..draft(base) }).unwrap();
        s.activate(rev, 2).unwrap();
    }
    let blobs: u64 = s.db.query_row("SELECT count(*) FROM blob", [], |r| r.get(0)).unwrap();
    assert_eq!(blobs, 1);
}

/// S4: every byte of every record counts, and so does the place of each record.
#[test]
fn tampering_with_any_byte_of_the_log_is_found() {
    let h = Temp::new();
    let mut s = h.open();
    let rev = s.begin(&draft(None)).unwrap();
    s.activate(rev, 2).unwrap();
    let _ = s.record(&Note { at: 3, who: "bob", action: "key-import", detail: "k" }).unwrap();
    let failed = s.begin(&draft(Some(rev))).unwrap();
    s.fail(failed, 4, "no").unwrap();
    assert!(s.db.execute("UPDATE audit SET who = 'eve'", []).is_err(), "append-only");
    assert!(s.db.execute("DELETE FROM audit", []).is_err(), "append-only");
    s.db.execute_batch("DROP TRIGGER audit_keeps; DROP TRIGGER audit_stays").unwrap();
    let good = s.verify().unwrap();

    let mut tried = 0;
    let mut attempt = |sql: &str, values: &[&dyn rusqlite::ToSql]| {
        s.db.execute_batch("SAVEPOINT t; PRAGMA defer_foreign_keys = ON").unwrap();
        assert_eq!(s.db.execute(sql, values).unwrap(), 1, "{sql}");
        assert!(matches!(s.verify(), Err(Error::Tampered { .. } | Error::Corrupt { .. })), "{sql} {tried}");
        s.db.execute_batch("ROLLBACK TO t; RELEASE t").unwrap();
        tried += 1;
    };
    for seq in 1..=good.records {
        for column in ["seq", "at", "who", "action", "rev", "detail", "hash"] {
            let read = format!("SELECT {column} FROM audit WHERE seq = ?1");
            let update = format!("UPDATE audit SET {column} = ?2 WHERE seq = ?1");
            let old: Value = Sqlite::open(&h.dir).unwrap().db.query_row(&read, [seq], |r| r.get(0)).unwrap();
            match old {
                Value::Null => attempt(&update, &[&seq, &7]),
                Value::Integer(n) => {
                    [1, 2, 64, 1 << 40].iter().for_each(|bit| attempt(&update, &[&seq, &(n + 1000 * bit)]))
                }
                Value::Text(t) => (0..t.len()).for_each(|i| {
                    let mut t = t.clone().into_bytes();
                    t[i] ^= 1;
                    attempt(&update, &[&seq, &String::from_utf8(t).unwrap()]);
                }),
                Value::Blob(b) => (0..b.len()).for_each(|i| {
                    let mut b = b.clone();
                    b[i] ^= 1;
                    attempt(&update, &[&seq, &b]);
                }),
                Value::Real(_) => unreachable!(),
            }
        }
        attempt("DELETE FROM audit WHERE seq = ?1", &[&seq]);
    }
    // Revisions are covered too.
    for sql in [
        "UPDATE revision SET who = 'eve' WHERE id = 1",
        "UPDATE revision SET summary = 'harmless' WHERE id = 1",
        "UPDATE revision SET at = at + 1 WHERE id = 2",
        "UPDATE revision SET drained = '[\"a/b\"]' WHERE id = 1",
        "UPDATE revision SET state = 'interrupted' WHERE id = 2",
        "UPDATE revision SET reason = 'other' WHERE id = 2",
        "DELETE FROM revision WHERE id = 2",
        "INSERT INTO revision SELECT 3, base, at, who, why, kind, summary, state, reason, source_set, drained, assignments,
           restored, 0 FROM revision WHERE id = 2",
    ] {
        attempt(sql, &[]);
    }
    assert!(tried > 300, "{tried}");
    assert_eq!(s.verify().unwrap(), good);
}

/// A forger who makes the hash of the changed record fit must still change every later one.
#[test]
fn a_forged_record_with_a_fitting_hash_breaks_the_chain() {
    let h = Temp::new();
    let mut s = h.open();
    for at in 1..4 {
        let _ = s.record(&Note { at, who: "bob", action: "key-import", detail: "k" }).unwrap();
    }
    let before = s.verify().unwrap().head;
    let hash = |seq: u64| -> audit::Hash {
        s.db.query_row("SELECT hash FROM audit WHERE seq = ?1", [seq], |r| r.get(0)).unwrap()
    };
    let forged = audit::Entry { at: 2, who: "eve", action: "key-import", rev: None, detail: "k" };
    let fitting = audit::chain(&hash(1), 2, forged);
    s.db.execute_batch("DROP TRIGGER audit_keeps; DROP TRIGGER audit_stays").unwrap();
    let _ = s.db.execute("UPDATE audit SET who = 'eve', hash = ?1 WHERE seq = 2", [fitting]).unwrap();
    let e = s.verify().unwrap_err().to_string();
    assert!(e.contains("record 3"), "{e}");
    // Without the later record it fits again: the head that was kept elsewhere tells.
    let _ = s.db.execute("DELETE FROM audit WHERE seq = 3", []).unwrap();
    assert_ne!(s.verify().unwrap().head, before);
}

/// kill -9 between `begin` and `activate`: the record is durable, the edit is not in force.
#[test]
fn killed_after_begin_is_pending_after_reopen() {
    let h = Temp::new();
    let mut s = h.open();
    let rev = s.begin(&Draft { lists: load(Op::Add, ids(0..10)), ..draft(None) }).unwrap();
    s.activate(rev, 2).unwrap();
    drop((s, h.dir));
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::sqlite::tests::child_that_dies_after_begin", "--ignored"])
        .env("GRAY_TEST_DIR", h.tmp.path())
        .status()
        .unwrap();
    assert_eq!(status.signal(), Some(libc::SIGKILL), "{status}");
    let dir = StateDir::open(h.tmp.path()).unwrap();
    let mut s = Sqlite::open(&dir).unwrap();
    assert_eq!(s.pending().unwrap().map(|r| r.id), Some(2));
    assert_eq!(s.overlay_info(1, "big").unwrap().added, 10);
    assert_eq!(s.overlay_info(2, "big").unwrap().added, 2000);
    assert_eq!(s.verify().unwrap().records, 3);
    s.interrupt(2, 3, "agent died").unwrap();
    assert_eq!(s.overlay_info(2, "big").unwrap().added, 10);
    assert_eq!(s.db.query_row("SELECT count(*) FROM list_past", [], |r| r.get::<_, u64>(0)).unwrap(), 0);
    let _ = s.verify().unwrap();
}

#[test]
#[ignore = "the child of killed_after_begin_is_pending_after_reopen"]
fn child_that_dies_after_begin() {
    let Ok(path) = std::env::var("GRAY_TEST_DIR") else { return };
    let dir = StateDir::open(std::path::Path::new(&path)).unwrap();
    let mut s = Sqlite::open(&dir).unwrap();
    let _ = s.begin(&Draft { lists: load(Op::Replace, ids(5..2005)), ..draft(Some(1)) }).unwrap();
    let _ = Command::new("kill").args(["-9", &std::process::id().to_string()]).status().unwrap();
    std::thread::sleep(Duration::from_secs(30));
}

/// B1: a million ids in one edit, durable in at most 3 s; read back as a stream.
#[test]
fn a_million_ids_in_one_edit() {
    let h = Temp::new();
    let mut s = h.open();
    let mut timed = |what: &str, op, range, base: Option<u64>| {
        let d = Draft { lists: load(op, ids(range)), ..draft(base) };
        let start = Instant::now();
        let rev = s.begin(&d).unwrap();
        s.activate(rev, 2).unwrap();
        let took = start.elapsed();
        println!("{what}: {took:?}");
        // Unoptimised on a busy machine takes several times as long; this much would mean a lost index.
        let most = Duration::from_secs(if cfg!(debug_assertions) { 60 } else { 3 });
        assert!(took < most, "{what}: {took:?}");
    };
    timed("load of a million", Op::Replace, 0..1_000_000, None);
    timed("one more", Op::Add, 1_000_000..1_000_001, Some(1));
    timed("and another", Op::Add, 1_000_001..1_000_002, Some(2));
    timed("the same million but one", Op::Replace, 0..999_999, Some(3));
    let start = Instant::now();
    assert_eq!(s.overlay_info(2, "big").unwrap().added, 1_000_001);
    println!("counted: {:?}", start.elapsed());
    let start = Instant::now();
    let mut seen = 0;
    s.overlay(4, "big", &mut |_, _| {
        seen += 1;
        ControlFlow::Continue(())
    })
    .unwrap();
    println!("streamed: {:?}, {} MB", start.elapsed(), fs::metadata(&s.path).unwrap().len() >> 20);
    assert_eq!(seen, 999_999);
    let wal = fs::metadata(h.tmp.path().join("gray.db-wal")).unwrap().len();
    assert!(wal <= 16 << 20, "the write-ahead log was cut back: {wal}");
}

#[test]
fn workloads_are_kept_and_audited() {
    let h = Temp::new();
    let mut s = h.open();
    let web = Workload {
        name: "web".into(),
        kind: WorkloadKind::Unit,
        target: "nginx.service".into(),
        lane: None,
        link: None,
    };
    s.set_workload(&web, 1, "ada").unwrap();
    let batch = Workload {
        name: "batch".into(),
        kind: WorkloadKind::Pid,
        target: "7".into(),
        lane: Some("gray-2.0".into()),
        link: Some(Link::RunToCompletion),
    };
    s.set_workload(&batch, 2, "ada").unwrap();
    let moved = Workload { target: "web.service".into(), ..web };
    s.set_workload(&moved, 3, "bob").unwrap();
    drop(s);
    let mut s = h.open();
    assert_eq!(s.workloads().unwrap(), [batch, moved.clone()]);
    assert!(s.remove_workload("batch", 4, "bob").unwrap());
    assert!(!s.remove_workload("batch", 5, "bob").unwrap());
    assert_eq!(s.workloads().unwrap(), [moved]);
    let actions: Vec<_> = s.audit(9, None).unwrap().into_iter().map(|r| r.action).collect();
    assert_eq!(actions, ["workload-remove", "workload-set", "workload-set", "workload-set"]);
    let _ = s.verify().unwrap();
}
