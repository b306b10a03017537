//! What goes of old revisions: first the word that they are gone, then what nobody refers to any more, piece by piece. Each piece is a
//! transaction of its own that holds nobody up, and whoever dies between two finds the rest by looking again.
//!
//! The row of a dropped revision stays, as its records in the audit log do: who, when, why. Its document, assignments and lists go. Pages that
//! become free are used again; the file does not shrink.

use rusqlite::Connection;
use serde_json::json;

use super::{
    Inner,
    audit::{self, Entry},
    verify,
};

/// Of one piece: revisions that are dropped, rows that are looked at, bytes that go.
const MANY: usize = if cfg!(test) { 2 } else { 1000 };
const ROWS: usize = if cfg!(test) { 3 } else { 2000 };
const BYTES: u64 = if cfg!(test) { 8 } else { 1 << 20 };

/// What is kept whatever its age: the newest so many, and what was in force at these times (unix milliseconds). What is in force, and what was
/// before it, stays as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    pub newest: u64,
    pub at: Vec<u64>,
}

impl Retention {
    /// So many more may wait until they go together: the audit log has one record for them.
    fn slack(&self) -> u64 {
        self.newest / 16
    }
}

/// Where the search for what nobody refers to is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sweep {
    Sets(u64),
    Blobs(i64),
    Past(i64, String, u64),
    Wholes,
    Blocks(i64),
    Done,
}

impl Sweep {
    pub fn anew() -> Self {
        Self::Sets(0)
    }
}

/// What goes in one transaction.
#[derive(Debug)]
pub(super) enum Piece {
    /// Nothing: it was only looked at.
    Nothing,
    Revisions(Vec<u64>),
    Sets(Vec<u64>),
    Blobs(Vec<i64>),
    Past(Vec<(i64, String, u64)>),
    Wholes(Vec<(i64, u64)>),
    /// By row.
    Blocks(Vec<i64>),
}

/// Revisions that are to be dropped now, the oldest first; none: they wait for more.
pub(super) fn old(db: &Connection, keep: &Retention) -> Inner<Vec<u64>> {
    let newest: u64 = db.query_row("SELECT coalesce(max(id), 0) FROM revision", [], |r| r.get(0))?;
    let first = newest.saturating_sub(keep.newest.max(1)) + 1;
    if first <= 1 {
        return Ok(Vec::new());
    }
    let mut pinned: Vec<Option<u64>> = Vec::new();
    pinned.push(db.query_row(
        "SELECT max(id) FROM revision WHERE state = 'superseded' AND dropped = 0",
        [],
        |r| r.get(0),
    )?);
    let mut then = db.prepare_cached(
        "SELECT max(id) FROM revision WHERE state IN ('active', 'superseded') AND dropped = 0 AND at <= ?1",
    )?;
    for at in &keep.at {
        pinned.push(then.query_row([at.min(&i64::MAX.unsigned_abs())], |r| r.get(0))?);
    }
    let mut stmt = db.prepare_cached(
        "SELECT id FROM revision WHERE dropped = 0 AND id < ?1 AND state NOT IN ('active', 'pending') ORDER BY id",
    )?;
    let ids: Vec<u64> = stmt.query_map([first], |r| r.get(0))?.collect::<Result<_, _>>()?;
    let mut old: Vec<u64> = ids.into_iter().filter(|id| !pinned.contains(&Some(*id))).collect();
    if old.len() as u64 <= keep.slack() {
        old.clear();
    }
    old.truncate(MANY);
    Ok(old)
}

/// The next piece that nobody refers to, and where the search goes on behind it.
pub(super) fn next(db: &Connection, from: &Sweep) -> Inner<(Piece, Sweep)> {
    match from {
        Sweep::Sets(after) => sets(db, *after),
        Sweep::Blobs(after) => blobs(db, *after),
        Sweep::Past(cohort, member, since) => past(db, (*cohort, member, *since)),
        Sweep::Wholes => wholes(db),
        Sweep::Blocks(after) => blocks(db, *after),
        Sweep::Done => Ok((Piece::Nothing, Sweep::Done)),
    }
}

fn sets(db: &Connection, mut after: u64) -> Inner<(Piece, Sweep)> {
    let mut find = db.prepare_cached("SELECT min(set_id) FROM source WHERE set_id > ?1")?;
    let mut used = db.prepare_cached("SELECT 1 FROM revision WHERE source_set = ?1")?;
    let mut count = db.prepare_cached("SELECT count(*) FROM source WHERE set_id = ?1")?;
    let (mut gone, mut rows) = (Vec::new(), 0);
    while rows < ROWS {
        let Some(set) = find.query_row([after], |r| r.get::<_, Option<u64>>(0))? else {
            return Ok((Piece::Sets(gone), Sweep::Blobs(0)));
        };
        after = set;
        rows += 1;
        if !used.exists([set])? {
            rows += count.query_row([set], |r| r.get::<_, usize>(0))?;
            gone.push(set);
        }
    }
    Ok((Piece::Sets(gone), Sweep::Sets(after)))
}

fn blobs(db: &Connection, mut after: i64) -> Inner<(Piece, Sweep)> {
    let mut find = db.prepare_cached(
        "SELECT id, octet_length(text), EXISTS (SELECT 1 FROM source WHERE blob = b.id)
           OR EXISTS (SELECT 1 FROM revision WHERE assignments = b.id)
         FROM blob b WHERE id > ?1 ORDER BY id LIMIT ?2",
    )?;
    let mut rows = find.query((after, ROWS))?;
    let (mut gone, mut bytes, mut seen) = (Vec::new(), 0u64, 0);
    while bytes < BYTES
        && let Some(row) = rows.next()?
    {
        let (id, size, used): (i64, u64, bool) = (row.get(0)?, row.get(1)?, row.get(2)?);
        (after, seen) = (id, seen + 1);
        if !used {
            bytes += size;
            gone.push(id);
        }
    }
    let next = if seen < ROWS && bytes < BYTES {
        Sweep::Past(i64::MIN, String::new(), 0)
    } else {
        Sweep::Blobs(after)
    };
    Ok((Piece::Blobs(gone), next))
}

/// The revisions that are kept, in order.
fn kept(db: &Connection) -> Inner<Vec<u64>> {
    let mut stmt = db.prepare_cached("SELECT id FROM revision WHERE dropped = 0 ORDER BY id")?;
    Ok(stmt.query_map([], |r| r.get(0))?.collect::<Result<_, _>>()?)
}

/// Whether one of them is in the interval.
fn any_in(kept: &[u64], since: u64, until: u64) -> bool {
    kept.get(kept.partition_point(|id| *id < since)).is_some_and(|id| *id < until)
}

fn past(db: &Connection, (cohort, member, since): (i64, &str, u64)) -> Inner<(Piece, Sweep)> {
    let kept = kept(db)?;
    let mut find = db.prepare_cached(
        "SELECT cohort, member, since, until FROM list_past WHERE (cohort, member, since) > (?1, ?2, ?3)
         ORDER BY cohort, member, since LIMIT ?4",
    )?;
    let mut rows = find.query((cohort, member, since, ROWS))?;
    let (mut gone, mut last, mut seen) = (Vec::new(), None, 0);
    while let Some(row) = rows.next()? {
        let at: (i64, String, u64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        seen += 1;
        last = Some(at.clone());
        if !any_in(&kept, at.2, row.get(3)?) {
            gone.push(at);
        }
    }
    let next = match last.filter(|_| seen == ROWS) {
        Some((cohort, member, since)) => Sweep::Past(cohort, member, since),
        None => Sweep::Wholes,
    };
    Ok((Piece::Past(gone), next))
}

fn wholes(db: &Connection) -> Inner<(Piece, Sweep)> {
    let kept = kept(db)?;
    let mut find =
        db.prepare_cached("SELECT cohort, since, until FROM list_whole WHERE until IS NOT NULL")?;
    let mut rows = find.query([])?;
    let mut gone = Vec::new();
    while let Some(row) = rows.next()? {
        let (cohort, since): (i64, u64) = (row.get(0)?, row.get(1)?);
        if !any_in(&kept, since, row.get(2)?) {
            gone.push((cohort, since));
        }
    }
    Ok((Piece::Wholes(gone), Sweep::Blocks(i64::MIN)))
}

/// Of one list at a time.
fn blocks(db: &Connection, mut after: i64) -> Inner<(Piece, Sweep)> {
    let mut find = db.prepare_cached("SELECT min(list) FROM list_block WHERE list > ?1")?;
    let mut used = db.prepare_cached("SELECT 1 FROM list_whole WHERE list = ?1")?;
    let mut of = db.prepare_cached("SELECT rowid, octet_length(ids) FROM list_block WHERE list = ?1")?;
    for _ in 0..ROWS {
        let Some(list) = find.query_row([after], |r| r.get::<_, Option<i64>>(0))? else {
            return Ok((Piece::Nothing, Sweep::Done));
        };
        if used.exists([list])? {
            after = list;
            continue;
        }
        let (mut gone, mut bytes) = (Vec::new(), 0u64);
        let mut rows = of.query([list])?;
        while bytes < BYTES
            && let Some(row) = rows.next()?
        {
            gone.push(row.get(0)?);
            bytes += row.get::<_, u64>(1)?;
        }
        // The same list again, until nothing of it is left.
        return Ok((Piece::Blocks(gone), Sweep::Blocks(after)));
    }
    Ok((Piece::Nothing, Sweep::Blocks(after)))
}

impl Piece {
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Revisions(r) | Self::Sets(r) => r.is_empty(),
            Self::Blobs(b) | Self::Blocks(b) => b.is_empty(),
            Self::Past(p) => p.is_empty(),
            Self::Wholes(w) => w.is_empty(),
        }
    }

    pub fn remove(&self, db: &Connection, at: u64) -> Inner<()> {
        match self {
            Self::Nothing => {}
            Self::Revisions(ids) => drop_revisions(db, ids, at)?,
            Self::Sets(sets) => each(db, "DELETE FROM source WHERE set_id = ?1", sets.iter().map(|s| [s]))?,
            Self::Blobs(ids) => each(db, "DELETE FROM blob WHERE id = ?1", ids.iter().map(|id| [id]))?,
            Self::Past(rows) => {
                let sql = "DELETE FROM list_past WHERE cohort = ?1 AND member = ?2 AND since = ?3";
                each(db, sql, rows.iter().map(|(c, m, s)| (c, m, s)))?;
            }
            Self::Wholes(rows) => {
                let sql = "DELETE FROM list_whole WHERE cohort = ?1 AND since = ?2";
                each(db, sql, rows.iter().map(|(c, s)| (c, s)))?;
            }
            Self::Blocks(rows) => {
                each(db, "DELETE FROM list_block WHERE rowid = ?1", rows.iter().map(|r| [r]))?
            }
        }
        Ok(())
    }
}

fn each<P: rusqlite::Params>(db: &Connection, sql: &str, all: impl Iterator<Item = P>) -> Inner<()> {
    let mut stmt = db.prepare_cached(sql)?;
    for one in all {
        let _ = stmt.execute(one)?;
    }
    Ok(())
}

/// The record holds what is left of them together.
fn drop_revisions(db: &Connection, ids: &[u64], at: u64) -> Inner<()> {
    let sql =
        "UPDATE revision SET dropped = 1, source_set = 0, assignments = NULL, drained = '[]' WHERE id = ?1";
    each(db, sql, ids.iter().map(|id| [id]))?;
    each(db, "DELETE FROM list_edit WHERE rev = ?1", ids.iter().map(|id| [id]))?;
    let digest = verify::dropped_digest(db, ids.iter().copied())?;
    let detail = json!({ "revisions": ranges(ids), "digest": audit::hex(&digest) }).to_string();
    let _ = audit::append(db, Entry { at, who: "gray", action: audit::DROP, rev: None, detail: &detail })?;
    Ok(())
}

/// First and last of each run of numbers; `ids` in order.
fn ranges(ids: &[u64]) -> Vec<(u64, u64)> {
    let mut out: Vec<(u64, u64)> = Vec::new();
    for id in ids {
        match out.last_mut() {
            Some((_, last)) if *last + 1 == *id => *last = *id,
            _ => out.push((*id, *id)),
        }
    }
    out
}

#[cfg(test)]
mod tests;
