//! Live list edits with their history. A row is true over an interval of revisions, so any revision's overlay can be
//! read, restoring one costs only the difference, and undoing a revision that did not take effect leaves no trace.

use std::{borrow::Cow, ops::ControlFlow};

use rusqlite::{CachedStatement, Connection, OptionalExtension};
use sha2::{Digest, Sha256};

use super::{
    Error, Fail, Inner, Mark, OverlayInfo,
    audit::Hash,
    whole::{self, BREAK, Finder, Walk, Whole},
};
use crate::{
    ids::Ids,
    store::{ListEdit, Op},
};

const REMOVED: u8 = 0;
const ADDED: u8 = 1;
/// The row of the empty id: the document's own ids do not count.
const MASK: u8 = 2;
const MASK_ID: &str = "";

/// Applies one edit as of `rev`; returns how many different ids it names and their digest.
pub(super) fn edit(db: &Connection, rev: u64, edit: &ListEdit) -> Inner<(u64, Hash)> {
    let ids = sorted(edit)?;
    let cohort = cohort(db, &edit.cohort)?;
    let whole = whole::now(db, cohort)?;
    let mut rows = Rows::new(db, cohort, rev, whole)?;
    let masked = rows.get(MASK_ID)?.is_some();
    match edit.op {
        Op::Add => ids.iter().try_for_each(|id| rows.add(id))?,
        // With the document's ids out of play a removal is the end of an addition.
        Op::Remove if masked => ids.iter().try_for_each(|id| rows.remove(id))?,
        Op::Remove => ids.iter().try_for_each(|id| rows.put(id, REMOVED))?,
        Op::Replace if whole.is_some() || ids.len() >= whole::LARGE => replace(&mut rows, whole, &ids)?,
        Op::Replace | Op::Reset => {
            whole::end(db, rev, cohort)?;
            let (ends, adds) = difference(db, cohort, &ids)?;
            ends.iter().try_for_each(|id| rows.end(id))?;
            adds.iter().try_for_each(|id| rows.put(id, ADDED))?;
            if edit.op == Op::Replace { rows.put(MASK_ID, MASK)? } else { rows.end(MASK_ID)? }
        }
    }
    Ok((ids.len() as u64, digest(&ids)))
}

/// Makes `ids` a cohort's whole list: by what differs if that is little, else as a list of its own.
fn replace(rows: &mut Rows<'_>, whole: Option<Whole>, ids: &Ids) -> Inner<()> {
    let (db, cohort, rev) = (rows.db, rows.cohort, rows.rev);
    if whole.is_some()
        && let Some((ends, adds)) = few(db, cohort, rev, whole, ids)?
    {
        ends.iter().try_for_each(|id| rows.remove(id))?;
        return adds.iter().try_for_each(|id| rows.add(id));
    }
    whole::end(db, rev, cohort)?;
    rows.end_all()?;
    if ids.len() >= whole::LARGE {
        whole::put(db, rev, cohort, ids.len(), ids.iter())?;
    } else {
        ids.iter().try_for_each(|id| rows.put(id, ADDED))?;
    }
    rows.put(MASK_ID, MASK)
}

/// What turns the list in effect into `want`: ids that go, and ids that come; `None` when that is many.
fn few<'i>(
    db: &Connection,
    cohort: i64,
    rev: u64,
    whole: Option<Whole>,
    want: &'i Ids,
) -> Inner<Option<(Vec<String>, Vec<&'i str>)>> {
    let most = want.len() / 8;
    let name: String = db.query_row("SELECT name FROM cohort WHERE id = ?1", [cohort], |r| r.get(0))?;
    let (mut want, mut ends, mut adds) = (want.iter().peekable(), Vec::new(), Vec::new());
    let step = &mut |_, member: &str| {
        while let Some(id) = want.next_if(|id| *id < member) {
            adds.push(id);
        }
        if want.next_if(|id| *id == member).is_none() {
            ends.push(member.to_owned());
        }
        if ends.len() + adds.len() > most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    over(db, rev, &name, whole, step)?;
    adds.extend(want.take(most + 1));
    Ok((ends.len() + adds.len() <= most).then_some((ends, adds)))
}

fn sorted(edit: &ListEdit) -> Inner<Cow<'_, Ids>> {
    let ids = match edit.ids.is_sorted() {
        true => Cow::Borrowed(&edit.ids),
        false => Cow::Owned(edit.ids.clone().sorted()),
    };
    if ids.get(0) == Some(MASK_ID) {
        return Err(Error::invalid(format!("cohort `{}`: an id is empty", edit.cohort)).into());
    }
    if ids.text().contains(BREAK) {
        return Err(Error::invalid(format!("cohort `{}`: an id has a line break", edit.cohort)).into());
    }
    if edit.cohort.is_empty() || (edit.op == Op::Reset && !ids.is_empty()) {
        return Err(Error::invalid("a list edit needs a cohort, and a reset takes no ids").into());
    }
    Ok(ids)
}

fn digest(ids: &Ids) -> Hash {
    let mut h = Sha256::new();
    for id in ids.iter() {
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
fn difference<'i>(db: &Connection, cohort: i64, want: &'i Ids) -> Inner<(Vec<String>, Vec<&'i str>)> {
    let mut stmt = db.prepare_cached(
        "SELECT member, kind FROM list_now WHERE cohort = ?1 AND member > '' ORDER BY member",
    )?;
    let mut rows = stmt.query([cohort])?;
    let (mut want, mut ends, mut adds) = (want.iter().peekable(), Vec::new(), Vec::new());
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
    db: &'c Connection,
    cohort: i64,
    rev: u64,
    /// The whole list that they lie over.
    under: Finder<'c>,
    insert: CachedStatement<'c>,
    get: CachedStatement<'c>,
    update: CachedStatement<'c>,
    delete: CachedStatement<'c>,
    keep: CachedStatement<'c>,
}

impl<'c> Rows<'c> {
    fn new(db: &'c Connection, cohort: i64, rev: u64, whole: Option<Whole>) -> Inner<Self> {
        Ok(Self {
            db,
            cohort,
            rev,
            under: Finder::new(db, whole)?,
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

    /// Over a whole list: an id of it has a row only while it is removed.
    fn add(&mut self, id: &str) -> Inner<()> {
        if self.under.has(id)? { self.end(id) } else { self.put(id, ADDED) }
    }

    /// The document's ids are out of play.
    fn remove(&mut self, id: &str) -> Inner<()> {
        if self.under.has(id)? { self.put(id, REMOVED) } else { self.end(id) }
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

    /// The same for every id.
    fn end_all(&mut self) -> Inner<()> {
        let _ = self.db.execute(
            "INSERT INTO list_past (cohort, member, since, kind, until)
             SELECT cohort, member, since, kind, ?2 FROM list_now WHERE cohort = ?1 AND member > '' AND since < ?2",
            (self.cohort, self.rev),
        )?;
        let _ = self.db.execute("DELETE FROM list_now WHERE cohort = ?1 AND member > ''", [self.cohort])?;
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
    whole::restore(db, rev, target)
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
    whole::undo(db, rev)
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
    let (masks, added, removed): (u64, u64, u64) =
        stmt.query_row((rev, cohort), |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))?;
    let replaces_document = masks > 0;
    Ok(match whole::at(db, rev, cohort)? {
        // What is removed is removed from the whole list.
        Some(w) => {
            OverlayInfo { replaces_document, added: (w.ids + added).saturating_sub(removed), removed: 0 }
        }
        None => OverlayInfo { replaces_document, added, removed },
    })
}

pub(super) fn visit(
    db: &Connection,
    rev: u64,
    cohort: &str,
    visit: &mut dyn FnMut(Mark, &str) -> ControlFlow<()>,
) -> Inner<()> {
    super::read::exists(db, rev)?;
    over(db, rev, cohort, whole::at(db, rev, cohort)?, visit)
}

/// A whole list with the rows over it, in byte order.
fn over(
    db: &Connection,
    rev: u64,
    cohort: &str,
    whole: Option<Whole>,
    visit: &mut dyn FnMut(Mark, &str) -> ControlFlow<()>,
) -> Inner<()> {
    // Both halves come in index order, so SQLite merges them and sorts nothing.
    let mut stmt = db.prepare_cached(
        "SELECT member, kind FROM list_now
          WHERE cohort = (SELECT id FROM cohort WHERE name = ?2) AND member > '' AND since <= ?1
         UNION ALL
         SELECT member, kind FROM list_past
          WHERE cohort = (SELECT id FROM cohort WHERE name = ?2) AND member > '' AND since <= ?1 AND until > ?1
         ORDER BY 1",
    )?;
    let mut under = Walk::new(db, whole)?;
    let mut rows = stmt.query((rev, cohort))?;
    loop {
        let row = rows.next()?;
        let member = match row {
            Some(row) => Some(row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?),
            None => None,
        };
        while let Some(id) = under.id().filter(|id| member.is_none_or(|m| *id < m)) {
            if visit(Mark::Added, id).is_break() {
                return Ok(());
            }
            under.step()?;
        }
        let (Some(row), Some(member)) = (row, member) else { return Ok(()) };
        if under.id() == Some(member) {
            under.step()?;
        }
        let mark = match row.get(1)? {
            REMOVED if whole.is_some() => continue,
            REMOVED => Mark::Removed,
            ADDED => Mark::Added,
            other => return Err(Fail::Damaged(format!("list row of kind {other}"))),
        };
        if visit(mark, member).is_break() {
            return Ok(());
        }
    }
}
