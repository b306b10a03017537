//! Live list edits with their history. A row is true over an interval of revisions, so any revision's overlay can be
//! read, restoring one costs only the difference, and undoing a revision that did not take effect leaves no trace.

use std::ops::ControlFlow;

use rusqlite::{CachedStatement, Connection, OptionalExtension};
use sha2::{Digest, Sha256};

use super::{Error, Fail, Inner, Mark, OverlayInfo, audit::Hash};
use crate::store::{ListEdit, Op};

const REMOVED: u8 = 0;
const ADDED: u8 = 1;
/// The row of the empty id: the document's own ids do not count.
const MASK: u8 = 2;
const MASK_ID: &str = "";

/// Applies one edit as of `rev`; returns how many different ids it names and their digest.
pub(super) fn edit(db: &Connection, rev: u64, edit: &ListEdit) -> Inner<(u64, Hash)> {
    let ids = sorted(edit)?;
    let cohort = cohort(db, &edit.cohort)?;
    let mut rows = Rows::new(db, cohort, rev)?;
    let masked = rows.get(MASK_ID)?.is_some();
    match edit.op {
        Op::Add => ids.iter().try_for_each(|id| rows.put(id, ADDED))?,
        // With the document's ids out of play a removal is the end of an addition.
        Op::Remove if masked => ids.iter().try_for_each(|id| rows.end(id))?,
        Op::Remove => ids.iter().try_for_each(|id| rows.put(id, REMOVED))?,
        Op::Replace | Op::Reset => {
            let (ends, adds) = difference(db, cohort, &ids)?;
            ends.iter().try_for_each(|id| rows.end(id))?;
            adds.iter().try_for_each(|id| rows.put(id, ADDED))?;
            if edit.op == Op::Replace { rows.put(MASK_ID, MASK)? } else { rows.end(MASK_ID)? }
        }
    }
    Ok((ids.len() as u64, digest(&ids)))
}

fn sorted(edit: &ListEdit) -> Inner<Vec<&str>> {
    let mut ids: Vec<&str> = edit.ids.iter().map(String::as_str).collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.first() == Some(&MASK_ID) {
        return Err(Error::invalid(format!("cohort `{}`: an id is empty", edit.cohort)).into());
    }
    if edit.cohort.is_empty() || (edit.op == Op::Reset && !ids.is_empty()) {
        return Err(Error::invalid("a list edit needs a cohort, and a reset takes no ids").into());
    }
    Ok(ids)
}

fn digest(ids: &[&str]) -> Hash {
    let mut h = Sha256::new();
    for id in ids {
        h.update((id.len() as u64).to_le_bytes());
        h.update(id);
    }
    h.finalize().into()
}

fn cohort(db: &Connection, name: &str) -> Inner<i64> {
    let _ = db.execute("INSERT OR IGNORE INTO cohort (name) VALUES (?1)", [name])?;
    Ok(db.query_row("SELECT id FROM cohort WHERE name = ?1", [name], |r| r.get(0))?)
}

/// What turns a cohort's marks into exactly `want` (sorted) added: ids whose mark ends, and ids to add.
/// One merge over both, so loading a million ids again costs no look-up per id.
fn difference<'i>(db: &Connection, cohort: i64, want: &[&'i str]) -> Inner<(Vec<String>, Vec<&'i str>)> {
    let mut stmt = db.prepare_cached(
        "SELECT member, kind FROM list_now WHERE cohort = ?1 AND member > '' ORDER BY member",
    )?;
    let mut rows = stmt.query([cohort])?;
    let (mut want, mut ends, mut adds) = (want.iter().copied().peekable(), Vec::new(), Vec::new());
    while let Some(row) = rows.next()? {
        let member = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
        while let Some(id) = want.next_if(|id| *id < member) {
            adds.push(id);
        }
        match want.next_if(|id| *id == member) {
            None => ends.push(member.to_owned()),
            Some(id) if row.get::<_, u8>(1)? != ADDED => adds.push(id),
            Some(_) => {}
        }
    }
    adds.extend(want);
    Ok((ends, adds))
}

/// Prepared changes of one cohort's current rows.
struct Rows<'c> {
    cohort: i64,
    rev: u64,
    insert: CachedStatement<'c>,
    get: CachedStatement<'c>,
    update: CachedStatement<'c>,
    delete: CachedStatement<'c>,
    keep: CachedStatement<'c>,
}

impl<'c> Rows<'c> {
    fn new(db: &'c Connection, cohort: i64, rev: u64) -> Inner<Self> {
        Ok(Self {
            cohort,
            rev,
            insert: db.prepare_cached(
                "INSERT OR IGNORE INTO list_now (cohort, member, kind, since) VALUES (?1, ?2, ?3, ?4)",
            )?,
            get: db.prepare_cached("SELECT kind, since FROM list_now WHERE cohort = ?1 AND member = ?2")?,
            update: db.prepare_cached(
                "UPDATE list_now SET kind = ?3, since = ?4 WHERE cohort = ?1 AND member = ?2",
            )?,
            delete: db.prepare_cached("DELETE FROM list_now WHERE cohort = ?1 AND member = ?2")?,
            keep: db.prepare_cached(
                "INSERT INTO list_past (cohort, member, since, kind, until) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?,
        })
    }

    fn get(&mut self, id: &str) -> Inner<Option<(u8, u64)>> {
        Ok(self.get.query_row((self.cohort, id), |r| Ok((r.get(0)?, r.get(1)?))).optional()?)
    }

    fn put(&mut self, id: &str, kind: u8) -> Inner<()> {
        if self.insert.execute((self.cohort, id, kind, self.rev))? == 1 {
            return Ok(());
        }
        match self.get(id)? {
            Some((was, since)) if was != kind => {
                self.keep(id, was, since)?;
                let _ = self.update.execute((self.cohort, id, kind, self.rev))?;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn end(&mut self, id: &str) -> Inner<()> {
        let Some((was, since)) = self.get(id)? else { return Ok(()) };
        self.keep(id, was, since)?;
        let _ = self.delete.execute((self.cohort, id))?;
        Ok(())
    }

    /// A row of this very revision was never true outside of it: it leaves no history.
    fn keep(&mut self, id: &str, kind: u8, since: u64) -> Inner<()> {
        if since < self.rev {
            let _ = self.keep.execute((self.cohort, id, since, kind, self.rev))?;
        }
        Ok(())
    }
}

/// Makes every overlay what it was at `target`, as of `rev`.
pub(super) fn restore(db: &Connection, rev: u64, target: u64) -> Inner<()> {
    let _ = db.execute(
        "INSERT INTO list_past (cohort, member, since, kind, until)
         SELECT cohort, member, since, kind, ?1 FROM list_now WHERE since > ?2",
        (rev, target),
    )?;
    let _ = db.execute("DELETE FROM list_now WHERE since > ?1", [target])?;
    // No clash: a row that was true at `target` and is past now was followed by younger ones only, just deleted.
    let _ = db.execute(
        "INSERT INTO list_now (cohort, member, kind, since)
         SELECT cohort, member, kind, ?1 FROM list_past WHERE since <= ?2 AND until > ?2",
        (rev, target),
    )?;
    Ok(())
}

/// Takes back every change of `rev`, which must be the newest that changed lists.
pub(super) fn undo(db: &Connection, rev: u64) -> Inner<()> {
    let _ = db.execute("DELETE FROM list_now WHERE since = ?1", [rev])?;
    let _ = db.execute(
        "INSERT INTO list_now (cohort, member, kind, since)
         SELECT cohort, member, kind, since FROM list_past WHERE until = ?1",
        [rev],
    )?;
    let _ = db.execute("DELETE FROM list_past WHERE until = ?1", [rev])?;
    Ok(())
}

pub(super) fn overlays(db: &Connection, rev: u64) -> Inner<Vec<(String, OverlayInfo)>> {
    let mut stmt = db.prepare_cached("SELECT name FROM cohort ORDER BY name")?;
    let names: Vec<String> = stmt.query_map([], |r| r.get(0))?.collect::<Result<_, _>>()?;
    let mut found = Vec::new();
    for name in names {
        let info = info(db, rev, &name)?;
        if info != OverlayInfo::default() {
            found.push((name, info));
        }
    }
    Ok(found)
}

pub(super) fn info(db: &Connection, rev: u64, cohort: &str) -> Inner<OverlayInfo> {
    super::read::exists(db, rev)?;
    let mut stmt = db.prepare_cached(
        "SELECT coalesce(sum(kind = 2), 0), coalesce(sum(kind = 1), 0), coalesce(sum(kind = 0), 0) FROM (
           SELECT kind FROM list_now WHERE cohort = (SELECT id FROM cohort WHERE name = ?2) AND since <= ?1
           UNION ALL
           SELECT kind FROM list_past WHERE cohort = (SELECT id FROM cohort WHERE name = ?2) AND since <= ?1 AND until > ?1
         )",
    )?;
    Ok(stmt.query_row((rev, cohort), |r| {
        Ok(OverlayInfo { replaces_document: r.get::<_, u64>(0)? > 0, added: r.get(1)?, removed: r.get(2)? })
    })?)
}

pub(super) fn visit(
    db: &Connection,
    rev: u64,
    cohort: &str,
    visit: &mut dyn FnMut(Mark, &str) -> ControlFlow<()>,
) -> Inner<()> {
    super::read::exists(db, rev)?;
    // Both halves come in index order, so SQLite merges them and sorts nothing.
    let mut stmt = db.prepare_cached(
        "SELECT member, kind FROM list_now
          WHERE cohort = (SELECT id FROM cohort WHERE name = ?2) AND member > '' AND since <= ?1
         UNION ALL
         SELECT member, kind FROM list_past
          WHERE cohort = (SELECT id FROM cohort WHERE name = ?2) AND member > '' AND since <= ?1 AND until > ?1
         ORDER BY 1",
    )?;
    let mut rows = stmt.query((rev, cohort))?;
    while let Some(row) = rows.next()? {
        let mark = match row.get(1)? {
            REMOVED => Mark::Removed,
            ADDED => Mark::Added,
            other => return Err(Fail::Damaged(format!("list row of kind {other}"))),
        };
        if visit(mark, row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?).is_break() {
            break;
        }
    }
    Ok(())
}
