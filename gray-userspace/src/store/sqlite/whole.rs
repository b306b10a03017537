//! Whole lists, kept as sorted blocks: a list that replaces all of a cohort's ids costs a row per some hundred of them. The
//! rows of `list_now` and `list_past` lie over it, and it is in effect over an interval of revisions as they are.

use rusqlite::{CachedStatement, Connection, OptionalExtension, Row};

use super::Inner;

/// From so many ids on a replacement is kept whole.
pub(super) const LARGE: usize = if cfg!(test) { 3 } else { 4096 };
/// Bytes of a block, about.
const BLOCK: usize = if cfg!(test) { 4 } else { 16_384 };
/// Between the ids of a block; no id has one.
pub(super) const BREAK: char = '\n';

/// A list in effect.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whole {
    since: u64,
    list: i64,
    pub ids: u64,
}

fn row(r: &Row<'_>) -> rusqlite::Result<Whole> {
    Ok(Whole { since: r.get(0)?, list: r.get(1)?, ids: r.get(2)? })
}

/// The one that a cohort has now.
pub(super) fn now(db: &Connection, cohort: i64) -> Inner<Option<Whole>> {
    let mut stmt =
        db.prepare_cached("SELECT since, list, ids FROM list_whole WHERE cohort = ?1 AND until IS NULL")?;
    Ok(stmt.query_row([cohort], row).optional()?)
}

/// The one that a cohort had at a revision.
pub(super) fn at(db: &Connection, rev: u64, cohort: &str) -> Inner<Option<Whole>> {
    let mut stmt = db.prepare_cached(
        "SELECT since, list, ids FROM list_whole WHERE cohort = (SELECT id FROM cohort WHERE name = ?2)
         AND since <= ?1 AND (until IS NULL OR until > ?1)",
    )?;
    Ok(stmt.query_row((rev, cohort), row).optional()?)
}

/// Ids in byte order, each once; the cohort has no whole list now.
pub(super) fn put<'i>(
    db: &Connection,
    rev: u64,
    cohort: i64,
    count: usize,
    ids: impl Iterator<Item = &'i str>,
) -> Inner<()> {
    let list: i64 = db.query_row("SELECT coalesce(max(list), 0) + 1 FROM list_block", [], |r| r.get(0))?;
    let mut insert = db.prepare_cached("INSERT INTO list_block (list, first, ids) VALUES (?1, ?2, ?3)")?;
    let mut block = String::with_capacity(BLOCK * 2);
    for id in ids {
        if block.len() + id.len() > BLOCK && !block.is_empty() {
            let _ = insert.execute((list, first(&block), &block))?;
            block.clear();
        }
        if !block.is_empty() {
            block.push(BREAK);
        }
        block.push_str(id);
    }
    let _ = insert.execute((list, first(&block), &block))?;
    let _ = db.execute(
        "INSERT INTO list_whole (cohort, since, until, list, ids) VALUES (?1, ?2, NULL, ?3, ?4)",
        (cohort, rev, list, count),
    )?;
    Ok(())
}

fn first(block: &str) -> &str {
    block.split(BREAK).next().unwrap_or_default()
}

/// From `rev` on the cohort has none.
pub(super) fn end(db: &Connection, rev: u64, cohort: i64) -> Inner<()> {
    match now(db, cohort)? {
        // A list of this very revision was never in effect outside of it.
        Some(w) if w.since == rev => {
            let _ = db.execute("DELETE FROM list_whole WHERE cohort = ?1 AND since = ?2", (cohort, rev))?;
            sweep(db)
        }
        Some(_) => {
            let _ = db.execute(
                "UPDATE list_whole SET until = ?2 WHERE cohort = ?1 AND until IS NULL",
                (cohort, rev),
            )?;
            Ok(())
        }
        None => Ok(()),
    }
}

/// Every cohort has the list it had at `target`, as of `rev`.
pub(super) fn restore(db: &Connection, rev: u64, target: u64) -> Inner<()> {
    let _ =
        db.execute("UPDATE list_whole SET until = ?1 WHERE until IS NULL AND since > ?2", (rev, target))?;
    let _ = db.execute(
        "INSERT INTO list_whole (cohort, since, until, list, ids)
         SELECT cohort, ?1, NULL, list, ids FROM list_whole WHERE since <= ?2 AND until > ?2",
        (rev, target),
    )?;
    Ok(())
}

/// Takes back every change of `rev`, which must be the newest that changed lists.
pub(super) fn undo(db: &Connection, rev: u64) -> Inner<()> {
    if db.execute("DELETE FROM list_whole WHERE since = ?1", [rev])? > 0 {
        sweep(db)?;
    }
    let _ = db.execute("UPDATE list_whole SET until = NULL WHERE until = ?1", [rev])?;
    Ok(())
}

/// Blocks that no list is made of.
fn sweep(db: &Connection) -> Inner<()> {
    let _ = db.execute("DELETE FROM list_block WHERE list NOT IN (SELECT list FROM list_whole)", [])?;
    Ok(())
}

/// A way through a list, in byte order.
pub(super) struct Walk<'c> {
    next: CachedStatement<'c>,
    list: Option<i64>,
    block: String,
    at: usize,
    end: usize,
}

impl<'c> Walk<'c> {
    /// `None`: an empty one.
    pub(super) fn new(db: &'c Connection, whole: Option<Whole>) -> Inner<Self> {
        let next = db.prepare_cached(
            "SELECT ids FROM list_block WHERE list = ?1 AND first > ?2 ORDER BY first LIMIT 1",
        )?;
        let mut walk = Self { next, list: whole.map(|w| w.list), block: String::new(), at: 0, end: 0 };
        walk.load()?;
        Ok(walk)
    }

    /// The id it stands at; `None` behind the last.
    pub(super) fn id(&self) -> Option<&str> {
        self.list.and(self.block.get(self.at..self.end))
    }

    pub(super) fn step(&mut self) -> Inner<()> {
        if self.end < self.block.len() {
            self.at = self.end + BREAK.len_utf8();
            self.find_end();
            return Ok(());
        }
        self.load()
    }

    fn load(&mut self) -> Inner<()> {
        let Some(list) = self.list else { return Ok(()) };
        let found = self.next.query_row((list, first(&self.block)), |r| r.get(0)).optional()?;
        (self.list, self.at) = (found.is_some().then_some(list), 0);
        self.block = found.unwrap_or_default();
        self.find_end();
        Ok(())
    }

    fn find_end(&mut self) {
        let rest = self.block.get(self.at..).unwrap_or_default();
        self.end = self.at + rest.find(BREAK).unwrap_or(rest.len());
    }
}

/// Asks whether ids are in a list; cheapest in byte order.
pub(super) struct Finder<'c> {
    find: CachedStatement<'c>,
    list: Option<i64>,
    block: String,
}

impl<'c> Finder<'c> {
    /// `None`: an empty list.
    pub(super) fn new(db: &'c Connection, whole: Option<Whole>) -> Inner<Self> {
        let find = db.prepare_cached(
            "SELECT ids FROM list_block WHERE list = ?1 AND first <= ?2 ORDER BY first DESC LIMIT 1",
        )?;
        Ok(Self { find, list: whole.map(|w| w.list), block: String::new() })
    }

    pub(super) fn has(&mut self, id: &str) -> Inner<bool> {
        let Some(list) = self.list else { return Ok(false) };
        let last = self.block.rsplit(BREAK).next().unwrap_or_default();
        if self.block.is_empty() || id < first(&self.block) || id > last {
            let found = self.find.query_row((list, id), |r| r.get(0)).optional()?;
            self.block = found.unwrap_or_default();
        }
        Ok(self.block.split(BREAK).any(|i| i == id))
    }
}
