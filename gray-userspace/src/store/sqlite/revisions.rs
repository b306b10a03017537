//! The life of a revision: pending, then settled. Every step writes its audit record in the same transaction.

use rusqlite::{Connection, OptionalExtension};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{
    Draft, Error, Inner, Source, State,
    audit::{self, Entry},
    lists, read, verify,
};

pub(super) fn begin(db: &Connection, d: &Draft) -> Inner<u64> {
    let id = next(db, d)?;
    let (set, drained, assignments) = content(db, d)?;
    let _ = db.execute(
        "INSERT INTO revision (id, base, at, who, why, kind, summary, state, source_set, drained, assignments, restored)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'pending', ?8, ?9, ?10, ?11)",
        rusqlite::params![
            id, d.base, d.at, d.who, d.why, d.kind.name(), d.summary, set, drained, assignments, d.restore_lists_of
        ],
    )?;
    if let Some(target) = d.restore_lists_of {
        lists::restore(db, id, target)?;
    }
    for (pos, edit) in d.lists.iter().enumerate() {
        let (ids, sha256) = lists::edit(db, id, edit)?;
        let _ = db.execute(
            "INSERT INTO list_edit (rev, pos, cohort, op, ids, sha256) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            (id, pos, &edit.cohort, edit.op.name(), ids, sha256),
        )?;
    }
    let digest = verify::revision_digest(db, id)?;
    let detail = json!({ "kind": d.kind, "summary": d.summary, "why": d.why, "digest": audit::hex(&digest) })
        .to_string();
    let _ =
        audit::append(db, Entry { at: d.at, who: &d.who, action: "begin", rev: Some(id), detail: &detail })?;
    Ok(id)
}

/// Refuses what would not extend the chain; the next id.
fn next(db: &Connection, d: &Draft) -> Inner<u64> {
    let at = |state| {
        db.query_row("SELECT id FROM revision WHERE state = ?1", [state], |r| r.get::<_, u64>(0)).optional()
    };
    if let Some(rev) = at("pending")? {
        return Err(Error::Pending { rev }.into());
    }
    let active = at("active")?;
    if d.base != active {
        return Err(Error::Conflict { base: d.base, active }.into());
    }
    if let Some(target) = d.restore_lists_of {
        let found = read::revision(db, target)?;
        let state = found.state;
        if !state.took_effect() {
            return Err(Error::NeverActive { rev: target, state: state.name() }.into());
        }
        if found.dropped {
            return Err(Error::Dropped { rev: target }.into());
        }
    }
    Ok(db.query_row("SELECT coalesce(max(id), 0) + 1 FROM revision", [], |r| r.get(0))?)
}

/// Source set, drained set and assignments of the draft: its own, else its base's.
fn content(db: &Connection, d: &Draft) -> Inner<(u64, String, Option<u64>)> {
    let inherited = match d.base {
        None => (0, "[]".to_owned(), None),
        Some(base) => db.query_row(
            "SELECT source_set, drained, assignments FROM revision WHERE id = ?1",
            [base],
            |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)),
        )?,
    };
    let set = match &d.sources {
        Some(sources) => put_sources(db, sources)?,
        None => inherited.0,
    };
    let drained = match &d.drained {
        Some(drained) => json!(drained).to_string(),
        None => inherited.1,
    };
    let assignments = match &d.assignments {
        Some(text) => Some(put_blob(db, text)?),
        None => inherited.2,
    };
    Ok((set, drained, assignments))
}

/// Set 0 is the empty one and has no rows.
fn put_sources(db: &Connection, sources: &[Source]) -> Inner<u64> {
    if sources.is_empty() {
        return Ok(0);
    }
    let set: u64 = db.query_row("SELECT coalesce(max(set_id), 0) + 1 FROM source", [], |r| r.get(0))?;
    for (pos, source) in sources.iter().enumerate() {
        let blob = put_blob(db, &source.text)?;
        let _ = db.execute(
            "INSERT INTO source (set_id, pos, name, blob) VALUES (?1, ?2, ?3, ?4)",
            (set, pos, &source.name, blob),
        )?;
    }
    Ok(set)
}

fn put_blob(db: &Connection, text: &str) -> Inner<u64> {
    let sha256: audit::Hash = Sha256::digest(text).into();
    let _ = db.execute("INSERT OR IGNORE INTO blob (sha256, text) VALUES (?1, ?2)", (sha256, text))?;
    Ok(db.query_row("SELECT id FROM blob WHERE sha256 = ?1", [sha256], |r| r.get(0))?)
}

pub(super) fn activate(db: &Connection, rev: u64, at: u64) -> Inner<()> {
    let who = pending(db, rev)?;
    let _ = audit::append(db, Entry { at, who: &who, action: "activate", rev: Some(rev), detail: "{}" })?;
    let _ = db.execute("UPDATE revision SET state = 'superseded' WHERE state = 'active'", [])?;
    let _ = db.execute("UPDATE revision SET state = 'active' WHERE id = ?1", [rev])?;
    Ok(())
}

/// Settles `rev` as failed or interrupted, without its list edits.
pub(super) fn undo(db: &Connection, rev: u64, at: u64, end: &State) -> Inner<()> {
    let (action, reason) = match end {
        State::Failed { reason } => ("fail", reason),
        State::Interrupted { reason } => ("interrupt", reason),
        _ => return Err(Error::invalid("a revision is undone by failing or by an interruption").into()),
    };
    let who = pending(db, rev)?;
    let detail = json!({ "reason": reason }).to_string();
    let _ = audit::append(db, Entry { at, who: &who, action, rev: Some(rev), detail: &detail })?;
    let _ =
        db.execute("UPDATE revision SET state = ?2, reason = ?3 WHERE id = ?1", (rev, end.name(), reason))?;
    lists::undo(db, rev)
}

/// Who began it.
fn pending(db: &Connection, rev: u64) -> Inner<String> {
    let found = read::revision(db, rev)?;
    match found.state {
        State::Pending => Ok(found.who),
        state => Err(Error::NotPending { rev, state: state.name() }.into()),
    }
}
