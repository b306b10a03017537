//! The tables and their versions. A released step is never edited: a change is a new step at the end.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::{Error, Inner};

/// "gray" in ASCII: tells our file from any other SQLite file.
const APPLICATION: u32 = 0x6772_6179;

/// Step n takes version n to n + 1.
pub(super) const STEPS: &[&str] = &[V1, V2, V3, V4, V5, V6];

const V1: &str = "
-- Texts by content: a revision that changes no document stores none.
CREATE TABLE blob (
  id     INTEGER PRIMARY KEY,
  sha256 BLOB NOT NULL UNIQUE CHECK (length(sha256) = 32),
  text   TEXT NOT NULL
) STRICT;
-- The documents of a policy in order; revisions share a set.
CREATE TABLE source (
  set_id INTEGER NOT NULL,
  pos    INTEGER NOT NULL,
  name   TEXT NOT NULL,
  blob   INTEGER NOT NULL REFERENCES blob (id),
  PRIMARY KEY (set_id, pos)
) STRICT, WITHOUT ROWID;
CREATE TABLE revision (
  id          INTEGER PRIMARY KEY,
  base        INTEGER REFERENCES revision (id),
  at          INTEGER NOT NULL,
  who         TEXT NOT NULL,
  why         TEXT NOT NULL,
  kind        TEXT NOT NULL,
  summary     TEXT NOT NULL,
  state       TEXT NOT NULL CHECK (state IN ('pending', 'active', 'superseded', 'failed', 'interrupted')),
  reason      TEXT NOT NULL DEFAULT '',
  source_set  INTEGER NOT NULL,
  drained     TEXT NOT NULL,
  assignments INTEGER REFERENCES blob (id),
  restored    INTEGER REFERENCES revision (id)
) STRICT;
CREATE UNIQUE INDEX one_active  ON revision (state) WHERE state = 'active';
CREATE UNIQUE INDEX one_pending ON revision (state) WHERE state = 'pending';
-- What a revision did to lists, without the ids.
CREATE TABLE list_edit (
  rev    INTEGER NOT NULL REFERENCES revision (id),
  pos    INTEGER NOT NULL,
  cohort TEXT NOT NULL,
  op     TEXT NOT NULL,
  ids    INTEGER NOT NULL,
  sha256 BLOB NOT NULL,
  PRIMARY KEY (rev, pos)
) STRICT, WITHOUT ROWID;
CREATE TABLE cohort (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
-- kind: 0 removed, 1 added, 2 the document's own ids do not count (then member is '').
-- list_now is true from revision `since` on; list_past was true for since <= revision < until.
CREATE TABLE list_now (
  cohort INTEGER NOT NULL,
  member TEXT NOT NULL,
  kind   INTEGER NOT NULL,
  since  INTEGER NOT NULL,
  PRIMARY KEY (cohort, member)
) STRICT, WITHOUT ROWID;
CREATE TABLE list_past (
  cohort INTEGER NOT NULL,
  member TEXT NOT NULL,
  since  INTEGER NOT NULL,
  kind   INTEGER NOT NULL,
  until  INTEGER NOT NULL,
  PRIMARY KEY (cohort, member, since)
) STRICT, WITHOUT ROWID;
CREATE TABLE audit (
  seq    INTEGER PRIMARY KEY,
  at     INTEGER NOT NULL,
  who    TEXT NOT NULL,
  action TEXT NOT NULL,
  rev    INTEGER,
  detail TEXT NOT NULL,
  hash   BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;
CREATE TRIGGER audit_keeps BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_stays BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TABLE workload (name TEXT PRIMARY KEY, kind TEXT NOT NULL, target TEXT NOT NULL) STRICT, WITHOUT ROWID;
";

const V2: &str = "
-- A list that replaced all of a cohort's ids at once, as sorted blocks: ids with line breaks between, `first` the first.
CREATE TABLE list_block (
  list  INTEGER NOT NULL,
  first TEXT NOT NULL,
  ids   TEXT NOT NULL,
  PRIMARY KEY (list, first)
) STRICT;
-- In effect for since <= revision, and < until if that is given. Rows of list_now and list_past lie over it: of its own ids
-- only the removed ones (kind 0) have one.
CREATE TABLE list_whole (
  cohort INTEGER NOT NULL,
  since  INTEGER NOT NULL,
  until  INTEGER,
  list   INTEGER NOT NULL,
  ids    INTEGER NOT NULL,
  PRIMARY KEY (cohort, since)
) STRICT, WITHOUT ROWID;
";

const V3: &str = "
-- The lane that a workload's calls are in.
ALTER TABLE workload ADD COLUMN lane TEXT;
";

const V4: &str = "
-- Releases: the document as it was given, and where the machine is. One run of a name is open at a time.
CREATE TABLE release (
  name     TEXT PRIMARY KEY,
  run      INTEGER NOT NULL,
  at       INTEGER NOT NULL,
  who      TEXT NOT NULL,
  document TEXT NOT NULL,
  state    TEXT NOT NULL
) STRICT, WITHOUT ROWID;
-- What happened to them, of every run.
CREATE TABLE release_log (
  name  TEXT NOT NULL,
  seq   INTEGER NOT NULL,
  run   INTEGER NOT NULL,
  at    INTEGER NOT NULL,
  entry TEXT NOT NULL,
  PRIMARY KEY (name, seq)
) STRICT, WITHOUT ROWID;
";

const V5: &str = "
-- How what a workload calls gets the lane of the request that it serves.
ALTER TABLE workload ADD COLUMN link TEXT;
";

const V6: &str = "
-- Of a dropped revision only this row is left, and its records in the audit log.
ALTER TABLE revision ADD COLUMN dropped INTEGER NOT NULL DEFAULT 0;
CREATE INDEX revision_kept ON revision (id) WHERE dropped = 0;
-- Who refers to what may go.
CREATE INDEX revision_set ON revision (source_set);
CREATE INDEX revision_assignments ON revision (assignments);
CREATE INDEX source_blob ON source (blob);
";

/// Sets durability, then brings the schema up to date, one step per transaction.
pub(super) fn prepare(db: &mut Connection, path: &Path) -> Inner<()> {
    let found: u32 = db.pragma_query_value(None, "user_version", |r| r.get(0))?;
    let application: u32 = db.pragma_query_value(None, "application_id", |r| r.get(0))?;
    let tables: u64 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0))?;
    let known = STEPS.len() as u32; // a handful
    if application != APPLICATION && (application != 0 || found != 0 || tables != 0) {
        return Err(Error::Foreign { path: path.to_owned(), found: application }.into());
    }
    if found > known {
        return Err(Error::Newer { path: path.to_owned(), found, known }.into());
    }
    // FULL: in WAL a commit is synced, so a power loss takes back nothing that was answered. What is in the log moves to
    // the file when the store says so: never between a revision's commit and its effect.
    db.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
         PRAGMA journal_size_limit = 16777216; PRAGMA wal_autocheckpoint = 0; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;",
    )?;
    for (version, step) in STEPS.iter().enumerate().skip(found as usize) {
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        tx.execute_batch(step)?;
        tx.pragma_update(None, "application_id", APPLICATION)?;
        tx.pragma_update(None, "user_version", version as u32 + 1)?;
        tx.commit()?;
    }
    Ok(())
}
