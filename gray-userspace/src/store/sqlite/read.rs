//! Reading revisions and their texts. Writes nothing.

use rusqlite::{Connection, OptionalExtension, Row};
use sha2::{Digest, Sha256};

use super::{Error, Fail, Inner, Revision, Source, State, audit};
use crate::store::{EditSummary, SourceRef};

const COLUMNS: &str =
    "id, base, at, who, why, kind, summary, state, reason, source_set, drained, restored, dropped";

/// With all that it holds.
pub(super) fn exists(db: &Connection, rev: u64) -> Inner<()> {
    let mut stmt = db.prepare_cached("SELECT dropped FROM revision WHERE id = ?1")?;
    match stmt.query_row([rev], |r| r.get::<_, bool>(0)).optional()? {
        Some(false) => Ok(()),
        Some(true) => Err(Error::Dropped { rev }.into()),
        None => Err(Error::NoRevision { rev }.into()),
    }
}

pub(super) fn revision(db: &Connection, rev: u64) -> Inner<Revision> {
    let sql = format!("SELECT {COLUMNS} FROM revision WHERE id = ?1");
    let found = db.prepare_cached(&sql)?.query_row([rev], Raw::read).optional()?;
    found.ok_or(Error::NoRevision { rev })?.complete(db)
}

/// `state` must be one that at most one revision has.
pub(super) fn in_state(db: &Connection, state: &str) -> Inner<Option<Revision>> {
    let sql = format!("SELECT {COLUMNS} FROM revision WHERE state = ?1");
    let found = db.prepare_cached(&sql)?.query_row([state], Raw::read).optional()?;
    found.map(|raw| raw.complete(db)).transpose()
}

pub(super) fn history(db: &Connection, limit: usize, before: Option<u64>) -> Inner<Vec<Revision>> {
    let sql = format!("SELECT {COLUMNS} FROM revision WHERE ?1 IS NULL OR id < ?1 ORDER BY id DESC LIMIT ?2");
    let mut stmt = db.prepare_cached(&sql)?;
    let raws: Vec<Raw> =
        stmt.query_map((before, limit.min(i64::MAX as usize)), Raw::read)?.collect::<Result<_, _>>()?;
    raws.into_iter().map(|raw| raw.complete(db)).collect()
}

pub(super) fn sources(db: &Connection, rev: u64) -> Inner<Vec<Source>> {
    exists(db, rev)?;
    let mut stmt = db.prepare_cached(
        "SELECT s.name, b.sha256, b.text FROM revision r JOIN source s ON s.set_id = r.source_set
         JOIN blob b ON b.id = s.blob WHERE r.id = ?1 ORDER BY s.pos",
    )?;
    let rows = stmt.query_map([rev], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))?;
    rows.map(|row| {
        let (name, sha256, text) = row?;
        Ok(Source { text: intact(sha256, text)?, name })
    })
    .collect()
}

pub(super) fn assignments(db: &Connection, rev: u64) -> Inner<Option<String>> {
    exists(db, rev)?;
    let found = db
        .query_row(
            "SELECT b.sha256, b.text FROM revision r JOIN blob b ON b.id = r.assignments WHERE r.id = ?1",
            [rev],
            |r| Ok((r.get(0)?, r.get(1)?)),
        )
        .optional()?;
    found.map(|(sha256, text)| intact(sha256, text)).transpose()
}

/// A text is its hash: a flipped bit on the disk does not become a policy.
pub(super) fn intact(sha256: audit::Hash, text: String) -> Inner<String> {
    if <audit::Hash>::from(Sha256::digest(&text)) == sha256 {
        return Ok(text);
    }
    Err(Fail::Damaged(format!("a stored text does not match its SHA-256 {}", audit::hex(&sha256))))
}

/// A row of `revision` as it stands in the table.
struct Raw {
    revision: Revision,
    kind: String,
    state: String,
    reason: String,
    set: u64,
    drained: String,
}

impl Raw {
    fn read(r: &Row<'_>) -> rusqlite::Result<Self> {
        let revision = Revision {
            id: r.get(0)?,
            base: r.get(1)?,
            at: r.get(2)?,
            who: r.get(3)?,
            why: r.get(4)?,
            kind: crate::store::Kind::Apply,
            summary: r.get(6)?,
            state: State::Pending,
            drained: Default::default(),
            sources: Vec::new(),
            lists: Vec::new(),
            restore_lists_of: r.get(11)?,
            dropped: r.get(12)?,
        };
        Ok(Self {
            revision,
            kind: r.get(5)?,
            state: r.get(7)?,
            reason: r.get(8)?,
            set: r.get(9)?,
            drained: r.get(10)?,
        })
    }

    fn complete(self, db: &Connection) -> Inner<Revision> {
        let Self { mut revision, kind, state, reason, set, drained } = self;
        let damaged = |what: &str| Fail::Damaged(format!("revision {}: bad {what}", revision.id));
        revision.kind = kind.parse().map_err(|()| damaged("kind"))?;
        revision.drained = serde_json::from_str(&drained).map_err(|_| damaged("drained set"))?;
        revision.state = match state.as_str() {
            "pending" => State::Pending,
            "active" => State::Active,
            "superseded" => State::Superseded,
            "failed" => State::Failed { reason },
            "interrupted" => State::Interrupted { reason },
            _ => return Err(damaged("state")),
        };
        revision.sources = source_refs(db, set)?;
        revision.lists = edits(db, revision.id)?;
        Ok(revision)
    }
}

fn source_refs(db: &Connection, set: u64) -> Inner<Vec<SourceRef>> {
    let mut stmt = db.prepare_cached(
        "SELECT s.name, b.sha256, octet_length(b.text) FROM source s JOIN blob b ON b.id = s.blob
         WHERE s.set_id = ?1 ORDER BY s.pos",
    )?;
    let rows = stmt.query_map([set], |r| {
        Ok(SourceRef { name: r.get(0)?, sha256: audit::hex(&r.get::<_, audit::Hash>(1)?), bytes: r.get(2)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn edits(db: &Connection, rev: u64) -> Inner<Vec<EditSummary>> {
    let mut stmt = db.prepare_cached("SELECT cohort, op, ids FROM list_edit WHERE rev = ?1 ORDER BY pos")?;
    let rows = stmt.query_map([rev], |r| Ok((r.get(0)?, r.get::<_, String>(1)?, r.get(2)?)))?;
    rows.map(|row| {
        let (cohort, op, ids) = row?;
        let op = op.parse().map_err(|()| Fail::Damaged(format!("revision {rev}: bad list edit")))?;
        Ok(EditSummary { cohort, op, ids })
    })
    .collect()
}
